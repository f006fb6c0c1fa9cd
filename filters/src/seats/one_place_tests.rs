//! One person has one place, and nobody who was inside before a drawn sale buys before the drawn.
#![allow(clippy::unwrap_used)]

use super::{
    draw::{census::Census, commit::rules_hash, live::Frozen, statement::Signer, transcript::Promise},
    operate::Action,
    room::*,
    token::Token,
};
use crate::{
    plan::Plan,
    rule::{bot_gate::Class, sale_window::Sale},
    time::Now,
    verdict::{Reason, Verdict},
    visit::{Network, Visit, VisitorId, Wants},
};

const HOST: &str = "shop.example";
const START_MS: u64 = 1_800_000_000_000;

fn at(ms: u64) -> Now {
    Now::at(START_MS, ms)
}

/// Pre-queue after ten seconds, list closes after 40, opening after 60; drawn where `order` says so.
fn room(order: &str) -> Room {
    let text = format!(
        r#"{{"name":"drop","arm":"always","freeze_before":"20s","order":"{order}","visitor":{{"key":{{"cookie":"login"}},"work_bits":0}}}}"#
    );
    let settings: RoomSettings = serde_json::from_str(&text).unwrap();
    let sale = Sale {
        name: "s".into(),
        room: "drop".into(),
        prequeue_opens_ms: START_MS + 10_000,
        opens_ms: START_MS + 60_000,
        closes_ms: START_MS + 600_000,
        ..Sale::default()
    };
    let room = Room::new(0, &settings, &[sale], 7, at(0));
    room.open(&Plan { refill_per_s: 100.0, burst: 100.0, seats: 100, armed: false, reason: String::new() }, at(0));
    if let Some(draw) = room.draws().next() {
        draw.pledge(&promise(), [1; 32], [2; 32]);
        draw.open();
    }
    room
}

fn promise() -> Promise {
    Promise {
        sale_id: "s".into(),
        window: None,
        rules_json: "{}".into(),
        rules: rules_hash("{}"),
        commitment: [2; 32],
        secret: [3; 32],
    }
}

fn visit(login: u64, tokens: &[Token]) -> Visit<'_> {
    Visit {
        method: "GET",
        host: HOST,
        path: "/",
        route: Some(0),
        network: Some(Network::new([10, 0, 0, 1].into())),
        visitor: Some(VisitorId(login)),
        visitor_by_cookie: true,
        wants: Wants::Html,
        identity: Some(login),
        tokens,
        ..Visit::default()
    }
}

fn waits(room: &Room, login: u64, now: Now) -> Waiting {
    match room.visit(&visit(login, &[]), Class::Human, now) {
        (Verdict::Wait(w), _) => w,
        other => panic!("{other:?}"),
    }
}

/// Takes a place, is called, claims; the pass.
fn inside(room: &Room, login: u64, ms: u64) -> Token {
    let place = waits(room, login, at(ms)).place.unwrap();
    let ticket = room.ticket_token(place, HOST, at(ms));
    room.tick(at(ms + 1_000));
    let me = Visit { method: "POST", ..visit(login, std::slice::from_ref(&ticket)) };
    assert!(matches!(room.claim(&me, at(ms + 1_100)), Claim::Pending(_)), "{:?}", room.status(&me, at(ms + 1_100)));
    let served = room.tick(at(ms + 1_200));
    let Some(seat) = served.first().and_then(|c| c.seat) else { panic!("{served:?}") };
    room.pass_token(seat, HOST, at(ms + 1_200))
}

#[test]
fn who_was_inside_before_the_pre_queue_of_a_drawn_sale_enters_like_everybody() {
    let room = room("draw_then_fifo");
    let pass = inside(&room, 1, 1_000);
    let me = visit(1, std::slice::from_ref(&pass));
    assert!(matches!(room.visit(&me, Class::Human, at(9_000)), (Verdict::Forward(Entrance::Inside { .. }), Reason::Pass)));
    let (Verdict::Wait(w), _) = room.visit(&me, Class::Human, at(11_000)) else { panic!("not by an old pass") };
    assert!(w.entry.is_some() && w.fresh, "it is in the drum now: {w:?}");
    assert!(matches!(room.visit(&me, Class::Human, at(61_000)), (Verdict::Wait(_), _)));
    assert!(matches!(room.claim(&Visit { method: "POST", ..me }, at(61_000)), Claim::NoTicket));
}

#[test]
fn a_drawn_sale_is_not_closed_while_people_enter() {
    let room = room("draw_then_fifo");
    for ms in [1_000, 20_000, 50_000] {
        assert!(!room.operate_sale("s", &Action::Close, at(ms)), "whoever came meanwhile would stand before the drawn");
    }
    assert!(room.operate_sale("s", &Action::Close, at(61_000)));
}

#[test]
fn who_has_an_entry_keeps_it_while_the_doors_take_nobody() {
    let room = room("draw_then_fifo");
    let entered = waits(&room, 1, at(11_000)).entry.unwrap();
    room.settle_entry("s", &entered, true, at(11_000));
    let ticket = room.entry_token(entered.entry, HOST, at(11_000));
    room.operate(&Action::Drain);
    let mine = room.visit(&visit(1, std::slice::from_ref(&ticket)), Class::Human, at(12_000));
    assert!(matches!(mine, (Verdict::Wait(w), _) if w.entry.is_some()), "{mine:?}");
    assert!(matches!(room.visit(&visit(2, &[]), Class::Human, at(12_000)), (Verdict::Refuse { .. }, Reason::RoomClosed)));
}

#[test]
fn a_place_of_before_a_drawn_sale_is_not_given_again_in_it() {
    let room = room("draw_then_fifo");
    let early = waits(&room, 1, at(1_000)).place.unwrap();
    // It did not enter; the list is frozen with two others, whose numbers follow.
    let sale = room.draws().next().unwrap();
    let list = sale.window_or_new(0).unwrap();
    for login in [2, 3] {
        let entered = waits(&room, login, at(11_000)).entry.unwrap();
        room.settle_entry("s", &entered, true, at(11_000));
    }
    assert!(list.register.close());
    let table = &room.settings().weights;
    let (weights, census) = (list.register.weights(table), Census::of(&list.register, table));
    let base = room.reserve_places(2).unwrap();
    let (statement, tree) = promise().freeze(&list.entries(&weights), START_MS / 1_000, "", 0, &Signer::new(&[3; 32]));
    sale.freeze(list, Frozen { list: statement, weights, tree, base, count: 2, census });
    let late = waits(&room, 1, at(41_000)).place.unwrap();
    assert!(early.number < base && late.number >= base + 2, "{early:?} {late:?}: it follows the drawn");
    assert_eq!(waits(&room, 1, at(42_000)).place, Some(late), "and has one place there");
}

#[test]
fn one_login_has_one_place_in_the_line() {
    let room = room("fifo");
    let first = waits(&room, 1, at(11_000));
    let again = waits(&room, 1, at(12_000));
    assert_eq!((again.place, again.fresh, again.again), (first.place, true, true), "another browser: the ticket again");
    assert_ne!(waits(&room, 2, at(12_000)).place, first.place);
    assert_eq!(room.stats(at(12_000)).arrived, 2);
    let ticket = room.ticket_token(first.place.unwrap(), HOST, at(12_000));
    room.leave(&Visit { method: "POST", ..visit(1, std::slice::from_ref(&ticket)) }, at(13_000));
    let anew = waits(&room, 1, at(14_000));
    assert!(anew.place != first.place && !anew.again, "what was given back is gone: {anew:?}");
    assert_eq!(waits(&room, 1, at(15_000)).place, anew.place, "and again it is one");
}
