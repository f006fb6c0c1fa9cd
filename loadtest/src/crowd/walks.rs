//! What people and bots do with what they hear.

#![allow(clippy::unwrap_used)]

use super::{
    Action, Answer, AnswerKind, Crowd, Kind, Note, Outcome, Request, Scenario, Step, Visitor,
    visitor::{Gate, Pace},
};

fn a(kind: Kind, gate: Option<Gate>) -> Visitor {
    let crowd = Crowd::new(&Scenario::builtin("drop-day").unwrap(), 11);
    let buys = |v: &Visitor| kind != Kind::Person || v.manner().goals.len() == 5;
    crowd.visitors.into_iter().find(|v| v.kind() == kind && buys(v) && gate.is_none_or(|g| v.manner().gate == g)).unwrap()
}

fn sent(step: Step) -> (u64, Request) {
    match step {
        Step::Send { at_ms, request } => (at_ms, request),
        Step::Leave(o) => panic!("left: {o:?}"),
    }
}

fn waiting(claimable: bool) -> Answer {
    let note = Note { room: Some("drop".into()), poll_after_s: 5, claimable, ..Note::default() };
    Answer { note: Some(note), verdict: Some(super::GateVerdict::Wait), ..Answer::of(AnswerKind::Waiting, 200) }
}

#[test]
fn a_person_walks_from_home_to_the_confirmation() {
    let mut v = a(Kind::Person, None);
    let mut actions = vec![sent(v.start()).1.action];
    for _ in 0..3 {
        actions.push(sent(v.next(&Answer::of(AnswerKind::Page, 200), 20_000)).1.action);
    }
    let order = Answer { location: Some("/orders/1f".into()), ..Answer::of(AnswerKind::Ordered, 303) };
    let (at, confirmation) = sent(v.next(&order, 30_000));
    assert_eq!(actions, [Action::Home, Action::Product, Action::Cart, Action::Checkout]);
    assert_eq!((at, confirmation.path.as_str()), (30_000, "/orders/1f"), "redirects are followed at once");
    assert_eq!(v.next(&Answer::of(AnswerKind::Page, 200), 31_000), Step::Leave(Outcome::Bought));
}

#[test]
fn a_person_waits_as_told_and_claims_when_called() {
    let mut v = a(Kind::Person, Some(Gate::Script));
    v.start();
    let (at, poll) = sent(v.next(&waiting(false), 10_000));
    assert_eq!((poll.action, poll.path.as_str()), (Action::Poll, "/.tidegate/status?room=drop"));
    assert!((15_000..15_400).contains(&at) && poll.wants_json(), "{at}");
    let (at, page) = sent(v.next(&waiting(true), 15_100));
    assert_eq!((page.action, at), (Action::Home, 15_100), "the page's script reloads the page when the turn has come");
    let (at, claim) = sent(v.next(&waiting(true), 15_100));
    assert_eq!((claim.action, claim.method, claim.body.as_deref()), (Action::Claim, "POST", Some("room=drop&to=/")));
    assert!(at > 15_100, "nobody clicks in no time");
    let seated = Answer { pass: true, location: Some("/".into()), ..Answer::of(AnswerKind::Redirect, 303) };
    assert_eq!(sent(v.next(&seated, 16_000)).1.action, Action::Home);
}

#[test]
fn without_scripts_the_page_reloads() {
    let mut v = a(Kind::Person, Some(Gate::Page));
    v.start();
    let (_, again) = sent(v.next(&waiting(false), 10_000));
    assert_eq!((again.action, again.wants_json()), (Action::Home, false));
}

#[test]
fn a_lost_seat_leads_back_to_a_page() {
    let mut v = a(Kind::Person, None);
    v.start();
    v.next(&Answer::of(AnswerKind::Page, 200), 1);
    v.next(&Answer::of(AnswerKind::Page, 200), 2);
    let (_, back) = sent(v.next(&Answer::of(AnswerKind::Refused, 403), 3));
    assert_eq!(back.action, Action::Product);
}

#[test]
fn people_give_up_and_bots_do_not() {
    let mut person = a(Kind::Person, None);
    person.start();
    let mut left = None;
    for n in 0..100 {
        if let Step::Leave(o) = person.next(&Answer::of(AnswerKind::Error, 500), n) {
            left = Some((n, o));
            break;
        }
    }
    let retries = u64::from(Scenario::builtin("drop-day").unwrap().people.retries_max);
    assert_eq!(left, Some((retries, Outcome::GaveUp)));
    let mut bot = a(Kind::PlainScript, None);
    bot.start();
    for n in 0..100 {
        assert_eq!(sent(bot.next(&Answer::of(AnswerKind::Error, 500), n)).1.action, Action::Checkout);
    }
}

#[test]
fn a_script_keeps_its_cadence() {
    let mut bot = a(Kind::PlainScript, None);
    let (first, _) = sent(bot.start());
    let (second, _) = sent(bot.next(&waiting(true), first + 3));
    let Pace::Every(every) = bot.manner().pace else { panic!("on the clock") };
    assert_eq!(second, first + every);
}

#[test]
fn many_addresses_means_another_one_each_time() {
    let mut bot = a(Kind::ManyAddresses, None);
    let (_, one) = sent(bot.start());
    let (_, two) = sent(bot.next(&Answer::of(AnswerKind::Error, 500), 1));
    assert_ne!(one.address, two.address);
}
