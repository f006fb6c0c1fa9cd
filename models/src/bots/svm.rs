//! A support-vector machine with squared hinge loss: linear, or linear on random Fourier features (cosines in random
//! directions, which stand in for a Gaussian kernel), whichever is better on what it has not learnt from.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};

use super::{
    mlp::moments,
    part::{Part, log_loss},
    train::platt,
};
use crate::{
    features::{Features, N},
    onnx_write::{self, Dense},
};

/// Cosines.
const WIDTH: usize = 256;
/// Widths of the kernel that are tried, standard deviations of a feature: the usual distance of two rows is near 10.
const KERNELS: [f32; 3] = [4.0, 8.0, 16.0];
/// Share of the held-out loss that a less simple kind must reach.
const CLEARLY: f64 = 0.98;
/// Weight of the penalty on large coefficients.
const PENALTY: f64 = 1e-4;
/// Most rows that are learnt from, every so many-th: beyond, nothing changes but the time.
const ROWS_MAX: usize = 60_000;
const NEWTON_STEPS: usize = 30;
const CONJUGATE_STEPS: usize = 60;

/// A machine; what it says is log-odds only after calibration.
#[derive(Clone, Debug)]
pub(super) struct Svm {
    cosines: Option<Dense>,
    outer: Dense,
}

impl Svm {
    /// Distance from the border, calibrated or not.
    pub(super) fn logit(&self, row: &Features) -> f32 {
        let inner = self.cosines.as_ref().map(|c| lifted(c, row));
        let x = inner.as_deref().unwrap_or(row);
        self.outer.bias[0] + x.iter().zip(&self.outer.weights).map(|(x, w)| x * w).sum::<f32>()
    }

    /// Replaces the log-odds `z` by `scale * z + shift`.
    pub(super) fn calibrate(&mut self, scale: f32, shift: f32) {
        self.outer.weights.iter_mut().for_each(|w| *w *= scale);
        self.outer.bias[0] = self.outer.bias[0] * scale + shift;
    }

    /// For the card.
    pub(super) fn describe(&self) -> String {
        self.cosines.as_ref().map_or("linear".into(), |c| format!("linear on {} random Fourier features", c.outputs))
    }

    /// As an ONNX file.
    pub(super) fn onnx(&self, metadata: &[(&str, &str)]) -> Vec<u8> {
        match &self.cosines {
            Some(inner) => onnx_write::cosines(inner, &self.outer, metadata),
            None => onnx_write::mlp(std::slice::from_ref(&self.outer), metadata),
        }
    }
}

/// Trains all kinds on `train` and keeps the one that is best on `held_out`; a later, less simple one has to be clearly better.
pub(super) fn train(train: &Part<'_>, held_out: &Part<'_>, rng: &mut ChaCha8Rng, tell: &mut dyn FnMut(f64)) -> (Svm, f64) {
    let every = train.len().div_ceil(ROWS_MAX).max(1);
    let thin = Part {
        rows: train.rows.iter().copied().step_by(every).collect(),
        bots: train.bots.iter().copied().step_by(every).collect(),
        weights: train.weights.iter().copied().step_by(every).collect(),
    };
    let (mean, deviation) = moments(&thin);
    let kinds = [None].into_iter().chain(KERNELS.map(Some));
    let mut best: Option<(Svm, f64)> = None;
    for (i, kernel) in kinds.enumerate() {
        let cosines = kernel.map(|k| directions(k, &mean, &deviation, rng));
        let svm = fit(cosines, &thin, &mean, &deviation);
        let (scale, shift) = platt(held_out, |row| svm.logit(row));
        let loss = log_loss(held_out, |row| scale * svm.logit(row) + shift);
        if best.as_ref().is_none_or(|b| loss < CLEARLY * b.1) {
            best = Some((svm, loss));
        }
        tell((i + 1) as f64 / (1 + KERNELS.len()) as f64);
    }
    best.unwrap_or_else(|| (fit(None, &thin, &mean, &deviation), f64::INFINITY))
}

