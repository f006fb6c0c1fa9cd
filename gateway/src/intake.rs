//! A session becomes a [`Visit`]: who, from where, to what, with which tokens.

use std::{
    borrow::Cow,
    hash::Hasher as _,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use siphasher::sip::SipHasher13;
use tidegate_config::Policy;
use tidegate_filters::{
    Known, Network, Now, Visit, VisitorId, Wants,
    seats::{
        room::VisitorKey,
        token::{Keyring, Kind, Token},
    },
};

use crate::{
    client::AcceptLanguage,
    counts::Counts,
    credentials,
    head::{Fields, Head},
    repeated::Repeated,
};

/// Entries of `X-Forwarded-For` looked at, from the right.
pub const FORWARDED_MAX: usize = 32;
/// Prefix of one IPv6 subscriber.
const IPV6_PREFIX: u8 = 64;

/// What was read; a [`Visit`] borrows from it.
#[derive(Debug, Default)]
pub struct Intake {
    /// As sent.
    pub method: Cow<'static, str>,
    /// Canonical.
    pub host: String,
    /// As sent, port included: what the shop's own links must carry.
    pub authority: String,
    /// Canonical.
    pub path: String,
    /// Without `?`.
    pub query: Option<String>,
    /// It comes through a trusted proxy.
    pub behind_proxy: bool,
    /// Who the socket, the PROXY header or a trusted proxy says is there.
    pub client: Option<IpAddr>,
    /// The visitor's end of the way is https.
    pub https: bool,
    /// By the visitor cookie, else by network and fingerprint.
    pub visitor: Option<VisitorId>,
    /// The visitor cookie was there and good.
    pub visitor_by_cookie: bool,
    /// Hash of how the connection was made and of headers that a program does not change from request to request.
    pub fingerprint: u64,
    /// Keyed hash of the name the shop's login gives this person.
    pub identity: Option<u64>,
    /// Hash of the TLS hello; 0 for plain HTTP.
    pub hello: u64,
    /// What answer it can use.
    pub wants: Wants,
    /// The languages it would like.
    pub accept_language: AcceptLanguage,
    /// A browser asked ahead of its user, who may never come.
    pub prefetch: bool,
    /// Says that it is a crawler or a health check.
    pub probe: bool,
    /// What is known for sure; not for [`read`] to know.
    pub known: Known,
    /// Signed by us.
    pub tokens: Arc<[Token]>,
}

/// What [`read`] needs besides the request.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The policy in force.
    pub policy: &'a Policy,
    /// Opens tokens.
    pub keyring: &'a Arc<Keyring>,
    /// Of visitor and network hashes.
    pub hash_key: (u64, u64),
    /// Counts refused tokens.
    pub counts: &'a Counts,
    /// The socket's peer or who a PROXY header named.
    pub peer: Option<SocketAddr>,
    /// The connection is TLS.
    pub tls: bool,
    /// Hash of the TLS hello.
    pub hello: u64,
    /// How the connection was made: the hello, and what an HTTP/2 client said first.
    pub manner: u64,
    /// What the connection said before.
    pub repeated: &'a Repeated,
    /// The instant of the visit.
    pub now: Now,
}

/// Reads a request whose head has been checked.
pub fn read(head: &Head<'_>, cx: &Context<'_>) -> Intake {
    let fields = &head.fields;
    let trusted = |ip: IpAddr| cx.policy.trusted_proxies.iter().any(|n| n.0.contains(&ip));
    let peer = cx.peer.map(|p| p.ip().to_canonical());
    let behind_proxy = peer.is_some_and(trusted);
    let mut intake = Intake {
        method: known_method(head.method),
        host: head.host.as_ref().into(),
        authority: head.authority.into(),
        path: head.path.as_ref().into(),
        query: head.query.map(Into::into),
        behind_proxy,
        client: if behind_proxy { peer.map(|p| forwarded_for(fields, p, trusted)) } else { peer },
        https: cx.tls || (behind_proxy && is_https_in_front(fields)),
        fingerprint: fingerprint(fields, head.version, cx.manner),
        hello: cx.hello,
        wants: wants(fields),
        accept_language: AcceptLanguage::read(fields),
        prefetch: is_prefetch(fields),
        probe: fields.first("user-agent").is_some_and(|agent| cx.repeated.agent(agent).probe),
        ..Intake::default()
    };
    intake.tokens = cx.repeated.tokens(fields, intake.https, cx.keyring, cx.counts);
    intake.identity = identity(fields, cx);
    identify(&mut intake, cx);
    intake
}

