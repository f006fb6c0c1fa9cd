//! A room from the visitor's side.
#![allow(clippy::unwrap_used)]

use super::{
    operate::Action,
    queue::{Lane, Place},
    room::*,
    seat::SeatRef,
    token::{Kind, Token},
};
use crate::{
    plan::Plan,
    rule::{bot_gate::Class, sale_window::Sale},
    time::Now,
    units::Span,
    verdict::{Reason, Verdict},
    visit::{Visit, Wants},
};

const HOST: &str = "shop.example";
const START_MS: u64 = 1_800_000_000_000;

fn at(ms: u64) -> Now {
    Now::at(START_MS, ms)
}

fn settings() -> RoomSettings {
    RoomSettings {
        name: "drop".into(),
        seats: SeatSettings { max: 2, pass_idle: Span::secs(60), pass_age_max: Span::secs(120) },
        admission: Default::default(),
        order: Order::Fifo,
        weights: Default::default(),
        beacon: Default::default(),
        visitor: Default::default(),
        freeze_before: Span::secs(60),
        arm: Arm::Always,
        claim_window: Span::secs(30),
        entries_max: 1000,
        slow_lane_percent: 20,
        status_while_waiting: 200,
        status_for_crawlers: 503,
        revoked_bypasses: vec![],
        page: PageSettings::default(),
        on_failure: OnFailure::Closed,
        binding: Binding::None,
    }
}

fn plan(refill_per_s: f64, burst: f64, seats: u32) -> Plan {
    Plan { refill_per_s, burst, seats, armed: false, reason: String::new() }
}

fn room(settings: &RoomSettings, sales: &[Sale]) -> Room {
    let room = Room::new(0, settings, sales, 7, at(0));
    room.open(&plan(100.0, 100.0, settings.seats.max), at(0));
    room
}

fn visit<'a>(method: &'a str, tokens: &'a [Token]) -> Visit<'a> {
    Visit { method, host: HOST, path: "/", route: Some(0), wants: Wants::Html, tokens, ..Visit::default() }
}

fn join(room: &Room, class: Class, now: Now) -> Token {
    match room.visit(&visit("GET", &[]), class, now) {
        (Verdict::Wait(Waiting { place: Some(place), fresh: true, .. }), _) => room.ticket_token(place, HOST, now),
        other => panic!("no place: {other:?}"),
    }
}

fn claim(room: &Room, ticket: &Token, now: Now) -> Option<SeatRef> {
    let tokens = std::slice::from_ref(ticket);
    match room.claim(&visit("POST", tokens), now) {
        Claim::Pending(place) => room.tick(now).into_iter().find(|c| c.place == place).and_then(|c| c.seat),
        Claim::Seated(seat) | Claim::Inside(seat) => Some(seat),
        _ => None,
    }
}

#[test]
fn a_whole_visit() {
    let room = room(&settings(), &[]);
    let tickets: Vec<Token> = (0..4).map(|i| join(&room, Class::Human, at(i))).collect();
    room.tick(at(100));
    // Two seats: two are called, and only they can claim.
    let seats: Vec<_> = tickets.iter().map(|t| claim(&room, t, at(200))).collect();
    assert_eq!(seats.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false, false]);
    let pass = room.pass_token(seats[0].unwrap(), HOST, at(200));
    let inside = room.visit(&visit("POST", std::slice::from_ref(&pass)), Class::Human, at(300));
    assert!(matches!(inside, (Verdict::Forward(Entrance::Inside { .. }), Reason::Pass)), "{inside:?}");
    // The lost answer: the same ticket gets the same seat, never a second one.
    assert_eq!(claim(&room, &tickets[0], at(400)), seats[0]);
    // Leaving frees the seat at once; the next present visitor is called.
    assert_eq!(room.leave(&visit("POST", std::slice::from_ref(&pass)), at(500)), seats[0].map(GivenBack::Seat));
    assert!(matches!(room.visit(&visit("POST", &[pass]), Class::Human, at(501)).1, Reason::NoPass));
    room.tick(at(600));
    assert!(claim(&room, &tickets[2], at(700)).is_some() && claim(&room, &tickets[3], at(700)).is_none());
    let stats = room.stats(at(800));
    assert_eq!((stats.arrived, stats.seated, stats.waiting, stats.seats_live), (4, 3, 1, 2));
}

