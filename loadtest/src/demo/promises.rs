//! What the demo promises. A broken promise makes it fail.

use super::RunResult;

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Broken {
    /// The promise.
    pub promise: &'static str,
    /// What was found instead.
    pub found: String,
}

/// Total CPU from which on a run says more about the machine than about the shop.
pub const GENERATOR_BOUND_PERCENT: f64 = 85.0;
/// Most of people's requests that may fail behind the gate.
const FAILURE_SHARE_MAX: f64 = 0.01;

/// Compares the two runs.
pub fn promises(without: &RunResult, with: &RunResult) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut must = |promise: &'static str, kept: bool, found: String| {
        if !kept {
            broken.push(Broken { promise, found });
        }
    };
    for violation in &with.judged.violations {
        must("the room keeps its rules (see checkers)", false, violation.clone());
    }
    if let Some(draw) = &with.draw {
        must("a stranger can recompute the draw", draw.holds, draw.faults.join("; "));
    }
    for run in [without, with] {
        must(
            "the machine is not the limit",
            !run.generator_bound(),
            format!("{}: {:.0} % of the machine in use; close other programs", run.name, run.load.machine_percent),
        );
    }
    if without.generator_bound() || with.generator_bound() {
        // Times and shares of such a run say nothing about the shop; what was sold does.
        must("nothing is sold twice", with.shop.oversold == 0, format!("{} units oversold", with.shop.oversold));
        return broken;
    }
    must("nothing is sold twice", with.shop.oversold == 0, format!("{} units oversold", with.shop.oversold));
    must(
        "people get more of the stock than without the gate",
        with.units_to_people() > without.units_to_people(),
        format!("{} units with, {} without", with.units_to_people(), without.units_to_people()),
    );
    must(
        "as much of the stock is sold as without the gate",
        with.units_delivered() >= without.units_delivered(),
        format!("{} units with, {} without", with.units_delivered(), without.units_delivered()),
    );
    must(
        "at most 1 % of people's requests fail",
        with.summary.failure_share() <= FAILURE_SHARE_MAX,
        format!("{} of {} failed", with.summary.failures(), with.summary.people_requests),
    );
    must(
        "shoppers' pages are faster than without the gate",
        with.summary.page.count > 0 && with.summary.page.p99_ms < without.summary.page.p99_ms,
        format!("p99 {:.0} ms with, {:.0} ms without", with.summary.page.p99_ms, without.summary.page.p99_ms),
    );
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{measure::Summary, shop::Stats};

    fn run(people_units: u32, orders: u32, failures: u64, p99_ms: f64) -> RunResult {
        let mut summary = Summary { people_requests: 1_000, ..Summary::default() };
        summary.people_failures.insert("status 500".into(), failures);
        (summary.page.count, summary.page.p99_ms) = (10, p99_ms);
        let mut shop = Stats { stock: 500, orders, oversold: orders.saturating_sub(500), ..Stats::default() };
        shop.delivered_by_kind.insert("person".into(), people_units);
        RunResult {
            name: "run".into(),
            summary,
            shop,
            load: super::super::Load::default(),
            judged: Default::default(),
            fairness: None,
            draw: None,
        }
    }

    #[test]
    fn each_promise_can_be_broken() {
        let without = run(50, 700, 400, 3_000.0);
        assert_eq!(promises(&without, &run(450, 500, 5, 200.0)), []);
        let broken = |with: RunResult| promises(&without, &with).len();
        assert_eq!(broken(run(450, 501, 5, 200.0)), 1, "oversold");
        assert_eq!(broken(run(40, 500, 5, 200.0)), 1, "people lose");
        assert_eq!(broken(run(450, 499, 5, 200.0)), 1, "stock is left");
        assert_eq!(broken(run(450, 500, 11, 200.0)), 1, "errors");
        assert_eq!(broken(run(450, 500, 5, 3_000.0)), 1, "slow");
        let mut unfair = run(450, 500, 5, 200.0);
        unfair.judged.violations.push("no_inversion: place 4 before place 3".into());
        assert_eq!(broken(unfair), 1, "a rule of the room");
        let mut wrong = run(450, 500, 5, 200.0);
        wrong.draw = Some(super::super::DrawProof { holds: true, ..Default::default() });
        assert_eq!(promises(&without, &wrong), []);
        wrong.draw = Some(super::super::DrawProof { faults: vec!["place 3".into()], ..Default::default() });
        wrong.load.machine_percent = 99.0;
        assert_eq!(broken(wrong), 2, "the draw does not verify: said whatever the machine did");
        let mut busy = run(450, 500, 5, 200.0);
        busy.load.machine_percent = 90.0;
        assert_eq!(broken(busy), 1, "generator-bound");
    }
}
