//! One entry one place, one ticket at most one pass, one seat at most one holder.

use std::collections::BTreeMap;

use tidegate_filters::seats::{queue::Place, seat::SeatRef};

use super::{
    Found, Log, Violation,
    log::{At, Name, SeatName, What},
    seats::lives,
};

/// A place is given once; a place gets at most one seat (the same one may be given again); a seat and generation has one
/// holder; and a seat is not given on while its holder may still use it.
pub fn one_place_one_pass_one_seat(log: &Log) -> Vec<Violation> {
    let mut found = Found::new("one_place_one_pass_one_seat", log);
    for room in 0..log.rooms.len() {
        places(log, room, &mut found);
        holders(log, room, &mut found);
    }
    found.list
}

fn places(log: &Log, room: usize, found: &mut Found<'_>) {
    let mut given: BTreeMap<Place, u64> = BTreeMap::new();
    let mut seats: BTreeMap<Place, SeatRef> = BTreeMap::new();
    for e in log.of_room(room) {
        match e.what {
            What::Joined(place) => {
                if let Some(before) = given.insert(place, e.at_us) {
                    found.add(room, e.at_us, format!("{} was given again; it was given at {}", Name(place), At(before)));
                }
            }
            What::Seated { place: Some(place), seat } => {
                let first = *seats.entry(place).or_insert(seat);
                if first != seat {
                    let message = format!("{} got {} and before it {}", Name(place), SeatName(seat), SeatName(first));
                    found.add(room, e.at_us, message);
                }
            }
            _ => {}
        }
    }
}

fn holders(log: &Log, room: usize, found: &mut Found<'_>) {
    let lives = lives(log, room);
    let mut holder: BTreeMap<u64, Option<Place>> = BTreeMap::new();
    // Of each seat, the last generation.
    let mut last: BTreeMap<u32, SeatRef> = BTreeMap::new();
    for e in log.of_room(room) {
        let What::Seated { place, seat } = e.what else { continue };
        let name = |p: Option<Place>| p.map_or("somebody who walked in".into(), |p| Name(p).to_string());
        match holder.get(&seat.to_bits()) {
            Some(before) if *before != place || place.is_none() => {
                let message = format!("{} was given to {} and to {}", SeatName(seat), name(*before), name(place));
                found.add(room, e.at_us, message);
            }
            Some(_) => continue,
            None => {}
        }
        holder.insert(seat.to_bits(), place);
        if let Some(before) = last.insert(seat.index, seat).filter(|b| b.generation != seat.generation)
            && let Some(life) = lives.get(&before.to_bits()).filter(|l| e.at_us < l.ends_at_least(log.slack_us))
        {
            let message = format!("{} was given while {} was live since {}", SeatName(seat), SeatName(before), At(life.from_us));
            found.add(room, e.at_us, message);
        }
    }
}
