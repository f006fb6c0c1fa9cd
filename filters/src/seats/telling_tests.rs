//! Half an hour in a real room in virtual time: how often people ask, what they are promised, who is let in.

#![allow(clippy::expect_used)]

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    room::{Claim, Room, RoomSettings, RoomStatus, Stage},
    token::Token,
};
use crate::{
    plan::Plan,
    rule::{bot_gate::Class, sale_window::Sale},
    time::Now,
    verdict::{Reason, Verdict},
    visit::{Visit, VisitorId, Wants},
};

const HOST: &str = "shop.example";
const TICK_MS: u64 = 100;

fn at(ms: u64) -> Now {
    Now { mono_ns: ms * 1_000_000, wall_ms: 1_800_000_000_000 + ms }
}

fn visit(tokens: &[Token]) -> Visit<'_> {
    Visit {
        method: "GET",
        host: HOST,
        path: "/",
        route: Some(0),
        visitor: Some(VisitorId(1)),
        wants: Wants::Html,
        tokens,
        ..Visit::default()
    }
}

/// One who waits.
struct Person {
    tokens: Vec<Token>,
    /// Until the turn was seen.
    polls: u32,
    called: bool,
    /// Never comes back after the first page.
    gone: bool,
    seated_ms: Option<u64>,
}

struct Waited {
    people: Vec<Person>,
    room: Room,
    late_ms: Vec<u64>,
}

/// `n` people come in the first ten seconds; people are let in at `rate` a second; every `gone`-th of ten is gone at once.
fn wait_in_line(n: u32, rate: f64, gone_of_ten: u32) -> Waited {
    let text = r#"{"name":"drop","arm":"always","seats":{"max":100000,"pass_idle":"10h","pass_age_max":"10h"}}"#;
    let settings: RoomSettings = serde_json::from_str(text).expect("settings");
    let room = Room::new(0, &settings, &[], 7, at(0));
    let plan = Plan { refill_per_s: rate, burst: (2.0 * rate).max(1.0), seats: 100_000, armed: true, reason: String::new() };
    room.open(&plan, at(0));
    let mut due = BinaryHeap::new();
    let mut people: Vec<Person> = Vec::new();
    let mut called_ms = vec![0; n as usize];
    let mut late_ms = Vec::new();
    let mut ms = 0;
    while people.len() < n as usize || !due.is_empty() && ms < 36_000_000 {
        ms += TICK_MS;
        room.set_plan(&plan, at(ms));
        for claimed in room.tick(at(ms)) {
            people[claimed.place.number as usize].seated_ms = claimed.seat.map(|_| ms);
            if claimed.seat.is_none() {
                // As the page does: again in five seconds.
                due.push(Reverse((ms + 5_000, claimed.place.number)));
            }
        }
        let frontier = room.stats(at(ms)).frontier[0];
        for t in called_ms[..frontier as usize].iter_mut().rev().take_while(|t| **t == 0) {
            *t = ms;
        }
        while (people.len() as u64) < (u64::from(n) * ms / 10_000).min(u64::from(n)) {
            let i = people.len() as u32;
            let (Verdict::Wait(w), _) = room.visit(&visit(&[]), Class::Human, at(ms)) else { panic!("waits") };
            let place = w.place.expect("a place");
            let gone = (i * 7 + i / 10) % 10 < gone_of_ten;
            let tokens = vec![room.ticket_token(place, HOST, at(ms))];
            people.push(Person { tokens, polls: 0, called: false, gone, seated_ms: None });
            if !gone {
                due.push(Reverse((ms + u64::from(w.poll_after_s) * 1_000, i)));
            }
        }
        while let Some(Reverse((t, i))) = due.peek().copied().filter(|Reverse((t, _))| *t <= ms) {
            due.pop();
            let person = &mut people[i as usize];
            if !person.called {
                assert_eq!(room.early(&visit(&person.tokens), at(t)), None, "who asks when told is not too early");
                person.polls += 1;
            }
            let RoomStatus::Waiting(w) = room.status(&visit(&person.tokens), at(t)) else { continue };
            if !matches!(w.stage, Stage::Called { .. } | Stage::Next) {
                due.push(Reverse((t + u64::from(w.poll_after_s) * 1_000, i)));
                continue;
            }
            if !std::mem::replace(&mut person.called, true) {
                late_ms.push(t.saturating_sub(called_ms[i as usize]));
            }
            if !matches!(room.claim(&visit(&person.tokens), at(t)), Claim::Pending(_) | Claim::Seated(_)) {
                due.push(Reverse((t + 2_000, i)));
            }
        }
    }
    // Who claimed and waits for a token yet.
    for _ in 0..6_000 {
        ms += TICK_MS;
        for claimed in room.tick(at(ms)) {
            let person = &mut people[claimed.place.number as usize];
            person.seated_ms = claimed.seat.map(|_| ms);
            if claimed.seat.is_none() {
                room.claim(&visit(&person.tokens), at(ms));
            }
        }
    }
    Waited { people, room, late_ms }
}

