//! Access logs in the combined format, replayed through the features at their own times.

use std::{collections::BTreeMap, fs, io::Read as _, path::Path, sync::Arc};

use tidegate_filters::Now;

use super::{Sample, keep_visit};
use crate::{
    error::ModelError,
    features::{Agent, HeaderFacts, Http, Method, Target, VisitFacts, Windows, path_hash},
    forecast::data::{Frame, frame},
};

/// One line of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Unix seconds.
    pub at_s: i64,
    /// Client address, as text; only its hash is used.
    pub address: String,
    /// Request method.
    pub method: String,
    /// Path without query.
    pub path: String,
    /// Protocol, when the line has one.
    pub http: Option<Http>,
    /// Status of the answer.
    pub status: u16,
    /// Referrer as sent; `-` when none.
    pub referer: String,
    /// User-Agent as sent; `-` when none.
    pub agent: String,
}

/// Parses one line; `None` for a line that is cut or something else.
pub fn parse(line: &str) -> Option<Line> {
    let Frame { address, at_s, request, rest } = frame(line)?;
    let mut parts = rest.splitn(3, ' ');
    let (status, _bytes, rest) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    let (referer, rest) = rest.strip_prefix('"')?.split_once("\" \"")?;
    let agent = rest.split('"').next()?;
    let mut words = request.split(' ');
    let (method, target, version) = (words.next()?, words.next().unwrap_or("/"), words.next());
    let http = match version {
        Some("HTTP/1.0" | "HTTP/0.9") => Some(Http::One0),
        Some("HTTP/1.1") => Some(Http::One1),
        Some(_) => Some(Http::Two),
        None => None,
    };
    Some(Line {
        at_s: at_s as i64,
        address: address.to_owned(),
        method: method.to_owned(),
        path: target.split('?').next().unwrap_or(target).to_owned(),
        http,
        status,
        referer: referer.to_owned(),
        agent: agent.to_owned(),
    })
}

/// Largest log that is read.
pub const FILE_BYTES_MAX: u64 = 1 << 30;

/// All lines of a file in order of time, and how many could not be read.
pub fn read(path: &Path) -> Result<(Vec<Line>, usize), ModelError> {
    let io = |source| ModelError::Io { path: path.to_owned(), doing: "read the log", source };
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(io)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let why = format!("more than {FILE_BYTES_MAX} bytes: split it");
        return Err(ModelError::Unfit { path: path.to_owned(), why });
    }
    let text = String::from_utf8_lossy(&bytes);
    let parsed: Vec<Option<Line>> = text.lines().map(parse).collect();
    let bad = parsed.iter().filter(|l| l.is_none()).count();
    let mut lines: Vec<Line> = parsed.into_iter().flatten().collect();
    lines.sort_by_key(|l| l.at_s);
    Ok((lines, bad))
}

/// Replays a log. Labels are what clients say of themselves: crawlers and tools are programs, browsers count as people,
/// the rest is left out. What a log does not show stays unknown; so does the User-Agent, for it is the label, and with it
/// what only declared programs ask for.
pub(crate) fn replay(lines: &[Line], site: &str) -> Vec<Sample> {
    let windows = Windows::new(lines.len().max(1));
    let host = most_referred(lines);
    let site: Arc<str> = site.into();
    let mut families: BTreeMap<String, Arc<str>> = BTreeMap::new();
    let mut samples = vec![];
    let mut seen = BTreeMap::<u64, u32>::new();
    for (line, now) in lines.iter().zip(instants(lines)).filter(|(l, _)| !l.path.ends_with("/robots.txt")) {
        let visitor = hash(&[&line.address, &line.agent]);
        let subnet = hash(&[subnet(&line.address)]);
        let facts = facts(line, &host, [hash(&[&line.address]), subnet], visitor);
        let features = windows.observe_and_extract(&facts, now);
        windows.feedback(visitor, line.status);
        let bot = match Agent::of(&line.agent) {
            Agent::Crawler | Agent::Tool => true,
            Agent::Chromium | Agent::Browser => false,
            _ => continue,
        };
        let visit = seen.entry(visitor).or_default();
        *visit += 1;
        if keep_visit(*visit) {
            let family = if bot { family(&line.agent) } else { "people".into() };
            let family = families.entry(family).or_insert_with_key(|f| f.as_str().into()).clone();
            samples.push(Sample {
                features,
                bot,
                family,
                site: site.clone(),
                network: subnet,
                visitor,
                visit: *visit,
                weight: 1.0,
            });
        }
    }
    samples
}

/// What a program calls itself: the first word that sounds like one, else the first word.
fn family(agent: &str) -> String {
    let says_nothing = ["mozilla", "compatible", "http", "https", "www"];
    let words = || {
        let all = agent.split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))).filter(|w| w.len() > 2);
        all.filter(|w| !says_nothing.iter().any(|s| w.eq_ignore_ascii_case(s)))
    };
    let sounds = |w: &&str| {
        let w = w.to_ascii_lowercase();
        ["bot", "spider", "crawl", "slurp"].iter().any(|s| w.contains(s)) && w != "robot" && w != "bots"
    };
    let name = words().find(sounds).or_else(|| words().next()).unwrap_or("unnamed");
    name.chars().take(40).collect::<String>().to_ascii_lowercase()
}

/// The /24 of an IPv4 address, the /64 of an IPv6 one: crawlers have many neighbours.
fn subnet(address: &str) -> &str {
    let parts = if address.contains(':') { address.match_indices(':').nth(3) } else { address.match_indices('.').nth(2) };
    parts.map_or(address, |(at, _)| &address[..at])
}

