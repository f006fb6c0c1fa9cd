//! What lives below the gate's own prefix: status, events, claim, extend, leave, challenge, health.

use std::sync::Arc;

use pingora::proxy::Session;
use serde_json::json;
use tidegate_filters::{
    Now, Reason, Visit, VisitorId, Wants,
    pipeline::ClaimOutcome,
    record::Kind as RowKind,
    seats::{
        draw::live::EntryRef,
        queue::Place,
        room::{Claim, GivenBack, Room, RoomStatus, Stage},
        seat::SeatRef,
        token::{Kind, Token},
    },
};

use crate::{
    appeal, challenge,
    claims::CLAIM_WAIT,
    credentials::{COOKIE_PREFIX, HOST_PREFIX},
    draw, events,
    form::{destination, fields, get},
    intake,
    reply::{self, Answer},
    standing::State,
    state::Shared,
    trace::Trace,
};

/// A visitor is remembered this long, milliseconds.
const VISITOR_MS: u64 = 30 * 86_400_000;
/// The protocol of the draw, for who writes a verifier.
const PROTOCOL: &str = include_str!("../../PROTOCOL.md");
/// The page of who entered a draw names it where that counts: a browser asks for it, a program that only reads pages does not.
pub const STYLE: &str = "style.css";
/// To somebody who has nothing here.
const NONE_MEANS: &str =
    "no place, pass or entry came along: GET the page itself, with the cookies that this gate set, to get one";
/// To somebody who leaves before the draw.
const ENTRY_STAYS: &str = "the list of a draw is never made shorter: your entry is drawn like any other, and its place is passed over; \
                           come back as the same visitor and it is yours";
/// To somebody called whose time cannot grow.
const NO_MORE_TIME: &str =
    "no more time can be given: it grows ten times, and only while it runs; claim the place now, it is yours";

/// Answers a request below the prefix (`path` is what follows it), unless that takes a form or the disk: `None`.
pub fn at_once(shared: &Shared, trace: &mut Trace, path: &str) -> Option<Answer> {
    trace.own(RowKind::Own, "own", Reason::Own);
    let answer = match (path, &*trace.intake.method) {
        ("status", "GET" | "HEAD") => status(shared, trace),
        ("health", "GET" | "HEAD") => health(shared),
        (STYLE, "GET" | "HEAD") => draw::style(shared, trace),
        ("bypass", "GET") => take_bypass(shared, trace),
        ("appeal", "GET") => appeal::outcome(shared, trace),
        ("draw/protocol.md", "GET" | "HEAD") => {
            Answer::text(200, "own", Reason::Own.code(), PROTOCOL).with("cache-control", "public, max-age=3600")
        }
        ("events", "GET") => return None,
        ("draw" | "draw/transcript.json" | "draw/entries.csv" | "receipt", "GET" | "HEAD") => return None,
        ("claim" | "extend" | "leave" | "challenge" | "appeal" | "draw/proof" | "work", "POST") => return None,
        ("appeal", _) => problem(405, "answers GET and POST only").with("allow", "GET, POST"),
        (
            "status" | "health" | STYLE | "events" | "bypass" | "draw" | "draw/transcript.json" | "draw/entries.csv" | "receipt",
            _,
        ) => problem(405, "answers GET only").with("allow", "GET, HEAD"),
        ("claim" | "extend" | "leave" | "challenge" | "draw/proof" | "work", _) => {
            problem(405, "answers POST only").with("allow", "POST")
        }
        _ => problem(404, "no page of the gate has this name"),
    };
    Some(reply::for_browsers(trace, answer))
}

/// Answers a request for which [`at_once`] has no answer.
pub async fn answer(shared: &Arc<Shared>, session: &mut Session, trace: &mut Trace, path: &str) -> pingora::Result<()> {
    let form = match &*trace.intake.method {
        "POST" => crate::form::read(session, trace).await,
        _ => Ok(Vec::new()),
    };
    let answer = match (path, form) {
        (_, Err(answer)) => answer,
        ("claim", Ok(form)) => claim(shared, trace, &form).await,
        ("events", Ok(_)) => return events::stream(shared, session, trace).await,
        ("extend", Ok(form)) => extend(shared, trace, &form),
        ("leave", Ok(form)) => leave(shared, trace, &form).await,
        ("challenge", Ok(form)) => challenge::take(shared, trace, &form),
        ("appeal", Ok(form)) => appeal::take(shared, trace, &form).await,
        ("work", Ok(form)) => draw::work(shared, trace, &form).await,
        (_, Ok(form)) => return draw::answer(shared, session, trace, path, &form).await,
    };
    let answer = reply::for_browsers(trace, answer);
    reply::send(session, trace, answer).await
}

/// There is no room of this name.
fn no_room(trace: &Trace) -> Answer {
    match trace.intake.wants {
        Wants::Html => problem(404, "no room has this name"),
        _ => none(),
    }
}

