//! What the shop can take: the limit on requests in flight, and the cost rate behind it. From live answers, no probes that
//! pin concurrency.

use super::{CapacitySettings, InFlightMax, InFlightSettings};

/// What one second of one route showed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RouteWindow {
    /// Answers with a status below 500.
    pub completed: u32,
    /// Of those, visits with a pass.
    pub inside: u32,
    /// Answers of 500 and above, and broken connections.
    pub errors: u32,
    /// No first byte in time.
    pub timeouts: u32,
    /// Sum of the times to first byte of `completed`, microseconds.
    pub ttfb_sum_us: u64,
}

/// What one second at the shop showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShopWindow {
    /// Length, milliseconds.
    pub span_ms: u64,
    /// By route index.
    pub routes: Vec<RouteWindow>,
    /// How many visitors got errors or no answer, as far as 64 can be told apart.
    pub failing_visitors: u32,
    /// Most requests in flight at one time.
    pub in_flight_max: u32,
    /// A request had to wait for the in-flight limit.
    pub limit_was_binding: bool,
    /// Requests that it turned away, at once or after waiting in vain: asked of the shop, and not answered by it.
    pub turned_away: u32,
    /// Some upstream is healthy.
    pub healthy: bool,
}

/// Which of the 64 that [`ShopWindow::failing_visitors`] tells apart somebody with this hash is, as a bit.
pub fn failing_bit(whose: u64) -> u64 {
    // The high bits of a product are spread well, whatever the hash.
    1 << (whose.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
}

/// The in-flight limit never goes below this: one slow request must not shut everybody out.
pub const LIMIT_MIN: f64 = 2.0;
/// Nor above.
pub const LIMIT_MAX: f64 = 10_000.0;
/// In-flight limit before anything was measured: what a small shop takes; a larger one is found out in seconds.
pub const LIMIT_FIRST: f64 = 8.0;
/// Until the limit was too wide once it grows by this each second.
const SEARCH: f64 = 1.5;
/// Answers slower than this times the unloaded time mean that requests queue inside the shop.
const TOLERANCE: f64 = 1.5;
/// Answers no slower than this times the unloaded time come from a shop that has room,
const UNHURT: f64 = 1.2;
/// when at least this share of the believed capacity was in use.
const UNHURT_FROM: f64 = 0.6;
/// More errors than this share are overload,
const ERRORS_MAX: f64 = 0.05;
/// where so many visitors at least got them; of fewer than these each counts once a second. One visitor who asks for a broken
/// page again and again must not close the gate for everybody.
const FAILING_MIN: u32 = 3;
const FAILING_FEW: u32 = 16;
/// The limit shrinks to this share at once at most: where 16 requests take four times as long as one, 8 are tried next.
const SHRINK: f64 = 0.5;
/// What the shop was seen to take counts for less each second: a quarter of an hour of memory.
const PROVEN_KEEP: f64 = 0.999;
/// The believed capacity moves by this share towards what a full shop was seen to take,
const LEARN: f64 = 0.2;
/// which is the best of so many seconds: a burst fills the shop for a moment of a second in which it completes little.
const LATELY_S: usize = 3;
/// It grows so much a second while the shop takes what it is given as if it were alone: doubled in 14 s,
const GROWS_UNHURT: f64 = 1.05;
/// or, below nine tenths of what it took before it was in trouble, in 3 s;
const GROWS_BACK: f64 = 1.25;
const BACK_BELOW: f64 = 0.9;
/// and so much otherwise.
const GROWS: f64 = 1.01;

/// The estimator.
#[derive(Clone, Debug)]
pub struct Capacity {
    floor: f64,
    ceiling: f64,
    fixed_limit: Option<u32>,
    limit: f64,
    /// The limit was too wide once: its order of magnitude is known.
    found: bool,
    /// Cost units a second; `None` until the limit was binding once.
    learnt: Option<f64>,
    /// The most of a second that went well, lately.
    proven: f64,
    /// The same, whatever went wrong since: what it will take again once it has recovered.
    before: f64,
    /// Cost rates of the last seconds, the newest first.
    lately: [f64; LATELY_S],
    /// Unloaded time to first byte by route, microseconds.
    unloaded_us: Vec<Option<f64>>,
    /// Unloaded time of the average request, microseconds: the cost unit.
    unit_us: Option<f64>,
    healthy: bool,
}

/// Cost rates of a window, in cost units a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CostRates {
    /// All completed requests.
    pub all: f64,
    /// Those with a pass.
    pub inside: f64,
}

impl Capacity {
    /// Knows nothing but the operator's bounds.
    pub fn new(capacity: &CapacitySettings, in_flight: &InFlightSettings) -> Self {
        let fixed_limit = match in_flight.max {
            InFlightMax::Auto => None,
            InFlightMax::Fixed(n) => Some(n),
        };
        Capacity {
            floor: capacity.floor.as_per_s(),
            ceiling: capacity.ceiling.as_per_s(),
            fixed_limit,
            limit: LIMIT_FIRST,
            found: false,
            learnt: None,
            proven: 0.0,
            before: 0.0,
            lately: [0.0; LATELY_S],
            unloaded_us: Vec::new(),
            unit_us: None,
            healthy: true,
        }
    }

