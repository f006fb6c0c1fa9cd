//! What a visitor can quote and an operator can find again: `7K3M-2PQ7-XW0A`.

use std::{fmt, hash::Hasher as _, str::FromStr};

use siphasher::sip::SipHasher13;
use thiserror::Error;

use crate::record::Row;

/// Digits of a reference, five bits each.
const DIGITS: u32 = 12;
/// Crockford's base 32: no letter that looks like a digit.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Names one decision. Made from its row, so the journal needs no column for it, and says nothing about the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference(u64);

/// Text that is no reference.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no reference; one looks like 7K3M-2PQ7-XW0A")]
pub struct NoReference(String);

impl Reference {
    /// Of a decision: its arrival (no two rows of a gate share the nanosecond and the visitor) and who it was about.
    pub fn of(row: &Row) -> Reference {
        let mut h = SipHasher13::new_with_keys(0, 0);
        [row.at_ms, row.mono_ns, row.visitor, row.network].into_iter().for_each(|v| h.write_u64(v));
        Reference(h.finish() >> (64 - 5 * DIGITS))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for i in (0..DIGITS).rev() {
            let digit = ALPHABET[(self.0 >> (5 * i) & 31) as usize] as char;
            let end = if i > 0 && i % 4 == 0 { "-" } else { "" };
            write!(f, "{digit}{end}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = NoReference;

    /// As people type it: small letters, `O` for `0`, `I` and `L` for `1`, with or without `-` and spaces.
    fn from_str(text: &str) -> Result<Self, NoReference> {
        let no = || NoReference(text.chars().take(40).collect());
        let (mut bits, mut digits) = (0u64, 0);
        for c in text.bytes().filter(|c| !matches!(c, b'-' | b' ')) {
            let c = match c.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                c => c,
            };
            let value = ALPHABET.iter().position(|a| *a == c).ok_or_else(no)?;
            digits += 1;
            if digits > DIGITS {
                return Err(no());
            }
            bits = bits << 5 | value as u64;
        }
        if digits == DIGITS { Ok(Reference(bits)) } else { Err(no()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_printed_is_read_again_however_it_is_typed() {
        let row = Row { at_ms: 1_790_000_000_000, mono_ns: 123_456_789, visitor: 7, network: 9, ..Row::default() };
        let reference = Reference::of(&row);
        let text = reference.to_string();
        assert_eq!((text.len(), text.matches('-').count()), (14, 2));
        assert_eq!(text.parse(), Ok(reference));
        assert_eq!(text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l").parse(), Ok(reference));
        for bad in ["", "7K3M-2PQ7-XW0", "7K3M-2PQ7-XW0AA", "7K3M-2PQ7-XW0U", "ä"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_part_of_a_decision_counts() {
        let of = |at_ms, mono_ns, visitor, network| Reference::of(&Row { at_ms, mono_ns, visitor, network, ..Row::default() });
        let all = [of(1, 1, 1, 1), of(2, 1, 1, 1), of(1, 2, 1, 1), of(1, 1, 2, 1), of(1, 1, 1, 2)];
        assert!(all.iter().enumerate().all(|(i, a)| all[..i].iter().all(|b| a != b)));
    }
}
