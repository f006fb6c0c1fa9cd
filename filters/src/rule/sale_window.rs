//! `sale_window`: routes that exist only while a sale is on, such as a checkout.

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
    /// Units; `None` when not limited.
    pub stock: Option<u64>,
    /// Units a visitor may buy; `None` when not limited.
    pub per_visitor_max: Option<u32>,
    /// The least units a hold takes: with fewer left the sale is over. 0 counts as 1.
    pub lot: u32,
}

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
        match now.wall_ms {
            t if t < self.prequeue_opens_ms => Phase::Before,
            t if t < self.opens_ms => Phase::Prequeue,
            t if t < self.closes_ms => Phase::Open,
            _ => Phase::Closed,
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

    /// Refuses outside the opening hours; `retry_after_s` is the time to the opening.
    pub fn check(&self, visit: &Visit<'_>, now: Now) -> Option<(Verdict, Reason)> {
        if !visit.route.is_some_and(|r| self.routes.contains(&r)) {
            return None;
        }
        match self.sale.phase(now) {
            Phase::Open => None,
            Phase::Closed => Some((Verdict::Refuse { retry_after_s: None }, Reason::SaleClosed)),
            Phase::Before | Phase::Prequeue => {
                let wait_s = (self.sale.opens_ms - now.wall_ms).div_ceil(1000);
                let retry_after_s = Some(u32::try_from(wait_s).unwrap_or(u32::MAX).max(1));
                Some((Verdict::Refuse { retry_after_s }, Reason::SaleNotOpen))
            }
        }
    }
}
