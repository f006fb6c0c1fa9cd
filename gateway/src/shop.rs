//! What the shop's answers say about it, counted without a lock and drained ten times a second by the planner.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tidegate_filters::plan::{RouteWindow, failing_bit};

/// Counters of one policy's routes; the last lane is for visits without a route.
#[derive(Debug)]
pub struct ShopMeter {
    lanes: Box<[Lane]>,
    /// A bit for each visitor that got an error or no answer, 64 of them told apart.
    failing: AtomicU64,
}

#[derive(Debug, Default)]
struct Lane {
    completed: AtomicU32,
    inside: AtomicU32,
    errors: AtomicU32,
    timeouts: AtomicU32,
    ttfb_sum_us: AtomicU64,
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
    /// Whose it was, as a hash: of the cookie, else of the network.
    pub whose: u64,
}

impl ShopMeter {
    /// One lane a route and one for the rest.
    pub fn new(routes: usize) -> Self {
        ShopMeter { lanes: (0..=routes).map(|_| Lane::default()).collect(), failing: AtomicU64::new(0) }
    }

    /// Counts one answer. Errors and timeouts are never samples of speed.
    pub fn record(&self, a: &ShopAnswer) {
        let last = self.lanes.len() - 1;
        let lane = &self.lanes[a.route.unwrap_or(last).min(last)];
        let one_more = |n: &AtomicU32| n.fetch_add(1, Ordering::Relaxed);
        if a.timeout || a.error {
            self.failing.fetch_or(failing_bit(a.whose), Ordering::Relaxed);
        }
        if a.timeout {
            one_more(&lane.timeouts);
        } else if a.error {
            one_more(&lane.errors);
        } else {
            one_more(&lane.completed);
            if a.inside {
                one_more(&lane.inside);
            }
            lane.ttfb_sum_us.fetch_add(a.ttfb_us, Ordering::Relaxed);
        }
    }

    /// The visitors who got errors or no answer since the last call, a bit each.
    pub fn drain_failing(&self) -> u64 {
        self.failing.swap(0, Ordering::Relaxed)
    }

    /// Takes what was counted since the last call: one entry a route, the last for visits without one.
    pub fn drain(&self) -> Vec<RouteWindow> {
        let u32 = |n: &AtomicU32| n.swap(0, Ordering::Relaxed);
        let window = |l: &Lane| RouteWindow {
            completed: u32(&l.completed),
            inside: u32(&l.inside),
            errors: u32(&l.errors),
            timeouts: u32(&l.timeouts),
            ttfb_sum_us: l.ttfb_sum_us.swap(0, Ordering::Relaxed),
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
        meter.record(&ShopAnswer { route: Some(0), ttfb_us: 100, inside: true, ..Default::default() });
        meter.record(&ShopAnswer { route: Some(0), ttfb_us: 1, error: true, inside: true, ..Default::default() });
        meter.record(&ShopAnswer { route: Some(0), ttfb_us: 1, timeout: true, ..Default::default() });
        meter.record(&ShopAnswer { route: None, ttfb_us: 5, ..Default::default() });
        let lanes = meter.drain();
        assert_eq!(lanes[0], RouteWindow { completed: 1, inside: 1, errors: 1, timeouts: 1, ttfb_sum_us: 100 });
        assert_eq!(lanes[1].completed, 1);
        assert_eq!(meter.drain()[0], RouteWindow::default());
        for whose in [7, 7, 7, 8, 7] {
            meter.record(&ShopAnswer { error: true, whose, ..Default::default() });
        }
        assert_eq!((meter.drain_failing().count_ones(), meter.drain_failing()), (3, 0), "7, 8, and nobody of before");
    }
}
