//! The journal, visitor by visitor.

use std::{collections::HashMap, sync::LazyLock};

use tidegate_filters::{
    Reason, Row,
    reference::Reference,
    seats::queue::{Lane, Place},
};

use super::gates::{Act, Gates, Spent};
use crate::features::FEATURES;

/// Most visitors remembered, at about 280 bytes each; later ones are counted, not judged.
pub const VISITORS_MAX: usize = 2_000_000;
/// A network with so many visitors is shared: an office, a school, a mobile carrier.
const SHARED_FROM: u32 = 8;

/// Groups of visitors that must fare alike, by name. Nobody is in all of them.
pub const SLICES: [&str; 9] = [
    "keeps our cookie",
    "drops our cookie",
    "HTTP/2",
    "HTTP/1",
    "says it is a browser",
    "says it is a program",
    "one visit only",
    "shared network",
    "bought something",
];

/// One visitor of the journal.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// Keyed hash, as in the journal.
    pub id: u64,
    /// Keyed hash of the network of the visit that tells most.
    pub network: u64,
    /// Scored visits.
    pub visits: u32,
    /// Highest score.
    pub score: f32,
    /// What the gates would do to it: the strongest of all its visits.
    pub would: Act,
    /// They would send it to the back or away.
    pub leaves: bool,
    /// The score with which they would; the highest where there are several.
    pub decisive: f32,
    /// The decision with that one.
    pub reference: Reference,
    /// Its reasons, as in the journal.
    pub reasons: String,
    /// Units it bought.
    pub sold: u32,
    /// It got a place in a line: in the slow lane?
    pub joined: Option<bool>,
    /// The strongest thing the score did to it when it happened.
    pub was: Act,
    seen: u16,
    spent: Spent,
}

impl Visitor {
    /// Who is told of first: who bought, then who was closest to a program, then in the order of their hashes.
    pub(super) fn told_before(&self, other: &Visitor) -> std::cmp::Ordering {
        let by_sale = (other.sold > 0).cmp(&(self.sold > 0));
        by_sale.then(other.decisive.total_cmp(&self.decisive)).then(self.id.cmp(&other.id))
    }

    /// Belongs to a group, by its index in [`SLICES`].
    pub fn is_in(&self, slice: usize) -> bool {
        self.seen >> slice & 1 == 1
    }
}

/// The score that another model gives to features; `None`: it gives none.
pub type Rescore<'a> = dyn Fn(&[f32]) -> Option<f32> + 'a;

/// All visitors of a journal.
#[derive(Debug, Default)]
pub struct Book {
    gates: Gates,
    by_id: HashMap<u64, Visitor>,
    /// Visits with a score.
    pub scored: u64,
    /// Visits of scored routes without one.
    pub unscored: u64,
    /// Visits of visitors that found no room here.
    pub over: u64,
}

impl Book {
    /// Judges by these gates.
    pub fn new(gates: Gates) -> Book {
        Book { gates, ..Book::default() }
    }

    /// Takes a row. `rescore` gives the score of another model; `None`: the row's own counts.
    pub fn take(&mut self, row: &Row, rescore: Option<&Rescore<'_>>) {
        if row.visitor == 0 || (row.class.is_empty() && row.features.is_empty()) {
            return self.outcome(row);
        }
        let score = match rescore {
            Some(f) if row.features.len() == FEATURES.len() => f(&row.features),
            Some(_) => None,
            None => row.score.is_finite().then_some(row.score),
        };
        let Some(score) = score else {
            self.unscored += 1;
            return self.outcome(row);
        };
        if self.by_id.len() >= VISITORS_MAX && !self.by_id.contains_key(&row.visitor) {
            self.over += 1;
            return;
        }
        self.scored += 1;
        let visitor = self.by_id.entry(row.visitor).or_insert_with(|| Visitor {
            id: row.visitor,
            network: row.network,
            visits: 0,
            score: -1.0,
            would: Act::Nothing,
            leaves: false,
            decisive: -1.0,
            reference: Reference::of(row),
            reasons: String::new(),
            sold: 0,
            joined: None,
            was: Act::Nothing,
            seen: 0,
            spent: Spent::default(),
        });
        visitor.visits += 1;
        visitor.seen |= shown(&row.features);
        visitor.score = visitor.score.max(score);
        let would = self.gates.act(&row.route, score, &mut visitor.spent, row.at_ms);
        visitor.leaves |= matches!(would, Act::SlowLane | Act::Refuse);
        if (would, score) > (visitor.would, visitor.decisive) {
            (visitor.would, visitor.decisive) = (would, score);
            visitor.network = row.network;
            visitor.reference = Reference::of(row);
            visitor.reasons.clone_from(&row.score_reasons);
        }
        visitor.was = visitor.was.max(acted(row));
        self.outcome(row);
    }

    /// What became of a visitor that is known.
    fn outcome(&mut self, row: &Row) {
        let Some(visitor) = self.by_id.get_mut(&row.visitor) else { return };
        visitor.sold += row.sold;
        if row.joined {
            visitor.joined = Place::from_bits(row.place).map(|p| p.lane == Lane::Slow).or(visitor.joined);
        }
    }

    /// Everybody, in the order of their hashes, with the groups that only the whole journal shows.
    pub fn close(self) -> Vec<Visitor> {
        let mut networks: HashMap<u64, u32> = HashMap::new();
        for v in self.by_id.values().filter(|v| v.network != 0) {
            *networks.entry(v.network).or_default() += 1;
        }
        let mut all: Vec<Visitor> = self.by_id.into_values().collect();
        for v in &mut all {
            let shared = networks.get(&v.network).is_some_and(|n| *n >= SHARED_FROM);
            v.seen |= u16::from(v.visits == 1) << 6 | u16::from(shared) << 7 | u16::from(v.sold > 0) << 8;
        }
        all.sort_by_key(|v| v.id);
        all
    }
}

/// What the score did to this very visit.
fn acted(row: &Row) -> Act {
    match (row.reason, row.class) {
        (Some(Reason::ScoreRefuse), _) => Act::Refuse,
        (Some(Reason::ScoreThrottle), _) => Act::Throttle,
        (Some(Reason::ScoreChallenge), _) => Act::Challenge,
        (_, "suspect") => Act::SlowLane,
        _ => Act::Nothing,
    }
}

/// The first six of [`SLICES`], as bits, by what the features of one visit show.
pub fn shown(features: &[f32]) -> u16 {
    static COLUMNS: LazyLock<[Option<usize>; 3]> = LazyLock::new(|| {
        ["known_by_cookie", "http_2", "claims_browser"].map(|name| FEATURES.iter().position(|f| f.name == name))
    });
    let values = COLUMNS.map(|column| column.and_then(|i| features.get(i)).copied().unwrap_or(0.0));
    let bits = values.iter().flat_map(|v| [*v > 0.0, *v < 0.0]);
    bits.enumerate().map(|(i, yes)| u16::from(yes) << i).sum()
}
