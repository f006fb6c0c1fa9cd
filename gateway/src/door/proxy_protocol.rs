//! The PROXY protocol, versions 1 and 2: what a balancer says about the client. Read only from networks that the policy
//! lists.

use std::net::{IpAddr, SocketAddr};

/// Longest header accepted, bytes: version 2 with the addresses and a few extensions.
pub const HEADER_MAX: usize = 536;
/// Longest line of version 1 (its specification).
const V1_MAX: usize = 107;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Partial,
    /// A header of this length. `None`: the balancer speaks for itself (a health check).
    Header(usize, Option<SocketAddr>),
    /// No PROXY header.
    Bad,
}

/// Looks at the first bytes of a connection.
pub fn parse(bytes: &[u8]) -> Parsed {
    let n = bytes.len().min(V2_SIGNATURE.len());
    if bytes[..n] == V2_SIGNATURE[..n] {
        return if bytes.len() < 16 { Parsed::Partial } else { v2(bytes) };
    }
    let n = bytes.len().min(6);
    if bytes[..n] != b"PROXY "[..n] {
        return Parsed::Bad;
    }
    match bytes.windows(2).take(V1_MAX - 1).position(|w| w == b"\r\n") {
        Some(end) => match std::str::from_utf8(&bytes[..end]).ok().and_then(v1) {
            Some(source) => Parsed::Header(end + 2, source),
            None => Parsed::Bad,
        },
        None if bytes.len() >= V1_MAX => Parsed::Bad,
        None => Parsed::Partial,
    }
}

/// The outer `None`: malformed.
fn v1(line: &str) -> Option<Option<SocketAddr>> {
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let (source, destination) = (words.next()?.parse::<IpAddr>().ok()?, words.next()?.parse::<IpAddr>().ok()?);
    let (port, _) = (words.next()?.parse().ok()?, words.next()?.parse::<u16>().ok()?);
    let family_fits = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    (family_fits && words.next().is_none()).then_some(Some(SocketAddr::new(source, port)))
}

fn v2(bytes: &[u8]) -> Parsed {
    let len = 16 + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if bytes[12] >> 4 != 2 || len > HEADER_MAX {
        return Parsed::Bad;
    }
    if bytes.len() < len {
        return Parsed::Partial;
    }
    let body = &bytes[16..len];
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    match (bytes[12] & 15, bytes[13]) {
        (0, _) => Parsed::Header(len, None),
        (1, 0x11) if body.len() >= 12 => {
            let ip: [u8; 4] = [body[0], body[1], body[2], body[3]];
            Parsed::Header(len, Some(SocketAddr::from((ip, port(8)))))
        }
        (1, 0x21) if body.len() >= 36 => {
            let mut ip = [0u8; 16];
            ip.copy_from_slice(&body[..16]);
            Parsed::Header(len, Some(SocketAddr::from((ip, port(32)))))
        }
        (1, 0x00) => Parsed::Header(len, None),
        _ => Parsed::Bad,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    fn v2_header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut v = V2_SIGNATURE.to_vec();
        v.extend([0x20 | command, family]);
        v.extend((body.len() as u16).to_be_bytes());
        v.extend(body);
        v
    }

    #[test]
    fn both_versions_name_the_client() {
        let client = Some("192.0.2.7:4711".parse().unwrap());
        let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\nGET";
        assert_eq!(parse(v1), Parsed::Header(v1.len() - 3, client));
        let mut v2 = v2_header(1, 0x11, &[192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 1, 187, 3, 0, 0]);
        let len = v2.len();
        for cut in 0..len {
            assert_eq!(parse(&v2[..cut]), Parsed::Partial, "cut {cut}");
        }
        v2.extend(b"GET");
        assert_eq!(parse(&v2), Parsed::Header(len, client));
        let mut six = [0u8; 36];
        six[15] = 1;
        six[33] = 80;
        assert_eq!(parse(&v2_header(1, 0x21, &six)), Parsed::Header(52, Some("[::1]:80".parse().unwrap())));
    }

    #[test]
    fn health_checks_of_the_balancer_have_no_client() {
        assert_eq!(parse(b"PROXY UNKNOWN\r\n"), Parsed::Header(15, None));
        assert_eq!(parse(&v2_header(0, 0, &[])), Parsed::Header(16, None));
    }

    #[test]
    fn anything_else_is_bad() {
        for bad in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 1\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 70000 443\r\n",
            b"PROXY  TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
            b"\x16\x03\x01",
        ] {
            assert_eq!(parse(bad), Parsed::Bad, "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(parse(&[b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat()), Parsed::Bad);
        assert_eq!(parse(&v2_header(1, 0x11, &[0; 11])), Parsed::Bad);
        assert_eq!(parse(&v2_header(1, 0x11, &[0; 600])), Parsed::Bad);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&bytes);
            let _ = parse(&[&V2_SIGNATURE[..], &bytes[..]].concat());
            let _ = parse(&[&b"PROXY "[..], &bytes[..]].concat());
        }
    }
}
