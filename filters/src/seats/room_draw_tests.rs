//! A room whose places are drawn, from the visitor's side.
#![allow(clippy::unwrap_used)]

use super::{
    answer::{Entered, Stage, Waiting},
    draw::{
        census::Census,
        commit::{commitment, earlier_by, rules_hash},
        drum::{Drum, places},
        live::Frozen,
        register::Standing,
        statement::Signer,
        transcript::Promise,
        weights::Weights,
    },
    queue::{Lane, State},
    room::*,
    token::Token,
};
use crate::{
    plan::Plan,
    rule::{bot_gate::Class, sale_window::Sale},
    time::Now,
    units::Span,
    verdict::Verdict,
    visit::{Network, Visit, VisitorId, Wants},
};

const HOST: &str = "shop.example";
const START_MS: u64 = 1_800_000_000_000;

fn at(ms: u64) -> Now {
    Now::at(START_MS, ms)
}

/// Pre-queue at once, freeze after 40 s, opening after 60 s.
fn room(order: Order) -> Room {
    room_of(settings(order))
}

fn settings(order: Order) -> RoomSettings {
    let text = r#"{"name":"drop","arm":"always","freeze_before":"20s","visitor":{"entries_per_network":3,"work_bits":0,"entries_max":20}}"#;
    RoomSettings { order, ..serde_json::from_str(text).unwrap() }
}

fn room_of(settings: RoomSettings) -> Room {
    let sale = Sale {
        name: "s".into(),
        room: "drop".into(),
        prequeue_opens_ms: START_MS,
        opens_ms: START_MS + 60_000,
        closes_ms: START_MS + 600_000,
        ..Sale::default()
    };
    let room = Room::new(0, &settings, &[sale], 7, at(0));
    room.open(&Plan { refill_per_s: 1_000.0, burst: 1_000.0, seats: 1_000, armed: false, reason: String::new() }, at(0));
    let draw = room.draws().next().unwrap();
    draw.pledge(&promise(&room, 0), [1; 32], [2; 32]);
    draw.open();
    room
}

fn promise(room: &Room, window: u64) -> Promise {
    let draw = room.draws().next().unwrap();
    let (last, rules) = ([9; 32], rules_hash("{}"));
    let first = earlier_by(&last, draw.window_count() - 1);
    Promise {
        sale_id: "s".into(),
        window: draw.is_chained().then_some(window),
        rules_json: "{}".into(),
        rules,
        commitment: commitment("s", &rules, &first),
        secret: earlier_by(&last, draw.window_count() - 1 - window),
    }
}

fn visit(person: u64, tokens: &[Token]) -> Visit<'_> {
    Visit {
        method: "GET",
        host: HOST,
        path: "/",
        route: Some(0),
        network: Some(Network::new([10, 0, (person / 4) as u8, 1].into())),
        visitor: Some(VisitorId(person)),
        visitor_by_cookie: true,
        wants: Wants::Html,
        tokens,
        ..Visit::default()
    }
}

fn knock(room: &Room, person: u64, now: Now) -> Waiting {
    match room.visit(&visit(person, &[]), Class::Human, now) {
        (Verdict::Wait(w), _) => w,
        other => panic!("{other:?}"),
    }
}

/// Enters and is written down.
fn enter(room: &Room, person: u64, now: Now) -> (Entered, Token) {
    let entered = knock(room, person, now).entry.unwrap();
    room.settle_entry("s", &entered, true, now);
    (entered, room.entry_token(entered.entry, HOST, now))
}

/// What the shell does: closes, freezes, draws, seats.
fn draw(room: &Room, window: u64, now: Now) -> Vec<Option<u32>> {
    freeze(room, window, now);
    reveal(room, window, now)
}

fn reveal(room: &Room, window: u64, now: Now) -> Vec<Option<u32>> {
    let sale = room.draws().next().unwrap();
    let list = sale.window(window).unwrap();
    let frozen = list.frozen().unwrap();
    let promise = promise(room, window);
    let order = Drum::new(&promise.seed(&frozen.list, b"")).order(&list.entries(&frozen.weights));
    let places = places(&order, frozen.weights.len());
    list.draw(&places);
    room.seat_drawn(list, frozen, now);
    places
}

