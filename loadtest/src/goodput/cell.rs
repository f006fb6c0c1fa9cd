//! One tier under one load: from what the crowd met and what the shop says to figures.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    load::{Load, Timing},
    tier::Tier,
    watch::{Look, between, intervals},
};
use crate::{
    checkers::PlanSample,
    crowd::{Action, AnswerKind, Kind},
    demo::{GENERATOR_BOUND_PERCENT, process},
    events::{Event, Events},
    fairness::spearman,
};

/// A shop whose connections are less busy than this has room: who is made to wait then, waits in vain.
const HAS_ROOM: f64 = 0.8;
/// Somebody else's programs in use of more than this share of the machine make times doubtful, percent.
const DISTURBED_PERCENT: f64 = 10.0;

/// Figures of one tier under one load.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// What stands before the shop.
    pub tier: Tier,
    /// What is offered.
    pub load: Load,
    /// Length of what was measured, seconds.
    pub seconds: f64,
    /// Orders confirmed to people.
    pub orders: u64,
    /// Over those the shop takes at its measured capacity in that time.
    pub orders_ratio: f64,
    /// People who came while it was measured.
    pub people: u64,
    /// Requests of people for pages, and of these, refused by what stands before the shop; failed in any other way.
    pub requests: u64,
    /// 429, 503 and the like that the shop did not say.
    pub refused: u64,
    /// Errors of the shop, pages nobody waited for any more, broken connections.
    pub failed: u64,
    /// Time at the shop, milliseconds, by the shop's own clock.
    pub shop_p50_ms: f64,
    /// All but one in a hundred take less.
    pub shop_p99_ms: f64,
    /// Over the same of an unloaded shop.
    pub p50_ratio: f64,
    /// Over the same of an unloaded shop.
    pub p99_ratio: f64,
    /// Time of the shop's answers that was not spent at the shop: queue, proxy and network, milliseconds.
    pub queue_p99_ms: f64,
    /// Time from the first word to wait to the pass, milliseconds: median and 99th percentile; 0 where nobody waited.
    pub wait_ms: (f64, f64),
    /// People told to wait or refused while the shop had room, and all who were.
    pub needless: (u64, u64),
    /// Rank correlation of arrival and order among those who ordered: 1 is first come, first served.
    pub correlation: Option<f64>,
    /// CPU of everybody, percent of the machine; `gate` is whatever stands before the shop.
    pub cpu: process::Load,
    /// After a step, seconds until the shop had no more in flight than half as many again as in the end.
    pub settled_in_flight_s: Option<f64>,
    /// After a step, seconds until the refill stayed within a quarter of its last value.
    pub settled_refill_s: Option<f64>,
    /// For plots.
    pub series: Vec<Point>,
}

/// One second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Orders confirmed in it.
    pub orders: u32,
    /// Mean requests at the shop.
    pub in_flight: f64,
}

/// What a cell is compared with.
#[derive(Clone, Debug, Serialize)]
pub struct Base {
    /// Orders a second the shop takes.
    pub orders_per_s: f64,
    /// Time at the unloaded shop, milliseconds: median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Connections of the shop.
    pub pool: u32,
}

/// What was seen while the crowd was there.
#[derive(Debug)]
pub struct Seen<'a> {
    /// By the crowd.
    pub events: &'a Events,
    /// By the shop.
    pub looks: &'a [Look],
    /// Of the gate, where there is one.
    pub plans: &'a [PlanSample],
    /// Who used the machine.
    pub cpu: process::Load,
}

impl Cell {
    /// The machine was the limit.
    pub fn generator_bound(&self) -> bool {
        self.cpu.machine_percent > GENERATOR_BOUND_PERCENT
    }

    /// Use of the machine by programs that have nothing to do with this, percent.
    pub fn others_percent(&self) -> f64 {
        let l = &self.cpu;
        (l.machine_percent - l.shop_percent - l.gate_percent - l.crowd_percent).max(0.0)
    }

    /// Others were at work.
    pub fn disturbed(&self) -> bool {
        self.others_percent() > DISTURBED_PERCENT
    }

