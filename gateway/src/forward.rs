//! What the shop sees of a request, and the visitor of an answer: nothing of ours leaks, nothing of ours can be spoofed.

use std::{borrow::Cow, net::SocketAddr};

use http::{HeaderName, HeaderValue, Method, header};
use pingora::http::{RequestHeader, ResponseHeader};
use tidegate_config::{HostHeader, Shop};

use crate::{
    credentials::{COOKIE_PREFIX, HOST_PREFIX, tidegate_scheme},
    intake::Intake,
};

/// Headers with which a client could claim what only we or a proxy of ours can know.
const CLAIMED: [&str; 31] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "true-client-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "client-ip",
    "proxy-client-ip",
    "wl-proxy-client-ip",
    "x-azure-clientip",
    "x-envoy-external-address",
    "x-originating-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-forwarded",
    "x-forwarded-scheme",
    "x-forwarded-ssl",
    "x-scheme",
    "x-url-scheme",
    "front-end-https",
    "x-original-host",
    // CGI programs take it for the address of a proxy of their own.
    "proxy",
];
/// Families of headers by which proxies in front tell a shop who has logged in: nobody has at a gate that visitors reach
/// directly. Of OAuth2 Proxy, Authelia, authentik, Vouch, Pomerium, Kong, Grafana, Tailscale, the large clouds, and of whoever
/// ends TLS with client certificates (RFC 9440, Apache, nginx, Traefik, Envoy).
const LOGIN: [&str; 44] = [
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-forwarded-client-cert",
    "x-forwarded-tls-client-cert",
    "x-auth-request-",
    "x-authenticated-",
    "x-authentik-",
    "x-remote-",
    "remote-",
    "x-webauth-",
    "x-vouch-",
    "x-pomerium-",
    "x-consumer-",
    "x-credential-",
    "x-token-subject",
    "x-amzn-oidc-",
    "x-goog-authenticated-user-",
    "x-goog-iap-",
    "x-ms-client-principal",
    "x-arr-clientcert",
    "cf-access-",
    "tailscale-user-",
    "client-cert",
    "x-client-cert",
    "x-ssl-client-",
    "x-ssl-cert",
    "ssl-client-",
    "x-client-dn",
    "x-client-verify",
    "x-amzn-mtls-",
    "x-auth-user",
    "x-authelia-",
    "x-proxy-user",
    "proxy-user",
    "proxy-remote-user",
    "http-remote-user",
    "x-jwt-assertion",
    "x-token-user",
    "x-userinfo",
    "x-apigateway-api-userinfo",
    "x-endpoint-api-userinfo",
];
/// The body is with us already, or follows at once: the shop need not ask for it.
const EXPECT: &str = "expect";
/// Headers by which some frameworks take another path than the request line's: rules would have matched the wrong one.
const OTHER_PATH: [&str; 2] = ["x-original-url", "x-rewrite-url"];
/// Headers by which some frameworks take another method. A `GET` must not become a `POST` behind our back.
const OTHER_METHOD: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
/// Prefix of headers that only we may set.
const OUR_HEADERS: &str = "tidegate-";

