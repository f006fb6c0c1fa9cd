//! Upper and lower quantiles around a forecast, from its own errors: adaptive conformal, so that coverage comes true whatever
//! the series does.

use std::collections::VecDeque;

use super::{Q, QUANTILES};

/// Errors a quantile is read from.
const WINDOW: usize = 2_000;
/// Errors before the band is trusted; until then it is as wide as the count itself.
const ENOUGH: usize = 60;
/// An aim above one reaches beyond every error seen, by this many times their range for each unit above.
const BEYOND: f64 = 10.0;
/// Largest aim: three times the range.
const AIM_MAX: f64 = 1.3;
/// How fast the aimed-at share follows misses.
const FOLLOW: f64 = 0.002;

/// The errors of one forecast at one horizon.
#[derive(Clone, Debug)]
pub struct Band {
    /// Oldest first, in units of the error's scale.
    errors: VecDeque<f32>,
    sorted: Vec<f32>,
    /// Share aimed at for each quantile: shifted so that the share reached is the one wanted.
    aims: [f64; Q],
    /// Mean absolute error: fast, and slow relative to the root of the count.
    fast: f64,
    slow: f64,
}

impl Default for Band {
    fn default() -> Self {
        Band { errors: VecDeque::new(), sorted: Vec::new(), aims: QUANTILES, fast: 0.0, slow: 0.0 }
    }
}

impl Band {
    /// What an error is measured in when this much is forecast.
    pub fn scale(&self, forecast: f64) -> f64 {
        (0.5 * self.fast + 0.5 * self.slow * (forecast.max(0.0) + 1.0).sqrt()).max(1e-3)
    }

    /// Quantiles around a forecast of `point`, none below zero, none crossing.
    pub fn around(&self, point: f64, scale: f64) -> [f64; Q] {
        let mut out = [point; Q];
        for (i, q) in QUANTILES.iter().enumerate() {
            let offset = if self.errors.len() < ENOUGH {
                // Nothing is known: half as much to twice as much.
                (q - 0.5) * 2.0 * (point + 1.0)
            } else if *q == 0.5 {
                0.0
            } else {
                scale * self.quantile(self.aims[i])
            };
            out[i] = (point + offset).max(0.0);
        }
        // The middle one is the forecast itself; the others keep their side of it.
        for i in (0..Q).rev().filter(|i| QUANTILES[*i] < 0.5) {
            out[i] = out[i].min(out[i + 1]);
        }
        for i in (1..Q).filter(|i| QUANTILES[*i] > 0.5) {
            out[i] = out[i].max(out[i - 1]);
        }
        out
    }

    /// Learns that `y` came where `point` was forecast, with `scale` and `said` of that moment.
    pub fn learn(&mut self, point: f64, scale: f64, said: &[f64; Q], y: f64) {
        let error = y - point;
        if !(error.is_finite() && scale > 0.0) {
            return;
        }
        for (i, q) in QUANTILES.iter().enumerate().filter(|(_, q)| **q != 0.5) {
            let below = f64::from(u8::from(y <= said[i]));
            let step = FOLLOW * (q - below);
            self.aims[i] = (self.aims[i] + step).clamp(0.0005, AIM_MAX);
        }
        let slow = error.abs() / (point.max(0.0) + 1.0).sqrt();
        if self.errors.is_empty() {
            (self.fast, self.slow) = (error.abs(), slow);
        }
        self.fast += 0.05 * (error.abs() - self.fast);
        self.slow += 0.002f64.max(1.0 / (self.errors.len() as f64 + 1.0)) * (slow - self.slow);
        if self.errors.len() == WINDOW
            && let Some(oldest) = self.errors.pop_front()
        {
            let at = self.sorted.partition_point(|e| *e < oldest);
            self.sorted.remove(at);
        }
        let error = (error / scale).clamp(-1e6, 1e6) as f32;
        self.errors.push_back(error);
        let at = self.sorted.partition_point(|e| *e < error);
        self.sorted.insert(at, error);
    }

    /// Between two neighbours; beyond the last it grows on with the aim, so that an aim above what was ever seen is no dead
    /// end.
    fn quantile(&self, aim: f64) -> f64 {
        let n = self.sorted.len();
        let at = aim * (n + 1) as f64 - 1.0;
        let get = |i: usize| f64::from(self.sorted[i.min(n - 1)]);
        if at <= 0.0 {
            return get(0);
        }
        let (low, part) = (at.floor() as usize, at.fract());
        if low + 1 < n {
            return get(low) + part * (get(low + 1) - get(low));
        }
        get(n - 1) + BEYOND * (aim - n as f64 / (n + 1) as f64) * (get(n - 1) - get(n / 2)).abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uniform in [0, 1).
    fn draw(state: &mut u64) -> f64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 11) as f64 / (1u64 << 53) as f64
    }

    #[test]
    fn coverage_comes_true_though_the_noise_changes() {
        let (mut band, mut state) = (Band::default(), 7);
        let (mut covered, mut n) = ([0.0; Q], 0.0);
        for i in 0..20_000 {
            // Skewed noise whose size grows tenfold halfway.
            let size = if i < 10_000 { 10.0 } else { 100.0 };
            let y = 500.0 - size * draw(&mut state).ln();
            let scale = band.scale(500.0);
            let said = band.around(500.0, scale);
            assert!(said.windows(2).all(|w| w[0] <= w[1]), "{said:?}");
            if i > 1_000 {
                n += 1.0;
                (0..Q).for_each(|k| covered[k] += f64::from(u8::from(y <= said[k])));
            }
            band.learn(500.0, scale, &said, y);
        }
        for (q, within) in [(0.95, 0.01), (0.99, 0.004), (0.9, 0.01)] {
            let k = QUANTILES.iter().position(|x| *x == q).unwrap();
            let share = covered[k] / n;
            assert!((share - q).abs() < within, "{q}: {share}");
        }
    }

    #[test]
    fn rubbish_leaves_it_alone() {
        let mut band = Band::default();
        let said = band.around(10.0, band.scale(10.0));
        assert!(said[0] < 10.0 && said[Q - 1] > 15.0, "unknown is wide: {said:?}");
        band.learn(10.0, 1.0, &said, f64::NAN);
        band.learn(f64::INFINITY, 1.0, &said, 1.0);
        band.learn(10.0, 0.0, &said, 1.0);
        assert!(band.errors.is_empty());
        for _ in 0..3_000 {
            band.learn(10.0, 1.0, &said, 1e300);
        }
        assert!(band.around(10.0, band.scale(10.0)).iter().all(|v| v.is_finite()));
        assert_eq!(band.errors.len(), WINDOW);
    }
}
