//! The draw of one sale, without a disk.

#![allow(clippy::unwrap_used)]

use super::*;

fn sale() -> Sale {
    Sale { name: "s".into(), room: "r".into(), prequeue_opens_ms: 1_000, opens_ms: 61_000, closes_ms: 100_500, ..Sale::default() }
}

fn pledged(draw: SaleDraw) -> SaleDraw {
    let promise = Promise {
        sale_id: "s".into(),
        window: None,
        rules_json: "{}".into(),
        rules: [1; 32],
        commitment: [2; 32],
        secret: [3; 32],
    };
    draw.pledge(&promise, [4; 32], [5; 32]);
    assert!(draw.open_window(at(5_000)).is_none(), "entries of an earlier life are not back yet");
    draw.open();
    draw
}

fn at(wall_ms: u64) -> Now {
    Now::at(wall_ms, 0)
}

#[test]
fn one_list_until_the_freeze() {
    let before = SaleDraw::new(&sale(), 20_000, None);
    assert!(before.open_window(at(5_000)).is_none(), "nobody enters before the promise is out");
    let draw = pledged(before);
    assert!(draw.open_window(at(999)).is_none() && draw.open_window(at(41_000)).is_none());
    assert_eq!(draw.open_window(at(1_000)).unwrap().0, 0);
    assert_eq!(draw.open_window(at(40_999)).unwrap().0, 0);
    assert_eq!((draw.window_count(), draw.window_ends_ms(0), draw.draw_id(0)), (1, 41_000, "s".to_owned()));
}

#[test]
fn a_cancelled_sale_takes_nobody_and_is_settled_when_its_list_is_drawn() {
    let draw = pledged(SaleDraw::new(&sale(), 20_000, None));
    assert!(draw.open_window(at(5_000)).is_some() && draw.is_settled());
    let who = super::super::register::Person { key: 1, network: None, fingerprint: 0 };
    let limits = super::super::register::Limits { max: 9, per_network: None, per_fingerprint: None, work: false };
    draw.open_window(at(5_000)).unwrap().1.register.enter(who, limits, false);
    draw.cancel();
    assert!(draw.open_window(at(5_000)).is_none() && !draw.is_settled());
    draw.window(0).unwrap().draw(&[Some(0)]);
    assert!(draw.is_settled());
    let written = Sale { cancelled: true, ..sale() };
    assert!(SaleDraw::new(&written, 20_000, None).is_cancelled());
}

#[test]
fn a_promise_gives_way_to_another_only_while_nobody_has_entered() {
    let who = super::super::register::Person { key: 1, network: None, fingerprint: 0 };
    let limits = super::super::register::Limits { max: 9, per_network: None, per_fingerprint: None, work: false };
    for window_ms in [None, Some(10_000)] {
        let draw = pledged(SaleDraw::new(&sale(), 20_000, window_ms));
        // Let in before, and on the way to the list only now.
        let (_, late) = draw.open_window(at(25_000)).unwrap();
        assert!(draw.retire(at(25_001)) && draw.is_retired() && draw.open_window(at(25_001)).is_none());
        assert_eq!(late.register.enter(who, limits, false), super::super::register::Entering::Closed);
        draw.reinstate(at(25_001));
        assert!(!draw.is_retired());
        draw.open_window(at(25_001)).unwrap().1.register.enter(who, limits, false);
        assert!(!draw.retire(at(25_002)) && !draw.is_retired());
        assert!(draw.has_entries() && draw.open_window(at(25_002)).is_some());
    }
}

#[test]
fn a_list_closes_when_it_was_promised_to_though_the_sale_opens_later() {
    let draw = SaleDraw::new(&Sale { opens_ms: 90_000, ..sale() }, 20_000, None);
    draw.hold_to(1_000, 41_000);
    let draw = pledged(draw);
    assert_eq!(draw.window_ends_ms(0), 41_000);
    assert!(draw.open_window(at(40_999)).is_some() && draw.open_window(at(41_000)).is_none());
}

#[test]
fn windows_follow_each_other_to_the_end() {
    let draw = pledged(SaleDraw::new(&sale(), 20_000, Some(10_000)));
    assert_eq!(draw.open_window(at(1_000)).unwrap().0, 0);
    assert_eq!(draw.open_window(at(10_999)).unwrap().0, 0);
    assert_eq!(draw.open_window(at(11_000)).unwrap().0, 1);
    assert_eq!(draw.open_window(at(100_499)).unwrap().0, 9);
    assert!(draw.open_window(at(100_500)).is_none());
    assert_eq!((draw.window_count(), draw.window_ends_ms(9), draw.draw_id(3)), (10, 100_500, "s#3".to_owned()));
}

#[test]
fn tickets_of_entries_and_places_differ() {
    let entry = EntryRef { window: 77, index: u32::MAX };
    assert_eq!(EntryRef::from_bits(entry.to_bits()), Some(entry));
    assert_eq!(crate::seats::queue::Place::from_bits(entry.to_bits()), None);
    for place in [0, 5, 1 << 32 | 9] {
        assert_eq!(EntryRef::from_bits(place), None);
    }
}
