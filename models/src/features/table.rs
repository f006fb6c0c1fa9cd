//! A table of visitors in fixed memory: sets of eight, the least recently seen of a full set makes room.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::window::Window;

const WAYS: usize = 8;
const SHARDS: usize = 64;

pub(super) struct Table {
    shards: Box<[Mutex<Box<[Set]>>]>,
    sets_per_shard: u64,
}

#[derive(Clone, Default)]
struct Set {
    /// 0: free.
    keys: [u64; WAYS],
    windows: [Window; WAYS],
}

impl Table {
    /// Room for at least `visitors_max`, all of it taken now.
    pub(super) fn new(visitors_max: usize) -> Self {
        let sets = visitors_max.div_ceil(WAYS * SHARDS).max(1);
        let shards = (0..SHARDS).map(|_| Mutex::new(vec![Set::default(); sets].into_boxed_slice())).collect();
        Table { shards, sets_per_shard: sets as u64 }
    }

    /// Runs `step` on a visitor's window; `true` when it was not known. Key 0 must not be asked for.
    pub(super) fn with<T>(&self, key: u64, step: impl FnOnce(&mut Window, bool) -> T) -> T {
        let (mut shard, set) = self.locate(key);
        let set = &mut shard[set];
        match set.keys.iter().position(|k| *k == key) {
            Some(way) => step(&mut set.windows[way], false),
            None => {
                let way = set.free_way();
                set.keys[way] = key;
                set.windows[way] = Window::default();
                step(&mut set.windows[way], true)
            }
        }
    }

    /// Runs `step` on the window of a visitor that is known.
    pub(super) fn with_known(&self, key: u64, step: impl FnOnce(&mut Window)) {
        let (mut shard, set) = self.locate(key);
        let set = &mut shard[set];
        if let Some(way) = set.keys.iter().position(|k| *k == key) {
            step(&mut set.windows[way]);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.shards.len() * self.sets_per_shard as usize * size_of::<Set>()
    }

    pub(super) const BYTES_PER_VISITOR: usize = size_of::<Set>() / WAYS;

    fn locate(&self, key: u64) -> (MutexGuard<'_, Box<[Set]>>, usize) {
        let h = mix(key);
        let shard = (h >> 58) as usize % SHARDS;
        let set = ((h << 6) as u128 * u128::from(self.sets_per_shard)) >> 64;
        // A panic under the lock leaves numbers, not broken structure.
        (self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner), set as usize)
    }
}

impl Set {
    fn free_way(&self) -> usize {
        let age = |way: &usize| if self.keys[*way] == 0 { 0 } else { self.windows[*way].last_ns().max(1) };
        (0..WAYS).min_by_key(age).unwrap_or(0)
    }
}

/// Spreads a key over all 64 bits (the finaliser of SplitMix64).
pub(crate) fn mix(mut h: u64) -> u64 {
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::facts::VisitFacts;

    fn visit(t: &Table, key: u64, at: u64) -> bool {
        t.with(key, |w, fresh| {
            w.observe(&VisitFacts::default(), at);
            fresh
        })
    }

    #[test]
    fn memory_does_not_grow_and_the_oldest_go_first() {
        let t = Table::new(10_000);
        let bytes = t.bytes();
        assert!(bytes <= 10_752 * Table::BYTES_PER_VISITOR, "{bytes}");
        for key in 1..=1_000_000u64 {
            visit(&t, key, key);
        }
        assert_eq!(t.bytes(), bytes);
        let known = |from: u64, to: u64| {
            (from..=to)
                .filter(|k| {
                    let mut hit = false;
                    t.with_known(*k, |_| hit = true);
                    hit
                })
                .count()
        };
        assert_eq!(known(1, 900_000), 0, "long gone");
        assert!(known(995_001, 1_000_000) > 4_900, "the newest half fits nearly whole");
    }

    #[test]
    fn a_visitor_that_keeps_coming_stays() {
        let t = Table::new(1);
        assert!(visit(&t, 42, 1));
        for i in 2..100_000u64 {
            visit(&t, 1000 + i, i);
            if i % 8 == 0 {
                assert!(!visit(&t, 42, i), "evicted at {i}");
            }
        }
    }
}
