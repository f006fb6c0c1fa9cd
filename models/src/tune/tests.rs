#![allow(clippy::unwrap_used)]
use tidegate_filters::{
    Rate, Reason as Why, Row, Score,
    reference::Reference,
    rule::bot_gate::Runtime,
    seats::queue::{Lane, Place},
};

use super::*;
use crate::{
    Scorer,
    features::{FEATURES, N},
    scorer::BUILTIN,
};

/// A scored visit of a visitor.
fn row(visitor: u64, mono_ns: u64, score: f32) -> Row {
    let class = if score >= 0.85 { "suspect" } else { "human" };
    let features = vec![0.0; N];
    Row { visitor, network: visitor / 100, mono_ns, score, class, features, place: u64::MAX, ..Row::default() }
}

fn book(rows: &[Row]) -> Vec<Visitor> {
    judged(rows, &Gates::everywhere(AT))
}

fn judged(rows: &[Row], gates: &Gates) -> Vec<Visitor> {
    let mut book = Book::new(gates.clone());
    rows.iter().for_each(|r| book.take(r, None));
    book.close()
}

const AT: Thresholds = Thresholds {
    challenge_at: Some(0.7),
    to_the_back_at: Some(0.85),
    throttle_at: None,
    throttle_to: Rate { events: 10, per_ms: 60_000 },
    refuse_at: Some(0.95),
};

#[test]
fn a_visitor_is_its_highest_score_and_what_became_of_it() {
    let mut bought = row(7, 3, 0.2);
    (bought.sold, bought.joined, bought.place) = (2, true, Place { lane: Lane::Main, number: 5 }.to_bits());
    let high = row(7, 2, 0.9);
    let unscored = Row { score: f32::NAN, ..row(7, 4, 0.0) };
    let all = book(&[row(7, 1, 0.1), high.clone(), bought, unscored, row(0, 5, 1.0)]);
    assert_eq!(all.len(), 1, "nobody knows visitor 0");
    let v = &all[0];
    assert_eq!((v.visits, v.score, v.sold, v.joined, v.was), (3, 0.9, 2, Some(false), Act::SlowLane));
    assert_eq!(v.reference, Reference::of(&high));
    assert!(v.is_in(8) && !v.is_in(6), "it bought, and came more than once");
}

#[test]
fn what_if_counts_who_fares_worse_and_names_buyers_first() {
    let mut buyer = row(1, 1, 0.86);
    buyer.sold = 1;
    let mut front = row(2, 2, 0.97);
    (front.class, front.joined, front.place) = ("human", true, 9);
    let refused = Row { reason: Some(Why::ScoreRefuse), ..row(3, 3, 0.99) };
    let rows = [Row { class: "human", ..buyer }, front, refused, row(4, 4, 0.1), Row { class: "human", ..row(5, 5, 0.75) }];
    let answer = what_if(&book(&rows), 2);
    assert_eq!(answer.was, Counts { nothing: 4, refuse: 1, ..Counts::default() });
    assert_eq!(answer.would, Counts { nothing: 1, challenge: 1, slow_lane: 1, throttle: 0, refuse: 2 });
    assert_eq!((answer.worse, answer.worse_buyers, answer.milder, answer.front_places), (3, [1, 1], 0, [1, 1]));
    let named: Vec<_> = answer.examples.iter().map(|e| (e.visitor.as_str(), e.would)).collect();
    assert_eq!(named, [("0000000000000001", Act::SlowLane), ("0000000000000002", Act::Refuse)]);
    let milder = what_if(&judged(&rows, &Gates::default()), 0);
    assert_eq!((milder.worse, milder.milder, milder.would.nothing), (0, 1, 5));
}

#[test]
fn what_a_score_does_is_told_by_route_and_a_quota_bites_who_comes_too_often() {
    let on = |route: &'static str, at: Thresholds| GateAt { routes: vec![route.into()], at };
    let gates = Gates::new(vec![
        on("search", Thresholds { throttle_at: Some(0.6), ..Thresholds::default() }),
        on("shop", Thresholds { to_the_back_at: Some(0.9), ..Thresholds::default() }),
    ]);
    let visit = |visitor: u64, at_s: u64, route: &'static str, score: f32| Row {
        route: route.into(),
        at_ms: at_s * 1_000,
        class: "human",
        joined: route == "shop",
        place: 9,
        ..row(visitor, at_s, score)
    };
    // Its highest score is where it does nothing; a lower one sends it to the back.
    let mut rows = vec![visit(1, 1, "blog", 0.99), visit(1, 2, "shop", 0.92)];
    // Two at once and then every six seconds are within 10/min, a third at once is not.
    rows.extend([0, 0, 6, 12, 18].map(|s| visit(2, s, "search", 0.7)));
    rows.extend([0, 0, 0].map(|s| visit(3, s, "search", 0.7)));
    rows.extend([visit(3, 1, "shop", 0.7), visit(4, 1, "search", 0.5)]);
    let was = Row { reason: Some(Why::ScoreThrottle), ..visit(5, 1, "search", 0.7) };
    rows.push(was);
    let all = judged(&rows, &gates);
    let would: Vec<Act> = all.iter().map(|v| v.would).collect();
    assert_eq!(would, [Act::SlowLane, Act::Nothing, Act::Throttle, Act::Nothing, Act::Nothing]);
    assert_eq!((all[0].score, all[0].decisive, all[0].reference), (0.99, 0.92, Reference::of(&rows[1])));
    assert_eq!(all[4].was, Act::Throttle);
    let answer = what_if(&all, 9);
    assert_eq!(answer.front_places, [2, 1], "a quota takes nobody's place");
    assert_eq!((answer.worse, answer.milder), (2, 1));
    let turned = Thresholds { to_the_back_at: Some(0.9), throttle_at: Some(0.8), ..Thresholds::default() };
    let said = Gates::new(vec![on("search", turned)]).in_order().unwrap_err();
    assert!(said.starts_with("to_the_back_at (0.9) is above throttle_at (0.8) for search"), "{said}");
}

