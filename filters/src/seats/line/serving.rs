//! Who gets a seat: the lowest place that claims, whether it was answered already or not.

use super::{CLAIM_WAIT_MS, Claimed, Line, STANDING_MAX, STANDS_S, Terms, Tick};
use crate::{
    bucket::Bucket,
    sabotage::{self, Bug},
    seats::{
        queue::Place,
        seat::{SeatRef, Seats},
        sync::Ordering,
    },
    time::Now,
};

impl Line {
    pub(super) fn serve(
        &self,
        t: &mut Tick,
        (now_s, now): (u32, Now),
        terms: Terms,
        seats: &Seats,
        bucket: &Bucket,
    ) -> Vec<Claimed> {
        let mut answers = Vec::new();
        let mut units = if terms.closed { 0 } else { terms.units };
        while units > 0
            && let Some((place, stood)) = t.lowest()
        {
            let lane = self.lane(place.lane);
            let resumed = if stood { lane.resume(place.number) } else { Some(0) };
            let Some(present_until_s) = resumed else {
                // It left.
                t.standing.remove(&place);
                continue;
            };
            let Some(seat) = self.seat(place, terms, seats, bucket) else {
                if stood {
                    lane.stand(place.number, present_until_s);
                }
                break;
            };
            t.standing.remove(&place);
            t.pending.remove(&place);
            units -= 1;
            self.offers.put(place, seat, now_s.saturating_add(terms.kept_s));
            self.seated.fetch_add(1, Ordering::AcqRel);
            if !terms.keeps {
                lane.end_claim(place.number, !sabotage::is(Bug::TicketNotBurnt));
            }
            answers.push(Claimed { place, seat: Some(seat) });
        }
        for place in t.late(now.mono_ms()) {
            let lane = self.lane(place.lane);
            match t.standing.len() < STANDING_MAX && !sabotage::is(Bug::ClaimsFall) {
                true => {
                    lane.stand(place.number, now_s + STANDS_S);
                    t.standing.insert(place);
                }
                false => lane.end_claim(place.number, false),
            }
            answers.push(Claimed { place, seat: None });
        }
        answers
    }

    /// A token, then a seat: the scarce thing is spent last and a token that bought nothing is put back.
    fn seat(&self, place: Place, terms: Terms, seats: &Seats, bucket: &Bucket) -> Option<SeatRef> {
        if !bucket.take() {
            return None;
        }
        let seat = seats.acquire(terms.seats_max, Some(place), terms.seat_expires_s, terms.seat_ends_s);
        if seat.is_none() {
            bucket.put_back();
        }
        seat
    }
}

impl Tick {
    /// Claims, answered or not.
    pub(super) fn claims(&self) -> usize {
        self.pending.len() + self.standing.len()
    }

    /// Whose turn it is, and whether its claim stands.
    fn lowest(&self) -> Option<(Place, bool)> {
        if sabotage::is(Bug::ClaimsHighestFirst) {
            return self.pending.keys().next_back().map(|p| (*p, false));
        }
        let pending = self.pending.keys().next().map(|p| (*p, false));
        pending.into_iter().chain(self.standing.first().map(|p| (*p, true))).min()
    }

    /// Takes out the claims that have waited long enough for an answer.
    fn late(&mut self, now_ms: u64) -> Vec<Place> {
        self.pending.extract_if(.., |_, since_ms| now_ms >= *since_ms + CLAIM_WAIT_MS).map(|(place, _)| place).collect()
    }
}
