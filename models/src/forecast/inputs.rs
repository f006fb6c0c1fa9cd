//! What a net sees: the only definition, for training and for the gate alike. A minute is the step; everything is relative to
//! the latest count, so that a net trained on one site says something about another.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};
use tidegate_filters::forecast::{History, WINDOW};

/// Version of the list below. A model says which one it was made for.
pub const VERSION: u32 = 1;
/// Length of a step, seconds.
pub const STEP_S: u32 = 60;
/// Counts before the latest one.
pub const LAGS: usize = 59;
/// Steps ahead that the nets we make forecast; the inputs that know the day look there.
pub const HORIZONS: [usize; 5] = [1, 2, 3, 5, 10];
/// Inputs in all.
pub const N: usize = LAGS + 1 + 2 + 2 * HORIZONS.len() + 4 + 4;

/// What an operator knows and counts do not show.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Planned {
    /// Seconds until the next sale opens; negative after it did. `None`: no sale near.
    pub to_sale_s: Option<f64>,
    /// Seconds until the next planned push (mail, message); `None`: none near.
    pub to_push_s: Option<f64>,
}

/// Names, in order.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = (1..=LAGS).map(|i| format!("lag {i}")).collect();
    names.push("level".into());
    names.extend(["yesterday against now", "usual against now"].map(String::from));
    names.extend(HORIZONS.iter().map(|h| format!("yesterday, {h} ahead")));
    names.extend(HORIZONS.iter().map(|h| format!("usual, {h} ahead")));
    names.extend(
        ["day sin", "day cos", "week sin", "week cos", "sale soon", "sale very soon", "since sale", "push soon"]
            .map(String::from),
    );
    names
}

/// SHA-256 of version and names, hex: a model fits these inputs or it does not.
pub fn hash() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| crate::hex(&Sha256::digest(format!("{VERSION}\n{STEP_S}\n{}", names().join("\n")))))
}

/// The inputs at the latest step; `None` while the series is too short.
pub fn inputs(history: &History, planned: &Planned) -> Option<[f32; N]> {
    if history.fresh() < WINDOW || !history.is_live() {
        return None;
    }
    let z = |y: f64| y.max(0.0).ln_1p();
    let z0 = z(history.ago(0));
    let mut x = Vec::with_capacity(N);
    x.extend((1..=LAGS).map(|i| z(history.ago(i)) - z0));
    x.push(0.1 * z0);
    let (yesterday, usual) = (history.yesterday(0), history.usual(0));
    x.extend([yesterday, usual].map(|v| v.map_or(0.0, |v| z(v) - z0)));
    let moved = |then: Option<f64>, now: Option<f64>| then.zip(now).map_or(0.0, |(a, b)| z(a) - z(b));
    x.extend(HORIZONS.iter().map(|h| moved(history.yesterday(*h), yesterday)));
    x.extend(HORIZONS.iter().map(|h| moved(history.usual(*h), usual)));
    let turn = |period_s: u64| (history.at_s() % period_s) as f64 / period_s as f64 * std::f64::consts::TAU;
    for angle in [turn(86_400), turn(604_800)] {
        x.extend([angle.sin(), angle.cos()]);
    }
    let near = |s: Option<f64>, scale: f64| s.filter(|s| *s >= 0.0).map_or(0.0, |s| (-s / scale).exp());
    let since = planned.to_sale_s.map(|s| -s);
    x.extend([near(planned.to_sale_s, 600.0), near(planned.to_sale_s, 60.0), near(since, 600.0), near(planned.to_push_s, 300.0)]);
    let mut out = [0.0f32; N];
    for (o, v) in out.iter_mut().zip(x) {
        *o = v.clamp(-20.0, 20.0) as f32;
    }
    Some(out)
}

/// The count that an output stands for: outputs are logarithms of growth since the latest count.
pub fn count_of(output: f64, latest: f64) -> f64 {
    ((1.0 + latest) * output.clamp(-8.0, 8.0).exp() - 1.0).max(0.0)
}

/// The output that stands for a count.
pub fn output_of(count: f64, latest: f64) -> f64 {
    (count.ln_1p() - latest.ln_1p()).clamp(-8.0, 8.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tidegate_filters::forecast::Forecaster;

    use super::*;

    #[test]
    fn the_list_is_as_long_as_it_says_and_changes_its_hash() {
        assert_eq!(names().len(), N);
        assert_eq!(hash().len(), 64);
        let distinct: std::collections::BTreeSet<_> = names().into_iter().collect();
        assert_eq!(distinct.len(), N);
    }

    #[test]
    fn inputs_are_relative_and_finite() {
        let mut f = Forecaster::new(STEP_S, &HORIZONS);
        for t in 0..3_000u64 {
            f.observe(t * 60, Some(100.0 + (t % 7) as f64));
            f.forecast(&[]);
        }
        let planned = Planned { to_sale_s: Some(60.0), to_push_s: Some(-5.0) };
        let x = inputs(f.history(), &planned).unwrap();
        // 2,999 % 7 = 3: the one before was one less.
        assert!((f64::from(x[0]) - (103.0f64.ln() - 104.0f64.ln())).abs() < 1e-6);
        assert!(x.iter().all(|v| v.is_finite()));
        assert!((x[N - 3] - (-1.0f32).exp()).abs() < 1e-6 && x[N - 2] == 0.0 && x[N - 1] == 0.0);
        let short = Forecaster::new(STEP_S, &HORIZONS);
        assert_eq!(inputs(short.history(), &planned), None);
        for count in [0.0, 3.0, 3e4] {
            assert!((count_of(output_of(count, 40.0), 40.0) - count).abs() < 1e-6 * (1.0 + count));
        }
    }
}
