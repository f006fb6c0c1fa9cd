//! The order of filters, shadows, carry-over.
#![allow(clippy::unwrap_used)]

use crate::{
    Bot, FilterSettings, Known, Network, Now, Pipeline, PipelineSettings, Reason, Score, Verdict, Visit, VisitorId, Wants,
    pipeline::Seed,
    rule::bot_gate::Class,
    seats::{queue::Lane, room::Entrance},
    verdict::{Decision, Notes},
};

const SEED: Seed = Seed { hash_key: (1, 2), epoch: 3 };

fn settings(filters: &[&str]) -> PipelineSettings {
    let parse = |f: &&str| serde_json::from_str::<FilterSettings>(f).unwrap();
    let route = |r: &str| serde_json::from_str(r).unwrap();
    PipelineSettings {
        routes: vec![
            route(r#"{"name":"assets","match":{"prefix":"/static/"},"filters":"none"}"#),
            route(r#"{"name":"shop","match":{"host":"shop.example"}}"#),
        ],
        filters: filters.iter().map(parse).collect(),
        rooms: vec![serde_json::from_str(r#"{"name":"drop","arm":"always","admission":{"fixed":"10/s"}}"#).unwrap()],
        ..Default::default()
    }
}

fn decide(p: &Pipeline, ip: [u8; 4], path: &str, host: &str, score: Score, notes: &mut Notes) -> Decision {
    decide_known(p, ip, path, host, score, Known::default(), notes)
}

fn decide_known(p: &Pipeline, ip: [u8; 4], path: &str, host: &str, score: Score, known: Known, notes: &mut Notes) -> Decision {
    let now = Now::at(0, 1000);
    let visit = Visit {
        method: "GET",
        host,
        path,
        route: p.routes().find(host, path, "GET"),
        network: Some(Network::new(ip.into())),
        visitor: Some(VisitorId(u64::from(ip[3]))),
        wants: Wants::Html,
        known,
        ..Visit::default()
    };
    p.screen(&visit, now, notes).unwrap_or_else(|| p.admit(&visit, score, now, notes))
}

#[test]
fn first_opinion_wins_and_the_room_comes_last() {
    let p = Pipeline::new(
        &settings(&[
            r#"{"address":{"deny":["192.0.2.0/24"],"allow_first":["192.0.2.9"]}}"#,
            r#"{"visitor_rate":{"name":"per-visitor","key":"visitor","rate":"1/s","burst":2}}"#,
            r#"{"bot_gate":{"refuse_at":0.99,"to_the_back_at":0.8,"when_unscored":"wait"}}"#,
            r#"{"waiting_room":{"room":"drop"}}"#,
        ]),
        SEED,
        Now::at(0, 0),
    );
    let ask = |ip, path, host, score| decide(&p, ip, path, host, score, &mut Notes::default());
    let human = Score::Known(0.1);
    assert_eq!(ask([1, 1, 1, 1], "/", "other.example", human).reason, Reason::NoRoute);
    assert_eq!(ask([192, 0, 2, 1], "/static/a.css", "shop.example", human).reason, Reason::Unfiltered);
    assert_eq!(ask([192, 0, 2, 1], "/", "shop.example", human).reason, Reason::AddressDenied);
    let allowed = ask([192, 0, 2, 9], "/", "shop.example", Score::Known(1.0));
    assert_eq!((allowed.verdict, allowed.reason), (Verdict::Forward(Entrance::Free), Reason::AddressAllowed));
    assert_eq!(ask([1, 1, 1, 2], "/", "shop.example", Score::Known(0.995)).reason, Reason::ScoreRefuse);
    assert_eq!(p.rooms()[0].stats(Now::at(0, 1000)).arrived, 0, "what is refused takes no place");
    let places: Vec<_> = [human, Score::Known(0.9), Score::Unknown]
        .iter()
        .enumerate()
        .map(|(i, s)| match ask([1, 1, 2, 10 + i as u8], "/", "shop.example", *s).verdict {
            Verdict::Wait(w) => w.place.unwrap().lane,
            v => panic!("{v:?}"),
        })
        .collect();
    assert_eq!(places, [Lane::Main, Lane::Slow, Lane::Main]);
    let third = [(); 3].map(|()| ask([1, 1, 1, 77], "/", "shop.example", human));
    assert!(matches!(third[2].verdict, Verdict::Throttle(q) if q.wait_ms > 0));
    assert_eq!(p.filter_name(third[2].filter.unwrap()), "per-visitor");
}

#[test]
fn a_shadow_records_and_does_not_enforce() {
    let p = Pipeline::new(
        &settings(&[
            r#"{"address":{"deny":["192.0.2.0/24"],"shadow":true}}"#,
            r#"{"visitor_rate":{"name":"v","key":"visitor","rate":"1/s","burst":1,"shadow":true}}"#,
            r#"{"bot_gate":{"refuse_at":0.9,"when_unscored":"admit","shadow":true}}"#,
        ]),
        SEED,
        Now::at(0, 0),
    );
    let mut notes = Notes::default();
    let d = decide(&p, [192, 0, 2, 1], "/", "shop.example", Score::Known(0.1), &mut notes);
    assert_eq!((d.reason, notes.shadow), (Reason::NoObjection, Some((0, "refuse", Reason::AddressDenied))));
    let mut notes = Notes::default();
    let d = decide(&p, [1, 1, 1, 2], "/", "shop.example", Score::Known(0.95), &mut notes);
    assert_eq!((d.reason, notes.shadow), (Reason::NoObjection, Some((2, "refuse", Reason::ScoreRefuse))));
    assert_eq!((notes.class, notes.quota), (Some(Class::Suspect), None), "a shadow quota does not show");
    let mut notes = Notes::default();
    decide(&p, [1, 1, 1, 2], "/", "shop.example", Score::Known(0.1), &mut notes);
    assert_eq!(notes.shadow, Some((1, "throttle", Reason::RateExceeded)));
}

#[test]
fn facts_come_before_scores() {
    let p = |then: &str| {
        let filters = [
            format!(r#"{{"honeypot":{{"paths":["/trap/"],"then":"{then}"}}}}"#),
            format!(r#"{{"good_bots":{{"bots":[],"impostors":"{then}"}}}}"#),
            r#"{"bot_gate":{"challenge_at":0.5,"when_unscored":"challenge"}}"#.to_owned(),
            r#"{"waiting_room":{"room":"drop"}}"#.to_owned(),
        ];
        Pipeline::new(&settings(&filters.each_ref().map(|f| &**f)), SEED, Now::at(0, 0))
    };
    let (back, refuse, log) = (p("to_the_back"), p("refuse"), p("log"));
    let ask = |p: &Pipeline, n: u8, path: &str, known: Known| {
        let d = decide_known(p, [1, 1, 1, n], path, "shop.example", Score::Known(0.1), known, &mut Notes::default());
        let lane = match &d.verdict {
            Verdict::Wait(w) => w.place.map(|p| p.lane),
            _ => None,
        };
        (d.verdict.name(), d.reason, lane)
    };
    let (nothing, trapped) = (Known::default(), Known { trapped: true, ..Known::default() });
    let (good, impostor) = (Known { bot: Bot::Good, ..nothing }, Known { bot: Bot::Impostor, ..nothing });
    let slow = ("wait", Reason::Queued, Some(Lane::Slow));
    assert_eq!((ask(&back, 1, "/", trapped), ask(&back, 2, "/", impostor)), (slow, slow));
    assert_eq!(ask(&refuse, 1, "/", trapped), ("refuse", Reason::Honeypot, None));
    assert_eq!(ask(&refuse, 2, "/", impostor), ("refuse", Reason::FalseCrawler, None));
    for (n, known) in [trapped, impostor].into_iter().enumerate() {
        let n = n as u8;
        assert_eq!(ask(&log, 1 + n, "/", known).2, Some(Lane::Main), "{known:?}");
        assert_eq!(ask(&refuse, 10 + n, "/", Known { granted: true, ..known }).2, Some(Lane::Main), "{known:?}");
    }
    assert_eq!(ask(&log, 3, "/trap/a", nothing), ("refuse", Reason::Honeypot, None), "the gate answers the path");
    assert_eq!(ask(&log, 3, "/trap", nothing).0, "wait", "another path");
    let unscored = |known| {
        let d = decide_known(&log, [1, 1, 1, 9], "/", "shop.example", Score::Unknown, known, &mut Notes::default());
        d.verdict.name()
    };
    assert_eq!((unscored(good), unscored(nothing)), ("wait", "challenge"), "a good bot is not challenged");
}

#[test]
fn a_high_score_has_a_quota_and_keeps_it_over_a_reload() {
    let gate = r#"{"bot_gate":{"throttle_at":0.8,"throttle_to":"60/min","refuse_at":0.99,"when_unscored":"admit"}}"#;
    let p = Pipeline::new(&settings(&[gate]), SEED, Now::at(0, 0));
    let asks = |p: &Pipeline, score: f32, times: usize| {
        let ask = |_| decide(p, [1, 1, 1, 7], "/", "shop.example", Score::Known(score), &mut Notes::default());
        let last = (0..times).fold(None, |_, i| Some(ask(i))).unwrap();
        (last.verdict.name(), last.reason, last.verdict)
    };
    assert_eq!(asks(&p, 0.79, 100).0, "forward", "a lower score has none");
    assert_eq!(asks(&p, 0.8, 5).0, "forward", "five seconds' worth at once");
    let (name, reason, verdict) = asks(&p, 0.8, 1);
    assert_eq!((name, reason), ("throttle", Reason::ScoreThrottle));
    assert!(matches!(verdict, Verdict::Throttle(q) if (900..=1_001).contains(&q.wait_ms)), "{verdict:?}");
    assert_eq!(asks(&p, 0.99, 1).1, Reason::ScoreRefuse, "a refusal stays one");
    let mut next = Pipeline::new(&settings(&[gate]), SEED, Now::at(0, 0));
    assert_eq!(asks(&next, 0.8, 1).0, "forward");
    next.carry_over(&p);
    assert_eq!(asks(&next, 0.8, 1).0, "throttle");
}

#[test]
fn the_same_visits_give_the_same_verdicts_bit_for_bit() {
    let run = || {
        let p = Pipeline::new(
            &settings(&[
                r#"{"visitor_rate":{"name":"v","key":"visitor","rate":"5/s","burst":5}}"#,
                r#"{"waiting_room":{"room":"drop"}}"#,
            ]),
            SEED,
            Now::at(0, 0),
        );
        (0..500u32)
            .map(|i| {
                let d = decide(&p, [9, 9, 9, (i % 40) as u8], "/", "shop.example", Score::Unknown, &mut Notes::default());
                if i % 7 == 0 {
                    p.tick(Now::at(0, u64::from(i) * 10));
                }
                format!("{d:?}")
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn codes_in_json_and_in_words_are_the_same() {
    for reason in [Reason::NoObjection, Reason::ScoreToTheBack, Reason::ShopBusy, Reason::WalkIn, Reason::KeyMissing] {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.code());
    }
}
