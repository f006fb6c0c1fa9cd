//! The strict look at a request's head, on the bytes as they came: the proxy behind the door repairs too much to notice.

use std::mem::MaybeUninit;

use bytes::{Buf as _, BytesMut};
use http::Version;
use httparse::{Request, Status};
use tidegate_config::{RequestLimits, Underscores};

use crate::{
    canonical,
    counts::HeadFault,
    head::{Fields, Head},
};

/// Most headers the parser has room for; the policy's limit is lower.
pub const HEADERS_MAX: usize = 256;
/// Longest method accepted, bytes.
pub const METHOD_MAX: usize = 20;

/// How far a head has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    scanned: usize,
    begun: bool,
}

impl Progress {
    /// Looks at the bytes that are new since the last call. `Some(n)`: the head is the first `n` bytes.
    pub fn look(&mut self, buf: &mut BytesMut, limits: &RequestLimits) -> Result<Option<usize>, HeadFault> {
        if !self.begun {
            // One empty line before a request is tolerated (RFC 9112 §2.2).
            match buf.first() {
                Some(b'\r') if buf.len() < 2 => return Ok(None),
                Some(b'\r') if buf[1] == b'\n' => buf.advance(2),
                _ => {}
            }
            match buf.first() {
                None => return Ok(None),
                Some(b'\r' | b'\n') => return Err(HeadFault::BadRequestLine),
                Some(_) => self.begun = true,
            }
        }
        let from = self.scanned;
        let mut whole = None;
        for i in memchr::memchr_iter(b'\n', &buf[from..]).map(|i| from + i) {
            if i == 0 || buf[i - 1] != b'\r' {
                return Err(HeadFault::BareLf);
            }
            if i >= 3 && buf[i - 3..i - 1] == *b"\r\n" {
                whole = Some(i + 1);
                break;
            }
        }
        // What follows the head may be a body of any bytes.
        let end = whole.unwrap_or(buf.len());
        if has_control_byte(&buf[from..end]) {
            return Err(HeadFault::ControlByte);
        }
        self.scanned = end;
        if end as u64 > limits.header_bytes.0 || (whole.is_none() && end as u64 == limits.header_bytes.0) {
            return Err(HeadFault::TooLarge);
        }
        Ok(whole)
    }
}

/// Any byte below space but TAB, CR and LF, or DEL. Without a branch for each byte: the compiler takes 16 or 32 at once.
fn has_control_byte(bytes: &[u8]) -> bool {
    let bad =
        |b: u8| u8::from(b < 0x20) & u8::from(b != b'\t') & u8::from(b != b'\r') & u8::from(b != b'\n') | u8::from(b == 0x7f);
    bytes.iter().fold(0, |found, b| found | bad(*b)) != 0
}

/// Checks a whole head (it ends with the empty line) and takes it apart.
pub fn parse<'a>(head: &'a [u8], limits: &RequestLimits) -> Result<Head<'a>, HeadFault> {
    let (mut lines, mut folded) = (0, false);
    for i in memchr::memchr_iter(b'\n', head) {
        lines += 1;
        folded |= matches!(head.get(i + 1), Some(b' ' | b'\t'));
    }
    // Every LF follows a CR, as `Progress` has seen: a CR too many stands alone.
    if memchr::memchr_iter(b'\r', head).count() != lines {
        return Err(HeadFault::ControlByte);
    }
    if folded {
        return Err(HeadFault::ObsFold);
    }
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut headers) {
        Ok(Status::Complete(n)) if n == head.len() => {}
        Ok(_) => return Err(HeadFault::BadRequestLine),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadFault::TooManyHeaders),
        Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => return Err(HeadFault::BadHeader),
        Err(httparse::Error::Version) => return Err(HeadFault::BadVersion),
        Err(_) => return Err(HeadFault::BadRequestLine),
    }
    let old = request.version == Some(0);
    let verb = request.method.unwrap_or_default();
    method(verb)?;
    let framing = Framing::of(request.headers, limits)?;
    framing.check(old)?;
    let (authority, origin_form) = framing.authority_and_target(request.path.unwrap_or_default(), old)?;
    let version = if old { Version::HTTP_10 } else { Version::HTTP_11 };
    Head::new(verb, version, authority, origin_form, Fields::new(request.headers.iter().map(|h| (h.name, h.value))))
}

/// Methods are upper-case tokens, so that `post` is not a way around a rule for `POST`.
pub fn method(method: &str) -> Result<(), HeadFault> {
    let sane = !method.is_empty() && method.len() <= METHOD_MAX && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    match method {
        _ if !sane => Err(HeadFault::BadMethod),
        "CONNECT" | "TRACE" | "TRACK" => Err(HeadFault::MethodRefused),
        _ => Ok(()),
    }
}

