//! How good a model is, with intervals: overall, at the first visit, by family, by site, for whom it errs, how far its
//! probabilities can be believed, and after how many visits it knows.

use std::{collections::BTreeMap, sync::Arc};

use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

pub use self::{
    decide::{Band, Decided, band},
    fair::{FAIR_RATIO_MAX, Fairness, SLICE_MIN, SliceMark, fairness},
};
use super::{
    Sample,
    evaluate::{Point, Sweep, round, share, sort, sweep},
};

mod decide;
mod fair;

/// Bootstrap draws: as many as so many points allow.
const DRAWS_MAX: usize = 400;
const DRAWS_MIN: usize = 60;
const POINTS_DRAWN_MAX: usize = 40_000_000;
/// Points kept of a curve.
const CURVE_POINTS: usize = 240;
/// Bins of the calibration curve and of the histograms.
const BINS: usize = 20;
/// Groups with fewer visits of either class are not judged apart.
const GROUP_MIN: usize = 5;

/// A visit and what a model says about it.
#[derive(Clone, Debug)]
pub struct Scored<'a> {
    /// The visit.
    pub sample: &'a Sample,
    /// The score.
    pub score: f32,
    /// Below: surely a person; from there on: surely a program.
    pub band: Band,
}

/// A figure with its 95 % interval.
pub type Interval = [f64; 3];

/// Figures of one set of visits, each with its 95 % interval from a bootstrap over networks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Marks {
    /// Visits of people, visits of programs.
    pub people: usize,
    /// The same.
    pub programs: usize,
    /// Networks they come from.
    pub networks: usize,
    /// Area under the ROC curve; `None` when a class is missing.
    pub auc: Option<Interval>,
    /// Average precision.
    pub average_precision: Option<Interval>,
    /// F1 at the threshold.
    pub f1: Option<Interval>,
    /// Share of programs above the score that 0.1 % of people reach.
    pub recall_at_01pct: Option<Interval>,
    /// The same at 1 %.
    pub recall_at_1pct: Option<Interval>,
}

/// Figures of a part that has a name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Family, site or number of the visit.
    pub name: String,
    /// Its figures; of a family: against all people.
    pub marks: Marks,
}

/// One bin of the calibration curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Mean score.
    pub said: f64,
    /// Share of programs, with its 95 % interval.
    pub was: Interval,
    /// Visits.
    pub visits: usize,
}

/// Everything about a model on some data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// The threshold that F1 and fairness are told at.
    pub at: f32,
    /// All visits.
    pub all: Marks,
    /// First visits of everybody.
    pub first_visit: Marks,
    /// First, second, third, and later visits.
    pub by_visit: Vec<Group>,
    /// Families of programs.
    pub families: Vec<Group>,
    /// Sites.
    pub sites: Vec<Group>,
    /// Where people fare worse than others.
    pub fairness: Fairness,
    /// Calibration curve.
    pub calibration: Vec<Bin>,
    /// Mean distance of that curve from the diagonal, weighted by visits.
    pub calibration_error: f64,
    /// Mean squared error of the probability.
    pub brier: f64,
    /// After how many visits it knows.
    pub decided: Decided,
    /// For plots.
    #[serde(skip)]
    pub curves: Curves,
}

/// What plots show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curves {
    /// Share of people above, share of programs above.
    pub roc: Vec<(f64, f64)>,
    /// Recall, precision.
    pub precision: Vec<(f64, f64)>,
    /// Shares of people by score, in equal bins from 0 to 1.
    pub people: Vec<f64>,
    /// The same of programs.
    pub programs: Vec<f64>,
}

