//! Nobody gets a seat in a sale that has nothing left, and nothing is sold that is not there.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Found, Log, Violation,
    log::{At, SeatName, What},
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
                What::HoldEnded { sold: Some(units), .. } => sold += u64::from(units),
                What::Seated { seat, .. } | What::Kept { seat, .. } if known.insert(seat.to_bits()) => {
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

/// `sold + held + in flight + uncertain ≤ stock` at every instant: by the room's own count, and by what went to the shop and
/// came back. A hold is at the shop with one request at a time.
pub fn stock_is_never_oversold(log: &Log) -> Vec<Violation> {
    let mut found = Found::new("stock_is_never_oversold", log);
    for room in 0..log.rooms.len() {
        let mut sale = Sale::default();
        for e in log.of_room(room) {
            if let Some(message) = sale.next(&e.what) {
                found.add(room, e.at_us, message);
            }
        }
    }
    found.list
}

/// Who was let in where a unit comes with the seat finds one for as long as was said, whatever others do. A fact that nobody
/// asked the gate about (units sold elsewhere, another stock) may take anybody's.
pub fn a_seat_is_worth_a_unit(log: &Log) -> Vec<Violation> {
    let mut found = Found::new("a_seat_is_worth_a_unit", log);
    for room in 0..log.rooms.len() {
        let (mut reserve_us, mut limited) = (0, false);
        let (mut known, mut reserved) = (BTreeSet::new(), BTreeMap::new());
        for e in log.of_room(room) {
            match e.what {
                What::Rules { reserve_us: us, .. } => reserve_us = us,
                What::Stock(stock) => {
                    limited = stock.is_some();
                    reserved.clear();
                }
                What::Sold(_) => reserved.clear(),
                What::Units(u) if u.over > 0 => reserved.clear(),
                What::Seated { place: Some(_), seat } if known.insert(seat.to_bits()) && limited && reserve_us > 0 => {
                    reserved.insert(seat.to_bits(), (e.at_us + reserve_us).saturating_sub(log.slack_us));
                }
                What::HoldSent { seat: Some(seat), .. } | What::HoldBarred(seat) => drop(reserved.remove(&seat.to_bits())),
                What::HoldDenied(seat) => {
                    // The gate counts whole seconds.
                    if let Some(until) = reserved.get(&seat.to_bits()).filter(|until| e.at_us + 1_000_000 < **until) {
                        let message = format!("{} found no unit; one was set aside for it until {}", SeatName(seat), At(*until));
                        found.add(room, e.at_us, message);
                    }
                }
                _ => {}
            }
        }
    }
    found.list
}

/// One sale as its requests show it.
#[derive(Default)]
struct Sale {
    stock: Option<u64>,
    sold: u64,
    /// Sold without a hold: a fact, for which nobody asked the gate.
    facts: u64,
    lost: u64,
    at_shop: BTreeMap<u64, u32>,
}

impl Sale {
    fn next(&mut self, what: &What) -> Option<String> {
        match *what {
            What::Stock(stock) => *self = Sale { stock, ..Sale::default() },
            What::Sold(n) => self.facts += u64::from(n),
            What::HoldSent { hold, units, .. } => {
                if self.at_shop.insert(hold, units).is_some() {
                    return Some(format!("hold {hold} went to the shop while it was there"));
                }
            }
            What::HoldEnded { hold, sold } => {
                let units = self.at_shop.remove(&hold).unwrap_or(0);
                match sold {
                    Some(n) => self.sold += u64::from(n),
                    None => self.lost += u64::from(units),
                }
                return None;
            }
            What::Units(u) => {
                let committed = u.sold + u.held + u.in_flight + u.uncertain;
                let stock = u.stock.filter(|s| committed > *s && committed > *s + self.facts)?;
                return Some(format!("{committed} of {stock} units are taken, by the room's own count: {u:?}"));
            }
            _ => return None,
        }
        let at_shop: u64 = self.at_shop.values().map(|n| u64::from(*n)).sum();
        let committed = self.sold + self.lost + at_shop;
        let stock = self.stock.filter(|s| committed > *s)?;
        let (sold, lost) = (self.sold, self.lost);
        Some(format!("{committed} of {stock} units may be sold: {sold} are, {at_shop} are at the shop, of {lost} nobody knows"))
    }
}
