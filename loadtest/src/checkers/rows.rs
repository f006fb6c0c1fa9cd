//! A log from a live run: the gate's journal, what its admin listener said while it ran, and what it counted.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize as _;
use serde_json::Value;
use tidegate_filters::{
    PipelineSettings, Reason, Row,
    record::Kind,
    rule::sale_window::Sale,
    seats::{
        ledger::Units,
        queue::{Lane, Place},
        room::RoomSettings,
        seat::SeatRef,
    },
    units::Span,
};

use super::log::{Accounts, Counts, Event, Log, RoomFacts, What};

/// A room of the policy that was in force.
#[derive(Clone, Debug, Default)]
pub struct LiveRoom {
    /// Its name, as in the rows.
    pub name: String,
    /// `seats.pass_idle`.
    pub pass_idle: Span,
    /// `seats.pass_age_max`.
    pub pass_age_max: Span,
    /// `claim_window`.
    pub claim_window: Span,
    /// Its sale.
    pub sale: Option<Sale>,
    /// Units a hold of its sale takes.
    pub hold_units: u32,
    /// Its own numbers at the end.
    pub counts: Option<Counts>,
}

impl LiveRoom {
    /// The rooms of a policy; of several sales in a room the first counts.
    pub fn all(policy: &PipelineSettings) -> Vec<Self> {
        let room = |r: &RoomSettings| LiveRoom {
            name: r.name.clone(),
            pass_idle: r.seats.pass_idle,
            pass_age_max: r.seats.pass_age_max,
            claim_window: r.claim_window,
            sale: policy.sales.iter().find(|s| *s.room == *r.name).cloned(),
            hold_units: policy.sales.iter().find(|s| *s.room == *r.name).map_or(1, |s| s.lot.max(1)),
            counts: None,
        };
        policy.rooms.iter().map(room).collect()
    }
}

/// The plan of a room, as the admin listener showed it at an instant.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanSample {
    /// Unix milliseconds.
    pub unix_ms: u64,
    /// The room.
    pub room: String,
    /// New passes a second.
    pub refill_per_s: f64,
    /// Passes at once.
    pub burst: f64,
    /// Most live seats.
    pub seats_max: u32,
    /// Paused.
    pub closed: bool,
    /// Places below were called: main lane, slow lane.
    pub frontier: Option<[u32; 2]>,
    /// Units of its sale.
    pub units: Option<Units>,
    /// Places drawn from one list: the first, and how many.
    pub drawn: Option<[u32; 2]>,
}

impl PlanSample {
    /// The plan in a room's JSON (`RoomStats`); `None` when it has none.
    pub fn from_stats(unix_ms: u64, stats: &Value) -> Option<Self> {
        let plan = stats.get("plan")?;
        let frontier = stats.get("frontier").and_then(Value::as_array).map(|f| {
            let at = |i: usize| f.get(i).and_then(Value::as_u64).unwrap_or(0) as u32;
            [at(0), at(1)]
        });
        Some(PlanSample {
            unix_ms,
            room: stats.get("name")?.as_str()?.to_owned(),
            refill_per_s: plan.get("refill_per_s")?.as_f64()?,
            burst: plan.get("burst")?.as_f64()?,
            seats_max: plan.get("seats")?.as_u64()? as u32,
            closed: stats.get("paused").and_then(Value::as_bool).unwrap_or(false),
            frontier,
            drawn: stats.get("drawn").and_then(|d| <[u32; 2]>::deserialize(d).ok()),
            units: stats.get("stock").and_then(|s| Units::deserialize(s).ok()),
        })
    }
}

impl Counts {
    /// From a room's JSON (`RoomStats`).
    pub fn from_stats(stats: &Value) -> Option<Self> {
        let n = |key: &str| stats.get(key)?.as_u64();
        Some(Counts {
            arrived: n("arrived")?,
            seated: n("seated")?,
            walk_ins: n("walk_ins")?,
            left: n("left")?,
            waiting: n("waiting")?,
        })
    }
}

/// Everything that is known of a live run.
#[derive(Clone, Debug)]
pub struct LiveRun<'a> {
    /// The whole journal.
    pub rows: &'a [Row],
    /// The rooms.
    pub rooms: Vec<LiveRoom>,
    /// In order of time; the first of each room from before the first visit.
    pub plans: &'a [PlanSample],
    /// What was counted.
    pub accounts: Accounts,
    /// How far the time of a row may be off.
    pub slack: Span,
    /// How far the time of a plan may be off: at least the distance of the samples.
    pub plan_slack: Span,
}

