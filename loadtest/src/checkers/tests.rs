//! The checkers over rows of a journal: the same sale as the simulation saw it and as a live gate would write it down.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use tidegate_filters::{Reason, Row, record::Kind, units::Span};

use super::*;
use crate::sim::{Upheaval, World, random_world, run};

const START_UNIX_MS: u64 = 1_796_090_400_000;

/// A world of one room that nobody reloads: what a journal alone can be judged by.
fn plain(seed: u64) -> World {
    let mut world = random_world(seed);
    world.policy.rooms.truncate(1);
    world.policy.filters.truncate(2);
    world.policy.filters.push(serde_json::from_str(r#"{"waiting_room":{"room":"drop"}}"#).unwrap());
    world.upheavals.retain(|(_, u)| matches!(u, Upheaval::ShopSlower(_)));
    world.habits.forge = 0;
    world
}

/// What a gate would have written.
fn rows_of(log: &Log) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let (mut claimed, mut sent) = (BTreeMap::new(), BTreeMap::new());
    let mut known = BTreeSet::new();
    for e in &log.events {
        let none = Row { room: "drop".into(), place: u64::MAX, seat: u32::MAX, status: 200, ..Row::default() };
        let at = |us: u64| Row { at_ms: START_UNIX_MS + us / 1_000, mono_ns: us * 1_000, ..none.clone() };
        match e.what {
            What::Joined(p) => rows.push(Row { place: p.to_bits(), joined: true, reason: Some(Reason::Queued), ..at(e.at_us) }),
            What::Told { place, called } => {
                let reason = Some(if called { Reason::Called } else { Reason::Queued });
                let fresh = rows.last().is_some_and(|r| r.joined && r.place == place.to_bits() && r.mono_ns == e.at_us * 1_000);
                if !fresh {
                    rows.push(Row { kind: Kind::Poll, place: place.to_bits(), reason, ..at(e.at_us) });
                }
            }
            What::Claimed(p) => {
                claimed.entry(p).or_insert(e.at_us);
            }
            // Of one who had gone the row says no more than of one who was told to wait.
            What::Next(p) | What::Kept { place: p, .. } if claimed.contains_key(&p) || matches!(e.what, What::Next(_)) => {
                let since = claimed.remove(&p).unwrap_or(e.at_us);
                let total_us = (e.at_us - since) as u32;
                let reason = Some(Reason::Called);
                rows.push(Row { kind: Kind::Claim, place: p.to_bits(), reason, total_us, ..at(since) });
            }
            What::Seated { place, seat } => {
                let since = place.and_then(|p| claimed.remove(&p)).unwrap_or(e.at_us);
                let (kind, total_us) = (if place.is_some() { Kind::Claim } else { Kind::Visit }, (e.at_us - since) as u32);
                let place = place.map_or(u64::MAX, |p| p.to_bits());
                known.insert(seat.to_bits());
                rows.push(Row {
                    kind,
                    place,
                    seat: seat.index,
                    generation: seat.generation,
                    seated: true,
                    total_us,
                    ..at(since)
                });
            }
            What::Used(seat) => rows.push(Row { seat: seat.index, generation: seat.generation, ..at(e.at_us) }),
            What::Released(seat) => {
                rows.push(Row { kind: Kind::Leave, seat: seat.index, generation: seat.generation, ..at(e.at_us) });
            }
            What::Left(p) => rows.push(Row { kind: Kind::Leave, place: p.to_bits(), ..at(e.at_us) }),
            What::HoldSent { hold, seat, .. } => drop(sent.insert(hold, (e.at_us, seat))),
            What::HoldDenied(seat) | What::HoldBarred(seat) => {
                let barred = matches!(e.what, What::HoldBarred(_));
                let reason = Some(if barred { Reason::VisitorLimit } else { Reason::AllHeld });
                rows.push(Row { seat: seat.index, generation: seat.generation, reason, ..at(e.at_us) });
            }
            What::HoldEnded { hold, sold } => {
                let (since, seat) = sent[&hold];
                let (hold_end, sold) = match sold {
                    Some(0) => ("not_sold", 0),
                    Some(n) => ("sold", n),
                    None => ("lost", 0),
                };
                let (seat, generation) = seat.map_or((u32::MAX, 0), |s| (s.index, s.generation));
                rows.push(Row { hold, hold_end, sold, shop_us: (e.at_us - since) as u32, seat, generation, ..at(since) });
            }
            What::Sold(units) => rows.push(Row { sold: units, ..at(e.at_us) }),
            _ => {}
        }
    }
    rows.sort_by_key(|r| r.mono_ns);
    rows
}

fn plans_of(log: &Log) -> Vec<PlanSample> {
    let mut plans = Vec::new();
    let mut last = [0, 0];
    for e in &log.events {
        match e.what {
            What::Frontier(f) => last = f,
            // Each plan is followed by a count.
            What::Units(u) => drop(plans.last_mut().map(|p: &mut PlanSample| p.units = Some(u))),
            What::Plan { refill_per_s, burst, seats_max } => plans.push(PlanSample {
                unix_ms: START_UNIX_MS + e.at_us / 1_000,
                room: "drop".into(),
                refill_per_s,
                burst,
                seats_max,
                closed: false,
                frontier: Some(last),
                units: None,
                drawn: None,
            }),
            _ => {}
        }
    }
    plans
}

struct Run {
    rooms: Vec<LiveRoom>,
    rows: Vec<Row>,
    plans: Vec<PlanSample>,
    accounts: Accounts,
}

impl Run {
    fn new(seed: u64) -> Self {
        let world = plain(seed);
        let log = run(&world, seed).log;
        let mut rooms = LiveRoom::all(&world.policy);
        rooms[0].counts = log.rooms[0].counts;
        let rows = rows_of(&log);
        let accounts = Accounts { parsed: Some(rows.len() as u64), ..Accounts::default() };
        Run { rooms, rows, plans: plans_of(&log), accounts }
    }

    fn judge(&self) -> BTreeSet<&'static str> {
        let run = LiveRun {
            rows: &self.rows,
            rooms: self.rooms.clone(),
            plans: &self.plans,
            accounts: self.accounts.clone(),
            // Within one tick rows do not say who was first.
            slack: Span(1),
            plan_slack: Span(1_000),
        };
        let found = judge(&run.log());
        found.iter().for_each(|v| println!("{v}"));
        found.iter().map(|v| v.rule).collect()
    }
}