#[test]
fn groups_come_from_features_and_from_the_whole_journal() {
    let feature = |name: &str| FEATURES.iter().position(|f| f.name == name).unwrap();
    let rows: Vec<Row> = (1..=10)
        .map(|i| {
            let mut row = Row { network: 77, ..row(i, i, 0.9) };
            row.features[feature("http_2")] = if i <= 4 { 1.0 } else { -1.0 };
            row
        })
        .collect();
    let answer = what_if(&book(&rows), 0);
    let of = |name: &str| answer.slices.iter().find(|s| s.name == name).map_or(0, |s| s.visitors);
    assert_eq!(
        (of("HTTP/2"), of("HTTP/1"), of("shared network"), of("one visit only"), of("bought something")),
        (4, 6, 10, 10, 0)
    );
}

#[test]
fn another_model_judges_the_same_features() {
    let mut book = Book::default();
    let half = |_: &[f32]| Some(0.5);
    book.take(&row(1, 1, 0.99), Some(&half));
    book.take(&Row { features: vec![1.0], ..row(2, 2, 0.99) }, Some(&half));
    assert_eq!((book.scored, book.unscored), (1, 1), "a row of another feature list is not judged");
    assert_eq!(book.close()[0].score, 0.5);
}

#[test]
fn the_curve_needs_labels_and_says_how_sure_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("labels.csv");
    let mut labels = Labels::default();
    for i in 1..=100u64 {
        labels.set(i, if i <= 50 { Label::Person } else { Label::Program }, "seen, \nby phone");
    }
    labels.set(999, Label::Person, "");
    labels.write(&file).unwrap();
    assert_eq!(Labels::read(&file).unwrap().len(), 101);
    let labels = Labels::read(&file).unwrap();
    let all = book(
        &(1..=100u64).map(|i| row(i, i, if i % 50 == 0 { 0.5 } else { f32::from(u8::from(i > 50)) * 0.9 })).collect::<Vec<_>>(),
    );
    let curve = curve(&all, &labels);
    assert_eq!((curve.people, curve.programs, curve.unknown), (50, 50, 1));
    let at = |p: f32| curve.points.iter().find(|x| (x.at - p).abs() < 1e-4).unwrap();
    assert_eq!((at(0.5).people_hurt[0], at(0.5).programs_passed[0]), (0.02, 0.0));
    assert_eq!((at(0.51).people_hurt[0], at(0.51).programs_passed[0]), (0.0, 0.02));
    assert!(at(0.5).people_hurt[2] > 0.1, "50 people are few");
}

#[test]
fn wrong_labels_say_where() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("labels.csv");
    for (text, why) in [
        ("visitor,label\n0000000000000001,maybe\n", "labels.csv:2: `maybe` is no label; write `person` or `program`"),
        ("12,person\n", "labels.csv:1: `12` is no visitor; one has 16 hexadecimal digits"),
    ] {
        std::fs::write(&file, text).unwrap();
        let said = Labels::read(&file).unwrap_err().to_string();
        assert!(said.ends_with(why), "{said}");
    }
    assert!(Labels::read(&dir.path().join("none.csv")).unwrap_err().to_string().contains("cannot read the labels"));
}

#[test]
fn the_queue_has_buyers_first_then_the_doubtful_and_nobody_twice() {
    let mut buyer = row(100, 1, 0.99);
    buyer.sold = 1;
    let rows = [buyer, row(200, 2, 0.849), row(300, 3, 0.01), row(400, 4, 0.85)];
    let mut labels = Labels::default();
    labels.set(400, Label::Program, "");
    let all = queue(&book(&rows), &labels, &Gates::everywhere(AT), 10);
    let ids: Vec<_> = all.iter().map(|c| c.visitor.as_str()).collect();
    assert_eq!(ids, ["0000000000000064", "00000000000000c8", "000000000000012c"]);
    let office: Vec<Row> = (0..50).map(|i| Row { network: 5, ..row(1 + i, i, 0.85) }).collect();
    assert_eq!(queue(&book(&office), &labels, &Gates::everywhere(AT), 20).len(), 2, "one network is not the whole list");
}

#[test]
fn a_decision_is_computed_again_to_the_bit() {
    let scorer = Scorer::open(BUILTIN, Runtime::Builtin, 1).unwrap();
    let mut row = row(9, 9, 0.0);
    row.features = scorer.card().baseline.clone();
    row.features[FEATURES.iter().position(|f| f.name == "visits_1s").unwrap()] = 4.0;
    let Score::Known(score) = scorer.score(&row.features) else { panic!("scored") };
    (row.score, row.model) = (score, scorer.model().to_owned().into());
    let explained = Explainer { scorer: &scorer }.explain(&row);
    assert!(explained.same, "{explained:?}");
    let other = Row { score: f32::from_bits(score.to_bits() ^ 1), ..row.clone() };
    assert!(!Explainer { scorer: &scorer }.explain(&other).same, "one bit is not the same");
    let foreign = Explainer { scorer: &scorer }.explain(&Row { model: "00".into(), ..row });
    assert_eq!((foreign.again, foreign.reasons.len()), (None, 0), "another model's decision is not explained by this one");
}
