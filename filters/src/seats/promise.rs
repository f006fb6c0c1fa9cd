//! Kept promises: whether the real wait fell into the interval that the visitor was shown first.

use std::sync::OnceLock;

use super::{
    queue::{PLACES_MAX, Place},
    sync::{AtomicU64, Ordering},
};

/// Places a segment: 64 KiB, allocated when the first of them is shown an interval.
const SEGMENT: usize = 1 << 13;

type Segment = Box<[AtomicU64]>;

/// What was promised, by place: `earliest << 32 | latest`, seconds of the room's clock; 0: nothing yet.
#[derive(Debug)]
pub(super) struct Promises {
    lanes: [Box<[OnceLock<Segment>]>; 2],
    made: AtomicU64,
    kept: AtomicU64,
}

impl Default for Promises {
    fn default() -> Self {
        let lane = || (0..PLACES_MAX as usize / SEGMENT).map(|_| OnceLock::new()).collect();
        Promises { lanes: [lane(), lane()], made: AtomicU64::new(0), kept: AtomicU64::new(0) }
    }
}

impl Promises {
    /// The first interval a place was shown counts; later ones do not.
    pub(super) fn make(&self, place: Place, now_s: u32, wait_s: (u32, u32)) {
        let n = place.number as usize;
        let Some(segment) = self.lanes[place.lane as usize].get(n / SEGMENT) else { return };
        let segment = segment.get_or_init(|| (0..SEGMENT).map(|_| AtomicU64::new(0)).collect());
        let (low, high) = (now_s.saturating_add(wait_s.0), now_s.saturating_add(wait_s.1));
        let word = u64::from(low) << 32 | u64::from(high);
        let _ = segment[n % SEGMENT].compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The place was called while its holder was there.
    pub(super) fn settle(&self, place: Place, now_s: u32) {
        let n = place.number as usize;
        let segment = self.lanes[place.lane as usize].get(n / SEGMENT).and_then(OnceLock::get);
        let Some(word) = segment.map(|s| s[n % SEGMENT].swap(0, Ordering::Relaxed)).filter(|w| *w != 0) else { return };
        self.made.fetch_add(1, Ordering::Relaxed);
        if ((word >> 32) as u32..=word as u32).contains(&now_s) {
            self.kept.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Promises whose end is known, and those of them that were kept.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.made.load(Ordering::Relaxed), self.kept.load(Ordering::Relaxed))
    }
}

#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod tests {
    use super::*;
    use crate::seats::queue::Lane;

    #[test]
    fn only_the_first_interval_counts_and_each_once() {
        let p = Promises::default();
        let place = |number| Place { lane: Lane::Main, number };
        p.make(place(1), 100, (10, 20));
        p.make(place(1), 100, (500, 600));
        p.settle(place(1), 120);
        p.settle(place(1), 120);
        assert_eq!(p.counts(), (1, 1));
        p.make(place(2), 100, (10, 20));
        p.settle(place(2), 121);
        p.make(place(100_000), 100, (10, 20));
        p.settle(place(100_000), 109);
        p.settle(place(7), 100);
        p.make(place(u32::MAX), 0, (0, 0));
        assert_eq!(p.counts(), (3, 1), "one second late or early is not kept");
    }
}
