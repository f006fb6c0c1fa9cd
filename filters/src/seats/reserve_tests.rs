//! A place is worth a unit: who was let in for one gets it, however slowly.
#![allow(clippy::unwrap_used)]

use super::{
    hold::Held,
    ledger::{Holder, Outcome},
    line::EXTENSIONS_MAX,
    room::*,
    seat::SeatRef,
    token::Token,
};
use crate::{
    plan::Plan,
    route::Needs,
    rule::{bot_gate::Class, sale_window::Sale},
    time::Now,
    units::Span,
    verdict::{Reason, Verdict},
    visit::{Visit, VisitorId, Wants},
};

const HOST: &str = "shop.example";
const START_MS: u64 = 1_800_000_000_000;
const RESERVE_S: u32 = 60;
const WINDOW_S: u32 = 30;

fn at(s: u64) -> Now {
    Now::at(START_MS, s * 1_000)
}

fn settings() -> RoomSettings {
    serde_json::from_str(r#"{"name":"drop","seats":{"max":100,"pass_idle":"300s","pass_age_max":"600s"},"claim_window":"30s"}"#)
        .unwrap()
}

fn fresh(stock: u64, reserve_s: u32) -> Room {
    let sale = Sale {
        name: "s".into(),
        room: "drop".into(),
        prequeue_opens_ms: START_MS,
        opens_ms: START_MS,
        closes_ms: START_MS + 3_600_000,
        stock: Some(stock),
        per_visitor_max: Some(1),
        reserve_s,
        ..Sale::default()
    };
    Room::new(0, &settings(), &[sale], 7, at(0))
}

fn room(stock: u64, reserve_s: u32) -> Room {
    let room = fresh(stock, reserve_s);
    room.open(&Plan { refill_per_s: 100.0, burst: 100.0, seats: 100, armed: false, reason: String::new() }, at(0));
    room
}

fn visit(who: u64, tokens: &[Token]) -> Visit<'_> {
    Visit {
        method: "POST",
        host: HOST,
        path: "/",
        route: Some(0),
        visitor: Some(VisitorId(who)),
        visitor_by_cookie: true,
        wants: Wants::Html,
        tokens,
        ..Visit::default()
    }
}

/// Takes places for so many people.
fn tickets(room: &Room, people: u64) -> Vec<Token> {
    let one = |who| {
        let (verdict, _) = room.visit(&Visit { method: "GET", ..visit(who, &[]) }, Class::Human, at(0));
        let Verdict::Wait(w) = verdict else { panic!("{verdict:?}") };
        room.ticket_token(w.place.unwrap(), HOST, at(0))
    };
    (0..people).map(one).collect()
}

/// Everybody asks to be let in, and again while they are told that they are next; who was.
fn claim(room: &Room, tickets: &[Token], s: u64) -> Vec<Option<SeatRef>> {
    room.tick(at(s));
    let pending: Vec<_> = (0..).zip(tickets).map(|(who, t)| room.claim(&visit(who, std::slice::from_ref(t)), at(s))).collect();
    let answers = room.tick(at(s));
    // They wait for the answer.
    answers.iter().for_each(|a| room.heard(a.place));
    let seat = |c: &Claim| match c {
        Claim::Pending(place) => answers.iter().find(|a| a.place == *place).and_then(|a| a.seat),
        Claim::Seated(seat) | Claim::Inside(seat) => Some(*seat),
        _ => None,
    };
    pending.iter().map(seat).collect()
}

fn buy(room: &Room, who: u64, holder: Holder, s: u64) -> Result<Held, Reason> {
    let needs = Needs { hold: "s".into(), take_on: vec!["POST".into()], expires: Span::secs(300), units: 1 };
    let held = room.hold(&visit(who, &[]), holder, &needs, at(s)).map_err(|(_, reason)| reason)?;
    held.end(Outcome::Sold(1), at(s));
    Ok(held)
}

