//! Experts into one number: Bernstein online aggregation with forgetting, on the slope of the absolute loss.

/// Old regret weighs this much less each step: about a thousand steps of memory.
const KEEP: f64 = 0.999;
/// The largest regret seen fades this slowly.
const RANGE_KEEP: f64 = 0.9999;
/// Counts below this error are one.
const SCALE_MIN: f64 = 0.05;

/// Weights over experts that add up to one.
#[derive(Clone, Debug)]
pub struct Combination {
    weights: Vec<f64>,
    regret: Vec<f64>,
    spread: Vec<f64>,
    range: Vec<f64>,
    /// Slow mean of the naive error: losses are compared in its units.
    scale: f64,
}

impl Combination {
    /// All `n` experts alike.
    pub fn new(n: usize) -> Self {
        let zeros = vec![0.0; n];
        Combination {
            weights: vec![1.0 / n.max(1) as f64; n],
            regret: zeros.clone(),
            spread: zeros.clone(),
            range: zeros,
            scale: 1.0,
        }
    }

    /// The weighted mean of those that said something.
    pub fn predict(&self, said: &[Option<f64>]) -> Option<f64> {
        let (mut sum, mut weight) = (0.0, 0.0);
        for (w, p) in self.weights.iter().zip(said) {
            if let Some(p) = p.filter(|p| p.is_finite()) {
                sum += w * p;
                weight += w;
            }
        }
        (weight > 1e-9).then(|| sum / weight)
    }

    /// Shifts weight towards those that were on the right side. `naive_error` sets the unit.
    pub fn learn(&mut self, said: &[Option<f64>], y: f64, naive_error: f64) {
        let Some(all) = self.predict(said) else { return };
        if !(y.is_finite() && naive_error.is_finite()) {
            return;
        }
        self.scale += 0.001 * (naive_error - self.scale);
        let slope = (all - y).signum() / self.scale.max(SCALE_MIN);
        let log_n = (self.weights.len() as f64).ln().max(0.1);
        for (k, p) in said.iter().enumerate() {
            // Who said nothing is taken to have said what all said.
            let r = p.filter(|p| p.is_finite()).map_or(0.0, |p| slope * (all - p));
            self.spread[k] = self.spread[k] * KEEP + r * r;
            self.range[k] = (self.range[k] * RANGE_KEEP).max(r.abs());
            self.regret[k] = self.regret[k] * KEEP + r - self.rate(k, log_n) * r * r;
        }
        let rates: Vec<f64> = (0..said.len()).map(|k| self.rate(k, log_n)).collect();
        let best = rates.iter().zip(&self.regret).map(|(e, r)| e * r).fold(f64::MIN, f64::max);
        for ((w, e), r) in self.weights.iter_mut().zip(&rates).zip(&self.regret) {
            *w = e * (e * r - best).exp();
        }
        let sum: f64 = self.weights.iter().sum();
        if sum.is_finite() && sum > 0.0 {
            self.weights.iter_mut().for_each(|w| *w /= sum);
        } else {
            *self = Combination::new(said.len());
        }
    }

    /// Weights in force.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Expert `k` is another one from now on: it starts with an even share.
    pub fn forget(&mut self, k: usize) {
        if k >= self.weights.len() {
            return;
        }
        let share = 1.0 / self.weights.len() as f64;
        let others = (1.0 - self.weights[k]).max(1e-9);
        self.weights.iter_mut().for_each(|w| *w *= (1.0 - share) / others);
        self.weights[k] = share;
        (self.regret[k], self.spread[k], self.range[k]) = (0.0, 0.0, 0.0);
    }

    /// The rate at which expert `k` gains weight: slower, the more its regret scatters.
    fn rate(&self, k: usize, log_n: f64) -> f64 {
        (0.5 / self.range[k].max(1e-9)).min((log_n / self.spread[k].max(1e-9)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_expert_wins_and_a_change_is_followed() {
        let mut c = Combination::new(3);
        let round = |c: &mut Combination, i: usize, good: usize| {
            let y = 100.0 + 30.0 * ((i * 7_919) % 13) as f64;
            let mut said = [Some(y * 1.4), Some(y * 0.5), None];
            said[good] = Some(y + 1.0);
            let off = c.predict(&said).map_or(f64::INFINITY, |p| (p - y).abs() / y);
            c.learn(&said, y, 20.0);
            off
        };
        let late = |c: &mut Combination, n: usize, good: usize| {
            let off: Vec<f64> = (0..n).map(|i| round(c, i, good)).collect();
            off[n - 100..].iter().sum::<f64>() / 100.0
        };
        let off = late(&mut c, 500, 0);
        assert!(off < 0.05, "{off} {:?}", c.weights());
        let off = late(&mut c, 3_000, 1);
        assert!(off < 0.05, "{off} {:?}", c.weights());
        assert!((c.weights().iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn rubbish_from_one_expert_is_passed_over() {
        let mut c = Combination::new(2);
        for i in 0..100 {
            let y = f64::from(i);
            let bad = [f64::NAN, f64::INFINITY, -f64::INFINITY][i as usize % 3];
            c.learn(&[Some(bad), Some(y)], y, 1.0);
            assert_eq!(c.predict(&[Some(bad), Some(y)]), Some(y));
        }
        assert_eq!(c.predict(&[None, None]), None);
        c.learn(&[Some(1.0), Some(2.0)], f64::NAN, 1.0);
        assert!(c.weights().iter().all(|w| w.is_finite()));
    }
}
