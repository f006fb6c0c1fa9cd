//! From an HTTP answer to what it means to a visitor. Uses what any client sees: status, headers, forms, JSON.

use hyper::{
    header::{HeaderMap, LOCATION, RETRY_AFTER, SET_COOKIE},
    http::response::Parts,
};
use serde::Deserialize;
use tidegate_filters::seats::draw::{
    digest::unhex,
    work::{WORK_BITS_MAX, Work},
};

use super::jar;
use crate::crowd::{Action, Answer, AnswerKind, GateVerdict, Note};

/// What the waiting page tells a page's script when it says nothing else.
const POLL_AFTER_S: u32 = 5;

/// The waiting JSON, as far as a client needs it.
#[derive(Deserialize)]
struct WaitingJson {
    state: String,
    room: Option<String>,
    place: Option<u32>,
    lane: Option<u8>,
    wait_s: Option<(u32, u32)>,
    poll_after_s: Option<u32>,
    claim: Option<serde::de::IgnoredAny>,
}

pub(super) fn classify(action: Action, parts: &Parts, body: &[u8]) -> Answer {
    let status = parts.status.as_u16();
    let text = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok());
    let verdict = text("tidegate-verdict").and_then(GateVerdict::parse);
    let json = text("content-type").is_some_and(|t| t.starts_with("application/json"));
    let mut answer = Answer {
        verdict,
        retry_after_s: text(RETRY_AFTER.as_str()).and_then(|v| v.parse().ok()),
        location: text(LOCATION.as_str()).map(str::to_owned),
        pass: sets_pass(&parts.headers),
        shop_us: text("server-timing").and_then(shop_us),
        ..Answer::of(AnswerKind::Page, status)
    };
    let waiting = json.then(|| serde_json::from_slice::<WaitingJson>(body).ok()).flatten();
    match (verdict, waiting) {
        (Some(_), Some(w)) if !w.state.is_empty() => told(&mut answer, w),
        (Some(GateVerdict::Wait), _) => {
            answer.kind = AnswerKind::Waiting;
            answer.note = Some(page_note(&parts.headers, body, answer.retry_after_s));
            answer.style = between(&String::from_utf8_lossy(body), "<link rel=\"stylesheet\" href=\"");
        }
        (Some(GateVerdict::Challenge), _) => {
            answer.kind = AnswerKind::Challenged;
            let text = String::from_utf8_lossy(body);
            let to = field(&text, "to").unwrap_or("/".into());
            answer.proof = field(&text, "proof").map(|p| format!("to={to}&proof={p}&answer={}", worked(&p)));
        }
        (Some(GateVerdict::SoldOut), _) => answer.kind = AnswerKind::SoldOut,
        (Some(_), _) => answer.kind = by_status(status),
        (None, _) => answer.kind = from_shop(action, status, answer.location.as_deref(), body),
    }
    answer
}

/// What the page's script would find: the bits and the challenge are in the proof.
fn worked(proof: &str) -> u64 {
    let read = unhex(proof).map(|[bits, challenge @ ..]: [u8; 17]| Work { bits: bits.min(WORK_BITS_MAX), challenge });
    read.map_or(0, |work| work.solve())
}

/// JSON of the gate: the place, or that there is none.
fn told(answer: &mut Answer, w: WaitingJson) {
    answer.kind = match w.state.as_str() {
        "seated" => AnswerKind::Seated,
        "none" | "left" => AnswerKind::NoTicket,
        "sold_out" => AnswerKind::SoldOut,
        _ => AnswerKind::Waiting,
    };
    answer.note = Some(Note {
        claimable: w.claim.is_some(),
        state: w.state,
        room: w.room,
        place: place(w.place, w.lane),
        wait_s: w.wait_s,
        poll_after_s: w.poll_after_s.or(answer.retry_after_s).unwrap_or(POLL_AFTER_S),
    });
}

/// What the waiting page says: its state, its room, when it reloads.
fn page_note(headers: &HeaderMap, body: &[u8], retry_after_s: Option<u32>) -> Note {
    let room = headers.get_all(SET_COOKIE).iter().find_map(|v| {
        let (name, _, gone) = jar::parse(v.to_str().ok()?)?;
        let (_, room) = name.split_once("tidegate-ticket-")?;
        (!gone).then(|| room.to_owned())
    });
    let text = String::from_utf8_lossy(body);
    let state = between(&text, "data-state=\"").unwrap_or_default();
    Note {
        claimable: matches!(state.as_str(), "called" | "next"),
        state,
        room: room.or_else(|| field(&text, "room")),
        place: place(setting(&text, "place"), setting(&text, "lane")),
        wait_s: setting(&text, "wait"),
        poll_after_s: retry_after_s.unwrap_or(POLL_AFTER_S),
    }
}

/// A number and its lane, as one.
fn place(number: Option<u32>, lane: Option<u8>) -> Option<u64> {
    Some(u64::from(number?) | u64::from(lane.unwrap_or(0)) << 32)
}

/// What the page tells its script: `&quot;place&quot;:12,`.
fn setting<T: serde::de::DeserializeOwned>(html: &str, name: &str) -> Option<T> {
    let (_, rest) = html.split_once(&format!("&quot;{name}&quot;:"))?;
    let end = if rest.starts_with('[') { rest.find(']')? + 1 } else { rest.find([',', '}'])? };
    serde_json::from_str(rest.get(..end)?).ok()
}

/// The value of a hidden field: `name="room" value="drop"`.
fn field(html: &str, name: &str) -> Option<String> {
    between(html, &format!("name=\"{name}\" value=\""))
}

