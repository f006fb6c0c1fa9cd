//! Other thresholds, or another model, on a journal: who would newly be stopped.

use serde::Serialize;
use tidegate_filters::rule::bot_gate::BotGateSettings;

use super::book::{SLICES, Visitor};
use crate::bots::evaluate::wilson;

/// What a score does to a visit, weakest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Nothing.
    #[default]
    Nothing,
    /// The challenge.
    Challenge,
    /// The slow lane, or a small weight in the draw.
    SlowLane,
    /// Refused.
    Refuse,
}

/// Where a score begins to do something; `None`: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Thresholds {
    /// From here on: the challenge.
    pub challenge_at: Option<f32>,
    /// From here on: the slow lane.
    pub to_the_back_at: Option<f32>,
    /// From here on: refused.
    pub refuse_at: Option<f32>,
}

impl Thresholds {
    /// Of a policy's bot gate.
    pub fn of(gate: &BotGateSettings) -> Thresholds {
        Thresholds { challenge_at: gate.challenge_at, to_the_back_at: gate.to_the_back_at, refuse_at: gate.refuse_at }
    }

    /// As the bot gate acts: the strongest that the score reaches.
    pub fn act(&self, score: f32) -> Act {
        let reaches = |at: Option<f32>| at.is_some_and(|at| score >= at);
        if reaches(self.refuse_at) {
            Act::Refuse
        } else if reaches(self.to_the_back_at) {
            Act::SlowLane
        } else if reaches(self.challenge_at) {
            Act::Challenge
        } else {
            Act::Nothing
        }
    }

    /// As in a policy: no action begins above a stronger one.
    pub fn in_order(&self) -> Result<(), String> {
        let named = [("challenge_at", self.challenge_at), ("to_the_back_at", self.to_the_back_at), ("refuse_at", self.refuse_at)];
        let set: Vec<(&str, f32)> = named.into_iter().filter_map(|(name, at)| Some((name, at?))).collect();
        match set.windows(2).find(|w| w[0].1 > w[1].1) {
            Some(w) => Err(format!(
                "{} ({}) is above {} ({}): the order is challenge_at ≤ to_the_back_at ≤ refuse_at",
                w[0].0, w[0].1, w[1].0, w[1].1
            )),
            None => Ok(()),
        }
    }

    /// Those that are set.
    pub fn set(&self) -> impl Iterator<Item = f32> {
        [self.challenge_at, self.to_the_back_at, self.refuse_at].into_iter().flatten()
    }
}

/// Visitors by what happens to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Nothing happens to them.
    pub nothing: u64,
    /// Challenged.
    pub challenge: u64,
    /// To the slow lane.
    pub slow_lane: u64,
    /// Refused.
    pub refuse: u64,
}

impl Counts {
    fn add(&mut self, act: Act) {
        *match act {
            Act::Nothing => &mut self.nothing,
            Act::Challenge => &mut self.challenge,
            Act::SlowLane => &mut self.slow_lane,
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
    /// Highest score.
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

/// Judges every visitor by its highest score.
pub fn what_if(visitors: &[Visitor], thresholds: &Thresholds, examples_max: usize) -> WhatIf {
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
    let mut worse: Vec<(&Visitor, Act)> = Vec::new();
    for v in visitors {
        let would = thresholds.act(v.score);
        out.was.add(v.was);
        out.would.add(would);
        out.milder += u64::from(would < v.was);
        if v.joined == Some(false) {
            out.front_places[0] += 1;
            out.front_places[1] += u64::from(would >= Act::SlowLane);
        }
        if would > v.was {
            out.worse_buyers[0] += u64::from(v.sold > 0);
            out.worse_buyers[1] += u64::from(v.sold);
            worse.push((v, would));
        }
    }
    out.worse = worse.len() as u64;
    worse.sort_by(|(a, _), (b, _)| (b.sold > 0).cmp(&(a.sold > 0)).then(b.score.total_cmp(&a.score)).then(a.id.cmp(&b.id)));
    out.examples = worse.iter().take(examples_max).map(|(v, would)| example(v, *would)).collect();
    out.slices = SLICES.iter().enumerate().filter_map(|(i, name)| slice(visitors, thresholds, i, name)).collect();
    out
}

fn example(v: &Visitor, would: Act) -> Example {
    Example {
        reference: v.reference.to_string(),
        visitor: format!("{:016x}", v.id),
        score: v.score,
        was: v.was,
        would,
        sold: v.sold,
        reasons: v.reasons.clone(),
    }
}

fn slice(visitors: &[Visitor], thresholds: &Thresholds, i: usize, name: &'static str) -> Option<Slice> {
    let of: Vec<&Visitor> = visitors.iter().filter(|v| v.is_in(i)).collect();
    let touched = of.iter().filter(|v| thresholds.act(v.score) > Act::Nothing).count();
    let (low, high) = wilson(touched, of.len());
    let share = touched as f64 / of.len().max(1) as f64;
    (!of.is_empty()).then_some(Slice { name, visitors: of.len() as u64, touched: touched as u64, share: [share, low, high] })
}
