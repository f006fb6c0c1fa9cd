//! What many visitors do together, for each network and each fingerprint, in fixed memory: two count-min sketches over the
//! last 10 to 20 seconds. They see programs that use every address once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Length of one epoch. A count covers the running epoch and the fading rest of the one before.
const EPOCH_NS: u64 = 10_000_000_000;
const ROWS: usize = 2;
const WIDTH: usize = 8192;

/// Counts of one group over the last 10 to 20 seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Group {
    /// Visits.
    pub(super) visits: f32,
    /// Visitors that were not known before.
    pub(super) fresh: f32,
    /// Visits for assets.
    pub(super) assets: f32,
}

/// The three groups a visit belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Around {
    pub(super) network: Group,
    pub(super) fingerprint: Group,
    pub(super) site: Group,
}

pub(super) struct Crowd {
    networks: Sketch,
    fingerprints: Sketch,
    site: Cell,
}

impl Crowd {
    pub(super) fn new() -> Self {
        Crowd { networks: Sketch::new(), fingerprints: Sketch::new(), site: Cell::default() }
    }

    /// Counts a visit and tells what its groups look like with it.
    pub(super) fn observe(&self, network: u64, fingerprint: u64, fresh: bool, asset: bool, now_ns: u64) -> Around {
        let instant = Instant { epoch: now_ns / EPOCH_NS, fade: 1.0 - (now_ns % EPOCH_NS) as f32 / EPOCH_NS as f32 };
        Around {
            network: self.networks.observe(network, fresh, asset, instant),
            fingerprint: self.fingerprints.observe(fingerprint, fresh, asset, instant),
            site: self.site.observe(fresh, asset, instant),
        }
    }

    pub(super) const BYTES: usize = 2 * ROWS * WIDTH * size_of::<Cell>() + size_of::<Cell>();
}

#[derive(Clone, Copy)]
struct Instant {
    epoch: u64,
    /// Weight of the epoch before, 1 down to 0.
    fade: f32,
}

struct Sketch(Box<[Cell]>);

impl Sketch {
    fn new() -> Self {
        Sketch((0..ROWS * WIDTH).map(|_| Cell::default()).collect())
    }

    /// Key 0 is "unknown": no group, nothing counted.
    fn observe(&self, key: u64, fresh: bool, asset: bool, at: Instant) -> Group {
        if key == 0 {
            return Group::default();
        }
        let (a, b) = (super::table::mix(key), super::table::mix(key ^ 0x9e37_79b9_7f4a_7c15));
        let one = self.0[a as usize % WIDTH].observe(fresh, asset, at);
        let two = self.0[WIDTH + b as usize % WIDTH].observe(fresh, asset, at);
        // The row that collided less; its three counts belong together.
        if one.visits <= two.visits { one } else { two }
    }
}

/// Three counters of one line of memory.
#[derive(Default)]
#[repr(align(32))]
struct Cell {
    visits: Count,
    fresh: Count,
    assets: Count,
}

impl Cell {
    fn observe(&self, fresh: bool, asset: bool, at: Instant) -> Group {
        Group {
            visits: self.visits.add(1, at),
            fresh: self.fresh.add(u64::from(fresh), at),
            assets: self.assets.add(u64::from(asset), at),
        }
    }
}

/// 16 bits of epoch, 24 of the count before, 24 of the running count: rotation needs no sweep.
#[derive(Default)]
struct Count(AtomicU64);

const MASK: u64 = (1 << 24) - 1;

impl Count {
    fn add(&self, n: u64, at: Instant) -> f32 {
        let epoch = at.epoch & 0xffff;
        let step = |word: u64| {
            let (was, before, running) = (word >> 48, word >> 24 & MASK, word & MASK);
            let (before, running) = match epoch.wrapping_sub(was) & 0xffff {
                0 => (before, running),
                1 => (running, 0),
                // A straggler of the epoch before counts into the running one.
                0xffff => return (was, before, (running + n).min(MASK)),
                _ => (0, 0),
            };
            (epoch, before, (running + n).min(MASK))
        };
        let pack = |(epoch, before, running): (u64, u64, u64)| epoch << 48 | before << 24 | running;
        let old = self.0.load(Relaxed);
        let mut new = step(old);
        // Without an increment nothing must be stored: reading is enough.
        if n > 0 {
            let mut old = old;
            while let Err(seen) = self.0.compare_exchange_weak(old, pack(new), Relaxed, Relaxed) {
                old = seen;
                new = step(old);
            }
        }
        new.2 as f32 + new.1 as f32 * at.fade
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn groups_are_counted_apart_and_fade() {
        let c = Crowd::new();
        for i in 0..1000 {
            c.observe(1 + i % 10, 77, true, false, 5 * S);
        }
        let a = c.observe(3, 77, false, true, 5 * S);
        assert_eq!(a.network, Group { visits: 101.0, fresh: 100.0, assets: 1.0 });
        assert_eq!((a.fingerprint.visits, a.site.visits), (1001.0, 1001.0));
        let half = c.observe(3, 78, false, false, 15 * S);
        assert!((half.network.visits - (1.0 + 101.0 * 0.5)).abs() < 0.01, "{half:?}");
        assert_eq!(half.fingerprint.visits, 1.0);
        let later = c.observe(3, 77, false, false, 60 * S);
        assert_eq!(later.network.visits, 1.0);
    }

    #[test]
    fn unknown_groups_count_nothing() {
        let c = Crowd::new();
        assert_eq!(c.observe(0, 0, true, true, S).network, Group::default());
        assert_eq!(c.observe(0, 0, true, true, S).site.visits, 2.0);
    }

    #[test]
    fn threads_lose_no_count() {
        let c = Crowd::new();
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..5000).for_each(|_| assert!(c.observe(5, 6, false, false, S).site.visits > 0.0)));
            }
        });
        assert_eq!(c.observe(5, 6, false, false, S).network.visits, 20_001.0);
    }
}
