//! What happened, one line an answer: for the report, and for whoever judges the run afterwards.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::crowd::{Action, AnswerKind, GateVerdict, Kind, Outcome, Scenario};

/// Most events kept; more are counted. About 100 bytes each.
pub const EVENTS_MAX: usize = 1_000_000;

/// One answer, or the lack of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When the request was due, milliseconds since the start.
    pub at_ms: u64,
    /// When it was sent.
    pub sent_ms: u64,
    /// From when it was due to the last byte of the answer.
    pub latency_us: u64,
    /// Of that, how long it was at the shop, as the shop says; `None` where the answer is not the shop's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shop_us: Option<u64>,
    /// Whose.
    pub visitor: u32,
    /// What kind of visitor.
    pub kind: Kind,
    /// What for.
    pub action: Action,
    /// HTTP status; 0 when there was none.
    pub status: u16,
    /// What it meant.
    pub answer: AnswerKind,
    /// The gate's verdict, when it answered itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<GateVerdict>,
    /// Stage in the room.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Place in the room, lane included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<u64>,
    /// The wait it showed, seconds: from, to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_s: Option<(u32, u32)>,
    /// A pass came with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pass: bool,
}

impl Event {
    /// When the answer was complete, milliseconds since the start.
    pub fn done_ms(&self) -> u64 {
        self.at_ms + self.latency_us / 1_000
    }
}

#[cfg(test)]
impl Event {
    /// A person who got an answer, and nothing else to say of it: for tests to change.
    pub(crate) fn of_a_person(visitor: u32, at_ms: u64, action: Action, answer: AnswerKind) -> Event {
        Event {
            at_ms,
            sent_ms: at_ms,
            latency_us: 0,
            shop_us: None,
            visitor,
            kind: Kind::Person,
            action,
            status: 200,
            answer,
            verdict: None,
            state: String::new(),
            place: None,
            wait_s: None,
            pass: false,
        }
    }
}

/// A whole run.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// Name of the scenario.
    pub scenario: String,
    /// When its sale opens, milliseconds since the start.
    pub opens_at_ms: u64,
    /// Seed of the crowd.
    pub seed: u64,
    /// When the run began, Unix milliseconds.
    pub start_unix_ms: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// In the order the answers came.
    pub list: Vec<Event>,
    /// Events above [`EVENTS_MAX`].
    pub dropped: u64,
    /// Why visitors went home.
    pub outcomes: BTreeMap<(Kind, Outcome), u64>,
}

impl Events {
    /// An empty run.
    pub fn new(scenario: &Scenario, seed: u64, start_unix_ms: u64) -> Self {
        Events { scenario: scenario.name.clone(), opens_at_ms: scenario.opens_at.ms(), seed, start_unix_ms, ..Events::default() }
    }

    /// Writes JSON lines: one head with the run's facts, then one line an event.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(std::fs::File::create(path)?);
        let head = serde_json::json!({
            "scenario": self.scenario, "seed": self.seed, "start_unix_ms": self.start_unix_ms,
            "opens_at_ms": self.opens_at_ms, "duration_ms": self.duration_ms, "dropped": self.dropped,
        });
        writeln!(out, "{head}")?;
        for event in &self.list {
            serde_json::to_writer(&mut out, event)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }
}
