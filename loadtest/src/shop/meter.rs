//! How busy the shop is and how long it takes, for whoever watches a load test.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Steps of a doubling: a time is known to 4.4 %.
const STEPS: f64 = 16.0;
/// From 1 µs to 2^26 µs, 67 s.
const BUCKETS: usize = 26 * STEPS as usize;

/// What a shop has done since it started; two readings make an interval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Microseconds since the start.
    pub at_us: u64,
    /// Requests at the shop now, whether or not somebody still waits for them.
    pub in_flight: u32,
    /// Sum over requests of the time they were at the shop so far, microseconds: over an interval, the mean in flight.
    pub in_flight_us: u64,
    /// The same of those that the pool's connections can work on: over an interval, how busy they were.
    pub busy_us: u64,
    /// Times at the shop, queue inside included, of requests that were worked on or waited in vain: how many in each step.
    pub times: Vec<u64>,
}

impl Reading {
    /// What happened since an earlier reading.
    pub fn since(&self, earlier: &Reading) -> Reading {
        let before = |i: usize| earlier.times.get(i).copied().unwrap_or(0);
        Reading {
            at_us: self.at_us.saturating_sub(earlier.at_us),
            in_flight: self.in_flight,
            in_flight_us: self.in_flight_us.saturating_sub(earlier.in_flight_us),
            busy_us: self.busy_us.saturating_sub(earlier.busy_us),
            times: self.times.iter().enumerate().map(|(i, n)| n.saturating_sub(before(i))).collect(),
        }
    }

    /// Time that a share of the requests took at most, milliseconds; `None` of none.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let all: u64 = self.times.iter().sum();
        let rank = ((all as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        let step = self.times.iter().position(|n| {
            below += n;
            below >= rank
        })?;
        Some(((step as f64 + 0.5) / STEPS).exp2() / 1_000.0)
    }

    /// Mean requests at the shop of an interval.
    pub fn mean_in_flight(&self) -> f64 {
        self.in_flight_us as f64 / self.at_us.max(1) as f64
    }

    /// Share of an interval that the connections were in use.
    pub fn utilisation(&self, pool: u32) -> f64 {
        self.busy_us as f64 / (self.at_us.max(1) as f64 * f64::from(pool.max(1)))
    }
}

/// Counts requests as they come and go.
#[derive(Debug)]
pub(super) struct Meter {
    pool: u32,
    start: Instant,
    /// Up to when it last moved.
    reading: Mutex<Reading>,
}

impl Meter {
    pub(super) fn new(pool: u32) -> Self {
        let reading = Reading { times: vec![0; BUCKETS], ..Reading::default() };
        Meter { pool, start: Instant::now(), reading: Mutex::new(reading) }
    }

    /// A request is there until the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Stay {
        self.moved(|r| r.in_flight += 1);
        Stay { meter: self.clone(), since: Instant::now(), counts: true }
    }

    pub(super) fn reading(&self) -> Reading {
        self.moved(|r| r.clone())
    }

    fn moved<T>(&self, change: impl FnOnce(&mut Reading) -> T) -> T {
        let mut r = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let now_us = self.start.elapsed().as_micros() as u64;
        let us = now_us.saturating_sub(r.at_us);
        r.in_flight_us += us * u64::from(r.in_flight);
        r.busy_us += us * u64::from(r.in_flight.min(self.pool));
        r.at_us = now_us;
        change(&mut r)
    }
}

/// A request at the shop.
#[derive(Debug)]
pub(super) struct Stay {
    meter: Arc<Meter>,
    since: Instant,
    counts: bool,
}

impl Stay {
    /// Turned away at the door: its time says nothing about the work.
    pub(super) fn turned_away(&mut self) {
        self.counts = false;
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let (took, counts) = (self.since.elapsed(), self.counts);
        self.meter.moved(|r| {
            r.in_flight -= 1;
            if counts {
                r.times[step(took)] += 1;
            }
        });
    }
}

fn step(took: Duration) -> usize {
    let us = (took.as_micros() as f64).max(1.0);
    ((us.log2() * STEPS) as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_and_requests_in_flight_are_those_of_the_interval() {
        let meter = Arc::new(Meter::new(2));
        let before = meter.reading();
        let mut stays: Vec<_> = (0..4).map(|_| meter.enter()).collect();
        stays.iter_mut().for_each(|s| s.since -= Duration::from_millis(20));
        stays.push(meter.enter());
        stays[4].turned_away();
        std::thread::sleep(Duration::from_millis(2));
        let during = meter.reading().since(&before);
        assert_eq!((during.in_flight, during.quantile_ms(0.5)), (5, None));
        assert!(during.mean_in_flight() > 2.0 && during.mean_in_flight() <= 5.0, "{during:?}");
        let share = during.utilisation(2) / during.mean_in_flight();
        assert!((share - 0.2).abs() < 0.05, "two of five are worked on, each all of a connection: {share}");
        drop(stays);
        let all = meter.reading().since(&before);
        assert_eq!((all.in_flight, all.times.iter().sum::<u64>()), (0, 4), "who is turned away takes no time");
        let p99 = all.quantile_ms(0.99).unwrap();
        assert!((20.0..60.0).contains(&p99), "{p99}");
    }

    #[test]
    fn a_time_is_known_to_a_twentieth() {
        for us in [1_u64, 90, 15_000, 58_300, 3_000_000, 900_000_000] {
            let mut r = Reading { times: vec![0; BUCKETS], ..Reading::default() };
            r.times[step(Duration::from_micros(us))] = 1;
            let found = r.quantile_ms(0.99).unwrap() * 1_000.0;
            let truth = us.min(67_000_000) as f64;
            assert!((found / truth - 1.0).abs() < 0.05, "{us}: {found}");
        }
    }
}
