//! What a decision costs: `screen` + `admit` on one thread, with and without MACs, beside `governor` alone.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{hint::black_box, num::NonZeroU32};

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate_filters::{
    FilterSettings, Network, Now, Pipeline, PipelineSettings, Score, Visit, VisitorId, Wants,
    pipeline::{ClaimOutcome, Seed},
    seats::token::{Keyring, Token},
    verdict::{Notes, Verdict},
};

fn settings() -> PipelineSettings {
    let filters = [
        r#"{"address":{"deny":["192.0.2.0/24"],"allow_first":["198.51.100.7"]}}"#,
        r#"{"visitor_rate":{"name":"v","key":"visitor","rate":"1000000/s","burst":1000000}}"#,
        r#"{"visitor_rate":{"name":"n","key":"network","rate":"1000000/s","burst":1000000}}"#,
        r#"{"bot_gate":{"to_the_back_at":0.85,"when_unscored":"wait"}}"#,
        r#"{"waiting_room":{"room":"drop"}}"#,
    ];
    let filters: Vec<FilterSettings> = filters.iter().map(|f| serde_json::from_str(f).unwrap()).collect();
    let route = |s: &str| serde_json::from_str::<tidegate_filters::route::RouteSettings>(s).unwrap();
    PipelineSettings {
        routes: vec![
            route(r#"{"name":"assets","match":{"prefix":"/static/"},"filters":"none"}"#),
            route(r#"{"name":"checkout","match":{"prefix":"/checkout"}}"#),
            route(r#"{"name":"shop","match":{"prefix":"/"}}"#),
        ],
        filters,
        rooms: vec![serde_json::from_str(r#"{"name":"drop","arm":"always"}"#).unwrap()],
        ..Default::default()
    }
}

fn visit<'a>(pipeline: &Pipeline, visitor: u64, method: &'a str, tokens: &'a [Token]) -> Visit<'a> {
    Visit {
        method,
        host: "shop.example",
        path: "/product/1",
        route: pipeline.routes().find("shop.example", "/product/1", method),
        network: Some(Network::new((visitor as u32).to_be_bytes().into())),
        visitor: Some(VisitorId(visitor.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
        visitor_by_cookie: true,
        wants: Wants::Html,
        tokens,
        ..Visit::default()
    }
}

fn decide(pipeline: &Pipeline, v: &Visit<'_>, now: Now) -> &'static str {
    let mut notes = Notes::default();
    match pipeline.screen(v, now, &mut notes) {
        Some(d) => d.verdict.name(),
        None => pipeline.admit(v, Score::Known(0.1), now, &mut notes).verdict.name(),
    }
}

fn benches(c: &mut Criterion) {
    let at = |ms| Now::at(1_800_000_000_000, ms);
    let pipeline = Pipeline::new(&settings(), Seed { hash_key: (1, 2), epoch: 3 }, at(0));
    let room = &pipeline.rooms()[0];
    let v = visit(&pipeline, 1, "GET", &[]);
    let Verdict::Wait(waiting) = pipeline.admit(&v, Score::Known(0.1), at(1), &mut Notes::default()).verdict else { panic!() };
    let ticket = [room.ticket_token(waiting.place.unwrap(), "shop.example", at(1))];
    pipeline.tick(at(100));
    room.claim(&visit(&pipeline, 1, "POST", &ticket), at(150));
    let ClaimOutcome::Seated(seat) = pipeline.tick(at(200))[0].outcome else { panic!() };
    let pass = [room.pass_token(seat, "shop.example", at(200))];
    let keys = Keyring::new(&[(1, [7; 32])]).unwrap();
    let (pass_text, ticket_text) = (keys.seal(&pass[0]), keys.seal(&ticket[0]));

    // 4,096 visitors in turn, a microsecond apart: caches see what they would see.
    let mut i = 0u64;
    let mut step = || {
        i += 1;
        (i & 4095, Now { mono_ns: 1_000_000_000 + i * 1_000, wall_ms: 1_800_000_001_000 })
    };
    let mut g = c.benchmark_group("decide");
    g.bench_function("governor alone", |b| {
        let quota = governor::Quota::per_second(NonZeroU32::new(1_000_000).unwrap());
        let clock = governor::clock::FakeRelativeClock::default();
        let store = governor::state::keyed::HashMapStateStore::<u64>::default();
        type Plain = governor::middleware::NoOpMiddleware<governor::nanos::Nanos>;
        let limiter = governor::RateLimiter::<_, _, _, Plain>::new(quota, store, clock);
        b.iter(|| limiter.check_key(&black_box(step().0)).is_ok());
    });
    g.bench_function("with a pass, no MAC", |b| {
        b.iter(|| {
            let (n, now) = step();
            decide(&pipeline, &visit(&pipeline, black_box(n), "GET", &pass), now)
        });
    });
    g.bench_function("waiting, no MAC", |b| {
        b.iter(|| {
            let (n, now) = step();
            decide(&pipeline, &visit(&pipeline, black_box(n), "GET", &ticket), now)
        });
    });
    g.bench_function("with a pass, MACs of two tokens", |b| {
        b.iter(|| {
            let (n, now) = step();
            let tokens = [keys.open(black_box(&pass_text)).unwrap(), keys.open(black_box(&ticket_text)).unwrap()];
            decide(&pipeline, &visit(&pipeline, n, "GET", &tokens), now)
        });
    });
    g.bench_function("verify one token", |b| b.iter(|| keys.open(black_box(&pass_text)).is_ok()));
    g.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
