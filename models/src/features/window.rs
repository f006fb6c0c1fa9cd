//! What is remembered about one visitor: decayed counters and a few moments, in a fixed number of bytes.

use super::{
    crowd::Own,
    facts::{Method, Referer, Target, VisitFacts},
};

/// Time constants of the decayed visit counters, seconds.
pub(super) const TAUS_S: [f32; 4] = [1.0, 10.0, 60.0, 600.0];

/// Index of the slowest counter: shares are taken of it.
const SLOW: usize = 3;

/// Gaps count with at least this weight, so that old habits fade.
const GAP_WEIGHT_MIN: f32 = 0.1;

/// Memory of one visitor. All zero is "never seen".
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    first_ns: u64,
    last_ns: u64,
    last_action_ns: u64,
    /// Linear counting of distinct paths, 64 bits.
    paths: u64,
    last_path: u32,
    /// Visits that were not asked for by us.
    visits: u32,
    /// Decayed visits, one for each of [`TAUS_S`].
    pub(super) rate: [f32; 4],
    /// Decayed (10 min) counts by kind.
    pub(super) pages: f32,
    pub(super) assets: f32,
    pub(super) apis: f32,
    pub(super) changes: f32,
    pub(super) heads: f32,
    pub(super) repeats: f32,
    pub(super) referred: f32,
    pub(super) polls: f32,
    answers: f32,
    errors: f32,
    gaps: f32,
    gap_mean: f32,
    gap_var: f32,
    gap_min: f32,
    gap_last: f32,
    /// Seconds from the first visit to the first change; 0 when none yet.
    first_change_s: f32,
    flags: u32,
    /// Order of the headers of its last page; 0 before the first.
    pub(super) page_order: u64,
    pub(super) own: Own,
}

const DEEP_LINK: u32 = 1;
const CHANGED: u32 = 2;
const CHANGED_UNSEEN: u32 = 4;

impl Window {
    /// Takes one visit in.
    pub(super) fn observe(&mut self, f: &VisitFacts, now_ns: u64) {
        self.decay_to(now_ns);
        self.own.observe(f, now_ns);
        if f.waiting {
            self.polls += 1.0;
            return;
        }
        let first = self.visits == 0;
        self.visits = self.visits.saturating_add(1);
        self.rate.iter_mut().for_each(|r| *r += 1.0);
        if f.shows_order() {
            self.page_order = f.headers.order;
        }
        match f.target {
            Target::Page => self.pages += 1.0,
            Target::Asset => self.assets += 1.0,
            Target::Api => self.apis += 1.0,
        }
        self.referred += f32::from(u8::from(f.headers.referer == Referer::Same));
        self.heads += f32::from(u8::from(f.method == Method::Head));
        self.paths |= 1 << (f.path & 63);
        if f.method == Method::Change {
            self.changes += 1.0;
            self.note_change(now_ns, first);
        }
        if first && f.sale == Some(true) && !matches!(f.headers.referer, Referer::Same | Referer::Other) {
            self.flags |= DEEP_LINK;
        }
        if f.target != Target::Asset {
            self.note_action(f, now_ns);
        }
    }

    /// An answer of the shop to this visitor.
    pub(super) fn feedback(&mut self, status: u16) {
        self.answers += 1.0;
        self.errors += f32::from(u8::from((400..500).contains(&status)));
    }

    pub(super) fn last_ns(&self) -> u64 {
        self.last_ns
    }

    /// Share of a decayed count in all visits.
    pub(super) fn share(&self, count: f32) -> f32 {
        if self.rate[SLOW] > 0.0 { count / self.rate[SLOW] } else { 0.0 }
    }

    /// Share of client errors in the shop's answers, drawn to 0 while there are few.
    pub(super) fn error_share(&self) -> f32 {
        self.errors / (self.answers + 1.0)
    }

    /// Estimated distinct paths: linear counting, up to about 266.
    pub(super) fn distinct(&self) -> f32 {
        let zeros = self.paths.count_zeros().max(1);
        -64.0 * (zeros as f32 / 64.0).ln()
    }

    pub(super) fn visits(&self) -> f32 {
        self.visits as f32
    }

    pub(super) fn age_s(&self) -> f32 {
        seconds(self.last_ns.saturating_sub(self.first_ns))
    }

    /// Gaps between actions seen so far (decayed to at most `1 / GAP_WEIGHT_MIN`).
    pub(super) fn gaps(&self) -> f32 {
        self.gaps
    }

    /// Mean, standard deviation, least and last of ln(seconds) between actions; zeros before the first gap.
    pub(super) fn gap_stats(&self) -> [f32; 4] {
        [self.gap_mean, self.gap_var.max(0.0).sqrt(), self.gap_min, self.gap_last]
    }

    pub(super) fn first_change_s(&self) -> f32 {
        self.first_change_s
    }

    /// The first change came before any page was asked for.
    pub(super) fn changed_unseen(&self) -> bool {
        self.flags & CHANGED_UNSEEN != 0
    }

    pub(super) fn deep_link(&self) -> bool {
        self.flags & DEEP_LINK != 0
    }

