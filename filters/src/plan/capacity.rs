//! What the shop can take: the cost rate behind the limit on requests in flight. From live answers, no probes that pin
//! concurrency.

use super::{
    CapacitySettings, InFlightSettings,
    limit::{Limit, TOLERANCE},
    window::{RouteWindow, ShopWindow},
};

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
/// What the shop was seen to take counts for less each second: a quarter of an hour of memory.
const PROVEN_KEEP: f64 = 0.999;
/// The believed capacity moves by this share a second towards what a full shop completes. That counts only while it is full, be it
/// a tenth of a second: a burst fills it for a moment of a second in which it completes little.
const LEARN: f64 = 0.2;
/// It grows so much a second while the shop takes what it is given as if it were alone: doubled in 14 s,
const GROWS_UNHURT: f64 = 1.05;
/// or, below nine tenths of what it took before it was in trouble, in 3 s;
const GROWS_BACK: f64 = 1.25;
const BACK_BELOW: f64 = 0.9;
/// and so much otherwise.
const GROWS: f64 = 1.01;
/// So much a second while it is full and not slowed: the limit grows, and what so small a limit lets through is less than it takes. At
/// most a tenth too much: c = 1.02·(c + 0.2·(C − c)) for c = 1.11·C.
const GROWS_FULL: f64 = 1.02;
/// Requests that the cost unit is the average of, at most: a few minutes of a small shop.
const UNIT_OF: f64 = 50_000.0;

/// The estimator.
#[derive(Clone, Debug)]
pub struct Capacity {
    floor: f64,
    ceiling: f64,
    limit: Limit,
    /// The second so far.
    second: ShopWindow,
    /// Seconds of it in which the shop was full.
    full_s: f64,
    /// Cost units a second; `None` until the shop was full once, at a limit that was too wide once.
    learnt: Option<f64>,
    /// Seconds it was learnt from.
    learnt_s: f64,
    /// The most of a second that went well, lately.
    proven: f64,
    /// The same, whatever went wrong since: what it will take again once it has recovered.
    before: f64,
    /// Unloaded time to first byte by route, microseconds.
    unloaded_us: Vec<Option<f64>>,
    /// Unloaded time of the average request, microseconds: the cost unit; and of how many.
    unit_us: Option<f64>,
    unit_of: f64,
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

/// What a second was, as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Second {
    /// All that was looked at in it.
    pub window: ShopWindow,
    /// Its cost rates.
    pub rates: CostRates,
    /// Cost units of now that one of before is.
    pub unit_was: f64,
}

impl Capacity {
    /// Knows nothing but the operator's bounds.
    pub fn new(capacity: &CapacitySettings, in_flight: &InFlightSettings) -> Self {
        Capacity {
            floor: capacity.floor.as_per_s(),
            ceiling: capacity.ceiling.as_per_s(),
            limit: Limit::new(in_flight.max),
            second: ShopWindow::default(),
            full_s: 0.0,
            learnt: None,
            learnt_s: 0.0,
            proven: 0.0,
            before: 0.0,
            unloaded_us: Vec::new(),
            unit_us: None,
            unit_of: 0.0,
            healthy: true,
        }
    }

    /// Looks at a part of a second: moves the limit, and learns from a full shop.
    pub fn look(&mut self, w: &ShopWindow) {
        self.second.extend(w);
        self.healthy = w.healthy;
        // What it takes once it is back is not learnt while it is down.
        let Some(w) = self.limit.ripe(w).filter(|w| w.healthy && w.completed() > 0) else { return };
        let Some(slowdown) = self.slowdown(&w) else { return };
        if !self.limit.judge(&w, slowdown) {
            return;
        }
        self.full_s += w.span_s();
        if self.limit.is_found() {
            let rate = self.cost_rates(&w).all;
            self.learnt_s += w.span_s();
            // The mean at first: a tenth of a second is a handful of answers.
            self.learn(rate, (1.0 - (1.0 - LEARN).powf(w.span_s())).max(w.span_s() / self.learnt_s));
            if slowdown <= TOLERANCE {
                self.learnt = self.learnt.map(|c| c * GROWS_FULL.powf(w.span_s().min(1.0)));
            }
        }
    }

    /// Learns from the second that was looked at since the last call.
    pub fn second(&mut self) -> Second {
        let w = std::mem::take(&mut self.second);
        let full_s = std::mem::take(&mut self.full_s);
        let before_us = self.unit_us;
        self.learn_unloaded(&w);
        let unit_was = before_us.zip(self.unit_us).map_or(1.0, |(before, now)| before / now.max(1.0));
        self.learnt = self.learnt.map(|c| c * unit_was);
        (self.proven, self.before) = (self.proven * unit_was, self.before * unit_was);
        let rates = self.cost_rates(&w);
        self.proven = (self.proven * PROVEN_KEEP).max(rates.all);
        self.before = (self.before * PROVEN_KEEP).max(rates.all);
        let (failed, failing) = (w.failed(), w.failing.count_ones());
        let answered = w.completed().saturating_add(failed);
        let failed = if failing < FAILING_FEW { failed.min(failing) } else { failed };
        if !w.healthy {
            // What it takes once it is back is not learnt from that.
        } else if failed >= FAILING_MIN && f64::from(failed) > ERRORS_MAX * f64::from(answered) {
            self.proven = rates.all;
            self.limit.shrink(0.7);
            self.learn(rates.all, 0.5);
        } else if full_s == 0.0
            && let Some(c) = self.learnt
        {
            // Not full: what was seen is a lower bound, and a shop that recovered must be found out. Soon, where it takes what it
            // is given as if it were alone: the in-flight limit stands before it.
            let unhurt = rates.all >= UNHURT_FROM * c && self.slowdown(&w).is_none_or(|s| s <= UNHURT);
            let grows = match unhurt {
                true if c < BACK_BELOW * self.before => GROWS_BACK,
                true => GROWS_UNHURT,
                false => GROWS,
            };
            self.learnt = Some((c * grows).max(rates.all));
        }
        Second { window: w, rates, unit_was }
    }

    /// Requests in flight allowed now.
    pub fn limit(&self) -> u32 {
        self.limit.get()
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
            self.unit_of = (self.unit_of + n).min(UNIT_OF);
            self.unit_us = Some(old + (n / self.unit_of).min(1.0) * (seen - old));
        }
    }

    fn cost_rates(&self, w: &ShopWindow) -> CostRates {
        let unit = self.unit_us.unwrap_or(1.0).max(1.0);
        let per_s = 1.0 / w.span_s();
        let sum = |count: fn(&RouteWindow) -> u32| {
            let cost = |(r, u): (&RouteWindow, &Option<f64>)| f64::from(count(r)) * u.unwrap_or(unit) / unit;
            w.routes.iter().zip(&self.unloaded_us).map(cost).sum::<f64>() * per_s
        };
        CostRates { all: sum(|r| r.completed), inside: sum(|r| r.inside) }
    }

    /// Measured over unloaded time, weighted by cost; `None` before that is known.
    fn slowdown(&self, w: &ShopWindow) -> Option<f64> {
        let (mut took, mut unloaded) = (0.0, 0.0);
        for (r, u) in w.routes.iter().zip(&self.unloaded_us) {
            if let Some(u) = u {
                took += r.ttfb_sum_us as f64;
                unloaded += f64::from(r.completed) * u;
            }
        }
        (unloaded > 0.0).then(|| took / unloaded)
    }
}