/// Turns the visitor's request into the one the shop gets. Hop-by-hop headers are gone already.
pub fn request(to_shop: &mut RequestHeader, intake: &Intake, shop: &Shop, server: Option<SocketAddr>) -> pingora::Result<()> {
    let safe = matches!(to_shop.method, Method::GET | Method::HEAD);
    let trusted = |name: &str| tells_a_login(name) || shop.trusted_headers.iter().any(|t| t.eq_ignore_ascii_case(name));
    let goes = |name: &str| {
        let name = &*as_read(name);
        goes(name, safe) || !intake.behind_proxy && trusted(name)
    };
    let gone: Vec<HeaderName> = to_shop.headers.keys().filter(|n| goes(n.as_str())).cloned().collect();
    for name in gone {
        to_shop.remove_header(&name);
    }
    cookies(to_shop)?;
    let ours = |v: &HeaderValue| v.to_str().ok().and_then(tidegate_scheme).is_some();
    if to_shop.headers.get_all(header::AUTHORIZATION).iter().any(ours) {
        let kept: Vec<HeaderValue> =
            to_shop.headers.get_all(header::AUTHORIZATION).iter().filter(|v| !ours(v)).cloned().collect();
        to_shop.remove_header(&header::AUTHORIZATION);
        for value in kept {
            to_shop.append_header(header::AUTHORIZATION, value)?;
        }
    }
    if let Some(client) = intake.client.and_then(|c| HeaderValue::try_from(c.to_string()).ok()) {
        to_shop.insert_header("x-forwarded-for", client.clone())?;
        to_shop.insert_header("x-real-ip", client)?;
    }
    to_shop.insert_header("x-forwarded-proto", if intake.https { "https" } else { "http" })?;
    if !intake.authority.is_empty() {
        to_shop.insert_header("x-forwarded-host", intake.authority.as_str())?;
    }
    match &shop.host_header {
        HostHeader::Set(name) => to_shop.insert_header(header::HOST, name.as_str())?,
        // HTTP/2 has it in `:authority`, which goes with the old target.
        HostHeader::Keep if !intake.authority.is_empty() => {
            if to_shop.headers.get(header::HOST).is_none_or(|h| h.as_bytes() != intake.authority.as_bytes()) {
                to_shop.insert_header(header::HOST, intake.authority.as_str())?;
            }
        }
        // HTTP/1.0 without Host goes on as HTTP/1.1, which must have one.
        HostHeader::Keep => {
            if let Some(server) = server {
                to_shop.insert_header(header::HOST, server.to_string())?;
            }
        }
    }
    // The path that rules were matched on, in origin form.
    let target = intake.target();
    if to_shop.uri.authority().is_some() || to_shop.raw_path() != target.as_bytes() {
        to_shop.set_raw_path(target.as_bytes())?;
    }
    Ok(())
}

/// Whether a header is not for the shop; `safe`: of a method that changes nothing.
fn goes(name: &str, safe: bool) -> bool {
    // What most headers begin with begins none of these.
    is_ours(name)
        || matches!(name.as_bytes().first(), Some(b'c' | b'e' | b'f' | b'p' | b't' | b'w' | b'x'))
            && (name == EXPECT || CLAIMED.contains(&name) || OTHER_PATH.contains(&name) || (safe && OTHER_METHOD.contains(&name)))
}

/// As shops may read a name, where a policy lets `_` and `.` stand in names.
fn as_read(name: &str) -> Cow<'_, str> {
    match name.bytes().any(|b| matches!(b, b'_' | b'.')) {
        true => name.replace(['_', '.'], "-").into(),
        false => name.into(),
    }
}

fn tells_a_login(name: &str) -> bool {
    // What most headers begin with begins none of these.
    matches!(
        name.as_bytes(),
        [b'x', b'-', ..]
            | [b'r', b'e', b'm', ..]
            | [b's', b's', ..]
            | [b'c', b'f' | b'l', ..]
            | [b't', b'a', ..]
            | [b'p', b'r', ..]
            | [b'h', b't', ..]
    ) && LOGIN.iter().any(|family| name.starts_with(family))
}

/// Cleans the shop's answer.
pub fn response(from_shop: &mut ResponseHeader) -> pingora::Result<()> {
    if from_shop.status == http::StatusCode::NO_CONTENT {
        // 204 has no body, whatever length it claims (RFC 9110 §8.6).
        from_shop.remove_header(&header::CONTENT_LENGTH);
    }
    let gone: Vec<HeaderName> = from_shop.headers.keys().filter(|n| is_ours(n.as_str())).cloned().collect();
    for name in gone {
        from_shop.remove_header(&name);
    }
    let set = from_shop.headers.get_all(header::SET_COOKIE);
    if set.iter().any(sets_ours) {
        let keep: Vec<HeaderValue> = set.iter().filter(|v| !sets_ours(v)).cloned().collect();
        from_shop.remove_header(&header::SET_COOKIE);
        for value in keep {
            from_shop.append_header(header::SET_COOKIE, value)?;
        }
    }
    Ok(())
}