#[test]
fn asking_about_a_seat_does_not_keep_it() {
    let room = room(&settings(), &[]);
    let ticket = join(&room, Class::Human, at(0));
    room.tick(at(100));
    let pass = room.pass_token(claim(&room, &ticket, at(100)).unwrap(), HOST, at(100));
    let tokens = std::slice::from_ref(&pass);
    for s in (1..=55).step_by(6) {
        assert!(matches!(room.status(&visit("GET", tokens), at(s * 1_000)), RoomStatus::Seated(_)), "after {s} s");
    }
    room.tick(at(70_000));
    assert!(!matches!(room.status(&visit("GET", tokens), at(70_000)), RoomStatus::Seated(_)), "60 s without a visit");
}

#[test]
fn foreign_tokens_open_nothing() {
    let room = room(&settings(), &[]);
    let ticket = join(&room, Class::Human, at(0));
    room.tick(at(100));
    let seat = claim(&room, &ticket, at(100)).unwrap();
    let pass = room.pass_token(seat, HOST, at(100));
    let refused = |t: Token| room.visit(&visit("POST", &[t]), Class::Human, at(200)).1 == Reason::NoPass;
    assert!(!refused(pass.clone()));
    assert!(refused(Token { room: "other".into(), ..pass.clone() }));
    assert!(refused(Token { host: "evil.example".into(), ..pass.clone() }));
    assert!(refused(Token { epoch: 8, ..pass.clone() }));
    assert!(refused(Token { expires_at_ms: START_MS + 200, ..pass.clone() }), "good until, not at, its end");
    assert!(refused(Token { not_before_ms: START_MS + 201, ..pass.clone() }));
    assert!(refused(Token { number: SeatRef { generation: seat.generation + 1, ..seat }.to_bits(), ..pass.clone() }));
    assert!(refused(Token { kind: super::token::Kind::Ticket, ..pass }));
}

#[test]
fn the_absent_are_passed_over_and_keep_their_place() {
    let s = RoomSettings { seats: SeatSettings { max: 1, ..settings().seats }, ..settings() };
    let room = room(&s, &[]);
    let away = join(&room, Class::Human, at(0));
    let here = join(&room, Class::Human, at(0));
    // Both were told to poll; only one comes.
    let later = 300_000;
    room.visit(&visit("GET", std::slice::from_ref(&here)), Class::Human, at(later));
    room.tick(at(later + 100));
    // The one who was away returns at the same instant and claims first in order.
    let (a, h) = (visit("POST", std::slice::from_ref(&away)), visit("POST", std::slice::from_ref(&here)));
    assert!(matches!(room.claim(&h, at(later + 200)), Claim::Pending(_)));
    assert!(matches!(room.claim(&a, at(later + 200)), Claim::Pending(_)));
    let answers = room.tick(at(later + 200));
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].place, answers[0].seat.is_some()), (Place { lane: Lane::Main, number: 0 }, true));
}

#[test]
fn the_slow_lane_gets_its_share_and_no_more() {
    let s = RoomSettings { seats: SeatSettings { max: 10, ..settings().seats }, ..settings() };
    let room = room(&s, &[]);
    let suspects: Vec<Token> = (0..20).map(|_| join(&room, Class::Suspect, at(0))).collect();
    let people: Vec<Token> = (0..20).map(|_| join(&room, Class::Human, at(0))).collect();
    room.tick(at(100));
    let seated = |ts: &[Token]| ts.iter().filter(|t| claim(&room, t, at(100)).is_some()).count();
    // 20 %: of ten seats two.
    assert_eq!((seated(&people), seated(&suspects)), (8, 2));
}

#[test]
fn an_open_room_lets_walk_in_until_something_runs_out() {
    let s = RoomSettings { arm: Arm::Auto, ..settings() };
    let room = room(&s, &[]);
    let walked = |now| matches!(room.visit(&visit("GET", &[]), Class::Human, now).0, Verdict::Forward(Entrance::Seated { .. }));
    assert!(walked(at(0)) && walked(at(1)));
    assert!(!walked(at(2)), "two seats: the third waits");
    assert!(room.stats(at(3)).armed);
    // Everybody goes; after the seats expire and ten idle seconds the room is open again.
    for ms in (0..200_000).step_by(100) {
        room.tick(at(ms));
    }
    assert!(!room.stats(at(200_000)).armed);
    assert!(walked(at(200_001)));
}

#[test]
fn while_nobody_waits_probes_and_posts_pass_and_cost_no_seat() {
    let s = RoomSettings { arm: Arm::Auto, ..settings() };
    let room = room(&s, &[]);
    for method in ["HEAD", "POST", "OPTIONS"] {
        let (verdict, _) = room.visit(&visit(method, &[]), Class::Human, at(0));
        assert_eq!(verdict, Verdict::Forward(Entrance::Free), "{method}");
    }
    assert_eq!(room.stats(at(0)).seats_live, 0);
    // A suspect never walks in.
    assert!(matches!(room.visit(&visit("GET", &[]), Class::Suspect, at(0)).0, Verdict::Wait(_)));
}