    fn decay_to(&mut self, now_ns: u64) {
        if self.first_ns == 0 && self.last_ns == 0 {
            self.first_ns = now_ns;
            self.last_ns = now_ns;
            return;
        }
        let dt = seconds(now_ns.saturating_sub(self.last_ns));
        self.last_ns = self.last_ns.max(now_ns);
        if dt == 0.0 {
            return;
        }
        for (rate, tau) in self.rate.iter_mut().zip(TAUS_S) {
            *rate *= (-dt / tau).exp();
        }
        let slow = (-dt / TAUS_S[SLOW]).exp();
        let counts = [
            &mut self.pages,
            &mut self.assets,
            &mut self.apis,
            &mut self.changes,
            &mut self.heads,
            &mut self.repeats,
            &mut self.referred,
            &mut self.answers,
            &mut self.errors,
        ];
        counts.into_iter().for_each(|c| *c *= slow);
        self.polls *= (-dt / TAUS_S[2]).exp();
    }

    fn note_change(&mut self, now_ns: u64, first: bool) {
        if self.flags & CHANGED != 0 {
            return;
        }
        self.flags |= CHANGED;
        self.first_change_s = seconds(now_ns.saturating_sub(self.first_ns));
        if first || self.pages == 0.0 {
            self.flags |= CHANGED_UNSEEN;
        }
    }

    /// Cadence and repetition of everything but assets, which a page fetches by itself.
    fn note_action(&mut self, f: &VisitFacts, now_ns: u64) {
        if self.last_action_ns != 0 {
            // A millisecond at least: two actions of one instant are a burst, not minus infinity.
            let gap = seconds(now_ns.saturating_sub(self.last_action_ns)).max(0.001).ln();
            let weight = (1.0 / (self.gaps + 1.0)).max(GAP_WEIGHT_MIN);
            let off = gap - self.gap_mean;
            self.gap_mean += weight * off;
            self.gap_var = (1.0 - weight) * (self.gap_var + weight * off * off);
            self.gap_min = if self.gaps == 0.0 { gap } else { self.gap_min.min(gap) };
            self.gap_last = gap;
            self.gaps = (self.gaps + 1.0).min(1.0 / GAP_WEIGHT_MIN);
            self.repeats += f32::from(u8::from(f.path == self.last_path));
        }
        self.last_action_ns = now_ns.max(1);
        self.last_path = f.path;
    }
}

fn seconds(ns: u64) -> f32 {
    (ns as f64 / 1e9) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn page(path: u32) -> VisitFacts {
        VisitFacts { path, ..VisitFacts::default() }
    }

    #[test]
    fn counters_decay_at_their_own_speed() {
        let mut w = Window::default();
        for i in 0..10 {
            w.observe(&page(i), S);
        }
        assert_eq!(w.rate, [10.0; 4]);
        w.observe(&VisitFacts { waiting: true, ..page(0) }, 61 * S);
        assert!(w.rate[0] < 1e-6 && (w.rate[2] - 10.0 * (-1.0f32).exp()).abs() < 1e-3, "{:?}", w.rate);
        assert!((w.share(w.pages) - 1.0).abs() < 1e-6);
        assert_eq!(w.visits(), 10.0, "a poll we asked for is not a visit");
        assert!((w.distinct() - 10.85).abs() < 0.1);
    }

    #[test]
    fn cadence_ignores_assets_and_told_refreshes() {
        let mut w = Window::default();
        for i in 0..20 {
            w.observe(&page(i), (1 + 5 * u64::from(i)) * S);
            w.observe(&VisitFacts { target: Target::Asset, ..page(99) }, (1 + 5 * u64::from(i)) * S + 1000);
            w.observe(&VisitFacts { waiting: true, ..page(7) }, (3 + 5 * u64::from(i)) * S);
        }
        let [mean, sd, min, last] = w.gap_stats();
        assert!((mean - 5f32.ln()).abs() < 1e-3 && sd < 1e-3, "{mean} {sd}");
        assert!((min - 5f32.ln()).abs() < 1e-3 && (last - 5f32.ln()).abs() < 1e-3);
        assert_eq!(w.repeats, 0.0);
        assert!((w.share(w.assets) - 0.5).abs() < 1e-3);
    }

    #[test]
    fn first_changes_and_deep_links_are_remembered() {
        let mut w = Window::default();
        w.observe(&VisitFacts { sale: Some(true), ..page(1) }, S);
        w.observe(&VisitFacts { method: Method::Change, target: Target::Api, ..page(2) }, 4 * S);
        assert!(w.deep_link() && !w.changed_unseen());
        assert!((w.first_change_s() - 3.0).abs() < 1e-6);
        let mut w = Window::default();
        w.observe(&VisitFacts { method: Method::Change, target: Target::Api, ..page(2) }, 4 * S);
        assert!(w.changed_unseen() && !w.deep_link());
        w.feedback(404);
        w.feedback(200);
        assert!((w.error_share() - 1.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn a_clock_that_steps_back_does_no_harm() {
        let mut w = Window::default();
        w.observe(&page(1), 9 * S);
        w.observe(&page(2), 3 * S);
        w.observe(&page(3), 10 * S);
        assert!(w.rate.iter().chain(&w.gap_stats()).all(|v| v.is_finite()));
    }
}
