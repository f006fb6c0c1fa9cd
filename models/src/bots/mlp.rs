//! A small network and its trainer: dense layers, ReLU, one sigmoid; Adam, early stopping. A few nets are trained and their
//! mean is one net as wide as all of them. Deterministic for a seed.

use rand::{Rng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use super::part::{Part, log_loss};
use crate::{features::N, onnx_write::Dense};

/// Nets whose mean is taken: each of them errs in its own way where it has seen little.
pub(super) const NETS: usize = 6;
/// Width of one net's hidden layer. A second layer left the held-out loss as it was and costs more time.
const HIDDEN: usize = 32;
/// Width of the whole.
pub(super) const WIDTH: usize = NETS * HIDDEN;
const BATCH: usize = 256;
const EPOCHS_MAX: usize = 60;
/// Epochs without a better held-out loss before it stops.
const PATIENCE: usize = 10;
const RATE: f32 = 2e-3;
/// Share of each weight that goes with every step.
const DECAY: f32 = 1e-4;
/// Chance of each feature of each row to be shown as unknown in training: nothing may hang on a few habits of one site. A net
/// of one log, captures and made-up sales tells visits of another log apart with an AUC of .845 so, of .807 without.
const UNKNOWN_CHANCE: f64 = 0.3;
/// A feature that hardly varies in training must not get a huge weight.
const DEVIATION_MIN: f32 = 0.1;

/// A network; the sigmoid is applied to the one output of the last layer.
#[derive(Clone, Debug)]
pub(super) struct Mlp {
    pub(super) layers: Vec<Dense>,
}

/// How training went.
pub(super) struct Fit {
    pub(super) mlp: Mlp,
    pub(super) epochs: usize,
    pub(super) loss_held_out: f64,
}

impl Mlp {
    /// Log-odds of one row.
    pub(super) fn logit(&self, row: &[f32]) -> f32 {
        let mut x = row.to_vec();
        for (i, layer) in self.layers.iter().enumerate() {
            x = forward(layer, &x);
            if i + 1 < self.layers.len() {
                x.iter_mut().for_each(|v| *v = v.max(0.0));
            }
        }
        x[0]
    }

    /// Replaces the log-odds `z` by `scale * z + shift`.
    pub(super) fn calibrate(&mut self, scale: f32, shift: f32) {
        if let Some(last) = self.layers.last_mut() {
            last.weights.iter_mut().for_each(|w| *w *= scale);
            last.bias.iter_mut().for_each(|b| *b = *b * scale + shift);
        }
    }

    /// Folds `(x - mean) / deviation` into the first layer, so that it takes raw features.
    fn fold(&mut self, mean: &[f32], deviation: &[f32]) {
        let first = &mut self.layers[0];
        for (i, (m, s)) in mean.iter().zip(deviation).enumerate() {
            let row = &mut first.weights[i * first.outputs..(i + 1) * first.outputs];
            for (w, b) in row.iter_mut().zip(&mut first.bias) {
                *w /= s;
                *b -= *w * m;
            }
        }
    }
}

/// Trains on `train`, stops by `held_out`. `tell` hears the share of the longest training that is done.
pub(super) fn train(train: &Part<'_>, held_out: &Part<'_>, rng: &mut ChaCha8Rng, tell: &mut dyn FnMut(f64)) -> Fit {
    let nets = NETS as f64;
    let fits: Vec<Fit> = (0..NETS).map(|i| one(train, held_out, rng, &mut |share| tell((i as f64 + share) / nets))).collect();
    let epochs = fits.iter().map(|f| f.epochs).max().unwrap_or(0);
    let mlp = mean(&fits.into_iter().map(|f| f.mlp).collect::<Vec<_>>());
    Fit { epochs, loss_held_out: log_loss(held_out, |row| mlp.logit(row)), mlp }
}

/// One net whose log-odds are the mean of those of all: hidden layers side by side.
fn mean(nets: &[Mlp]) -> Mlp {
    let mut hidden = Dense { inputs: N, outputs: WIDTH, weights: vec![], bias: vec![] };
    let mut last = Dense { inputs: WIDTH, outputs: 1, weights: vec![], bias: vec![0.0] };
    for input in 0..N {
        nets.iter().for_each(|n| hidden.weights.extend(&n.layers[0].weights[input * HIDDEN..(input + 1) * HIDDEN]));
    }
    let share = 1.0 / nets.len() as f32;
    for net in nets {
        hidden.bias.extend(&net.layers[0].bias);
        last.weights.extend(net.layers[1].weights.iter().map(|w| w * share));
        last.bias[0] += net.layers[1].bias[0] * share;
    }
    Mlp { layers: vec![hidden, last] }
}

fn one(train: &Part<'_>, held_out: &Part<'_>, rng: &mut ChaCha8Rng, tell: &mut dyn FnMut(f64)) -> Fit {
    let (mean, deviation) = moments(train);
    let standard = |row: &&[f32; N]| std::array::from_fn::<f32, N, _>(|i| (row[i] - mean[i]) / deviation[i]);
    let rows: Vec<[f32; N]> = train.rows.iter().map(standard).collect();
    let check: Vec<[f32; N]> = held_out.rows.iter().map(standard).collect();
    let check = Part { rows: check.iter().collect(), bots: held_out.bots.clone(), weights: held_out.weights.clone() };
    // What "unknown", a plain 0, is to the net.
    let unknown = standard(&&[0.0; N]);
    let mut mlp = fresh(rng);
    let mut adam = Adam::new(&mlp);
    let mut order: Vec<usize> = (0..train.len()).collect();
    let mut best = Fit { mlp: mlp.clone(), epochs: 0, loss_held_out: f64::INFINITY };
    for epoch in 1..=EPOCHS_MAX {
        order.shuffle(rng);
        // Halved rate every twelve epochs: the last ones only polish.
        adam.rate = RATE * 0.5f32.powi((epoch / 12) as i32);
        for batch in order.chunks(BATCH) {
            let mut gradient = adam.zeros();
            for &i in batch {
                let shown =
                    std::array::from_fn::<f32, N, _>(|f| if rng.random_bool(UNKNOWN_CHANCE) { unknown[f] } else { rows[i][f] });
                backward(&mlp, &shown, train.bots[i], train.weights[i], &mut gradient);
            }
            adam.step(&mut mlp, &gradient, batch.len() as f32);
        }
        let loss = log_loss(&check, |row| mlp.logit(row));
        tell(epoch as f64 / EPOCHS_MAX as f64);
        if loss < best.loss_held_out {
            best = Fit { mlp: mlp.clone(), epochs: epoch, loss_held_out: loss };
        } else if epoch >= best.epochs + PATIENCE {
            break;
        }
    }
    best.mlp.fold(&mean, &deviation);
    best
}

/// Mean and deviation of each feature, deviations not below [`DEVIATION_MIN`].
pub(super) fn moments(part: &Part<'_>) -> ([f32; N], [f32; N]) {
    let n = part.len().max(1) as f64;
    let column = |i: usize, f: &dyn Fn(f64) -> f64| part.rows.iter().map(|r| f(f64::from(r[i]))).sum::<f64>() / n;
    let mean: [f64; N] = std::array::from_fn(|i| column(i, &|v| v));
    let deviation = std::array::from_fn(|i| (column(i, &|v| (v - mean[i]).powi(2)).sqrt() as f32).max(DEVIATION_MIN));
    (mean.map(|m| m as f32), deviation)
}

fn fresh(rng: &mut ChaCha8Rng) -> Mlp {
    let widths = [N, HIDDEN, 1];
    let layers = widths.windows(2).map(|w| {
        let (inputs, outputs) = (w[0], w[1]);
        // He's bound for ReLU: variance 2 / inputs.
        let bound = (6.0 / inputs as f32).sqrt();
        let weights = (0..inputs * outputs).map(|_| rng.random_range(-bound..bound)).collect();
        Dense { inputs, outputs, weights, bias: vec![0.0; outputs] }
    });
    Mlp { layers: layers.collect() }
}

fn forward(layer: &Dense, x: &[f32]) -> Vec<f32> {
    let mut out = layer.bias.clone();
    for (v, row) in x.iter().zip(layer.weights.chunks_exact(layer.outputs)) {
        out.iter_mut().zip(row).for_each(|(o, w)| *o += v * w);
    }
    out
}

/// Adds one row's gradient of the weighted log loss.
fn backward(mlp: &Mlp, row: &[f32], bot: bool, weight: f32, gradient: &mut [Dense]) {
    let mut inputs: Vec<Vec<f32>> = vec![row.to_vec()];
    for (i, layer) in mlp.layers.iter().enumerate() {
        let mut x = forward(layer, &inputs[i]);
        if i + 1 < mlp.layers.len() {
            x.iter_mut().for_each(|v| *v = v.max(0.0));
        }
        inputs.push(x);
    }
    let p = sigmoid(inputs[mlp.layers.len()][0]);
    let mut delta = vec![weight * (p - f32::from(u8::from(bot)))];
    for (i, layer) in mlp.layers.iter().enumerate().rev() {
        let (x, g) = (&inputs[i], &mut gradient[i]);
        g.bias.iter_mut().zip(&delta).for_each(|(b, d)| *b += d);
        let mut back = vec![0.0; layer.inputs];
        for (k, v) in x.iter().enumerate() {
            let at = k * layer.outputs..(k + 1) * layer.outputs;
            g.weights[at.clone()].iter_mut().zip(&delta).for_each(|(w, d)| *w += v * d);
            // ReLU lets through only where it was open.
            if i > 0 && *v > 0.0 {
                back[k] = layer.weights[at].iter().zip(&delta).map(|(w, d)| w * d).sum();
            }
        }
        delta = back;
    }
}

pub(super) fn sigmoid(z: f32) -> f32 {
    1.0 / (1.0 + (-z).exp())
}

struct Adam {
    rate: f32,
    step: i32,
    first: Vec<Dense>,
    second: Vec<Dense>,
}

impl Adam {
    fn new(mlp: &Mlp) -> Self {
        let zeros = zeros_like(&mlp.layers);
        Adam { rate: RATE, step: 0, first: zeros.clone(), second: zeros }
    }

    fn zeros(&self) -> Vec<Dense> {
        zeros_like(&self.first)
    }

    fn step(&mut self, mlp: &mut Mlp, gradient: &[Dense], n: f32) {
        self.step += 1;
        let (c1, c2) = (1.0 - 0.9f32.powi(self.step), 1.0 - 0.999f32.powi(self.step));
        let rate = self.rate;
        let update = |w: &mut f32, g: f32, m: &mut f32, v: &mut f32, decay: f32| {
            *m = 0.9 * *m + 0.1 * g;
            *v = 0.999 * *v + 0.001 * g * g;
            *w -= rate * (*m / c1) / ((*v / c2).sqrt() + 1e-8) + decay * *w;
        };
        for (((layer, g), m), v) in mlp.layers.iter_mut().zip(gradient).zip(&mut self.first).zip(&mut self.second) {
            for i in 0..layer.weights.len() {
                update(&mut layer.weights[i], g.weights[i] / n, &mut m.weights[i], &mut v.weights[i], DECAY);
            }
            for i in 0..layer.bias.len() {
                update(&mut layer.bias[i], g.bias[i] / n, &mut m.bias[i], &mut v.bias[i], 0.0);
            }
        }
    }
}

fn zeros_like(layers: &[Dense]) -> Vec<Dense> {
    layers.iter().map(|l| Dense { weights: vec![0.0; l.weights.len()], bias: vec![0.0; l.bias.len()], ..*l }).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn rows(n: usize, rng: &mut ChaCha8Rng) -> Vec<[f32; N]> {
        (0..n).map(|_| std::array::from_fn(|i| if i < 10 { rng.random_range(-3.0..5.0) } else { 0.0 })).collect()
    }

    /// Not linear: inside a band of one feature, unless another is large.
    fn part(rows: &[[f32; N]]) -> Part<'_> {
        let bots = rows.iter().map(|r| (r[3] - 1.0).abs() < 1.5 || r[7] > 4.0).collect();
        Part { rows: rows.iter().collect(), bots, weights: vec![1.0; rows.len()] }
    }

    #[test]
    fn it_learns_what_no_line_can_and_the_same_seed_gives_the_same_net() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (a, b) = (rows(4000, &mut rng), rows(1000, &mut rng));
        let fit = train(&part(&a), &part(&b), &mut ChaCha8Rng::seed_from_u64(2), &mut |_| ());
        let right = part(&b).iter().filter(|(row, bot, _)| (fit.mlp.logit(*row) > 0.0) == *bot).count();
        assert!(right > 800, "{right} of 1000");
        let again = train(&part(&a), &part(&b), &mut ChaCha8Rng::seed_from_u64(2), &mut |_| ());
        assert_eq!(fit.mlp.layers, again.mlp.layers);
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let rows = rows(1, &mut rng);
        let one = part(&rows);
        let mlp = fresh(&mut rng);
        let mut gradient = zeros_like(&mlp.layers);
        backward(&mlp, &rows[0], one.bots[0], 1.0, &mut gradient);
        for (layer, at) in [(0, 5), (0, 700), (1, 7), (1, 30)] {
            let mut moved = [mlp.clone(), mlp.clone()];
            moved[0].layers[layer].weights[at] += 1e-2;
            moved[1].layers[layer].weights[at] -= 1e-2;
            let loss = |m: &Mlp| log_loss(&one, |row| m.logit(row));
            let slope = ((loss(&moved[0]) - loss(&moved[1])) / 2e-2) as f32;
            let g = gradient[layer].weights[at];
            assert!((slope - g).abs() < 2e-2 * (1.0 + g.abs()), "layer {layer}: {slope} against {g}");
        }
    }
}
