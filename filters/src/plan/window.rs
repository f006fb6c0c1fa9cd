//! What was seen at the shop for a while.

/// What a while of one route showed.
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

/// What a while at the shop showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShopWindow {
    /// Length, milliseconds.
    pub span_ms: u64,
    /// By route index.
    pub routes: Vec<RouteWindow>,
    /// The visitors who got errors or no answer, a [`failing_bit`] each.
    pub failing: u64,
    /// Most requests in flight at one time.
    pub in_flight_max: u32,
    /// A request had to wait for the in-flight limit.
    pub limit_was_binding: bool,
    /// Requests that it turned away, at once or after waiting in vain: asked of the shop, and not answered by it.
    pub turned_away: u32,
    /// Some upstream is healthy.
    pub healthy: bool,
}

/// Which of the 64 that [`ShopWindow::failing`] tells apart somebody with this hash is, as a bit.
pub fn failing_bit(whose: u64) -> u64 {
    // The high bits of a product are spread well, whatever the hash.
    1 << (whose.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
}

impl ShopWindow {
    /// Goes on with the window that came right after this one.
    pub(super) fn extend(&mut self, next: &ShopWindow) {
        self.span_ms = self.span_ms.saturating_add(next.span_ms);
        self.routes.resize(self.routes.len().max(next.routes.len()), RouteWindow::default());
        for (r, n) in self.routes.iter_mut().zip(&next.routes) {
            r.completed = r.completed.saturating_add(n.completed);
            r.inside = r.inside.saturating_add(n.inside);
            r.errors = r.errors.saturating_add(n.errors);
            r.timeouts = r.timeouts.saturating_add(n.timeouts);
            r.ttfb_sum_us = r.ttfb_sum_us.saturating_add(n.ttfb_sum_us);
        }
        self.failing |= next.failing;
        self.in_flight_max = self.in_flight_max.max(next.in_flight_max);
        self.limit_was_binding |= next.limit_was_binding;
        self.turned_away = self.turned_away.saturating_add(next.turned_away);
        self.healthy = next.healthy;
    }

    /// Good answers.
    pub(super) fn completed(&self) -> u32 {
        self.routes.iter().fold(0, |n, r| n.saturating_add(r.completed))
    }

    /// Errors and answers that did not come.
    pub(super) fn failed(&self) -> u32 {
        self.routes.iter().fold(0, |n, r| n.saturating_add(r.errors).saturating_add(r.timeouts))
    }

    /// Seconds at the shop of all good answers.
    fn at_shop_s(&self) -> f64 {
        self.routes.iter().map(|r| r.ttfb_sum_us as f64).sum::<f64>() / 1e6
    }

    /// Length, seconds.
    pub(super) fn span_s(&self) -> f64 {
        self.span_ms.max(1) as f64 / 1_000.0
    }

    /// Requests in flight on average, by Little's law.
    pub(super) fn in_flight(&self) -> f64 {
        self.at_shop_s() / self.span_s()
    }

    /// Seconds to the first byte on average.
    pub(super) fn ttfb_s(&self) -> f64 {
        self.at_shop_s() / f64::from(self.completed().max(1))
    }
}
