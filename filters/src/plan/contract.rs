//! What a forecast may do to a plan: never lift it, lower it a little, and only while it is worth it.

use std::collections::VecDeque;

use super::tide::{Outlook, STALE_S};
use crate::forecast::Merit;

/// How far ahead the planner itself checks what it was told, seconds.
pub(super) const CHECKED_S: usize = 10;
/// The refill is lowered to this share of the measured one at most, while the forecast of the load that needs no pass has
/// earned it; else not at all.
const FLOOR: f64 = 0.8;
/// That load is believed to grow by so much at most in ten seconds.
const GROWTH: f64 = 2.0;

/// What the planner found out about the forecasts it is given. It believes no flag: noise, zeros and tenfold numbers have
/// larger errors than "as it is now", and that is what counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust {
    arrivals: Checked,
    exempt: Checked,
}

/// One kind of number, checked against what came.
#[derive(Clone, Debug, Default)]
struct Checked {
    merit: Merit,
    /// Said for each of the next seconds, and what was true when it was said.
    pending: VecDeque<Option<(f64, f64)>>,
}

impl Checked {
    fn learn(&mut self, came: f64) {
        if self.pending.len() >= CHECKED_S
            && let Some(Some((said, was))) = self.pending.pop_front()
        {
            self.merit.learn((came - said).abs(), (came - was).abs(), true, true);
        }
    }

    fn heard(&mut self, said: Option<f64>, now: f64) {
        self.pending.push_back(said.map(|s| (s, now)));
        while self.pending.len() > CHECKED_S {
            self.pending.pop_front();
        }
    }
}

impl Trust {
    /// Learns from a second, then hears what is said about the next ones.
    pub(super) fn second(&mut self, arrivals: f64, exempt_per_s: f64, outlook: Option<&Outlook>) {
        self.arrivals.learn(arrivals);
        self.exempt.learn(exempt_per_s);
        let there = |v: f64| v.is_finite() && v >= 0.0;
        let said = outlook.and_then(|o| o.arrivals.iter().find(|a| a.in_s == CHECKED_S as f64)).map(|a| a.middle);
        // Rubbish is heard as what it is: wrong.
        self.arrivals.heard(said.map(|s| if there(s) { s } else { f64::NAN }), arrivals);
        let exempt = outlook.and_then(Outlook::exempt_later).map(|a| if there(a.middle) { a.middle } else { f64::NAN });
        self.exempt.heard(exempt, exempt_per_s);
    }

    /// The arrivals it was told came truer than "as it is now".
    pub(super) fn arrivals(&self) -> bool {
        self.arrivals.merit.is_on()
    }

    fn exempt(&self) -> bool {
        self.exempt.merit.is_on()
    }

    /// In words, with the numbers.
    pub(super) fn words(&self, outlook: Option<&Outlook>) -> String {
        let s = self.arrivals.merit.standing();
        let Some(o) = outlook.and_then(|o| o.arrivals.iter().find(|a| a.in_s == CHECKED_S as f64)) else {
            return "no forecast yet".into();
        };
        let relative = (s.mae / s.mae_naive.max(1e-9)).min(99.0);
        match self.arrivals() {
            true => format!(
                "in {CHECKED_S} s {:.1} people a second are expected, 1 time in 100 more than {:.1} (its error is {:.2} of naive)",
                o.middle, o.q99, relative
            ),
            false if s.seen == 0 => "the forecast is not judged yet".into(),
            false => format!("the forecast is off: its error is {relative:.2} of naive"),
        }
    }

    /// The load without passes to plan with: what it is now, and what it is expected to grow by from the next second to the
    /// tenth. The middle of that, for the headroom is there for what comes worse; and between two forecasts, for one beside
    /// the last second alone would call every quiet second the start of a rise and cost passes all day.
    pub(super) fn exempt_load(&self, now: f64, outlook: Option<&Outlook>) -> f64 {
        let rise = outlook.filter(|_| self.exempt()).and_then(|o| Some(o.exempt_later()?.middle - o.exempt.first()?.middle));
        let load = now + rise.unwrap_or(0.0).max(0.0);
        if load.is_finite() { load.min(now * GROWTH) } else { now }
    }

