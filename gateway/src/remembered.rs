//! What is remembered of many for a while, by a keyed hash. Bounded: the oldest makes room for the newest. A reader takes the
//! lock of one shard, and none at all while nothing was ever remembered.

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::RwLock;

/// Shards, each with its lock.
const SHARDS: usize = 16;

/// Values by keyed hashes. Each takes at most 50 bytes and twice its value.
#[derive(Debug)]
pub struct Remembered<V> {
    used: AtomicBool,
    shard_max: usize,
    shards: [RwLock<Shard<V>>; SHARDS],
}

#[derive(Debug)]
struct Shard<V> {
    /// Until when, monotonic milliseconds, and what.
    known: HashMap<u64, (u64, V)>,
    /// As they came.
    order: VecDeque<u64>,
}

impl<V: Copy> Remembered<V> {
    /// For at most so many.
    pub fn new(max: usize) -> Self {
        let shard = || RwLock::new(Shard { known: HashMap::new(), order: VecDeque::new() });
        Remembered { used: AtomicBool::new(false), shard_max: max.div_ceil(SHARDS), shards: std::array::from_fn(|_| shard()) }
    }

    /// What is known of a hash at a time.
    pub fn get(&self, hash: u64, mono_ms: u64) -> Option<V> {
        if !self.used.load(Ordering::Acquire) {
            return None;
        }
        let shard = self.shard(hash).read();
        shard.known.get(&hash).filter(|(until, _)| mono_ms < *until).map(|(_, value)| *value)
    }

    /// Remembers until a time; what was known of it before is replaced.
    pub fn put(&self, hash: u64, value: V, until_mono_ms: u64) {
        self.used.store(true, Ordering::Release);
        self.shard(hash).write().put(hash, value, until_mono_ms, self.shard_max);
    }

    /// Remembers until a time, unless it is known already. `false`: it is.
    pub fn put_new(&self, hash: u64, value: V, mono_ms: u64, until_mono_ms: u64) -> bool {
        self.used.store(true, Ordering::Release);
        let mut shard = self.shard(hash).write();
        if shard.known.get(&hash).is_some_and(|(until, _)| mono_ms < *until) {
            return false;
        }
        shard.put(hash, value, until_mono_ms, self.shard_max);
        true
    }

    /// How many are remembered, those whose time is over among them.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|s| s.read().order.len()).sum()
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard<V>> {
        // The low bits pick buckets inside.
        &self.shards[(hash >> 60) as usize % SHARDS]
    }
}

impl<V> Shard<V> {
    fn put(&mut self, hash: u64, value: V, until: u64, max: usize) {
        if let Some(known) = self.known.get_mut(&hash) {
            *known = (until, value);
            return;
        }
        if self.order.len() >= max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(hash);
        self.known.insert(hash, (until, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_until_its_time_is_over_and_the_oldest_makes_room() {
        let all = Remembered::new(SHARDS * 4);
        assert_eq!(all.get(7, 0), None);
        all.put(7, 'a', 100);
        assert_eq!((all.get(7, 99), all.get(7, 100), all.get(8, 0)), (Some('a'), None, None));
        assert!(!all.put_new(7, 'b', 99, 200) && all.put_new(7, 'c', 100, 200));
        assert_eq!(all.get(7, 150), Some('c'));
        for n in 0..1_000_u64 {
            all.put(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), 'x', 200);
        }
        assert_eq!((all.count(), all.get(7, 150)), (SHARDS * 4, None));
        assert_eq!(all.get(999_u64.wrapping_mul(0x9e37_79b9_7f4a_7c15), 150), Some('x'), "the newest stays");
    }
}