    /// Learns from a second; gives its cost rates.
    pub fn observe(&mut self, w: &ShopWindow) -> CostRates {
        self.healthy = w.healthy;
        let completed: u32 = w.routes.iter().map(|r| r.completed).sum();
        let failed: u32 = w.routes.iter().map(|r| r.errors + r.timeouts).sum();
        self.learn_unloaded(w);
        let rates = self.cost_rates(w);
        let answered = completed + failed;
        let failed = if w.failing_visitors < FAILING_FEW { failed.min(w.failing_visitors) } else { failed };
        let limit = f64::from(self.limit());
        let binding = w.limit_was_binding || f64::from(w.in_flight_max) >= 0.9 * limit;
        self.proven = (self.proven * PROVEN_KEEP).max(rates.all);
        self.before = (self.before * PROVEN_KEEP).max(rates.all);
        self.lately.rotate_right(1);
        self.lately[0] = rates.all;
        let best = self.lately.iter().copied().fold(0.0, f64::max);
        if !w.healthy {
            // Nothing is let in while it is down, and what it takes once it is back is not learnt from that.
        } else if failed >= FAILING_MIN && f64::from(failed) > ERRORS_MAX * f64::from(answered) {
            self.proven = rates.all;
            self.found = true;
            self.limit *= 0.7;
            self.learn(rates.all, 0.5);
        } else if binding && completed > 0 {
            let slowdown = self.slowdown(w);
            if slowdown > TOLERANCE {
                self.found = true;
                self.limit *= (TOLERANCE / slowdown).max(SHRINK);
                self.learn(best, LEARN);
            } else {
                // Room left: widen by about a square root, the usual step of gradient limiters; before that search faster.
                let step = (self.limit.sqrt() / 2.0).max(1.0);
                self.limit = if self.found { self.limit + step } else { (self.limit * SEARCH).max(self.limit + step) };
                self.learnt = self.learnt.map(|c| c.max(rates.all) * 1.03);
            }
        } else if let Some(c) = self.learnt {
            // Not binding: what was seen is a lower bound, and a shop that recovered must be found out. Soon, where it takes
            // what it is given as if it were alone: the in-flight limit stands before it.
            let unhurt = rates.all >= UNHURT_FROM * c && self.slowdown(w) <= UNHURT;
            let grows = match unhurt {
                true if c < BACK_BELOW * self.before => GROWS_BACK,
                true => GROWS_UNHURT,
                false => GROWS,
            };
            self.learnt = Some((c * grows).max(rates.all));
        }
        self.limit = self.limit.clamp(LIMIT_MIN, LIMIT_MAX);
        rates
    }

    /// Requests in flight allowed now.
    pub fn limit(&self) -> u32 {
        self.fixed_limit.unwrap_or(self.limit as u32)
    }

    /// Cost units a second the shop can take now: between the operator's bounds, never more than the limit lets through (by
    /// Little's law the limit over the unloaded time), and 0 while it is down.
    pub fn per_s(&self) -> f64 {
        if !self.healthy {
            return 0.0;
        }
        let through = self.unit_us.map_or(f64::INFINITY, |us| f64::from(self.limit()) * 1e6 / us.max(1.0));
        self.learnt.unwrap_or(self.ceiling).min(through).clamp(self.floor.min(self.ceiling), self.ceiling)
    }

    /// Cost units a second that it was seen to take lately, and would take again; at most [`Capacity::per_s`].
    pub fn proven_per_s(&self) -> f64 {
        self.proven.min(self.per_s())
    }

    /// Whether the capacity was measured, not merely assumed from the ceiling.
    pub fn is_measured(&self) -> bool {
        self.learnt.is_some()
    }

    fn learn(&mut self, seen: f64, weight: f64) {
        let old = self.learnt.unwrap_or(seen);
        self.learnt = Some(old + weight * (seen - old));
    }

    /// The unloaded time of a route follows its fastest seconds down quickly and drifts up slowly.
    fn learn_unloaded(&mut self, w: &ShopWindow) {
        self.unloaded_us.resize(w.routes.len().max(self.unloaded_us.len()), None);
        let light = f64::from(w.in_flight_max) <= 0.5 * f64::from(self.limit());
        for (r, unloaded) in w.routes.iter().zip(&mut self.unloaded_us).filter(|(r, _)| r.completed > 0) {
            let mean = r.ttfb_sum_us as f64 / f64::from(r.completed);
            *unloaded = Some(match *unloaded {
                None => mean,
                Some(u) if mean < u => u + 0.5 * (mean - u),
                Some(u) if light => u + 0.1 * (mean - u),
                // 0.1 % a second: a shop that got slower for good is believed after some minutes.
                Some(u) => (u * 1.001).min(mean),
            });
        }
        let (mut sum, mut n) = (0.0, 0.0);
        for (r, unloaded) in w.routes.iter().zip(&self.unloaded_us) {
            sum += f64::from(r.completed) * unloaded.unwrap_or(0.0);
            n += f64::from(r.completed);
        }
        if n > 0.0 {
            let seen = sum / n;
            let old = self.unit_us.unwrap_or(seen);
            self.unit_us = Some(old + (n / (n + 500.0)) * (seen - old));
        }
    }

    fn cost_rates(&self, w: &ShopWindow) -> CostRates {
        let unit = self.unit_us.unwrap_or(1.0).max(1.0);
        let per_s = 1000.0 / w.span_ms.max(1) as f64;
        let sum = |count: fn(&RouteWindow) -> u32| {
            let cost = |(r, u): (&RouteWindow, &Option<f64>)| f64::from(count(r)) * u.unwrap_or(unit) / unit;
            w.routes.iter().zip(&self.unloaded_us).map(cost).sum::<f64>() * per_s
        };
        CostRates { all: sum(|r| r.completed), inside: sum(|r| r.inside) }
    }

    /// Measured over unloaded time, weighted by cost.
    fn slowdown(&self, w: &ShopWindow) -> f64 {
        let (mut took, mut unloaded) = (0.0, 0.0);
        for (r, u) in w.routes.iter().zip(&self.unloaded_us) {
            took += r.ttfb_sum_us as f64;
            unloaded += f64::from(r.completed) * u.unwrap_or(0.0);
        }
        if unloaded > 0.0 { took / unloaded } else { 1.0 }
    }
}
