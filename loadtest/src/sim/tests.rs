//! Hundreds of worlds, and what a broken gate would do in them. `TIDEGATE_SEEDS=20000` runs more of them.
#![allow(clippy::unwrap_used)]

use tidegate_filters::{plan::Admission, units::Span};

use super::*;
use crate::{
    checkers::judge,
    crowd::{Scenario, Wave},
};

const SEEDS: u64 = 300;

pub(super) fn seeds() -> u64 {
    std::env::var("TIDEGATE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS)
}

/// Judges many seeds on all cores.
fn judge_seeds(n: u64) {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    std::thread::scope(|s| {
        let hs: Vec<_> = (0..threads)
            .map(|t| {
                s.spawn(move || {
                    for seed in (t..n).step_by(threads as usize) {
                        let outcome = run(&random_world(seed), seed);
                        let violations = judge(&outcome.log);
                        let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
                        assert!(list.is_empty(), "`tidegate-loadtest sim random --seeds {seed}` replays:\n{}", list.join("\n"));
                    }
                })
            })
            .collect();
        for h in hs {
            h.join().unwrap();
        }
    });
}

#[test]
fn every_promise_holds_in_every_world() {
    judge_seeds(seeds());
}

#[test]
fn the_same_seed_gives_the_same_log() {
    for seed in 0..20 {
        let (a, b) = (run(&random_world(seed), seed), run(&random_world(seed), seed));
        assert!(a.log.events == b.log.events, "seed {seed}");
        assert_eq!((a.log.hash(), a.requests, a.sold), (b.log.hash(), b.requests, b.sold), "seed {seed}");
    }
    let (a, b) = (run(&random_world(1), 1), run(&random_world(1), 2));
    assert_ne!(a.log.hash(), b.log.hash(), "another seed is another sale");
}

/// Shops whose checkout races with itself and forgets answers: as many orders as units with holds, more without.
#[test]
fn nothing_is_oversold_with_holds_and_much_without() {
    let (mut with, mut without, mut worlds) = (0, 0, 0);
    for seed in 0..seeds().min(200) {
        let mut world = random_world(seed);
        if world.policy.routes.iter().all(|r| r.needs.is_none()) {
            continue;
        }
        worlds += 1;
        // So few that they run out in most sales, and a payment provider that takes its time.
        (world.shop.stock, world.shop.checkout_ms) = (4, 800);
        world.policy.sales.iter_mut().for_each(|s| s.stock = Some(4));
        world.upheavals.retain(|(_, u)| !matches!(u, Upheaval::Reload(_)));
        with += run(&world, seed).oversold;
        world.policy.routes.iter_mut().for_each(|r| r.needs = None);
        without += run(&world, seed).oversold;
    }
    println!("{worlds} sales: {with} units oversold with holds, {without} without");
    assert!(worlds > 20 && without > 30, "{worlds} worlds, {without} oversold");
    assert_eq!(with, 0);
}

/// The builtin drop with twice as many people.
#[test]
fn a_whole_sale_of_three_thousand() {
    let mut scenario = Scenario::builtin("drop-day").unwrap();
    scenario.people.count = 3_000;
    scenario.ends_at = tidegate_filters::units::Span::secs(180);
    let mut world = World::drop(&scenario, ShopModel::default());
    world.habits = Habits::default();
    let outcome = run(&world, 1);
    let violations = judge(&outcome.log);
    assert!(violations.is_empty(), "{}", violations[0]);
    assert!(outcome.visitors >= 3_000);
    assert_eq!((outcome.sold, outcome.oversold), (500, 0), "everything is sold, and nothing twice");
    assert!(outcome.units_to_people > 250, "most units go to people: {}", outcome.units_to_people);
}

/// Whatever the planner is told instead of the forecast: as many units sold as with `measured`, less one in a hundred.
#[test]
fn a_lying_forecast_costs_nothing() {
    let orders = |admission: Admission, lie: Lie, seed: u64| {
        let mut world = busy(seed);
        world.lie = lie;
        world.policy.rooms.iter_mut().for_each(|r| r.admission = admission);
        let outcome = run(&world, seed);
        assert!(judge(&outcome.log).is_empty(), "seed {seed}, {lie:?}: {}", judge(&outcome.log)[0]);
        outcome.sold
    };
    let seeds = 0..(seeds() / 30).max(8);
    let measured: u32 = seeds.clone().map(|s| orders(Admission::Measured, Lie::None, s)).sum();
    assert!(measured > 500, "{measured}");
    for lie in [Lie::None].into_iter().chain(Lie::ALL) {
        let sold: u32 = seeds.clone().map(|s| orders(Admission::Forecast, lie, s)).sum();
        println!("{lie:?}: {sold} sold, {measured} with `measured`");
        assert!(f64::from(sold) >= 0.99 * f64::from(measured), "{lie:?}: {sold} sold, {measured} with `measured`");
    }
}

/// Nobody who waits for one of the last units waits longer than with `measured`, and as many are sold.
#[test]
fn a_forecast_does_not_draw_out_the_end_of_a_sale() {
    let seeds = 0..(seeds() / 30).max(6);
    let ended = |admission: Admission| {
        let sale = |seed: u64| {
            let mut scenario = Scenario::builtin("drop-day").unwrap();
            scenario.ends_at = Span::secs(240);
            let mut world = World::drop(&scenario, ShopModel::default());
            world.policy.rooms.iter_mut().for_each(|r| r.admission = admission);
            let outcome = run(&world, seed);
            assert!(judge(&outcome.log).is_empty(), "seed {seed}: {}", judge(&outcome.log)[0]);
            (u64::from(outcome.sold), outcome.sold_last_ms)
        };
        seeds.clone().map(sale).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    };
    let (measured, forecast) = (ended(Admission::Measured), ended(Admission::Forecast));
    println!("measured {measured:?}, forecast {forecast:?}: units, milliseconds to the last");
    assert!(forecast.0 >= measured.0 && forecast.1 as f64 <= 1.05 * measured.1 as f64, "{measured:?} {forecast:?}");
}

/// Ten minutes of more people than a small shop can take, in waves; the stock lasts to the end in half of the worlds.
fn busy(seed: u64) -> World {
    let mut scenario = Scenario::builtin("drop-day").unwrap();
    scenario.people.count = 1_500;
    scenario.opens_at = Span::secs(10);
    scenario.ends_at = Span::secs(400);
    let wave = |from: u64, to: u64, share: f64| Wave { share, from: Span::secs(from), to: Span::secs(to) };
    let at = 60 + 37 * (seed % 5);
    scenario.people.arrivals = vec![wave(0, 390, 2.0), wave(at, at + 20, 1.0), wave(at + 120, at + 123, 1.0)];
    let stock = if seed.is_multiple_of(2) { 100_000 } else { 300 };
    let mut world = World::drop(&scenario, ShopModel { stock, ..ShopModel::default() });
    world.policy.sales.iter_mut().for_each(|s| s.stock = Some(u64::from(stock)));
    if seed.is_multiple_of(3) {
        world.upheavals = vec![(150_000, Upheaval::ShopSlower(3.0)), (190_000, Upheaval::ShopSlower(1.0))];
    }
    world
}
