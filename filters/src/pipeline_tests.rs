//! The order of filters, shadows, carry-over.
#![allow(clippy::unwrap_used)]

use crate::{
    FilterSettings, Known, Network, Now, Pipeline, PipelineSettings, Reason, Score, Verdict, Visit, VisitorId, Wants,
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
    let now = Now::at(0, 1000);
    let visit = Visit {
        method: "GET",
        host,
        path,
        route: p.routes().find(host, path, "GET"),
        network: Some(Network::new(ip.into())),
        visitor: Some(VisitorId(u64::from(ip[3]))),
        visitor_by_cookie: false,
        wants: Wants::Html,
        identity: None,
        hello: 0,
        fingerprint: 0,
        prefetch: false,
        known: Known::default(),
        tokens: &[],
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