/// Our cookies on a forwarded answer: nobody else may be served it, so nobody may store it.
pub fn set_cookies(answer: &mut ResponseHeader, cookies: &[String]) -> pingora::Result<()> {
    if cookies.is_empty() {
        return Ok(());
    }
    for cookie in cookies {
        answer.append_header(header::SET_COOKIE, cookie.as_str())?;
    }
    for name in ["cache-control", "expires", "age", "cdn-cache-control", "surrogate-control"] {
        answer.remove_header(name);
    }
    answer.insert_header(header::CACHE_CONTROL, "private, no-store")
}

/// The name of one of our cookies, with or without `__Host-`.
pub fn is_our_cookie(name: &str) -> bool {
    let prefix = name.get(..HOST_PREFIX.len()).filter(|p| p.eq_ignore_ascii_case(HOST_PREFIX));
    let name = prefix.map_or(name, |p| &name[p.len()..]);
    name.get(..COOKIE_PREFIX.len()).is_some_and(|p| p.eq_ignore_ascii_case(COOKIE_PREFIX))
}

fn is_ours(name: &str) -> bool {
    name.starts_with(OUR_HEADERS)
}

fn sets_ours(value: &HeaderValue) -> bool {
    let name = value.as_bytes().split(|b| *b == b'=').next().unwrap_or_default();
    std::str::from_utf8(name).is_ok_and(|n| is_our_cookie(n.trim()))
}

/// Takes our cookies out of the list and leaves one line. Browsers send a line for each cookie over HTTP/2, and applications
/// read the first alone: they are joined (RFC 9113 §8.2.3). One line without ours stays as it is, byte for byte.
fn cookies(to_shop: &mut RequestHeader) -> pingora::Result<()> {
    let (mut lines, mut ours, mut kept) = (0, false, Vec::new());
    for line in to_shop.headers.get_all(header::COOKIE) {
        lines += 1;
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
            let pair = rest[..end].trim_ascii();
            rest = rest.get(end + 1..).unwrap_or_default();
            if is_pair_of_ours(pair) {
                ours = true;
            } else if !pair.is_empty() {
                kept.push(pair);
            }
        }
    }
    if lines <= 1 && !ours {
        return Ok(());
    }
    let kept = kept.join(&b"; "[..]);
    to_shop.remove_header(&header::COOKIE);
    if !kept.is_empty()
        && let Ok(value) = HeaderValue::from_bytes(&kept)
    {
        to_shop.insert_header(header::COOKIE, value)?;
    }
    Ok(())
}

