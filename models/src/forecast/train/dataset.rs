//! Series into rows: inputs, targets, weights. Split by time, never shuffled across the border, outliers cut in the training
//! part only.

use tidegate_filters::forecast::Forecaster;

use crate::forecast::{
    data::{Series, outliers},
    inputs::{self, HORIZONS, N, Planned, STEP_S},
};

/// Inputs that vary less than this in training are muted: what never moved cannot have been learnt.
const DEVIATION_MIN: f32 = 1e-4;
/// Busy minutes count more, by the root of how much busier they are, within these bounds.
const WEIGHT: (f64, f64) = (0.2, 3.0);

/// Which inputs a net may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// All that move.
    All,
    /// The counts before, relative to the latest one: what looks the same on another site, another day and at another level.
    Counts,
}

/// Moves from minute to minute below this are one, in logarithms.
pub(super) const VOLATILITY_MIN: f32 = 0.005;
/// Inputs that are differences of logarithms: the counts before, yesterday, the usual day.
pub(super) const DIFFERENCES: [std::ops::Range<usize>; 2] =
    [0..inputs::LAGS, inputs::LAGS + 1..inputs::LAGS + 3 + 2 * HORIZONS.len()];

/// How much the counts of a row scatter: mean move from minute to minute. A net sees differences in this unit and answers in
/// it, so that a quiet site and a noisy one look alike, and one does not teach about the other what is not so.
pub(super) fn volatility(x: &[f32; N]) -> f32 {
    let mut before = 0.0;
    let mut sum = 0.0;
    for lag in &x[..inputs::LAGS] {
        sum += (lag - before).abs();
        before = *lag;
    }
    sum / inputs::LAGS as f32 + VOLATILITY_MIN
}

/// Rows in order of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    /// As the gate will compute them.
    pub(super) raw: Vec<[f32; N]>,
    /// In units of [`volatility`]; standardised once [`Scaler::apply`] has been over them.
    pub(super) inputs: Vec<[f32; N]>,
    /// Logarithms of growth in units of [`volatility`]; NaN where nothing was counted.
    pub(super) targets: Vec<[f32; HORIZONS.len()]>,
    /// How much each counts.
    pub(super) weights: Vec<f32>,
}

/// What training may look at, and what it may not.
#[derive(Clone, Debug, Default)]
pub(super) struct Split {
    /// Weights are learnt from these.
    pub(super) train: Rows,
    /// Training stops by these.
    pub(super) valid: Rows,
}

/// Mean and deviation of each input in the training part.
#[derive(Clone, Debug)]
pub(super) struct Scaler {
    /// Mean.
    pub(super) mean: [f32; N],
    /// One over the deviation; 0 where the input is muted.
    pub(super) factor: [f32; N],
}

impl Rows {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// None.
    pub(super) fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    fn push(&mut self, x: [f32; N], y: [f32; HORIZONS.len()], w: f32) {
        let unit = volatility(&x);
        let mut scaled = x;
        DIFFERENCES.into_iter().flatten().for_each(|i| scaled[i] /= unit);
        self.raw.push(x);
        self.inputs.push(scaled);
        self.targets.push(y.map(|v| v / unit));
        self.weights.push(w);
    }
}

/// Cuts outliers of the part before `until` to what is far but usual; how many were cut.
pub(super) fn winsorise(series: &Series, until: f64) -> (Series, usize) {
    let mut cut = series.clone();
    let end = (series.len() as f64 * until) as usize;
    let found = outliers(series);
    let mut n = 0;
    for o in found {
        let i = ((o.at_s - series.start_s) / u64::from(series.step_s)) as usize;
        if i < end {
            cut.counts[i] = Some(o.limit);
            n += 1;
        }
    }
    (cut, n)
}

/// Adds the rows of a series of minutes: from its start to `train_until` for training, from there to `valid_until` for
/// stopping, both as shares. No row looks across a border.
pub(super) fn add(split: &mut Split, series: &Series, train_until: f64, valid_until: f64) {
    let n = series.len();
    let (a, b) = ((n as f64 * train_until) as usize, (n as f64 * valid_until) as usize);
    let known: Vec<f64> = series.counts[..a.min(n)].iter().flatten().copied().collect();
    let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
    let longest = HORIZONS.iter().copied().max().unwrap_or(1);
    let mut f = Forecaster::new(STEP_S, &[longest]);
    for t in 0..b.min(n) {
        f.observe(series.at_s(t), series.counts[t]);
        let Some(x) = inputs::inputs(f.history(), &Planned::default()) else { continue };
        let latest = f.history().ago(0);
        let end = if t < a { a } else { b };
        if t + longest >= end {
            continue;
        }
        let target = HORIZONS.map(|h| series.counts[t + h].map_or(f32::NAN, |y| inputs::output_of(y, latest) as f32));
        let weight = ((1.0 + latest) / (1.0 + mean)).sqrt().clamp(WEIGHT.0, WEIGHT.1) as f32;
        if t < a { split.train.push(x, target, weight) } else { split.valid.push(x, target, weight) }
    }
}

