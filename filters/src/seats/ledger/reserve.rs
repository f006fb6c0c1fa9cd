//! Units set aside for people who came in and have bought none yet: a place is worth a unit however slowly its holder pays.

use std::collections::BTreeMap;

use super::Holder;

/// Most people for whom units are set aside: as many as can be inside.
const RESERVED_MAX: usize = crate::seats::seat::SEATS_MAX as usize;

/// For whom a lot is set aside.
#[derive(Clone, Debug, Default)]
pub(super) struct Reserved {
    people: BTreeMap<Holder, Aside>,
    /// Those of them who have no hold: a hold is a unit of its own.
    waiting: u64,
}

#[derive(Clone, Copy, Debug)]
struct Aside {
    until_s: u32,
    has_hold: bool,
}

impl Reserved {
    pub(super) fn set(&mut self, holder: Holder, until_s: u32) {
        if self.people.len() < RESERVED_MAX {
            self.remove(holder);
            self.people.insert(holder, Aside { until_s, has_hold: false });
            self.waiting += 1;
        }
    }

    /// One for whom a lot is set aside has longer.
    pub(super) fn longer(&mut self, holder: Holder, until_s: u32) {
        if let Some(aside) = self.people.get_mut(&holder) {
            aside.until_s = aside.until_s.max(until_s);
        }
    }

    pub(super) fn remove(&mut self, holder: Holder) {
        if let Some(aside) = self.people.remove(&holder) {
            self.waiting -= u64::from(!aside.has_hold);
        }
    }

    /// The holder has a hold, or none any more: then the rest of its time counts again.
    pub(super) fn holds(&mut self, holder: Holder, has_hold: bool) {
        if let Some(aside) = self.people.get_mut(&holder).filter(|a| a.has_hold != has_hold) {
            aside.has_hold = has_hold;
            if has_hold { self.waiting -= 1 } else { self.waiting += 1 }
        }
    }

    /// Forgets whose time is over at `now_s`, and who is gone.
    pub(super) fn expire(&mut self, now_s: u32, gone: impl Fn(Holder) -> bool) {
        self.people.retain(|holder, aside| aside.until_s > now_s && !gone(*holder));
        self.waiting = self.people.values().filter(|a| !a.has_hold).count() as u64;
    }

    /// A lot is set aside for this one, and not in a hold.
    pub(super) fn is_for(&self, holder: Holder) -> bool {
        self.people.get(&holder).is_some_and(|a| !a.has_hold)
    }

    /// People with a lot set aside and no hold.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// When the first of some ends.
    pub(super) fn soonest(&self) -> Option<u32> {
        self.people.values().take(64).map(|a| a.until_s).min()
    }
}
