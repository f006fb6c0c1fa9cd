//! Access logs, line by line: common and combined, JSON, HAProxy.

use std::{borrow::Cow, path::Path};

use serde_json::Value;

use super::{
    DataError, Format, Imported, Options, Report, csv,
    sessions::{Hit, Picker, hash},
    time,
};
use crate::features::Agent;

/// A log of which more lines than this share cannot be read is something else.
const UNREADABLE_MAX: f64 = 0.2;
/// Lines looked at to find out what a file is.
const SAMPLE: usize = 50;

/// What one line says.
struct Line<'l> {
    at_s: f64,
    address: Cow<'l, str>,
    agent: Cow<'l, str>,
    path: Cow<'l, str>,
}

/// What a file looks like.
pub(super) fn guess(bytes: &[u8]) -> Format {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(64 << 10)]);
    let lines: Vec<&str> = head.lines().filter(|l| !l.trim().is_empty()).take(SAMPLE).collect();
    let most = |f: fn(&str) -> Option<Line<'_>>| 2 * lines.iter().filter(|l| f(l).is_some()).count() > lines.len();
    [(Format::Json, json as fn(&str) -> Option<Line<'_>>), (Format::Haproxy, haproxy), (Format::Combined, combined)]
        .into_iter()
        .find(|(_, f)| most(*f))
        .map_or(Format::Csv, |(format, _)| format)
}

pub(super) fn read(path: &Path, bytes: &[u8], format: Format, options: &Options) -> Result<Imported, DataError> {
    let text = String::from_utf8_lossy(bytes);
    let parse: fn(&str) -> Option<Line<'_>> = match format {
        Format::Json => json,
        Format::Haproxy => haproxy,
        _ => combined,
    };
    let mut report = Report::default();
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut first_bad = None;
    for (i, text) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        report.rows += 1;
        match parse(text) {
            Some(line) => lines.push(line),
            None => {
                report.unreadable += 1;
                first_bad.get_or_insert(i + 1);
            }
        }
    }
    if let Some(line) = first_bad.filter(|_| report.unreadable as f64 > UNREADABLE_MAX * report.rows as f64) {
        let why = format!(
            "is no line of a {format:?} log, like {} of {} lines; say what it is with --format",
            report.unreadable, report.rows
        );
        return Err(DataError::Line { path: path.to_owned(), line, why });
    }
    report.unsorted = lines.windows(2).filter(|w| w[1].at_s < w[0].at_s).count() as u64;
    lines.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    let mut picker = Picker::new(options.count, options.keep_bots);
    let mut times = Vec::new();
    for l in &lines {
        let path = l.path.split('?').next().unwrap_or_default();
        let client = hash(&l.address) ^ hash(&l.agent).rotate_left(1);
        let hit = Hit { at_s: l.at_s, client, path, agent: Agent::of(&l.agent) };
        if picker.counts(&hit, &mut report) {
            times.push(l.at_s);
        }
    }
    let options = Options { step_s: Some(options.step_s.unwrap_or(60)), ..options.clone() };
    let series = csv::events(path, &times, &options)?;
    series.check(path)?;
    Ok(Imported { series, format, report })
}

/// What every access log of the common kind begins with.
pub(crate) struct Frame<'l> {
    pub(crate) address: &'l str,
    /// Unix seconds.
    pub(crate) at_s: f64,
    pub(crate) request: &'l str,
    /// Behind the request: status, bytes, and what else there is.
    pub(crate) rest: &'l str,
}

/// `a - - [time] "request" rest`; Apache's `vhost_combined` has the host's name and port before the address.
pub(crate) fn frame(line: &str) -> Option<Frame<'_>> {
    let (first, rest) = line.split_once(' ')?;
    let is_address = |word: &str| word.parse::<std::net::IpAddr>().is_ok();
    let address = match rest.split_once(' ') {
        Some((second, _)) if is_address(second) && !is_address(first) => second,
        _ => first,
    };
    let (_, rest) = rest.split_once('[')?;
    let (at, rest) = rest.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    Some(Frame { address, at_s: time::parse(at)?, request, rest })
}

/// `a - - [time] "GET /p HTTP/1.1" 200 1 "referrer" "agent"`; the last two may be missing.
fn combined(line: &str) -> Option<Line<'_>> {
    let Frame { address, at_s, request, rest } = frame(line)?;
    rest.trim_start().split(' ').next()?.parse::<u16>().ok()?;
    let quoted: Vec<&str> = rest.split('"').collect();
    let agent = if quoted.len() >= 4 { quoted[3] } else { "" };
    Some(Line {
        at_s,
        address: address.into(),
        agent: if agent.is_empty() { "?".into() } else { agent.into() },
        path: target(request).into(),
    })
}

/// `… 10.0.1.2:33317 [06/Feb/2009:12:14:14.655] front back/server … {agent} "GET /p HTTP/1.1"`.
fn haproxy(line: &str) -> Option<Line<'_>> {
    let (before, rest) = line.split_once(" [").filter(|(b, _)| b.contains(':'))?;
    let (at, rest) = rest.split_once("] ")?;
    let client = before.rsplit(' ').next()?;
    let (address, port) = client.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let (facts, request) = rest.split_once('"')?;
    // The timers, `10/0/30/69/109`, tell it from other logs.
    facts.split(' ').find(|w| w.matches('/').count() == 4)?;
    // Captured headers stand in braces; a browser's name is known by its look.
    let captured =
        facts.split(['{', '}', '|']).find(|c| c.contains('/') && (c.contains("Mozilla") || c.starts_with(char::is_alphabetic)));
    let captured = captured.filter(|c| !c.contains(' ') || c.contains('('));
    Some(Line {
        at_s: time::parse(at)?,
        address: address.into(),
        agent: captured.filter(|_| facts.contains('{')).unwrap_or("?").into(),
        path: target(request.split('"').next()?).into(),
    })
}

/// One object; the names that nginx and others use.
fn json(line: &str) -> Option<Line<'_>> {
    let value: Value = serde_json::from_str(line.trim()).ok().filter(Value::is_object)?;
    let text = |names: &[&str]| -> Option<String> {
        names.iter().find_map(|n| match value.pointer(&format!("/{}", n.replace('.', "/"))).or_else(|| value.get(*n))? {
            Value::String(s) => Some(s.clone()),
            Value::Number(n) => Some(n.to_string()),
            _ => None,
        })
    };
    let at = text(&["time_iso8601", "@timestamp", "timestamp", "time_local", "time", "ts", "msec", "date", "start_time"])?;
    let request = text(&["request", "request_line", "http.request.line"]);
    let path = text(&["request_uri", "uri", "path", "url", "url.path", "RequestPath", "request.uri"]);
    let path = path.or_else(|| request.map(|r| target(&r).to_owned()))?;
    let address =
        text(&["remote_addr", "client_ip", "remote_ip", "client.ip", "clientip", "ClientHost", "request.remote_ip", "ip"]);
    let agent = text(&["http_user_agent", "user_agent", "userAgent", "agent", "user_agent.original", "request_User-Agent"]);
    Some(Line {
        at_s: time::parse(&at)?,
        address: address.unwrap_or_default().into(),
        agent: agent.unwrap_or_else(|| "?".into()).into(),
        path: path.into(),
    })
}

fn target(request: &str) -> &str {
    request.split(' ').nth(1).unwrap_or("/")
}