fn between(html: &str, before: &str) -> Option<String> {
    let (_, rest) = html.split_once(before)?;
    rest.split_once('"').map(|(v, _)| v.to_owned())
}

/// `shop;dur=12.345`, milliseconds.
fn shop_us(timing: &str) -> Option<u64> {
    let ms: f64 = timing.strip_prefix("shop;dur=")?.parse().ok()?;
    Some((ms * 1_000.0) as u64)
}

fn sets_pass(headers: &HeaderMap) -> bool {
    headers
        .get_all(SET_COOKIE)
        .iter()
        .any(|v| v.to_str().ok().and_then(jar::parse).is_some_and(|(name, _, gone)| name.contains("tidegate-pass-") && !gone))
}

fn by_status(status: u16) -> AnswerKind {
    match status {
        429 => AnswerKind::Throttled,
        503 => AnswerKind::Busy,
        500.. => AnswerKind::Error,
        400..=499 => AnswerKind::Refused,
        300..=399 => AnswerKind::Redirect,
        _ => AnswerKind::Page,
    }
}

fn from_shop(action: Action, status: u16, location: Option<&str>, body: &[u8]) -> AnswerKind {
    let sold_out = || String::from_utf8_lossy(body).contains("id=\"sold-out\"");
    match (action, status) {
        (Action::Asset, 200..=399) => AnswerKind::Asset,
        (Action::Checkout, 300..=399) if location.is_some_and(|l| l.starts_with("/orders/")) => AnswerKind::Ordered,
        (Action::Product, 200) | (Action::Checkout, 409) if sold_out() => AnswerKind::SoldOut,
        _ => by_status(status),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn heard(action: Action, status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut b = hyper::Response::builder().status(status);
        for (n, v) in headers {
            b = b.header(*n, *v);
        }
        classify(action, &b.body(()).unwrap().into_parts().0, body.as_bytes())
    }

    #[test]
    fn what_the_gate_says() {
        let json = ("content-type", "application/json");
        let body = r#"{"state":"waiting","room":"drop","place":123,"ahead":45,"wait_s":[20,40],"poll_after_s":7,"opens_in_s":null,"claim":null,"message":null}"#;
        let a = heard(Action::Poll, 200, &[json, ("tidegate-verdict", "own")], body);
        let note = a.note.unwrap();
        assert_eq!((a.kind, note.place, note.poll_after_s, note.claimable), (AnswerKind::Waiting, Some(123), 7, false));
        assert_eq!(note.wait_s, Some((20, 40)));
        let called = body.replace("\"claim\":null", r#""claim":{"method":"POST","url":"/.tidegate/claim","expires_in_s":110}"#);
        assert!(heard(Action::Poll, 200, &[json, ("tidegate-verdict", "own")], &called).note.unwrap().claimable);
        let none = heard(Action::Poll, 404, &[json, ("tidegate-verdict", "own")], r#"{"state":"none"}"#);
        assert_eq!(none.kind, AnswerKind::NoTicket);
        let page = heard(
            Action::Home,
            200,
            &[("tidegate-verdict", "wait"), ("retry-after", "9"), ("set-cookie", "tidegate-ticket-drop=AA; HttpOnly")],
            "<meta name=\"tidegate\" content=\"{&quot;place&quot;:7,&quot;lane&quot;:1,&quot;wait&quot;:[3,9]}\"><main data-room=\"drop\" data-state=\"called\"><link rel=\"stylesheet\" href=\"/s.css\">",
        );
        assert_eq!(page.style.as_deref(), Some("/s.css"));
        let note = page.note.unwrap();
        assert_eq!((note.place, note.wait_s), (Some(7 | 1 << 32), Some((3, 9))));
        assert_eq!((note.room.as_deref(), note.poll_after_s, note.claimable), (Some("drop"), 9, true));
        let seated = heard(
            Action::Claim,
            303,
            &[("tidegate-verdict", "own"), ("location", "/"), ("set-cookie", "tidegate-pass-drop=BB")],
            "",
        );
        assert_eq!((seated.kind, seated.pass), (AnswerKind::Redirect, true));
        assert_eq!(
            heard(Action::Home, 429, &[("tidegate-verdict", "throttle"), ("retry-after", "2")], "").kind,
            AnswerKind::Throttled
        );
        assert_eq!(heard(Action::Home, 503, &[("tidegate-verdict", "refuse")], "").kind, AnswerKind::Busy);
        assert_eq!(heard(Action::Cart, 403, &[("tidegate-verdict", "refuse")], "").kind, AnswerKind::Refused);
    }

    #[test]
    fn what_the_shop_says() {
        assert_eq!(heard(Action::Checkout, 303, &[("location", "/orders/1f")], "").kind, AnswerKind::Ordered);
        assert_eq!(heard(Action::Checkout, 409, &[], "<p id=\"sold-out\">").kind, AnswerKind::SoldOut);
        assert_eq!(heard(Action::Product, 200, &[], "<p id=\"sold-out\">").kind, AnswerKind::SoldOut);
        assert_eq!(heard(Action::Home, 500, &[], "").kind, AnswerKind::Error);
        assert_eq!(heard(Action::Home, 503, &[], "").kind, AnswerKind::Busy);
        assert_eq!(heard(Action::Asset, 200, &[], "x").kind, AnswerKind::Asset);
        let page = heard(Action::Product, 200, &[("server-timing", "shop;dur=15.250")], "12 left");
        assert_eq!((page.kind, page.shop_us), (AnswerKind::Page, Some(15_250)));
    }
}