#[test]
fn nobody_is_let_in_for_whom_there_is_no_unit_and_the_slow_get_theirs() {
    let room = room(3, RESERVE_S);
    let tickets = tickets(&room, 10);
    let seats = claim(&room, &tickets, 1);
    assert_eq!(seats.iter().map(Option::is_some).collect::<Vec<_>>(), [vec![true; 3], vec![false; 7]].concat());
    assert_eq!(room.stats(at(1)).stock.map(|u| (u.free, u.reserved)), Some((Some(3), 3)));
    // A partner without a pass, and another channel, are quicker: what is set aside is not for them.
    assert_eq!(buy(&room, 99, Holder::Visitor(VisitorId(99)), 2).err(), Some(Reason::AllHeld));
    assert_eq!(room.stock("s").unwrap().with(|l| l.ask(1)), Err(0));
    for (who, s) in [(0, 3), (2, 59), (1, 59)] {
        assert!(buy(&room, who, Holder::seat(seats[who as usize].unwrap()), s).is_ok(), "{who} at {s} s");
    }
    assert_eq!(room.visit(&visit(3, &tickets[3..4]), Class::Human, at(60)).1, Reason::StockGone);
}

#[test]
fn what_is_not_taken_in_time_is_for_the_next_and_then_for_whoever_is_faster() {
    let room = room(1, RESERVE_S);
    let tickets = tickets(&room, 3);
    let first = claim(&room, &tickets, 1)[0].unwrap();
    assert_eq!(claim(&room, &tickets, 60)[1], None, "a minute is not over");
    let seats = claim(&room, &tickets, 61);
    assert!(seats[1].is_some() && seats[2].is_none(), "{seats:?}");
    assert_eq!(buy(&room, 0, Holder::seat(first), 62).err(), Some(Reason::AllHeld), "that unit is the next one's now");
    assert!(room.revoke(seats[1].unwrap()), "who goes without it");
    assert!(buy(&room, 0, Holder::seat(first), 63).is_ok(), "leaves it to who is still inside");
}

#[test]
fn units_that_go_elsewhere_leave_the_others_to_those_for_whom_they_were() {
    let room = room(3, RESERVE_S);
    let tickets = tickets(&room, 4);
    let seats: Vec<SeatRef> = claim(&room, &tickets, 1).into_iter().flatten().collect();
    let stock = room.stock("s").unwrap();
    assert_eq!(stock.with(|l| l.restock(-1)), Err(0), "what is set aside is not taken away");
    stock.with(|l| l.elsewhere(1));
    assert!(buy(&room, 2, Holder::seat(seats[2]), 2).is_ok() && buy(&room, 0, Holder::seat(seats[0]), 2).is_ok());
    assert!(buy(&room, 1, Holder::seat(seats[1]), 2).is_err(), "what was sold elsewhere is not there");
}

#[test]
fn a_declined_card_costs_nothing_of_the_time_that_was_said() {
    let room = room(1, RESERVE_S);
    let tickets = tickets(&room, 2);
    let first = claim(&room, &tickets, 1)[0].unwrap();
    let needs = Needs { hold: "s".into(), take_on: vec!["POST".into()], expires: Span::secs(5), units: 1 };
    let declined = room.hold(&visit(0, &[]), Holder::seat(first), &needs, at(2)).unwrap();
    declined.end(Outcome::NotSold, at(2));
    room.tick(at(20));
    let units = || room.stats(at(20)).stock.map(|u| (u.free, u.reserved, u.held));
    assert_eq!(units(), Some((Some(1), 1, 0)), "the hold is over, the minute is not");
    assert_eq!(claim(&room, &tickets, 21)[1], None);
    assert!(buy(&room, 0, Holder::seat(first), 50).is_ok());
}

