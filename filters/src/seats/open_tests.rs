//! A room opens again while people still come, and whoever was called loses nothing by it.
#![allow(clippy::unwrap_used)]

use super::{room::*, token::Token};
use crate::{
    plan::Plan,
    rule::bot_gate::Class,
    time::Now,
    verdict::Verdict,
    visit::{Visit, Wants},
};

const HOST: &str = "shop.example";

fn at(ms: u64) -> Now {
    Now::at(1_800_000_000_000, ms)
}

fn plan(refill_per_s: f64, burst: f64) -> Plan {
    Plan { refill_per_s, burst, seats: 1_000, armed: false, reason: String::new() }
}

fn visit<'a>(method: &'a str, tokens: &'a [Token]) -> Visit<'a> {
    Visit { method, host: HOST, path: "/", route: Some(0), wants: Wants::Html, tokens, ..Visit::default() }
}

/// Somebody new: walked in, or a ticket.
fn comes(room: &Room, now: Now) -> Option<Token> {
    match room.visit(&visit("GET", &[]), Class::Human, now).0 {
        Verdict::Forward(Entrance::Seated { .. }) => None,
        Verdict::Wait(w) => Some(room.ticket_token(w.place.unwrap(), HOST, now)),
        other => panic!("{other:?}"),
    }
}

/// Claims; whether that was heard.
fn claims(room: &Room, ticket: &Token, now: Now) -> bool {
    matches!(room.claim(&visit("POST", std::slice::from_ref(ticket)), now), Claim::Pending(_))
}

/// A room whose tokens ran out at once, and then one comes every 200 ms and claims 400 ms later; when it is open again, and who was
/// called and has not claimed by then.
fn opens(room: &Room, refill_per_s: f64) -> Option<(u64, Vec<Token>)> {
    room.open(&plan(refill_per_s, 20.0), at(0));
    let mut waiting: Vec<(u64, Token)> = (0..40).filter_map(|_| comes(room, at(0))).map(|t| (1_000, t)).collect();
    assert_eq!(waiting.len(), 20, "twenty walked in");
    for ms in (0..60_000).step_by(100) {
        waiting.retain(|(due, ticket)| *due > ms || !claims(room, ticket, at(ms)));
        room.tick(at(ms));
        if !room.stats(at(ms)).armed {
            return Some((ms, waiting.into_iter().map(|(_, t)| t).collect()));
        }
        if ms % 200 == 0 {
            waiting.extend(comes(room, at(ms)).map(|t| (ms + 400, t)));
        }
    }
    None
}

fn room() -> Room {
    let settings: RoomSettings = serde_json::from_str(r#"{"name":"shop","seats":{"max":1000},"claim_window":"30s"}"#).unwrap();
    Room::new(0, &settings, &[], 7, at(0))
}

#[test]
fn a_room_with_enough_for_all_opens_though_people_never_stop_coming() {
    let (ms, _) = opens(&room(), 20.0).expect("it has four times what is asked for");
    assert!((10_000..16_000).contains(&ms), "{ms}");
    assert!(opens(&room(), 4.0).is_none(), "where one in five has to wait it stays armed");
}

#[test]
fn who_was_called_has_a_token_whoever_walks_in() {
    let room = room();
    let (ms, called) = opens(&room, 20.0).unwrap();
    assert!(!called.is_empty());
    // Nothing comes any more, and a crowd does.
    room.set_plan(&plan(0.0, 20.0), at(ms));
    let walked_in = (0..100).filter(|_| comes(&room, at(ms + 10)).is_none()).count();
    assert!(walked_in > 0 && walked_in < 20, "{walked_in}");
    let heard = called.iter().filter(|t| claims(&room, t, at(ms + 50))).count();
    let seated = room.tick(at(ms + 100)).iter().filter(|c| c.seat.is_some()).count();
    assert_eq!((heard, seated), (called.len(), called.len()));
}
