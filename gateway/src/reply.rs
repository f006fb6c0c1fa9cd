//! A verdict becomes HTTP. Every answer of ours says which verdict and why, and that nobody may store it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{StatusCode, header};
use pingora::{http::ResponseHeader, proxy::Session};
use serde::Serialize;
use serde_json::{Value, json};
use tidegate_filters::{
    Decision, Filter, Reason, Verdict, VisitorId, Wants,
    reference::Reference,
    rule::visitor_rate::VisitorRateSettings,
    seats::room::{Room, Stage, Waiting},
    verdict::{Notes, Quota},
};

use crate::{
    appeal, challenge,
    counts::HeadFault,
    pages::{self, Page, Refusal},
    standing::{self, State},
    trace::Trace,
};

/// Declared bodies up to this size are read and thrown away after an early answer, so that the connection can stay.
pub const DRAIN_BYTES_MAX: u64 = 64 << 10;
/// How long that may take.
pub const DRAIN_WAIT: Duration = Duration::from_secs(2);
/// Room for the head of most answers.
const HEAD_BYTES_USUAL: usize = 512;
/// Room for the body of most.
const JSON_BYTES_USUAL: usize = 1_536;

/// RFC 9457.
pub const PROBLEM: &str = "application/problem+json";

/// An answer of the gate itself.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Tidegate-Verdict`.
    pub verdict: &'static str,
    /// `Tidegate-Reason`.
    pub reason: &'static str,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Whole.
    pub body: Bytes,
    /// What else it says.
    pub headers: Vec<(&'static str, String)>,
}

impl Answer {
    /// A page.
    pub fn page(status: u16, verdict: &'static str, reason: &'static str, page: Page) -> Self {
        let headers = vec![("content-security-policy", page.policy), ("content-language", page.language)];
        Answer { status, verdict, reason, content_type: "text/html; charset=utf-8", body: page.html.into(), headers }
    }

    /// Plain words.
    pub fn text(status: u16, verdict: &'static str, reason: &'static str, text: &'static str) -> Self {
        let content_type = "text/plain; charset=utf-8";
        Answer { status, verdict, reason, content_type, body: Bytes::from_static(text.as_bytes()), headers: Vec::new() }
    }

    /// JSON.
    pub fn json(status: u16, verdict: &'static str, reason: &'static str, value: &impl Serialize) -> Self {
        let mut body = Vec::with_capacity(JSON_BYTES_USUAL);
        // Numbers, strings and maps keyed by strings: what we tell can always be written.
        serde_json::to_writer(&mut body, value).unwrap_or_else(|e| tracing::error!(%e, "an answer could not be written as JSON"));
        let body = body.into();
        Answer { status, verdict, reason, content_type: "application/json", body, headers: Vec::new() }
    }

    /// RFC 9457.
    pub fn problem(status: u16, verdict: &'static str, reason: &'static str, detail: &str) -> Self {
        Self::problem_about(None, status, verdict, reason, detail)
    }

    /// The same about a decision that its visitor can ask about.
    fn problem_about(about: Option<Reference>, status: u16, verdict: &'static str, reason: &'static str, detail: &str) -> Self {
        Self::problem_of(status, verdict, reason, &problem_value(about, status, reason, detail))
    }

    /// The same with more to say, see [`problem_value`].
    pub fn problem_of(status: u16, verdict: &'static str, reason: &'static str, value: &Value) -> Self {
        Answer { content_type: PROBLEM, ..Self::json(status, verdict, reason, value) }
    }

    /// Another place.
    pub fn see(status: u16, verdict: &'static str, reason: &'static str, location: String) -> Self {
        let mut answer = Answer::problem(status, verdict, reason, "see Location");
        answer.headers.push(("location", location));
        answer
    }

