//! The time that a restart goes on after.

use super::{Batch, Commit, Store, Table};
use crate::clock::{Clock, Kept};

/// Written this often, milliseconds.
pub const TIME_EVERY_MS: u64 = 5_000;

const TIME: Table<'static> = Table { kind: "time", of: "" };

/// What an earlier life kept. One that cannot be read is none: the system's clock is believed.
pub fn kept_time(store: &dyn Store) -> Option<Kept> {
    let mut kept = None;
    let scanned = store.scan(TIME, &mut |_, value| kept = serde_json::from_slice(value).ok());
    scanned.ok().and(kept)
}

/// Writes the time down; it is independent of everything else.
pub fn keep_time(store: &dyn Store, clock: &Clock) -> Commit {
    let mut batch = Batch::new();
    batch.put(TIME, b"last", serde_json::to_vec(&clock.keep()).unwrap_or_default());
    store.commit(batch)
}