fn facts(line: &Line, host: &str, [network, subnet]: [u64; 2], visitor: u64) -> VisitFacts {
    let referer = HeaderFacts::read(host, [("referer", line.referer.as_bytes())].into_iter()).referer;
    VisitFacts {
        visitor,
        network,
        subnet,
        method: Method::of(&line.method),
        target: Target::of(&line.path),
        path: path_hash(&line.path),
        http: line.http,
        headers: HeaderFacts { referer, ..HeaderFacts::default() },
        ..VisitFacts::default()
    }
}

/// Logs count whole seconds; the lines of one second are spread evenly over it.
fn instants(lines: &[Line]) -> Vec<Now> {
    let mut all = Vec::with_capacity(lines.len());
    for second in lines.chunk_by(|a, b| a.at_s == b.at_s) {
        let at = second[0].at_s;
        all.extend((0..second.len()).map(|before| {
            let ms = (at - lines[0].at_s).unsigned_abs() * 1000 + (1000 * before / second.len()) as u64;
            Now { mono_ns: (1 + ms) * 1_000_000, wall_ms: at.unsigned_abs() * 1000 }
        }));
    }
    all
}

/// The host that most referrers name: the site's own.
fn most_referred(lines: &[Line]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for l in lines {
        if let Some(host) = l.referer.split_once("://").and_then(|(_, r)| r.split('/').next()) {
            *counts.entry(host).or_default() += 1;
        }
    }
    let host = counts.into_iter().max_by_key(|(_, n)| *n).map_or("", |(h, _)| h);
    host.strip_prefix("www.").unwrap_or(host).to_owned()
}

/// The same text, the same number, in every build.
pub(super) fn hash(parts: &[&str]) -> u64 {
    use std::hash::Hasher as _;
    let mut h = siphasher::sip::SipHasher13::new_with_keys(1, 2);
    parts.iter().for_each(|p| h.write(p.as_bytes()));
    h.finish().max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::features::Referer;

    const LINE: &str = r#"31.56.96.51 - - [22/Jan/2019:03:56:16 +0330] "GET /image/60844?x=1 HTTP/1.1" 200 5667 "https://www.zanbil.ir/m" "Mozilla/5.0 (Linux) Chrome/66" "-""#;

    #[test]
    fn lines_are_read_and_cut_ones_are_counted() {
        let l = parse(LINE).unwrap();
        assert_eq!((l.at_s, l.path.as_str(), l.status), (1_548_116_776, "/image/60844", 200));
        assert_eq!((l.method.as_str(), l.http, l.agent.as_str()), ("GET", Some(Http::One1), "Mozilla/5.0 (Linux) Chrome/66"));
        let at_s = |line: &str| frame(line).map(|f| f.at_s);
        assert_eq!(at_s(r#"a - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1"#), Some(1_431_857_103.0));
        for cut in [10, 40, 60, 90, 110] {
            assert_eq!(parse(&LINE[..cut]), None);
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, [LINE.as_bytes(), b"\nrubbish \xff\n", LINE.as_bytes()].concat()).unwrap();
        let (lines, bad) = read(&path).unwrap();
        assert_eq!((lines.len(), bad), (2, 1));
    }

    #[test]
    fn what_a_log_does_not_show_stays_unknown() {
        let f = facts(&parse(LINE).unwrap(), "zanbil.ir", [1, 3], 2);
        assert_eq!((f.headers.referer, f.headers.agent, f.headers.accept), (Referer::Same, Agent::Unknown, None));
        assert_eq!((f.by_cookie, f.tls, f.sale, f.fingerprint), (None, None, None, 0));
        assert_eq!(most_referred(&[parse(LINE).unwrap()]), "zanbil.ir");
    }

    #[test]
    fn one_second_is_spread_evenly() {
        let l = parse(LINE).unwrap();
        let lines = vec![l.clone(), l.clone(), l];
        let ms: Vec<u64> = instants(&lines).iter().map(|n| n.mono_ms()).collect();
        assert_eq!(ms, [1, 334, 667]);
    }

    #[test]
    fn programs_are_called_as_they_call_themselves_and_neighbours_are_one_network() {
        for (agent, name) in [
            ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "googlebot"),
            ("Mozilla/5.0 (compatible; AhrefsBot/6.1; +http://ahrefs.com/robot/)", "ahrefsbot"),
            ("curl/7.64.0", "curl"),
            ("Mozilla/5.0 (compatible; Baiduspider/2.0)", "baiduspider"),
            ("Mozilla/5.0 (compatible; Genieo/1.0 http://www.genieo.com/webfilter.html)", "genieo"),
            ("", "unnamed"),
        ] {
            assert_eq!(family(agent), name);
        }
        assert_eq!((subnet("66.249.66.194"), subnet("2001:db8:1:2:3::4"), subnet("host")), ("66.249.66", "2001:db8:1:2", "host"));
    }

    #[test]
    fn what_only_declared_programs_ask_for_is_not_shown() {
        let robots = LINE.replace("/image/60844?x=1", "/robots.txt");
        let lines: Vec<Line> = [LINE, &robots, LINE].iter().map(|l| parse(l).unwrap()).collect();
        let samples = replay(&lines, "s");
        assert_eq!((samples.len(), samples[1].visit), (2, 2));
        assert_eq!((&*samples[0].family, &*samples[0].site, samples[0].bot), ("people", "s", false));
    }
}
