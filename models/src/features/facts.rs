//! What the gate knows about one request, borrowed from nothing and small enough to copy. `None` and `Unknown` mean that
//! nobody looked (a log without that column), never that something was absent: absent is `Some(false)`.

/// One request, reduced to what features may use. No address, country, language or User-Agent text: only hashes, shapes
/// and agreements.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VisitFacts {
    /// Keyed hash of the visitor; 0 when nothing identifies it (then nothing is remembered).
    pub visitor: u64,
    /// The visitor was recognised by our signed cookie.
    pub by_cookie: Option<bool>,
    /// Keyed hash of the network; 0 when unknown.
    pub network: u64,
    /// The /24 of an IPv4 address, the /64 of an IPv6 one, as a number to count by; 0 when unknown.
    pub subnet: u64,
    /// [`HeaderFacts::fingerprint`] mixed with what the connection showed; 0 when unknown.
    pub fingerprint: u64,
    /// Class of the method.
    pub method: Method,
    /// Class of what is asked for.
    pub target: Target,
    /// [`path_hash`] of the canonical path.
    pub path: u32,
    /// The route lies behind a waiting room.
    pub sale: Option<bool>,
    /// Carries a valid ticket: a refresh that we asked for, which says nothing about cadence or breadth.
    pub waiting: bool,
    /// Protocol of the connection.
    pub http: Option<Http>,
    /// The client came over TLS.
    pub tls: Option<bool>,
    /// Shape of the headers.
    pub headers: HeaderFacts,
    /// Declared length of the body.
    pub body_bytes: Option<u64>,
}

impl VisitFacts {
    /// A page, asked for as a browser does when somebody looks at it: the visits whose header orders can be compared.
    pub(super) fn shows_order(&self) -> bool {
        self.target == Target::Page && self.method == Method::Get && self.headers.order != 0
    }
}

/// Class of a method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    #[default]
    Get,
    /// `HEAD`.
    Head,
    /// `POST`, `PUT`, `PATCH`, `DELETE`: changes something.
    Change,
    /// Anything else.
    Other,
}

impl Method {
    /// Class of a method's name (upper case).
    pub fn of(name: &str) -> Self {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" | "PUT" | "PATCH" | "DELETE" => Method::Change,
            _ => Method::Other,
        }
    }
}

/// Class of what is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// A page.
    #[default]
    Page,
    /// Image, style, script, font, media.
    Asset,
    /// Data for a program.
    Api,
}

const ASSETS: [&str; 25] = [
    "js",
    "mjs",
    "css",
    "map",
    "png",
    "jpg",
    "jpeg",
    "gif",
    "webp",
    "avif",
    "svg",
    "ico",
    "bmp",
    "woff",
    "woff2",
    "ttf",
    "otf",
    "eot",
    "mp3",
    "mp4",
    "webm",
    "ogg",
    "wasm",
    "webmanifest",
    "swf",
];

impl Target {
    /// From the canonical path: its extension, else a segment that names an API or a folder of images.
    pub fn of(path: &str) -> Self {
        let last = path.rsplit('/').next().unwrap_or_default();
        let ext = last.rsplit_once('.').map_or("", |(_, e)| e);
        let has = |words: &[&str]| path.split('/').any(|s| words.iter().any(|w| s.eq_ignore_ascii_case(w)));
        if ASSETS.iter().any(|a| ext.eq_ignore_ascii_case(a)) {
            Target::Asset
        } else if ["json", "xml"].iter().any(|a| ext.eq_ignore_ascii_case(a)) || has(&["api", "graphql", "rpc", "ajax"]) {
            Target::Api
        } else if ext.is_empty() && has(&["image", "images", "img", "static", "assets", "fonts"]) {
            Target::Asset
        } else {
            Target::Page
        }
    }
}

/// Protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// HTTP/0.9 or 1.0.
    One0,
    /// HTTP/1.1.
    One1,
    /// HTTP/2 or later.
    Two,
}