impl LiveRun<'_> {
    /// The log, in the gate's own time.
    pub fn log(&self) -> Log {
        let mut events = Vec::with_capacity(self.rows.len() + self.plans.len());
        // Both clocks of the first row: samples carry wall time only.
        let start_us = self.rows.first().map_or(0, |r| (r.at_ms * 1_000).saturating_sub(r.mono_ns / 1_000));
        let since_start = |unix_ms: u64| (unix_ms * 1_000).saturating_sub(start_us);
        for (i, room) in self.rooms.iter().enumerate() {
            rules(i as u16, room, since_start, &mut events);
        }
        let mut first = vec![true; self.rooms.len()];
        let mut drawn = BTreeSet::new();
        for sample in self.plans {
            let Some(room) = self.room(&sample.room) else { continue };
            // What was in force before the first sample is taken to be what the first sample says.
            let at_us = if std::mem::take(&mut first[usize::from(room)]) { 0 } else { since_start(sample.unix_ms) };
            let PlanSample { refill_per_s, burst, seats_max, closed, frontier, units, drawn: places, .. } = *sample;
            if let Some([first, count]) = places.filter(|p| drawn.insert((room, *p))) {
                // Given some time before they were seen to be.
                let at_us = at_us.saturating_sub(self.plan_slack.ms() * 1_000);
                let place = |number| What::Joined(Place { lane: Lane::Main, number });
                events.extend((first..first.saturating_add(count)).map(|n| Event { at_us, room, what: place(n) }));
            }
            let sale = self.rooms[usize::from(room)].sale.as_ref();
            let early = sale.is_some_and(|s| (s.prequeue_opens_ms..s.opens_ms).contains(&sample.unix_ms));
            events.push(Event { at_us, room, what: What::Plan { refill_per_s, burst, seats_max } });
            events.push(Event { at_us, room, what: What::Closed(closed || early) });
            events.extend(units.map(|u| Event { at_us, room, what: What::Units(u) }));
            events.extend(frontier.map(|f| Event { at_us, room, what: What::Frontier(f) }));
        }
        let mut accounts = Accounts {
            rows: Some(self.rows.iter().filter(|r| r.kind != Kind::Operator).count() as u64),
            ..self.accounts.clone()
        };
        for row in self.rows {
            if let Some(room) = self.room(&row.room) {
                of_row(row, room, &mut events);
                of_hold(row, room, self.rooms[usize::from(room)].hold_units, &mut events);
                accounts.claims_unheard += u64::from(is_unheard_claim(row));
            }
        }
        events.sort_by_key(|e| e.at_us);
        let rooms = self.rooms.iter().map(|r| RoomFacts { name: r.name.clone(), counts: r.counts }).collect();
        let us = |s: Span| s.ms() * 1_000;
        Log { rooms, events, accounts, slack_us: us(self.slack), plan_slack_us: us(self.plan_slack) }
    }

    fn room(&self, name: &str) -> Option<u16> {
        self.rooms.iter().position(|r| r.name == name).map(|i| i as u16)
    }
}

fn rules(room: u16, facts: &LiveRoom, since_start: impl Fn(u64) -> u64, events: &mut Vec<Event>) {
    let us = |s: Span| s.ms() * 1_000;
    let (idle_us, age_us, claim_window_us) = (us(facts.pass_idle), us(facts.pass_age_max), us(facts.claim_window));
    let reserve_us = facts.sale.as_ref().map_or(0, |s| u64::from(s.reserve_s) * 1_000_000);
    events.push(Event { at_us: 0, room, what: What::Rules { idle_us, age_us, claim_window_us, reserve_us } });
    let Some(sale) = &facts.sale else { return };
    // In the pre-queue places are given and nobody is called; outside of the sale nothing is counted.
    let mut at = |unix_ms: u64, what: What| events.push(Event { at_us: since_start(unix_ms), room, what });
    at(sale.prequeue_opens_ms, What::Closed(true));
    at(sale.prequeue_opens_ms, What::Stock(sale.stock));
    at(sale.opens_ms, What::Closed(false));
    at(sale.closes_ms, What::Stock(None));
}

fn seat_of(row: &Row) -> Option<SeatRef> {
    (row.seat != u32::MAX).then_some(SeatRef { index: row.seat, generation: row.generation })
}

