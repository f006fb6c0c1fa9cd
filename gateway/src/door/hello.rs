//! What a TLS hello says about the program that sent it: a hash, as a feature for the score, and its JA4, for people.
//!
//! JA4 is the TLS part of <https://github.com/FoxIO-LLC/ja4> (BSD-3): how, how many, which ciphers, which extensions.

use std::{fmt::Write as _, hash::Hasher as _};

use sha2::{Digest as _, Sha256};
use siphasher::sip::SipHasher13;

/// Longest hello looked at, bytes; longer ones are handed on unread. Post-quantum keys and ECH make them several KiB.
pub const HELLO_MAX: usize = 64 << 10;
/// Bytes before each record.
const RECORD_HEAD: usize = 5;
/// Longest hash part of a JA4, characters.
const HASH_DIGITS: usize = 12;
/// Extensions that JA4 counts, but does not hash: the name and the protocols differ from site to site.
const SNI: u16 = 0;
const ALPN: u16 = 16;
const SIGNATURE_ALGORITHMS: u16 = 13;
const SUPPORTED_VERSIONS: u16 = 43;

/// How far a hello has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There must be so many bytes before it is worth to look again.
    Partial(usize),
    /// The whole handshake message, put together from its records.
    Whole(Vec<u8>),
    /// No hello, or a longer one than is looked at.
    Other,
}

/// Puts together a hello that may be split over records.
pub fn gather(bytes: &[u8]) -> Progress {
    let (mut message, mut at) = (Vec::new(), 0);
    while let Some(record) = bytes.get(at..).filter(|r| !r.is_empty()) {
        if record[0] != 0x16 || record.get(1).is_some_and(|major| *major != 3) {
            return Progress::Other;
        }
        let Some(len) = record.get(3..5).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]]))) else { break };
        let end = at + RECORD_HEAD + len;
        message.extend_from_slice(&bytes[at + RECORD_HEAD..end.min(bytes.len())]);
        if len == 0 || message.first().is_some_and(|kind| *kind != 1) {
            return Progress::Other;
        }
        if let [_, a, b, c, ..] = message[..] {
            let whole = 4 + u32::from_be_bytes([0, a, b, c]) as usize;
            if whole > HELLO_MAX {
                return Progress::Other;
            }
            if message.len() >= whole {
                message.truncate(whole);
                return Progress::Whole(message);
            }
        }
        if end > bytes.len() {
            return Progress::Partial(end);
        }
        at = end;
    }
    Progress::Partial(at + RECORD_HEAD)
}

/// What a hello offers, without GREASE, in the order it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    version: u16,
    ciphers: Vec<u16>,
    extensions: Vec<u16>,
    signatures: Vec<u16>,
    alpn: Option<Vec<u8>>,
}

impl Hello {
    /// Reads a handshake message. `None`: it is no sound hello.
    pub fn read(message: &[u8]) -> Option<Hello> {
        let mut r = Reader(message);
        if r.u8()? != 1 {
            return None;
        }
        r.take(3)?;
        let mut hello = Hello { version: r.u16()?, ..Hello::default() };
        r.take(32)?;
        let session = r.u8()?;
        r.take(usize::from(session))?;
        hello.ciphers = r.list()?;
        let compressions = r.u8()?;
        r.take(usize::from(compressions))?;
        // Hellos of before 2003 end here.
        let Some(len) = r.u16() else { return Some(hello) };
        let mut e = Reader(r.take(usize::from(len))?);
        while let (Some(id), Some(len)) = (e.u16(), e.u16()) {
            let mut data = Reader(e.take(usize::from(len))?);
            if is_grease(id) {
                continue;
            }
            hello.extensions.push(id);
            match id {
                SIGNATURE_ALGORITHMS => hello.signatures = data.list().unwrap_or_default(),
                SUPPORTED_VERSIONS => {
                    data.take(1);
                    hello.version = data.numbers().into_iter().max().unwrap_or(hello.version);
                }
                ALPN => {
                    data.take(2);
                    hello.alpn = data.u8().and_then(|n| data.take(usize::from(n))).map(<[u8]>::to_vec);
                }
                _ => {}
            }
        }
        Some(hello)
    }

