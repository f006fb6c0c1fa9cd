//! What an HTTP/2 client says of itself before its first request is read: SETTINGS, the connection's window, priorities, and the
//! order of its pseudo-header fields. Programs that copy a browser's headers rarely copy these.
//!
//! Written as in "Passive Fingerprinting of HTTP/2 Clients" (Akamai, 2017): `1:65536;4:6291456|15663105|0|m,a,s,p`.

use std::{fmt::Write as _, hash::Hasher as _, sync::Arc};

use siphasher::sip::SipHasher13;

/// Bytes looked at; the frames of browsers before their first header fields take less than 200.
pub const LOOK_MAX: usize = 2_048;
/// Settings and priorities told; more are left out.
const TOLD_MAX: usize = 16;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;

/// How far the beginning of a connection has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Its first header fields are not there yet.
    Partial,
    /// What it said.
    Whole(Opening),
    /// No HTTP/2, or more than is looked at.
    Other,
}

/// What a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    text: Arc<str>,
    hash: u64,
}

impl Opening {
    /// As in the journal.
    pub fn shared(&self) -> Arc<str> {
        self.text.clone()
    }

    /// A hash of it. Never 0.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// Looks at the first bytes of a connection.
pub fn look(bytes: &[u8]) -> Look {
    let Some(mut rest) = bytes.strip_prefix(PREFACE) else {
        return if PREFACE.starts_with(bytes) { Look::Partial } else { Look::Other };
    };
    let (mut settings, mut window, mut priorities) = (Vec::new(), 0u32, Vec::new());
    while let Some(head) = rest.first_chunk::<FRAME_HEAD>() {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags, stream) = (head[3], head[4], number(&head[5..]) & 0x7fff_ffff);
        let Some(body) = rest[FRAME_HEAD..].get(..len) else { break };
        rest = &rest[FRAME_HEAD + len..];
        match (kind, stream) {
            (SETTINGS, 0) if flags & 1 == 0 => {
                settings.extend(body.chunks_exact(6).map(|s| (u16::from_be_bytes([s[0], s[1]]), number(&s[2..]))));
            }
            (WINDOW_UPDATE, 0) if len == 4 => window = number(body) & 0x7fff_ffff,
            (PRIORITY, 1..) if len == 5 => priorities.push((stream, number(body), body[4])),
            (HEADERS, 1..) => {
                return match fields(body, flags) {
                    Some(block) => Look::Whole(told(&settings, window, &priorities, block)),
                    None => Look::Other,
                };
            }
            _ => {}
        }
    }
    if bytes.len() >= LOOK_MAX { Look::Other } else { Look::Partial }
}

/// The header block of a HEADERS frame, without padding and priority.
fn fields(body: &[u8], flags: u8) -> Option<&[u8]> {
    let mut block = body;
    if flags & FLAG_PADDED != 0 {
        let (pad, rest) = block.split_first()?;
        block = rest.get(..rest.len().checked_sub(usize::from(*pad))?)?;
    }
    if flags & FLAG_PRIORITY == 0 { Some(block) } else { block.get(5..) }
}

fn told(settings: &[(u16, u32)], window: u32, priorities: &[(u32, u32, u8)], block: &[u8]) -> Opening {
    let mut text = String::new();
    for (i, (id, value)) in settings.iter().take(TOLD_MAX).enumerate() {
        let _ = write!(text, "{}{id}:{value}", if i == 0 { "" } else { ";" });
    }
    let _ = write!(text, "|{window:02}|");
    for (i, (stream, on, weight)) in priorities.iter().take(TOLD_MAX).enumerate() {
        let (exclusive, on) = (on >> 31, on & 0x7fff_ffff);
        let _ = write!(text, "{}{stream}:{exclusive}:{on}:{}", if i == 0 { "" } else { "," }, u32::from(*weight) + 1);
    }
    text.push_str(if priorities.is_empty() { "0|" } else { "|" });
    for (i, name) in pseudo(block).into_iter().enumerate() {
        let _ = write!(text, "{}{name}", if i == 0 { "" } else { "," });
    }
    Opening { hash: shape(settings, window, priorities, block), text: text.into() }
}

/// A hash of what a client says, numbers to their order of magnitude: whoever counts one up by one looks the same. Never 0.
fn shape(settings: &[(u16, u32)], window: u32, priorities: &[(u32, u32, u8)], block: &[u8]) -> u64 {
    let magnitude = |n: u32| (u32::BITS - n.leading_zeros()) as u8;
    let mut h = SipHasher13::new_with_keys(0, 0);
    for (id, value) in settings.iter().take(TOLD_MAX) {
        h.write_u16(*id);
        h.write_u8(magnitude(*value));
    }
    h.write(&[0xff, magnitude(window), priorities.len().min(TOLD_MAX) as u8]);
    pseudo(block).into_iter().for_each(|name| h.write_u8(name as u8));
    h.finish().max(1)
}

/// First letters of the pseudo-header fields a block begins with, in order (RFC 7541, section 6). There are four at most.
fn pseudo(block: &[u8]) -> Vec<char> {
    let (mut names, mut rest) = (Vec::new(), block);
    while names.len() < 4 {
        let Some(name) = field(&mut rest) else { break };
        names.extend(name);
    }
    names
}