#[test]
fn before_the_opening_people_gather_and_nobody_is_called() {
    let sale = Sale {
        name: "s".into(),
        room: "drop".into(),
        prequeue_opens_ms: START_MS,
        opens_ms: START_MS + 10_000,
        closes_ms: START_MS + 100_000,
        stock: Some(1),
        ..Sale::default()
    };
    let room = room(&settings(), std::slice::from_ref(&sale));
    let ticket = join(&room, Class::Human, at(0));
    room.tick(at(9_999));
    assert!(matches!(room.claim(&visit("POST", std::slice::from_ref(&ticket)), at(9_999)), Claim::NotYet(w)
        if w.stage == Stage::Prequeue { opens_in_s: 1 }));
    room.tick(at(10_000));
    assert!(claim(&room, &ticket, at(10_100)).is_some());
    // The one unit goes: everybody who waits is told at once.
    let next = join(&room, Class::Human, at(10_200));
    room.sold(1, at(10_300));
    assert!(matches!(room.visit(&visit("GET", &[next]), Class::Human, at(10_301)), (Verdict::SoldOut(_), Reason::StockGone)));
}

#[test]
fn a_reload_loses_nothing_and_a_restart_says_so() {
    let old = room(&settings(), &[]);
    let ticket = join(&old, Class::Human, at(0));
    let tokens = std::slice::from_ref(&ticket);
    let mut new = Room::new(0, &settings(), &[], 99, at(50));
    new.carry_over(&old);
    assert!(matches!(new.visit(&visit("GET", tokens), Class::Human, at(60)).0, Verdict::Wait(w) if !w.fresh));
    let restarted = room(&settings(), &[]);
    let other_life = Room::new(0, &settings(), &[], 8, at(0));
    assert!(restarted.epoch() != other_life.epoch());
    let answer = other_life.visit(&visit("GET", tokens), Class::Human, at(60)).0;
    assert!(matches!(answer, Verdict::Wait(w) if w.fresh && w.restarted), "{answer:?}");
}

#[test]
fn a_full_room_says_so_and_a_paused_one_calls_nobody() {
    let s = RoomSettings { entries_max: 1, ..settings() };
    let full = room(&s, &[]);
    let ticket = join(&full, Class::Human, at(0));
    let (_, reason) = full.visit(&visit("GET", &[]), Class::Human, at(0));
    assert_eq!(reason, Reason::RoomFull);
    let open = room(&RoomSettings { on_failure: OnFailure::OpenBounded, entries_max: 0, ..settings() }, &[]);
    let (verdict, _) = open.visit(&visit("GET", &[]), Class::Human, at(0));
    assert_eq!(verdict, Verdict::Forward(Entrance::Free), "declared: open, under the in-flight limit");
    full.pause(true);
    full.tick(at(100));
    assert!(
        matches!(full.claim(&visit("POST", std::slice::from_ref(&ticket)), at(100)), Claim::NotYet(w) if w.stage == Stage::Paused)
    );
    full.pause(false);
    full.tick(at(200));
    assert!(claim(&full, &ticket, at(200)).is_some());
}

#[test]
fn asking_again_makes_no_pass_last_longer() {
    let room = room(&settings(), &[]);
    let ticket = join(&room, Class::Human, at(0));
    room.tick(at(100));
    let seat = claim(&room, &ticket, at(200)).unwrap();
    let first = room.pass_token(seat, HOST, at(200));
    let again = room.pass_token(seat, HOST, at(59_200));
    assert_eq!(again.expires_at_ms, first.expires_at_ms, "the end belongs to the seat");
    let mut pass = first;
    for s in (1..119).step_by(10) {
        assert_eq!(room.visit(&visit("GET", std::slice::from_ref(&pass)), Class::Human, at(s * 1000)).1, Reason::Pass);
        pass = room.pass_token(seat, HOST, at(s * 1000));
    }
    assert_ne!(room.visit(&visit("GET", &[pass]), Class::Human, at(121_000)).1, Reason::Pass, "pass_age_max is 120 s");
}