    /// Hash of cipher suites in order and of extension numbers sorted (browsers shuffle them). Never 0.
    pub fn hash(&self) -> u64 {
        let mut h = SipHasher13::new_with_keys(0, 0);
        self.ciphers.iter().for_each(|c| h.write_u16(*c));
        sorted(&self.extensions).iter().for_each(|e| h.write_u16(*e));
        h.finish().max(1)
    }

    /// `t13d1516h2_8daaf6152771_e5627efa2ab1`
    pub fn ja4(&self) -> String {
        let version = match self.version {
            0x0304 => "13",
            0x0303 => "12",
            0x0302 => "11",
            0x0301 => "10",
            0x0300 => "s3",
            0x0002 => "s2",
            _ => "00",
        };
        let name = if self.extensions.contains(&SNI) { 'd' } else { 'i' };
        let count = |list: &[u16]| list.len().min(99);
        let hashed: Vec<u16> = sorted(&self.extensions).into_iter().filter(|e| *e != SNI && *e != ALPN).collect();
        let mut extensions = hex(&hashed);
        if !self.signatures.is_empty() {
            let _ = write!(extensions, "_{}", hex(&self.signatures));
        }
        format!(
            "t{version}{name}{:02}{:02}{}_{}_{}",
            count(&self.ciphers),
            count(&self.extensions),
            self.first_protocol(),
            short_hash(&self.ciphers, &hex(&sorted(&self.ciphers))),
            short_hash(&hashed, &extensions),
        )
    }

    /// First and last character of the first protocol offered.
    fn first_protocol(&self) -> String {
        match self.alpn.as_deref() {
            Some([first, .., last]) | Some([first @ last]) if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() => {
                [char::from(*first), char::from(*last)].into_iter().collect()
            }
            // First digit of the first byte and last digit of the last, in hexadecimal.
            Some([first, .., last]) | Some([first @ last]) => format!("{:x}{:x}", first >> 4, last & 15),
            _ => "00".to_owned(),
        }
    }
}

fn sorted(list: &[u16]) -> Vec<u16> {
    let mut list = list.to_vec();
    list.sort_unstable();
    list
}

/// `1301,1302`
fn hex(list: &[u16]) -> String {
    list.iter().map(|n| format!("{n:04x}")).collect::<Vec<_>>().join(",")
}

fn short_hash(list: &[u16], text: &str) -> String {
    if list.is_empty() {
        return "0".repeat(HASH_DIGITS);
    }
    let mut hash: String = Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect();
    hash.truncate(HASH_DIGITS);
    hash
}

