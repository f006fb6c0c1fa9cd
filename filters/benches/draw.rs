//! The draw of a million entries, its parts, and its verification, on one thread. Times are of the processor, not of the
//! wall: a busy machine does not change them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{
    BatchSize, Criterion, criterion_group, criterion_main,
    measurement::{Measurement, ValueFormatter, WallTime},
};
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

/// Nanoseconds this thread has run, as Linux counts them.
struct OnCpu;

impl Measurement for OnCpu {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    }

    fn end(&self, start: u64) -> u64 {
        self.start() - start
    }

    fn add(&self, a: &u64, b: &u64) -> u64 {
        a + b
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, ns: &u64) -> f64 {
        *ns as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn benches(c: &mut Criterion<OnCpu>) {
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

criterion_group! {
    name = all;
    config = Criterion::default().with_measurement(OnCpu);
    targets = benches
}
criterion_main!(all);
