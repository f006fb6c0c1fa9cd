//! How large the error will be: a linear model of its logarithm. Bands that widen before a jump, not after it.

use super::{history::History, rls::Rls};

/// Inputs of the model.
pub(super) const WIDTH: usize = 8;
/// Errors below this are one.
const FLOOR: f64 = 0.3;
const KEEP: f64 = 0.9995;

/// Learns how large errors of one forecast are.
#[derive(Clone, Debug)]
pub(super) struct Spread {
    model: Rls,
    /// Mean absolute error lately, fast and slow.
    fast: f64,
    slow: f64,
}

impl Spread {
    pub(super) fn new() -> Self {
        Spread { model: Rls::new(WIDTH, KEEP), fast: 1.0, slow: 1.0 }
    }

    /// What an error may depend on: the level, recent moves, how far the experts disagree, how the usual day moves from here.
    pub(super) fn inputs(&self, history: &History, horizon: usize, point: f64, said: &[Option<f64>]) -> [f64; WIDTH] {
        let log = |v: f64| (v.abs() + FLOOR).ln();
        let moved = |n: usize| (0..n).map(|i| (history.ago(i) - history.ago(i + 1)).abs()).sum::<f64>() / n as f64;
        let apart: Vec<f64> = said.iter().flatten().map(|s| (s - point).abs()).collect();
        let apart = apart.iter().sum::<f64>() / apart.len().max(1) as f64;
        let usual = match (history.usual(horizon), history.usual(0)) {
            (Some(then), Some(now)) => then - now,
            _ => 0.0,
        };
        [1.0, log(point), log(self.fast), log(self.slow), log(moved(1)), log(moved(10)), log(apart), log(usual)]
    }

    /// Typical error in this situation.
    pub(super) fn scale(&self, x: &[f64; WIDTH]) -> f64 {
        let (low, high) = (0.02 * self.slow.min(self.fast), 50.0 * (self.slow + self.fast));
        self.model.predict(x).clamp(-30.0, 30.0).exp().clamp(low.max(1e-3), high.max(1.0))
    }

    pub(super) fn learn(&mut self, x: &[f64; WIDTH], error: f64) {
        if !error.is_finite() {
            return;
        }
        self.model.learn(x, (error.abs() + FLOOR).ln(), 1.0);
        self.fast += 0.1 * (error.abs() - self.fast);
        self.slow += 0.01 * (error.abs() - self.slow);
    }
}