fn is_pair_of_ours(pair: &[u8]) -> bool {
    let name = &pair[..memchr::memchr(b'=', pair).unwrap_or(pair.len())];
    std::str::from_utf8(name.trim_ascii()).is_ok_and(is_our_cookie)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn every_header_that_goes_is_looked_at() {
        for name in CLAIMED.iter().chain(&OTHER_PATH).chain(&OTHER_METHOD).chain([&EXPECT, &"tidegate-place"]) {
            assert!(goes(name, true), "{name}");
        }
        assert!(LOGIN.iter().all(|name| tells_a_login(name)) && !tells_a_login("x-request-id"));
        assert!(!goes(OTHER_METHOD[0], false) && !goes("x-request-id", true) && !goes("cookie", true));
    }

    fn forwarded(method: &str, headers: &[(&'static str, &str)]) -> RequestHeader {
        forwarded_by(false, method, headers)
    }

    fn forwarded_by(behind_proxy: bool, method: &str, headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut r = RequestHeader::build(method, b"/x/../raw", None).unwrap();
        for (k, v) in headers {
            r.append_header(*k, *v).unwrap();
        }
        let intake = Intake {
            path: "/raw".into(),
            query: Some("a={1}|%22".into()),
            authority: "shop.example:8080".into(),
            client: Some("192.0.2.7".parse().unwrap()),
            behind_proxy,
            ..Intake::default()
        };
        let shop = Shop { trusted_headers: vec!["X-User".into()], ..Shop::at(Vec::new()) };
        request(&mut r, &intake, &shop, None).unwrap();
        r
    }

    #[test]
    fn what_only_we_may_say_is_replaced() {
        let r = forwarded(
            "GET",
            &[
                ("x-forwarded-for", "6.6.6.6"),
                ("x-forwarded-for", "7.7.7.7"),
                ("x-real-ip", "6.6.6.6"),
                ("forwarded", "for=6.6.6.6"),
                ("tidegate-inside", "yes"),
                ("x-original-url", "/admin"),
                ("x-http-method-override", "POST"),
                ("x_forwarded_for", "6.6.6.6"),
                ("tidegate.inside", "yes"),
                ("x-kept", "1"),
            ],
        );
        let all: Vec<_> = r.headers.get_all("x-forwarded-for").iter().collect();
        assert_eq!(all, ["192.0.2.7"]);
        assert_eq!(r.headers["x-real-ip"], "192.0.2.7");
        assert_eq!(r.headers["x-forwarded-host"], "shop.example:8080");
        assert_eq!(r.headers["x-forwarded-proto"], "http");
        assert_eq!(r.headers["x-kept"], "1");
        for gone in
            ["forwarded", "tidegate-inside", "x-original-url", "x-http-method-override", "x_forwarded_for", "tidegate.inside"]
        {
            assert!(!r.headers.contains_key(gone), "{gone}");
        }
        assert!(forwarded("POST", &[("x-http-method-override", "PUT")]).headers.contains_key("x-http-method-override"));
        assert_eq!(r.raw_path(), b"/raw?a={1}|%22");
    }

    #[test]
    fn who_has_logged_in_only_a_proxy_of_ours_says() {
        let said = ["x-forwarded-user", "x-forwarded-client-cert", "remote-groups", "client-cert", "ssl-client-verify", "x-user"];
        let said: Vec<_> = said.into_iter().chain(["x-kept", "referer", "cookie"]).map(|name| (name, "root")).collect();
        let left = |r: RequestHeader| said.iter().filter(|(name, _)| r.headers.contains_key(*name)).count();
        assert_eq!((left(forwarded("GET", &said)), left(forwarded_by(true, "GET", &said))), (3, 9));
    }

    #[test]
    fn our_cookies_and_tokens_do_not_reach_the_shop() {
        let r = forwarded(
            "GET",
            &[
                ("cookie", "a=1; __Host-tidegate-pass-drop=x; b=\"2;3\";tidegate-visitor=y ; c"),
                ("cookie", "tidegate-clearance=z"),
            ],
        );
        let cookies: Vec<_> = r.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=\"2; 3\"; c"]);
        let untouched = forwarded("GET", &[("cookie", "a=1;b=2")]);
        assert_eq!(untouched.headers["cookie"], "a=1;b=2", "byte for byte when there is nothing of ours");
        let split = forwarded("GET", &[("cookie", "session=abc"), ("cookie", "cart=42"), ("cookie", "tidegate-visitor=y")]);
        assert_eq!(split.headers.get_all("cookie").iter().collect::<Vec<_>>(), ["session=abc; cart=42"], "as HTTP/2 splits them");
        assert!(!forwarded("GET", &[("authorization", "tidegate abc")]).headers.contains_key("authorization"));
        let both = forwarded("GET", &[("authorization", "Bearer abc"), ("authorization", "tidegate abc")]);
        assert_eq!(both.headers.get_all("authorization").iter().collect::<Vec<_>>(), ["Bearer abc"]);
    }

    #[test]
    fn answers_carry_nothing_of_ours() {
        let mut a = ResponseHeader::build(200, None).unwrap();
        a.insert_header("Tidegate-Verdict", "own").unwrap();
        a.append_header("Set-Cookie", "sid=1").unwrap();
        a.append_header("Set-Cookie", "__Host-tidegate-pass-drop=forged; Path=/").unwrap();
        response(&mut a).unwrap();
        assert!(a.headers.keys().all(|n| !is_ours(n.as_str())));
        assert_eq!(a.headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["sid=1"]);
    }

    #[test]
    fn an_answer_with_a_pass_is_private() {
        let mut a = ResponseHeader::build(200, None).unwrap();
        a.insert_header("cache-control", "public, max-age=600").unwrap();
        set_cookies(&mut a, &[]).unwrap();
        assert_eq!(a.headers["cache-control"], "public, max-age=600");
        set_cookies(&mut a, &["tidegate-pass-drop=x".into()]).unwrap();
        assert_eq!(a.headers["cache-control"], "private, no-store");
    }
}
