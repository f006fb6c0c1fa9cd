//! The draw of a million entries, its parts, and its verification, on one thread.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tidegate_filters::seats::draw::{
    beacon::{BeaconCheck, check_local},
    drum::Drum,
    entries,
    entry::{Entry, EntryNames, Leaves},
    rehearse::{Rehearsal, RehearsalBeacon},
    statement::{Receipt, Signer},
    tree::Tree,
    verify::{Published, verify},
};

const MILLION: usize = 1_000_000;

fn benches(c: &mut Criterion) {
    let names = EntryNames::new(&[1; 32], "bench");
    let people: Vec<Entry> = (0..MILLION as u64).map(|i| Entry { id: names.id(i), weight: 16 }).collect();
    let mut g = c.benchmark_group("draw of 1,000,000");
    g.sample_size(10);
    g.bench_function("order, 16 balls each", |b| b.iter(|| Drum::new(&[7; 32]).order(black_box(&people))));
    g.bench_function("tree and root", |b| b.iter(|| Tree::new(Leaves::new("bench").all(black_box(&people))).root()));
    g.bench_function("names", |b| b.iter(|| (0..MILLION as u64).map(|i| names.id(i)[0] as u64).sum::<u64>()));

    let sale = Rehearsal { entries: MILLION, seed: 1, beacon: RehearsalBeacon::Local, window: None };
    let mut sale = sale.run();
    // Everybody has 16 balls: the most work a sale of this size can be.
    sale.listed.entries.iter_mut().filter(|e| !e.is_void()).for_each(|e| e.weight = 16);
    let text = entries::write(&sale.listed.entries, &sale.listed.places);
    g.bench_function("verify, file read included, 16 balls each", |b| {
        b.iter_batched(
            || (),
            |()| {
                let listed = entries::read(text.as_bytes()).unwrap();
                let check = |round: &_| check_local(round).unwrap_or(BeaconCheck::Proven);
                verify(&sale.transcript, &listed, Published::default(), &check).places.len()
            },
            BatchSize::PerIteration,
        );
    });
    g.finish();

    let signer = Signer::new(&[5; 32]);
    c.bench_function("sign a receipt", |b| b.iter(|| Receipt::sign(&signer, "bench", [1; 32], black_box(7), [2; 16])));
}

criterion_group!(all, benches);
criterion_main!(all);