    /// The figures.
    pub fn of(tier: Tier, load: Load, timing: Timing, base: &Base, seen: &Seen<'_>) -> Self {
        let (from, to) = (timing.measured_from_ms(load), timing.ends_ms());
        let seconds = (to - from) as f64 / 1_000.0;
        let people = || seen.events.list.iter().filter(|e| e.kind == Kind::Person && e.action != Action::Asset);
        let inside = || people().filter(|e| (from..to).contains(&e.done_ms()));
        let orders = inside().filter(|e| e.answer == AnswerKind::Ordered).count() as u64;
        let pages = || inside().filter(|e| e.action.is_page());
        let refused = pages().filter(|e| e.answer.is_failure() && is_refusal(e)).count() as u64;
        let shop = between(seen.looks, from, to);
        let (p50, p99) = (shop.quantile_ms(0.5).unwrap_or(0.0), shop.quantile_ms(0.99).unwrap_or(0.0));
        let queue = inside().filter_map(|e| Some((e.latency_us - late_us(e)).saturating_sub(e.shop_us?) as f64 / 1_000.0));
        let step = load.steps_at_ms(timing);
        let arrived: BTreeSet<u32> = inside().map(|e| e.visitor).collect();
        Cell {
            tier,
            load,
            seconds,
            orders,
            orders_ratio: orders as f64 / (base.orders_per_s * seconds).max(1e-9),
            people: arrived.len() as u64,
            requests: pages().count() as u64,
            refused,
            failed: pages().filter(|e| e.answer.is_failure()).count() as u64 - refused,
            shop_p50_ms: p50,
            shop_p99_ms: p99,
            p50_ratio: p50 / base.p50_ms.max(1e-9),
            p99_ratio: p99 / base.p99_ms.max(1e-9),
            queue_p99_ms: quantile(queue.collect(), 0.99),
            wait_ms: waits(seen.events, from, to),
            needless: needless(seen, base.pool, from, to),
            correlation: correlation(seen.events),
            cpu: seen.cpu,
            settled_in_flight_s: step.and_then(|at| settled_in_flight(seen.looks, at, to)),
            settled_refill_s: step.and_then(|at| settled_refill(seen, at, to)),
            series: series(seen, timing),
        }
    }
}

/// The proxy's own no, or its no for the shop: a page of the shop says how long it took.
fn is_refusal(e: &Event) -> bool {
    e.shop_us.is_none() && matches!(e.answer, AnswerKind::Busy | AnswerKind::Throttled | AnswerKind::Refused | AnswerKind::Error)
}

/// The crowd's own lateness.
fn late_us(e: &Event) -> u64 {
    (e.sent_ms.saturating_sub(e.at_ms) * 1_000).min(e.latency_us)
}

fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * share).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// From the first word to wait to the pass, of passes within the time.
fn waits(events: &Events, from: u64, to: u64) -> (f64, f64) {
    let mut since = BTreeMap::new();
    let mut waited = Vec::new();
    for e in events.list.iter().filter(|e| e.kind == Kind::Person) {
        if e.pass {
            let begun = since.remove(&e.visitor).filter(|_| (from..to).contains(&e.done_ms()));
            waited.extend(begun.map(|t: u64| e.done_ms().saturating_sub(t) as f64));
        } else if e.answer == AnswerKind::Waiting {
            since.entry(e.visitor).or_insert(e.done_ms());
        }
    }
    (quantile(waited.clone(), 0.5), quantile(waited, 0.99))
}

/// People whose first word to wait, or first refusal, came while the shop had room.
fn needless(seen: &Seen<'_>, pool: u32, from: u64, to: u64) -> (u64, u64) {
    let room: Vec<(u64, u64)> = intervals(seen.looks)
        .filter(|(_, _, r)| r.at_us > 0 && r.utilisation(pool) < HAS_ROOM)
        .map(|(begun, ended, _)| (begun, ended))
        .collect();
    let mut known = BTreeSet::new();
    let (mut needless, mut all) = (0, 0);
    for e in seen.events.list.iter().filter(|e| e.kind == Kind::Person && e.action.is_page()) {
        let turned_away = e.answer == AnswerKind::Waiting || (e.answer.is_failure() && is_refusal(e));
        if !turned_away || !known.insert(e.visitor) || !(from..to).contains(&e.done_ms()) {
            continue;
        }
        all += 1;
        needless += u64::from(room.iter().any(|(begun, ended)| (*begun..*ended).contains(&e.done_ms())));
    }
    (needless, all)
}

/// By first request and by order, among those who ordered.
fn correlation(events: &Events) -> Option<f64> {
    let (mut came, mut ordered) = (BTreeMap::new(), BTreeMap::new());
    for e in events.list.iter().filter(|e| e.kind == Kind::Person) {
        let first = came.entry(e.visitor).or_insert(e.at_ms);
        *first = (*first).min(e.at_ms);
        if e.answer == AnswerKind::Ordered {
            ordered.entry(e.visitor).or_insert(e.done_ms());
        }
    }
    let mut both: Vec<(u64, u64)> = ordered.iter().filter_map(|(v, t)| Some((*came.get(v)?, *t))).collect();
    both.sort_unstable();
    spearman(&both.into_iter().map(|(_, t)| t).collect::<Vec<_>>())
}

