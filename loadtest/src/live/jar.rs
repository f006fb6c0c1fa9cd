//! A visitor's cookies: names and values, as much of RFC 6265 as one host needs.

use std::collections::BTreeMap;

use hyper::header::{HeaderMap, HeaderValue, SET_COOKIE};

/// Most cookies a browser keeps for a host, more or less.
const COOKIES_MAX: usize = 50;

/// What a browser keeps for one host.
#[derive(Clone, Debug, Default)]
pub struct Jar(BTreeMap<String, String>);

impl Jar {
    /// Takes what an answer sets; an empty value or an age of zero removes.
    pub fn take(&mut self, headers: &HeaderMap) {
        for value in headers.get_all(SET_COOKIE) {
            let Some((name, value, gone)) = value.to_str().ok().and_then(parse) else { continue };
            if gone {
                self.0.remove(name);
            } else if self.0.len() < COOKIES_MAX || self.0.contains_key(name) {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// The `Cookie` header; `None` when there is none.
    pub fn header(&self) -> Option<HeaderValue> {
        if self.0.is_empty() {
            return None;
        }
        let text = self.0.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ");
        HeaderValue::from_str(&text).ok()
    }
}

/// Name, value, and whether the cookie is to be removed.
pub(super) fn parse(set_cookie: &str) -> Option<(&str, &str, bool)> {
    let mut parts = set_cookie.split(';');
    let (name, value) = parts.next()?.trim().split_once('=')?;
    let expired = parts.any(|p| p.trim().eq_ignore_ascii_case("max-age=0"));
    Some((name, value, expired || value.is_empty()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cookies_are_kept_replaced_and_removed() {
        let mut jar = Jar::default();
        let set = |jar: &mut Jar, v: &'static str| {
            let mut h = HeaderMap::new();
            h.insert(SET_COOKIE, HeaderValue::from_static(v));
            jar.take(&h);
        };
        set(&mut jar, "tidegate-ticket-drop=AAA; HttpOnly; Path=/");
        set(&mut jar, "tidegate-visitor=v; Path=/");
        set(&mut jar, "tidegate-ticket-drop=BBB; Path=/");
        assert_eq!(jar.header().unwrap(), "tidegate-ticket-drop=BBB; tidegate-visitor=v");
        set(&mut jar, "tidegate-ticket-drop=; Max-Age=0; Path=/");
        assert_eq!(jar.header().unwrap(), "tidegate-visitor=v");
    }
}
