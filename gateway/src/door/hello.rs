//! What a TLS hello says about the program that sent it: one hash, as a feature for the score.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

/// Longest hello looked at, bytes; longer ones are handed on unread.
pub const HELLO_MAX: usize = 16 << 10;

/// Bytes of the first TLS record, header included, as far as known.
pub fn record_len(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [0x16, 3, _, hi, lo, ..] => Some(5 + usize::from(u16::from_be_bytes([*hi, *lo]))),
        [0x16, ..] if bytes.len() < 5 => Some(5),
        [] => Some(5),
        _ => None,
    }
}

/// Hash of cipher suites in order and of extension numbers sorted (browsers shuffle them); without GREASE. 0: no hello.
pub fn fingerprint(record: &[u8]) -> u64 {
    read(record).unwrap_or(0)
}

fn read(record: &[u8]) -> Option<u64> {
    let mut r = Reader(record.get(5..)?);
    // Handshake type and length, version, random.
    if r.u8()? != 1 {
        return None;
    }
    r.take(3 + 2 + 32)?;
    let session = r.u8()?;
    r.take(usize::from(session))?;
    let mut h = SipHasher13::new_with_keys(0, 0);
    let ciphers = r.u16()?;
    for c in r.take(usize::from(ciphers))?.chunks_exact(2) {
        let c = u16::from_be_bytes([c[0], c[1]]);
        if !is_grease(c) {
            h.write_u16(c);
        }
    }
    let compressions = r.u8()?;
    r.take(usize::from(compressions))?;
    let mut seen = [0u16; 64];
    let mut n = 0;
    if let Some(len) = r.u16() {
        let mut e = Reader(r.take(usize::from(len))?);
        while let (Some(id), Some(len)) = (e.u16(), e.u16()) {
            e.take(usize::from(len))?;
            if !is_grease(id) && n < seen.len() {
                seen[n] = id;
                n += 1;
            }
        }
    }
    seen[..n].sort_unstable();
    for id in &seen[..n] {
        h.write_u16(*id);
    }
    Some(h.finish().max(1))
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello(ciphers: &[u16], extensions: &[u16]) -> Vec<u8> {
        let mut body = vec![1, 0, 0, 0, 3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend(((ciphers.len() * 2) as u16).to_be_bytes());
        ciphers.iter().for_each(|c| body.extend(c.to_be_bytes()));
        body.extend([1, 0]);
        body.extend(((extensions.len() * 4) as u16).to_be_bytes());
        for e in extensions {
            body.extend(e.to_be_bytes());
            body.extend([0, 0]);
        }
        let mut record = vec![0x16, 3, 1];
        record.extend((body.len() as u16).to_be_bytes());
        record.extend(body);
        record
    }

    #[test]
    fn shuffling_and_grease_do_not_change_it_and_ciphers_do() {
        let a = fingerprint(&hello(&[0x1301, 0x1302], &[0, 10, 16]));
        assert_ne!(a, 0);
        assert_eq!(a, fingerprint(&hello(&[0x0a0a, 0x1301, 0x1302], &[16, 0xfafa, 0, 10])));
        assert_ne!(a, fingerprint(&hello(&[0x1302, 0x1301], &[0, 10, 16])));
        assert_ne!(a, fingerprint(&hello(&[0x1301, 0x1302], &[0, 10])));
        assert_eq!(record_len(&hello(&[1], &[])), Some(hello(&[1], &[]).len()));
    }

    #[test]
    fn what_is_no_hello_is_zero() {
        assert_eq!(fingerprint(b"GET / HTTP/1.1\r\n\r\n"), 0);
        assert_eq!(record_len(b"GET /"), None);
        assert_eq!(fingerprint(&[]), 0);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (fingerprint(&bytes), record_len(&bytes));
            let mut r = hello(&[1, 2], &[3]);
            r.truncate(bytes.len());
            let _ = fingerprint(&r);
        }
    }
}