/// Numbers that browsers put in at random (RFC 8701): 0x?A?A with equal bytes.
fn is_grease(n: u16) -> bool {
    n & 0x0f0f == 0x0a0a && n >> 8 == n & 0xff
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }
    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }
    /// Numbers behind their length in bytes, without GREASE.
    fn list(&mut self) -> Option<Vec<u16>> {
        let len = self.u16()?;
        Some(Reader(self.take(usize::from(len))?).numbers())
    }
    /// All that is left, as numbers without GREASE.
    fn numbers(&mut self) -> Vec<u16> {
        let all = self.0.chunks_exact(2).map(|b| u16::from_be_bytes([b[0], b[1]]));
        all.filter(|n| !is_grease(*n)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A handshake message with extensions and their contents.
    fn message(ciphers: &[u16], extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let numbers = |list: &[u16]| list.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<u8>>();
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend(((ciphers.len() * 2) as u16).to_be_bytes());
        body.extend(numbers(ciphers));
        body.extend([1, 0]);
        let all: Vec<u8> = extensions
            .iter()
            .flat_map(|(id, data)| [&id.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat())
            .collect();
        body.extend((all.len() as u16).to_be_bytes());
        body.extend(all);
        let mut message = vec![1];
        message.extend(&(body.len() as u32).to_be_bytes()[1..]);
        message.extend(body);
        message
    }

    fn bare(ciphers: &[u16], extensions: &[u16]) -> Hello {
        let message = message(ciphers, &extensions.iter().map(|e| (*e, vec![])).collect::<Vec<_>>());
        Hello::read(&message).unwrap_or_default()
    }

    fn records(message: &[u8], of: usize) -> Vec<u8> {
        message.chunks(of).flat_map(|c| [&[0x16, 3, 1][..], &(c.len() as u16).to_be_bytes(), c].concat()).collect()
    }

    /// Chrome's, the worked example of JA4's technical description.
    fn chrome() -> Vec<u8> {
        let ciphers = [
            0x2a2a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d,
            0x002f, 0x0035,
        ];
        let list = |numbers: &[u16]| numbers.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<u8>>();
        let signatures = list(&[16, 0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601]);
        let versions = [vec![6], list(&[0x4a4a, 0x0304, 0x0303])].concat();
        let protocols = [vec![0, 12, 2], b"h2".to_vec(), vec![8], b"http/1.1".to_vec()].concat();
        let plain = [0x001b, 0x0000, 0x0033, 0x4469, 0x0017, 0x002d, 0x0005, 0x0023, 0xff01, 0x000b, 0x000a, 0x0012, 0x0015];
        let mut extensions: Vec<(u16, Vec<u8>)> = plain.iter().map(|e| (*e, vec![])).collect();
        extensions.extend([(0x8a8a, vec![]), (43, versions), (16, protocols), (13, signatures)]);
        message(&ciphers, &extensions)
    }

    #[test]
    fn ja4_is_that_of_the_public_example() {
        let hello = Hello::read(&chrome()).unwrap_or_default();
        assert_eq!(hello.ja4(), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn ja4_of_odd_hellos() {
        assert_eq!(bare(&[], &[]).ja4(), "t12i000000_000000000000_000000000000");
        let strange = |alpn: &[u8]| Hello { alpn: Some(alpn.to_vec()), ..Hello::default() }.first_protocol();
        assert_eq!([strange(b"h2"), strange(b"http/1.1"), strange(b"x")], ["h2", "h1", "xx"]);
        assert_eq!([strange(&[0xab]), strange(&[0x30, 0xab]), strange(b"")], ["ab", "3b", "00"]);
    }

    #[test]
    fn shuffling_and_grease_do_not_change_the_hash_and_ciphers_do() {
        let a = bare(&[0x1301, 0x1302], &[0, 10, 16]).hash();
        assert_eq!(a, bare(&[0x0a0a, 0x1301, 0x1302], &[16, 0xfafa, 0, 10]).hash());
        assert_ne!(a, bare(&[0x1302, 0x1301], &[0, 10, 16]).hash());
        assert_ne!(a, bare(&[0x1301, 0x1302], &[0, 10]).hash());
    }

    #[test]
    fn a_hello_in_pieces_is_put_together() {
        let hello = chrome();
        for of in [1, 7, 100, 10_000] {
            let bytes = records(&hello, of);
            assert_eq!(gather(&bytes), Progress::Whole(hello.clone()), "records of {of} bytes");
            for end in 0..bytes.len() {
                let need = match gather(&bytes[..end]) {
                    Progress::Partial(need) => need,
                    other => panic!("{end} bytes of records of {of}: {other:?}"),
                };
                assert!(need > end && need <= bytes.len(), "{need} of {end}");
            }
        }
        let behind = [records(&hello, 100), vec![0x17, 3, 3]].concat();
        assert_eq!(gather(&behind), Progress::Whole(hello), "what follows is not looked at");
    }

    #[test]
    fn what_is_no_hello_or_endless_is_not_waited_for() {
        let endless = [0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff];
        for other in [&b"GET / HTTP/1.1"[..], b"\x16\x02", &[0x16, 3, 1, 0, 1, 2], &[0x16, 3, 1, 0, 0], &endless] {
            assert_eq!(gather(other), Progress::Other, "{other:?}");
        }
        assert_eq!(gather(&[]), Progress::Partial(5));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..300, b in any::<u8>()) {
            let _ = (gather(&bytes), Hello::read(&bytes));
            let mut hello = chrome();
            let i = at % hello.len();
            hello[i] = b;
            if let Some(hello) = Hello::read(&hello) {
                let _ = (hello.ja4(), hello.hash());
            }
        }
    }
}
