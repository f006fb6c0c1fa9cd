//! Who entered: one number for each key, in 64 small maps.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

const SHARDS: usize = 64;

/// Maps behind locks of their own; keys are hashes or networks, whose low bits are spread well enough.
#[derive(Debug)]
pub struct Shards<T>(Box<[Mutex<T>]>);

/// What each person has, by key: 12 to 16 bytes a person and a half as much again for the tree.
pub type People<T> = Shards<BTreeMap<u64, T>>;

impl<T: Default> Default for Shards<T> {
    fn default() -> Self {
        Shards((0..SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl<T> Shards<T> {
    /// The map a key is in.
    pub fn lock(&self, key: u64) -> MutexGuard<'_, T> {
        self.0[key as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All maps, one after the other.
    pub fn each(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        self.0.iter().map(|s| s.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T: Copy> People<T> {
    /// What a person has.
    pub fn get(&self, key: u64) -> Option<T> {
        self.lock(key).get(&key).copied()
    }
}