/// Over the interval after which nothing is half as large again as the median of the last half. That is no noise: in a quarter of a
/// second a shop of four connections answers a dozen times each, so the mean of five to six in flight, which vary by one or two,
/// scatters by half of one, and half as many again are five times that.
fn settled_in_flight(looks: &[Look], step: u64, to: u64) -> Option<f64> {
    let means = intervals(looks).filter(|(b, e, _)| *b >= step && *e <= to).map(|(_, e, r)| (e, r.mean_in_flight()));
    in_flight_settles(&means.collect::<Vec<_>>(), step)
}

/// The same, from mean requests in flight until a time, milliseconds.
pub(super) fn in_flight_settles(after: &[(u64, f64)], step: u64) -> Option<f64> {
    let last = quantile(after[after.len() / 2..].iter().map(|a| a.1).collect(), 0.5);
    settled(after, step, |v| v <= 1.5 * last.max(1.0))
}

/// Over the last plan that was a quarter off the median of the last half.
fn settled_refill(seen: &Seen<'_>, step: u64, to: u64) -> Option<f64> {
    let at = |p: &PlanSample| p.unix_ms.saturating_sub(seen.events.start_unix_ms);
    let after = seen.plans.iter().map(|p| (at(p), p.refill_per_s)).filter(|(t, _)| (step..=to).contains(t));
    refill_settles(&after.collect::<Vec<_>>(), step)
}

/// The same, from refills at a time, milliseconds. A plan that is off is off until the next is seen.
pub(super) fn refill_settles(after: &[(u64, f64)], step: u64) -> Option<f64> {
    let last = quantile(after[after.len() / 2..].iter().map(|a| a.1).collect(), 0.5);
    let next = after.iter().skip(1).chain(after.last()).map(|a| a.0);
    let until: Vec<(u64, f64)> = after.iter().zip(next).map(|(a, until)| (until, a.1)).collect();
    settled(&until, step, |v| (v - last).abs() <= 0.25 * last.max(0.1))
}

/// Seconds after `step` from which on everything is well; `None` when it never is, or nothing was seen.
fn settled(after: &[(u64, f64)], step: u64, well: impl Fn(f64) -> bool) -> Option<f64> {
    let last_bad = after.iter().rposition(|(_, v)| !well(*v));
    let since = match last_bad {
        Some(i) if i + 1 >= after.len() => return None,
        Some(i) => after[i].0,
        None => after.first().map(|_| step)?,
    };
    Some(since.saturating_sub(step) as f64 / 1_000.0)
}