/// Random directions and phases on standardised features, as a layer that takes raw ones.
fn directions(kernel: f32, mean: &Features, deviation: &Features, rng: &mut ChaCha8Rng) -> Dense {
    let mut weights = vec![0.0f32; N * WIDTH];
    let phase = Uniform::new(0.0, std::f32::consts::TAU).ok();
    let mut bias: Vec<f32> = (0..WIDTH).map(|_| phase.as_ref().map_or(0.0, |p| p.sample(rng))).collect();
    for (i, row) in weights.chunks_exact_mut(WIDTH).enumerate() {
        for (w, b) in row.iter_mut().zip(&mut bias) {
            let direction: f32 = StandardNormal.sample(rng);
            *w = direction / (kernel * deviation[i]);
            *b -= *w * mean[i];
        }
    }
    Dense { inputs: N, outputs: WIDTH, weights, bias }
}

fn lifted(cosines: &Dense, row: &Features) -> Vec<f32> {
    let mut out = cosines.bias.clone();
    for (x, weights) in row.iter().zip(cosines.weights.chunks_exact(cosines.outputs)) {
        out.iter_mut().zip(weights).for_each(|(o, w)| *o += x * w);
    }
    out.iter_mut().for_each(|o| *o = o.cos());
    out
}

/// The minimum of the penalised squared hinge loss; the last coefficient is the bias.
fn fit(cosines: Option<Dense>, part: &Part<'_>, mean: &Features, deviation: &Features) -> Svm {
    let standard = |row: &&Features| -> Vec<f32> { (0..N).map(|i| (row[i] - mean[i]) / deviation[i]).collect() };
    let rows: Vec<Vec<f32>> = match &cosines {
        Some(c) => part.rows.iter().map(|r| lifted(c, r)).collect(),
        None => part.rows.iter().map(standard).collect(),
    };
    let problem = Problem {
        sides: part.bots.iter().map(|b| if *b { 1.0 } else { -1.0 }).collect(),
        weights: part.weights.iter().map(|w| f64::from(*w)).collect(),
        total: part.weights.iter().map(|w| f64::from(*w)).sum::<f64>().max(f64::MIN_POSITIVE),
        rows,
    };
    let w = problem.solve();
    let inputs = w.len() - 1;
    let mut outer =
        Dense { inputs, outputs: 1, weights: w[..inputs].iter().map(|w| *w as f32).collect(), bias: vec![w[inputs] as f32] };
    if cosines.is_none() {
        for (i, w) in outer.weights.iter_mut().enumerate() {
            *w /= deviation[i];
            outer.bias[0] -= *w * mean[i];
        }
    }
    Svm { cosines, outer }
}

struct Problem {
    rows: Vec<Vec<f32>>,
    sides: Vec<f64>,
    weights: Vec<f64>,
    total: f64,
}

impl Problem {
    /// Newton's method; each step by conjugate gradients on the rows inside the margin.
    fn solve(&self) -> Vec<f64> {
        let width = self.rows.first().map_or(0, Vec::len) + 1;
        let mut w = vec![0.0; width];
        let mut loss = self.loss(&w);
        for _ in 0..NEWTON_STEPS {
            let inside: Vec<usize> = (0..self.rows.len()).filter(|i| self.slack(*i, &w) > 0.0).collect();
            let mut gradient = self.penalty(&w);
            for &i in &inside {
                let pull = -2.0 * self.weights[i] * self.sides[i] * self.slack(i, &w) / self.total;
                add(&mut gradient, pull, &self.rows[i]);
            }
            let step = self.newton_step(&inside, &gradient);
            let slope: f64 = dot(&gradient, &step);
            // Halved until the loss falls as it should (Armijo).
            let tried = (0..20).map(|k| 0.5f64.powi(k)).find_map(|t| {
                let next: Vec<f64> = w.iter().zip(&step).map(|(w, s)| w - t * s).collect();
                let fell = self.loss(&next);
                (fell <= loss - 1e-4 * t * slope).then_some((next, fell))
            });
            let Some((next, fell)) = tried else { break };
            let gained = loss - fell;
            (w, loss) = (next, fell);
            if gained < 1e-9 * loss.abs() {
                break;
            }
        }
        w
    }

    /// How far a row is inside the margin.
    fn slack(&self, i: usize, w: &[f64]) -> f64 {
        let (last, row) = (w.len() - 1, &self.rows[i]);
        let f = w[last] + row.iter().zip(w).map(|(x, w)| f64::from(*x) * w).sum::<f64>();
        (1.0 - self.sides[i] * f).max(0.0)
    }

    /// Gradient of the penalty; the bias is free.
    fn penalty(&self, w: &[f64]) -> Vec<f64> {
        let last = w.len() - 1;
        w.iter().enumerate().map(|(i, w)| if i < last { PENALTY * w } else { 0.0 }).collect()
    }

