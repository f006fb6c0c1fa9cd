//! Admissions in every window ≤ ∫ refill dt + the burst.

use std::collections::BTreeSet;

use super::{
    Found, Log, Violation,
    log::{At, What},
};

/// Millionths of a token are rounded down by the gate, never up; this absorbs the checker's own floating point.
const EPSILON: f64 = 1e-3;

/// In every window there are at most ∫ refill dt + burst new passes.
///
/// All windows at once: the most that can be left after an admission is what was left before it plus the refill since,
/// cut at the burst. A window breaks the rule exactly when that falls below zero; the window begins where the burst
/// was last full.
pub fn admissions_within_refill(log: &Log) -> Vec<Violation> {
    let mut found = Found::new("admissions_within_refill", log);
    for room in 0..log.rooms.len() {
        check(room, log, &mut found);
    }
    found.list
}

/// A plan, from when on.
#[derive(Clone, Copy, Debug)]
struct InForce {
    from_us: u64,
    /// Its number among the room's events, where times are exact: of two things at one instant the order counts.
    order: Option<usize>,
    refill_per_s: f64,
    burst: f64,
}

impl InForce {
    /// Whether it is when the `nth` event of its room happens.
    fn is(&self, nth: usize, at_us: u64) -> bool {
        self.order.map_or(self.from_us <= at_us, |order| order < nth)
    }
}

fn check(room: usize, log: &Log, found: &mut Found<'_>) {
    let plans = loosened(room, log);
    let mut plans = plans.iter().peekable();
    let Some(first) = plans.next() else {
        if let Some(e) = log.of_room(room).find(|e| matches!(e.what, What::Seated { .. } | What::Kept { .. })) {
            found.add(room, e.at_us, "a pass was given and no plan was in force".into());
        }
        return;
    };
    let mut now = *first;
    let (mut left, mut at_us, mut full_at_us, mut given, mut refilled) = (now.burst, now.from_us, now.from_us, 0u64, 0.0);
    let mut known = BTreeSet::new();
    for (nth, e) in log.of_room(room).enumerate() {
        let (What::Seated { seat, .. } | What::Kept { seat, .. }) = e.what else { continue };
        if !known.insert(seat.to_bits()) {
            continue;
        }
        while let Some(next) = plans.next_if(|p| p.is(nth, e.at_us)) {
            refill(&mut left, &mut refilled, now, next.from_us.saturating_sub(at_us));
            at_us = at_us.max(next.from_us);
            left = left.min(next.burst);
            now = *next;
        }
        refill(&mut left, &mut refilled, now, e.at_us.saturating_sub(at_us));
        at_us = at_us.max(e.at_us);
        if left >= now.burst - EPSILON {
            (full_at_us, given, refilled) = (e.at_us, 0, 0.0);
        }
        left -= 1.0;
        given += 1;
        // A time that is off by the slack may have let that much more accrue.
        let slack = now.refill_per_s * (log.slack_us + log.plan_slack_us) as f64 / 1e6;
        if left < -(EPSILON + slack) {
            let window = format!("between {} and {}", At(full_at_us), At(e.at_us));
            let allowed = format!("refill gave {refilled:.1} and the burst is {:.1}", now.burst);
            found.add(room, e.at_us, format!("{given} passes were given {window}, but {allowed}"));
            (left, full_at_us, given, refilled) = (0.0, e.at_us, 0, 0.0);
        }
    }
}

fn refill(left: &mut f64, refilled: &mut f64, now: InForce, elapsed_us: u64) {
    let gained = now.refill_per_s * elapsed_us as f64 / 1e6;
    *refilled += gained;
    *left = (*left + gained).min(now.burst);
}

/// The plans of a room. Where times may be off, the more generous of those that may have been in force.
fn loosened(room: usize, log: &Log) -> Vec<InForce> {
    let plan = |(nth, e): (usize, &super::Event)| match e.what {
        What::Plan { refill_per_s, burst, .. } => {
            Some(InForce { from_us: e.at_us, order: Some(nth), refill_per_s, burst: burst.max(1.0) })
        }
        _ => None,
    };
    let exact: Vec<InForce> = log.of_room(room).enumerate().filter_map(plan).collect();
    let slack = log.slack_us + log.plan_slack_us;
    if slack == 0 {
        return exact;
    }
    let mut borders: Vec<u64> = exact.iter().flat_map(|p| [p.from_us.saturating_sub(slack), p.from_us + slack]).collect();
    borders.sort_unstable();
    borders.dedup();
    let most = |from_us: u64| {
        let until = exact.partition_point(|p| p.from_us <= from_us + slack).max(1);
        let first = exact.partition_point(|p| p.from_us + slack <= from_us).saturating_sub(1);
        let mut best = InForce { from_us, order: None, refill_per_s: 0.0, burst: 1.0 };
        for p in &exact[first.min(until - 1)..until] {
            best.refill_per_s = best.refill_per_s.max(p.refill_per_s);
            best.burst = best.burst.max(p.burst);
        }
        best
    };
    borders.into_iter().map(most).collect()
}
