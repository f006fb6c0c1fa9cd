//! The limit on requests in flight. It moves as soon as enough answers have come to tell, many times a second at a quick shop:
//! a crowd that comes from one second to the next fills a shop in a tenth of a second.

use super::{InFlightMax, window::ShopWindow};

/// The limit never goes below this: one slow request must not shut everybody out.
pub const LIMIT_MIN: f64 = 2.0;
/// Nor above.
pub const LIMIT_MAX: f64 = 10_000.0;
/// Before anything was measured: what a small shop takes; a larger one is found out in seconds.
pub const LIMIT_FIRST: f64 = 8.0;
/// Until the limit was too wide once it grows by this each time.
const SEARCH: f64 = 1.5;
/// Answers slower than this times the unloaded time mean that requests queue inside the shop.
pub(super) const TOLERANCE: f64 = 1.5;
/// The limit shrinks to this share at once at most: where 16 requests take four times as long as one, 8 are tried next.
const SHRINK: f64 = 0.5;
/// The limit was tried out, and the shop full, where on average this share of it was in flight. That it was reached for a moment
/// says nothing: a handful who came at once found an idle shop a moment later.
const FULL: f64 = 0.75;
/// So many answers tell: a time at the shop scatters by a third to a half of itself, the mean of 32 by 6 to 9 %, and unloaded
/// and [`TOLERANCE`] are 50 % apart.
const ANSWERS: u32 = 32;
/// Of a window as long as so many answers, half were asked for when the limit was what it is.
const ANSWER_TIMES: f64 = 2.0;
/// Whatever came in so long is judged, milliseconds.
const JUDGED_MS: u64 = 1_000;

/// The limit and what is not judged yet.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    fixed: Option<u32>,
    limit: f64,
    /// The limit was too wide once: its order of magnitude is known.
    found: bool,
    pending: Option<ShopWindow>,
}

impl Limit {
    pub(super) fn new(max: InFlightMax) -> Self {
        let fixed = match max {
            InFlightMax::Auto => None,
            InFlightMax::Fixed(n) => Some(n),
        };
        Limit { fixed, limit: LIMIT_FIRST, found: false, pending: None }
    }

    /// Requests in flight allowed now.
    pub(super) fn get(&self) -> u32 {
        self.fixed.unwrap_or(self.limit as u32)
    }

    /// The order of magnitude of what the shop takes is known.
    pub(super) fn is_found(&self) -> bool {
        self.found
    }

    /// What was seen since the limit was last judged, once that is enough to judge it by.
    pub(super) fn ripe(&mut self, w: &ShopWindow) -> Option<ShopWindow> {
        let mut pending = self.pending.take().unwrap_or_default();
        pending.extend(w);
        let tells = pending.completed() >= ANSWERS && pending.span_s() >= ANSWER_TIMES * pending.ttfb_s();
        if tells || pending.span_ms >= JUDGED_MS {
            return Some(pending);
        }
        self.pending = Some(pending);
        None
    }

    /// Somebody had to wait for it, or nearly.
    fn was_binding(&self, w: &ShopWindow) -> bool {
        w.limit_was_binding || f64::from(w.in_flight_max) >= 0.9 * f64::from(self.get())
    }

    /// Moves by what a window showed whose answers took so many times as long as unloaded. Whether the shop was full in it.
    pub(super) fn judge(&mut self, w: &ShopWindow, slowdown: f64) -> bool {
        let full = self.was_binding(w) && w.in_flight() >= FULL * f64::from(self.get());
        if self.was_binding(w) && slowdown > TOLERANCE {
            self.shrink((TOLERANCE / slowdown).max(SHRINK));
        } else if full {
            // Room left: widen by about a square root, the usual step of gradient limiters; before that search faster.
            let step = (self.limit.sqrt() / 2.0).max(1.0);
            let wider = if self.found { self.limit + step } else { (self.limit * SEARCH).max(self.limit + step) };
            self.limit = wider.min(LIMIT_MAX);
        }
        full
    }

    /// It was too wide.
    pub(super) fn shrink(&mut self, to_share: f64) {
        self.found = true;
        self.limit = (self.limit * to_share).max(LIMIT_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::window::RouteWindow, *};

    /// A tenth of a second with so many answers of so many milliseconds each.
    fn tenth(completed: u32, ttfb_ms: u64, in_flight_max: u32) -> ShopWindow {
        let route = RouteWindow { completed, ttfb_sum_us: u64::from(completed) * ttfb_ms * 1_000, ..RouteWindow::default() };
        ShopWindow { span_ms: 100, routes: vec![route], in_flight_max, healthy: true, ..ShopWindow::default() }
    }

    #[test]
    fn a_moment_at_the_limit_does_not_try_it_out() {
        let mut limit = Limit::new(InFlightMax::Auto);
        // Eight came at once, two were there on average.
        assert!(!limit.judge(&tenth(10, 20, 8), 1.1) && limit.get() == 8);
        // Seven of eight all the time.
        assert!(limit.judge(&tenth(35, 20, 8), 1.1) && limit.get() == 12, "room left: search");
        assert!(limit.judge(&tenth(60, 20, 12), 1.1) && limit.get() == 18);
        limit.judge(&tenth(20, 60, 18), 3.0);
        assert_eq!((limit.get(), limit.is_found()), (9, true), "three times as slow: half of it");
        limit.judge(&tenth(45, 20, 9), 1.1);
        assert_eq!(limit.get(), 10, "its order of magnitude is known");
    }

    #[test]
    fn a_handful_of_answers_tells_nothing_and_nor_do_those_to_what_was_asked_before() {
        let ripe = |windows: &[ShopWindow]| {
            let mut limit = Limit::new(InFlightMax::Auto);
            windows.iter().position(|w| limit.ripe(w).is_some()).map(|i| i + 1)
        };
        assert_eq!(ripe(&vec![tenth(10, 20, 4); 20]), Some(4), "forty answers");
        assert_eq!(ripe(&vec![tenth(50, 20, 4); 20]), Some(1));
        assert_eq!(ripe(&vec![tenth(50, 120, 9); 20]), Some(3), "twice as long as an answer takes");
        assert_eq!(ripe(&vec![tenth(1, 20, 4); 20]), Some(10), "whatever came in a second");
        let mut limit = Limit::new(InFlightMax::Auto);
        assert_eq!(limit.ripe(&tenth(40, 20, 4)).map(|w| w.completed()), Some(40));
        assert_eq!(limit.ripe(&tenth(40, 20, 4)).map(|w| w.completed()), Some(40), "each answer counts once");
    }

    /// Four at a time of 20 ms each, and always more in front of it than may be there.
    #[test]
    fn a_shop_that_is_filled_from_one_moment_to_the_next_is_emptied_within_half_a_second() {
        let mut limit = Limit { limit: 40.0, ..Limit::new(InFlightMax::Auto) };
        for tenths in 1..=20 {
            let there = f64::from(limit.get());
            let ttfb_ms = 20.0 * (there / 4.0).max(1.0);
            if let Some(w) = limit.ripe(&tenth(20, ttfb_ms as u64, limit.get())) {
                limit.judge(&w, ttfb_ms / 20.0);
            }
            assert!(tenths < 15 || (4..=8).contains(&limit.get()), "after {tenths} tenths: {}", limit.get());
        }
    }
}
