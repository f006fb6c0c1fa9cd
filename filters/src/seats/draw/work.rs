//! Proof of work: who comes above a quota pays with computing instead of being refused, and so does who is challenged.
//!
//! For an entry the challenge follows from the person and the sale, so nothing is kept for it; one proof is good for one
//! person's one entry.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::digest::{Hash, hash, lp};

/// Most bits that are asked for: sixteen million hashes, a minute of one core.
pub const WORK_BITS_MAX: u8 = 24;
const LABEL: &[u8] = b"tidegate/1/work";

/// What somebody has to work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Names person and sale to us alone.
    pub challenge: [u8; 16],
    /// Leading zero bits of the answer's hash.
    pub bits: u8,
}

impl Work {
    /// The work of a person for an entry of a list.
    pub fn of(key: &[u8; 32], draw_id: &str, person: u64, bits: u8) -> Work {
        // As in `EntryNames`: a short key is filled up with zeros, and nothing is left that could fail.
        let mut block = [0; 64];
        block[..32].copy_from_slice(key);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        [LABEL, &lp(draw_id.as_bytes()), &person.to_be_bytes()].iter().for_each(|part| mac.update(part));
        let tag = mac.finalize().into_bytes();
        let mut challenge = [0; 16];
        challenge.copy_from_slice(&tag[..16]);
        Work { challenge, bits }
    }

    /// Whether a number answers it: `H("tidegate/1/work" ‖ challenge ‖ be64(number))` begins with `bits` zero bits.
    pub fn is_done(&self, number: u64) -> bool {
        zeros(&self.hash(number)) >= u32::from(self.bits)
    }

    /// The smallest number that answers it. For clients and tests; the gate only checks.
    pub fn solve(&self) -> u64 {
        (0..).find(|n| self.is_done(*n)).unwrap_or_default()
    }

    fn hash(&self, number: u64) -> Hash {
        hash([LABEL, &self.challenge, &number.to_be_bytes()])
    }
}

fn zeros(hash: &Hash) -> u32 {
    let whole = hash.iter().take_while(|b| **b == 0).count();
    whole as u32 * 8 + hash.get(whole).map_or(0, |b| b.leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_for_its_person_its_sale_and_its_bits() {
        let work = |person, sale| Work::of(&[1; 32], sale, person, 10);
        let mine = work(7, "s");
        let number = mine.solve();
        assert!(mine.is_done(number) && (0..number).all(|n| !mine.is_done(n)));
        // One in a thousand would be chance; three of them are not.
        let others = [work(8, "s"), work(7, "t"), Work::of(&[2; 32], "s", 7, 10)];
        assert!(others.iter().filter(|w| w.is_done(number)).count() < 2);
        assert!(Work { bits: 0, ..mine }.is_done(0));
        assert_eq!(zeros(&[0; 32]), 256);
        let mut one = [0; 32];
        one[1] = 0x10;
        assert_eq!(zeros(&one), 11);
    }

    #[test]
    fn a_fixed_answer_for_other_languages() {
        let work = Work { challenge: std::array::from_fn(|i| i as u8), bits: 12 };
        assert!(work.is_done(work.solve()) && work.solve() == FIXED);
    }

    /// Of the challenge 00 01 … 0f with 12 bits; the page's script finds the same.
    const FIXED: u64 = 3_288;
}
