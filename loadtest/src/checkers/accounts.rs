//! Nothing is lost on the way: people, rows, refused heads.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_filters::seats::queue::Place;

use super::{
    Counts, Found, Log, Violation,
    log::{At, Name, What},
};

/// arrived = seated + waiting + left, by the log and by the room's own count; who left is not spoken to again.
/// (Who is refused gets no place, so is not among the arrived.)
pub fn everybody_is_somewhere(log: &Log) -> Vec<Violation> {
    let mut found = Found::new("everybody_is_somewhere", log);
    for (room, facts) in log.rooms.iter().enumerate() {
        let by_log = people(log, room, &mut found);
        let at_us = log.events.last().map_or(0, |e| e.at_us);
        let Some(own) = facts.counts else { continue };
        if own.arrived != own.seated + own.waiting + own.left {
            let Counts { arrived, seated, waiting, left, .. } = own;
            let message = format!("the room counts {arrived} arrived, but {seated} seated + {waiting} waiting + {left} left");
            found.add(room, at_us, message);
        }
        let pairs = [
            ("places given", by_log.arrived, own.arrived),
            ("seated", by_log.seated, own.seated),
            ("walked in", by_log.walk_ins, own.walk_ins),
            ("left", by_log.left, own.left),
            ("waiting", by_log.waiting, own.waiting),
        ];
        // A seat nobody was told of stands as waiting in the log.
        let unheard = |what: &str| if matches!(what, "seated" | "waiting") { log.accounts.claims_unheard } else { 0 };
        for (what, log_says, room_says) in pairs.into_iter().filter(|p| p.1.abs_diff(p.2) > unheard(p.0)) {
            found.add(room, at_us, format!("{what}: {log_says} in the log, {room_says} by the room's own count"));
        }
    }
    found.list
}

fn people(log: &Log, room: usize, found: &mut Found<'_>) -> Counts {
    let (mut joined, mut seated, mut walked) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut gone: BTreeMap<Place, u64> = BTreeMap::new();
    for e in log.of_room(room) {
        match e.what {
            What::Joined(p) => {
                joined.insert(p);
            }
            What::Seated { place: Some(p), .. } | What::Kept { place: p, .. } => {
                seated.insert(p);
            }
            What::Withdrawn { place, .. } => {
                seated.remove(&place);
            }
            What::Seated { place: None, seat } => {
                walked.insert(seat.to_bits());
            }
            What::Left(p) => {
                if let Some(before) = gone.insert(p, e.at_us) {
                    found.add(room, e.at_us, format!("{} left again; it left at {}", Name(p), At(before)));
                }
            }
            What::Told { place, .. } | What::Claimed(place) => {
                if let Some(before) = gone.get(&place).filter(|g| e.at_us > **g + log.slack_us) {
                    found.add(room, e.at_us, format!("{} still waits, but left at {}", Name(place), At(*before)));
                }
            }
            _ => {}
        }
    }
    let both = seated.iter().find(|p| gone.contains_key(p));
    if let Some(place) = both {
        found.add(room, gone[place], format!("{} left and was seated", Name(*place)));
    }
    let (arrived, seats, left) = (joined.len() as u64, seated.len() as u64, gone.len() as u64);
    Counts { arrived, seated: seats, walk_ins: walked.len() as u64, left, waiting: arrived.saturating_sub(seats + left) }
}

/// Journal rows + counted drops = parsed requests; refused heads are counted by reason; and the crowd got no answer that
/// the gate knows nothing of.
pub fn every_request_has_a_row(log: &Log) -> Vec<Violation> {
    let mut found = Found::new("every_request_has_a_row", log);
    let a = &log.accounts;
    if let (Some(rows), Some(parsed)) = (a.rows, a.parsed)
        && rows + a.rows_dropped != parsed
    {
        let message =
            format!("{parsed} requests were parsed, but there are {rows} rows and {} counted as dropped", a.rows_dropped);
        found.add_for_all(message);
    }
    let by_reason: u64 = a.heads_refused.values().sum();
    if let Some(total) = a.heads_refused_total.filter(|t| *t != by_reason) {
        found.add_for_all(format!("{total} heads were refused, but the reasons add up to {by_reason}: {:?}", a.heads_refused));
    }
    if let (Some(answers), Some(parsed)) = (a.answers, a.parsed)
        && answers > parsed + by_reason
    {
        let message =
            format!("the crowd got {answers} answers, but the gate knows of {parsed} requests and {by_reason} refused heads");
        found.add_for_all(message);
    }
    found.list
}
