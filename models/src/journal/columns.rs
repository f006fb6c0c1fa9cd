//! The one definition of the journal's columns: name, type, unit, meaning, and how a [`Row`] gives and takes the value.

use serde::{Deserialize, de::value};
use tidegate_filters::{Reason, Row, record::Kind};

/// A column of the journal.
#[derive(Debug)]
pub struct Column {
    /// Name in the file.
    pub name: &'static str,
    /// Unit; `-` when it has none.
    pub unit: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Type and access.
    pub cell: Cell,
}

type Get<T> = fn(&Row) -> T;
type Set<T> = fn(&mut Row, T);

/// Type of a column with its getter and setter. The last field of the numbers is the value that stands for "none" and is
/// stored as null.
#[derive(Debug)]
pub enum Cell {
    /// Unsigned 64-bit.
    U64(Get<u64>, Set<u64>, Option<u64>),
    /// Unsigned 32-bit; narrower fields saturate.
    U32(Get<u32>, Set<u32>, Option<u32>),
    /// Yes or no.
    Bool(Get<bool>, Set<bool>),
    /// 32-bit float; NaN is null.
    F32(Get<f32>, Set<f32>),
    /// UTF-8; the setter says whether it knows the word.
    Text(fn(&Row) -> &str, fn(&mut Row, &str) -> bool),
    /// A list of 32-bit floats (one repeated field), empty when there is nothing.
    Floats(fn(&Row) -> &[f32], Set<Vec<f32>>),
}

impl Cell {
    /// The type as documentation writes it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Cell::U64(_, _, None) => "uint64",
            Cell::U64(..) => "uint64 or null",
            Cell::U32(_, _, None) => "uint32",
            Cell::U32(..) => "uint32 or null",
            Cell::Bool(..) => "boolean",
            Cell::F32(..) => "float or null",
            Cell::Text(..) => "string",
            Cell::Floats(..) => "list of float",
        }
    }
}

const fn column(name: &'static str, unit: &'static str, cell: Cell, doc: &'static str) -> Column {
    Column { name, unit, doc, cell }
}

/// Every column, in file order.
pub static COLUMNS: [Column; 38] = [
    column("at_ms", "unix ms", Cell::U64(|r| r.at_ms, |r, v| r.at_ms = v, None), "arrival, wall clock"),
    column(
        "mono_ns",
        "ns",
        Cell::U64(|r| r.mono_ns, |r, v| r.mono_ns = v, None),
        "arrival since the gate's start; orders rows exactly",
    ),
    column("kind", "-", Cell::Text(|r| r.kind.name(), set_kind), "`visit`, `poll`, `claim`, `leave`, `own` or `operator`"),
    column("method", "-", Cell::Text(|r| &r.method, |r, v| keep(&mut r.method, v)), "request method"),
    column(
        "path",
        "-",
        Cell::Text(|r| &r.path, |r, v| keep(&mut r.path, v)),
        "canonical path, cut to 128 bytes, no query; of method PLAN the reason of a plan in words",
    ),
    column("route", "-", Cell::Text(|r| &r.route, |r, v| keep(&mut r.route, v)), "route name; empty when none matched"),
    column("network", "-", Cell::U64(|r| r.network, |r, v| r.network = v, None), "keyed hash of the network; 0 when unknown"),
    column("visitor", "-", Cell::U64(|r| r.visitor, |r, v| r.visitor = v, None), "keyed hash of the visitor; 0 when unknown"),
    column(
        "fingerprint",
        "-",
        Cell::U64(|r| r.fingerprint, |r, v| r.fingerprint = v, None),
        "hash of the connection's and headers' fingerprint",
    ),
    column(
        "ja4",
        "-",
        Cell::Text(|r| r.ja4.as_deref().unwrap_or(""), set_ja4),
        "JA4 of the TLS hello; empty without TLS at the gate",
    ),
    column(
        "h2",
        "-",
        Cell::Text(|r| r.h2.as_deref().unwrap_or(""), set_h2),
        "what an HTTP/2 client said first: settings|window|priorities|order of pseudo-header fields; empty for others",
    ),
    column("verdict", "-", Cell::Text(|r| r.verdict, |r, v| known(&mut r.verdict, &VERDICTS, v)), "what the gate did"),
    column("reason", "-", Cell::Text(|r| r.reason.map_or("", Reason::code), set_reason), "stable reason code; empty when none"),
    column("filter", "-", Cell::Text(|r| &r.filter, |r, v| keep(&mut r.filter, v)), "filter that decided; empty when none did"),
    column(
        "shadow",
        "-",
        Cell::Text(|r| &r.shadow, |r, v| keep(&mut r.shadow, v)),
        "what a shadow filter would have said: `filter:verdict:REASON`",
    ),
    column(
        "facts",
        "-",
        Cell::Text(|r| &r.facts, |r, v| keep(&mut r.facts, v)),
        "what was known for sure, separated by commas: `honeypot` (asked for its path now), `trapped` (did so before), …",
    ),
    column("score", "probability", Cell::F32(|r| r.score, |r, v| r.score = v), "that the visit is automated; null when unknown"),
    column("class", "-", Cell::Text(|r| r.class, |r, v| known(&mut r.class, &CLASSES, v)), "bot class; empty when not scored"),
    column(
        "score_reasons",
        "-",
        Cell::Text(|r| &r.score_reasons, |r, v| keep(&mut r.score_reasons, v)),
        "top reasons of the score, `CODE=contribution`, separated by commas",
    ),
    column(
        "features",
        "see features",
        Cell::Floats(|r| &r.features, |r, v| r.features = v),
        "what the score was computed from, in the order of the feature list; empty when not scored",
    ),
    column("model", "hex", Cell::Text(|r| &r.model, |r, v| keep(&mut r.model, v)), "first 8 bytes of the model's SHA-256"),
    column(
        "shadow_score",
        "probability",
        Cell::F32(|r| r.shadow_score, |r, v| r.shadow_score = v),
        "by the shadow model; null without one, or when it said nothing in time",
    ),
    column(
        "shadow_model",
        "-",
        Cell::Text(|r| &r.shadow_model, |r, v| keep(&mut r.shadow_model, v)),
        "first 8 bytes of the shadow model's SHA-256, hex; empty without one",
    ),
    column("room", "-", Cell::Text(|r| &r.room, |r, v| keep(&mut r.room, v)), "room, when one was involved"),
    column(
        "place",
        "-",
        Cell::U64(|r| r.place, |r, v| r.place = v, Some(u64::MAX)),
        "lane and number of the place; null when none",
    ),
    column("joined", "-", Cell::Bool(|r| r.joined, |r, v| r.joined = v), "this very answer gave a ticket"),
    column("seat", "-", Cell::U32(|r| r.seat, |r, v| r.seat = v, Some(u32::MAX)), "seat index; null when none"),
    column("generation", "-", Cell::U32(|r| r.generation, |r, v| r.generation = v, None), "generation of the seat"),
    column("seated", "-", Cell::Bool(|r| r.seated, |r, v| r.seated = v), "this very answer gave a pass"),
    column("status", "-", Cell::U32(|r| u32::from(r.status), set_status, None), "status sent to the client"),
    column("queued_us", "us", Cell::U32(|r| r.queued_us, |r, v| r.queued_us = v, None), "time in the gate's in-flight queue"),
    column(
        "shop_us",
        "us",
        Cell::U32(|r| r.shop_us, |r, v| r.shop_us = v, None),
        "from forwarding to the shop's first byte; 0 when not forwarded",
    ),
    column("total_us", "us", Cell::U32(|r| r.total_us, |r, v| r.total_us = v, None), "from parsed head to the end of the answer"),
    column("bytes", "bytes", Cell::U64(|r| r.bytes, |r, v| r.bytes = v, None), "body sent to the client"),
    column("sold", "units", Cell::U32(|r| r.sold, |r, v| r.sold = v, None), "units the shop reported sold in this answer"),
    column(
        "hold",
        "-",
        Cell::U64(|r| r.hold, |r, v| r.hold = v, Some(u64::MAX)),
        "number of the unit of stock that went to the shop with it; null when none",
    ),
    column(
        "hold_end",
        "-",
        Cell::Text(|r| r.hold_end, |r, v| known(&mut r.hold_end, &HOLD_ENDS, v)),
        "what became of it: `sold`, `not_sold`, `not_sent` or `lost`; empty when none",
    ),
    column("policy", "hex", Cell::Text(|r| &r.policy, |r, v| keep(&mut r.policy, v)), "first 8 bytes of the policy's SHA-256"),
];

