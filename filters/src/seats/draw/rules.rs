//! The rules of a sale as they are published and hashed. After the first entry none of them can change.

use serde::{Deserialize, Serialize};

use super::{
    beacon::{BeaconSettings, Schedule},
    commit::canonical_json,
    weights::Weights,
};
use crate::{rule::bot_gate::BotGateSettings, units::as_written};

/// What a drawn sale promises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// `draw_then_fifo`, `fifo` or `draw_every 10s`.
    pub order: String,
    /// Balls by class.
    pub weights: Weights,
    /// From which scores on somebody is unsure or suspect.
    pub class_thresholds: ClassThresholds,
    /// SHA-256 of the model that scores, hex; `null` without one.
    pub model_sha256: Option<String>,
    /// What one place per person rests on.
    pub identity: Identity,
    /// Above them an entry is `crowded`.
    pub quotas: Quotas,
    /// Units; `null` when not counted.
    pub stock: Option<u64>,
    /// Units one visitor may buy; `null` when not limited.
    pub per_visitor_max: Option<u32>,
    /// Where the public randomness comes from; `null` without one.
    pub beacon: Option<BeaconRule>,
    /// The cancelled sale that is drawn again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redraws: Option<String>,
}

/// From which scores on somebody is unsure or suspect; `null`: nobody is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassThresholds {
    /// Unsure.
    pub challenge_at: Option<f64>,
    /// Suspect.
    pub to_the_back_at: Option<f64>,
}

impl From<&BotGateSettings> for ClassThresholds {
    fn from(s: &BotGateSettings) -> Self {
        ClassThresholds { challenge_at: s.challenge_at.map(as_written), to_the_back_at: s.to_the_back_at.map(as_written) }
    }
}

/// What one place per person rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// The value of this cookie, made by the shop's login.
    Cookie(String),
    /// The value of this header.
    Header(String),
    /// A cookie of the gate that came back once: anybody can have many.
    VisitorCookie,
}

/// Entries of one network above which an entry is `crowded`; `null`: no such quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quotas {
    /// Of one /24 or /64.
    pub per_network: Option<u32>,
    /// Of one /24 or /64 that look alike.
    #[serde(default)]
    pub per_fingerprint: Option<u32>,
    /// At the freeze a network with more than so many times a quota is one crowd, and all its entries are `crowded`; absent:
    /// nobody is whom it was not said at the entry.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub crowd_times: u32,
    /// Leading zero bits of the proof of work above a quota.
    #[serde(default)]
    pub work_bits: u8,
    /// Of all.
    pub entries_max: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The beacon rule as it is hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeaconRule {
    /// Whose rounds.
    pub source: String,
    /// The round that counts is the first at or after the freeze and this many seconds.
    pub delay_s: u64,
}

impl BeaconRule {
    /// As an operator wrote it.
    pub fn of(settings: &BeaconSettings) -> Option<Self> {
        match settings {
            BeaconSettings::None => None,
            BeaconSettings::Rounds(r) => Some(BeaconRule { source: r.source.clone(), delay_s: r.delay.secs_ceil() }),
        }
    }

    /// The round that counts for a list frozen at this Unix second; `None` when the source is not known.
    pub fn round(&self, frozen_at: u64) -> Option<u64> {
        Some(Schedule::of(&self.source)?.round_at(frozen_at.saturating_add(self.delay_s)))
    }
}

impl Rules {
    /// RFC 8785 JSON, what is hashed.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        canonical_json(self)
    }
}
