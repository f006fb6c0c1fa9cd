//! What scoring a visit costs: features, then one model run on each runtime that is there.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidegate_filters::{Now, Score, rule::bot_gate::Runtime};
use tidegate_models::{
    Blocks, Scorer,
    features::{Agent, HeaderFacts, Method, Referer, Target, VisitFacts, Windows, path_hash},
    scorer::{Answer, BUILTIN, Begun},
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

/// Rows a call, and single visits of many tasks through the batcher with the CPU behind it. On a GPU machine
/// `tidegate-loadtest score-bench` tells the same of the device.
fn batches(c: &mut Criterion) {
    let windows = Windows::new(1000);
    let rows: Vec<_> = (0..65_536).map(|i| windows.observe_and_extract(&facts(i), Now::at(0, i))).collect();
    let runtimes = [Runtime::Builtin, Runtime::Onnxruntime];
    for (runtime, n) in runtimes.into_iter().flat_map(|r| [1, 64, 1_024, 65_536].map(|n| (r, n))) {
        let Ok(mut blocks) = Blocks::open(BUILTIN, runtime) else { continue };
        let mut group = c.benchmark_group("blocks");
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(format!("{n} rows, {runtime:?}"), |b| b.iter(|| blocks.scores(black_box(rows[..n].as_flattened()))));
    }
    let device = Box::new(Blocks::open(BUILTIN, Runtime::Builtin).unwrap());
    let scorer = Arc::new(Scorer::open_with(BUILTIN, Runtime::Builtin, 1, device).unwrap());
    let tokio = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let mut group = c.benchmark_group("batcher on the CPU");
    group.throughput(Throughput::Elements(4_096));
    group.bench_function("4,096 visits at once, a task each", |b| {
        b.iter(|| {
            tokio.block_on(async {
                let visit = |i: usize| {
                    let (scorer, row) = (scorer.clone(), rows[i]);
                    tokio::spawn(async move {
                        match scorer.begin(&row, Duration::from_secs(1)) {
                            Begun::Ready(score) => score,
                            Begun::Pending(ticket) => scorer.settle(ticket.await.unwrap_or(Answer::Failed)),
                        }
                    })
                };
                for task in (0..4_096).map(visit).collect::<Vec<_>>() {
                    assert_ne!(task.await.unwrap(), Score::Unknown);
                }
            })
        })
    });
}

criterion_group!(benches, features, score, batches);
criterion_main!(benches);
