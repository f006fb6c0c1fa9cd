//! Beats naive or is off: a forecast is used while its errors are smaller than those of "as it is now", and not a step longer.

/// Steps of memory: older comparisons weigh less.
const KEEP: f64 = 0.998;
/// Comparisons before anything is believed.
const ENOUGH: f64 = 120.0;
/// Switched on when the gain is this many standard errors above zero; off when it is not above zero at all.
const SURE: f64 = 2.0;

/// The standing of one forecast at one horizon.
#[derive(Clone, Debug, Default)]
pub struct Merit {
    error: f64,
    naive: f64,
    gain: f64,
    square: f64,
    weight: f64,
    weight_square: f64,
    seen: u64,
    on: bool,
    covered_95: f64,
    covered_99: f64,
}

/// What is known of a forecast's errors lately.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    /// Mean absolute error, counts.
    pub mae: f64,
    /// The same for "as it is now".
    pub mae_naive: f64,
    /// Share of steps at or below the 0.95 quantile.
    pub coverage_95: f64,
    /// Share of steps at or below the 0.99 quantile.
    pub coverage_99: f64,
    /// Comparisons made, in all.
    pub seen: u64,
    /// In use.
    pub on: bool,
}

impl Merit {
    /// Learns two absolute errors of the same step, and whether the upper quantiles held.
    pub fn learn(&mut self, error: f64, naive: f64, under_95: bool, under_99: bool) {
        if !naive.is_finite() {
            return;
        }
        // Who says nothing, or rubbish, is judged as if twice as wrong.
        let error = if error.is_finite() { error } else { 2.0 * naive + 1.0 };
        let gain = naive - error;
        self.seen += 1;
        self.weight = self.weight * KEEP + 1.0;
        self.weight_square = self.weight_square * KEEP * KEEP + 1.0;
        for (sum, v) in [
            (&mut self.error, error),
            (&mut self.naive, naive),
            (&mut self.gain, gain),
            (&mut self.square, gain * gain),
            (&mut self.covered_95, f64::from(u8::from(under_95))),
            (&mut self.covered_99, f64::from(u8::from(under_99))),
        ] {
            *sum = *sum * KEEP + v;
        }
        let mean = self.gain / self.weight;
        let spread = (self.square / self.weight - mean * mean).max(0.0);
        let count = self.weight * self.weight / self.weight_square;
        let sure = mean > SURE * (spread / count).sqrt() && mean > 0.0;
        self.on = self.weight >= ENOUGH && if self.on { mean > 0.0 } else { sure };
    }

    /// In use.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Lately.
    pub fn standing(&self) -> Standing {
        let w = self.weight.max(1e-9);
        Standing {
            mae: self.error / w,
            mae_naive: self.naive / w,
            coverage_95: self.covered_95 / w,
            coverage_99: self.covered_99 / w,
            seen: self.seen,
            on: self.on,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_only_when_better_for_sure_and_off_when_not() {
        let mut m = Merit::default();
        for i in 0..100 {
            m.learn(8.0 + f64::from(i % 3), 10.0 + f64::from(i % 5), true, true);
        }
        assert!(!m.is_on(), "too soon");
        for i in 0..100 {
            m.learn(8.0 + f64::from(i % 3), 10.0 + f64::from(i % 5), true, true);
        }
        assert!(m.is_on());
        let s = m.standing();
        assert!((s.mae - 9.0).abs() < 0.1 && (s.mae_naive - 12.0).abs() < 0.1 && s.seen == 200);
        for _ in 0..60 {
            m.learn(f64::NAN, 10.0, false, false);
        }
        assert!(!m.is_on(), "rubbish counts as wrong");
        let mut even = Merit::default();
        for i in 0..5_000u32 {
            let coin = f64::from(i.wrapping_mul(2_654_435_761) >> 31);
            even.learn(10.0 + coin, 10.5, true, true);
        }
        assert!(!even.is_on(), "no better than naive");
    }
}