/// Shape of a request's headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderFacts {
    /// How many there are.
    pub count: Option<u16>,
    /// Hash of the order of those that one client sends with every page; 0 when unknown.
    pub order: u64,
    /// Hash of what one client says in each of its requests, whatever it asks for (User-Agent, languages): the key of its
    /// group in the crowd, never an input; 0 when unknown.
    pub identity: u64,
    /// `Accept` is there.
    pub accept: Option<bool>,
    /// `Accept-Language` is there.
    pub language: Option<bool>,
    /// `Accept-Encoding` is there.
    pub encoding: Option<bool>,
    /// `Cookie` is there.
    pub cookie: Option<bool>,
    /// A `Sec-Fetch-*` is there. Browsers send them over TLS only.
    pub sec_fetch: Option<bool>,
    /// A `Sec-CH-UA*` is there. Chromium sends them over TLS only.
    pub client_hints: Option<bool>,
    /// Where it was sent from.
    pub referer: Referer,
    /// What the User-Agent claims.
    pub agent: Agent,
}

/// Relation of the referring page to this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Referer {
    /// Nobody looked.
    #[default]
    Unknown,
    /// No `Referer`.
    None,
    /// This host.
    Same,
    /// Another one.
    Other,
}

/// What a User-Agent claims to be. Only agreement with the other headers becomes a feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Agent {
    /// Nobody looked.
    #[default]
    Unknown,
    /// No User-Agent, or an empty one.
    Absent,
    /// A Chromium browser.
    Chromium,
    /// Another browser.
    Browser,
    /// A declared crawler.
    Crawler,
    /// A declared tool or library.
    Tool,
    /// Something else.
    Other,
}

impl Agent {
    /// Reads the claim: one pass over at most 512 bytes; crawlers win over tools over browsers.
    pub fn of(text: &str) -> Self {
        let text = &text.as_bytes()[..text.len().min(AGENT_BYTES_MAX)];
        if text.is_empty() || text == b"-" {
            return Agent::Absent;
        }
        let browser_like = text.starts_with(b"Mozilla/5.0 (");
        let mut claim = Agent::Other;
        for i in 0..text.len() {
            for (word, means) in words(text[i] | 0x20) {
                if text.get(i..i + word.len()).is_none_or(|t| !t.eq_ignore_ascii_case(word.as_bytes())) {
                    continue;
                }
                // CUBOT makes telephones.
                if *word == "bot" && i >= 2 && text[i - 2..i].eq_ignore_ascii_case(b"cu") {
                    continue;
                }
                match means {
                    Agent::Crawler => return Agent::Crawler,
                    Agent::Tool => claim = Agent::Tool,
                    Agent::Chromium if browser_like && claim != Agent::Tool => claim = Agent::Chromium,
                    Agent::Browser if browser_like && claim == Agent::Other => claim = Agent::Browser,
                    _ => {}
                }
            }
        }
        claim
    }

    /// Claims to be a browser.
    pub fn is_browser(self) -> bool {
        matches!(self, Agent::Chromium | Agent::Browser)
    }
}

/// All that is read of a User-Agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentFacts {
    claim: Agent,
    hash: u64,
}

impl AgentFacts {
    /// Reads the header's value.
    pub fn of(value: &[u8]) -> Self {
        let claim = Agent::of(std::str::from_utf8(value).unwrap_or("?"));
        AgentFacts { claim, hash: fnv(FNV_SEED ^ 2, value.iter().copied()) }
    }
}

/// Longest User-Agent that is looked at.
const AGENT_BYTES_MAX: usize = 512;

/// The words that begin with a letter (lower case; `+` is 0x2b, with bit 0x20 set already), and what they mean.
fn words(first: u8) -> &'static [(&'static str, Agent)] {
    use Agent::{Browser as B, Chromium as C, Crawler as X, Tool as T};
    match first {
        b'+' => &[("+http", X)],
        b'a' => &[("archiver", X), ("applewebkit/", B), ("aiohttp", T), ("axios", T), ("apache-httpclient", T)],
        b'b' => &[("bot", X)],
        b'c' => &[("crawl", X), ("chrome/", C), ("chromium/", C), ("crios/", C), ("curl/", T)],
        b'e' => &[("edg/", C)],
        b'f' => &[("feedfetcher", X), ("firefox/", B), ("feed", T)],
        b'g' => &[("go-http-client", T)],
        b'h' => &[("headless", T), ("httpx", T)],
        b'j' => &[("java/", T)],
        b'l' => &[("libwww", T)],
        b'm' => &[("monitor", X)],
        b'n' => &[("node-fetch", T)],
        b'o' => &[("okhttp", T)],
        b'p' => &[("python", T), ("perl", T), ("php/", T), ("phantom", T)],
        b'r' => &[("ruby", T), ("rss", T)],
        b's' => &[("spider", X), ("slurp", X), ("safari/", B), ("scrapy", T)],
        b't' => &[("trident/", B)],
        b'u' => &[("undici", T)],
        b'w' => &[("wget", T)],
        _ => &[],
    }
}