/// The usual methods need no memory of their own.
fn known_method(method: &str) -> Cow<'static, str> {
    const KNOWN: [&str; 7] = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"];
    KNOWN.iter().find(|m| **m == method).map_or_else(|| Cow::Owned(method.to_owned()), |m| Cow::Borrowed(*m))
}

impl Intake {
    /// As the filters see it.
    pub fn visit(&self, route: Option<usize>) -> Visit<'_> {
        Visit {
            method: &self.method,
            host: &self.host,
            path: &self.path,
            route,
            network: self.network(),
            visitor: self.visitor,
            visitor_by_cookie: self.visitor_by_cookie,
            wants: self.wants,
            identity: self.identity,
            hello: self.hello,
            fingerprint: self.fingerprint,
            prefetch: self.prefetch || self.probe,
            known: self.known,
            tokens: &self.tokens,
        }
    }

    /// Where it comes from.
    pub fn network(&self) -> Option<Network> {
        self.client.map(Network::new)
    }

    /// Who it would be without the visitor cookie: whoever comes from its network with its fingerprint.
    pub fn without_cookie(&self, hash_key: (u64, u64)) -> Option<VisitorId> {
        let mut h = SipHasher13::new_with_keys(hash_key.0, hash_key.1);
        h.write_u8(2);
        h = hash_ip(h, self.network()?.key(IPV6_PREFIX));
        h.write_u64(self.fingerprint);
        Some(VisitorId(h.finish()))
    }

    /// Path and query as they are forwarded.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// Keyed hash of the network for the journal; 0 when unknown.
    pub fn network_hash(&self, key: (u64, u64)) -> u64 {
        self.network().map_or(0, |n| hash_ip(SipHasher13::new_with_keys(key.0, key.1), n.key(IPV6_PREFIX)).finish().max(1))
    }
}

/// Keyed hash of the name the shop's login gives this person: the first room's that has such a key.
fn identity(fields: &Fields<'_>, cx: &Context<'_>) -> Option<u64> {
    let key = cx.policy.rooms.iter().find_map(|r| r.visitor.key.as_ref())?;
    let value = match key {
        VisitorKey::Header(name) => fields.first(name)?,
        VisitorKey::Cookie(name) => credentials::cookie(fields, name)?.as_bytes(),
    };
    let mut h = SipHasher13::new_with_keys(cx.hash_key.0, cx.hash_key.1);
    h.write(b"identity");
    h.write(value);
    (!value.is_empty()).then(|| h.finish())
}

/// Right to left: every entry was written by the hop to its right, so the first one that is no trusted proxy is the
/// client. A spoofed entry stands further left and is never reached.
fn forwarded_for(fields: &Fields<'_>, peer: IpAddr, trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut client = peer;
    let lines = fields.all("x-forwarded-for").rev().filter_map(|v| std::str::from_utf8(v).ok());
    let entries = lines.flat_map(|line| line.rsplit(','));
    for entry in entries.take(FORWARDED_MAX) {
        let entry = entry.trim();
        let ip = entry.parse::<IpAddr>().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|a| a.ip()));
        // What cannot be read was not written by a proxy of ours: the hop that passed it on is the best we know.
        let Some(ip) = ip else { break };
        client = ip.to_canonical();
        if !trusted(client) {
            break;
        }
    }
    client
}

