//! From events to figures.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{
    crowd::{Action, AnswerKind, GateVerdict, Kind, Outcome},
    events::{Event, Events},
};

/// Longest time a histogram can tell apart: ten minutes, in microseconds.
const LONGEST_US: u64 = 600_000_000;

/// Percentiles of a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// Half are shorter, milliseconds.
    pub p50_ms: f64,
    /// Nine in ten are shorter.
    pub p90_ms: f64,
    /// All but one in a hundred are shorter.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// One second of a run, for the plots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Pages and forms answered by the shop.
    pub forwarded: u32,
    /// Answers of the gate that hold a place.
    pub waiting: u32,
    /// Answers of the gate that say no: throttled, refused, challenged.
    pub refused: u32,
    /// Errors and timeouts.
    pub failed: u32,
    /// Orders placed by people.
    pub orders_people: u32,
    /// Orders placed by bots.
    pub orders_bots: u32,
    /// Median of shoppers' page time, milliseconds; NaN-free: 0 when there was no page.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

/// The figures of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Name of the scenario.
    pub scenario: String,
    /// Seed of the crowd.
    pub seed: u64,
    /// How long it took.
    pub seconds: f64,
    /// Requests answered or failed, assets included.
    pub requests: u64,
    /// Most requests in a second.
    pub requests_per_s_peak: u64,
    /// People who came.
    pub people: u64,
    /// Requests of people, without assets.
    pub people_requests: u64,
    /// Those that failed, by what the people saw.
    pub people_failures: BTreeMap<String, u64>,
    /// Why people went home.
    pub people_outcomes: BTreeMap<String, u64>,
    /// Pages of the shop that people got, from the click to the last byte; a page that never came counts as long as
    /// somebody waited for it. Errors are not in here.
    pub page: Times,
    /// The same for paying alone.
    pub checkout: Times,
    /// Time in the waiting room, once the sale was open, of people who got a seat.
    pub waiting: Times,
    /// How long people waited, in whole seconds: one entry for each who got a seat.
    pub waits_s: Vec<u32>,
    /// Answers with which the gate turned work away, by verdict, for people.
    pub turned_away_people: BTreeMap<String, u64>,
    /// The same for bots.
    pub turned_away_bots: BTreeMap<String, u64>,
    /// How late requests were sent, 99th percentile: what the machine of the crowd adds by itself.
    pub lag_p99_ms: f64,
    /// Second by second.
    pub series: Vec<Second>,
    /// Events that were not kept; the figures miss them.
    pub dropped: u64,
}

impl Summary {
    /// Failed requests of people.
    pub fn failures(&self) -> u64 {
        self.people_failures.values().sum()
    }

    /// Failed requests of people as a share of their requests.
    pub fn failure_share(&self) -> f64 {
        self.failures() as f64 / (self.people_requests.max(1)) as f64
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |m: &BTreeMap<String, u64>| match m.is_empty() {
            true => "none".to_owned(),
            false => m.iter().map(|(k, n)| format!("{k} {n}")).collect::<Vec<_>>().join(", "),
        };
        let ms = |t: &Times| format!("p50 {:.0} ms, p90 {:.0} ms, p99 {:.0} ms ({})", t.p50_ms, t.p90_ms, t.p99_ms, t.count);
        writeln!(
            f,
            "{} (seed {}): {:.0} s, {} requests, peak {}/s",
            self.scenario, self.seed, self.seconds, self.requests, self.requests_per_s_peak
        )?;
        writeln!(f, "people: {} ({})", self.people, list(&self.people_outcomes))?;
        writeln!(
            f,
            "failed requests of people: {} of {} ({})",
            self.failures(),
            self.people_requests,
            list(&self.people_failures)
        )?;
        writeln!(f, "shoppers' pages: {}", ms(&self.page))?;
        writeln!(f, "checkouts: {}", ms(&self.checkout))?;
        writeln!(f, "waiting: {}", ms(&self.waiting))?;
        writeln!(f, "gate to people: {}; to bots: {}", list(&self.turned_away_people), list(&self.turned_away_bots))?;
        write!(f, "requests were sent late by: p99 {:.0} ms", self.lag_p99_ms)
    }
}