#[test]
fn a_journal_is_judged_like_the_simulation() {
    for seed in 0..25 {
        assert_eq!(Run::new(seed).judge(), BTreeSet::new(), "seed {seed}");
    }
}

#[test]
fn a_journal_of_something_else_is_seen() {
    let claims = |s: &Run| s.rows.iter().filter(|r| r.kind == Kind::Claim && r.seated).count();
    let seed = (0..100).find(|seed| claims(&Run::new(*seed)) > 20).unwrap();
    let tampered = |f: &dyn Fn(&mut Vec<Row>)| {
        let mut sale = Run::new(seed);
        f(&mut sale.rows);
        sale.judge()
    };
    let seated = |rows: &[Row], n: usize| rows.iter().enumerate().filter(|(_, r)| r.seated).nth(n).map(|(i, _)| i).unwrap();
    let lost = tampered(&|rows| drop(rows.remove(5)));
    assert!(lost.contains("every_request_has_a_row"), "{lost:?}");
    let twice = tampered(&|rows| {
        let (a, b) = (seated(rows, 3), seated(rows, 9));
        (rows[b].seat, rows[b].generation) = (rows[a].seat, rows[a].generation);
    });
    assert!(twice.contains("one_place_one_pass_one_seat"), "{twice:?}");
    let invented =
        tampered(&|rows| rows.push(Row { seat: 99_999, seated: false, kind: Kind::Visit, ..rows[rows.len() - 1].clone() }));
    assert!(invented.contains("only_issued_tokens"), "{invented:?}");
    let unheard = tampered(&|rows| {
        let joined = rows.iter().position(|r| r.joined).unwrap();
        rows[joined].joined = false;
    });
    assert!(unheard.contains("only_issued_tokens") && unheard.contains("everybody_is_somewhere"), "{unheard:?}");
    let sold = |s: &Run| s.rows.iter().filter(|r| r.hold_end == "sold").count();
    let selling = (0..100).find(|seed| sold(&Run::new(*seed)) > 10).unwrap();
    let mut oversold = Run::new(selling);
    let all: Vec<Row> = oversold.rows.iter().filter(|r| r.hold_end == "sold").cloned().collect();
    let stock = oversold.rooms[0].sale.as_ref().and_then(|s| s.stock).unwrap();
    oversold.rows.extend((0..stock).map(|i| Row { hold: 1_000_000 + i, ..all[0].clone() }));
    assert!(oversold.judge().contains("stock_is_never_oversold"));
    let flood = tampered(&|rows| {
        let first = rows[seated(rows, 0)].clone();
        rows.extend((0..5_000).map(|i| Row { kind: Kind::Visit, place: u64::MAX, seat: 50_000 + i, ..first.clone() }));
    });
    assert!(flood.contains("admissions_within_refill") && flood.contains("live_seats_within_max"), "{flood:?}");
}

#[test]
fn admin_and_metrics_are_read_as_they_are_written() {
    let room = serde_json::json!({
        "name": "drop", "paused": true, "arrived": 9, "seated": 4, "walk_ins": 1, "left": 2, "waiting": 3, "frontier": [7, 1],
        "plan": { "refill_per_s": 2.5, "burst": 3.0, "seats": 40, "armed": true, "reason": "" }
    });
    let plan = PlanSample::from_stats(5, &room).unwrap();
    assert_eq!((plan.refill_per_s, plan.seats_max, plan.closed, plan.frontier), (2.5, 40, true, Some([7, 1])));
    let counts = Counts { arrived: 9, seated: 4, walk_ins: 1, left: 2, waiting: 3 };
    assert_eq!(Counts::from_stats(&room), Some(counts));
    let text = "# HELP heads_total x\nheads_total{reason=\"framing\"} 3\nheads_total{a=\"b\",reason=\"too_long\"} 2\nheads 7\n";
    assert_eq!(
        (metric_sum(text, "heads_total"), metric_sum(text, "heads"), metric_sum(text, "nothing")),
        (Some(5), Some(7), None)
    );
    assert_eq!(metrics_by_label(text, "heads_total", "reason"), BTreeMap::from([("framing".into(), 3), ("too_long".into(), 2)]));
}
