//! What the shop's answers say about it, counted without a lock and drained once a second by the planner.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Counters of one policy's routes; the last lane is for visits without a route.
#[derive(Debug)]
pub struct ShopMeter {
    lanes: Box<[Lane]>,
}

#[derive(Debug, Default)]
struct Lane {
    completed: AtomicU32,
    errors: AtomicU32,
    timeouts: AtomicU32,
    ttfb_sum_us: AtomicU64,
    ttfb_sumsq_us2: AtomicU64,
    inside: AtomicU32,
    exempt: AtomicU32,
    sold: AtomicU32,
}

/// One answer (or none) of the shop.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShopAnswer {
    /// The route; `None` when no route matched.
    pub route: Option<usize>,
    /// From forwarding to the first byte.
    pub ttfb_us: u64,
    /// 5xx, a connection error or an unreadable answer.
    pub error: bool,
    /// No answer in time: overload, never a fast sample.
    pub timeout: bool,
    /// The visitor held a pass.
    pub inside: bool,
    /// The route is not filtered.
    pub exempt: bool,
    /// Units reported sold.
    pub sold: u32,
}

/// What one route's lane counted since the last drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneWindow {
    /// Answers, errors and timeouts included.
    pub completed: u32,
    /// 5xx, connection errors, unreadable answers.
    pub errors: u32,
    /// No answer in time.
    pub timeouts: u32,
    /// Sum of times to first byte over answers that were neither errors nor timeouts, µs.
    pub ttfb_sum_us: u64,
    /// Sum of their squares, µs².
    pub ttfb_sumsq_us2: u64,
    /// Of `completed`, with a pass.
    pub inside: u32,
    /// Of `completed`, on an unfiltered route.
    pub exempt: u32,
    /// Units reported sold.
    pub sold: u32,
}

impl ShopMeter {
    /// One lane a route and one for the rest.
    pub fn new(routes: usize) -> Self {
        ShopMeter { lanes: (0..=routes).map(|_| Lane::default()).collect() }
    }

    /// Counts one answer.
    pub fn record(&self, a: &ShopAnswer) {
        let last = self.lanes.len() - 1;
        let lane = &self.lanes[a.route.unwrap_or(last).min(last)];
        let add = |n: &AtomicU32, by: bool| n.fetch_add(u32::from(by), Ordering::Relaxed);
        add(&lane.completed, true);
        add(&lane.errors, a.error);
        add(&lane.timeouts, a.timeout);
        add(&lane.inside, a.inside);
        add(&lane.exempt, a.exempt);
        if !a.error && !a.timeout {
            // 2^26 µs are 67 s: the square fits 52 bits, so a second of 4,096 such answers fits 64.
            let us = a.ttfb_us.min(1 << 26);
            lane.ttfb_sum_us.fetch_add(us, Ordering::Relaxed);
            lane.ttfb_sumsq_us2.fetch_add(us * us, Ordering::Relaxed);
        }
        lane.sold.fetch_add(a.sold, Ordering::Relaxed);
    }

    /// Takes what was counted since the last call: one entry a route, the last for visits without one.
    pub fn drain(&self) -> Vec<LaneWindow> {
        let u32 = |n: &AtomicU32| n.swap(0, Ordering::Relaxed);
        let u64 = |n: &AtomicU64| n.swap(0, Ordering::Relaxed);
        let window = |l: &Lane| LaneWindow {
            completed: u32(&l.completed),
            errors: u32(&l.errors),
            timeouts: u32(&l.timeouts),
            ttfb_sum_us: u64(&l.ttfb_sum_us),
            ttfb_sumsq_us2: u64(&l.ttfb_sumsq_us2),
            inside: u32(&l.inside),
            exempt: u32(&l.exempt),
            sold: u32(&l.sold),
        };
        self.lanes.iter().map(window).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_and_errors_are_never_fast_samples() {
        let meter = ShopMeter::new(1);
        meter.record(&ShopAnswer { route: Some(0), ttfb_us: 100, inside: true, sold: 2, ..Default::default() });
        meter.record(&ShopAnswer { route: Some(0), ttfb_us: 1, error: true, ..Default::default() });
        meter.record(&ShopAnswer { route: Some(0), ttfb_us: 1, timeout: true, ..Default::default() });
        meter.record(&ShopAnswer { route: None, ttfb_us: 5, exempt: true, ..Default::default() });
        let lanes = meter.drain();
        let first = LaneWindow {
            completed: 3,
            errors: 1,
            timeouts: 1,
            ttfb_sum_us: 100,
            ttfb_sumsq_us2: 10_000,
            inside: 1,
            exempt: 0,
            sold: 2,
        };
        assert_eq!(lanes[0], first);
        assert_eq!((lanes[1].completed, lanes[1].exempt), (1, 1));
        assert_eq!(meter.drain()[0], LaneWindow::default());
    }
}
