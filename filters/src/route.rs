//! Which part of the shop a visit is for. First match wins; matched on host, canonical path prefix and method.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

/// One route of the policy.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSettings {
    /// Name other parts of the policy use; letters, digits, `-` and `_`.
    pub name: String,
    /// What must match; everything when left out.
    #[serde(default, rename = "match")]
    pub matches: MatchSettings,
    /// `all` (default) or `none`: forwarded without being asked anything, but recorded and under the in-flight limit.
    #[serde(default)]
    pub filters: RouteFilters,
    /// Most requests of this route at the shop at the same time; more wait in the short queue in front of the shop.
    /// `1` makes a checkout that races with itself safe. Its requests have bodies of at most 64 KiB, whole before the shop is
    /// asked: nobody can keep the others out by sending slowly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight_max: Option<u32>,
    /// What a request of this route must have besides a pass; nothing when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Needs>,
}

/// `needs: { hold: sneaker-42, take_on: [POST] }`: no request that may sell goes to the shop without a unit of stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// The sale whose unit it is.
    pub hold: String,
    /// Methods that take a unit when the visitor holds none. `GET`, `HEAD` and `OPTIONS` never take or need one; every
    /// other method needs one.
    #[serde(default = "take_on")]
    pub take_on: Vec<String>,
    /// Units that one request can sell at most; what it did not sell is free again.
    #[serde(default = "one_unit")]
    pub units: u32,
    /// How long a unit is held for somebody who does not finish.
    #[serde(default = "hold_expires")]
    pub expires: Span,
}

fn take_on() -> Vec<String> {
    vec!["POST".into()]
}
fn one_unit() -> u32 {
    1
}
fn hold_expires() -> Span {
    Span::secs(300)
}

impl Needs {
    /// Whether a request of this method needs a unit.
    pub fn asks(method: &str) -> bool {
        !matches!(method, "GET" | "HEAD" | "OPTIONS")
    }
}

/// What a route matches. All given parts must match.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchSettings {
    /// Exact host without port, or `*.example.com` for any one or more labels before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Path prefix at a segment border: `/cart` matches `/cart` and `/cart/x`, not `/cartoon`. `/static/` matches below it only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// `/Cart` is `/cart`, for shops that take them for the same. Always so for a route with `needs`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_case: bool,
    /// Methods, upper case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub method: Vec<String>,
}

/// Whether a route is filtered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteFilters {
    /// Every filter of the policy, in order.
    #[default]
    All,
    /// None.
    None,
}

/// A route, compiled.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name.
    pub name: Box<str>,
    /// Filters apply.
    pub filtered: bool,
    /// Most requests in flight at the shop.
    pub in_flight_max: Option<u32>,
    /// A unit of stock that its requests need.
    pub needs: Option<Needs>,
    matches: MatchSettings,
}

/// All routes, in order.
#[derive(Clone, Debug, Default)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// Compiles in order.
    pub fn new(settings: &[RouteSettings]) -> Self {
        let route = |s: &RouteSettings| Route {
            name: s.name.as_str().into(),
            filtered: s.filters == RouteFilters::All,
            in_flight_max: s.in_flight_max,
            needs: s.needs.clone(),
            // A shop that takes `/Checkout` for `/checkout` would sell past the hold.
            matches: MatchSettings { ignore_case: s.matches.ignore_case || s.needs.is_some(), ..s.matches.clone() },
        };
        Routes(settings.iter().map(route).collect())
    }

    /// The first route that matches. `host` lower case without port, `path` canonical. `;params` of segments do not count:
    /// shops that know them find the same page without.
    pub fn find(&self, host: &str, path: &str, method: &str) -> Option<usize> {
        let path = &*without_params(path);
        self.0.iter().position(|r| r.matches.matches(host, path, method))
    }

    /// The route at an index that [`Routes::find`] gave.
    pub fn get(&self, index: usize) -> Option<&Route> {
        self.0.get(index)
    }

    /// The index of a name.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|r| &*r.name == name)
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }
}

impl MatchSettings {
    /// Whether host, canonical path and method all match.
    pub fn matches(&self, host: &str, path: &str, method: &str) -> bool {
        let host_ok = self.host.as_deref().is_none_or(|h| match h.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == h,
        });
        host_ok
            && self.prefix.as_deref().is_none_or(|p| under(path, p, self.ignore_case))
            && (self.method.is_empty() || self.method.iter().any(|m| m == method))
    }

    /// Everything `other` matches, this matches too: a later route with `other` can never be reached.
    pub fn covers(&self, other: &MatchSettings) -> bool {
        let host = match (self.host.as_deref(), other.host.as_deref()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(a), Some(b)) if a == b => true,
            (Some(a), Some(b)) => a.strip_prefix('*').is_some_and(|s| b.len() > s.len() && b.ends_with(s)),
        };
        let prefix = match (self.prefix.as_deref(), other.prefix.as_deref()) {
            (None, _) | (Some("/"), _) => true,
            (Some(_), None) => false,
            (Some(a), Some(b)) => under(b, a, self.ignore_case) && (self.ignore_case || !other.ignore_case),
        };
        let method = self.method.is_empty() || (!other.method.is_empty() && other.method.iter().all(|m| self.method.contains(m)));
        host && prefix && method
    }
}

