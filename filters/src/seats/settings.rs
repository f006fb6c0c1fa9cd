//! A room as an operator writes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{plan::Admission, units::Span};

/// One room of the policy.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoomSettings {
    /// Its name: letters, digits, `-` and `_`. State is carried over a reload by it.
    pub name: String,
    /// How many may be in the shop at the same time, and for how long.
    #[serde(default)]
    pub seats: SeatSettings,
    /// `measured`, or `{ fixed: 120/min }`.
    #[serde(default)]
    pub admission: Admission,
    /// How places are ordered.
    #[serde(default)]
    pub order: Order,
    /// When the room makes people wait.
    #[serde(default)]
    pub arm: Arm,
    /// How long a called visitor is waited for before somebody else is called as well.
    #[serde(default = "claim_window")]
    pub claim_window: Span,
    /// Most places given out between restarts; newcomers after that are told so.
    #[serde(default = "entries_max")]
    pub entries_max: u32,
    /// Share of calls, in percent, that go to the slow lane while both lanes wait.
    #[serde(default = "slow_lane_percent")]
    pub slow_lane_percent: u8,
    /// Status of the waiting page: 200, 202, 429 or 503.
    #[serde(default = "status_while_waiting")]
    pub status_while_waiting: u16,
    /// What happens while the room cannot decide: its state cannot be written down, or is full.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// `seats: { max: 300, pass_idle: 5m, pass_age_max: 20m }`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeatSettings {
    /// Most visitors in the shop at the same time.
    #[serde(default = "seats_max")]
    pub max: u32,
    /// A seat is given back after this long without a visit.
    #[serde(default = "pass_idle")]
    pub pass_idle: Span,
    /// A seat is given back after this long in any case.
    #[serde(default = "pass_age_max")]
    pub pass_age_max: Span,
}

impl Default for SeatSettings {
    fn default() -> Self {
        SeatSettings { max: seats_max(), pass_idle: pass_idle(), pass_age_max: pass_age_max() }
    }
}

fn seats_max() -> u32 {
    1_000
}
fn pass_idle() -> Span {
    Span::secs(300)
}
fn pass_age_max() -> Span {
    Span::secs(1_200)
}
fn claim_window() -> Span {
    Span::secs(120)
}
fn entries_max() -> u32 {
    1_000_000
}
fn slow_lane_percent() -> u8 {
    5
}
fn status_while_waiting() -> u16 {
    200
}

/// How places are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// First come, first served.
    #[default]
    Fifo,
}

/// When the room makes people wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// When tokens or seats run out, and during its sales; visitors walk in otherwise.
    #[default]
    Auto,
    /// Always: everybody takes a place and claims.
    Always,
}

/// What happens when the room cannot decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Newcomers are told to come back; who waits keeps the place, those inside stay.
    #[default]
    Closed,
    /// The line stands still: newcomers still get places, nobody is let in, those inside stay.
    Freeze,
    /// It goes on in memory, and newcomers it has no place for are forwarded under the in-flight limit. What is given out
    /// until the disk works again is lost if the gate is killed. Never for a room with stock.
    OpenBounded,
}
