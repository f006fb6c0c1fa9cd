//! The always-on experts: simple smoothers and linear models that learn online.

use super::history::{BASE, DAILY, History, LAGS, Scale};
use super::rls::Rls;

/// Names, in the order of predictions. The first is the naive forecast.
pub const EXPERTS: [&str; 13] = [
    "last value",
    "EWMA fast",
    "EWMA slow",
    "Holt damped",
    "RLS log",
    "RLS log, day",
    "RLS plain",
    "RLS plain, day",
    "RLS root, day",
    "RLS root, day, fast",
    "RLS root, day, long",
    "RLS short",
    "RLS shortest",
];
/// The one that stands for "RLS" where only one is shown.
pub const RLS_SHOWN: usize = 8;
/// Experts of [`EXPERTS`] before the linear ones.
const SIMPLE: usize = 4;

/// One linear model.
struct Spec {
    scale: Scale,
    keep: f64,
    lags: usize,
    day: bool,
    /// Large errors count less: closer to the median than to the mean.
    robust: bool,
    /// Busy hours count more.
    busy: bool,
}

const fn spec(scale: Scale, keep: f64, lags: usize, day: bool, robust: bool, busy: bool) -> Spec {
    Spec { scale, keep, lags, day, robust, busy }
}

/// Chosen on real series: no single one is best on all of them, and together they beat each.
const LINEAR: [Spec; EXPERTS.len() - SIMPLE] = [
    spec(Scale::Log, 0.999, 8, false, true, false),
    spec(Scale::Log, 0.9998, 8, true, true, false),
    spec(Scale::Plain, 0.998, 5, false, false, false),
    spec(Scale::Plain, 0.9998, 12, true, true, false),
    spec(Scale::Root, 0.9998, 12, true, false, true),
    spec(Scale::Root, 0.999, 8, true, false, true),
    spec(Scale::Root, 0.9998, 30, true, false, true),
    spec(Scale::Plain, 0.995, 3, false, false, false),
    spec(Scale::Plain, 0.98, 2, false, false, false),
];

/// What the smoothers hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Smoothers {
    fast: f64,
    slow: f64,
    level: f64,
    trend: f64,
}

/// Share of the trend that is left after each step.
const DAMPING: f64 = 0.9;

impl Smoothers {
    pub(super) fn learn(&mut self, y: f64, first: bool) {
        if first {
            *self = Smoothers { fast: y, slow: y, level: y, trend: 0.0 };
            return;
        }
        self.fast += 0.5 * (y - self.fast);
        self.slow += 0.2 * (y - self.slow);
        let before = self.level;
        self.level = 0.5 * y + 0.5 * (self.level + DAMPING * self.trend);
        self.trend = 0.1 * (self.level - before) + 0.9 * DAMPING * self.trend;
    }

    fn predict(&self, horizon: usize) -> [f64; SIMPLE - 1] {
        let damped = DAMPING * (1.0 - DAMPING.powi(horizon as i32)) / (1.0 - DAMPING);
        [self.fast, self.slow, (self.level + damped * self.trend).max(0.0)]
    }
}

/// The inputs of one moment, kept until what they forecast has come.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    base: [[f64; BASE]; 3],
    y: f64,
    level: f64,
    prominence: f64,
}

impl Moment {
    pub(super) fn of(history: &History) -> Self {
        Moment {
            base: Scale::ALL.map(|s| history.base(s)),
            y: history.ago(0),
            level: history.level(),
            prominence: history.prominence(),
        }
    }

    pub(super) fn y(&self) -> f64 {
        self.y
    }
}

/// Inputs of a moment that depend on the horizon.
pub(super) type Days = [[f64; DAILY]; 3];

/// The experts of one horizon.
#[derive(Clone, Debug)]
pub(super) struct Experts {
    horizon: usize,
    models: Vec<Rls>,
    /// Slow mean of each model's absolute error: what a large one is.
    usual_error: Vec<f64>,
    x: Vec<f64>,
}

impl Experts {
    pub(super) fn new(horizon: usize) -> Self {
        let width = |s: &Spec| 1 + s.lags + (BASE - 1 - LAGS) + if s.day { DAILY } else { 0 };
        Experts {
            horizon,
            models: LINEAR.iter().map(|s| Rls::new(width(s), s.keep)).collect(),
            usual_error: vec![0.3; LINEAR.len()],
            x: Vec::new(),
        }
    }

    pub(super) fn days(history: &History, horizon: usize) -> Days {
        Scale::ALL.map(|s| history.daily(s, horizon))
    }

    /// What each says about the step `horizon` from the moment.
    pub(super) fn predict(&mut self, m: &Moment, days: &Days, smoothers: &Smoothers, ready: bool) -> Vec<Option<f64>> {
        let mut said = vec![Some(m.y)];
        said.extend(smoothers.predict(self.horizon).map(Some));
        for (spec, model) in LINEAR.iter().zip(&self.models) {
            inputs(&mut self.x, spec, m, days);
            said.push(ready.then(|| spec.scale.back(m.y, model.predict(&self.x), m.level)));
        }
        said
    }

    /// Learns what came after the moment.
    pub(super) fn learn(&mut self, m: &Moment, days: &Days, y: f64) {
        for ((spec, model), usual) in LINEAR.iter().zip(&mut self.models).zip(&mut self.usual_error) {
            inputs(&mut self.x, spec, m, days);
            let target = spec.scale.of(y, m.level) - spec.scale.of(m.y, m.level);
            let error = (target - model.predict(&self.x)).abs();
            let mut trust = 1.0;
            if spec.robust {
                *usual += 0.01 * (error.min(100.0 * *usual + 1.0) - *usual);
                trust = (*usual / error.max(0.1 * *usual).max(1e-12)).min(10.0) / 10.0;
            }
            if spec.busy {
                trust *= m.prominence.sqrt();
            }
            model.learn(&self.x, target, trust.max(1e-6));
        }
    }
}

fn inputs(x: &mut Vec<f64>, spec: &Spec, m: &Moment, days: &Days) {
    let (base, day) = match spec.scale {
        Scale::Log => (&m.base[0], &days[0]),
        Scale::Plain => (&m.base[1], &days[1]),
        Scale::Root => (&m.base[2], &days[2]),
    };
    x.clear();
    x.extend_from_slice(&base[..=spec.lags]);
    x.extend_from_slice(&base[1 + LAGS..]);
    if spec.day {
        x.extend_from_slice(day);
    }
}