/// The figures of a run.
pub fn summarise(events: &Events) -> Summary {
    let mut s = Summary {
        scenario: events.scenario.clone(),
        seed: events.seed,
        seconds: events.duration_ms as f64 / 1_000.0,
        requests: events.list.len() as u64,
        dropped: events.dropped,
        ..Summary::default()
    };
    for ((kind, outcome), n) in &events.outcomes {
        if *kind == Kind::Person {
            s.people += n;
            *s.people_outcomes.entry(outcome_name(*outcome).into()).or_default() += n;
        }
    }
    let mut still_there = std::collections::BTreeSet::new();
    let (mut page, mut checkout, mut lag) = (times(), times(), times());
    for e in &events.list {
        lag.saturating_record(e.sent_ms.saturating_sub(e.at_ms) * 1_000);
        if e.verdict.is_some_and(|v| v != GateVerdict::Own) {
            let by = if e.kind == Kind::Person { &mut s.turned_away_people } else { &mut s.turned_away_bots };
            *by.entry(verdict_name(e).into()).or_default() += 1;
        }
        if e.kind != Kind::Person || e.action == Action::Asset {
            continue;
        }
        still_there.insert(e.visitor);
        s.people_requests += 1;
        if e.answer.is_failure() {
            *s.people_failures.entry(failure_name(e)).or_default() += 1;
        }
        if is_page_time(e) {
            page.saturating_record(e.latency_us);
            if e.action == Action::Checkout {
                checkout.saturating_record(e.latency_us);
            }
        }
    }
    let gone = s.people;
    s.people = s.people.max(still_there.len() as u64);
    if s.people > gone {
        s.people_outcomes.insert("still there at the end".into(), s.people - gone);
    }
    (s.page, s.checkout, s.lag_p99_ms) = (Times::of(&page), Times::of(&checkout), lag.value_at_quantile(0.99) as f64 / 1_000.0);
    (s.waiting, s.waits_s) = waits(events);
    s.series = series(events);
    s.requests_per_s_peak = per_second(events).into_iter().max().unwrap_or(0);
    s
}

impl Times {
    fn of(h: &Histogram<u64>) -> Self {
        let ms = |q: f64| h.value_at_quantile(q) as f64 / 1_000.0;
        if h.is_empty() {
            return Times::default();
        }
        Times { count: h.len(), p50_ms: ms(0.5), p90_ms: ms(0.9), p99_ms: ms(0.99), max_ms: h.max() as f64 / 1_000.0 }
    }
}

/// A page of the shop that a shopper got, or waited for until the patience was gone. A quick error is a failure, not a
/// quick page, and the gate's own quick answers do not make the shop look better either.
fn is_page_time(e: &Event) -> bool {
    let came = matches!(e.answer, AnswerKind::Page | AnswerKind::Ordered | AnswerKind::SoldOut | AnswerKind::Timeout);
    e.action.is_page() && e.verdict.is_none() && came
}

fn times() -> Histogram<u64> {
    // Bounds and precision are constants that the crate accepts; the fallback has no upper bound and is never taken.
    Histogram::new_with_bounds(1, LONGEST_US, 3).unwrap_or_else(|_| {
        let mut h = Histogram::new(0).unwrap_or_else(|_| unreachable!("0 significant digits are allowed"));
        h.auto(true);
        h
    })
}

/// From the first answer that said *wait*, or from the opening when that came before, to the answer that brought the pass:
/// before the opening nobody is let in.
fn waits(events: &Events) -> (Times, Vec<u32>) {
    let mut since: BTreeMap<u32, u64> = BTreeMap::new();
    let (mut h, mut all) = (times(), Vec::new());
    for e in events.list.iter().filter(|e| e.kind == Kind::Person) {
        if e.pass {
            if let Some(from) = since.remove(&e.visitor) {
                let ms = e.done_ms().saturating_sub(from);
                h.saturating_record(ms * 1_000);
                all.push((ms / 1_000) as u32);
            }
        } else if e.answer == AnswerKind::Waiting {
            since.entry(e.visitor).or_insert(e.at_ms.max(events.opens_at_ms));
        }
    }
    (Times::of(&h), all)
}

fn per_second(events: &Events) -> Vec<u64> {
    let mut counts = vec![0; (events.duration_ms / 1_000 + 1) as usize];
    for e in &events.list {
        if let Some(n) = counts.get_mut((e.sent_ms / 1_000) as usize) {
            *n += 1;
        }
    }
    counts
}

