//! What a million people in a room cost, and what a key of a quota costs: computed, and seen in this process.

use std::hint::black_box;

use anyhow::Context as _;
use serde::Serialize;
use tidegate_filters::{
    Network, Now, Pipeline, PipelineSettings, Score, Visit, VisitorId, Wants,
    pipeline::Seed,
    rule::visitor_rate::{BYTES_A_KEY, VisitorRate, VisitorRateSettings},
    seats::queue::BYTES_A_PLACE,
    verdict::{Notes, Verdict},
};

use super::process::resident_bytes;

/// People and keys.
pub const PEOPLE: u32 = 1_000_000;
/// What their places may take.
pub const ROOM_BYTES_MAX: u64 = 64 << 20;

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// Who waits, or how many keys are kept apart.
    pub count: u32,
    /// By the sizes of what is stored.
    pub computed: u64,
    /// Growth of this process.
    pub measured: u64,
}

impl Memory {
    /// Measured bytes for one.
    pub fn each(self) -> f64 {
        self.measured as f64 / f64::from(self.count.max(1))
    }
}

/// Lets a million visitors take a place.
pub fn room() -> anyhow::Result<Memory> {
    let settings = PipelineSettings {
        routes: vec![serde_json::from_str(r#"{"name":"shop"}"#)?],
        filters: vec![serde_json::from_str(r#"{"waiting_room":{"room":"drop"}}"#)?],
        rooms: vec![serde_json::from_value(serde_json::json!({ "name": "drop", "arm": "always", "entries_max": PEOPLE }))?],
        ..PipelineSettings::default()
    };
    let now = Now::at(1_800_000_000_000, 1_000);
    let before = resident_bytes()?;
    let pipeline = Pipeline::new(&settings, Seed { hash_key: (1, 2), epoch: 3 }, now);
    // From the first tick on waiting times are shown, and what was promised is kept.
    black_box(pipeline.tick(now));
    let mut waiting = 0u32;
    for person in 0..PEOPLE {
        let decision = pipeline.admit(&visit(person), Score::Known(0.1), now, &mut Notes::default());
        waiting += u32::from(matches!(decision.verdict, Verdict::Wait(w) if w.place.is_some()));
    }
    let measured = resident_bytes()?.saturating_sub(before);
    anyhow::ensure!(waiting == PEOPLE, "only {waiting} of {PEOPLE} got a place");
    black_box(pipeline);
    Ok(Memory { count: PEOPLE, computed: BYTES_A_PLACE as u64 * u64::from(PEOPLE), measured })
}

/// Fills a quota's table with a million keys.
pub fn keys() -> anyhow::Result<Memory> {
    let settings: VisitorRateSettings = serde_json::from_value(
        serde_json::json!({ "name": "n", "key": "visitor", "rate": "1/min", "burst": 10, "keys_max": PEOPLE }),
    )
    .context("settings of a quota")?;
    let now = Now::at(1_800_000_000_000, 1_000);
    let before = resident_bytes()?;
    let quota = VisitorRate::new(&settings, (1, 2));
    for person in 0..PEOPLE {
        black_box(quota.check(&visit(person), 0, now).is_ok());
    }
    let measured = resident_bytes()?.saturating_sub(before);
    black_box(quota);
    Ok(Memory { count: PEOPLE, computed: BYTES_A_KEY as u64 * u64::from(PEOPLE), measured })
}

fn visit(person: u32) -> Visit<'static> {
    Visit {
        method: "GET",
        host: "shop.example",
        path: "/",
        route: Some(0),
        network: Some(Network::new(person.to_be_bytes().into())),
        visitor: Some(VisitorId(u64::from(person).wrapping_mul(0x9e37_79b9_7f4a_7c15))),
        visitor_by_cookie: true,
        wants: Wants::Html,
        ..Visit::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_million_people_fit() {
        let room = room().unwrap();
        assert!(room.computed <= room.measured + room.computed / 2, "{room:?}: nothing was measured");
        assert!(room.measured <= ROOM_BYTES_MAX, "{room:?}");
    }
}