    /// One more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

/// The fields of RFC 9457, and ours: `reason`, and `reference` where the visitor can ask about the decision.
pub fn problem_value(about: Option<Reference>, status: u16, reason: &str, detail: &str) -> Value {
    let title = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Error");
    let mut value = json!({ "type": "about:blank", "title": title, "status": status, "detail": detail, "reason": reason });
    if let Some(reference) = about {
        value["reference"] = reference.to_string().into();
    }
    value
}

/// What the filters decided, as an answer. `Forward` has none.
pub fn of_decision(trace: &Trace, decision: &Decision, notes: &Notes) -> Answer {
    let intake = &trace.intake;
    let reason = decision.reason;
    match &decision.verdict {
        Verdict::Wait(w) => waiting(trace, w, reason),
        Verdict::Challenge => challenge::ask(trace, decision),
        Verdict::Throttle(quota) => {
            let seconds = retry_after(quota.wait_ms.div_ceil(1_000) as u32, intake.visitor);
            let answer = refusal(trace, 429, "throttle", reason).with("retry-after", seconds);
            rate_limit_headers(trace, quota, answer)
        }
        // Nothing is told: it looks like a path that is not there.
        Verdict::Refuse { .. } if is_honeypot(trace, decision) => refusal(trace, 404, "refuse", Reason::NoRoute),
        Verdict::Refuse { .. } if reason == Reason::SaleCancelled => called_off(trace, decision),
        Verdict::Refuse { retry_after_s } => {
            let status = match (reason, retry_after_s) {
                (Reason::NoRoute, _) => 404,
                (Reason::SaleClosed | Reason::RoomClosed, _) => 410,
                (Reason::PeopleWait, _) => status_for_crawlers(trace, decision),
                (Reason::HoldInFlight | Reason::NoHold, _) => 409,
                (_, Some(_)) => 503,
                (_, None) => 403,
            };
            let answer = match reason {
                Reason::ScoreRefuse | Reason::AddressDenied | Reason::Honeypot | Reason::FalseCrawler => {
                    appeal::offered(trace, status, reason)
                }
                _ => refusal(trace, status, "refuse", reason),
            };
            let answer = match retry_after_s {
                Some(s) => answer.with("retry-after", retry_after(*s, intake.visitor)),
                None => answer,
            };
            match &notes.quota {
                Some(quota) => rate_limit_headers(trace, quota, answer),
                None => answer,
            }
        }
        Verdict::SoldOut(w) => sold_out(trace, w, reason),
        Verdict::Forward(_) => refusal(trace, 500, "refuse", reason),
    }
}

/// The path itself, and not only somebody who asked for it before.
fn is_honeypot(trace: &Trace, decision: &Decision) -> bool {
    matches!(filter_of(trace, decision), Some(Filter::Honeypot(pot)) if pot.covers(&trace.intake.path))
}

/// What the room that decided says to programs that only look.
fn status_for_crawlers(trace: &Trace, decision: &Decision) -> u16 {
    room_of(trace, decision).map_or(503, |r| r.settings().status_for_crawlers)
}

/// The room that decided.
fn room_of<'t>(trace: &'t Trace, decision: &Decision) -> Option<&'t Room> {
    match filter_of(trace, decision)? {
        Filter::WaitingRoom { room, .. } => trace.active.pipeline.rooms().get(*room),
        _ => None,
    }
}

/// The filter that decided.
pub fn filter_of<'t>(trace: &'t Trace, decision: &Decision) -> Option<&'t Filter> {
    trace.active.pipeline.filters().nth(usize::from(decision.filter?)).map(|(filter, _)| filter)
}

/// The sale that this visitor waited for, entered or would buy in does not take place.
fn called_off(trace: &Trace, decision: &Decision) -> Answer {
    let code = Reason::SaleCancelled.code();
    match (sale_of(trace, decision), trace.intake.wants) {
        (Some((room, sale)), Wants::Html) => {
            let off = standing::called_off(trace, room, sale);
            let quoted = quoted(code, Reference::of(&trace.row));
            let page = pages::cancelled(trace.intake.accept_language.as_str(), &off, room.name(), &quoted);
            Answer::page(410, "refuse", code, page)
        }
        (Some((room, sale)), Wants::Json) => Answer::json(410, "refuse", code, &State::cancelled(trace, room, sale).told()),
        _ => refusal(trace, 410, "refuse", Reason::SaleCancelled),
    }
}

/// The sale that was decided about, and its room: that of the visit's ticket, of the hours, or of the unit that is needed.
fn sale_of<'t>(trace: &'t Trace, decision: &Decision) -> Option<(&'t Room, &'t str)> {
    let pipeline = &trace.active.pipeline;
    let name: &str = match filter_of(trace, decision) {
        Some(Filter::WaitingRoom { room, .. }) => {
            let room = pipeline.rooms().get(*room)?;
            return Some((room, &room.called_off(&trace.intake.visit(None), trace.started)?.0.name));
        }
        Some(Filter::SaleWindow(hours)) => &hours.sale().name,
        _ => &pipeline.routes().get(trace.route?)?.needs.as_ref()?.hold,
    };
    Some((pipeline.rooms().iter().find(|r| r.sales().any(|s| *s.name == *name))?, name))
}

/// Nothing is left: at once, with the place where there is one. What was sent to the shop cannot be looked at again.
fn sold_out(trace: &Trace, w: &Waiting, reason: Reason) -> Answer {
    match trace.intake.wants {
        Wants::Html if trace.intake.method != "GET" => refusal(trace, 410, "sold_out", reason),
        Wants::Other => refusal(trace, 410, "sold_out", reason),
        _ => Answer { status: 410, verdict: "sold_out", ..waiting(trace, w, reason) },
    }
}

/// The gate's own limits: the shop is busy, down, wrong; a body is too large; the gate stops.
pub fn refusal(trace: &Trace, status: u16, verdict: &'static str, reason: Reason) -> Answer {
    failure(trace, status, verdict, reason.code(), Refusal::Of(reason))
}

