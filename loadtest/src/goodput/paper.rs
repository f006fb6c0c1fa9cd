//! The same cells in virtual time, on a shop of paper: the gate's planner against one crowd a seed, and nothing of a machine in
//! the figures.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Serialize;

use super::{
    cell::{in_flight_settles, refill_settles},
    load::{Load, Timing},
};
use crate::{
    checkers::{What, judge},
    sim::{Habits, ShopModel, Stay, World, contest::p99_ms, run},
};

/// Length of a cell, milliseconds: about that of a live one of ten minutes for all.
const CELL_MS: u64 = 25_000;
/// Orders a second that four connections take: four pages of 15 ms and a checkout of 30 ms each.
const ORDERS_PER_S: f64 = 4.0 / (4.0 * 0.015 + 0.030);
/// 99th percentile of the time at the unloaded shop, milliseconds: a fifth of the requests are checkouts, which take 21 to 39 ms,
/// evenly; one in twenty of those takes longer.
const UNLOADED_P99_MS: f64 = 39.0 - 18.0 / 20.0;
/// In flight is looked at as often as live, milliseconds.
const LOOK_MS: u64 = 250;

/// Figures of one cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PaperCell {
    /// Orders over those the shop takes.
    pub orders_ratio: f64,
    /// 99th percentile of the time at the shop over that of an unloaded one.
    pub p99_ratio: f64,
    /// After a step, seconds until the requests in flight had settled.
    pub settled_in_flight_s: Option<f64>,
    /// After a step, seconds until the refill had.
    pub settled_refill_s: Option<f64>,
    /// Promises that were broken, in words.
    pub broken: Vec<String>,
}

/// A load before the gate, by `admission: forecast` or `measured`. The same seed is the same cell.
pub fn paper_cell(load: Load, admission: &str, seed: u64) -> Option<PaperCell> {
    let timing = Timing::of(CELL_MS);
    let scenario = load.scenario(ORDERS_PER_S, timing);
    let policy = super::tier::policy(local(1), local(2), "admin.token".as_ref(), admission, local(3));
    let policy = tidegate_config::parse(&policy, "paper.yaml").ok()?.policy;
    let shop = ShopModel { stock: 1_000_000, ..ShopModel::default() };
    let mut world = World::new(&scenario, policy.pipeline_settings(), shop);
    world.habits = Habits::default();
    let outcome = run(&world, seed);
    let (from, to) = (timing.measured_from_ms(load), timing.ends_ms());
    let inside = |s: &&Stay| (from..to).contains(&(done_us(s) / 1_000));
    let orders = outcome.stays.iter().filter(inside).filter(|s| s.ordered).count() as f64;
    let times = outcome.stays.iter().filter(inside).map(|s| s.took_us).collect();
    let step = load.steps_at_ms(timing);
    let refills = outcome.log.events.iter().filter_map(|e| match e.what {
        What::Plan { refill_per_s, .. } => Some((e.at_us / 1_000, refill_per_s)),
        _ => None,
    });
    let refills: Vec<(u64, f64)> = refills.filter(|(at, _)| (from..=to).contains(at)).collect();
    let in_flight = in_flight(&outcome.stays, from, to);
    Some(PaperCell {
        orders_ratio: orders / (ORDERS_PER_S * (to - from) as f64 / 1_000.0),
        p99_ratio: p99_ms(times) / UNLOADED_P99_MS,
        settled_in_flight_s: step.and_then(|at| in_flight_settles(&in_flight, at)),
        settled_refill_s: step.and_then(|at| refill_settles(&refills, at)),
        broken: judge(&outcome.log).iter().map(ToString::to_string).collect(),
    })
}

/// Nobody listens there.
fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn done_us(s: &Stay) -> u64 {
    s.from_us + u64::from(s.took_us)
}

/// Mean requests at the shop until a time, milliseconds.
fn in_flight(stays: &[Stay], from_ms: u64, to_ms: u64) -> Vec<(u64, f64)> {
    let looks = (to_ms - from_ms) / LOOK_MS;
    let mut sums_us = vec![0; looks as usize];
    for s in stays {
        for (i, sum) in sums_us.iter_mut().enumerate() {
            let (begun, ended) = ((from_ms + i as u64 * LOOK_MS) * 1_000, (from_ms + (i as u64 + 1) * LOOK_MS) * 1_000);
            *sum += done_us(s).min(ended).saturating_sub(s.from_us.max(begun));
        }
    }
    let mean = |(i, us): (usize, u64)| (from_ms + (i as u64 + 1) * LOOK_MS, us as f64 / (LOOK_MS as f64 * 1_000.0));
    sums_us.into_iter().enumerate().map(mean).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What is aimed at live, in virtual time, for 19 seeds in 20 where nothing else is said. Orders cannot be 95 % after a step of 13 s: at its
    /// beginning 22 people a second are inside and at its end 44, for four to five seconds each and half way through on average, so
    /// the work of about 50 orders of 577 goes into those who are not done. A shop that is always busy completes 91 %.
    #[test]
    fn a_step_settles_within_what_is_aimed_at() {
        for admission in ["measured", "forecast"] {
            let cells: Vec<PaperCell> = (0..40).map(|seed| paper_cell(Load::Step, admission, seed).unwrap()).collect();
            assert!(cells.iter().all(|c| c.broken.is_empty()), "{cells:?}");
            let good = |aim: &dyn Fn(&PaperCell) -> bool| cells.iter().filter(|c| aim(c)).count();
            assert!(good(&|c| c.settled_in_flight_s.is_some_and(|s| s <= 1.0)) >= 38, "{cells:?}");
            // Missed by a second in one cell of eight: who was told to wait asks again after two seconds at the soonest, so those
            // called in the first seconds come all at once.
            assert!(good(&|c| c.settled_refill_s.is_some_and(|s| s <= 5.0)) >= 32, "{cells:?}");
            assert!(good(&|c| c.settled_refill_s.is_some_and(|s| s <= 6.0)) >= 38, "{cells:?}");
            assert!(good(&|c| c.p99_ratio <= 1.5) >= 38, "{cells:?}");
            assert!(good(&|c| c.orders_ratio >= 0.88) >= 38, "{cells:?}");
        }
    }

    #[test]
    fn as_many_are_served_as_the_shop_takes() {
        for load in [Load::Times(2), Load::Times(4), Load::Times(10)] {
            let cells: Vec<PaperCell> = (0..10).map(|seed| paper_cell(load, "measured", seed).unwrap()).collect();
            let orders = cells.iter().map(|c| c.orders_ratio).sum::<f64>() / 10.0;
            assert!(orders >= 0.95 && cells.iter().all(|c| c.p99_ratio <= 1.5), "{load:?}: {cells:?}");
        }
    }

    #[test]
    fn the_same_seed_is_the_same_cell() {
        let cell = |seed| paper_cell(Load::Step, "forecast", seed);
        assert!(cell(3).is_some() && cell(3) == cell(3) && cell(3) != cell(4));
        assert_eq!(paper_cell(Load::Step, "somehow", 3), None);
    }
}
