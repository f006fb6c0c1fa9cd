//! What must hold, whatever the crowd does. Each rule is a function of its own that reads a [`Log`] and knows nothing of
//! who wrote it: the simulation, or a live gate's journal.

mod accounts;
mod admissions;
mod issued;
mod log;
mod once;
mod order;
mod rows;
mod seats;
mod stock;
mod waiting;

use std::fmt;

pub use self::{
    accounts::{every_request_has_a_row, everybody_is_somewhere},
    admissions::admissions_within_refill,
    issued::only_issued_tokens,
    log::{Accounts, Counts, Event, Log, RoomFacts, What},
    once::one_place_one_pass_one_seat,
    order::no_inversion,
    rows::{LiveRoom, LiveRun, PlanSample, metric_sum, metrics_by_label},
    seats::{live_seats_within_max, nothing_is_kept_for_ever},
    stock::{a_seat_is_worth_a_unit, nobody_seated_when_nothing_is_left, stock_is_never_oversold},
    waiting::nobody_waits_for_ever,
};

/// A rule.
pub type Checker = fn(&Log) -> Vec<Violation>;

/// Violations one rule reports of one log: the first ones say it all.
pub const VIOLATIONS_MAX: usize = 20;

/// All rules, by name.
pub const CHECKERS: [(&str, Checker); 12] = [
    ("admissions_within_refill", admissions_within_refill),
    ("live_seats_within_max", live_seats_within_max),
    ("no_inversion", no_inversion),
    ("everybody_is_somewhere", everybody_is_somewhere),
    ("nobody_waits_for_ever", nobody_waits_for_ever),
    ("one_place_one_pass_one_seat", one_place_one_pass_one_seat),
    ("every_request_has_a_row", every_request_has_a_row),
    ("only_issued_tokens", only_issued_tokens),
    ("nobody_seated_when_nothing_is_left", nobody_seated_when_nothing_is_left),
    ("stock_is_never_oversold", stock_is_never_oversold),
    ("a_seat_is_worth_a_unit", a_seat_is_worth_a_unit),
    ("nothing_is_kept_for_ever", nothing_is_kept_for_ever),
];

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the rule.
    pub rule: &'static str,
    /// Microseconds since the gate's start.
    pub at_us: u64,
    /// The room; empty when it is about the whole gate.
    pub room: String,
    /// What, which place or seat, with the numbers.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = log::At(self.at_us);
        match self.room.as_str() {
            "" => write!(f, "{}: {} (at {at})", self.rule, self.message),
            room => write!(f, "{}: room {room}, at {at}: {}", self.rule, self.message),
        }
    }
}

/// Everything that was broken, rule by rule.
pub fn judge(log: &Log) -> Vec<Violation> {
    CHECKERS.iter().flat_map(|(_, check)| check(log)).collect()
}

/// Collects the violations of one rule in one log.
struct Found<'a> {
    rule: &'static str,
    log: &'a Log,
    list: Vec<Violation>,
}

impl<'a> Found<'a> {
    fn new(rule: &'static str, log: &'a Log) -> Self {
        Found { rule, log, list: Vec::new() }
    }

    fn add(&mut self, room: usize, at_us: u64, message: String) {
        if self.list.len() < VIOLATIONS_MAX {
            let room = self.log.rooms.get(room).map_or(String::new(), |r| r.name.clone());
            self.list.push(Violation { rule: self.rule, at_us, room, message });
        }
    }

    fn add_for_all(&mut self, message: String) {
        let at_us = self.log.events.last().map_or(0, |e| e.at_us);
        self.add(usize::MAX, at_us, message);
    }
}

#[cfg(test)]
mod tests;
