//! What was aimed at, and what became of it. Losses are said like gains.

use serde::Serialize;

use super::{burst::BurstRow, cell::Cell, load::Load, tier::Tier};
use crate::sim::BurstRule;

/// Orders over those of the shop's measured capacity.
const ORDERS_MIN: f64 = 0.95;
/// 99th percentile of shop time over that of the unloaded shop.
const P99_MAX: f64 = 1.5;
/// Seconds until the requests in flight have settled after a step.
const IN_FLIGHT_SETTLED_S: f64 = 1.0;
/// Seconds until the refill has.
const REFILL_SETTLED_S: f64 = 5.0;

/// One aim.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What was aimed at.
    pub aim: String,
    /// What was found.
    pub found: String,
    /// `None`: it was not looked at, or the machine was the limit.
    pub kept: Option<bool>,
}

/// Every aim that concerns the gate's forecast mode.
pub fn verdicts(cells: &[Cell], bursts: &[BurstRow]) -> Vec<Verdict> {
    let mut out = Vec::new();
    let cell = |tier: Tier, load: Load| cells.iter().find(|c| c.tier == tier && c.load == load);
    let mut say = |aim: String, found: String, kept: Option<bool>| out.push(Verdict { aim, found, kept });
    for times in [2, 4, 10] {
        let Some(c) = cell(Tier::Forecast, Load::Times(times)) else { continue };
        let sure = |kept: bool| (!c.generator_bound()).then_some(kept);
        say(
            format!("at {times}× at least {:.0} % of the orders the shop takes", 100.0 * ORDERS_MIN),
            format!("{:.1} %", 100.0 * c.orders_ratio),
            sure(c.orders_ratio >= ORDERS_MIN),
        );
        say(
            format!("at {times}× p99 of shop time at most {P99_MAX} × unloaded"),
            format!("{:.2} ×", c.p99_ratio),
            sure(c.p99_ratio <= P99_MAX),
        );
    }
    if let Some(c) = cell(Tier::Forecast, Load::Step) {
        for (what, found, most) in [
            ("requests in flight", c.settled_in_flight_s, IN_FLIGHT_SETTLED_S),
            ("the refill", c.settled_refill_s, REFILL_SETTLED_S),
        ] {
            let words = found.map_or("not settled".to_owned(), |s| format!("{s:.2} s"));
            let kept = (!c.generator_bound()).then(|| found.is_some_and(|s| s <= most));
            say(format!("after a step {what} settled within {most} s"), words, kept);
        }
    }
    for times in [4, 10] {
        let Some(ours) = cell(Tier::Forecast, Load::Times(times)) else { continue };
        for other in cells.iter().filter(|c| c.load == ours.load && c.tier.is_rival()) {
            let sure = |kept: bool| (!ours.generator_bound() && !other.generator_bound()).then_some(kept);
            say(
                format!("at {times}× more orders than {}", other.tier.name()),
                format!("{} against {}", ours.orders, other.orders),
                sure(ours.orders > other.orders),
            );
            say(
                format!("at {times}× p99 of shop time no worse than {}", other.tier.name()),
                format!("{:.0} ms against {:.0} ms", ours.shop_p99_ms, other.shop_p99_ms),
                sure(ours.shop_p99_ms <= other.shop_p99_ms),
            );
        }
    }
    for (aim, of) in
        [("needless waits", BurstRow::needless_share as fn(&BurstRow) -> f64), ("p99 of shop time", |b| b.shop_p99_ms)]
    {
        let Some(ours) = bursts.iter().find(|b| b.rule == BurstRule::default()) else { continue };
        let best = bursts.iter().map(of).fold(f64::INFINITY, f64::min);
        let list: Vec<String> = bursts.iter().map(|b| format!("{} {:.3}", b.rule.name(), of(b))).collect();
        say(format!("the shipped burst is the best in {aim}"), list.join(", "), Some(of(ours) <= best * 1.001));
    }
    out
}