/// The URL of one of our pages.
pub fn url(trace: &Trace, page: &str) -> String {
    format!("{}{page}", trace.active.policy.own_prefix)
}

/// The cookie that carries a token; `name` without prefix.
pub fn cookie(shared: &Shared, https: bool, name: &str, token: &Token) -> String {
    let value = shared.keyring.load().seal(token);
    let age_s = token.expires_at_ms.saturating_sub(token.issued_at_ms) / 1_000;
    cookie_text(https, name, &value, age_s)
}

fn cookie_text(https: bool, name: &str, value: &str, age_s: u64) -> String {
    let (prefix, secure) = if https { (HOST_PREFIX, "; Secure") } else { ("", "") };
    format!("{prefix}{COOKIE_PREFIX}{name}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Lax{secure}")
}

/// Gives a pass, and a name to a visitor who has none.
pub fn give_pass(shared: &Shared, trace: &mut Trace, room: &Room, seat: SeatRef, now: Now) {
    let token = room.bound(&trace.intake.visit(None), room.pass_token(seat, &trace.intake.host, now));
    trace.cookies.push(cookie(shared, trace.intake.https, &format!("pass-{}", room.name()), &token));
    give_visitor(shared, trace, now);
}

/// Gives the ticket of an entry of a draw.
pub fn give_entry_ticket(shared: &Shared, trace: &mut Trace, room: &Room, entry: EntryRef, now: Now) {
    let token = room.bound(&trace.intake.visit(None), room.entry_token(entry, &trace.intake.host, now));
    trace.cookies.push(cookie(shared, trace.intake.https, &format!("ticket-{}", room.name()), &token));
    give_visitor(shared, trace, now);
}

/// Gives a ticket, and a name to a visitor who has none.
pub fn give_ticket(shared: &Shared, trace: &mut Trace, room: &Room, place: Place, now: Now) {
    let token = room.bound(&trace.intake.visit(None), room.ticket_token(place, &trace.intake.host, now));
    trace.cookies.push(cookie(shared, trace.intake.https, &format!("ticket-{}", room.name()), &token));
    give_visitor(shared, trace, now);
}

/// Gives a name to a visitor who has none.
pub fn give_visitor(shared: &Shared, trace: &mut Trace, now: Now) {
    if !trace.intake.visitor_by_cookie {
        let _ = name_visitor(shared, trace, now);
    }
}

/// Who this is from now on: what somebody earns is one visitor's, not everybody's of a network.
pub fn named(shared: &Shared, trace: &mut Trace) -> Option<VisitorId> {
    if trace.intake.visitor_by_cookie {
        return trace.intake.visitor;
    }
    name_visitor(shared, trace, shared.clock.now())
}

/// Gives a visitor a name.
fn name_visitor(shared: &Shared, trace: &mut Trace, now: Now) -> Option<VisitorId> {
    let number = getrandom::u64().ok()?;
    let token = Token::of_gate(Kind::Visitor, &trace.intake.host, number, VISITOR_MS, now.wall_ms);
    trace.cookies.push(cookie(shared, trace.intake.https, "visitor", &token));
    let name = intake::by_cookie(shared.hash_key, number);
    shared.facts.renamed(&trace.active.pipeline, trace.intake.known, name, now);
    Some(name)
}

/// A refusal of a page of ours, in English: programs read it.
pub fn problem(status: u16, detail: &str) -> Answer {
    Answer::problem(status, "own", Reason::Own.code(), detail)
}

fn health(shared: &Shared) -> Answer {
    match shared.is_stopping() {
        false => Answer::json(200, "own", Reason::Own.code(), &json!({ "status": "ok" })),
        true => Answer::json(503, "own", Reason::Stopping.code(), &json!({ "status": "stopping" })),
    }
}

fn none() -> Answer {
    Answer::json(404, "own", Reason::Own.code(), &json!({ "state": "none", "means": NONE_MEANS }))
}

/// The room a form or a query names, or the only one.
pub fn room_index(trace: &Trace, name: Option<&str>) -> Option<usize> {
    match name {
        Some(name) => trace.active.pipeline.room(name),
        None => (trace.active.pipeline.rooms().len() == 1).then_some(0),
    }
}

fn status(shared: &Shared, trace: &mut Trace) -> Answer {
    trace.own(RowKind::Poll, "own", Reason::Own);
    let Some(index) = room_of_query(trace) else { return none() };
    let active = trace.active.clone();
    let early = active.pipeline.rooms().get(index).and_then(|r| r.early(&trace.intake.visit(None), shared.clock.now()));
    if let Some(seconds) = early {
        trace.room(index);
        trace.own(RowKind::Poll, "throttle", Reason::PolledEarly);
        let why = "asked before the time that `poll_after_s` named";
        return Answer::problem(429, "throttle", Reason::PolledEarly.code(), why).with("retry-after", seconds);
    }
    state_answer(shared, trace, index, 200)
}

