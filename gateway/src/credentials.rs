//! Tokens that come with a request: our cookies, or `Authorization: Tidegate TOKEN, TOKEN` for apps without them.

use tidegate_filters::seats::token::{Keyring, Kind, TOKENS_MAX, Token};

use crate::{counts::Counts, head::Fields};

/// Cookie bytes looked at in one request; what comes later is not read.
pub const COOKIE_BYTES_MAX: usize = 16 << 10;
/// Name of our cookies, behind `__Host-` on https.
pub const COOKIE_PREFIX: &str = "tidegate-";
/// What makes a browser refuse a cookie that another host of the domain has set.
pub const HOST_PREFIX: &str = "__Host-";
/// Cookies by name, and `Authorization: Tidegate TOKEN, TOKEN`; whether any was refused.
pub fn read(fields: &Fields<'_>, https: bool, keyring: &Keyring, counts: &Counts) -> (Vec<Token>, bool) {
    let (mut found, mut refused) = (Vec::new(), false);
    let mut open = |text: &str, kind: Option<Kind>| {
        if found.len() >= TOKENS_MAX {
            return;
        }
        match keyring.open(text) {
            Ok(token) if kind.is_none_or(|k| k == token.kind) => found.push(token),
            Ok(_) => {}
            Err(e) => {
                refused = true;
                counts.token(e);
            }
        }
    };
    let mut budget = COOKIE_BYTES_MAX;
    let mut tried = 0;
    for line in fields.all("cookie") {
        let Some(left) = budget.checked_sub(line.len()) else { break };
        budget = left;
        for (name, value) in pairs(line) {
            let name = if https { name.strip_prefix(HOST_PREFIX) } else { Some(name) };
            let Some(kind) = name.and_then(|n| n.strip_prefix(COOKIE_PREFIX)).and_then(cookie_kind) else { continue };
            tried += 1;
            if tried <= TOKENS_MAX {
                open(value, Some(kind));
            }
        }
    }
    if let Some(list) = fields.text("authorization").and_then(tidegate_scheme) {
        list.split(',').take(TOKENS_MAX).for_each(|t| open(t.trim(), None));
    }
    (found, refused)
}

/// The value of a cookie that is not ours; the first of the name, within [`COOKIE_BYTES_MAX`].
pub fn cookie<'h>(fields: &Fields<'h>, name: &str) -> Option<&'h str> {
    let mut budget = COOKIE_BYTES_MAX;
    fields.all("cookie").find_map(|line| {
        budget = budget.checked_sub(line.len())?;
        pairs(line).find(|(n, _)| *n == name).map(|(_, value)| value)
    })
}

/// Names and values. One that is no text is nobody's but the shop's, and hides none of its neighbours.
fn pairs(line: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    line.split(|b| *b == b';').filter_map(|pair| std::str::from_utf8(pair).ok()?.trim().split_once('='))
}

fn cookie_kind(name: &str) -> Option<Kind> {
    match name {
        "visitor" => Some(Kind::Visitor),
        "clearance" => Some(Kind::Clearance),
        "bypass" => Some(Kind::Bypass),
        "detour" => Some(Kind::Detour),
        _ if name.starts_with("ticket-") => Some(Kind::Ticket),
        _ if name.starts_with("pass-") => Some(Kind::Pass),
        _ => None,
    }
}

/// The credentials of an `Authorization: Tidegate …` header.
pub fn tidegate_scheme(authorization: &str) -> Option<&str> {
    let (scheme, rest) = authorization.split_at_checked(9)?;
    scheme.eq_ignore_ascii_case("tidegate ").then_some(rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn ring() -> Keyring {
        Keyring::new(&[(1, [7; 32])]).unwrap()
    }

    fn token(kind: Kind, number: u64) -> String {
        ring().seal(&Token {
            kind,
            room: "".into(),
            sale: "".into(),
            host: "shop.example".into(),
            epoch: 0,
            number,
            binding: 0,
            issued_at_ms: 0,
            not_before_ms: 0,
            expires_at_ms: 2_000_000,
        })
    }

    fn found(name: &'static str, value: &str, https: bool) -> (usize, u64) {
        let fields = Fields::new([(name, value.as_bytes())]);
        let counts = Counts::default();
        let (tokens, any) = read(&fields, https, &ring(), &counts);
        let mut refused = 0;
        counts.each(|name, _, n| refused += if name == "tokens_refused" { n } else { 0 });
        assert_eq!(any, refused > 0);
        (tokens.len(), refused)
    }

    #[test]
    fn cookies_count_by_prefix_kind_and_mac() {
        let visitor = token(Kind::Visitor, 5);
        assert_eq!(found("cookie", &format!("a=b; tidegate-visitor={visitor}"), false), (1, 0));
        assert_eq!(found("cookie", &format!("__Host-tidegate-visitor={visitor}"), true), (1, 0));
        assert_eq!(found("cookie", &format!("tidegate-visitor={visitor}"), true), (0, 0), "another host could have set it");
        assert_eq!(found("cookie", &format!("tidegate-pass-drop={visitor}"), false), (0, 0), "a visitor is no pass");
        assert_eq!(found("cookie", "tidegate-visitor=AAAA", false), (0, 1));
    }

    #[test]
    fn what_is_looked_at_is_bounded() {
        let flood = format!("tidegate-visitor={}; ", token(Kind::Visitor, 5)).repeat(40);
        assert_eq!(found("cookie", &flood, false), (TOKENS_MAX, 0));
        assert_eq!(found("cookie", &"tidegate-visitor=A; ".repeat(40), false).1, TOKENS_MAX as u64);
        assert_eq!(found("cookie", &"x".repeat(1 << 20), false), (0, 0));
    }

    #[test]
    fn a_neighbour_that_is_no_text_hides_nobody() {
        let ours = format!("; tidegate-visitor={}", token(Kind::Visitor, 5));
        let line = [&b"name=Jos\xe9; login=x"[..], ours.as_bytes()].concat();
        let fields = Fields::new([("cookie", &line[..])]);
        assert_eq!(read(&fields, false, &ring(), &Counts::default()).0.len(), 1);
        assert_eq!((cookie(&fields, "login"), cookie(&fields, "name")), (Some("x"), None));
    }

    #[test]
    fn apps_may_send_a_header() {
        let auth = format!("Tidegate {}, {}", token(Kind::Ticket, 1), token(Kind::Pass, 2));
        assert_eq!(found("authorization", &auth, true), (2, 0));
        assert_eq!(found("authorization", "Bearer x", true), (0, 0));
    }
}
