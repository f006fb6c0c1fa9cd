//! Scores of visits, the shadow's share of the deadline, models that are late, reloads.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::sync::LazyLock;

use tidegate_config::{Upstream, parse};
use tidegate_filters::{Network, Wants};

use super::*;
use crate::{head::Fields, repeated::Repeated};

#[test]
fn a_flood_of_suspects_buys_no_more_explanations_than_there_are() {
    let budget = ASecond::default();
    let taken = |s: u64| (0..10_000).filter(|_| budget.take(Now::at(0, s * 1000), REASONS_A_SECOND_MAX)).count() as u64;
    assert_eq!((taken(5), taken(5), taken(6)), (REASONS_A_SECOND_MAX, 0, REASONS_A_SECOND_MAX));
}

fn zero() -> Policy {
    Policy::zero_config(vec![Upstream::plain("127.0.0.1:1".parse().unwrap())], "127.0.0.1:0".parse().unwrap())
}

fn visit(n: u64) -> Visit<'static> {
    Visit {
        method: "GET",
        host: "shop.test",
        path: "/p",
        route: Some(0),
        network: Some(Network::new([192, 0, 2, 1].into())),
        visitor: Some(VisitorId(n)),
        wants: Wants::Html,
        ..Visit::default()
    }
}

fn inline(begun: Begun) -> Scored {
    match begun {
        Begun::Ready(scored) => scored,
        Begun::Pending(_) => panic!("there is no device"),
    }
}

fn facts<'a>(fields: &'a Fields<'a>) -> ScoreFacts<'a> {
    static REPEATED: LazyLock<Repeated> = LazyLock::new(Repeated::default);
    ScoreFacts { fields, repeated: &REPEATED, http2: false, tls: false, manner: 0, network: 7, body_bytes: None }
}

#[test]
fn a_load_forgets_no_count_and_counts_nothing_twice() {
    let scorer = Arc::new(Scorer::open(BUILTIN, Runtime::Builtin, 1).unwrap());
    scorer.late();
    let another = Scoring::by(scorer).follow(&zero()).unwrap();
    another.scorer.as_ref().unwrap().late();
    assert_eq!(another.counts().late, 2);
    assert_eq!(another.follow(&zero()).unwrap().counts().late, 2, "the same scorer stays");
}

#[test]
fn a_script_in_a_hurry_scores_higher_than_a_browser_and_says_why() {
    let policy = zero();
    let scoring = Scoring::build(&policy).unwrap();
    let source = scoring.source(&policy);
    let browser: [(&str, &[u8]); 6] = [
        ("host", b"shop.test"),
        ("user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        ("accept", b"text/html"),
        ("accept-language", b"de"),
        ("accept-encoding", b"gzip"),
        ("cookie", b"a=b"),
    ];
    let browser = Fields::new(browser);
    let script = Fields::new([("user-agent", &b"python-requests/2.31"[..])]);
    let known = |s: Scored| match s.score {
        Score::Known(p) => (p, s.reasons),
        Score::Unknown => panic!("unscored"),
    };
    let at = |ms| Now::at(1_000_000, ms);
    let (person, _) = known(inline(source.begin(&visit(1), &facts(&browser), at(0), 10_000)));
    let mut last = None;
    for i in 0..30 {
        last = Some(known(inline(source.begin(&visit(2), &facts(&script), at(i * 100), 10_000))));
    }
    let (bot, reasons) = last.unwrap();
    assert!(bot > person, "{bot} {person}");
    assert_eq!(reasons.is_empty(), bot < 0.7, "reasons from the lowest threshold on: {bot} {reasons}");
    assert_eq!(
        inline(source.begin(&visit(1), &facts(&browser), at(5_000), 0)).score,
        Score::Unknown,
        "nothing is ready in no time"
    );
}

#[test]
fn a_shadow_has_the_rest_of_the_deadline_and_is_left_alone_when_it_comes_too_late() {
    let shadow = Shadow::new(Arc::new(Scorer::open(BUILTIN, Runtime::Builtin, 1).unwrap()));
    let (clock, features) = (Clock::new(), shadow.scorer.card().baseline.clone());
    assert!(matches!(shadow.score(&features, &clock, u64::MAX), Score::Known(_)));
    assert_eq!((shadow.score(&features, &clock, 0), shadow.late.get()), (Score::Unknown, 0), "nothing is left");
    let mut tries = 0;
    while shadow.late.get() < SHADOW_LATE_MAX && tries < 100_000 {
        assert_eq!(shadow.score(&features, &clock, clock.mono_ns() + 500), Score::Unknown, "no run takes half a microsecond");
        tries += 1;
    }
    assert_eq!(shadow.score(&features, &clock, u64::MAX), Score::Unknown);
}

#[test]
fn a_model_that_is_always_late_is_not_waited_for() {
    let policy = zero();
    let scoring = Scoring::build(&policy).unwrap();
    let source = scoring.source(&policy);
    let fields = Fields::new([("user-agent", &b"curl/8"[..])]);
    let score = |deadline_ms| inline(source.begin(&visit(1), &facts(&fields), Now::at(1_000_000, 5), deadline_ms)).score;
    (1..LATE_IN_A_ROW_MAX).for_each(|_| assert_eq!(score(0), Score::Unknown));
    assert!(matches!(score(10_000), Score::Known(_)), "one in time is forgiven much");
    (0..LATE_IN_A_ROW_MAX).for_each(|_| assert_eq!(score(0), Score::Unknown));
    let ran = scoring.counts().scored;
    assert_eq!(score(10_000), Score::Unknown, "not asked for a while");
    let late = u64::from(2 * LATE_IN_A_ROW_MAX);
    assert_eq!((scoring.counts().scored, scoring.counts().late), (ran, late));
}

#[test]
fn a_reload_keeps_the_model_and_what_is_remembered() {
    let policy = zero();
    let first = Scoring::build(&policy).unwrap();
    let second = first.follow(&policy).unwrap();
    assert!(Arc::ptr_eq(first.scorer.as_ref().unwrap(), second.scorer.as_ref().unwrap()));
    let mut without = policy.clone();
    without.filters.clear();
    let third = second.follow(&without).unwrap();
    assert!(third.scorer.is_none() && third.describe().contains("none"));
    let fourth = third.follow(&policy).unwrap();
    assert!(Arc::ptr_eq(first.windows.as_ref().unwrap(), fourth.windows.as_ref().unwrap()));
    let mut missing = policy;
    for filter in &mut missing.filters {
        if let FilterSettings::BotGate(g) = filter {
            g.model = "/nonexistent/model.onnx".into();
        }
    }
    assert!(first.follow(&missing).is_err());
}

#[test]
fn routes_behind_rooms_are_known_by_name() {
    let text = "version: 1\nlisten: [{ address: 127.0.0.1:0 }]\nshop: { upstreams: [{ address: 127.0.0.1:1 }] }\n\
                routes: [{ name: a, match: { prefix: /a } }, { name: b, match: { prefix: /b }, filters: none }, { name: c }]\n\
                rooms: [{ name: r }]\nfilters: [{ waiting_room: { room: r, routes: [a] } }]\n";
    let policy = parse(text, "test").unwrap().policy;
    assert_eq!(roomed(&policy), [true, false, false]);
}
