//! The store of a gate without `state`: nothing outlives the process.

use std::sync::Arc;

use super::{Batch, Commit, Store, StoreCounts, StoreError, Table};

/// Keeps nothing; every batch is answered at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory;

impl Store for Memory {
    fn commit(&self, _: Batch) -> Commit {
        Commit::now(Ok(()))
    }

    fn scan(&self, _: Table<'_>, _: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        Ok(())
    }

    fn term(&self) -> u64 {
        0
    }

    fn trouble(&self) -> Option<Arc<str>> {
        None
    }

    fn keeps(&self) -> bool {
        false
    }

    fn close(&self) {}

    fn counts(&self) -> StoreCounts {
        StoreCounts::default()
    }
}
