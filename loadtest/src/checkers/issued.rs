//! No token is accepted that was not issued, or that is over.

use std::collections::BTreeMap;

use tidegate_filters::seats::queue::Place;

use super::{
    Found, Log, Violation,
    log::{At, Name, SeatName, What},
    seats::{SECOND_US, lives},
};

/// Every place that is spoken to was given before, every seat that is honoured was granted before and is not over; and a
/// forged token is never taken for good.
pub fn only_issued_tokens(log: &Log) -> Vec<Violation> {
    let mut found = Found::new("only_issued_tokens", log);
    for room in 0..log.rooms.len() {
        places(log, room, &mut found);
        passes(log, room, &mut found);
    }
    for e in &log.events {
        if let What::Forged { how, accepted: true } = e.what {
            found.add(usize::from(e.room), e.at_us, format!("a token was accepted that was {how}"));
        }
    }
    found.list
}

fn places(log: &Log, room: usize, found: &mut Found<'_>) {
    let mut given: BTreeMap<Place, u64> = BTreeMap::new();
    for e in log.of_room(room) {
        if let What::Joined(place) = e.what {
            given.entry(place).or_insert(e.at_us);
        }
    }
    for e in log.of_room(room) {
        let (What::Told { place, .. }
        | What::Claimed(place)
        | What::Left(place)
        | What::Seated { place: Some(place), .. }
        | What::Kept { place, .. }) = e.what
        else {
            continue;
        };
        match given.get(&place) {
            None => found.add(room, e.at_us, format!("{} was accepted and never given", Name(place))),
            Some(at_us) if e.at_us + log.slack_us < *at_us => {
                found.add(room, e.at_us, format!("{} was accepted before it was given at {}", Name(place), At(*at_us)));
            }
            Some(_) => {}
        }
    }
}

fn passes(log: &Log, room: usize, found: &mut Found<'_>) {
    let lives = lives(log, room);
    for e in log.of_room(room) {
        let What::Used(seat) = e.what else { continue };
        let Some(life) = lives.get(&seat.to_bits()) else {
            found.add(room, e.at_us, format!("{} was honoured and never granted", SeatName(seat)));
            continue;
        };
        let wrong = if e.at_us + log.slack_us < life.from_us {
            format!("before it was granted at {}", At(life.from_us))
        } else if let Some(released) = life.released_us.filter(|r| e.at_us > *r + log.slack_us) {
            format!("after it was given back at {}", At(released))
        } else if let Some((_, expired)) = life.late.filter(|l| l.0 == e.at_us) {
            format!("though it had expired at {}", At(expired))
        } else if e.at_us > life.too_old_us + SECOND_US + log.slack_us {
            format!("after its end at {}, however much it was used", At(life.too_old_us))
        } else {
            continue;
        };
        found.add(room, e.at_us, format!("{} was honoured {wrong}", SeatName(seat)));
    }
}