impl Scaler {
    /// Of the training rows; inputs that were not selected are muted.
    pub(super) fn of(rows: &Rows, select: Select) -> Self {
        let n = rows.len().max(1) as f64;
        let (mut sum, mut square) = ([0.0f64; N], [0.0f64; N]);
        for x in &rows.inputs {
            for (i, v) in x.iter().enumerate() {
                sum[i] += f64::from(*v);
                square[i] += f64::from(*v) * f64::from(*v);
            }
        }
        let mean: [f32; N] = std::array::from_fn(|i| (sum[i] / n) as f32);
        let factor = std::array::from_fn(|i| {
            let deviation = (square[i] / n - (sum[i] / n).powi(2)).max(0.0).sqrt() as f32;
            let selected = select == Select::All || i < inputs::LAGS;
            if deviation < DEVIATION_MIN || !selected { 0.0 } else { 1.0 / deviation }
        });
        Scaler { mean, factor }
    }

    /// Standardises rows in place.
    pub(super) fn apply(&self, rows: &mut Rows) {
        for x in &mut rows.inputs {
            for ((v, m), f) in x.iter_mut().zip(&self.mean).zip(&self.factor) {
                *v = (*v - m) * f;
            }
        }
    }

    /// Names of inputs that never moved in training.
    pub(super) fn muted(&self) -> Vec<String> {
        inputs::names().into_iter().zip(&self.factor).filter(|(_, f)| **f == 0.0).map(|(n, _)| n).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(n: usize, f: impl Fn(usize) -> f64) -> Series {
        Series { name: "s".into(), step_s: 60, start_s: 0, counts: (0..n).map(|i| Some(f(i))).collect() }
    }

    #[test]
    fn no_row_looks_across_a_border() {
        // Counts tell their own time, so each target tells which step it saw.
        let s = series(1_000, |i| 1_000.0 + i as f64);
        let mut split = Split::default();
        add(&mut split, &s, 0.6, 0.7);
        let seen = |x: &[f32; N], y: &[f32; 5]| {
            let latest = (f64::from(x[LEVEL]) * 10.0).exp() - 1.0;
            inputs::count_of(f64::from(y[4] * volatility(x)), latest)
        };
        let last = |r: &Rows| r.raw.iter().zip(&r.targets).map(|(x, y)| seen(x, y)).fold(0.0, f64::max);
        assert!(last(&split.train) < 1_600.0 && last(&split.train) > 1_590.0, "{}", last(&split.train));
        assert!(last(&split.valid) < 1_700.0 && split.valid.len() == 90, "{} {}", last(&split.valid), split.valid.len());
    }

    const LEVEL: usize = inputs::LAGS;

    #[test]
    fn inputs_are_standardised_and_what_never_moves_is_muted() {
        let s = series(3_000, |i| 100.0 + ((i * 7_919) % 31) as f64);
        let mut split = Split::default();
        add(&mut split, &s, 0.6, 0.7);
        let scaler = Scaler::of(&split.train, Select::All);
        scaler.apply(&mut split.train);
        let mean = split.train.inputs.iter().map(|x| x[3]).sum::<f32>() / split.train.len() as f32;
        let square = split.train.inputs.iter().map(|x| x[3] * x[3]).sum::<f32>() / split.train.len() as f32;
        assert!(mean.abs() < 1e-3 && (square - 1.0).abs() < 1e-2);
        assert!(scaler.muted().contains(&"sale soon".to_owned()), "{:?}", scaler.muted());
        assert!(split.train.inputs.iter().all(|x| x[N - 1] == 0.0));
    }

    #[test]
    fn outliers_are_cut_in_training_only() {
        let s = series(1_000, |i| if i == 300 || i == 900 { 9_000.0 } else { 100.0 + (i % 5) as f64 });
        let (cut, n) = winsorise(&s, 0.6);
        assert_eq!((n, cut.counts[900]), (1, Some(9_000.0)));
        assert!(cut.counts[300].is_some_and(|c| (120.0..300.0).contains(&c)), "{:?}", cut.counts[300]);
    }
}
