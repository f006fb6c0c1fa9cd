//! After how many visits a model knows.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Scored, round};

/// A decision is made where, were people and programs as many, so few of those decided alike would be of the other kind.
const WRONG_MAX: f64 = 0.05;
/// Visits after which it is told who is undecided.
const AFTER: [u32; 4] = [1, 2, 3, 8];
/// Visits that the border is chosen on: later ones know more.
const EARLY: u32 = 3;

/// Where a score decides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Band {
    /// Below: a person.
    pub person_below: f32,
    /// From here on: a program.
    pub program_from: f32,
}

impl Default for Band {
    /// Never decides.
    fn default() -> Self {
        Band { person_below: f32::NEG_INFINITY, program_from: f32::INFINITY }
    }
}

/// Who was decided when, and how rightly.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decided {
    /// Visitors looked at from their first visit on.
    pub visitors: usize,
    /// After so many visits this share of visitors was undecided; who left before stays undecided.
    pub undecided_after: Vec<(u32, f64)>,
    /// Of people decided after three visits, the share that was taken for programs.
    pub people_wrong: f64,
    /// Of programs decided after three visits, the share that was taken for people.
    pub programs_wrong: f64,
    /// Usual number of visits until it is decided, of those that are.
    pub median_visits: u32,
}

/// The border of decisions from `(score, program, visit)`; to be chosen on other visits than those that are judged.
pub fn band(scores: impl Iterator<Item = (f32, bool, u32)>) -> Band {
    let mut all: Vec<(f32, bool)> = scores.filter(|s| s.2 <= EARLY).map(|(p, bot, _)| (p, bot)).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let n = [false, true].map(|bot| all.iter().filter(|s| s.1 == bot).count().max(1) as f64);
    let mut band = Band::default();
    let mut above = [0.0f64; 2];
    for ties in all.chunk_by(|a, b| a.0 == b.0) {
        // People below this score against programs below it.
        let below = [1.0 - above[0], 1.0 - above[1]];
        if band.person_below == f32::NEG_INFINITY && below[1] <= WRONG_MAX * (below[0] + below[1]) {
            band.person_below = ties[0].0.next_up();
        }
        ties.iter().for_each(|s| above[usize::from(s.1)] += 1.0 / n[usize::from(s.1)]);
        if above[0] <= WRONG_MAX * (above[0] + above[1]) {
            band.program_from = ties[0].0;
        }
    }
    // Where classes hardly overlap both borders may cross: then every score decides.
    band.person_below = band.person_below.min(band.program_from);
    band
}

pub(super) fn decided(scored: &[Scored<'_>]) -> Decided {
    let mut visitors: BTreeMap<(&str, u64), Vec<&Scored<'_>>> = BTreeMap::new();
    scored.iter().for_each(|s| visitors.entry((&*s.sample.site, s.sample.visitor)).or_default().push(s));
    visitors.retain(|_, v| {
        v.sort_by_key(|s| s.sample.visit);
        v[0].sample.visit == 1
    });
    // The visit that decides, what it says, what is true.
    let when: Vec<Option<(u32, bool, bool)>> = visitors
        .values()
        .map(|v| {
            let said = |s: &Scored<'_>| {
                let program = s.score >= s.band.program_from;
                (program || s.score < s.band.person_below).then_some((s.sample.visit, program, s.sample.bot))
            };
            v.iter().find_map(|s| said(s))
        })
        .collect();
    let n = when.len().max(1) as f64;
    let by = |limit: u32| when.iter().flatten().filter(move |d| d.0 <= limit);
    let wrong = |bot: bool| {
        let of = by(EARLY).filter(|d| d.2 == bot);
        let all = of.clone().count();
        round(of.filter(|d| d.1 != bot).count() as f64 / all.max(1) as f64)
    };
    let mut visits: Vec<u32> = when.iter().flatten().map(|d| d.0).collect();
    visits.sort_unstable();
    Decided {
        visitors: when.len(),
        undecided_after: AFTER.iter().map(|v| (*v, round(1.0 - by(*v).count() as f64 / n))).collect(),
        people_wrong: wrong(false),
        programs_wrong: wrong(true),
        median_visits: visits.get(visits.len() / 2).copied().unwrap_or(0),
    }
}