/// Header names of anything but letters, digits and `-`: many shops read `X_Forwarded_For` as `X-Forwarded-For`, and some
/// whatever else stands there. No client of people sends one.
pub fn name(name: &str, limits: &RequestLimits) -> Result<(), HeadFault> {
    let allowed = limits.underscores_in_names == Underscores::Allow;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || allowed && matches!(b, b'_' | b'.');
    if name.bytes().all(plain) { Ok(()) } else { Err(HeadFault::DoubtfulName) }
}

/// What framing and routing depend on.
#[derive(Default)]
struct Framing<'a> {
    hosts: u32,
    host: &'a [u8],
    lengths: u32,
    length: &'a [u8],
    encodings: u32,
    encoding: &'a [u8],
}

impl<'a> Framing<'a> {
    fn of(headers: &[httparse::Header<'a>], limits: &RequestLimits) -> Result<Self, HeadFault> {
        if headers.len() > limits.headers as usize {
            return Err(HeadFault::TooManyHeaders);
        }
        let mut f = Framing::default();
        for h in headers {
            name(h.name, limits)?;
            match h.name.len() {
                4 if h.name.eq_ignore_ascii_case("host") => (f.hosts, f.host) = (f.hosts + 1, h.value),
                14 if h.name.eq_ignore_ascii_case("content-length") => (f.lengths, f.length) = (f.lengths + 1, h.value),
                17 if h.name.eq_ignore_ascii_case("transfer-encoding") => {
                    (f.encodings, f.encoding) = (f.encodings + 1, h.value);
                }
                _ => {}
            }
        }
        Ok(f)
    }

    fn check(&self, old: bool) -> Result<(), HeadFault> {
        match (self.lengths, self.encodings) {
            (0, 0) => Ok(()),
            (_, 1..) if old => Err(HeadFault::OldEncoding),
            (1.., 1..) => Err(HeadFault::LengthAndEncoding),
            (1, 0) => length(self.length),
            (_, 0) => Err(HeadFault::BadLength),
            (_, 1) if self.encoding.eq_ignore_ascii_case(b"chunked") => Ok(()),
            _ => Err(HeadFault::BadEncoding),
        }
    }

    /// `Host` as sent, and the target in origin form.
    fn authority_and_target(&self, target: &'a str, old: bool) -> Result<(&'a str, &'a str), HeadFault> {
        match self.hosts {
            0 if !old => return Err(HeadFault::NoHost),
            2.. => return Err(HeadFault::ManyHosts),
            _ => {}
        }
        let host = std::str::from_utf8(self.host).map_err(|_| HeadFault::BadHost)?;
        if self.hosts == 1 && host.is_empty() {
            return Err(HeadFault::BadHost);
        }
        if !target.bytes().all(canonical::is_target_byte) {
            return Err(HeadFault::BadTarget);
        }
        if target.starts_with('/') {
            return Ok((host, target));
        }
        let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")).ok_or(HeadFault::BadTarget)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        if self.hosts != 1 || !rest[..end].eq_ignore_ascii_case(host) {
            return Err(HeadFault::BadHost);
        }
        Ok((host, &rest[end..]))
    }
}