fn series(seen: &Seen<'_>, timing: Timing) -> Vec<Point> {
    let mut points = vec![Point::default(); timing.ends_ms().div_ceil(1_000) as usize];
    let mut seen_us = vec![0_u64; points.len()];
    for (begun, _, r) in intervals(seen.looks) {
        let second = (begun / 1_000) as usize;
        if let (Some(p), Some(us)) = (points.get_mut(second), seen_us.get_mut(second)) {
            p.in_flight += r.in_flight_us as f64;
            *us += r.at_us;
        }
    }
    points.iter_mut().zip(seen_us).for_each(|(p, us)| p.in_flight /= us.max(1) as f64);
    for e in seen.events.list.iter().filter(|e| e.answer == AnswerKind::Ordered) {
        if let Some(p) = points.get_mut((e.done_ms() / 1_000) as usize) {
            p.orders += 1;
        }
    }
    points
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{crowd::GateVerdict, shop::Reading};

    fn event(visitor: u32, at_ms: u64, ms: u64, action: Action, answer: AnswerKind, shop_ms: Option<u64>) -> Event {
        Event {
            latency_us: ms * 1_000,
            shop_us: shop_ms.map(|m| m * 1_000),
            ..Event::of_a_person(visitor, at_ms, action, answer)
        }
    }

    /// Four looks a second; `in_flight` says how many are at the shop in each interval.
    fn looks(in_flight: impl Fn(u64) -> u64, until_ms: u64) -> Vec<Look> {
        let mut shop = Reading::default();
        let mut all = Vec::new();
        for at_ms in (0..=until_ms).step_by(250) {
            all.push(Look { at_ms, shop: shop.clone() });
            shop.at_us += 250_000;
            shop.in_flight_us += 250_000 * in_flight(at_ms);
            shop.busy_us += 250_000 * in_flight(at_ms).min(4);
        }
        all
    }

    fn base() -> Base {
        Base { orders_per_s: 1.0, p50_ms: 15.0, p99_ms: 40.0, pool: 4 }
    }

    fn cell(list: Vec<Event>, looks: &[Look], plans: &[PlanSample], load: Load) -> Cell {
        let timing = Timing { warm_ms: 2_000, loaded_ms: 10_000 };
        let events = Events { list, ..Events::default() };
        Cell::of(Tier::Forecast, load, timing, &base(), &Seen { events: &events, looks, plans, cpu: process::Load::default() })
    }

    #[test]
    fn orders_refusals_and_queues_are_those_of_the_time() {
        let busy = |e: Event| Event { status: 503, ..e };
        let list = vec![
            event(1, 1_000, 50, Action::Checkout, AnswerKind::Ordered, Some(30)),
            event(2, 7_000, 530, Action::Checkout, AnswerKind::Ordered, Some(30)),
            event(3, 6_000, 40, Action::Home, AnswerKind::Page, Some(15)),
            busy(event(4, 6_500, 1, Action::Home, AnswerKind::Busy, None)),
            busy(event(5, 6_500, 1, Action::Home, AnswerKind::Busy, Some(1))),
            event(6, 4_000, 6_000, Action::Home, AnswerKind::Timeout, None),
        ];
        let c = cell(list, &looks(|_| 8, 12_000), &[], Load::Times(4));
        assert_eq!((c.seconds, c.orders, c.orders_ratio), (6.0, 1, 1.0 / 6.0), "from two fifths of the load on");
        assert_eq!((c.requests, c.refused, c.failed), (5, 1, 2), "the shop's own 503 and the page nobody waited for failed");
        assert_eq!(c.queue_p99_ms, 500.0);
        assert_eq!((c.settled_in_flight_s, c.series[7].orders, c.series[7].in_flight), (None, 1, 8.0));
    }

    #[test]
    fn a_wait_is_needless_while_the_shop_has_room() {
        let wait = |v, at| Event { verdict: Some(GateVerdict::Wait), ..event(v, at, 1, Action::Home, AnswerKind::Waiting, None) };
        let pass = Event { pass: true, ..event(1, 9_000, 0, Action::Claim, AnswerKind::Redirect, None) };
        // Busy until 8 s, then half idle; the second word to wait of the same visitor does not count again.
        let list = vec![wait(1, 6_500), wait(2, 8_500), wait(2, 8_600), pass];
        let c = cell(list, &looks(|t| if t < 8_000 { 6 } else { 2 }, 12_000), &[], Load::Times(2));
        assert_eq!(c.needless, (1, 2));
        assert_eq!(c.wait_ms, (2_499.0, 2_499.0));
    }

    #[test]
    fn a_step_is_settled_when_nothing_is_off_any_more() {
        let at = Load::Step.steps_at_ms(Timing { warm_ms: 2_000, loaded_ms: 10_000 }).unwrap();
        assert_eq!(at, 5_500);
        let looks = looks(|t| if (5_500..6_500).contains(&t) { 20 } else { 6 }, 12_000);
        let plan = |unix_ms: u64, refill_per_s| PlanSample {
            unix_ms,
            room: "r".into(),
            refill_per_s,
            burst: 1.0,
            seats_max: 9,
            closed: false,
            frontier: None,
            units: None,
            drawn: None,
        };
        let plans: Vec<PlanSample> = (0..24).map(|i| plan(i * 500, if i < 15 { 100.0 } else { 30.0 })).collect();
        let c = cell(Vec::new(), &looks, &plans, Load::Step);
        assert_eq!((c.settled_in_flight_s, c.settled_refill_s), (Some(1.0), Some(2.0)));
        let c = cell(Vec::new(), &super::tests::looks(|t| 1 << (t / 1_000), 12_000), &[], Load::Step);
        assert_eq!((c.settled_in_flight_s, c.settled_refill_s), (None, None), "what grows for ever is never settled");
    }

    #[test]
    fn first_come_first_served_is_one() {
        let order = |v, t| event(v, t, 0, Action::Checkout, AnswerKind::Ordered, Some(1));
        let came = |v, t| event(v, t, 0, Action::Home, AnswerKind::Page, Some(1));
        let straight = vec![came(1, 0), came(2, 5), came(3, 9), order(1, 50), order(2, 60), order(3, 70)];
        let backwards = vec![came(1, 0), came(2, 5), came(3, 9), order(1, 70), order(2, 60), order(3, 50)];
        let of = |list| correlation(&Events { list, ..Events::default() });
        assert_eq!((of(straight), of(backwards)), (Some(1.0), Some(-1.0)));
    }
}