    /// The refill, from the measured one and the one with the forecast load.
    pub(super) fn refill(&self, measured: f64, with_forecast: f64) -> f64 {
        let floor = measured * if self.exempt() { FLOOR } else { 1.0 };
        if with_forecast.is_finite() { with_forecast.clamp(floor, measured) } else { measured }
    }
}

/// An outlook that may be looked at: fresh, and numbers throughout.
pub(super) fn sound(outlook: Option<&Outlook>, at_s: u64) -> Option<&Outlook> {
    let whole = |a: &super::tide::Ahead| [a.middle, a.q90, a.q95, a.q99].iter().all(|v| v.is_finite() && *v >= 0.0);
    outlook.filter(|o| at_s.saturating_sub(o.at_s) <= STALE_S && o.arrivals.iter().chain(&o.exempt).all(whole))
}

#[cfg(test)]
mod tests {
    use super::{super::tide::Ahead, *};

    fn outlook(at_s: u64, middle: f64) -> Outlook {
        let a = |in_s| Ahead { in_s, middle, q90: middle * 1.5, q95: middle * 1.7, q99: middle * 2.0, on: true };
        Outlook { at_s, arrivals: vec![a(1.0), a(CHECKED_S as f64)], exempt: vec![a(1.0), a(CHECKED_S as f64)] }
    }

    /// The same, with a load that rises.
    fn rising(from: f64, to: f64) -> Outlook {
        let mut o = outlook(0, to);
        o.exempt[0].middle = from;
        o
    }

    /// Arrivals that jump about around ten.
    fn came(i: u64) -> f64 {
        let mut x = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((x ^ (x >> 27)) % 20) as f64
    }

    fn trusted(say: impl Fn(u64) -> Option<Outlook>) -> Trust {
        let mut t = Trust::default();
        for i in 0..1_000 {
            t.second(came(i), came(i), say(i).as_ref());
        }
        t
    }

    #[test]
    fn only_what_comes_true_is_believed() {
        assert!(trusted(|i| Some(outlook(i, 9.5))).arrivals(), "the mean is better than the last value");
        assert!(trusted(|i| Some(outlook(i, came(i + 10)))).arrivals());
        for (name, wrong) in [("zeros", 0.0), ("tenfold", 95.0), ("NaN", f64::NAN), ("infinite", f64::INFINITY)] {
            let t = trusted(|i| Some(outlook(i, wrong)));
            assert!(!t.arrivals() && !t.exempt(), "{name} is not believed");
        }
        assert!(!trusted(|i| Some(outlook(i, 2.0 * came(i * 31 + 7)))).arrivals(), "nor is noise");
        assert!(!trusted(|_| None).arrivals());
        let words = trusted(|i| Some(outlook(i, 95.0))).words(Some(&outlook(0, 95.0)));
        assert!(words.contains("off"), "{words}");
    }

    #[test]
    fn whatever_is_said_the_refill_stays_near_the_measured_one() {
        let (idle, earned) = (trusted(|_| None), trusted(|i| Some(outlook(i, 9.5))));
        for wild in [0.0, 1e-9, 0.5, 3.0, 1e12, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let r = earned.refill(3.0, wild);
            assert!((0.8 * 3.0..=3.0).contains(&r), "{wild}: {r}");
            for says in [outlook(0, wild), rising(1.0, wild), rising(wild, 1.0)] {
                let load = earned.exempt_load(40.0, Some(&says));
                assert!((40.0..=80.0).contains(&load), "{wild}: {load}");
                assert_eq!((idle.refill(3.0, wild), idle.exempt_load(40.0, Some(&says))), (3.0, 40.0), "not earned: nothing");
            }
        }
        assert_eq!(earned.exempt_load(40.0, Some(&rising(30.0, 45.0))), 55.0, "by as much as it is expected to rise");
        assert_eq!(earned.exempt_load(5.0, Some(&outlook(0, 40.0))), 5.0, "a quiet second is no rise");
    }

    #[test]
    fn the_stale_and_the_broken_are_not_looked_at() {
        assert!(sound(Some(&outlook(100, 5.0)), 103).is_some());
        assert!(sound(Some(&outlook(100, 5.0)), 106).is_none(), "stale");
        assert!(sound(Some(&outlook(100, f64::NAN)), 100).is_none());
        assert!(sound(None, 0).is_none());
    }
}
