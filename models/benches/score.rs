//! What scoring a visit costs: features, then one model run on each runtime that is there.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate_filters::{Now, rule::bot_gate::Runtime};
use tidegate_models::{
    Scorer,
    features::{Agent, HeaderFacts, Method, Referer, Target, VisitFacts, Windows, path_hash},
    scorer::BUILTIN,
};

const VISITORS: u64 = 100_000;

fn facts(i: u64) -> VisitFacts {
    let yes = Some(true);
    VisitFacts {
        visitor: 1 + i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % VISITORS,
        by_cookie: yes,
        network: 1 + i % 5000,
        fingerprint: 1 + i % 40,
        method: Method::Get,
        target: Target::Page,
        path: path_hash("/p/1") ^ (i as u32 % 50),
        sale: yes,
        tls: yes,
        headers: HeaderFacts {
            count: Some(14),
            accept: yes,
            language: yes,
            encoding: yes,
            referer: Referer::Same,
            agent: Agent::Chromium,
            ..HeaderFacts::default()
        },
        ..VisitFacts::default()
    }
}

fn features(c: &mut Criterion) {
    let headers = [
        ("host", "shop.test"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"),
        ("accept", "text/html"),
        ("accept-language", "en"),
        ("accept-encoding", "gzip"),
        ("referer", "https://shop.test/"),
        ("cookie", "a=b"),
        ("sec-fetch-mode", "navigate"),
        ("sec-ch-ua", "x"),
    ];
    c.bench_function("headers to facts (9 headers)", |b| {
        b.iter(|| HeaderFacts::read("shop.test", black_box(&headers).iter().map(|(n, v)| (*n, v.as_bytes()))))
    });
    for visitors in [1000, VISITORS] {
        let windows = Windows::new(VISITORS as usize);
        let mut i = 0;
        c.bench_function(&format!("observe and extract, {visitors} visitors"), |b| {
            b.iter(|| {
                i += 1;
                let f = VisitFacts { visitor: 1 + i * 7919 % visitors, ..facts(i) };
                windows.observe_and_extract(black_box(&f), Now::at(1_700_000_000_000, i))
            })
        });
    }
}

fn score(c: &mut Criterion) {
    let windows = Windows::new(1000);
    let row = windows.observe_and_extract(&facts(1), Now::at(0, 1));
    for runtime in [Runtime::Builtin, Runtime::Onnxruntime] {
        let Ok(scorer) = Scorer::open(BUILTIN, runtime, 1) else {
            eprintln!("SKIPPED: no {runtime:?}");
            continue;
        };
        c.bench_function(&format!("one score, {runtime:?}"), |b| b.iter(|| scorer.score(black_box(&row))));
        c.bench_function(&format!("reasons, {runtime:?}"), |b| b.iter(|| scorer.reasons(black_box(&row))));
    }
}

criterion_group!(benches, features, score);
criterion_main!(benches);