/// A canonical path is at or below another, at a segment border; `;params` do not count.
pub(crate) fn at_or_below(path: &str, prefix: &str) -> bool {
    under(&without_params(path), prefix, false)
}

/// `path` is at or below `prefix`, at a segment border.
fn under(path: &str, prefix: &str, ignore_case: bool) -> bool {
    let Some((head, rest)) = path.split_at_checked(prefix.len()) else { return false };
    let same = if ignore_case { head.eq_ignore_ascii_case(prefix) } else { head == prefix };
    same && (prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
}

/// `/a;x=1/b;y` is `/a/b`; an empty segment that is left is no segment.
fn without_params(path: &str) -> Cow<'_, str> {
    if !path.contains(';') {
        return Cow::Borrowed(path);
    }
    let segments = path.split('/').map(|s| s.split(';').next().unwrap_or_default());
    let mut out = String::with_capacity(path.len());
    for segment in segments.filter(|s| !s.is_empty()) {
        out.push('/');
        out.push_str(segment);
    }
    if path.ends_with('/') || out.is_empty() {
        out.push('/');
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn m(host: Option<&str>, prefix: Option<&str>, method: &[&str]) -> MatchSettings {
        MatchSettings {
            host: host.map(Into::into),
            prefix: prefix.map(Into::into),
            ignore_case: false,
            method: method.iter().map(|m| (*m).into()).collect(),
        }
    }

    #[test]
    fn prefixes_end_at_segments() {
        let cart = m(None, Some("/cart"), &[]);
        assert!(cart.matches("h", "/cart", "GET") && cart.matches("h", "/cart/1", "GET"));
        assert!(!cart.matches("h", "/cartoon", "GET") && !cart.matches("h", "/", "GET"));
        let below = m(None, Some("/static/"), &[]);
        assert!(below.matches("h", "/static/a.css", "GET") && !below.matches("h", "/static", "GET"));
        assert!(m(None, Some("/"), &[]).matches("h", "/anything", "GET"));
    }

    #[test]
    fn parameters_and_case_are_no_way_around_a_route() {
        let settings = |prefix: &str, ignore_case| RouteSettings {
            matches: MatchSettings { prefix: Some(prefix.into()), ignore_case, ..MatchSettings::default() },
            ..serde_json::from_str(r#"{"name":"r"}"#).unwrap_or_else(|e| panic!("{e}"))
        };
        let routes = Routes::new(&[settings("/checkout", false), settings("/Cart", true)]);
        let find = |path: &str| routes.find("h", path, "GET");
        for path in ["/checkout;x", "/;x=1/checkout", "/checkout;a=1;b/pay;c", "/checkout;/"] {
            assert_eq!(find(path), Some(0), "{path}");
        }
        assert_eq!((find("/Checkout"), find("/checkouts;x"), find("/;x")), (None, None, None));
        assert_eq!((find("/CART/1"), find("/cart"), find("/carts")), (Some(1), Some(1), None));
        assert_eq!(without_params("/a;b/"), "/a/");
        assert_eq!(without_params("/;b"), "/");
        let exact = m(None, Some("/cart"), &[]);
        let loose = MatchSettings { ignore_case: true, ..exact.clone() };
        assert!(loose.covers(&exact) && !exact.covers(&loose));
    }

    #[test]
    fn hosts_and_methods() {
        let any = m(Some("*.example.com"), None, &["POST"]);
        assert!(any.matches("a.example.com", "/", "POST"));
        assert!(!any.matches("example.com", "/", "POST") && !any.matches("a.example.com", "/", "GET"));
        assert!(!any.matches("evilexample.com", "/", "POST"));
    }

    #[test]
    fn covering_finds_routes_nobody_reaches() {
        assert!(m(None, Some("/"), &[]).covers(&m(None, Some("/cart"), &["POST"])));
        assert!(!m(None, Some("/cart"), &[]).covers(&m(None, Some("/cartoon"), &[])));
        assert!(!m(None, None, &["GET"]).covers(&m(None, None, &[])));
        assert!(m(Some("*.a.com"), None, &[]).covers(&m(Some("b.a.com"), None, &[])));
    }
}
