//! Signed tokens: `version(1) ‖ kind(1) ‖ key_id(1) ‖ body ‖ tag(32)`, canonical base64url without padding.
//!
//! `tag = HMAC-SHA-256(key, "tidegate/1/token" ‖ all before)`, compared in constant time. The body has a fixed order:
//! integers big-endian, strings with a `be32` length. Trailing bytes, unknown kinds and non-canonical encodings are
//! refused, so a token has exactly one spelling.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use compact_str::CompactString;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::sabotage::{self, Bug};

/// Tokens looked at in one visit; more are ignored.
pub const TOKENS_MAX: usize = 8;
/// Longest token text accepted, bytes. Name lengths are ≤ 64 each, so a real one is ≤ 330 bytes ≈ 440 characters.
pub const TOKEN_TEXT_MAX: usize = 512;
/// Longest room, sale or host name in a token, bytes.
pub const NAME_MAX: usize = 255;

const VERSION: u8 = 1;
const TAG_LEN: usize = 32;
const LABEL: &[u8] = b"tidegate/1/token";

/// A name in a token: up to 24 bytes without an allocation, which most are.
pub type Name = CompactString;

/// What a token proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A place in a room; `number` is [`crate::seats::queue::Place::to_bits`].
    Ticket = 1,
    /// A seat; `number` is [`crate::seats::seat::SeatRef::to_bits`].
    Pass = 2,
    /// A visitor who keeps cookies; `number` is random.
    Visitor = 3,
    /// A passed challenge; `number` is the visitor who passed it.
    Clearance = 4,
    /// Staff and partners: past the room (all rooms when `room` is empty); `number` names it.
    Bypass = 5,
    /// The slow way around a challenge, good after some seconds; `number` is the visitor who went it.
    Detour = 6,
}

/// A decoded token. Authentic once it comes out of [`Keyring::open`]; room, host, epoch and times are for the rules to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it proves.
    pub kind: Kind,
    /// Room name; empty for [`Kind::Visitor`].
    pub room: Name,
    /// Sale name, when the place belongs to one; else empty.
    pub sale: Name,
    /// Host it was issued for, lower case, no port.
    pub host: Name,
    /// The room state's epoch: a restarted room never honours old numbers.
    pub epoch: u64,
    /// Place or seat, see [`Kind`].
    pub number: u64,
    /// Hash of what it is bound to; zero when not bound.
    pub binding: u64,
    /// Unix milliseconds.
    pub issued_at_ms: u64,
    /// Unix milliseconds.
    pub not_before_ms: u64,
    /// Unix milliseconds; at this instant it is no longer good.
    pub expires_at_ms: u64,
}

impl Token {
    /// One of the gate's own, of no room: good from now on, for `age_ms`.
    pub fn of_gate(kind: Kind, host: &str, number: u64, age_ms: u64, now_ms: u64) -> Token {
        Token {
            kind,
            room: "".into(),
            sale: "".into(),
            host: host.into(),
            epoch: 0,
            number,
            binding: 0,
            issued_at_ms: now_ms,
            not_before_ms: now_ms,
            expires_at_ms: now_ms + age_ms,
        }
    }
}

/// Why a text is no token of ours. Clients are told only that it was not accepted; metrics carry the name.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    /// Longer than [`TOKEN_TEXT_MAX`].
    #[error("longer than {TOKEN_TEXT_MAX} characters")]
    TooLong,
    /// Not canonical base64url, or a body that does not parse to its end.
    #[error("malformed")]
    Malformed,
    /// A version or kind we do not know.
    #[error("unknown version or kind")]
    UnknownKind,
    /// Signed by a key that is not on the ring.
    #[error("unknown key")]
    UnknownKey,
    /// The MAC does not match.
    #[error("wrong tag")]
    WrongTag,
}

/// The MAC keys, newest first: the newest signs, all verify. Bounded by [`Keyring::KEYS_MAX`].
#[derive(Clone)]
pub struct Keyring {
    keys: Vec<(u8, Hmac<Sha256>)>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring({} keys)", self.keys.len())
    }
}

impl Keyring {
    /// Most keys on a ring.
    pub const KEYS_MAX: usize = 16;

    /// A ring of `(id, secret)` pairs, the signing key first. `None` when empty, too many, or an id stands twice.
    pub fn new(keys: &[(u8, [u8; 32])]) -> Option<Self> {
        let distinct = keys.iter().enumerate().all(|(i, a)| keys[..i].iter().all(|b| a.0 != b.0));
        if keys.is_empty() || keys.len() > Self::KEYS_MAX || !distinct {
            return None;
        }
        // The label is hashed in once here: a verification clones the half-done MAC state.
        let keyed = |secret: &[u8; 32]| {
            let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(secret).ok()?;
            mac.update(LABEL);
            Some(mac)
        };
        let keys: Option<Vec<_>> = keys.iter().map(|(id, secret)| Some((*id, keyed(secret)?))).collect();
        Some(Keyring { keys: keys? })
    }

    /// Signs; the text is canonical base64url.
    pub fn seal(&self, token: &Token) -> String {
        let (id, mac) = &self.keys[0];
        let mut out = Vec::with_capacity(160);
        out.extend_from_slice(&[VERSION, token.kind as u8, *id]);
        for name in [&token.room, &token.sale, &token.host] {
            let name = &name.as_bytes()[..name.len().min(NAME_MAX)];
            out.extend_from_slice(&(name.len() as u32).to_be_bytes());
            out.extend_from_slice(name);
        }
        for n in [token.epoch, token.number, token.binding, token.issued_at_ms, token.not_before_ms, token.expires_at_ms] {
            out.extend_from_slice(&n.to_be_bytes());
        }
        let mut mac = mac.clone();
        mac.update(&out);
        out.extend_from_slice(&mac.finalize().into_bytes());
        URL_SAFE_NO_PAD.encode(out)
    }