fn freeze(room: &Room, window: u64, now: Now) {
    let sale = room.draws().next().unwrap();
    let list = sale.window_or_new(window).unwrap();
    assert!(list.register.close());
    let table = &room.settings().weights;
    let (weights, census) = (list.register.weights(table), Census::of(&list.register, table));
    let count = weights.iter().flatten().count() as u32;
    let base = room.reserve_places(count).unwrap();
    let (statement, tree) =
        promise(room, window).freeze(&list.entries(&weights), now.wall_ms / 1_000, "", 0, &Signer::new(&[3; 32]));
    sale.freeze(list, Frozen { list: statement, weights, tree, base, count, census });
}

fn place(room: &Room, person: u64, ticket: &Token, now: Now) -> Option<u32> {
    match room.status(&visit(person, std::slice::from_ref(ticket)), now) {
        RoomStatus::Waiting(w) => w.place.map(|p| p.number),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_entry_whose_page_no_browser_showed_weighs_less() {
    let table = |unrendered| RoomSettings {
        weights: Weights { unrendered, ..Weights::default() },
        visitor: VisitorSettings::default(),
        ..settings(Order::DrawThenFifo)
    };
    for (unrendered, weights) in [(Some(1), [16, 1, 1, 16]), (Some(16), [16; 4]), (None, [16; 4])] {
        let room = room_of(table(unrendered));
        let people: Vec<_> = (0..4).map(|p| enter(&room, p, at(100 + p))).collect();
        let asks = |p: usize, now| room.wants_rendering(people[p].0.entry, now);
        assert_eq!(asks(0, at(200)), unrendered.is_some(), "the page names its style where that counts");
        let shows = |p: usize, ms| room.rendered(&visit(p as u64, std::slice::from_ref(&people[p].1)), at(ms));
        assert_eq!(shows(0, 300), Some(("s", people[0].0.entry, true)));
        assert!(!asks(0, at(300)) && shows(0, 300).is_some_and(|(_, _, news)| !news), "once");
        assert_eq!(room.rendered(&visit(1, &[]), at(300)), None, "nobody's entry");
        let list = room.draws().next().unwrap().window(0).unwrap();
        assert!(list.register.close() && shows(3, 41_000).is_some(), "who came last has some seconds more");
        freeze(&room, 0, at(43_000));
        let frozen = list.frozen().unwrap();
        assert_eq!(frozen.weights, weights.map(Some));
        assert_eq!(frozen.census.unrendered, unrendered.map(|_| 2));
        assert_eq!(shows(2, 44_000), None, "too late");
        assert_eq!(list.frozen().unwrap().weights, weights.map(Some));
    }
}

#[test]
fn who_comes_before_the_freeze_is_drawn_and_who_comes_later_follows() {
    let room = room(Order::DrawThenFifo);
    let people: Vec<_> = (0..20).map(|p| enter(&room, p, at(100 + p))).collect();
    let again = knock(&room, 3, at(500));
    assert_eq!(again.entry.map(|e| (e.entry, e.fresh)), Some((people[3].0.entry, false)), "one entry a person");
    assert!(
        people.iter().enumerate().all(|(i, (e, t))| e.entry.index == i as u32 && place(&room, i as u64, t, at(600)).is_none())
    );
    // The quota of three a network: the fourth of each weighs less, and is not refused.
    assert!(people.iter().all(|(e, _)| e.crowded == (e.entry.index % 4 == 3)));

    let full = knock(&room, 60, at(700));
    assert_eq!((full.place, full.entry), (None, None), "twenty are in: who comes now follows them");

    let between = knock(&room, 50, at(40_000));
    assert_eq!((between.place, between.entry), (None, None), "a number now would stand before the drawn");
    freeze(&room, 0, at(40_100));
    let late: Vec<u32> = (60..63).map(|p| knock(&room, p, at(40_200 + p)).place.unwrap().number).collect();
    assert_eq!(late, [20, 21, 22]);
    room.tick(at(60_100));
    assert_eq!(room.stats(at(60_100)).called, 0, "no draw: the room stays closed");

    let list = room.draws().next().unwrap().window(0).unwrap();
    let frozen = list.frozen().unwrap();
    let order = Drum::new(&promise(&room, 0).seed(&frozen.list, b"")).order(&list.entries(&frozen.weights));
    let places = places(&order, 20);
    list.draw(&places);
    room.seat_drawn(list, frozen, at(60_200));
    let told: Vec<_> = people.iter().enumerate().map(|(i, (_, t))| place(&room, i as u64, t, at(60_300))).collect();
    assert_eq!(told, places);
    room.tick(at(60_400));
    let claimed = |person: u64, t: &Token| matches!(room.claim(&Visit { method: "POST", ..visit(person, std::slice::from_ref(t)) }, at(60_500)), Claim::Pending(p) if Some(p.number) == places[person as usize] && p.lane == Lane::Main);
    assert!(people.iter().enumerate().all(|(i, (_, t))| claimed(i as u64, t)), "an entry's ticket claims its place");
}

#[test]
fn an_entry_that_the_disk_lost_is_void_and_the_person_enters_again() {
    let room = room(Order::DrawThenFifo);
    let lost = knock(&room, 1, at(100)).entry.unwrap();
    let again = knock(&room, 1, at(110));
    assert!(again.entry.is_none() && !again.fresh, "no ticket while the entry is on its way to the disk");
    let list = room.draws().next().unwrap().window(0).unwrap();
    assert!(!list.register.close() || list.register.taken() == 0);
    room.settle_entry("s", &lost, false, at(120));
    let ticket = room.entry_token(lost.entry, HOST, at(120));
    assert_eq!(room.status(&visit(1, &[ticket]), at(130)), RoomStatus::None);
    assert_eq!(list.register.standing(0), Standing::Void);
}

#[test]
fn without_a_cookie_that_came_back_there_is_no_entry() {
    let room = room(Order::DrawThenFifo);
    let first = Visit { visitor_by_cookie: false, ..visit(1, &[]) };
    let (Verdict::Wait(w), _) = room.visit(&first, Class::Human, at(100)) else { panic!() };
    assert!(w.fresh && w.entry.is_none() && w.place.is_none() && matches!(w.stage, Stage::Prequeue { .. }), "{w:?}");
    let named = Visit { identity: Some(77), ..first };
    let (Verdict::Wait(w), _) = room.visit(&named, Class::Human, at(200)) else { panic!() };
    assert!(w.entry.is_none(), "the name is of another room");
    let mut by_login = settings(Order::DrawThenFifo);
    by_login.visitor.key = Some(VisitorKey::Cookie("login".into()));
    let (Verdict::Wait(w), _) = room_of(by_login).visit(&named, Class::Human, at(200)) else { panic!() };
    assert!(w.entry.is_some_and(|e| e.who.key == 77));
}

#[test]
fn windows_are_drawn_one_after_the_other() {
    let room = room(Order::DrawEvery(Span::secs(10)));
    let first: Vec<_> = (0..6).map(|p| enter(&room, p, at(100 + p))).collect();
    let second: Vec<_> = (10..14).map(|p| enter(&room, p, at(10_100 + p))).collect();
    assert!(second.iter().all(|(e, _)| e.entry.window == 1));
    draw(&room, 0, at(10_200));
    draw(&room, 1, at(20_100));
    let mut places: Vec<u32> = first.iter().zip(0..).map(|((_, t), p)| place(&room, p, t, at(20_200)).unwrap()).collect();
    let later: Vec<u32> = second.iter().zip(10..).map(|((_, t), p)| place(&room, p, t, at(20_200)).unwrap()).collect();
    assert!(later.iter().all(|p| (6..10).contains(p)), "{later:?}");
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2, 3, 4, 5]);
    let again = knock(&room, 0, at(20_300));
    assert_eq!((again.entry.map(|e| e.entry), again.again), (Some(first[0].0.entry), true), "no second entry in a later window");
    assert_eq!(again.place.map(|p| p.number), place(&room, 0, &first[0].1, at(20_400)));
    let third = enter(&room, 30, at(20_500)).0;
    assert_eq!(
        (third.entry.window, knock(&room, 30, at(30_100)).entry.map(|e| e.entry)),
        (2, Some(third.entry)),
        "closed, not frozen"
    );
}

