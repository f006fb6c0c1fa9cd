//! Units set aside for people who came in and have taken none yet: a place is worth a unit however slowly its holder pays.

use std::collections::BTreeMap;

use super::Holder;

/// Most people for whom units are set aside: as many as can be inside.
const RESERVED_MAX: usize = crate::seats::seat::SEATS_MAX as usize;

/// For whom a lot is set aside, and until when, seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Reserved(BTreeMap<Holder, u32>);

impl Reserved {
    pub(super) fn set(&mut self, holder: Holder, until_s: u32) {
        if self.0.len() < RESERVED_MAX {
            self.0.insert(holder, until_s);
        }
    }

    pub(super) fn remove(&mut self, holder: Holder) {
        self.0.remove(&holder);
    }

    /// Forgets whose time is over at `now_s`, and who is gone.
    pub(super) fn expire(&mut self, now_s: u32, gone: impl Fn(Holder) -> bool) {
        self.0.retain(|holder, until_s| *until_s > now_s && !gone(*holder));
    }

    /// People but this one.
    pub(super) fn others(&self, holder: Holder) -> u64 {
        (self.0.len() - usize::from(self.0.contains_key(&holder))) as u64
    }

    pub(super) fn people(&self) -> u64 {
        self.0.len() as u64
    }

    /// When the first of some ends.
    pub(super) fn soonest(&self) -> Option<u32> {
        self.0.values().take(64).min().copied()
    }
}