/// The room that `?room=` names, or the only one.
pub fn room_of_query(trace: &Trace) -> Option<usize> {
    let query = fields(trace.intake.query.as_deref().unwrap_or_default());
    room_index(trace, get(&query, "room"))
}

/// Where the visitor stands, as JSON; `status` is for those who wait.
pub fn state_answer(shared: &Shared, trace: &mut Trace, index: usize, status: u16) -> Answer {
    let active = trace.active.clone();
    let Some(room) = active.pipeline.rooms().get(index) else { return none() };
    trace.room(index);
    match room.status(&trace.intake.visit(None), shared.clock.now()) {
        RoomStatus::None => none(),
        RoomStatus::Seated(seat) => {
            trace.seat(index, seat, false);
            stands(trace, room, 200, "seated", Reason::Own)
        }
        RoomStatus::Closed => stands(trace, room, status, "closed", Reason::RoomClosed),
        RoomStatus::CalledOff => {
            let sale = room.called_off(&trace.intake.visit(None), shared.clock.now()).map(|(sale, _)| sale);
            let state = State { off: sale.map(|s| &*s.name), ..State::cancelled(trace, room, "") };
            Answer::json(status, "own", Reason::SaleCancelled.code(), &state.told())
        }
        RoomStatus::Waiting(w) => {
            if let Some(place) = w.place {
                trace.place(place, false);
            }
            trace.row.reason = Some(w.stage.reason());
            let answer = Answer::json(status, "own", Reason::Own.code(), &State::of(trace, room, &w).told());
            answer.with("retry-after", w.poll_after_s.max(1))
        }
    }
}

/// Where somebody stands who does not wait.
fn stands(trace: &Trace, room: &Room, status: u16, name: &'static str, reason: Reason) -> Answer {
    Answer::json(status, "own", reason.code(), &State { trace, room, waiting: None, name, off: None }.told())
}

async fn claim(shared: &Shared, trace: &mut Trace, form: &[(String, String)]) -> Answer {
    trace.own(RowKind::Claim, "own", Reason::Own);
    let to = destination(get(form, "to"));
    let active = trace.active.clone();
    let index = room_index(trace, get(form, "room"));
    let Some((index, room)) = index.and_then(|i| Some((i, active.pipeline.rooms().get(i)?))) else { return no_room(trace) };
    trace.room(index);
    let seat = claim_seat(shared, trace, index, room).await;
    let html = trace.intake.wants == Wants::Html;
    if let Some(seat) = seat {
        give_pass(shared, trace, room, seat, shared.clock.now());
        return match html {
            true => Answer::see(303, "own", Reason::Own.code(), to),
            false => Answer::json(200, "own", Reason::Own.code(), &json!({ "state": "seated", "room": room.name() })),
        };
    }
    match html {
        // The waiting page says why.
        true => Answer::see(303, "own", Reason::Own.code(), to),
        false if room.is_failing() && room.place_of(&trace.intake.visit(None), shared.clock.now()).is_some() => {
            let why = "nothing can be written down at the moment, so no pass is given; the place stays yours: claim it again";
            trace.own(RowKind::Claim, "refuse", Reason::NotKept);
            Answer::problem(503, "refuse", Reason::NotKept.code(), why)
                .with("retry-after", reply::retry_after(2, trace.intake.visitor))
        }
        false => {
            let answer = state_answer(shared, trace, index, 409);
            // Nothing to claim with: a conflict as well, not a missing page.
            if answer.status == 404 { Answer { status: 409, ..answer } } else { answer }
        }
    }
}

/// A seat now, or within the next ticks.
async fn claim_seat(shared: &Shared, trace: &mut Trace, index: usize, room: &Room) -> Option<SeatRef> {
    let now = shared.clock.now();
    // Registered before the claim is made: the tick may answer in between.
    let place = room.place_of(&trace.intake.visit(None), now);
    let answer = place.and_then(|p| shared.claims.register(index, p));
    if place.is_some() && answer.is_none() {
        shared.counts.claims_refused.add();
        return None;
    }
    // The row says what became of it: seated, next (called), still queued, or inside already (a seat without a place).
    let seat = match room.claim(&trace.intake.visit(None), now) {
        Claim::Inside(seat) => {
            trace.seat(index, seat, false);
            return Some(seat);
        }
        Claim::Seated(seat) => Some(seat),
        Claim::Pending(place) => {
            // Now: a client that goes away leaves a row that says for whom a seat may have been taken.
            trace.place(place, false);
            trace.row.reason = Some(Reason::Called);
            match tokio::time::timeout(CLAIM_WAIT, answer?).await {
                Ok(Ok(ClaimOutcome::Seated(seat))) => Some(seat),
                _ => None,
            }
        }
        Claim::NotYet(waiting) => {
            trace.row.reason = Some(waiting.stage.reason());
            None
        }
        Claim::NoTicket | Claim::Busy => return None,
    };
    if let Some(place) = place {
        trace.place(place, false);
    }
    if let Some(seat) = seat {
        trace.seat(index, seat, true);
    }
    seat
}