/// The time for which its unit surely was at the shop: from the end of the queue to the first byte.
fn of_hold(row: &Row, room: u16, units: u32, events: &mut Vec<Event>) {
    let seat = seat_of(row);
    let denied = |seat| match row.reason? {
        Reason::AllHeld | Reason::StockGone => Some(What::HoldDenied(seat)),
        Reason::VisitorLimit => Some(What::HoldBarred(seat)),
        _ => None,
    };
    events.extend(seat.and_then(denied).map(|what| Event { at_us: row.mono_ns / 1_000, room, what }));
    if matches!(row.hold_end, "" | "not_sent") {
        return;
    }
    let sent_us = row.mono_ns / 1_000 + u64::from(row.queued_us);
    let sold = match row.hold_end {
        "sold" => Some(row.sold),
        "not_sold" => Some(0),
        _ => None,
    };
    events.push(Event { at_us: sent_us, room, what: What::HoldSent { hold: row.hold, units, seat } });
    let at_us = sent_us + u64::from(row.shop_us.max(1));
    events.push(Event { at_us, room, what: What::HoldEnded { hold: row.hold, sold } });
}

/// No status was sent to the end: a tick may have seated it.
fn is_unheard_claim(row: &Row) -> bool {
    row.kind == Kind::Claim && row.status == 0 && row.seat == u32::MAX && row.place != u64::MAX
}

/// A row's events. A claim is decided by a tick, so its seat dates from the answer; all else from the arrival.
fn of_row(row: &Row, room: u16, events: &mut Vec<Event>) {
    let at_us = row.mono_ns / 1_000;
    let answered_us = at_us + u64::from(row.total_us);
    let place = (row.place != u64::MAX).then(|| Place::from_bits(row.place)).flatten();
    let seat = seat_of(row);
    let mut add = |at_us, what| events.push(Event { at_us, room, what });
    if row.sold > 0 && row.hold_end.is_empty() {
        add(answered_us, What::Sold(row.sold));
    }
    if let Some(place) = place.filter(|_| row.joined) {
        add(at_us, What::Joined(place));
    }
    let called = row.reason == Some(Reason::Called);
    match (row.kind, place, seat) {
        (Kind::Leave, _, Some(seat)) => add(answered_us, What::Released(seat)),
        (Kind::Leave, Some(place), None) => add(answered_us, What::Left(place)),
        (Kind::Claim, Some(place), Some(seat)) => {
            add(at_us, What::Claimed(place));
            add(answered_us, What::Seated { place: Some(place), seat });
        }
        // Inside already: the same pass again.
        (Kind::Claim, None, Some(seat)) => add(at_us, What::Used(seat)),
        (Kind::Claim, Some(place), None) if called => {
            add(at_us, What::Claimed(place));
            add(answered_us, What::Next(place));
        }
        (_, _, Some(seat)) if row.seated => add(at_us, What::Seated { place, seat }),
        (_, _, Some(seat)) => add(at_us, What::Used(seat)),
        (_, Some(place), None) if called => add(at_us, What::Told { place, called }),
        (_, Some(place), None) if matches!(row.reason, Some(Reason::Queued | Reason::RoomPaused)) => {
            add(at_us, What::Told { place, called });
        }
        (_, None, None) if row.reason == Some(Reason::RoomFull) => add(at_us, What::Refused),
        _ => {}
    }
}

/// Sum of all series of a metric in Prometheus text; `None` when there is none.
pub fn metric_sum(text: &str, name: &str) -> Option<u64> {
    let mut values = series(text, name).map(|(_, v)| v).peekable();
    values.peek()?;
    Some(values.sum())
}

/// A metric in Prometheus text by one of its labels.
pub fn metrics_by_label(text: &str, name: &str, label: &str) -> BTreeMap<String, u64> {
    let mut by_label = BTreeMap::new();
    for (labels, value) in series(text, name) {
        let key = labels.split(',').find_map(|l| l.trim().strip_prefix(label)?.strip_prefix("=\"")?.strip_suffix('"'));
        *by_label.entry(key.unwrap_or_default().to_owned()).or_insert(0) += value;
    }
    by_label
}

fn series<'t>(text: &'t str, name: &str) -> impl Iterator<Item = (&'t str, u64)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once('}')?,
            None => ("", rest.strip_prefix(' ').map(|_| rest)?),
        };
        Some((labels, value.trim().parse::<f64>().ok()? as u64))
    })
}
