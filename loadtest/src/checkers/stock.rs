//! Nobody gets a seat in a sale that has nothing left.

use std::collections::BTreeSet;

use super::{
    Found, Log, Violation,
    log::{At, What},
};

/// Once the shop has reported as many units sold as the sale has, nobody gets a new seat in it.
pub fn nobody_seated_when_nothing_is_left(log: &Log) -> Vec<Violation> {
    let mut found = Found::new("nobody_seated_when_nothing_is_left", log);
    for room in 0..log.rooms.len() {
        let (mut stock, mut sold, mut gone_at_us) = (None, 0u64, None);
        let mut known = BTreeSet::new();
        for e in log.of_room(room) {
            match e.what {
                What::Stock(units) => (stock, sold, gone_at_us) = (units, 0, None),
                What::Sold(units) => sold += u64::from(units),
                What::Seated { seat, .. } if known.insert(seat.to_bits()) => {
                    if let (Some(units), Some(since)) = (stock, gone_at_us)
                        && e.at_us > since + log.slack_us
                    {
                        let message = format!("a pass was given; all {units} units are sold since {}", At(since));
                        found.add(room, e.at_us, message);
                    }
                }
                _ => {}
            }
            if gone_at_us.is_none() && stock.is_some_and(|units| sold >= units) {
                gone_at_us = Some(e.at_us);
            }
        }
    }
    found.list
}