fn is_https_in_front(fields: &Fields<'_>) -> bool {
    let last = fields.all("x-forwarded-proto").next_back().and_then(|v| std::str::from_utf8(v).ok());
    last.is_some_and(|v| v.rsplit(',').next().unwrap_or_default().trim().eq_ignore_ascii_case("https"))
}

fn fingerprint(fields: &Fields<'_>, version: http::Version, manner: u64) -> u64 {
    let mut h = SipHasher13::new_with_keys(0, 0);
    h.write_u64(manner);
    h.write_u8(u8::from(version == http::Version::HTTP_2));
    for name in ["user-agent", "accept-language", "accept-encoding"] {
        let value = fields.first(name).unwrap_or_default();
        h.write_usize(value.len());
        h.write(value);
    }
    h.finish().max(1)
}

fn wants(fields: &Fields<'_>) -> Wants {
    let accept = fields.text("accept").unwrap_or_default();
    match fields.text("sec-fetch-dest") {
        Some("document" | "iframe" | "frame") => Wants::Html,
        Some("empty") => Wants::Json,
        Some(_) => Wants::Other,
        None if accept.contains("text/html") => Wants::Html,
        // Scripts and apps that do not say: `*/*` is what curl and most libraries send; images send more.
        None if accept.contains("json") || accept.trim() == "*/*" || accept.is_empty() => Wants::Json,
        None => Wants::Other,
    }
}

fn is_prefetch(fields: &Fields<'_>) -> bool {
    ["sec-purpose", "purpose", "x-moz"].iter().any(|n| fields.text(n).is_some_and(|v| v.contains("prefetch")))
}

fn identify(intake: &mut Intake, cx: &Context<'_>) {
    let good = |t: &&Token| t.kind == Kind::Visitor && *t.host == *intake.host && cx.now.wall_ms < t.expires_at_ms;
    if let Some(token) = intake.tokens.iter().find(good) {
        intake.visitor = Some(by_cookie(cx.hash_key, token.number));
        intake.visitor_by_cookie = true;
    } else {
        intake.visitor = intake.without_cookie(cx.hash_key);
    }
}

/// Whoever brings the visitor cookie with this number.
pub fn by_cookie(hash_key: (u64, u64), number: u64) -> VisitorId {
    let mut h = SipHasher13::new_with_keys(hash_key.0, hash_key.1);
    h.write_u8(1);
    h.write_u64(number);
    VisitorId(h.finish())
}

