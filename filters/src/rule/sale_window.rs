//! `sale_window`: routes that exist only while a sale is on, such as a checkout.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    route::Routes,
    time::Now,
    verdict::{Reason, Verdict},
    visit::Visit,
};

/// `sale_window: { sale: sneaker-42, routes: [checkout] }`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SaleWindowSettings {
    /// The sale whose opening hours apply.
    pub sale: String,
    /// Routes that are closed outside them.
    pub routes: Vec<String>,
    /// Decide and record, but do not enforce.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

/// When a sale runs, Unix milliseconds, `prequeue_opens_ms ≤ opens_ms < closes_ms`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sale {
    /// Its name.
    pub name: Box<str>,
    /// The room it happens in.
    pub room: Box<str>,
    /// From here on people take places; nobody is called.
    pub prequeue_opens_ms: u64,
    /// From here on people are called.
    pub opens_ms: u64,
    /// From here on it is over.
    pub closes_ms: u64,
    /// It does not take place.
    pub cancelled: bool,
    /// Units; `None` when not limited.
    pub stock: Option<u64>,
    /// What an operator moved since.
    pub moved: Moved,
    /// Units a visitor may buy; `None` when not limited.
    pub per_visitor_max: Option<u32>,
    /// The least units a hold takes: with fewer left the sale is over. 0 counts as 1.
    pub lot: u32,
    /// Who comes in has a lot set aside for so many seconds; 0: inside, whoever is faster buys.
    pub reserve_s: u32,
}

/// Opening and end as an operator moved them, Unix milliseconds; 0: as written. Shared by all that was compiled from the
/// same policy.
#[derive(Clone, Debug, Default)]
pub struct Moved(Arc<[AtomicU64; 2]>);

/// What was moved is no part of what a sale is.
impl PartialEq for Moved {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Moved {}

/// Where a sale stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not even the pre-queue is open.
    Before,
    /// Places are given out; nobody is called.
    Prequeue,
    /// On.
    Open,
    /// Over.
    Closed,
}

impl Sale {
    /// The phase at an instant.
    pub fn phase(&self, now: Now) -> Phase {
        let opens_ms = self.opens_at_ms();
        match now.wall_ms {
            _ if self.cancelled => Phase::Closed,
            t if t >= self.closes_at_ms() => Phase::Closed,
            t if t >= opens_ms => Phase::Open,
            t if t >= self.prequeue_opens_ms => Phase::Prequeue,
            _ => Phase::Before,
        }
    }

    /// Why nothing of it can be bought any more.
    pub fn over(&self) -> Reason {
        if self.cancelled { Reason::SaleCancelled } else { Reason::SaleClosed }
    }

    /// When it opens, Unix milliseconds: as written, or as an operator opened it.
    pub fn opens_at_ms(&self) -> u64 {
        self.moved_or(0, self.opens_ms)
    }

    /// When it ends, Unix milliseconds: as written, or as an operator closed it.
    pub fn closes_at_ms(&self) -> u64 {
        self.moved_or(1, self.closes_ms)
    }

    /// It opens now, unless it is open or over. `false`: it was.
    pub fn open_now(&self, now: Now) -> bool {
        let before = matches!(self.phase(now), Phase::Before | Phase::Prequeue);
        if before {
            self.moved.0[0].store(now.wall_ms.max(1), Ordering::Release);
        }
        before
    }

    /// It is over now, unless it is. `false`: it was.
    pub fn close_now(&self, now: Now) -> bool {
        let before = self.phase(now) != Phase::Closed;
        if before {
            self.moved.0[1].store(now.wall_ms.max(1), Ordering::Release);
        }
        before
    }

    /// Its times are as written.
    pub fn as_written(&self) {
        self.moved.0.iter().for_each(|m| m.store(0, Ordering::Release));
    }

    /// What an operator moved, opening and end, Unix milliseconds; 0: as written.
    pub fn moved_ms(&self) -> [u64; 2] {
        [0, 1].map(|i| self.moved.0[i].load(Ordering::Acquire))
    }

    /// Puts back what [`Sale::moved_ms`] gave.
    pub fn move_to(&self, moved_ms: [u64; 2]) {
        self.moved.0.iter().zip(moved_ms).for_each(|(m, ms)| m.store(ms, Ordering::Release));
    }

    /// Takes over what an operator moved, where the written times are the same.
    pub fn carry_over(&self, old: &Sale) {
        if (self.opens_ms, self.closes_ms) == (old.opens_ms, old.closes_ms) {
            for (new, old) in self.moved.0.iter().zip(old.moved.0.iter()) {
                new.store(old.load(Ordering::Acquire), Ordering::Release);
            }
        }
    }

    fn moved_or(&self, which: usize, written_ms: u64) -> u64 {
        match self.moved.0[which].load(Ordering::Acquire) {
            0 => written_ms,
            moved => moved,
        }
    }
}

/// The compiled filter.
#[derive(Clone, Debug)]
pub struct SaleWindow {
    sale: Sale,
    routes: Vec<usize>,
}

impl SaleWindow {
    /// Compiles; `None` when the sale does not exist.
    pub fn new(settings: &SaleWindowSettings, routes: &Routes, sales: &[Sale]) -> Option<Self> {
        let sale = sales.iter().find(|s| *s.name == *settings.sale)?.clone();
        Some(SaleWindow { sale, routes: settings.routes.iter().filter_map(|n| routes.index(n)).collect() })
    }

    /// The sale whose hours count.
    pub fn sale(&self) -> &Sale {
        &self.sale
    }

    /// Refuses outside the opening hours; `retry_after_s` is the time to the opening.
    pub fn check(&self, visit: &Visit<'_>, now: Now) -> Option<(Verdict, Reason)> {
        if !visit.route.is_some_and(|r| self.routes.contains(&r)) {
            return None;
        }
        match self.sale.phase(now) {
            Phase::Open => None,
            Phase::Closed => Some((Verdict::Refuse { retry_after_s: None }, self.sale.over())),
            Phase::Before | Phase::Prequeue => {
                let wait_s = self.sale.opens_at_ms().saturating_sub(now.wall_ms).div_ceil(1000);
                let retry_after_s = Some(u32::try_from(wait_s).unwrap_or(u32::MAX).max(1));
                Some((Verdict::Refuse { retry_after_s }, Reason::SaleNotOpen))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_moves_times_and_a_reload_keeps_them() {
        let at = |ms: u64| Now { mono_ns: 0, wall_ms: ms };
        let sale = || Sale { prequeue_opens_ms: 100, opens_ms: 200, closes_ms: 300, ..Sale::default() };
        let s = sale();
        assert_eq!([50, 100, 200, 300].map(|t| s.phase(at(t))), [Phase::Before, Phase::Prequeue, Phase::Open, Phase::Closed]);
        let compiled_elsewhere = s.clone();
        assert!(s.open_now(at(150)) && !s.open_now(at(151)));
        assert_eq!((compiled_elsewhere.phase(at(150)), s.phase(at(149))), (Phase::Open, Phase::Prequeue));
        assert!(s.close_now(at(160)) && !s.close_now(at(161)) && !s.open_now(at(161)));
        assert_eq!((s.phase(at(160)), s.closes_at_ms()), (Phase::Closed, 160));
        let (reloaded, rewritten) = (sale(), Sale { opens_ms: 210, ..sale() });
        reloaded.carry_over(&s);
        rewritten.carry_over(&s);
        assert_eq!((reloaded.phase(at(170)), rewritten.phase(at(170))), (Phase::Closed, Phase::Prequeue));
        s.as_written();
        assert_eq!(s.phase(at(170)), Phase::Prequeue);
    }
}
