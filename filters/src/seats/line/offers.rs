//! Seats that were given and not come for yet. Whoever waits for the answer has its seat at once; of who does not, the seat is
//! kept for as long as a call is, and then it is somebody else's turn.

use std::{collections::BTreeMap, sync::PoisonError};

use super::{EXTENSIONS_MAX, Line};
use crate::{
    sabotage::{self, Bug},
    seats::{
        queue::{Place, State},
        seat::{SeatRef, Seats},
        sync::{Mutex, Ordering},
    },
};

/// By place, as many as there are seats.
#[derive(Debug, Default)]
pub(super) struct Offers(Mutex<BTreeMap<Place, Offer>>);

#[derive(Clone, Copy, Debug)]
struct Offer {
    seat: SeatRef,
    /// The second at which it is taken back.
    until_s: u32,
    extended: u8,
}

impl Offers {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<Place, Offer>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Before the place says that it has the seat: nobody comes for it earlier.
    pub(super) fn put(&self, place: Place, seat: SeatRef, until_s: u32) {
        self.with(|o| o.insert(place, Offer { seat, until_s, extended: 0 }));
    }
}

/// Its time is over: it is taken back with the next tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over;

impl Line {
    /// The holder of a place has its seat, or does not want it.
    pub fn collect(&self, place: Place) {
        self.offers.with(|o| o.remove(&place));
    }

    /// The holder of a place comes for its seat and has it where `take` finds it alive. `None`: none is kept.
    pub fn come_for(&self, place: Place, take: impl FnOnce(SeatRef) -> bool) -> Option<Result<SeatRef, Over>> {
        // Under the lock: it is not taken back meanwhile.
        self.offers.with(|offers| {
            let seat = offers.get(&place)?.seat;
            let taken = take(seat);
            if taken {
                offers.remove(&place);
            }
            Some(taken.then_some(seat).ok_or(Over))
        })
    }

    /// The second until which a seat is kept that nobody has come for.
    pub fn kept_until(&self, place: Place) -> Option<u32> {
        self.offers.with(|o| o.get(&place).map(|offer| offer.until_s))
    }

    /// Its holder needs more time to come: gives the seat, where `renew` finds it alive. As calls are, it is extended
    /// [`EXTENSIONS_MAX`] times.
    pub fn keep_longer(&self, place: Place, until_s: u32, renew: impl FnOnce(SeatRef) -> bool) -> Option<SeatRef> {
        self.offers.with(|offers| {
            let offer = offers.get_mut(&place)?;
            if offer.extended >= EXTENSIONS_MAX || offer.until_s >= until_s || !renew(offer.seat) {
                return None;
            }
            (offer.until_s, offer.extended) = (until_s, offer.extended + 1);
            Some(offer.seat)
        })
    }

    /// Takes back what nobody came for. Its places are called, as those are who were passed over: they may claim again.
    pub fn withdraw(&self, now_s: u32, seats: &Seats) -> Vec<(Place, SeatRef)> {
        if sabotage::is(Bug::OffersNeverEnd) {
            return Vec::new();
        }
        // Under the lock: who comes meanwhile has the seat or a place, and never neither.
        self.offers.with(|offers| {
            // One that is not written down yet belongs to a claim under way.
            let is_over = |place: &Place, offer: &mut Offer| offer.until_s <= now_s && self.state(*place) == State::Seated;
            let over = offers.extract_if(.., is_over).map(|(place, offer)| (place, offer.seat));
            let taken_back = |(place, seat): &(Place, SeatRef)| {
                let taken = seats.release(*seat) && self.lane(place.lane).unseat(place.number);
                if taken {
                    self.seated.fetch_sub(1, Ordering::AcqRel);
                }
                taken
            };
            over.filter(taken_back).collect()
        })
    }
}
