//! The journal row as a plain struct: one per parsed request. Written by `models::journal`, read by training, replay and
//! the checkers.

use std::{borrow::Cow, sync::Arc};

use crate::verdict::Reason;

/// What kind of request a row is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A request for the shop.
    #[default]
    Visit,
    /// A poll of a place (`/.tidegate/status`).
    Poll,
    /// A claim (`/.tidegate/claim`).
    Claim,
    /// Leaving a room or giving back a seat.
    Leave,
    /// Any other page or API of ours.
    Own,
    /// What an operator or the schedule did; no request of a visitor.
    Operator,
}

impl Kind {
    /// Stable name, as in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Visit => "visit",
            Kind::Poll => "poll",
            Kind::Claim => "claim",
            Kind::Leave => "leave",
            Kind::Own => "own",
            Kind::Operator => "operator",
        }
    }
}

/// One decision. Units last; hashes are keyed, so a row names nobody. What many rows share is no copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Unix milliseconds at arrival.
    pub at_ms: u64,
    /// Monotonic nanoseconds since the gate's start: orders rows exactly.
    pub mono_ns: u64,
    /// What kind of request.
    pub kind: Kind,
    /// Request method.
    pub method: Cow<'static, str>,
    /// Canonical path, cut to 128 bytes, no query.
    pub path: String,
    /// Route name; empty when none matched.
    pub route: Cow<'static, str>,
    /// Keyed hash of the network (IPv4 whole, IPv6 /64); 0 when unknown.
    pub network: u64,
    /// Keyed hash of the visitor; 0 when unknown.
    pub visitor: u64,
    /// Hash of the connection's and headers' fingerprint.
    pub fingerprint: u64,
    /// JA4 of the TLS hello; `None` without TLS at the gate.
    pub ja4: Option<Arc<str>>,
    /// What an HTTP/2 client said before its first request: settings, window, priorities, order of pseudo-header fields; `None`
    /// for others.
    pub h2: Option<Arc<str>>,
    /// `forward`, `wait`, …: [`crate::Verdict::name`].
    pub verdict: &'static str,
    /// Reason code.
    pub reason: Option<Reason>,
    /// Name of the filter that decided.
    pub filter: Cow<'static, str>,
    /// What a shadow filter would have said: `filter:verdict:REASON`; empty when none.
    pub shadow: String,
    /// What was known for sure, whatever the score: words separated by commas; empty when nothing was.
    pub facts: Cow<'static, str>,
    /// Score in `[0, 1]`; NaN when unknown.
    pub score: f32,
    /// Bot class name; empty when the route is not scored.
    pub class: &'static str,
    /// Top reasons of the score: `CODE=contribution` separated by commas.
    pub score_reasons: String,
    /// Features the score was computed from, in the order of the feature list; empty when not scored.
    pub features: Vec<f32>,
    /// First 8 bytes of the model's SHA-256, hex; empty when not scored.
    pub model: Cow<'static, str>,
    /// Score of the shadow model; NaN when there is none or it said nothing in time.
    pub shadow_score: f32,
    /// First 8 bytes of its SHA-256, hex; empty without one.
    pub shadow_model: Cow<'static, str>,
    /// Room, when one was involved.
    pub room: Cow<'static, str>,
    /// Lane and number of the place: [`crate::seats::queue::Place::to_bits`]; `u64::MAX` when none.
    pub place: u64,
    /// A ticket was given by this very answer.
    pub joined: bool,
    /// Seat index; `u32::MAX` when none.
    pub seat: u32,
    /// Seat generation.
    pub generation: u32,
    /// A pass was given by this very answer.
    pub seated: bool,
    /// Status sent to the client.
    pub status: u16,
    /// Microseconds in the gate's in-flight queue.
    pub queued_us: u32,
    /// Microseconds from forwarding to the shop's first byte; 0 when not forwarded.
    pub shop_us: u32,
    /// Microseconds from parsed head to the end of the answer.
    pub total_us: u32,
    /// Body bytes sent to the client.
    pub bytes: u64,
    /// Units the shop reported sold in this answer.
    pub sold: u32,
    /// Number of the hold the request went to the shop with; `u64::MAX` when none.
    pub hold: u64,
    /// What became of its unit: [`crate::seats::ledger::Outcome::name`]; empty without a hold.
    pub hold_end: &'static str,
    /// First 8 bytes of the policy's SHA-256, hex.
    pub policy: Cow<'static, str>,
}

impl Row {
    /// Nothing is known yet: what stands for "none" in every field, where that is no zero.
    pub fn blank() -> Row {
        Row { score: f32::NAN, shadow_score: f32::NAN, place: u64::MAX, seat: u32::MAX, hold: u64::MAX, ..Row::default() }
    }
}
