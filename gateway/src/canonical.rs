//! One spelling of a path and of a host: what rules match is what the shop receives.
//!
//! Paths: unreserved characters are decoded, the hex of the others is upper case, dot segments are resolved, `//` is `/`.
//! `;params` stay (routes do not see them), but not on dots: `..;` climbs in some shops and is a name in others. A path whose meaning depends on who reads it is refused: encoded `/` (`%2F`), `\` raw or encoded
//! (`%5C`), encoded control characters, a `%` without two hex digits. What the shop decodes a second time is its own
//! matter: `%252F` is `%252F`.

use std::borrow::Cow;

/// Why a path has no canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// It does not begin with `/`.
    #[error("does not begin with /")]
    Relative,
    /// `%` without two hex digits.
    #[error("% without two hex digits")]
    BadEscape,
    /// `%2F`, `%5C` or `\`.
    #[error("an encoded / or a \\")]
    Separator,
    /// `.;x` or `..;x`.
    #[error("parameters on a dot segment")]
    Dots,
    /// A control character, raw or encoded, or a byte that must be encoded.
    #[error("a control character or a byte that must be percent-encoded")]
    Control,
}

/// The canonical form of a path (no query, no fragment). Borrows when it already is canonical.
pub fn path(raw: &str) -> Result<Cow<'_, str>, PathFault> {
    if !raw.starts_with('/') {
        return Err(PathFault::Relative);
    }
    if is_plain(raw) {
        return Ok(Cow::Borrowed(raw));
    }
    let decoded = unescape(raw.as_bytes())?;
    let dots = |segment: &str| segment.split_once(';').is_some_and(|(name, _)| matches!(name, "." | ".."));
    if decoded.split('/').any(dots) {
        return Err(PathFault::Dots);
    }
    Ok(Cow::Owned(resolve(&decoded)))
}

/// Splits a request target into path and query (without `?`).
pub fn split(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

/// The canonical form of a host: lower case, no port, no trailing dot. `None` when it is no host name.
pub fn host(raw: &str) -> Option<Cow<'_, str>> {
    let name = if raw.starts_with('[') {
        let end = raw.find(']')? + 1;
        raw[1..end - 1].parse::<std::net::Ipv6Addr>().ok()?;
        port_is_sane(&raw[end..])?;
        &raw[..end]
    } else {
        let (name, port) = raw.split_at(raw.find(':').unwrap_or(raw.len()));
        port_is_sane(port)?;
        let name = name.strip_suffix('.').unwrap_or(name);
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let sane = !name.is_empty() && name.len() <= 253 && name.bytes().all(good);
        if !sane || name.split('.').any(str::is_empty) {
            return None;
        }
        name
    };
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some(Cow::Owned(name.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(name))
}

/// `""`, `":"` or `":443"`.
fn port_is_sane(port: &str) -> Option<()> {
    let digits = match port.strip_prefix(':') {
        Some(digits) => digits,
        None => return port.is_empty().then_some(()),
    };
    let sane = digits.is_empty() || (digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok());
    sane.then_some(())
}

/// Nothing to do: no escapes, no `//`, no segment that begins with a dot, only plain bytes.
fn is_plain(raw: &str) -> bool {
    let mut before = 0;
    raw.bytes().all(|b| {
        let fine = plain(b) && !(before == b'/' && matches!(b, b'/' | b'.'));
        before = b;
        fine
    })
}

/// Bytes that stand in a canonical path as they are.
fn plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'.' | b'_' | b'~') || other_plain(b)
}

/// `sub-delims`, `:`, `@`, and what browsers send raw although they should not.
fn other_plain(b: u8) -> bool {
    matches!(b, b'!' | b'$' | b'&'..=b',' | b';' | b'=' | b':' | b'@' | b'[' | b']' | b'^' | b'{' | b'|' | b'}')
}

/// Bytes of a request target. The rest must be percent-encoded; browsers do.
pub fn is_target_byte(b: u8) -> bool {
    matches!(b, 0x21..=0x7e) && !matches!(b, b'#' | b'"' | b'<' | b'>')
}

/// Decodes what is unreserved, upper-cases the rest, refuses what is ambiguous.
fn unescape(raw: &[u8]) -> Result<String, PathFault> {
    let hex = |b: Option<&u8>| b.and_then(|b| (*b as char).to_digit(16)).ok_or(PathFault::BadEscape);
    let mut out = String::with_capacity(raw.len());
    let mut i = 0;
    while i < raw.len() {
        match raw[i] {
            b'%' => {
                let byte = (hex(raw.get(i + 1))? << 4 | hex(raw.get(i + 2))?) as u8;
                match byte {
                    b'/' | b'\\' => return Err(PathFault::Separator),
                    0..=0x1f | 0x7f => return Err(PathFault::Control),
                    b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') => out.push(b as char),
                    b => {
                        out.push('%');
                        for nibble in [b >> 4, b & 15] {
                            out.push(b"0123456789ABCDEF"[usize::from(nibble)] as char);
                        }
                    }
                }
                i += 3;
            }
            b'\\' => return Err(PathFault::Separator),
            b if plain(b) => {
                out.push(b as char);
                i += 1;
            }
            _ => return Err(PathFault::Control),
        }
    }
    Ok(out)
}