/// Digits only, and not more than any body has.
fn length(value: &[u8]) -> Result<(), HeadFault> {
    let sane = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    if sane { Ok(()) } else { Err(HeadFault::BadLength) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verdict(text: &str) -> Result<Option<usize>, HeadFault> {
        let limits = RequestLimits::default();
        let mut buf = BytesMut::from(text.as_bytes());
        match Progress::default().look(&mut buf, &limits)? {
            Some(n) => parse(&buf[..n], &limits).map(|_| Some(n)),
            None => Ok(None),
        }
    }

    #[test]
    fn good_heads_pass() {
        for text in [
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /a?b=c%zz HTTP/1.1\r\nHost: a.example:8080\r\nx-empty:\r\nx: \r\n\r\n",
            "POST / HTTP/1.1\r\nhost: [::1]\r\ncontent-length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "GET http://A/x HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http://a HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx-name: caf\u{e9}\ttab\r\n\r\n",
        ] {
            assert!(matches!(verdict(text), Ok(Some(_))), "{text:?}: {:?}", verdict(text));
        }
    }

    #[test]
    fn bad_heads_are_named() {
        use HeadFault::*;
        let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(100));
        let very_many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(1_000));
        let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(16 << 10));
        for (text, why) in [
            ("GET / HTTP/1.1\r\n\r\n", NoHost),
            ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", ManyHosts),
            ("GET / HTTP/1.1\r\nhost:\r\n\r\n", BadHost),
            ("GET / HTTP/1.1\r\nhost: a@b\r\n\r\n", BadHost),
            ("GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n", BadHost),
            ("GET http://a:81/ HTTP/1.1\r\nhost: a\r\n\r\n", BadHost),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", LengthAndEncoding),
            ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", OldEncoding),
            ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n", BadEncoding),
            ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n", BadEncoding),
            ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n", BadEncoding),
            ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \r\n\r\n", BadEncoding),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n", BadLength),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\n", BadLength),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 3\r\n\r\n", BadLength),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\n", BadLength),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", BadLength),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x10\r\n\r\n", BadLength),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\n", BadLength),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n", BadLength),
            ("GET / HTTP/1.1\nhost: a\n\n", BareLf),
            ("GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n", BareLf),
            ("GET / HTTP/1.1\r\nhost: a\r\nx: y\rz: w\r\n\r\n", ControlByte),
            ("GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n folded\r\n\r\n", ObsFold),
            ("GET / HTTP/1.1\r\n host: a\r\n\r\n", ObsFold),
            ("GET /a\u{1}b HTTP/1.1\r\nhost: a\r\n\r\n", ControlByte),
            ("GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n", ControlByte),
            ("GET / HTTP/1.1\r\nhost: a\r\nx_y: 1\r\n\r\n", DoubtfulName),
            ("GET / HTTP/1.1\r\nhost: a\r\nx.y: 1\r\n\r\n", DoubtfulName),
            ("GET / HTTP/1.1\r\nhost: a\r\nremote~user: 1\r\n\r\n", DoubtfulName),
            ("GET / HTTP/1.1\r\nhost: a\r\nbad name: 1\r\n\r\n", BadHeader),
            ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", BadHeader),
            ("GET / HTTP/1.1\r\nhost: a\r\n: 1\r\n\r\n", BadHeader),
            ("GET / HTTP/1.1\r\nhost: a\r\nnocolon\r\n\r\n", BadHeader),
            ("get / HTTP/1.1\r\nhost: a\r\n\r\n", BadMethod),
            ("G@T / HTTP/1.1\r\nhost: a\r\n\r\n", BadRequestLine),
            ("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", MethodRefused),
            ("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", MethodRefused),
            ("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", BadTarget),
            ("GET a HTTP/1.1\r\nhost: a\r\n\r\n", BadTarget),
            ("GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n", BadTarget),
            ("GET /caf\u{e9} HTTP/1.1\r\nhost: a\r\n\r\n", BadTarget),
            ("GET /a%2fb HTTP/1.1\r\nhost: a\r\n\r\n", BadPath),
            ("GET /a%00b HTTP/1.1\r\nhost: a\r\n\r\n", BadPath),
            ("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", BadRequestLine),
            ("GET / HTTP/1.1 \r\nhost: a\r\n\r\n", BadRequestLine),
            ("GET /\r\nhost: a\r\n\r\n", BadRequestLine),
            ("GET / HTTP/2.0\r\nhost: a\r\n\r\n", BadVersion),
            ("GET / HTTP/1.2\r\nhost: a\r\n\r\n", BadVersion),
            ("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", BadRequestLine),
            ("\u{16}\u{3}\u{1}\u{2}", ControlByte),
            (&many, TooManyHeaders),
            (&very_many, TooManyHeaders),
            (&large, TooLarge),
        ] {
            assert_eq!(verdict(text), Err(why), "{:?}", &text[..text.len().min(120)]);
        }
    }

    #[test]
    fn a_head_may_come_in_any_pieces() {
        let text = b"\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\nrest";
        let limits = RequestLimits::default();
        for cut in 0..text.len() {
            let mut p = Progress::default();
            let mut buf = BytesMut::from(&text[..cut]);
            let early = p.look(&mut buf, &limits);
            let found = match early {
                Ok(Some(n)) => Some(n),
                _ => {
                    buf.extend_from_slice(&text[cut..]);
                    p.look(&mut buf, &limits).ok().flatten()
                }
            };
            assert_eq!(found, Some(text.len() - 4 - 2), "cut at {cut}: {early:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let limits = RequestLimits::default();
            let mut buf = BytesMut::from(&bytes[..]);
            let _ = Progress::default().look(&mut buf, &limits);
            let _ = parse(&bytes, &limits);
        }
    }
}
