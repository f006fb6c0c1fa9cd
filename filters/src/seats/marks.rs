//! What changed since it was last written down: one bit a thing.

// Not a model checker's: what is marked is ordered by the words that it marks.
use std::sync::atomic::{AtomicU64, Ordering};

/// A set of small numbers that many add to and one empties.
#[derive(Debug)]
pub struct Marks(Box<[AtomicU64]>);

impl Marks {
    /// Room for `0..n`, none in it.
    pub fn new(n: usize) -> Self {
        Marks((0..n.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Adds one. Call it after the change and before anything that others may build on it.
    pub fn mark(&self, i: usize) {
        let (word, bit) = (&self.0[i / 64], 1 << (i % 64));
        // A read is cheaper than a write that changes nothing, and the common case.
        if word.load(Ordering::Acquire) & bit == 0 {
            word.fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// Takes all that were added, in order. Read what they stand for afterwards.
    pub fn take(&self) -> Vec<usize> {
        let mut taken = Vec::new();
        for (i, word) in self.0.iter().enumerate().filter(|(_, w)| w.load(Ordering::Acquire) != 0) {
            let mut bits = word.swap(0, Ordering::AcqRel);
            while bits != 0 {
                taken.push(i * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
        taken
    }
}

#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod tests {
    use super::*;

    #[test]
    fn taken_once_in_order() {
        let marks = Marks::new(200);
        [199, 0, 64, 63, 0].iter().for_each(|i| marks.mark(*i));
        assert_eq!(marks.take(), [0, 63, 64, 199]);
        assert!(marks.take().is_empty());
    }
}
