//! Recursive least squares: a linear model that learns from every observation and forgets old ones.

/// Uncertainty of a fresh weight: large, so that the first observations count.
const P_FIRST: f64 = 10.0;
/// Forgetting an input that never moves lets its uncertainty grow without bound; this is the bound.
const P_MAX: f64 = 1e5;

/// Weights `w` for `y ≈ w·x`, with exponential forgetting.
#[derive(Clone, Debug)]
pub struct Rls {
    weights: Vec<f64>,
    /// Inverse of the weighted covariance of the inputs, row-major.
    p: Vec<f64>,
    keep: f64,
    gain: Vec<f64>,
}

impl Rls {
    /// For inputs of `width`; each observation weighs `keep` times the next one.
    pub fn new(width: usize, keep: f64) -> Self {
        let mut rls = Rls { weights: vec![0.0; width], p: vec![0.0; width * width], keep, gain: vec![0.0; width] };
        rls.restart();
        rls
    }

    /// The model's value.
    pub fn predict(&self, x: &[f64]) -> f64 {
        self.weights.iter().zip(x).map(|(w, x)| w * x).sum()
    }

    /// Learns that `x` was followed by `y`. `trust` is the weight of this observation, in (0, 1].
    pub fn learn(&mut self, x: &[f64], y: f64, trust: f64) {
        let n = self.weights.len();
        if x.len() != n || !y.is_finite() || x.iter().any(|v| !v.is_finite()) {
            return;
        }
        for (i, g) in self.gain.iter_mut().enumerate() {
            *g = self.p[i * n..(i + 1) * n].iter().zip(x).map(|(p, x)| p * x).sum();
        }
        let spread: f64 = self.gain.iter().zip(x).map(|(g, x)| g * x).sum();
        let scale = trust / (self.keep + trust * spread);
        let error = y - self.predict(x);
        for (w, g) in self.weights.iter_mut().zip(&self.gain) {
            *w += scale * error * g;
        }
        for i in 0..n {
            for j in i..n {
                let v = (self.p[i * n + j] - scale * self.gain[i] * self.gain[j]) / self.keep;
                // Both halves from one number: rounding must not make it lopsided.
                (self.p[i * n + j], self.p[j * n + i]) = (v, v);
            }
        }
        self.bound();
        let sound = |v: &f64| v.is_finite();
        if !self.weights.iter().all(sound) || !(0..n).all(|i| self.p[i * n + i] > 0.0 && self.p[i * n + i].is_finite()) {
            self.restart();
        }
    }

    /// Shrinks the inputs whose uncertainty ran away, alone: scaling a row and its column keeps the matrix a covariance.
    fn bound(&mut self) {
        let n = self.weights.len();
        for i in 0..n {
            let own = self.p[i * n + i];
            if own > P_MAX {
                let shrink = (P_MAX / own).sqrt();
                for j in 0..n {
                    self.p[i * n + j] *= shrink;
                    self.p[j * n + i] *= shrink;
                }
            }
        }
    }

    /// Forgets everything: numbers that ran away are no knowledge.
    fn restart(&mut self) {
        let n = self.weights.len();
        self.weights.fill(0.0);
        self.p.fill(0.0);
        (0..n).for_each(|i| self.p[i * n + i] = P_FIRST);
    }
}