#[test]
fn one_person_has_one_place_whatever_browser_it_comes_with() {
    let room = room(Order::DrawThenFifo);
    let mine = enter(&room, 1, at(100));
    enter(&room, 2, at(110));
    let found = |ms| {
        let w = knock(&room, 1, at(ms));
        (w.entry.map(|e| (e.entry, e.fresh)), w.fresh && w.again, w.place)
    };
    assert_eq!(found(40_050), (Some((mine.0.entry, false)), true, None), "closed");
    freeze(&room, 0, at(40_100));
    assert_eq!(found(40_200), (Some((mine.0.entry, false)), true, None), "frozen: the ticket again, no number after the drawn");
    let places = reveal(&room, 0, at(40_300));
    let drawn = super::queue::Place { lane: Lane::Main, number: places[0].unwrap() };
    assert_eq!(found(40_400), (Some((mine.0.entry, false)), true, Some(drawn)));
    assert_eq!(room.stats(at(40_400)).arrived, 2);
    let used = Visit { method: "POST", ..visit(1, std::slice::from_ref(&mine.1)) };
    assert_eq!(room.leave(&used, at(40_500)), Some(GivenBack::Place(drawn)));
    let anew = knock(&room, 1, at(40_600));
    assert_eq!((anew.place.map(|p| p.number), anew.entry, anew.again), (Some(2), None, false), "it was given back: at the end");
}