/// The pseudo-header field a block begins with; `Some(None)`: something that is no field. `None`: another field, or its end.
fn field(rest: &mut &[u8]) -> Option<Option<char>> {
    let first = *rest.first()?;
    let (bits, literal) = match first {
        0x80.. => (7, false),
        0x40.. => (6, true),
        // The size of the dynamic table.
        0x20.. => return integer(rest, 5).map(|_| None),
        _ => (4, true),
    };
    let name = match integer(rest, bits)? {
        0 if literal => match string(rest)? {
            b":method" => 'm',
            b":authority" => 'a',
            b":scheme" => 's',
            b":path" => 'p',
            _ => return None,
        },
        1 => 'a',
        2 | 3 => 'm',
        4 | 5 => 'p',
        6 | 7 => 's',
        _ => return None,
    };
    if literal {
        string(rest)?;
    }
    Some(Some(name))
}

/// An integer with a prefix of so many bits; one that is longer than three bytes is none here.
fn integer(rest: &mut &[u8], bits: u8) -> Option<usize> {
    let (first, mut tail) = rest.split_first()?;
    let max = (1usize << bits) - 1;
    let mut n = usize::from(*first) & max;
    if n == max {
        for shift in [0, 7, 14] {
            let (byte, more) = tail.split_first()?;
            tail = more;
            n += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *rest = tail;
                return Some(n);
            }
        }
        return None;
    }
    *rest = tail;
    Some(n)
}

/// The bytes of a string, coded or not.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = integer(rest, 7)?;
    let (text, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(text)
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u32).to_be_bytes();
        [&len[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
    }

    fn settings(list: &[(u16, u32)]) -> Vec<u8> {
        let body: Vec<u8> = list.iter().flat_map(|(id, v)| [&id.to_be_bytes()[..], &v.to_be_bytes()].concat()).collect();
        frame(SETTINGS, 0, 0, &body)
    }

    /// As Chromium begins: method and scheme indexed, authority and path literal, and a priority in the frame.
    fn chromium() -> Vec<u8> {
        let mut block = vec![0x80, 0, 0, 0, 255, 0x82, 0x41, 0x8a];
        block.extend([0xa0; 10]);
        block.extend([0x87, 0x04, 0x82, 0x60, 0x7f, 0x40, 0x01, b'x', 0x01, b'y']);
        [
            PREFACE.to_vec(),
            settings(&[(1, 65_536), (2, 0), (4, 6_291_456), (6, 262_144)]),
            frame(WINDOW_UPDATE, 0, 0, &15_663_105u32.to_be_bytes()),
            frame(HEADERS, FLAG_PRIORITY | 5, 1, &block),
        ]
        .concat()
    }

    fn text(look: Look) -> String {
        match look {
            Look::Whole(opening) => opening.shared().to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn openings_read_as_others_write_them() {
        assert_eq!(text(look(&chromium())), "1:65536;2:0;4:6291456;6:262144|15663105|0|m,a,s,p");
        // As Firefox used to: priorities of idle streams, the path before the authority.
        let mut firefox = [PREFACE.to_vec(), settings(&[(1, 65_536), (4, 131_072), (5, 16_384)])].concat();
        firefox.extend(frame(WINDOW_UPDATE, 0, 0, &12_517_377u32.to_be_bytes()));
        firefox.extend(frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 200]));
        firefox.extend(frame(PRIORITY, 0, 5, &[0x80, 0, 0, 3, 100]));
        firefox.extend(frame(HEADERS, FLAG_PADDED, 15, &[2, 0x3f, 0x01, 0x82, 0x84, 0x01, 0x01, b'h', 0x87, 9, 9]));
        assert_eq!(text(look(&firefox)), "1:65536;4:131072;5:16384|12517377|3:0:0:201,5:1:3:101|m,p,a,s");
        // A library: names written out, one of them no pseudo-header field.
        let mut library = [PREFACE.to_vec(), settings(&[])].concat();
        let block =
            [&[0x00, 7][..], b":method", &[3], b"GET", &[0x10, 5], b":path", &[1], b"/", &[0x00, 1], b"a", &[1], b"b", &[0x87]];
        library.extend(frame(HEADERS, 4, 1, &block.concat()));
        assert_eq!(text(look(&library)), "|00|0|m,p");
    }

    #[test]
    fn counting_a_number_up_is_no_other_look() {
        let opening = |window: u32| match look(&[PREFACE, &settings(&[(4, window)]), &frame(HEADERS, 4, 1, &[0x82])].concat()) {
            Look::Whole(opening) => opening.hash(),
            other => panic!("{other:?}"),
        };
        assert_eq!(opening(65_536), opening(65_537));
        assert_ne!(opening(65_536), opening(131_072));
    }

    #[test]
    fn an_opening_in_pieces_is_the_same_and_a_long_one_is_none() {
        let whole = chromium();
        for n in 0..whole.len() {
            assert_eq!(look(&whole[..n]), Look::Partial, "{n} bytes");
        }
        assert_eq!(look(b"GET / HTTP/1.1\r\n"), Look::Other);
        let endless = [PREFACE.to_vec(), settings(&[(1, 1); 400])].concat();
        assert_eq!(look(&endless[..LOOK_MAX]), Look::Other);
    }

    proptest! {
        #[test]
        fn no_bytes_are_trouble(bytes in prop::collection::vec(any::<u8>(), 0..300), flags: u8) {
            look(&[PREFACE, &frame(HEADERS, flags, 1, &bytes)].concat());
            look(&[PREFACE, &bytes].concat());
            let _ = pseudo(&bytes);
        }
    }
}
