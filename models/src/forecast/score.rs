//! How good forecasts were: errors, pinball losses, coverage, and how they held in the largest jumps.

use serde::Serialize;
use tidegate_filters::forecast::{Q, Q95, Q99, QUANTILES};

/// Quantiles whose pinball loss is told.
pub const PINBALL: [f64; 4] = [0.5, 0.9, 0.95, 0.99];
/// The largest upward moves that are judged apart.
pub const JUMPS: f64 = 0.02;

/// One forecast beside what came.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// What came.
    pub y: f64,
    /// The count when it was forecast.
    pub from: f64,
    /// What was forecast.
    pub quantiles: [f64; Q],
    /// Its middle; for the mean-like methods the forecast itself.
    pub point: f64,
}

/// The figures of one method on one series and horizon.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Name of the series.
    pub series: String,
    /// Seconds ahead.
    pub horizon_s: u64,
    /// Name of the method.
    pub method: String,
    /// Forecasts judged.
    pub n: usize,
    /// Mean absolute error, counts.
    pub mae: f64,
    /// The same over that of the last value.
    pub relative: f64,
    /// The same over the mean move from step to step in the part before the test.
    pub mase: f64,
    /// Root of the mean squared error.
    pub rmse: f64,
    /// Pinball loss at [`PINBALL`].
    pub pinball: [f64; 4],
    /// Share at or below the 0.95 quantile.
    pub coverage_95: f64,
    /// Share at or below the 0.99 quantile.
    pub coverage_99: f64,
    /// The same in the 2 % largest upward moves.
    pub jumps_95: f64,
    /// The same for 0.99.
    pub jumps_99: f64,
}

/// What the figures are relative to.
#[derive(Clone, Copy, Debug)]
pub struct Yardstick {
    /// Mean absolute error of the last value in the test.
    pub naive: f64,
    /// Mean move from step to step before the test.
    pub moves: f64,
    /// Upward moves from here on are jumps.
    pub jump: f64,
}

impl Yardstick {
    /// From the test's pairs of any method, and the moves before it.
    pub fn of(pairs: &[Pair], moves: f64) -> Self {
        let naive = pairs.iter().map(|p| (p.y - p.from).abs()).sum::<f64>() / pairs.len().max(1) as f64;
        let mut up: Vec<f64> = pairs.iter().map(|p| p.y - p.from).collect();
        up.sort_by(f64::total_cmp);
        let at = ((up.len() as f64) * (1.0 - JUMPS)) as usize;
        Yardstick { naive, moves, jump: up.get(at).copied().unwrap_or(f64::INFINITY).max(f64::MIN_POSITIVE) }
    }
}

/// Judges a method.
pub fn score(series: &str, horizon_s: u64, method: &str, pairs: &[Pair], y: &Yardstick) -> Score {
    let n = pairs.len().max(1) as f64;
    let mean = |f: &dyn Fn(&Pair) -> f64| pairs.iter().map(f).sum::<f64>() / n;
    let mae = mean(&|p| (p.y - p.point).abs());
    let below = |pairs: &mut dyn Iterator<Item = &Pair>, q: usize| {
        let (mut held, mut all) = (0.0, 0.0f64);
        for p in pairs {
            held += f64::from(u8::from(p.y <= p.quantiles[q]));
            all += 1.0;
        }
        held / all.max(1.0)
    };
    let jumps = || pairs.iter().filter(|p| p.y - p.from >= y.jump);
    let over = |a: f64, b: f64| {
        if b > 0.0 {
            a / b
        } else if a > 0.0 {
            f64::INFINITY
        } else {
            1.0
        }
    };
    Score {
        series: series.to_owned(),
        horizon_s,
        method: method.to_owned(),
        n: pairs.len(),
        mae,
        relative: over(mae, y.naive),
        mase: over(mae, y.moves),
        rmse: mean(&|p| (p.y - p.point).powi(2)).sqrt(),
        pinball: PINBALL.map(|q| {
            let k = QUANTILES.iter().position(|x| *x == q).unwrap_or(0);
            mean(&|p| if p.y >= p.quantiles[k] { q * (p.y - p.quantiles[k]) } else { (1.0 - q) * (p.quantiles[k] - p.y) })
        }),
        coverage_95: below(&mut pairs.iter(), Q95),
        coverage_99: below(&mut pairs.iter(), Q99),
        jumps_95: below(&mut jumps(), Q95),
        jumps_99: below(&mut jumps(), Q99),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_by_hand() {
        let pair = |y: f64, from: f64, point: f64, q99: f64| Pair { y, from, point, quantiles: [0.0, point, point, point, q99] };
        let pairs = [pair(10.0, 8.0, 9.0, 20.0), pair(10.0, 14.0, 12.0, 20.0), pair(30.0, 10.0, 10.0, 20.0)];
        let yard = Yardstick::of(&pairs, 4.0);
        assert!((yard.naive - 26.0 / 3.0).abs() < 1e-12 && yard.jump == 20.0);
        let s = score("s", 60, "m", &pairs, &yard);
        assert!(
            (s.mae - 23.0 / 3.0).abs() < 1e-12
                && (s.relative - 23.0 / 26.0).abs() < 1e-12
                && (s.mase - 23.0 / 12.0).abs() < 1e-12
        );
        assert!((s.rmse - (405.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!((s.pinball[0] - 23.0 / 6.0).abs() < 1e-12, "at the median pinball is half the error");
        assert!((s.pinball[3] - (0.1 + 0.1 + 9.9) / 3.0).abs() < 1e-12);
        assert_eq!((s.coverage_99, s.jumps_99, s.jumps_95), (2.0 / 3.0, 0.0, 0.0));
    }
}