/// A refusal for which there is no reason code of the filters.
pub fn failure(trace: &Trace, status: u16, verdict: &'static str, code: &'static str, refusal: Refusal) -> Answer {
    let reference = Reference::of(&trace.row);
    match trace.intake.wants {
        Wants::Html => {
            let page = pages::message(trace.intake.accept_language.as_str(), refusal, &quoted(code, reference));
            Answer::page(status, verdict, code, page)
        }
        // Programs are told in English, as they always were.
        Wants::Json | Wants::Other => Answer::problem_about(Some(reference), status, verdict, code, pages::in_english(refusal)),
    }
}

/// What programs read as a problem is a page to a browser.
pub fn for_browsers(trace: &Trace, answer: Answer) -> Answer {
    if trace.intake.wants != Wants::Html || answer.content_type != PROBLEM || answer.status < 400 {
        return answer;
    }
    let refusal = Refusal::Of(match answer.status {
        404 => Reason::NoRoute,
        413 => Reason::BodyTooLarge,
        429 => Reason::RateExceeded,
        403 | 503 => Reason::Own,
        _ => Reason::BadRequest,
    });
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let detail = value["detail"].as_str().unwrap_or_default();
    let code = quoted(answer.reason, Reference::of(&trace.row));
    let page = pages::explained(trace.intake.accept_language.as_str(), refusal, detail, &code);
    let mut shown = Answer::page(answer.status, answer.verdict, answer.reason, page);
    shown.headers.extend(answer.headers);
    shown
}

/// What a page shows for a visitor to quote.
pub fn quoted(code: &str, reference: Reference) -> String {
    format!("{code} {reference}")
}

/// A place in a room.
pub fn waiting(trace: &Trace, w: &Waiting, reason: Reason) -> Answer {
    let Some(room) = trace.active.pipeline.rooms().get(w.room) else { return refusal(trace, 503, "refuse", reason) };
    let status = room.settings().status_while_waiting;
    let state = State::of(trace, room, w);
    let answer = match trace.intake.wants {
        Wants::Html => match pages::waiting(&state) {
            Some(page) => Answer::page(status, "wait", reason.code(), page),
            None => refusal(trace, 503, "refuse", reason),
        },
        Wants::Json => Answer::json(status, "wait", reason.code(), &state.told()),
        // An image or a style sheet: nobody sees the answer, and 200 would break the page quietly.
        Wants::Other => Answer::problem(503, "wait", reason.code(), "waiting for a place in the shop"),
    };
    answer.with("retry-after", w.poll_after_s.max(1))
}

/// Whole seconds, at least one, a little later for some than for others: they must not all come back at once. The same
/// visitor always gets the same.
pub fn retry_after(base_s: u32, visitor: Option<VisitorId>) -> u32 {
    let base = base_s.clamp(1, 86_400);
    let spread = u64::from(base / 4 + 2);
    // The low bits of the id pick hash sets elsewhere; use the high ones.
    base + (visitor.map_or(0, |v| (v.0 >> 32) % spread)) as u32
}

/// draft-ietf-httpapi-ratelimit-headers-10.
fn rate_limit_headers(trace: &Trace, quota: &Quota, answer: Answer) -> Answer {
    let filter = trace.active.pipeline.filters().nth(usize::from(quota.filter));
    let Some((Filter::VisitorRate(filter), _)) = filter else { return answer };
    let VisitorRateSettings { name, rate, burst, .. } = filter.settings();
    // A used-up quota is whole again after burst / rate.
    let window_s = (f64::from(*burst) / rate.as_per_s()).ceil().max(1.0) as u64;
    let reset_s = quota.wait_ms.div_ceil(1_000);
    answer
        .with("ratelimit-policy", format!("\"{name}\";q={burst};w={window_s}"))
        .with("ratelimit", format!("\"{name}\";r={};t={reset_s}", quota.remaining))
}

