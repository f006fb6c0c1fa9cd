//! For whom it errs: shares of people above the threshold, slice by slice.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::{Scored, round};
use crate::{
    bots::evaluate::share,
    tune::{SLICES, shown},
};

/// A slice may fare so much worse than all people together.
pub const FAIR_RATIO_MAX: f64 = 1.25;
/// Slices with fewer visits are told, not judged.
pub const SLICE_MIN: usize = 500;
/// A network with so many visitors is shared.
const SHARED_FROM: usize = 8;

/// People of one slice.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SliceMark {
    /// Its name.
    pub name: String,
    /// Visits of people.
    pub people: usize,
    /// Share above the threshold, with its 95 % interval.
    pub above: [f64; 3],
    /// That share over the one of all people; `None` when nobody is above.
    pub ratio: Option<f64>,
    /// Large enough to be judged.
    pub judged: bool,
}

/// The gate of fairness.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fairness {
    /// Share of all people above the threshold, with its 95 % interval.
    pub above: [f64; 3],
    /// Largest ratio of a judged slice; 1 when nobody is above.
    pub worst: f64,
    /// It is at most [`FAIR_RATIO_MAX`].
    pub fair: bool,
    /// Largest first.
    pub slices: Vec<SliceMark>,
}

/// Judges people by whether their score is at the threshold or above.
pub fn fairness(scored: &[Scored<'_>], at: f32) -> Fairness {
    let people: Vec<&Scored<'_>> = scored.iter().filter(|s| !s.sample.bot).collect();
    let mut visitors: HashMap<u64, HashSet<u64>> = HashMap::new();
    for s in &people {
        visitors.entry(s.sample.network).or_default().insert(s.sample.visitor);
    }
    let mut slices: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    let mut all = [0usize; 2];
    for s in &people {
        let above = usize::from(s.score >= at);
        let mut take = |name: &str| {
            let [n, high] = slices.entry(name.to_owned()).or_default();
            (*n, *high) = (*n + 1, *high + above);
        };
        let seen = shown(&s.sample.features);
        SLICES.iter().enumerate().take(6).filter(|(i, _)| seen >> i & 1 == 1).for_each(|(_, name)| take(name));
        if visitors.get(&s.sample.network).is_some_and(|v| v.len() >= SHARED_FROM) {
            take("shared network");
        }
        if s.sample.visit == 1 {
            take("first visit");
        }
        if !s.sample.family.is_empty() {
            take(&s.sample.family);
        }
        all = [all[0] + 1, all[1] + above];
    }
    let overall = share(all[1], all[0]).map(round);
    let mut slices: Vec<SliceMark> = slices
        .into_iter()
        .filter(|(_, [n, _])| *n < all[0])
        .map(|(name, [n, high])| {
            let above = share(high, n).map(round);
            let rate = |high: usize, n: usize| high as f64 / n.max(1) as f64;
            let ratio = (all[1] > 0).then(|| round(rate(high, n) / rate(all[1], all[0])));
            SliceMark { name, people: n, above, ratio, judged: n >= SLICE_MIN }
        })
        .collect();
    slices.sort_by(|a, b| b.ratio.unwrap_or(0.0).total_cmp(&a.ratio.unwrap_or(0.0)));
    let worst = slices.iter().filter(|s| s.judged).filter_map(|s| s.ratio).fold(1.0, f64::max);
    Fairness { above: overall, worst, fair: worst <= FAIR_RATIO_MAX, slices }
}
