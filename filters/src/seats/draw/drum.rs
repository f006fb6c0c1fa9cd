//! Balls in a drum: each entry throws in as many balls as it has weight, the smallest ball of each decides its place.
//!
//! A ball is an HMAC whose key is the seed: two SHA-256 compressions once the key's own two blocks are done, which is done
//! once for the whole draw.

use hkdf::Hkdf;
use sha2::{Sha256, compress256, digest::generic_array::GenericArray};

use super::{
    digest::{Hash, lp},
    entry::Entry,
    weights::WEIGHT_MAX,
};

/// `HKDF-SHA-256(ikm = k, salt = root, info = "tidegate/1/draw" ‖ lp(sale_id) ‖ C ‖ be64(N) ‖ lp(beacon value), 32 bytes)`
pub fn seed(secret: &Hash, root: &Hash, sale_id: &str, commitment: &Hash, n: u64, beacon_value: &[u8]) -> Hash {
    let info = [b"tidegate/1/draw".as_slice(), &lp(sale_id.as_bytes()), commitment, &n.to_be_bytes(), &lp(beacon_value)];
    let mut out = [0; 32];
    // One block of output is far below the limit of 255, the only way in which this can fail.
    let expanded = Hkdf::<Sha256>::new(Some(root), secret).expand_multi_info(&info, &mut out);
    debug_assert!(expanded.is_ok());
    out
}

/// SHA-256's initial state.
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// A drum of one seed.
#[derive(Clone, Debug)]
pub struct Drum {
    /// SHA-256 after the block `seed ⊕ ipad`.
    inner: [u32; 8],
    /// SHA-256 after the block `seed ⊕ opad`.
    outer: [u32; 8],
}

/// What decides a place: the smallest ball as a big-endian number, and whether there was any.
type Key = [u32; 8];

impl Drum {
    /// Fills a drum.
    pub fn new(seed: &Hash) -> Self {
        let keyed = |pad: u8| {
            let mut block = [pad; 64];
            block.iter_mut().zip(seed).for_each(|(b, s)| *b ^= s);
            let mut state = INITIAL;
            compress256(&mut state, &[GenericArray::from(block)]);
            state
        };
        Drum { inner: keyed(0x36), outer: keyed(0x5c) }
    }

    /// Ball `b` of entry `i`: `MAC(seed, be64(i) ‖ be32(b))`, as eight big-endian words.
    pub fn ball(&self, index: u64, ball: u32) -> [u32; 8] {
        self.outer(&self.inner(index, ball))
    }

    /// The smallest ball of an entry; `None` when it has none.
    pub fn smallest(&self, index: u64, weight: u8) -> Option<[u32; 8]> {
        let weight = usize::from(weight.min(WEIGHT_MAX));
        // All inner hashes first: they do not depend on each other, so the processor overlaps them.
        let mut inner = [[0; 8]; WEIGHT_MAX as usize];
        (0u32..).zip(&mut inner[..weight]).for_each(|(b, state)| *state = self.inner(index, b));
        inner[..weight].iter().map(|i| self.outer(i)).min()
    }

    /// The indices in the order of their places. Void entries have no place; entries of weight 0 come last, by index.
    pub fn order(&self, entries: &[Entry]) -> Vec<u32> {
        let mut drawn: Vec<(Key, u32)> = Vec::with_capacity(entries.len());
        let mut last = Vec::new();
        for (i, entry) in (0u32..).zip(entries).filter(|(_, e)| !e.is_void()) {
            match self.smallest(u64::from(i), entry.weight) {
                Some(ball) => drawn.push((ball, i)),
                None => last.push(i),
            }
        }
        drawn.sort_unstable();
        drawn.into_iter().map(|(_, i)| i).chain(last).collect()
    }

    fn inner(&self, index: u64, ball: u32) -> [u32; 8] {
        // 64 bytes of key and 12 of message are 608 bits.
        let mut block = [0u8; 64];
        block[..8].copy_from_slice(&index.to_be_bytes());
        block[8..12].copy_from_slice(&ball.to_be_bytes());
        block[12] = 0x80;
        block[56..].copy_from_slice(&608u64.to_be_bytes());
        let mut state = self.inner;
        compress256(&mut state, &[GenericArray::from(block)]);
        state
    }

    fn outer(&self, inner: &[u32; 8]) -> [u32; 8] {
        // 64 bytes of key and 32 of message are 768 bits.
        let mut block = [0u8; 64];
        block.chunks_exact_mut(4).zip(inner).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_be_bytes()));
        block[32] = 0x80;
        block[56..].copy_from_slice(&768u64.to_be_bytes());
        let mut state = self.outer;
        compress256(&mut state, &[GenericArray::from(block)]);
        state
    }
}

/// The place of each index, `None` for void ones: the inverse of [`Drum::order`].
pub fn places(order: &[u32], n: usize) -> Vec<Option<u32>> {
    let mut places = vec![None; n];
    for (place, index) in (0u32..).zip(order) {
        if let Some(slot) = places.get_mut(*index as usize) {
            *slot = Some(place);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hmac::{Hmac, Mac as _};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_ball_is_the_hmac_it_says(seed: [u8; 32], i: u64, b: u32) {
            let mut mac = Hmac::<Sha256>::new_from_slice(&seed).unwrap();
            mac.update(&i.to_be_bytes());
            mac.update(&b.to_be_bytes());
            let words = Drum::new(&seed).ball(i, b);
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
            prop_assert_eq!(&bytes[..], &mac.finalize().into_bytes()[..]);
        }

        #[test]
        fn every_entry_has_one_place_and_void_none(seed: [u8; 32], weights in prop::collection::vec(0u8..=16, 0..200), void in 0usize..5) {
            let entry = |(i, w): (usize, &u8)| if i % 5 == void { Entry::VOID } else { Entry { id: [1; 16], weight: *w } };
            let entries: Vec<Entry> = weights.iter().enumerate().map(entry).collect();
            let drum = Drum::new(&seed);
            let order = drum.order(&entries);
            let places = places(&order, entries.len());
            prop_assert_eq!(order.len(), entries.iter().filter(|e| !e.is_void()).count());
            for (e, place) in entries.iter().zip(&places) {
                prop_assert_eq!(place.is_none(), e.is_void());
            }
            let smallest: Vec<_> = order.iter().map(|i| drum.smallest(u64::from(*i), entries[*i as usize].weight)).collect();
            for (pair, who) in smallest.windows(2).zip(order.windows(2)) {
                let in_order = match (pair[0], pair[1]) {
                    (Some(a), Some(b)) => a < b,
                    (None, Some(_)) => false,
                    (Some(_), None) => true,
                    (None, None) => who[0] < who[1],
                };
                prop_assert!(in_order);
            }
        }
    }
}
