//! A room as an operator writes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::draw::{beacon::BeaconSettings, weights::Weights};
pub use super::page::PageSettings;
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
    /// How places are ordered. Left out: drawn where `state` and `keys` are set and every sale of the room has a pre-queue
    /// longer than `freeze_before`, else first come, first served.
    #[serde(default)]
    pub order: Order,
    /// Balls of an entry in the draw's drum, by its class; published with the sale.
    #[serde(default)]
    pub weights: Weights,
    /// Public randomness of the draw: `none`, or `{ source: drand-quicknet, delay: 10s }`.
    #[serde(default)]
    pub beacon: BeaconSettings,
    /// Who counts as one person in a draw.
    #[serde(default)]
    pub visitor: VisitorSettings,
    /// Entries stop this long before the opening, so that places are drawn and known when it comes.
    #[serde(default = "freeze_before")]
    pub freeze_before: Span,
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
    /// Status for crawlers, `HEAD`, `OPTIONS` and prefetches while people wait: 503 (default), 429, 202 or 200.
    #[serde(default = "status_for_crawlers")]
    pub status_for_crawlers: u16,
    /// Bypasses that are not good any more, by the id that making them printed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked_bypasses: Vec<String>,
    /// The waiting page.
    #[serde(default)]
    pub page: PageSettings,
    /// What a ticket or pass is bound to: used from elsewhere it is challenged, never lost.
    #[serde(default)]
    pub binding: Binding,
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
fn freeze_before() -> Span {
    Span::secs(60)
}
fn slow_lane_percent() -> u8 {
    5
}
fn status_for_crawlers() -> u16 {
    503
}
fn status_while_waiting() -> u16 {
    200
}

/// How places are ordered: `fifo`, `draw_then_fifo` or `{ draw_every: 10s }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// First come, first served.
    #[default]
    Fifo,
    /// Who comes before a sale's freeze is drawn; later visitors follow in the order they come.
    DrawThenFifo,
    /// During a sale the arrivals of each such time are drawn, so milliseconds never decide.
    DrawEvery(Span),
}

impl Order {
    /// Whether places are drawn.
    pub fn is_drawn(self) -> bool {
        self != Order::Fifo
    }

    /// Length of a window, where it is drawn window by window.
    pub fn window_ms(self) -> Option<u64> {
        match self {
            Order::DrawEvery(span) => Some(span.ms()),
            Order::Fifo | Order::DrawThenFifo => None,
        }
    }
}

/// `visitor: { key: { cookie: shop_login }, entries_per_network: 8, entries_max: 2000000 }`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VisitorSettings {
    /// What one entry per person rests on; the gate's own visitor cookie when left out, of which anybody can have many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<VisitorKey>,
    /// Above as many of one network (IPv4 /24, IPv6 /64) an entry needs proof of work and weighs only `weights.crowded`; no
    /// such quota when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries_per_network: Option<u32>,
    /// The same for as many of one network that also look alike: same TLS hello, same headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries_per_fingerprint: Option<u32>,
    /// At the freeze a network with more than so many times a quota is one crowd: who of it came first weighs no more than
    /// who came last. 0: never.
    #[serde(default = "crowd_times")]
    pub crowd_times: u32,
    /// The work above a quota: a number whose hash has as many leading zero bits, so 2 to that power hashes on average. 18
    /// takes a phone some seconds; 0: none.
    #[serde(default = "work_bits")]
    pub work_bits: u8,
    /// Most entries of one draw; who comes then follows in the order of arrival. The room's `entries_max` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries_max: Option<u32>,
}

impl VisitorSettings {
    /// Whether anything bounds how many entries count in full.
    pub fn has_quota(&self) -> bool {
        self.entries_per_network.is_some() || self.entries_per_fingerprint.is_some()
    }

    /// [`VisitorSettings::crowd_times`] where there is a quota for it to be a multiple of.
    pub fn crowd_times_in_force(&self) -> u32 {
        if self.has_quota() { self.crowd_times } else { 0 }
    }
}

impl Default for VisitorSettings {
    fn default() -> Self {
        VisitorSettings {
            key: None,
            entries_per_network: None,
            entries_per_fingerprint: None,
            crowd_times: crowd_times(),
            work_bits: work_bits(),
            entries_max: None,
        }
    }
}

fn crowd_times() -> u32 {
    4
}
fn work_bits() -> u8 {
    18
}

/// Where the shop's login puts the name of a person: `{ cookie: NAME }` or `{ header: NAME }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VisitorKey {
    /// A cookie.
    Cookie(String),
    /// A request header, set by a trusted proxy or an app.
    Header(String),
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

/// What tickets and passes are bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// Nothing: networks change while people wait.
    #[default]
    None,
    /// The network they were given to: IPv4 /24, IPv6 /64.
    Network,
    /// The TLS hello of the program they were given to.
    Tls,
    /// The name the shop's login gives (`visitor.key`).
    Key,
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
