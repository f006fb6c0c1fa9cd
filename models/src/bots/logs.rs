//! Access logs in the combined format, replayed through the features at their own times.

use std::{fs, path::Path};

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

/// All lines of a file in order of time, and how many could not be read.
pub fn read(path: &Path) -> Result<(Vec<Line>, usize), ModelError> {
    let bytes = fs::read(path).map_err(|source| ModelError::Io { path: path.to_owned(), doing: "read the log", source })?;
    let text = String::from_utf8_lossy(&bytes);
    let parsed: Vec<Option<Line>> = text.lines().map(parse).collect();
    let bad = parsed.iter().filter(|l| l.is_none()).count();
    let mut lines: Vec<Line> = parsed.into_iter().flatten().collect();
    lines.sort_by_key(|l| l.at_s);
    Ok((lines, bad))
}

/// Replays a log. Labels are what clients say of themselves: crawlers and tools are programs, browsers count as people,
/// the rest is left out. What a log does not show stays unknown; so does the User-Agent, for it is the label.
pub(crate) fn replay(lines: &[Line], group: &'static str) -> Vec<(u64, Sample)> {
    let windows = Windows::new(lines.len().max(1));
    let host = most_referred(lines);
    let mut samples = vec![];
    let mut seen = std::collections::BTreeMap::<u64, u32>::new();
    for (i, line) in lines.iter().enumerate() {
        let network = hash(&[&line.address]);
        let visitor = hash(&[&line.address, &line.agent]);
        let facts = facts(line, &host, network, visitor);
        let features = windows.observe_and_extract(&facts, instant(lines, i));
        windows.feedback(visitor, line.status);
        let bot = match Agent::of(&line.agent) {
            Agent::Crawler | Agent::Tool => true,
            Agent::Chromium | Agent::Browser => false,
            _ => continue,
        };
        let visit = seen.entry(visitor).or_default();
        *visit += 1;
        if keep_visit(*visit) {
            samples.push((network, Sample { features, bot, weight: 1.0, group, visit: *visit }));
        }
    }
    samples
}

fn facts(line: &Line, host: &str, network: u64, visitor: u64) -> VisitFacts {
    let referer = HeaderFacts::read(host, [("referer", line.referer.as_bytes())].into_iter()).referer;
    VisitFacts {
        visitor,
        network,
        method: Method::of(&line.method),
        target: Target::of(&line.path),
        path: path_hash(&line.path),
        http: line.http,
        headers: HeaderFacts { referer, ..HeaderFacts::default() },
        ..VisitFacts::default()
    }
}

/// Logs count whole seconds; the lines of one second are spread evenly over it.
fn instant(lines: &[Line], i: usize) -> Now {
    let at = lines[i].at_s;
    let before = lines[..i].iter().rev().take_while(|l| l.at_s == at).count();
    let after = lines[i..].iter().take_while(|l| l.at_s == at).count();
    let ms = (at - lines[0].at_s).unsigned_abs() * 1000 + (1000 * before / (before + after)) as u64;
    Now { mono_ns: (1 + ms) * 1_000_000, wall_ms: at.unsigned_abs() * 1000 }
}

/// The host that most referrers name: the site's own.
fn most_referred(lines: &[Line]) -> String {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for l in lines {
        if let Some(host) = l.referer.split_once("://").and_then(|(_, r)| r.split('/').next()) {
            *counts.entry(host).or_default() += 1;
        }
    }
    let host = counts.into_iter().max_by_key(|(_, n)| *n).map_or("", |(h, _)| h);
    host.strip_prefix("www.").unwrap_or(host).to_owned()
}

fn hash(parts: &[&str]) -> u64 {
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
        let f = facts(&parse(LINE).unwrap(), "zanbil.ir", 1, 2);
        assert_eq!((f.headers.referer, f.headers.agent, f.headers.accept), (Referer::Same, Agent::Unknown, None));
        assert_eq!((f.by_cookie, f.tls, f.sale, f.fingerprint), (None, None, None, 0));
        assert_eq!(most_referred(&[parse(LINE).unwrap()]), "zanbil.ir");
    }

    #[test]
    fn one_second_is_spread_evenly() {
        let l = parse(LINE).unwrap();
        let lines = vec![l.clone(), l.clone(), l];
        let ms: Vec<u64> = (0..3).map(|i| instant(&lines, i).mono_ms()).collect();
        assert_eq!(ms, [1, 334, 667]);
    }
}