#[test]
fn who_leaves_before_the_draw_is_passed_over_and_may_return() {
    let room = room(Order::DrawThenFifo);
    let people: Vec<_> = (0..3).map(|p| enter(&room, p, at(100 + p))).collect();
    let bye = Visit { method: "POST", ..visit(1, std::slice::from_ref(&people[1].1)) };
    assert_eq!(room.leave(&bye, at(30_000)), Some(GivenBack::Entry(people[1].0.entry)));
    assert_eq!(room.leave(&visit(9, &[]), at(30_000)), None);
    let sale = room.draws().next().unwrap();
    assert_eq!(Census::of(&sale.window(0).unwrap().register, &Weights::default()).void, 0, "who has a receipt stays in the list");
    let places = draw(&room, 0, at(40_100));
    let lane = room.state.line.lane(Lane::Main);
    let present_until_s = |person: usize| match lane.state(places[person].unwrap()) {
        State::Waiting { present_until_s } => present_until_s,
        other => panic!("{other:?}"),
    };
    let now_s = room.clock_s(at(40_100));
    assert!(present_until_s(0) > now_s && present_until_s(1) <= now_s, "nobody waits for who went away");
    assert_eq!(knock(&room, 1, at(40_200)).place.map(|p| p.number), places[1], "and it is theirs when they come back");
    assert!(present_until_s(1) > now_s);
}

#[test]
fn numbers_on_their_way_to_the_disk_are_a_matter_of_moments() {
    let room = room(Order::DrawThenFifo);
    freeze(&room, 0, at(40_100));
    let lane = room.state.line.lane(Lane::Main);
    lane.permit(0);
    lane.permit(1);
    assert_eq!(knock(&room, 1, at(40_200)).place.map(|p| p.number), Some(0));
    let next = knock(&room, 2, at(40_300));
    assert!(next.place.is_none() && matches!(next.stage, Stage::Prequeue { .. }) && next.poll_after_s <= 5, "{next:?}");
    lane.permit(2);
    assert_eq!(knock(&room, 2, at(40_400)).place.map(|p| p.number), Some(1));
}

#[test]
fn who_comes_while_the_draw_is_waited_for_is_promised_no_time() {
    let room = room(Order::DrawThenFifo);
    enter(&room, 1, at(100));
    freeze(&room, 0, at(40_100));
    room.tick(at(40_200));
    let before = knock(&room, 2, at(50_000));
    assert!(matches!(before.stage, Stage::Prequeue { .. }) && before.wait_s.is_some(), "it may still come in time: {before:?}");
    room.tick(at(61_000));
    let late = knock(&room, 3, at(61_000));
    assert_eq!((late.place.map(|p| p.number), late.stage, late.wait_s), (Some(2), Stage::Waiting, None));
    assert_eq!((room.draw_state(at(61_000)), room.frame(at(61_000)).rate), (Some("frozen"), [0.0; 2]), "nor on live pages");
    let later = knock(&room, 4, at(500_000));
    assert!((3..=20).contains(&late.poll_after_s) && (60..=120).contains(&later.poll_after_s), "{late:?} {later:?}");
    reveal(&room, 0, at(500_100));
    let next = knock(&room, 5, at(500_200));
    assert!(next.wait_s.is_some() && next.poll_after_s < 60 && room.frame(at(500_200)).rate[0] > 0.0, "{next:?}");
}

#[test]
fn after_a_restart_undrawn_places_are_called_by_nobody() {
    let room = room(Order::DrawEvery(Span::secs(10)));
    let lane = room.state.line.lane(Lane::Main);
    // What a restore makes of numbers whose words are not known, and one that was called before.
    assert_eq!(room.reserve_places(4), Some(0));
    (0..4).for_each(|n| lane.put(n, 1_000));
    lane.call(1, 50);
    room.reserve_places_at(0, 6);
    let states: Vec<State> = (0..6).map(|n| lane.state(n)).collect();
    assert!(matches!(states[1], State::Called { .. }) && states.iter().filter(|s| **s == State::Unwritten).count() == 5);
    assert_eq!(room.reserve_places(1), Some(6));
    room.tick(at(60_100));
    assert_eq!(room.stats(at(60_100)).called, 0);
}

