//! No inversion in a lane.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_filters::seats::queue::{Lane, Place};

use super::{
    Found, Log, Violation,
    log::{At, Name, What},
};

/// Who was told "you are next" has this long to be told anything again before others may be served first.
const STANDS_US: u64 = 10_000_000;

/// Three things, lane by lane, for a < b:
///
/// - *Calls go in order.* Once b was told that it is called (or was seated), a is never told that it still has to wait:
///   present people are called lowest first, and absent ones are passed over but stay called.
/// - *Claims go in order.* While a claim of a is open, b's claim is not served: claims of a tick go lowest first.
/// - *Claims stand.* While a was told that it is next, and is there, b's claim is not served. In exact times only: nobody
///   is told that a restart made a claim a call again.
pub fn no_inversion(log: &Log) -> Vec<Violation> {
    let mut found = Found::new("no_inversion", log);
    for room in 0..log.rooms.len() {
        for lane in Lane::ALL {
            calls(log, room, lane, &mut found);
            claims(log, room, lane, &mut found);
        }
    }
    found.list
}

fn calls(log: &Log, room: usize, lane: Lane, found: &mut Found<'_>) {
    // What counts is what was said at least the slack ago: later words may have been decided before.
    let mut said: Vec<(u64, u32)> = Vec::new();
    let mut counted = 0;
    let mut highest: Option<(u32, u64)> = None;
    for e in log.of_room(room) {
        while let Some((at_us, number)) = said.get(counted).filter(|s| s.0 + log.slack_us <= e.at_us) {
            if highest.is_none_or(|h| h.0 < *number) {
                highest = Some((*number, *at_us));
            }
            counted += 1;
        }
        match e.what {
            What::Told { place, called: true } | What::Seated { place: Some(place), .. } if place.lane == lane => {
                said.push((e.at_us, place.number));
            }
            What::Told { place, called: false } if place.lane == lane => {
                if let Some((b, at_us)) = highest.filter(|h| h.0 > place.number) {
                    let higher = Name(Place { lane, number: b });
                    let message = format!("{} still has to wait, but {higher} was called by {}", Name(place), At(at_us));
                    found.add(room, e.at_us, message);
                }
            }
            _ => {}
        }
    }
}

fn claims(log: &Log, room: usize, lane: Lane, found: &mut Found<'_>) {
    // When each claim was answered, to tell apart what is merely written late.
    let mut open: BTreeMap<u32, u64> = BTreeMap::new();
    let mut seated = BTreeSet::new();
    let mut refused_now: (u64, BTreeSet<u32>) = (0, BTreeSet::new());
    let mut suspects: Vec<(u64, u32, u32)> = Vec::new();
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    for e in log.of_room(room) {
        match e.what {
            What::Told { place: p, called: true } if p.lane == lane => {
                // Who was away for longer may have to claim again, which is told in the same words.
                match next.get_mut(&p.number) {
                    Some(at_us) if e.at_us <= *at_us + STANDS_US => *at_us = e.at_us,
                    _ => drop(next.remove(&p.number)),
                }
            }
            What::Claimed(p) if p.lane == lane => {
                open.entry(p.number).or_insert(e.at_us);
            }
            What::Left(p) if p.lane == lane => {
                open.remove(&p.number);
                next.remove(&p.number);
            }
            What::Next(p) if p.lane == lane => {
                open.remove(&p.number);
                next.insert(p.number, e.at_us);
                if refused_now.0 != e.at_us {
                    refused_now = (e.at_us, BTreeSet::new());
                }
                refused_now.1.insert(p.number);
            }
            What::Withdrawn { place: p, .. } if p.lane == lane => {
                seated.remove(&p.number);
            }
            What::Seated { place: Some(p), .. } | What::Kept { place: p, .. } if p.lane == lane => {
                settle(&mut suspects, p.number, e.at_us, log.slack_us);
                // The same pass once more is no claim served.
                let (claimed, stood) = (open.remove(&p.number).is_some(), next.remove(&p.number).is_some());
                if !(claimed || stood) || !seated.insert(p.number) {
                    continue;
                }
                // A journal does not say since when the seat was kept for who was next.
                if stood && log.slack_us > 0 {
                    continue;
                }
                let stands = |s: &(&u32, &u64)| log.slack_us == 0 && e.at_us <= *s.1 + STANDS_US;
                suspects.extend(next.range(..p.number).find(stands).map(|(n, _)| (e.at_us, *n, p.number)));
                let lowest = open.iter().next().filter(|(n, since)| **n < p.number && **since + log.slack_us < e.at_us);
                if let Some((n, _)) = lowest {
                    suspects.push((e.at_us, *n, p.number));
                }
                let passed = refused_now.1.first().filter(|n| refused_now.0 == e.at_us && log.slack_us == 0 && **n < p.number);
                if let Some(n) = passed {
                    suspects.push((e.at_us, *n, p.number));
                }
            }
            _ => {}
        }
    }
    for (at_us, a, b) in suspects {
        let (a, b) = (Place { lane, number: a }, Place { lane, number: b });
        found.add(room, at_us, format!("the claim of {} was served while the claim of {} was open or next", Name(b), Name(a)));
    }
}

/// A claim that turns out to have been served within the slack was no inversion.
fn settle(suspects: &mut Vec<(u64, u32, u32)>, number: u32, at_us: u64, slack_us: u64) {
    if slack_us > 0 {
        suspects.retain(|(since, a, _)| *a != number || at_us > since + slack_us);
    }
}