    /// Opens a token text; the MAC is checked before the body is looked at.
    pub fn open(&self, text: &str) -> Result<Token, TokenError> {
        if text.len() > TOKEN_TEXT_MAX {
            return Err(TokenError::TooLong);
        }
        let mut buf = [0u8; TOKEN_TEXT_MAX];
        // Refuses padding, other alphabets and non-zero trailing bits: one spelling a token.
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut buf).map_err(|_| TokenError::Malformed)?;
        let bytes = &buf[..len];
        let body_len = len.checked_sub(TAG_LEN).filter(|n| *n >= 3).ok_or(TokenError::Malformed)?;
        let (signed, tag) = bytes.split_at(body_len);
        if signed[0] != VERSION {
            return Err(TokenError::UnknownKind);
        }
        let kind = match signed[1] {
            1 => Kind::Ticket,
            2 => Kind::Pass,
            3 => Kind::Visitor,
            4 => Kind::Clearance,
            5 => Kind::Bypass,
            6 => Kind::Detour,
            _ => return Err(TokenError::UnknownKind),
        };
        let (_, mac) = self.keys.iter().find(|(id, _)| *id == signed[2]).ok_or(TokenError::UnknownKey)?;
        let mut mac = mac.clone();
        mac.update(signed);
        if !bool::from(mac.finalize().into_bytes().ct_eq(tag)) && !sabotage::is(Bug::TagNotChecked) {
            return Err(TokenError::WrongTag);
        }
        Body(&signed[3..]).token(kind).ok_or(TokenError::Malformed)
    }
}

/// A cursor over the body.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn token(&mut self, kind: Kind) -> Option<Token> {
        let token = Token {
            kind,
            room: self.name()?,
            sale: self.name()?,
            host: self.name()?,
            epoch: self.number()?,
            number: self.number()?,
            binding: self.number()?,
            issued_at_ms: self.number()?,
            not_before_ms: self.number()?,
            expires_at_ms: self.number()?,
        };
        self.0.is_empty().then_some(token)
    }

    fn take(&mut self, n: usize) -> Option<&[u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn name(&mut self) -> Option<Name> {
        let len = u32::from_be_bytes(self.take(4)?.try_into().ok()?) as usize;
        if len > NAME_MAX {
            return None;
        }
        std::str::from_utf8(self.take(len)?).ok().map(Into::into)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring() -> Keyring {
        Keyring::new(&[(2, [7; 32]), (1, [9; 32])]).expect("two keys")
    }

    fn token(number: u64) -> Token {
        Token {
            kind: Kind::Ticket,
            room: "drop".into(),
            sale: "sneaker-42".into(),
            host: "shop.example".into(),
            epoch: 77,
            number,
            binding: 0,
            issued_at_ms: 1_000,
            not_before_ms: 1_000,
            expires_at_ms: 9_000,
        }
    }

    #[test]
    fn every_single_bit_and_every_cut_is_refused() {
        let ring = ring();
        let text = ring.seal(&token(5));
        assert_eq!(ring.open(&text), Ok(token(5)));
        let bytes = URL_SAFE_NO_PAD.decode(&text).expect("ours");
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(ring.open(&URL_SAFE_NO_PAD.encode(&bad)).is_err(), "bit {bit}");
        }
        for cut in 0..text.len() {
            assert!(ring.open(&text[..cut]).is_err(), "cut {cut}");
        }
        assert!(ring.open(&format!("{text}A")).is_err());
        assert!(ring.open(&format!("{text}=")).is_err());
    }

    #[test]
    fn the_last_character_has_one_spelling() {
        // 32 + n bytes: unless the length divides by 3 the last character has spare bits, which must be zero.
        let ring = ring();
        let text = ring.seal(&token(5));
        let (head, last) = text.split_at(text.len() - 1);
        let accepted = (b'A'..=b'z').filter(|c| ring.open(&format!("{head}{}", *c as char)).is_ok()).count();
        assert_eq!(accepted, 1, "only {last} may end it");
    }

    #[test]
    fn old_keys_verify_and_foreign_keys_do_not() {
        let old = Keyring::new(&[(1, [9; 32])]).expect("one key");
        let foreign = Keyring::new(&[(2, [8; 32])]).expect("one key");
        let unknown = Keyring::new(&[(3, [7; 32])]).expect("one key");
        let text = old.seal(&token(1));
        assert!(ring().open(&text).is_ok());
        assert_eq!(foreign.open(&ring().seal(&token(1))), Err(TokenError::WrongTag));
        assert_eq!(unknown.open(&ring().seal(&token(1))), Err(TokenError::UnknownKey));
        assert!(Keyring::new(&[]).is_none());
        assert!(Keyring::new(&[(1, [0; 32]), (1, [1; 32])]).is_none());
    }

    proptest! {
        #[test]
        fn strangers_texts_never_open(text in "[A-Za-z0-9_-]{0,600}") {
            prop_assert!(ring().open(&text).is_err());
        }

        #[test]
        fn what_is_sealed_opens(number: u64, epoch: u64, room in "[a-z0-9-]{1,40}", host in "[a-z0-9.-]{0,60}") {
            let t = Token { number, epoch, room: room.into(), host: host.into(), ..token(0) };
            prop_assert_eq!(ring().open(&ring().seal(&t)), Ok(t));
        }
    }
}