#[test]
fn a_place_taken_before_the_pre_queue_is_none_in_the_sale() {
    let room = room(Order::DrawThenFifo);
    let early = Token { sale: "".into(), ..room.ticket_token(super::queue::Place { lane: Lane::Main, number: 0 }, HOST, at(0)) };
    room.reserve_places(1);
    room.state.line.lane(Lane::Main).put(0, 100);
    assert_eq!(room.status(&visit(1, &[early]), at(100)), RoomStatus::None);
}

#[test]
fn polls_for_the_draw_come_when_the_places_are_there_and_before_the_opening() {
    let (freeze_ms, opens_ms) = (40_000, 60_000);
    for (unrendered, drawn_after_ms, apart) in [(None, 13_000, 5), (Some(1), 16_000, 3)] {
        let mut settings = settings(Order::DrawThenFifo);
        settings.beacon = serde_json::from_str(r#"{"source":"drand-quicknet","delay":"10s"}"#).unwrap();
        settings.weights.unrendered = unrendered;
        let room = room_of(settings);
        let mut after = std::collections::BTreeSet::new();
        for p in 0..18 {
            let w = knock(&room, p, at(freeze_ms - 30_000));
            let asks_ms = freeze_ms - 30_000 + u64::from(w.poll_after_s) * 1_000;
            assert!((freeze_ms + drawn_after_ms..=opens_ms).contains(&asks_ms), "person {p} asks at {asks_ms}");
            after.insert(asks_ms);
        }
        assert!(after.len() >= apart, "not all at once: {after:?}");
    }
}

#[test]
fn above_a_quota_work_is_asked_for_and_opens_the_list_to_who_did_it() {
    let mut hard = settings(Order::DrawThenFifo);
    (hard.visitor.entries_per_network, hard.visitor.work_bits) = (Some(1), 8);
    let room = room_of(hard);
    enter(&room, 0, at(100));
    let asked = knock(&room, 1, at(200));
    let work_of = |person, ms| room.work(&visit(person, &[]), at(ms));
    let work = work_of(1, 200).unwrap();
    assert!(asked.needs_work && asked.entry.is_none() && !asked.fresh && asked.poll_after_s <= 40, "{asked:?}");
    assert_eq!(work_of(1, 300), Some(work), "the same work, whenever it is asked for");
    assert_ne!(work_of(2, 300), Some(work), "for each person another");
    let answer = work.solve();
    let wrong = (0..).find(|n| !work.is_done(*n)).unwrap();
    let post = |person| Visit { method: "POST", ..visit(person, &[]) };
    assert_eq!(room.enter_with_work(&post(1), wrong, at(400)), None);
    let entered = room.enter_with_work(&post(1), answer, at(400)).unwrap().entry.unwrap();
    assert!(entered.crowded && entered.fresh && entered.entry.index == 1);
    room.settle_entry("s", &entered, true, at(400));
    let again = room.enter_with_work(&post(1), answer, at(500)).unwrap().entry.unwrap();
    assert!(!again.fresh && again.entry.index == 1, "one entry a person");
    assert_eq!(room.enter_with_work(&post(9), answer, at(400)).and_then(|w| w.entry), None, "work of somebody else");
    let w = knock(&room, 1, at(600));
    assert_eq!((w.needs_work, w.entry.map(|e| e.entry.index)), (false, Some(1)));
    assert_eq!(room.enter_with_work(&post(1), answer, at(40_000)), None, "the list is closed");
}

#[test]
fn who_entered_and_asks_too_early_is_told_so() {
    let room = room(Order::DrawThenFifo);
    let (_, ticket) = enter(&room, 1, at(100));
    let me = visit(1, std::slice::from_ref(&ticket));
    assert!(room.early(&me, at(2_000)).is_some_and(|s| s > 20), "{:?}", room.early(&me, at(2_000)));
    let (other, _) = enter(&room, 2, at(100));
    assert_eq!(other.entry.index, 1, "another entry was told of its own time");
    draw(&room, 0, at(40_100));
    assert_eq!(room.early(&me, at(40_200)), None, "the place is there: nobody is too early for it");
}