/// Headers, beside the client hints, that a client sends with every page or with none.
const STEADY: [&str; 9] = [
    "host",
    "user-agent",
    "accept",
    "accept-language",
    "accept-encoding",
    "upgrade-insecure-requests",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "dnt",
];

impl HeaderFacts {
    /// Reads headers in the order they came. `host` is the visit's host (lower case, no port).
    pub fn read<'a>(host: &str, headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        Self::read_with(host, headers, AgentFacts::of)
    }

    /// The same; `agent` reads a User-Agent as [`AgentFacts::of`] does, or knows what that has said.
    pub fn read_with<'a>(
        host: &str,
        headers: impl Iterator<Item = (&'a str, &'a [u8])>,
        agent: impl Fn(&[u8]) -> AgentFacts,
    ) -> Self {
        let no = Some(false);
        let mut f = HeaderFacts {
            count: Some(0),
            order: FNV_SEED,
            identity: FNV_SEED,
            accept: no,
            language: no,
            encoding: no,
            cookie: no,
            sec_fetch: no,
            client_hints: no,
            referer: Referer::None,
            agent: Agent::Absent,
        };
        let (mut count, yes) = (0u16, Some(true));
        for (name, value) in headers {
            count = count.saturating_add(1);
            let is = |n: &str| name.eq_ignore_ascii_case(n);
            let starts = |n: &str| name.get(..n.len()).is_some_and(|s| s.eq_ignore_ascii_case(n));
            // `Sec-Fetch-User` comes with a click, not with a reload.
            if STEADY.iter().any(|n| is(n)) || starts("sec-ch-ua") {
                f.order = fnv(f.order, name.bytes().map(|b| b.to_ascii_lowercase()).chain([b'\n']));
            }
            match name.len() {
                6 if is("accept") => f.accept = yes,
                15 if is("accept-language") => {
                    f.language = yes;
                    f.identity ^= fnv(FNV_SEED ^ 1, value.iter().copied());
                }
                15 if is("accept-encoding") => f.encoding = yes,
                6 if is("cookie") => f.cookie = yes,
                7 if is("referer") => f.referer = referer(host, value),
                10 if is("user-agent") => {
                    let AgentFacts { claim, hash } = agent(value);
                    f.agent = claim;
                    f.identity ^= hash;
                }
                _ if starts("sec-fetch-") => f.sec_fetch = yes,
                _ if starts("sec-ch-ua") => f.client_hints = yes,
                _ => {}
            }
        }
        f.count = Some(count);
        f
    }

    /// One number for "the same program": the [`identity`](Self::identity) mixed with a hash of what the connection showed
    /// (TLS hello, protocol). The same for a page, its images and its forms.
    pub fn fingerprint(&self, connection: u64) -> u64 {
        fnv(FNV_SEED, [self.identity, connection].into_iter().flat_map(u64::to_le_bytes)).max(1)
    }
}