#[test]
fn when_nothing_is_left_nobody_is_seated_and_places_are_kept() {
    let sale = |name: &str, opens_ms| Sale {
        name: name.into(),
        room: "drop".into(),
        prequeue_opens_ms: opens_ms,
        opens_ms,
        closes_ms: opens_ms + 100_000,
        stock: Some(1),
        ..Sale::default()
    };
    let room = room(&settings(), &[sale("one", START_MS), sale("two", START_MS + 200_000)]);
    let ticket = join(&room, Class::Human, at(0));
    room.tick(at(100));
    room.sold(1, at(200));
    assert_eq!(claim(&room, &ticket, at(300)), None);
    let (_, reason) = room.visit(&visit("GET", std::slice::from_ref(&ticket)), Class::Human, at(250_000));
    assert_eq!(reason, Reason::Queued, "a ticket of another sale is foreign: a new place");
    assert_eq!(room.stats(at(250_000)).arrived, 2);
}

#[test]
fn a_room_is_drained_then_closed_then_open_again() {
    let room = room(&settings(), &[]);
    let ticket = join(&room, Class::Human, at(0));
    let ask = |method: &str, tokens: &[Token], ms| room.visit(&visit(method, tokens), Class::Human, at(ms));
    assert!(room.operate(&Action::Drain));
    assert_eq!(ask("GET", &[], 100), (Verdict::Refuse { retry_after_s: None }, Reason::RoomClosed));
    room.tick(at(100));
    let seat = claim(&room, &ticket, at(200)).expect("who has a place is served");
    let pass = room.pass_token(seat, HOST, at(200));
    assert!(room.operate(&Action::Open));
    let second = join(&room, Class::Human, at(300));
    assert!(room.operate(&Action::Close));
    room.tick(at(400));
    assert_eq!(ask("GET", std::slice::from_ref(&second), 400).1, Reason::RoomClosed, "those who wait are told");
    assert_eq!(room.status(&visit("GET", std::slice::from_ref(&second)), at(401)), RoomStatus::Closed);
    assert_eq!(ask("POST", &[pass], 402).1, Reason::Pass, "those inside stay");
    assert_eq!(room.frame(at(403)).stage, "closed");
    assert!(room.operate(&Action::Open) && !room.operate(&Action::AsWritten));
    assert_eq!(ask("GET", &[second], 500).1, Reason::Queued, "the place is the same");
}

#[test]
fn an_operator_opens_a_sale_early_and_ends_it() {
    let sale = Sale {
        name: "s".into(),
        room: "drop".into(),
        prequeue_opens_ms: START_MS,
        opens_ms: START_MS + 600_000,
        closes_ms: START_MS + 900_000,
        ..Sale::default()
    };
    let mut old = room(&settings(), std::slice::from_ref(&sale));
    let ticket = join(&old, Class::Human, at(0));
    old.tick(at(100));
    assert!(claim(&old, &ticket, at(100)).is_none(), "not before it opens");
    assert!(!old.operate_sale("other", &Action::Open, at(200)) && old.operate_sale("s", &Action::Open, at(200)));
    assert!(!old.operate_sale("s", &Action::Open, at(201)), "it is open");
    // A reload with the same times keeps what the operator did.
    let mut new = Room::new(0, &settings(), &[Sale { moved: Default::default(), ..sale.clone() }], 9, at(250));
    new.carry_over(&old);
    old = new;
    old.tick(at(300));
    assert!(claim(&old, &ticket, at(300)).is_some());
    assert!(old.operate_sale("s", &Action::Close, at(400)) && old.sale_now(at(401)).is_none());
    assert!(old.operate_sale("s", &Action::AsWritten, at(500)) && old.sale_now(at(501)).is_some());
}

#[test]
fn a_bypass_goes_past_the_room_and_can_be_taken_back() {
    let bypass = |room: &str, host: &str| Token {
        kind: Kind::Bypass,
        room: room.into(),
        sale: "".into(),
        host: host.into(),
        epoch: 0,
        number: 0xab,
        binding: 0,
        issued_at_ms: START_MS,
        not_before_ms: START_MS,
        expires_at_ms: START_MS + 1_000,
    };
    let open = room(&settings(), &[]);
    let says = |room: &Room, token: &Token, ms| room.visit(&visit("POST", std::slice::from_ref(token)), Class::Human, at(ms)).1;
    assert_eq!(says(&open, &bypass("drop", HOST), 10), Reason::Bypass);
    assert_eq!(says(&open, &bypass("", HOST), 10), Reason::Bypass, "for all rooms");
    for (token, ms) in [(bypass("other", HOST), 10), (bypass("drop", "evil.example"), 10), (bypass("drop", HOST), 1_000)] {
        assert_eq!(says(&open, &token, ms), Reason::NoPass, "{token:?} at {ms}");
    }
    let ticket = Token { kind: Kind::Ticket, ..bypass("drop", HOST) };
    assert_eq!(says(&open, &ticket, 10), Reason::NoPass);
    let revoked = RoomSettings { revoked_bypasses: vec![bypass_id(0xab)], ..settings() };
    assert_eq!(says(&room(&revoked, &[]), &bypass("drop", HOST), 10), Reason::NoPass);
    assert_eq!(open.stats(at(20)).seats_live, 0, "it takes no seat");
}