fn hash_ip(mut h: SipHasher13, ip: IpAddr) -> SipHasher13 {
    match ip {
        IpAddr::V4(a) => h.write_u32(a.into()),
        IpAddr::V6(a) => h.write_u128(a.into()),
    }
    h
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use http::Request;
    use tidegate_config::Upstream;

    use super::*;

    const NOW: Now = Now::at(1_000_000, 0);

    fn policy(trusted: &[&str]) -> Policy {
        let mut p = Policy::zero_config(vec![Upstream::plain("127.0.0.1:1".parse().unwrap())], "127.0.0.1:0".parse().unwrap());
        p.trusted_proxies = trusted.iter().map(|s| s.parse().unwrap()).collect();
        p
    }

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

    fn intake_of(trusted: &[&str], peer: &str, tls: bool, headers: &[(&str, &str)]) -> (Intake, Counts) {
        let mut b = Request::builder().uri("/").header("host", "Shop.example:8080");
        for (k, v) in headers {
            b = b.header(*k, *v);
        }
        let (parts, ()) = b.body(()).unwrap().into_parts();
        let (policy, counts, keyring) = (policy(trusted), Counts::default(), Arc::new(ring()));
        let cx = Context {
            policy: &policy,
            keyring: &keyring,
            hash_key: (1, 2),
            counts: &counts,
            peer: Some(format!("{peer}:999").parse().unwrap()),
            tls,
            hello: 0,
            manner: 0,
            repeated: &Repeated::default(),
            now: NOW,
        };
        let fields = Fields::of(&parts.headers);
        let head = Head::new("GET", parts.version, "Shop.example:8080", "/a/../b?q=1", fields).unwrap();
        let intake = read(&head, &cx);
        (intake, counts)
    }

    fn client(trusted: &[&str], peer: &str, xff: &[&str]) -> String {
        let headers: Vec<_> = xff.iter().map(|v| ("x-forwarded-for", *v)).collect();
        intake_of(trusted, peer, false, &headers).0.client.unwrap().to_string()
    }

    #[test]
    fn the_client_is_the_rightmost_that_is_no_proxy_of_ours() {
        let ours = ["10.0.0.0/8"];
        assert_eq!(client(&ours, "192.0.2.1", &["203.0.113.9"]), "192.0.2.1", "a stranger's header is not believed");
        assert_eq!(client(&ours, "10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client(&ours, "10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.0.0.2"]), "203.0.113.9", "spoofed entries stand left");
        assert_eq!(client(&ours, "10.0.0.1", &["1.1.1.1", "203.0.113.9"]), "203.0.113.9", "lines are one list");
        assert_eq!(client(&ours, "10.0.0.1", &["203.0.113.9, garbage"]), "10.0.0.1");
        assert_eq!(client(&ours, "10.0.0.1", &["203.0.113.9:4711"]), "203.0.113.9");
        assert_eq!(client(&ours, "10.0.0.1", &["::ffff:203.0.113.9"]), "203.0.113.9");
        assert_eq!(client(&ours, "10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client(&ours, "10.0.0.1", &[&"10.0.0.9, ".repeat(40)]), "10.0.0.1", "empty last entry");
    }

    #[test]
    fn path_and_host_are_canonical() {
        let (i, _) = intake_of(&[], "192.0.2.1", false, &[]);
        assert_eq!((i.host.as_str(), i.path.as_str(), i.target().as_str()), ("shop.example", "/b", "/b?q=1"));
        assert_eq!(i.authority, "Shop.example:8080");
    }

    #[test]
    fn cookies_count_by_kind_prefix_and_mac() {
        let visitor = token(Kind::Visitor, 5);
        let plain = format!("a=b; tidegate-visitor={visitor}");
        let (by_cookie, _) = intake_of(&[], "192.0.2.1", false, &[("cookie", &plain)]);
        assert!(by_cookie.visitor_by_cookie);
        let (elsewhere, _) = intake_of(&[], "198.51.100.1", false, &[("cookie", &plain)]);
        assert_eq!(by_cookie.visitor, elsewhere.visitor, "the cookie is the visitor, wherever it comes from");
        let (on_https, _) = intake_of(&[], "192.0.2.1", true, &[("cookie", &plain)]);
        assert!(!on_https.visitor_by_cookie, "another host of the domain could have set it");
        let host = format!("__Host-tidegate-visitor={visitor}");
        assert!(intake_of(&[], "192.0.2.1", true, &[("cookie", &host)]).0.visitor_by_cookie);
    }

    #[test]
    fn answers_fit_who_asks() {
        let w = |h: &[(&str, &str)]| intake_of(&[], "192.0.2.1", false, h).0.wants;
        assert_eq!(w(&[("accept", "text/html,*/*;q=0.8")]), Wants::Html);
        assert_eq!(w(&[("accept", "*/*"), ("sec-fetch-dest", "empty")]), Wants::Json);
        assert_eq!(w(&[("accept", "*/*"), ("sec-fetch-dest", "image")]), Wants::Other);
        assert_eq!(w(&[("accept", "application/json")]), Wants::Json);
        assert_eq!(w(&[("accept", "image/avif,image/webp,*/*")]), Wants::Other);
        assert_eq!(w(&[]), Wants::Json);
    }

    #[test]
    fn https_in_front_is_believed_from_proxies_only() {
        let https = |trusted: &[&str]| intake_of(trusted, "10.0.0.1", false, &[("x-forwarded-proto", "https")]).0.https;
        assert!(https(&["10.0.0.0/8"]) && !https(&[]));
    }
}
