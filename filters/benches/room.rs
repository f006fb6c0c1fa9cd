//! Room work of a join, a poll and a claim, signatures and disk apart; a unit of stock taken and given back; a token opened.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tidegate_filters::{
    Network, Now, Visit, VisitorId, Wants,
    plan::Plan,
    rule::{bot_gate::Class, sale_window::Sale},
    seats::{
        ledger::{Buyer, Holder, Outcome, Want},
        queue::{Lane, Place},
        room::{Claim, Room},
        stock::Stock,
        token::{Keyring, Token},
    },
};

const HOST: &str = "shop.example";
const START_MS: u64 = 1_800_000_000_000;

/// A room with a sale, and so many people in it who wait, nobody let in yet.
fn room(waiting: u32) -> Room {
    let settings =
        serde_json::from_str(r#"{"name":"drop","arm":"always","entries_max":16000000,"seats":{"max":100000}}"#).unwrap();
    let sale = Sale {
        name: "sale".into(),
        room: "drop".into(),
        prequeue_opens_ms: START_MS,
        opens_ms: START_MS,
        closes_ms: START_MS + 100_000_000,
        stock: Some(500),
        ..Sale::default()
    };
    let room = Room::new(0, &settings, &[sale], 7, Now::at(START_MS, 0));
    for _ in 0..waiting {
        room.visit(&visit(&[]), Class::Human, Now::at(START_MS, 0));
    }
    let plan = Plan { refill_per_s: 1.0, burst: 1.0, seats: 100_000, armed: false, reason: String::new() };
    room.open(&plan, Now::at(START_MS, 0));
    room
}

fn visit(tokens: &[Token]) -> Visit<'_> {
    Visit {
        method: "GET",
        host: HOST,
        path: "/",
        route: Some(0),
        network: Some(Network::new([192, 0, 2, 7].into())),
        visitor: Some(VisitorId(1)),
        visitor_by_cookie: true,
        wants: Wants::Html,
        tokens,
        ..Visit::default()
    }
}

fn benches(c: &mut Criterion) {
    let mut g = c.benchmark_group("room, 100,000 waiting");
    let now = Now::at(START_MS, 1_000);
    let waiting = room(100_000);
    // Every 37th place in turn, so that words come from all over the segments.
    let tickets: Vec<[Token; 1]> =
        (0..2_048).map(|i| [waiting.ticket_token(Place { lane: Lane::Main, number: i * 37 + 5 }, HOST, now)]).collect();
    let mut i = 0;
    let mut next = || {
        i = (i + 1) & 2_047;
        &tickets[i]
    };
    g.bench_function("join", |b| b.iter(|| waiting.visit(black_box(&visit(&[])), Class::Human, now)));
    g.bench_function("poll", |b| b.iter(|| waiting.status(black_box(&visit(next())), now)));
    g.bench_function("claim that comes too early", |b| b.iter(|| waiting.claim(black_box(&visit(next())), now)));
    // A claim that counts, once for each called place: the room calls a batch at a time.
    let called = || {
        let room = room(4_000);
        room.open(&Plan { refill_per_s: 1e6, burst: 4_000.0, seats: 100_000, armed: false, reason: String::new() }, now);
        room.tick(now);
        let ticket = |n: u32| [room.ticket_token(Place { lane: Lane::Main, number: n }, HOST, now)];
        let tickets: Vec<_> = (0..1_000).map(ticket).collect();
        (room, tickets)
    };
    g.bench_function("1,000 claims", |b| {
        b.iter_batched_ref(
            called,
            |(room, tickets)| tickets.iter().for_each(|t| assert!(black_box(room.claim(&visit(t), now)) != Claim::NoTicket)),
            BatchSize::PerIteration,
        );
    });
    g.finish();

    let mut g = c.benchmark_group("stock and tokens");
    let want = Want { units: 1, per_visitor_max: Some(1), may_take: true, expires_s: 100 };
    let sell = |stock: &Stock, n: u64| {
        let id = stock.begin(Buyer { holder: Holder::Seat(n), visitor: Some(VisitorId(n)) }, want, 1).unwrap();
        stock.end(id, Outcome::Sold(1), 2);
    };
    // A new stock each time: one that is gone is answered without its lock.
    let full = || Stock::new(Some(1_000), 1);
    g.bench_function("1,000 units taken, sent, and sold", |b| {
        b.iter_batched_ref(full, |stock| (0..1_000).for_each(|n| sell(stock, n)), BatchSize::SmallInput);
    });
    g.bench_function("the same by two threads at once, their start included", |b| {
        let by_two = |stock: &mut Stock| {
            let stock = &*stock;
            std::thread::scope(|s| {
                for t in 0..2 {
                    s.spawn(move || (t..1_000).step_by(2).for_each(|n| sell(stock, n)));
                }
            });
        };
        b.iter_batched_ref(full, by_two, BatchSize::SmallInput);
    });
    let keys = Keyring::new(&[(1, [7; 32])]).unwrap();
    let text = keys.seal(&tickets[0][0]);
    g.bench_function("open one token", |b| b.iter(|| keys.open(black_box(&text)).is_ok()));
    g.bench_function("seal one token", |b| b.iter(|| keys.seal(black_box(&tickets[0][0]))));
    g.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