/// More time for a called visitor: a whole claim window from now, ten times at most.
fn extend(shared: &Shared, trace: &mut Trace, form: &[(String, String)]) -> Answer {
    trace.own(RowKind::Poll, "own", Reason::Own);
    let active = trace.active.clone();
    let index = room_index(trace, get(form, "room"));
    let Some((index, room)) = index.and_then(|i| Some((i, active.pipeline.rooms().get(i)?))) else { return no_room(trace) };
    let (granted, status) = room.extend(&trace.intake.visit(None), shared.clock.now());
    match (trace.intake.wants, granted, status) {
        // The waiting page shows how long is left.
        (Wants::Html, ..) => Answer::see(303, "own", Reason::Own.code(), destination(get(form, "to"))),
        (_, false, RoomStatus::Waiting(w)) if matches!(w.stage, Stage::Called { .. }) => problem(409, NO_MORE_TIME),
        (_, granted, _) => state_answer(shared, trace, index, if granted { 200 } else { 409 }),
    }
}

async fn leave(shared: &Shared, trace: &mut Trace, form: &[(String, String)]) -> Answer {
    trace.own(RowKind::Leave, "own", Reason::Own);
    let active = trace.active.clone();
    let index = room_index(trace, get(form, "room"));
    let Some((index, room)) = index.and_then(|i| Some((i, active.pipeline.rooms().get(i)?))) else { return no_room(trace) };
    trace.room(index);
    let now = shared.clock.now();
    let visit = trace.intake.visit(None);
    let was_called_off = room.called_off(&visit, now).is_some();
    let left = match room.leave(&visit, now) {
        None => leave_after_claim(shared, room, index, &visit).await,
        left => left,
    };
    match left {
        Some(GivenBack::Seat(seat)) => trace.seat(index, seat, false),
        Some(GivenBack::Place(place)) => trace.place(place, false),
        Some(GivenBack::Entry(_)) | None => {}
    }
    shared.keep_left(room, left.is_some()).await;
    let had_some = left.is_some() || was_called_off;
    for name in ["ticket", "pass"] {
        let gone = cookie_text(trace.intake.https, &format!("{name}-{}", room.name()), "", 0);
        trace.cookies.push(gone);
    }
    let ok = |value| Answer::json(200, "own", Reason::Own.code(), &value);
    match (trace.intake.wants, left, had_some) {
        (Wants::Html, ..) => Answer::see(303, "own", Reason::Own.code(), "/".into()),
        (_, Some(GivenBack::Entry(entry)), _) => {
            ok(json!({ "state": "left", "entry": { "number": entry.index }, "means": ENTRY_STAYS }))
        }
        (_, _, true) => ok(json!({ "state": "left" })),
        (_, _, false) => none(),
    }
}

/// Who leaves while a claim of the same place waits for its answer leaves once that is there.
async fn leave_after_claim(shared: &Shared, room: &Room, index: usize, visit: &Visit<'_>) -> Option<GivenBack> {
    let place = room.place_of(visit, shared.clock.now()).filter(|p| room.is_claiming(*p))?;
    let answer = shared.claims.register(index, place)?;
    let _ = tokio::time::timeout(CLAIM_WAIT, answer).await;
    room.leave(visit, shared.clock.now())
}

/// The link of a bypass: its token becomes a cookie of this browser.
fn take_bypass(shared: &Shared, trace: &mut Trace) -> Answer {
    let query = fields(trace.intake.query.as_deref().unwrap_or_default());
    let token = get(&query, "token").and_then(|t| shared.keyring.load().open(t).ok());
    let now_ms = shared.clock.now().wall_ms;
    let good = |t: &Token| t.kind == Kind::Bypass && *t.host == *trace.intake.host && now_ms < t.expires_at_ms;
    let Some(token) = token.filter(good) else {
        return problem(403, "this link is no bypass of this shop, or its time is over: ask for a new one");
    };
    trace.cookies.push(cookie(shared, trace.intake.https, "bypass", &token));
    Answer::see(303, "own", Reason::Own.code(), destination(get(&query, "to")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_bound_to_the_host_on_https() {
        let c = cookie_text(true, "pass-drop", "T", 60);
        assert_eq!(c, "__Host-tidegate-pass-drop=T; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure");
        assert_eq!(cookie_text(false, "visitor", "T", 60), "tidegate-visitor=T; Path=/; Max-Age=60; HttpOnly; SameSite=Lax");
    }
}