/// Judges scores at a threshold.
pub fn judge(scored: &[Scored<'_>], at: f32) -> Judgement {
    let marks = |keep: &dyn Fn(&Scored<'_>) -> bool| marks(scored.iter().filter(|s| keep(s)), at);
    let by_visit = ["1", "2", "3", "4 and later"].iter().zip(1u32..).map(|(name, n)| Group {
        name: (*name).into(),
        marks: marks(&|s| s.sample.visit == n || (n == 4 && s.sample.visit > 4)),
    });
    let families = names(scored.iter().filter(|s| s.sample.bot), |s| &s.family)
        .into_iter()
        .map(|name| Group { marks: marks(&|s| !s.sample.bot || s.sample.family == name), name: name.to_string() });
    let sites = names(scored.iter(), |s| &s.site)
        .into_iter()
        .map(|name| Group { marks: marks(&|s| s.sample.site == name), name: name.to_string() });
    let (calibration, calibration_error) = calibration(scored);
    Judgement {
        at,
        all: marks(&|_| true),
        first_visit: marks(&|s| s.sample.visit == 1),
        by_visit: by_visit.collect(),
        families: families.collect(),
        sites: sites.collect(),
        fairness: fairness(scored, at),
        calibration,
        calibration_error,
        brier: round(mean(scored.iter().map(|s| (f64::from(s.score) - f64::from(u8::from(s.sample.bot))).powi(2)))),
        decided: decide::decided(scored),
        curves: curves(scored),
    }
}

/// Figures of some visits.
pub fn marks<'a, 'b: 'a>(scored: impl Iterator<Item = &'a Scored<'b>>, at: f32) -> Marks {
    let mut networks: BTreeMap<u64, u32> = BTreeMap::new();
    let mut points: Vec<Point> = scored
        .map(|s| {
            let next = networks.len() as u32;
            Point { score: s.score, bot: s.sample.bot, group: *networks.entry(s.sample.network).or_insert(next) }
        })
        .collect();
    sort(&mut points);
    let whole = sweep(&points, None, at);
    let draws = bootstrap(&points, networks.len(), at);
    let interval = |of: &dyn Fn(&Sweep) -> f64| {
        let mut values: Vec<f64> = draws.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let quantile = |q: f64| values.get((q * (values.len() as f64 - 1.0)).round() as usize).copied();
        let [low, high] = [quantile(0.025).unwrap_or(0.0), quantile(0.975).unwrap_or(1.0)];
        whole.both.then(|| [of(&whole), low, high].map(round))
    };
    let people = points.iter().filter(|p| !p.bot).count();
    Marks {
        people,
        programs: points.len() - people,
        networks: networks.len(),
        auc: interval(&|s| s.auc),
        average_precision: interval(&|s| s.average_precision),
        f1: interval(&|s| s.f1),
        recall_at_01pct: interval(&|s| s.recall[0]),
        recall_at_1pct: interval(&|s| s.recall[1]),
    }
}

/// Figures of draws of networks with replacement; empty when there is one network or one class.
fn bootstrap(points: &[Point], networks: usize, at: f32) -> Vec<Sweep> {
    let both = points.iter().any(|p| p.bot) && points.iter().any(|p| !p.bot);
    if networks < 2 || !both {
        return vec![];
    }
    let draws = (POINTS_DRAWN_MAX / points.len()).clamp(DRAWS_MIN, DRAWS_MAX);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut times = vec![0u32; networks];
    let mut draw = || {
        times.fill(0);
        (0..networks).for_each(|_| times[rng.random_range(0..networks)] += 1);
        sweep(points, Some(&times), at)
    };
    (0..draws).map(|_| draw()).filter(|s| s.both).collect()
}

/// Names with enough visits, most first.
fn names<'a, 'b: 'a>(scored: impl Iterator<Item = &'a Scored<'b>>, of: fn(&Sample) -> &Arc<str>) -> Vec<Arc<str>> {
    let mut counts: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    scored.for_each(|s| *counts.entry(of(s.sample).clone()).or_default() += 1);
    let mut all: Vec<_> = counts.into_iter().filter(|(name, n)| *n >= GROUP_MIN && !name.is_empty()).collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    all.into_iter().map(|(name, _)| name).collect()
}

fn calibration(scored: &[Scored<'_>]) -> (Vec<Bin>, f64) {
    let mut bins: Vec<Vec<&Scored<'_>>> = vec![vec![]; BINS];
    scored.iter().for_each(|s| bins[bin_of(s.score)].push(s));
    let bins: Vec<Bin> = bins
        .into_iter()
        .filter(|b| !b.is_empty())
        .map(|b| {
            let bots = b.iter().filter(|s| s.sample.bot).count();
            let said = round(mean(b.iter().map(|s| f64::from(s.score))));
            Bin { said, was: share(bots, b.len()).map(round), visits: b.len() }
        })
        .collect();
    let off: f64 = bins.iter().map(|b| b.visits as f64 * (b.said - b.was[0]).abs()).sum();
    (bins, round(off / scored.len().max(1) as f64))
}

fn curves(scored: &[Scored<'_>]) -> Curves {
    let mut points: Vec<Point> = scored.iter().map(|s| Point { score: s.score, bot: s.sample.bot, group: 0 }).collect();
    sort(&mut points);
    let programs = points.iter().filter(|p| p.bot).count().max(1) as f64;
    let people = points.iter().filter(|p| !p.bot).count().max(1) as f64;
    let (mut tp, mut fp) = (0.0, 0.0);
    let mut out = Curves { people: vec![0.0; BINS], programs: vec![0.0; BINS], ..Curves::default() };
    out.roc.push((0.0, 0.0));
    let mut last = (-1.0, -1.0);
    for ties in points.chunk_by(|a, b| a.score == b.score) {
        let hits = ties.iter().filter(|p| p.bot).count() as f64;
        tp += hits;
        fp += ties.len() as f64 - hits;
        let (x, y) = (fp / people, tp / programs);
        let moved = f64::max(x - last.0, y - last.1) >= 1.0 / CURVE_POINTS as f64;
        if moved || (tp + fp) as usize == points.len() {
            out.roc.push((x, y));
            out.precision.push((y, tp / (tp + fp)));
            last = (x, y);
        }
    }
    for p in &points {
        let (bins, n) = if p.bot { (&mut out.programs, programs) } else { (&mut out.people, people) };
        bins[bin_of(p.score)] += 1.0 / n;
    }
    out
}

fn bin_of(score: f32) -> usize {
    ((score * BINS as f32) as usize).min(BINS - 1)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut n) = (0.0, 0.0f64);
    values.for_each(|v| {
        sum += v;
        n += 1.0;
    });
    sum / n.max(1.0)
}

#[cfg(test)]
mod tests;