#[test]
fn half_an_hour_of_waiting_takes_at_most_twelve_polls() {
    for (n, rate) in [(1_900, 1.0), (190, 0.1), (9_500, 5.0)] {
        let waited = wait_in_line(n, rate, 0);
        let half_an_hour = |p: &&Person| p.seated_ms.is_some_and(|s| (1_500_000..=1_740_000).contains(&s));
        let polls: Vec<u32> = waited.people.iter().filter(half_an_hour).map(|p| p.polls).collect();
        let most = polls.iter().max().copied().unwrap_or(0);
        assert!(polls.len() > 10 && most <= 12, "{rate}/s: {most} polls, of {} people", polls.len());
        assert!(waited.people.iter().all(|p| p.seated_ms.is_some()), "everybody gets in");
        let worst = waited.late_ms.iter().max().copied().unwrap_or(0);
        assert!(worst <= 60_000, "{rate}/s: a turn was seen {worst} ms after the call, of a window of 120 s");
    }
}

#[test]
fn eight_of_ten_promised_times_are_kept_at_a_steady_rate() {
    let waited = wait_in_line(1_900, 1.0, 0);
    let stats = waited.room.stats(at(3_600_000));
    let share = stats.promises_kept as f64 / stats.promises_made as f64;
    assert!(stats.promises_made > 1_500 && share > 0.75, "{} of {}", stats.promises_kept, stats.promises_made);
}

#[test]
fn a_third_who_never_come_back_cost_nobody_an_admission() {
    let waited = wait_in_line(3_000, 2.0, 3);
    let here = waited.people.iter().filter(|p| !p.gone).count();
    let mut seated: Vec<u64> = waited.people.iter().filter_map(|p| p.seated_ms).collect();
    seated.sort_unstable();
    assert_eq!(seated.len(), here);
    // The last minutes run dry: what counts is the time in which somebody waits.
    let (first, last) = (seated[0], seated[seated.len() * 9 / 10]);
    let possible = 2.0 * (last - first) as f64 / 1_000.0;
    let reached = seated.len() as f64 * 0.9 / possible;
    assert!(reached >= 0.98, "{:.1} % of what the refill allows", 100.0 * reached);
}

#[test]
fn nothing_left_is_told_with_the_place_or_without_one_and_few_polls() {
    let settings: RoomSettings = serde_json::from_str(r#"{"name":"drop","arm":"always"}"#).expect("settings");
    let sale = Sale { name: "s".into(), room: "drop".into(), closes_ms: u64::MAX, stock: Some(1), ..Sale::default() };
    let room = Room::new(0, &settings, &[sale], 7, at(0));
    let (Verdict::Wait(first), _) = room.visit(&visit(&[]), Class::Human, at(0)) else { panic!("waits") };
    let ticket = room.ticket_token(first.place.expect("a place"), HOST, at(0));
    room.sold(1, at(1));
    let told = |tokens: &[Token]| match room.visit(&visit(tokens), Class::Human, at(1)) {
        (Verdict::SoldOut(w), Reason::StockGone) => (w.place.map(|p| p.number), w.stage, w.wait_s, w.poll_after_s >= 150),
        other => panic!("{other:?}"),
    };
    let all_sold = Stage::SoldOut { undecided: false };
    let ticket = [ticket];
    assert_eq!(told(&ticket), (Some(0), all_sold, None, true), "half an hour of waiting for a restock takes few polls");
    assert_eq!(told(&[]), (None, all_sold, None, true), "no place is promised to who has none");
    assert!(matches!(room.status(&visit(&ticket), at(2)), RoomStatus::Waiting(w) if w.stage == all_sold));
}

#[test]
fn who_waited_for_a_sale_that_is_called_off_is_told_and_cannot_claim() {
    let settings: RoomSettings = serde_json::from_str(r#"{"name":"drop","arm":"always"}"#).expect("settings");
    let sale = Sale { name: "s".into(), room: "drop".into(), closes_ms: u64::MAX, ..Sale::default() };
    let room = Room::new(0, &settings, std::slice::from_ref(&sale), 7, at(0));
    let (Verdict::Wait(first), _) = room.visit(&visit(&[]), Class::Human, at(0)) else { panic!("waits") };
    let ticket = [room.ticket_token(first.place.expect("a place"), HOST, at(0))];
    let mut off = Room::new(0, &settings, &[Sale { cancelled: true, ..sale }], 7, at(1));
    off.carry_over(&room);
    assert_eq!(off.visit(&visit(&ticket), Class::Human, at(2)).1, Reason::SaleCancelled);
    assert_eq!(off.status(&visit(&ticket), at(2)), RoomStatus::CalledOff);
    assert_eq!(off.claim(&visit(&ticket), at(2)), Claim::NoTicket);
    assert!(matches!(off.visit(&visit(&[]), Class::Human, at(2)).0, Verdict::Wait(_)), "others are not told");
}