#[test]
fn probes_are_told_that_people_wait() {
    let room = room(&settings(), &[]);
    let says = |method: &str| room.visit(&visit(method, &[]), Class::Human, at(0));
    assert_eq!(says("HEAD"), (Verdict::Refuse { retry_after_s: Some(LOOK_AGAIN_S) }, Reason::PeopleWait));
    assert_eq!(says("POST").1, Reason::NoPass);
    let crawler = Visit { prefetch: true, ..visit("GET", &[]) };
    assert_eq!(room.visit(&crawler, Class::Human, at(0)).1, Reason::PeopleWait);
    assert_eq!(room.stats(at(0)).arrived, 0, "none of them has a place");
    let idle = self::room(&RoomSettings { arm: Arm::Auto, ..settings() }, &[]);
    assert_eq!(
        idle.visit(&crawler, Class::Human, at(0)).0,
        Verdict::Forward(Entrance::Free),
        "while nobody waits they see the shop"
    );
}

#[test]
fn ten_thousand_claims_at_once_get_one_seat() {
    let room = room(&settings(), &[]);
    let ticket = join(&room, Class::Human, at(0));
    room.tick(at(100));
    let tokens = std::slice::from_ref(&ticket);
    let answered = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                for _ in 0..1_250 {
                    if let Claim::Seated(seat) = room.claim(&visit("POST", tokens), at(200)) {
                        answered.lock().unwrap().push(seat);
                    }
                }
            });
        }
        for _ in 0..50 {
            answered.lock().unwrap().extend(room.tick(at(200)).into_iter().filter_map(|c| c.seat));
        }
    });
    answered.lock().unwrap().extend(room.tick(at(200)).into_iter().filter_map(|c| c.seat));
    let seats = answered.into_inner().unwrap();
    assert!(!seats.is_empty() && seats.iter().all(|s| *s == seats[0]), "one seat, however often it is given");
    assert_eq!((room.stats(at(300)).seats_live, room.stats(at(300)).seated), (1, 1));
}

#[test]
fn a_call_can_be_extended_ten_times_and_no_more() {
    let room = room(&settings(), &[]);
    let ticket = join(&room, Class::Human, at(0));
    room.tick(at(100));
    let left = |now| match room.status(&visit("GET", std::slice::from_ref(&ticket)), now) {
        RoomStatus::Waiting(Waiting { stage: Stage::Called { expires_in_s }, .. }) => expires_in_s,
        other => panic!("{other:?}"),
    };
    assert_eq!(left(at(20_000)), 10, "of 30 s");
    for n in 1..=12u64 {
        room.extend(&visit("POST", std::slice::from_ref(&ticket)), at(20_000 * n));
        room.tick(at(20_000 * n + 100));
        assert_eq!(left(at(20_000 * n)), if n <= 10 { 30 } else { 30u32.saturating_sub(20 * (n as u32 - 10)) }, "time {n}");
    }
    assert!(claim(&room, &ticket, at(300_000)).is_some(), "who is late has the turn all the same");
    // Others cannot be held up by it: they are called while somebody thinks.
    assert_eq!(room.extend(&visit("POST", &[]), at(300_000)), (false, RoomStatus::None));
}

#[test]
fn who_lost_the_seat_queues_again_behind_the_others() {
    let room = room(&settings(), &[]);
    let tickets: Vec<Token> = (0..2).map(|_| join(&room, Class::Human, at(0))).collect();
    room.tick(at(100));
    let seat = claim(&room, &tickets[0], at(200)).unwrap();
    let pass = room.pass_token(seat, HOST, at(200));
    assert!(room.revoke(seat) && !room.revoke(seat));
    let both = [pass, tickets[0].clone()];
    let (verdict, _) = room.visit(&visit("POST", &both), Class::Human, at(300));
    assert_eq!(verdict, Verdict::Refuse { retry_after_s: None }, "revoked at once");
    let (verdict, _) = room.visit(&visit("GET", &both), Class::Human, at(300));
    let Verdict::Wait(Waiting { place: Some(place), fresh: true, .. }) = verdict else { panic!("{verdict:?}") };
    assert_eq!(place.number, 2, "a new place, at the end");
}