fn series(events: &Events) -> Vec<Second> {
    let n = (events.duration_ms / 1_000 + 1) as usize;
    let mut seconds = vec![Second::default(); n];
    let mut pages: Vec<Histogram<u64>> = (0..n).map(|_| times()).collect();
    for e in events.list.iter().filter(|e| e.action != Action::Asset) {
        let i = ((e.done_ms() / 1_000) as usize).min(n - 1);
        let s = &mut seconds[i];
        match (e.answer, e.verdict) {
            (AnswerKind::Waiting | AnswerKind::Seated | AnswerKind::NoTicket, Some(_)) => s.waiting += 1,
            (_, Some(GateVerdict::Throttle | GateVerdict::Refuse | GateVerdict::Challenge | GateVerdict::SoldOut)) => {
                s.refused += 1
            }
            (a, None) if a.is_failure() => s.failed += 1,
            (_, None) => s.forwarded += 1,
            _ => s.waiting += 1,
        }
        if e.answer == AnswerKind::Ordered {
            if e.kind == Kind::Person {
                s.orders_people += 1;
            } else {
                s.orders_bots += 1;
            }
        }
        if e.kind == Kind::Person && is_page_time(e) {
            pages[i].saturating_record(e.latency_us);
        }
    }
    for (s, h) in seconds.iter_mut().zip(&pages) {
        if !h.is_empty() {
            s.p50_ms = h.value_at_quantile(0.5) as f64 / 1_000.0;
            s.p99_ms = h.value_at_quantile(0.99) as f64 / 1_000.0;
        }
    }
    seconds
}

fn verdict_name(e: &Event) -> &'static str {
    match e.verdict {
        Some(GateVerdict::Wait) => "wait",
        Some(GateVerdict::Challenge) => "challenge",
        Some(GateVerdict::Throttle) => "throttle",
        Some(GateVerdict::Refuse) => "refuse",
        Some(GateVerdict::SoldOut) => "sold_out",
        Some(GateVerdict::Own) | None => "own",
    }
}

fn failure_name(e: &Event) -> String {
    match e.answer {
        AnswerKind::Timeout => "gave up waiting for the page".into(),
        AnswerKind::Failed => "connection broke".into(),
        _ => format!("status {}{}", e.status, if e.verdict.is_some() { " from the gate" } else { "" }),
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Bought => "bought",
        Outcome::Looked => "only looked",
        Outcome::SoldOut => "told that it is sold out",
        Outcome::GaveUp => "gave up after errors",
        Outcome::TiredOfWaiting => "tired of waiting",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(visitor: u32, at_ms: u64, latency_ms: u64, answer: AnswerKind) -> Event {
        Event { sent_ms: at_ms + 3, latency_us: latency_ms * 1_000, ..Event::of_a_person(visitor, at_ms, Action::Home, answer) }
    }

    #[test]
    fn figures_are_of_people_and_of_the_shop() {
        let wait = Event { verdict: Some(GateVerdict::Wait), ..event(1, 1_000, 1, AnswerKind::Waiting) };
        let seated = Event {
            verdict: Some(GateVerdict::Own),
            pass: true,
            action: Action::Claim,
            ..event(1, 9_000, 500, AnswerKind::Redirect)
        };
        let bot = Event { kind: Kind::PlainScript, answer: AnswerKind::Error, ..event(9, 500, 4_000, AnswerKind::Error) };
        let list = vec![
            wait,
            seated,
            event(1, 9_500, 40, AnswerKind::Page),
            Event { status: 500, ..event(2, 100, 3_000, AnswerKind::Error) },
            event(2, 4_000, 3_000, AnswerKind::Timeout),
            bot,
        ];
        let events = Events { list, duration_ms: 10_000, ..Events::default() };
        let s = summarise(&events);
        assert_eq!((s.people, s.people_requests, s.failures()), (2, 5, 2));
        assert_eq!((s.page.count, s.page.max_ms.round()), (2, 3_000.0), "waiting pages and errors are no pages, bots no people");
        assert_eq!(s.waits_s, [8]);
        assert_eq!(s.turned_away_people["wait"], 1);
        assert_eq!(s.people_outcomes["still there at the end"], 2);
        assert_eq!((s.series[9].forwarded, s.series[3].failed, s.lag_p99_ms.round()), (1, 1, 3.0));
    }

    #[test]
    fn an_empty_run_has_figures_too() {
        assert_eq!(summarise(&Events::default()).page, Times::default());
    }
}