    fn loss(&self, w: &[f64]) -> f64 {
        let hinge: f64 = (0..self.rows.len()).map(|i| self.weights[i] * self.slack(i, w).powi(2)).sum();
        hinge / self.total + 0.5 * dot(&self.penalty(w), w)
    }

    fn newton_step(&self, inside: &[usize], gradient: &[f64]) -> Vec<f64> {
        let curved = |v: &[f64]| {
            let mut out = self.penalty(v);
            for &i in inside {
                let f = v[v.len() - 1] + self.rows[i].iter().zip(v).map(|(x, v)| f64::from(*x) * v).sum::<f64>();
                add(&mut out, 2.0 * self.weights[i] * f / self.total, &self.rows[i]);
            }
            out
        };
        let (mut x, mut r) = (vec![0.0; gradient.len()], gradient.to_vec());
        let mut p = r.clone();
        let (mut rr, enough) = (dot(&r, &r), dot(gradient, gradient) * 1e-8);
        for _ in 0..CONJUGATE_STEPS {
            if rr <= enough {
                break;
            }
            let q = curved(&p);
            let t = rr / dot(&p, &q).max(f64::MIN_POSITIVE);
            x.iter_mut().zip(&p).for_each(|(x, p)| *x += t * p);
            r.iter_mut().zip(&q).for_each(|(r, q)| *r -= t * q);
            let next = dot(&r, &r);
            p.iter_mut().zip(&r).for_each(|(p, r)| *p = r + next / rr * *p);
            rr = next;
        }
        x
    }
}

/// Adds `times` a row, and `times` for the bias.
fn add(to: &mut [f64], times: f64, row: &[f32]) {
    to.iter_mut().zip(row).for_each(|(t, x)| *t += times * f64::from(*x));
    if let Some(bias) = to.last_mut() {
        *bias += times;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng};

    use super::*;

    fn rows(n: usize, seed: u64) -> Vec<Features> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| std::array::from_fn(|i| if i < 6 { rng.random_range(-2.0..2.0) } else { 0.0 })).collect()
    }

    fn part(rows: &[Features], bot: fn(&Features) -> bool) -> Part<'_> {
        Part { rows: rows.iter().collect(), bots: rows.iter().map(bot).collect(), weights: vec![1.0; rows.len()] }
    }

    #[test]
    fn a_line_is_found_where_there_is_one_and_cosines_where_there_is_none() {
        let (a, b) = (rows(3000, 1), rows(1000, 2));
        for (bot, kind) in [
            ((|r| r[0] + 2.0 * r[1] > 0.5) as fn(&Features) -> bool, "linear"),
            (|r| r[0] * r[0] + r[1] * r[1] < 2.0, "linear on 256 random Fourier features"),
        ] {
            let held = part(&b, bot);
            let (svm, _) = train(&part(&a, bot), &held, &mut ChaCha8Rng::seed_from_u64(3), &mut |_| ());
            assert_eq!(svm.describe(), kind);
            let (scale, shift) = platt(&held, |row| svm.logit(row));
            let right = held.iter().filter(|(row, bot, _)| (scale * svm.logit(row) + shift > 0.0) == *bot).count();
            assert!(right > 900, "{kind}: {right} of 1000");
        }
    }

    #[test]
    fn the_minimum_has_no_slope() {
        let a = rows(500, 4);
        let part = part(&a, |r| r[0] - r[2] > 0.3);
        let (mean, deviation) = moments(&part);
        let svm = fit(None, &part, &mean, &deviation);
        let loss = |svm: &Svm| -> f64 {
            let hinge = part.iter().map(|(row, bot, _)| {
                let side = if bot { 1.0 } else { -1.0 };
                (1.0 - side * f64::from(svm.logit(row))).max(0.0).powi(2)
            });
            let size: f64 = svm.outer.weights.iter().zip(&deviation).map(|(w, d)| f64::from(w * d).powi(2)).sum();
            hinge.sum::<f64>() / part.len() as f64 + 0.5 * PENALTY * size
        };
        let least = loss(&svm);
        for i in 0..3 {
            for by in [-0.02, 0.02] {
                let mut moved = svm.clone();
                moved.outer.weights[i] += by;
                assert!(loss(&moved) > least, "coefficient {i} moved by {by}");
            }
        }
    }
}