fn referer(host: &str, value: &[u8]) -> Referer {
    let text = std::str::from_utf8(value).unwrap_or_default();
    if text.is_empty() || text == "-" {
        return Referer::None;
    }
    let there = text.split_once("://").map_or(text, |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or_default();
    let there =
        there.rsplit_once(':').map_or(there, |(h, port)| if port.bytes().all(|b| b.is_ascii_digit()) { h } else { there });
    let same = there.eq_ignore_ascii_case(host) || there.strip_prefix("www.").is_some_and(|t| t.eq_ignore_ascii_case(host));
    if same { Referer::Same } else { Referer::Other }
}

/// Hash of a path for "the same page again" and "how many pages".
pub fn path_hash(path: &str) -> u32 {
    let h = fnv(FNV_SEED, path.bytes());
    (h ^ (h >> 32)) as u32
}

const FNV_SEED: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(seed: u64, bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(host: &str, headers: &[(&str, &str)]) -> HeaderFacts {
        HeaderFacts::read(host, headers.iter().map(|(n, v)| (*n, v.as_bytes())))
    }

    #[test]
    fn headers_become_shapes() {
        let f = read("shop.test", &[("Host", "shop.test"), ("User-Agent", "curl/8.5.0"), ("Accept", "*/*")]);
        assert_eq!((f.count, f.agent, f.referer), (Some(3), Agent::Tool, Referer::None));
        assert_eq!((f.accept, f.language, f.cookie), (Some(true), Some(false), Some(false)));
        let swapped = read("shop.test", &[("User-Agent", "curl/8.5.0"), ("host", "x"), ("Accept", "*/*")]);
        assert_ne!(f.order, swapped.order);
        let with = [("Host", "x"), ("Cookie", "a=b"), ("User-Agent", "y"), ("Accept", "z"), ("Cache-Control", "max-age=0")];
        assert_eq!(f.order, read("", &with).order, "what comes and goes does not count");
        assert_eq!(
            f.order,
            read("", &[("host", "1"), ("user-agent", ""), ("ACCEPT", "2")]).order,
            "case and values do not count"
        );
        assert_ne!(f.fingerprint(1), f.fingerprint(2));
        let other = read("shop.test", &[("accept", "image/*"), ("user-agent", "curl/8.5.0"), ("cookie", "a=b")]);
        assert_eq!(f.fingerprint(1), other.fingerprint(1), "the same client, asking for something else");
        assert_ne!(f.fingerprint(1), read("", &[("user-agent", "curl/8.6.0")]).fingerprint(1));
        let hints = read("", &[("sec-ch-ua-mobile", "?0"), ("Sec-Fetch-Mode", "navigate")]);
        assert_eq!((hints.client_hints, hints.sec_fetch), (Some(true), Some(true)));
    }

    #[test]
    fn referers_are_compared_by_host() {
        for (value, want) in [
            ("https://shop.test/a", Referer::Same),
            ("http://SHOP.test:8080/a", Referer::Same),
            ("https://www.shop.test", Referer::Same),
            ("https://evil.test/shop.test", Referer::Other),
            ("https://shop.test.evil/", Referer::Other),
            ("-", Referer::None),
            ("", Referer::None),
        ] {
            assert_eq!(referer("shop.test", value.as_bytes()), want, "{value}");
        }
    }

    #[test]
    fn agents_are_claims() {
        let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";
        let firefox = "Mozilla/5.0 (Windows NT 10.0; rv:127.0) Gecko/20100101 Firefox/127.0";
        let google = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
        assert_eq!(Agent::of(chrome), Agent::Chromium);
        assert_eq!(Agent::of(firefox), Agent::Browser);
        assert_eq!(Agent::of(&chrome.replace("X11; Linux x86_64", "Linux; Android 12; CUBOT X50")), Agent::Chromium);
        assert_eq!(Agent::of(google), Agent::Crawler);
        assert_eq!(Agent::of("python-requests/2.32"), Agent::Tool);
        assert_eq!(Agent::of("MyShopApp/3.1 (iOS)"), Agent::Other);
        assert_eq!(Agent::of(""), Agent::Absent);
    }

    #[test]
    fn targets_are_told_by_path() {
        for (path, want) in [
            ("/", Target::Page),
            ("/p/42", Target::Page),
            ("/s.css", Target::Asset),
            ("/a/b/LOGO.PNG", Target::Asset),
            ("/image/60844/productModel/200x200", Target::Asset),
            ("/api/cart", Target::Api),
            ("/stock.json", Target::Api),
            ("/apiary", Target::Page),
            ("/img/index.html", Target::Page),
        ] {
            assert_eq!(Target::of(path), want, "{path}");
        }
    }
}