/// Stage, whether a wait is named, and why it is long.
fn told(room: &Room, tickets: &[Token], who: u64, s: u64) -> (&'static str, bool, Option<&'static str>) {
    let own = &tickets[who as usize..=who as usize];
    match room.visit(&Visit { method: "GET", ..visit(who, own) }, Class::Human, at(s)).0 {
        Verdict::Wait(w) => (w.stage.name(), w.wait_s.is_some(), w.because.map(|c| c.name())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_was_told_next_has_the_next_unit_however_fast_others_click() {
    let room = room(3, RESERVE_S);
    let tickets = tickets(&room, 4);
    room.tick(at(1));
    let first = claim(&room, &tickets[..1], 1)[0].unwrap();
    // Partners take the units that nobody has reserved, before those who were called come.
    assert!((98..100).all(|who| buy(&room, who, Holder::Visitor(VisitorId(who)), 2).is_ok()));
    room.tick(at(3));
    assert_eq!(told(&room, &tickets, 1, 3).0, "called");
    assert_eq!(told(&room, &tickets, 3, 3), ("waiting", false, Some("all_reserved")));
    let click = |who: usize, s: u64| room.claim(&visit(who as u64, &tickets[who..=who]), at(s));
    assert!(matches!(click(1, 3), Claim::Pending(_)));
    room.tick(at(3));
    assert_eq!(room.tick(at(9)).iter().filter(|a| a.seat.is_none()).count(), 1, "nothing is free");
    for s in [9, 20, 34] {
        room.tick(at(s));
        assert_eq!(told(&room, &tickets, 1, s), ("next", false, Some("all_reserved")), "{s}");
        assert!(matches!(click(1, s), Claim::NotYet(w) if w.stage.name() == "next"));
    }
    assert!(room.revoke(first));
    assert!(matches!(click(2, 35), Claim::Pending(_)), "somebody behind clicks at the right moment");
    let seated: Vec<_> = room.tick(at(35)).into_iter().filter(|a| a.seat.is_some()).map(|a| a.place.number).collect();
    assert_eq!(seated, [1], "who was next need not click");
    assert_eq!(told(&room, &tickets, 1, 35).0, "called");
    let status = |s: u64| room.status(&visit(1, &tickets[1..2]), at(s));
    assert!(
        matches!(status(40), RoomStatus::Waiting(w) if w.stage == Stage::Called { expires_in_s: WINDOW_S - 5 }),
        "{:?}",
        status(40)
    );
    let mut other = None;
    for s in [41, 46] {
        other = other.or(room.tick(at(s)).into_iter().find(|a| a.place.number == 2));
    }
    assert_eq!(other.map(|a| a.seat), Some(None), "whoever was faster is next now");
    let left = || room.leave(&visit(1, &tickets[1..2]), at(47));
    assert!(matches!(left(), Some(GivenBack::Seat(_))), "who has a seat coming may leave before coming for it");
    assert_eq!(left(), None);
    assert_eq!(room.tick(at(47)).into_iter().find_map(|a| a.seat.map(|_| a.place.number)), Some(2));
    assert!(matches!(click(2, 48), Claim::Seated(_)));
}

/// One unit is left and place 1 is next, whose holder was seen at 9 s; it is given a seat at 13 s and does not know yet.
fn a_seat_is_kept() -> (Room, Vec<Token>, SeatRef) {
    let room = room(2, RESERVE_S);
    let tickets = tickets(&room, 3);
    let first = claim(&room, &tickets[..1], 1)[0].unwrap();
    assert!(buy(&room, 99, Holder::Visitor(VisitorId(99)), 2).is_ok());
    let second = std::slice::from_ref(&tickets[1]);
    assert!(matches!(room.claim(&visit(1, second), at(3)), Claim::Pending(_)));
    (3..=9).for_each(|s| drop(room.tick(at(s))));
    assert_eq!(told(&room, &tickets, 1, 9).0, "next");
    assert!(room.revoke(first));
    let seat = room.tick(at(13)).into_iter().find_map(|a| a.seat.filter(|_| a.place.number == 1)).unwrap();
    assert_eq!(told(&room, &tickets, 1, 13).0, "called");
    (room, tickets, seat)
}

#[test]
fn a_seat_that_nobody_comes_for_is_taken_back_with_its_unit() {
    let (room, tickets, seat) = a_seat_is_kept();
    let reserved = || room.stock("s").unwrap().units().reserved;
    let withdrawn = |s: u64| room.withdraw(at(s)).into_iter().map(|(place, seat)| (place.number, seat)).collect::<Vec<_>>();
    let kept_until = 13 + u64::from(WINDOW_S);
    assert_eq!((withdrawn(kept_until - 1), reserved()), (vec![], 1), "its time is not over");
    assert_eq!((withdrawn(kept_until), reserved()), (vec![(1, seat)], 0));
    assert_eq!(told(&room, &tickets, 1, kept_until).0, "called", "as one who was passed over");
    let again = claim(&room, &tickets, kept_until);
    assert!(again[1].is_some_and(|s| s != seat) && again[2].is_none(), "{again:?}");
    assert_eq!(withdrawn(kept_until + 1_000), vec![], "who waited for the answer has it");
}

#[test]
fn a_unit_is_set_aside_from_when_its_seat_is_come_for() {
    let (room, tickets, seat) = a_seat_is_kept();
    let last = 13 + u64::from(WINDOW_S) - 1;
    let second = visit(1, &tickets[1..2]);
    assert_eq!(room.claim(&second, at(last)), Claim::Seated(seat));
    assert_eq!(room.claim(&second, at(last)), Claim::Seated(seat), "a pass that was lost is given again");
    let over = last + u64::from(RESERVE_S);
    assert_eq!(room.withdraw(at(over)), vec![]);
    room.tick(at(over - 1));
    assert_eq!(buy(&room, 98, Holder::Visitor(VisitorId(98)), over - 1).err(), Some(Reason::AllHeld));
    assert!(buy(&room, 1, Holder::seat(seat), over - 1).is_ok());
}

#[test]
fn whoever_needs_more_time_to_come_has_it_ten_times() {
    let (room, tickets, seat) = a_seat_is_kept();
    let second = visit(1, &tickets[1..2]);
    let mut s = 13;
    for n in 1..=EXTENSIONS_MAX {
        s += u64::from(WINDOW_S) - 1;
        assert_eq!(
            (room.extend(&second, at(s)).0, room.extend(&second, at(s)).0),
            (true, true),
            "{n}: once, and the form sent twice"
        );
        assert_eq!(room.withdraw(at(s + 1)), vec![]);
        room.tick(at(s + 1));
        assert_eq!(room.stock("s").unwrap().units().reserved, 1, "{n}: with its unit");
    }
    s += u64::from(WINDOW_S) - 1;
    assert!(!room.extend(&second, at(s)).0, "no more");
    assert_eq!(room.withdraw(at(s + 1)).into_iter().map(|w| w.1).collect::<Vec<_>>(), [seat]);
}

#[test]
fn a_seat_that_is_not_written_down_yet_is_not_taken_back() {
    let (room, tickets) = kept();
    let seat = claim_unheard(&room, &tickets[..1], 1);
    let place = room.place_of(&visit(0, &tickets[..1]), at(1)).unwrap();
    let late = 1 + u64::from(WINDOW_S);
    assert_eq!(room.withdraw(at(late)), vec![], "the disk is slow, and the claim under way");
    room.settle(place, seat, true);
    assert_eq!(room.withdraw(at(late)), vec![(place, seat)]);
    assert_eq!(told(&room, &tickets, 0, late).0, "called", "the place is not lost");
}

/// Who has the first of these tickets claims and does not wait for the answer.
fn claim_unheard(room: &Room, tickets: &[Token], s: u64) -> SeatRef {
    assert!(matches!(room.claim(&visit(0, &tickets[..1]), at(s)), Claim::Pending(_)));
    room.tick(at(s)).into_iter().find_map(|a| a.seat).unwrap()
}

#[test]
fn whoever_leaves_a_kept_seat_has_no_place_either() {
    let (room, tickets, seat) = a_seat_is_kept();
    assert_eq!(room.leave(&visit(1, &tickets[1..2]), at(14)), Some(GivenBack::Seat(seat)));
    assert_eq!(room.withdraw(at(1_000)), vec![]);
    assert_eq!(room.status(&visit(1, &tickets[1..2]), at(14)), RoomStatus::None);
}

#[test]
fn nobody_is_called_for_a_unit_that_somebody_called_may_still_come_for() {
    let room = room(3, RESERVE_S);
    let tickets = tickets(&room, 10);
    let called = |s: u64| (0..10).filter(|who| told(&room, &tickets, *who, s).0 == "called").collect::<Vec<_>>();
    // For the claim window they are silent, though present.
    for s in 1..=30 {
        room.tick(at(s));
        assert_eq!(called(s), [0, 1, 2], "{s} s");
    }
    (31..=34).for_each(|s| drop(room.tick(at(s))));
    assert_eq!(called(34), [0, 1, 2, 3, 4, 5], "they had their time, and others are called as well");
}

#[test]
fn who_is_next_and_goes_away_is_not_waited_for_and_may_claim_again() {
    let room = room(2, RESERVE_S);
    let tickets = tickets(&room, 3);
    let first = claim(&room, &tickets[..1], 1)[0].unwrap();
    assert!(buy(&room, 99, Holder::Visitor(VisitorId(99)), 2).is_ok());
    assert_eq!(claim(&room, &tickets[1..2], 3).len(), 1);
    room.tick(at(9));
    assert_eq!(told(&room, &tickets, 1, 9).0, "next");
    room.tick(at(30));
    assert!(room.revoke(first));
    assert!(room.tick(at(31)).is_empty());
    assert_eq!(told(&room, &tickets, 1, 32).0, "called");
    assert!(claim(&room, &tickets, 32)[1].is_some());
}

/// A room of two units that is written down, and the tickets of three people; two of them are called.
fn kept() -> (Room, Vec<Token>) {
    let mut room = fresh(2, RESERVE_S);
    room.keep(at(0));
    room.reserve([1_000, 1_000]);
    room.open(&Plan { refill_per_s: 100.0, burst: 100.0, seats: 100, armed: false, reason: String::new() }, at(0));
    let tickets = tickets(&room, 3);
    room.tick(at(1));
    room.announce(room.frontier());
    (room, tickets)
}

#[test]
fn who_was_told_next_is_next_after_a_restart() {
    let (before, tickets) = kept();
    let first = claim(&before, &tickets[..1], 1)[0].unwrap();
    before.settle(before.place_of(&visit(0, &tickets[..1]), at(1)).unwrap(), first, true);
    assert!(buy(&before, 99, Holder::Visitor(VisitorId(99)), 2).is_ok());
    claim(&before, &tickets[1..2], 3);
    before.tick(at(9));
    assert_eq!(told(&before, &tickets, 1, 9).0, "next");
    let kept = before.changes(true, at(10));
    let ledger = before.stock("s").unwrap().with(|l| l.clone());

    let later = |s: u64| Now::at(START_MS + 1_000_000, s * 1_000);
    let mut after = fresh(2, RESERVE_S);
    after.restore(&kept, later(0));
    after.open(&Plan { refill_per_s: 100.0, burst: 100.0, seats: 100, armed: false, reason: String::new() }, later(0));
    after.stock("s").unwrap().with(|l| *l = ledger);
    after.tick(later(1));
    let status = after.status(&visit(1, &tickets[1..2]), later(1));
    assert!(matches!(&status, RoomStatus::Waiting(w) if w.stage == Stage::Next), "{status:?}");
    assert!(after.revoke(first));
    let seated: Vec<_> = after.tick(later(2)).iter().filter(|a| a.seat.is_some()).map(|a| a.place.number).collect();
    assert_eq!(seated, [1], "without another click");
}

#[test]
fn without_it_more_are_let_in_than_there_are_units_and_the_fastest_buy() {
    let room = room(1, 0);
    let tickets = tickets(&room, 3);
    let seats = claim(&room, &tickets, 1);
    assert!(seats.iter().all(Option::is_some));
    assert!(buy(&room, 2, Holder::seat(seats[2].unwrap()), 2).is_ok());
    assert!(buy(&room, 0, Holder::seat(seats[0].unwrap()), 3).is_err());
}

#[test]
fn a_restart_sets_the_same_units_aside_again() {
    let (before, tickets) = kept();
    let seats = claim(&before, &tickets, 1);
    for (seat, who) in seats.iter().flatten().zip(0..) {
        let place = before.place_of(&visit(who, &tickets[who as usize..=who as usize]), at(1)).unwrap();
        before.settle(place, *seat, true);
    }
    assert!(buy(&before, 0, Holder::seat(seats[0].unwrap()), 2).is_ok());
    let kept = before.changes(true, at(30));
    let ledger = before.stock("s").unwrap().with(|l| l.clone());

    // Another process, whose clock begins anew; the room's stood still at 30 s.
    let later = |s: u64| Now::at(START_MS + 1_000_000, s * 1_000);
    let mut after = fresh(2, RESERVE_S);
    after.restore(&kept, later(0));
    after.stock("s").unwrap().with(|l| *l = ledger);
    after.stock("s").unwrap().with(|l| seats.iter().flatten().for_each(|s| l.leave(Holder::seat(*s))));
    assert_eq!(after.stock("s").unwrap().units().reserved, 0);
    after.reserve_again(later(0));
    assert_eq!(after.stock("s").unwrap().units().reserved, 1, "for who has not bought");
    let needs = Needs { hold: "s".into(), take_on: vec!["POST".into()], expires: Span::secs(300), units: 1 };
    let partner = after.hold(&visit(99, &[]), Holder::Visitor(VisitorId(99)), &needs, later(1));
    assert_eq!(partner.map(|_| ()).map_err(|e| e.1), Err(Reason::AllHeld));
    after.tick(later(29));
    assert_eq!(after.stock("s").unwrap().units().reserved, 1, "of the minute 29 seconds were over");
    after.tick(later(31));
    assert_eq!(after.stock("s").unwrap().units().reserved, 0);
}
