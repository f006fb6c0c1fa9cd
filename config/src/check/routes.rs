//! Routes and the gate's own prefix.

use tidegate_filters::route::{MatchSettings, RouteSettings};

use super::Checker;

impl Checker<'_> {
    pub(super) fn routes(&mut self) {
        let policy = self.policy;
        let routes = &policy.routes;
        if routes.is_empty() {
            self.error("routes", "without a route every visit is refused", "remove `routes` for one route over everything");
        }
        self.unique("routes[{}].name", routes.iter().map(|r| r.name.as_str()));
        self.own_prefix();
        for (i, route) in routes.iter().enumerate() {
            self.name(format!("routes[{i}].name"), &route.name);
            self.matches(i, route);
            if route.in_flight_max == Some(0) {
                let what = "no request of this route would reach the shop";
                self.error(format!("routes[{i}].in_flight_max"), what, "write at least 1, or remove it");
            }
            if let Some(j) = routes[..i].iter().position(|r| r.matches.covers(&route.matches)) {
                let what = format!("never reached: `{}` above it (routes[{j}]) matches everything it does", routes[j].name);
                self.error(format!("routes[{i}]"), what, "move it up, or remove it: the first match wins");
            }
        }
        let all = MatchSettings::default();
        if !routes.is_empty() && !routes.iter().any(|r| r.matches.covers(&all)) {
            let what = "visits that match no route are refused";
            self.warning("routes", what, "add a last route that matches everything: `- { name: rest, match: { prefix: / } }`");
        }
    }

    fn matches(&mut self, i: usize, route: &RouteSettings) {
        let m = &route.matches;
        if let Some(host) = &m.host {
            let name = host.strip_prefix("*.").unwrap_or(host);
            let label = |l: &str| !l.is_empty() && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
            let path = format!("routes[{i}].match.host");
            if host.chars().any(|c| c.is_ascii_uppercase()) {
                self.error(
                    path,
                    format!("`{host}` never matches: hosts are compared in lower case"),
                    format!("write `{}`", host.to_lowercase()),
                );
            } else if host.contains(':') && !host.starts_with('[') {
                self.error(path, format!("`{host}` never matches: the port is not compared"), "write the host alone");
            } else if !host.starts_with('[') && (!name.split('.').all(label) || host.len() > 253) {
                self.error(
                    path,
                    format!("`{host}` is not a host"),
                    "write shop.example.com, or *.example.com for every host below it",
                );
            }
        }
        if let Some(prefix) = &m.prefix {
            let path = format!("routes[{i}].match.prefix");
            if let Err((what, instead)) = canonical(prefix) {
                self.error(path, format!("`{prefix}` {what}"), instead);
            } else if prefix.starts_with(&self.policy.own_prefix) || format!("{prefix}/") == self.policy.own_prefix {
                let what = format!("collides with the gate's own pages under {}", self.policy.own_prefix);
                self.error(path, what, "choose another prefix, or another `own_prefix`");
            }
        }
        for (k, method) in m.method.iter().enumerate() {
            let path = format!("routes[{i}].match.method[{k}]");
            if method.is_empty() || !method.chars().all(|c| c.is_ascii_alphabetic() || c == '-' || c == '_') {
                self.error(path, format!("`{method}` is not a method"), "write GET, POST, …");
            } else if method.chars().any(|c| c.is_ascii_lowercase()) {
                self.error(
                    path,
                    format!("`{method}` never matches: methods are upper case"),
                    format!("write `{}`", method.to_uppercase()),
                );
            }
        }
    }

    fn own_prefix(&mut self) {
        let own = &self.policy.own_prefix;
        let instead = "begin and end it with `/` and put a name between, such as /.tidegate/";
        if own == "/" {
            self.error("own_prefix", "the gate's own pages would hide the whole shop", instead);
        } else if !own.starts_with('/') || !own.ends_with('/') || own.len() > super::NAME_MAX {
            self.error("own_prefix", format!("`{own}` cannot be the path of the gate's own pages"), instead);
        } else if let Err((what, instead)) = canonical(own) {
            self.error("own_prefix", format!("`{own}` {what}"), instead);
        }
    }
}

/// Paths are compared in one canonical form; anything else would never match.
pub(super) fn canonical(path: &str) -> Result<(), (&'static str, String)> {
    if !path.starts_with('/') {
        return Err(("does not begin with `/`", format!("write `/{path}`")));
    }
    if path.contains(['?', '#']) {
        return Err(("never matches: a path has no query", format!("write `{}`", path.split(['?', '#']).next().unwrap_or("/"))));
    }
    if path.contains("//") || path.split('/').any(|s| s == "." || s == "..") {
        return Err(("never matches: `//`, `.` and `..` are resolved before", "write the path as it is after that".into()));
    }
    if path.contains(['*', ';', '\\']) {
        return Err((
            "never matches literally: prefixes have no wildcards or parameters",
            "write the fixed beginning of the path".into(),
        ));
    }
    if !path.chars().all(|c| c.is_ascii_graphic()) {
        return Err(("never matches: spaces and other letters are percent-encoded in paths", "write them as %XX".into()));
    }
    let bytes = path.as_bytes();
    for (at, _) in path.match_indices('%') {
        let hex =
            bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match hex {
            None => return Err(("has a `%` that is not followed by two hex digits", "write `%25` for a percent sign".into())),
            Some(c) if c.is_ascii_alphanumeric() || b"-._~/".contains(&c) => {
                if c == b'/' {
                    return Err(("never matches: a path with an encoded `/` is refused", "write a plain `/`".into()));
                }
                let plain = format!("{}{}{}", &path[..at], char::from(c), &path[at + 3..]);
                return Err(("never matches: what need not be encoded is decoded before", format!("write `{plain}`")));
            }
            Some(_) if bytes[at + 1..at + 3].iter().any(u8::is_ascii_lowercase) => {
                return Err(("never matches: percent codes are upper case", format!("write `{}`", upper_codes(path))));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn upper_codes(path: &str) -> String {
    let mut left = 0;
    path.chars()
        .map(|c| {
            left = if c == '%' { 2 } else { i32::max(left - 1, -1) };
            if left >= 0 && c != '%' { c.to_ascii_uppercase() } else { c }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_prefixes_can_match() {
        for good in ["/", "/cart", "/static/", "/a%20b", "/~u/x.y", "/.tidegate/"] {
            assert_eq!(canonical(good), Ok(()), "{good}");
        }
        for bad in
            ["", "cart", "/a//b", "/a/../b", "/a?b", "/a#b", "/a/*", "/a b", "/é", "/%41", "/%2", "/%zz", "/a;x", "/%c3%a9"]
        {
            assert!(canonical(bad).is_err(), "{bad}");
        }
        assert_eq!(upper_codes("/a%c3%a9b"), "/a%C3%A9b");
    }
}
