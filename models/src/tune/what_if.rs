//! Other thresholds, or another model, on a journal: who would newly be stopped.

use serde::Serialize;

use super::{
    book::{SLICES, Visitor},
    gates::Act,
};
use crate::bots::evaluate::share;

/// Visitors by what happens to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Nothing happens to them.
    pub nothing: u64,
    /// Challenged.
    pub challenge: u64,
    /// To the slow lane.
    pub slow_lane: u64,
    /// Throttled at least once.
    pub throttle: u64,
    /// Refused.
    pub refuse: u64,
}

impl Counts {
    fn add(&mut self, act: Act) {
        *match act {
            Act::Nothing => &mut self.nothing,
            Act::Challenge => &mut self.challenge,
            Act::SlowLane => &mut self.slow_lane,
            Act::Throttle => &mut self.throttle,
            Act::Refuse => &mut self.refuse,
        } += 1;
    }
}

/// A group of visitors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Slice {
    /// Its name.
    pub name: &'static str,
    /// How many there are.
    pub visitors: u64,
    /// To how many something would happen.
    pub touched: u64,
    /// The share, and its 95 % interval.
    pub share: [f64; 3],
}

/// A visitor to whom something worse would happen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// For `tidegate bots explain`.
    pub reference: String,
    /// As in the journal, hex.
    pub visitor: String,
    /// The score that does most to it.
    pub score: f32,
    /// What happened.
    pub was: Act,
    /// What would.
    pub would: Act,
    /// Units it bought.
    pub sold: u32,
    /// Why, as in the journal.
    pub reasons: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhatIf {
    /// Judged visitors.
    pub visitors: u64,
    /// What happened to them.
    pub was: Counts,
    /// What would.
    pub would: Counts,
    /// To so many something worse.
    pub worse: u64,
    /// Of them bought something: this many, so many units.
    pub worse_buyers: [u64; 2],
    /// To so many something milder.
    pub milder: u64,
    /// Places in the front lane, and how many of them would be in the slow lane or not given.
    pub front_places: [u64; 2],
    /// By group.
    pub slices: Vec<Slice>,
    /// Buyers first, then the highest scores.
    pub examples: Vec<Example>,
}

/// Tells what was and what would be, by the gates that the visitors were judged by.
pub fn what_if(visitors: &[Visitor], examples_max: usize) -> WhatIf {
    let mut out = WhatIf {
        visitors: visitors.len() as u64,
        was: Counts::default(),
        would: Counts::default(),
        worse: 0,
        worse_buyers: [0; 2],
        milder: 0,
        front_places: [0; 2],
        slices: Vec::new(),
        examples: Vec::new(),
    };
    let mut worse: Vec<&Visitor> = Vec::new();
    for v in visitors {
        out.was.add(v.was);
        out.would.add(v.would);
        out.milder += u64::from(v.would < v.was);
        if v.joined == Some(false) {
            out.front_places[0] += 1;
            out.front_places[1] += u64::from(v.leaves);
        }
        if v.would > v.was {
            out.worse_buyers[0] += u64::from(v.sold > 0);
            out.worse_buyers[1] += u64::from(v.sold);
            worse.push(v);
        }
    }
    out.worse = worse.len() as u64;
    worse.sort_by(|a, b| a.told_before(b));
    out.examples = worse.iter().take(examples_max).map(|v| example(v)).collect();
    out.slices = SLICES.iter().enumerate().filter_map(|(i, name)| slice(visitors, i, name)).collect();
    out
}

pub(super) fn example(v: &Visitor) -> Example {
    Example {
        reference: v.reference.to_string(),
        visitor: format!("{:016x}", v.id),
        score: v.decisive,
        was: v.was,
        would: v.would,
        sold: v.sold,
        reasons: v.reasons.clone(),
    }
}

fn slice(visitors: &[Visitor], i: usize, name: &'static str) -> Option<Slice> {
    let of: Vec<&Visitor> = visitors.iter().filter(|v| v.is_in(i)).collect();
    let touched = of.iter().filter(|v| v.would > Act::Nothing).count();
    let share = share(touched, of.len());
    (!of.is_empty()).then_some(Slice { name, visitors: of.len() as u64, touched: touched as u64, share })
}