/// Every header of an answer, cookies of the trace last. What the answer says itself takes the place of what all say.
fn each_header(trace: &Trace, answer: &Answer, mut tell: impl FnMut(&'static str, &str)) {
    let mut say = |name, value: &str| {
        if answer.headers.iter().all(|(said, _)| *said != name) {
            tell(name, value);
        }
    };
    say("content-type", answer.content_type);
    say("content-length", itoa(answer.body.len(), &mut [0; 20]));
    say("cache-control", "no-store, private");
    say("tidegate-verdict", answer.verdict);
    say("tidegate-reason", answer.reason);
    say("x-content-type-options", "nosniff");
    if answer.content_type.starts_with("text/html") {
        // Our forms need an Origin that says where they stood.
        say("referrer-policy", "same-origin");
        say("vary", "Accept, Accept-Language, Cookie");
    }
    answer.headers.iter().for_each(|(name, value)| tell(name, value));
    trace.cookies.iter().for_each(|cookie| tell("set-cookie", cookie));
}

/// The whole answer as HTTP/1.1. `last`: the connection is closed after it.
pub fn http1(trace: &Trace, answer: &Answer, last: bool) -> BytesMut {
    let no_body = trace.intake.method == "HEAD";
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut out = BytesMut::with_capacity(HEAD_BYTES_USUAL + if no_body { 0 } else { answer.body.len() });
    for part in ["HTTP/1.1 ", status.as_str(), " ", status.canonical_reason().unwrap_or("Unknown"), "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    each_header(trace, answer, |name, value| {
        // What we say is ours, but a location may hold what a client sent: a line must stay a line.
        let sane = !value.bytes().any(|b| b < b' ' || b == 0x7f);
        for part in [name, ": ", if sane { value } else { "" }, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    });
    out.extend_from_slice(if last { b"connection: close\r\n\r\n" } else { b"\r\n" });
    if !no_body {
        out.extend_from_slice(&answer.body);
    }
    out
}

/// Sends it through the proxy's session, keeps the connection where that is safe.
pub async fn send(session: &mut Session, trace: &Trace, answer: Answer) -> pingora::Result<()> {
    let mut head = ResponseHeader::build(answer.status, Some(12 + answer.headers.len()))?;
    let mut fault = Ok(());
    each_header(trace, &answer, |name, value| {
        let added = head.append_header(name, value).map(|_| ());
        fault = std::mem::replace(&mut fault, Ok(())).and(added);
    });
    fault?;
    keep_when_safe(session);
    let no_body = session.req_header().method == http::Method::HEAD || answer.body.is_empty();
    session.write_response_header(Box::new(head), no_body).await?;
    if !no_body {
        session.write_response_body(Some(answer.body), true).await?;
    }
    Ok(())
}

/// Decimal digits without an allocation.
fn itoa(mut n: usize, buf: &mut [u8; 20]) -> &str {
    let mut at = buf.len();
    loop {
        at -= 1;
        buf[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    std::str::from_utf8(&buf[at..]).unwrap_or_default()
}

/// An unread body: a small declared one is drained under a deadline, so that the connection stays; anything else closes it
/// (Pingora's default), since what follows could not be told from a request.
fn keep_when_safe(session: &mut Session) {
    if session.is_body_done() {
        return;
    }
    let headers = &session.req_header().headers;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if length.is_some_and(|n| n <= DRAIN_BYTES_MAX) && !headers.contains_key(header::EXPECT) {
        session.set_close_on_response_before_downstream_finish(false);
        session.set_total_drain_timeout(Some(DRAIN_WAIT));
    }
}

/// Status of a refused head.
pub fn head_status(fault: HeadFault) -> u16 {
    match fault {
        HeadFault::TooSlow => 408,
        HeadFault::TooLarge | HeadFault::TooManyHeaders => 431,
        HeadFault::MethodRefused => 405,
        HeadFault::BadVersion => 505,
        _ => 400,
    }
}

/// The whole answer to a head that cannot be trusted, HTTP/1.1; the connection is closed after it.
pub fn bad_head(fault: HeadFault) -> Bytes {
    let status = head_status(fault);
    let answer = Answer::problem(status, "refuse", fault.name(), "the request is not acceptable HTTP");
    let title = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Bad Request");
    let head = format!(
        "HTTP/1.1 {status} {title}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store, private\r\n\
         Tidegate-Verdict: refuse\r\nTidegate-Reason: {}\r\nConnection: close\r\n\r\n",
        answer.content_type,
        answer.body.len(),
        fault.name(),
    );
    let mut out = BytesMut::from(head.as_bytes());
    out.extend_from_slice(&answer.body);
    out.freeze()
}

/// Whether a claim makes sense at this stage, and for how long.
pub fn claimable(stage: Stage) -> Option<u32> {
    match stage {
        Stage::Called { expires_in_s } => Some(expires_in_s),
        Stage::Next => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_whole_positive_and_spread() {
        assert_eq!(retry_after(0, None), 1);
        let given: Vec<u32> = (0..64u64).map(|i| retry_after(20, Some(VisitorId(i << 32)))).collect();
        assert!(given.iter().all(|s| (20..=26).contains(s)));
        assert!(given.iter().any(|s| *s != given[0]));
        assert_eq!(retry_after(20, Some(VisitorId(5 << 32))), retry_after(20, Some(VisitorId(5 << 32))));
    }

    #[test]
    fn a_refused_head_is_whole_http() {
        let text = String::from_utf8_lossy(&bad_head(HeadFault::TooSlow)).into_owned();
        assert!(text.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert!(body.contains("\"reason\":\"too_slow\""));
    }
}
