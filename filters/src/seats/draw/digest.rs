//! Hashes with labels, lengths before texts, lower-case hex: the bytes every other file of the draw is made of.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// A SHA-256 value.
pub type Hash = [u8; 32];

/// SHA-256 over the parts, one after the other.
pub fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Hash {
    let mut sha = Sha256::new();
    parts.into_iter().for_each(|part| sha.update(part));
    sha.finalize().into()
}

/// `be32(len) ‖ text`, so that no two lists of texts have the same bytes.
pub fn lp(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + text.len());
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text);
    out
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads lower-case hex of exactly `N` bytes. Upper case is refused: a value has one spelling.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    unhex_into(text.as_bytes(), &mut out).then_some(out)
}

/// Reads lower-case hex into `out`; `false` when it is anything else.
pub fn unhex_into(text: &[u8], out: &mut [u8]) -> bool {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    text.len() == 2 * out.len()
        && out.iter_mut().zip(text.chunks_exact(2)).all(|(byte, pair)| match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => {
                *byte = high << 4 | low;
                true
            }
            _ => false,
        })
}

/// Fixed-size bytes as lower-case hex in JSON: `#[serde(with = "digest::as_hex")]`.
pub mod as_hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Writes.
    pub fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&super::hex(bytes))
    }

    /// Reads.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(d: D) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(d)?;
        super::unhex(&text).ok_or_else(|| D::Error::custom(format!("expected {} lower-case hex digits, found `{text}`", 2 * N)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_has_one_spelling() {
        assert_eq!(unhex::<3>("00ff1a"), Some([0, 255, 26]));
        assert_eq!(hex(&[0, 255, 26]), "00ff1a");
        for bad in ["", "00ff1", "00ff1a0", "00FF1A", "00ff1g", "00ff 1"] {
            assert_eq!(unhex::<3>(bad), None, "{bad}");
        }
    }
}