const KINDS: [Kind; 6] = [Kind::Visit, Kind::Poll, Kind::Claim, Kind::Leave, Kind::Own, Kind::Operator];
const VERDICTS: [&str; 8] = ["", "forward", "wait", "challenge", "throttle", "refuse", "sold_out", "own"];
const HOLD_ENDS: [&str; 5] = ["", "sold", "not_sold", "not_sent", "lost"];
const CLASSES: [&str; 4] = ["", "human", "unsure", "suspect"];

fn keep(field: &mut impl From<String>, v: &str) -> bool {
    *field = v.to_owned().into();
    true
}

fn known(field: &mut &'static str, words: &[&'static str], v: &str) -> bool {
    words.iter().find(|w| **w == v).map(|w| *field = w).is_some()
}

fn set_kind(r: &mut Row, v: &str) -> bool {
    KINDS.into_iter().find(|k| k.name() == v).map(|k| r.kind = k).is_some()
}

fn set_reason(r: &mut Row, v: &str) -> bool {
    r.reason = None;
    v.is_empty() || {
        r.reason = Reason::deserialize(value::StrDeserializer::<value::Error>::new(v)).ok();
        r.reason.is_some()
    }
}

fn set_ja4(r: &mut Row, v: &str) -> bool {
    r.ja4 = (!v.is_empty()).then(|| v.into());
    true
}

fn set_h2(r: &mut Row, v: &str) -> bool {
    r.h2 = (!v.is_empty()).then(|| v.into());
    true
}

fn set_status(r: &mut Row, v: u32) {
    r.status = u16::try_from(v).unwrap_or(u16::MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_documented() {
        for (i, c) in COLUMNS.iter().enumerate() {
            assert!(!c.doc.is_empty() && !c.unit.is_empty(), "{}", c.name);
            assert!(COLUMNS[..i].iter().all(|o| o.name != c.name), "{} twice", c.name);
        }
    }

    #[test]
    fn words_come_back_and_strange_ones_are_refused() {
        let mut r = Row::default();
        for reason in [Reason::NoObjection, Reason::ScoreToTheBack, Reason::Redirect, Reason::Unscored, Reason::ShopBusy] {
            assert!(set_reason(&mut r, reason.code()));
            assert_eq!(r.reason, Some(reason));
        }
        assert!(!set_reason(&mut r, "FULL_MOON"));
        assert!(set_reason(&mut r, "") && r.reason.is_none());
        for k in KINDS {
            assert!(set_kind(&mut r, k.name()) && r.kind == k);
        }
        assert!(!set_kind(&mut r, "guess"));
        assert!(known(&mut r.verdict, &VERDICTS, "sold_out") && r.verdict == "sold_out");
        assert!(!known(&mut r.verdict, &VERDICTS, "maybe"));
    }
}