/// Resolves `.` and `..` and empty segments; never climbs above the root.
fn resolve(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            // `/a/.`, `/a/..` and `/a/` end in a slash.
            "" | "." if last => out.push('/'),
            "" | "." => {}
            ".." => {
                out.truncate(out.rfind('/').unwrap_or(0));
                if last {
                    out.push('/');
                }
            }
            _ => {
                out.push('/');
                out.push_str(segment);
            }
        }
    }
    if out.is_empty() {
        out.push('/');
    }
    out
}

/// Breaks a line or turns the writing around.
pub fn is_invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_path_become_one() {
        let same = |raw: &str, to: &str| assert_eq!(path(raw).as_deref(), Ok(to), "{raw}");
        for raw in
            ["/checkout", "/%63heckout", "/./checkout", "//checkout", "/x/../checkout", "/%2e/checkout", "/x/%2E%2e/checkout"]
        {
            same(raw, "/checkout");
        }
        same("/", "/");
        same("/..", "/");
        same("/../../etc", "/etc");
        same("/a/", "/a/");
        same("/a/.", "/a/");
        same("/a/b/..", "/a/");
        same("/a//", "/a/");
        same("/a/.b/..c", "/a/.b/..c");
        same("/caf%c3%a9", "/caf%C3%A9");
        same("/a;v=1/b", "/a;v=1/b");
        same("/100%25", "/100%25");
        same("/%252F", "/%252F");
        same("/a%20b", "/a%20b");
    }

    #[test]
    fn doubtful_paths_are_refused() {
        for (raw, why) in [
            ("checkout", PathFault::Relative),
            ("", PathFault::Relative),
            ("/%", PathFault::BadEscape),
            ("/%4", PathFault::BadEscape),
            ("/%zz", PathFault::BadEscape),
            ("/a%2Fb", PathFault::Separator),
            ("/a%5cb", PathFault::Separator),
            ("/a\\b", PathFault::Separator),
            ("/static/..;/checkout", PathFault::Dots),
            ("/static/%2e%2e;x=1/checkout", PathFault::Dots),
            ("/a/.;", PathFault::Dots),
            ("/a%00", PathFault::Control),
            ("/a%0d%0aX", PathFault::Control),
            ("/a\u{1}", PathFault::Control),
            ("/caf\u{e9}", PathFault::Control),
            ("/a#b", PathFault::Control),
            ("/a<b", PathFault::Control),
        ] {
            assert_eq!(path(raw), Err(why), "{raw:?}");
        }
    }

    #[test]
    fn hosts() {
        let h = |s: &str| host(s).map(Cow::into_owned);
        assert_eq!(h("Shop.Example.:443").as_deref(), Some("shop.example"));
        assert_eq!(h("shop.example:").as_deref(), Some("shop.example"));
        assert_eq!(h("[2001:DB8::1]:80").as_deref(), Some("[2001:db8::1]"));
        assert_eq!(h("127.0.0.1:8080").as_deref(), Some("127.0.0.1"));
        for bad in ["", ":80", "a b", "a@b", "a/b", "[::1", "[x]", "[::1]x", "a:b", "a:99999", "a..b", ".", "..", "a:+80"] {
            assert_eq!(h(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn twice_is_once_and_the_root_is_never_left(raw in "/(%[0-9a-fA-F]{2}|\\.|/|[a-z;%~]){0,24}") {
            if let Ok(once) = path(&raw) {
                let twice = path(&once);
                prop_assert_eq!(twice.as_deref(), Ok(&*once));
                prop_assert!(once.starts_with('/'));
                prop_assert!(!once.contains("//"));
                prop_assert!(once.split('/').all(|s| s != "." && s != ".."));
                prop_assert!(once.bytes().all(|b| b == b'%' || plain(b)));
            }
        }

        #[test]
        fn what_is_canonical_can_be_forwarded(path_raw in "/[!-~]{0,20}", query in "[!-~]{0,20}") {
            if let Ok(p) = path(&path_raw) && query.bytes().all(is_target_byte) {
                let target = format!("{p}?{query}");
                prop_assert!(http::uri::PathAndQuery::try_from(target.as_str()).is_ok_and(|pq| pq.as_str() == target));
            }
        }

        #[test]
        fn nothing_panics(raw in "\\PC{0,40}") {
            let _ = path(&raw);
            let _ = host(&raw);
            let _ = path(&format!("/{raw}"));
        }

        #[test]
        fn a_host_is_canonical_after_once(raw in "[a-zA-Z0-9.:\\[\\]-]{0,20}") {
            if let Some(once) = host(&raw) {
                let twice = host(&once);
                prop_assert_eq!(twice.as_deref(), Some(&*once));
            }
        }
    }
}
