//! What else the holder of a ticket or pass may ask, and to whom it belongs.

use super::{Binding, Claim, Place, Room, RoomStatus, SeatRef, State};
use crate::{
    rule::pass::{cleared, token_for},
    sabotage::{self, Bug},
    seats::{
        ledger::Holder,
        line::CLAIM_WINDOW_S_MAX,
        token::{Kind, Token},
    },
    time::Now,
    visit::Visit,
};

impl Room {
    /// A called visitor asks for more time, as one who reads slowly or cannot see may: a whole claim window from now. `true`:
    /// it is theirs; else nobody called them, the window is over, or they have had [`EXTENSIONS_MAX`].
    ///
    /// [`EXTENSIONS_MAX`]: crate::seats::line::EXTENSIONS_MAX
    pub fn extend(&self, visit: &Visit<'_>, now: Now) -> (bool, RoomStatus) {
        let granted = self.place_of(visit, now).is_some_and(|place| {
            let window_s = (self.settings.claim_window.secs_ceil() as u32).clamp(1, CLAIM_WINDOW_S_MAX - 1);
            let deadline_s = self.clock_s(now) + window_s;
            // A form that was sent twice has what it asks for.
            self.state.line.extend(place, deadline_s)
                || self.keeps_longer(place, now)
                || matches!(self.state.line.told(place), State::Called { deadline_s: has_s } if has_s >= deadline_s)
        });
        (granted, self.status(visit, now))
    }

    /// The seat that is kept for the holder of a place, and the unit with it, is kept from now on for as long once more.
    fn keeps_longer(&self, place: Place, now: Now) -> bool {
        let (now_s, until_s) = (self.clock_s(now), self.clock_s(now).saturating_add(self.kept_s(now)));
        let renew = |seat| self.state.seats.renew(seat, now_s, self.seat_expires_s(now));
        if let Some(seat) = self.state.line.keep_longer(place, until_s, renew) {
            self.set_aside(seat, until_s, now);
            return true;
        }
        // A form that was sent twice has what it asks for.
        self.state.line.kept_until(place).is_some_and(|until| until >= until_s)
    }

    /// A unit that is set aside for a seat is so until then at least.
    fn set_aside(&self, seat: SeatRef, until_s: u32, now: Now) {
        if let Some((_, stock)) = self.reserving(now) {
            stock.with(|l| l.reserve_longer(Holder::seat(seat), until_s));
        }
    }

    /// A claim of the place waits for its answer.
    pub fn is_claiming(&self, place: Place) -> bool {
        self.state.line.state(place) == State::Claiming
    }

    /// Seconds for which a seat is kept whose holder does not wait for it: as a call is, and no longer than a unit is set aside.
    pub(super) fn kept_s(&self, now: Now) -> u32 {
        // Not longer than it lasts: a place whose seat ran out would have neither.
        let seats = &self.settings.seats;
        let kept = seats.pass_idle.min(seats.pass_age_max).min(self.settings.claim_window);
        let kept_s = (kept.secs_ceil() as u32).max(1);
        self.reserving(now).map_or(kept_s, |(sale, _)| kept_s.min(sale.reserve_s))
    }

    /// The claim of a place waited for its seat and has it: nothing is kept for it.
    pub fn heard(&self, place: Place) {
        self.state.line.collect(place);
    }

    /// The holder of a seated place claims: its seat was kept, or its pass was lost. The seat counts as used now: a pass must not
    /// be dead on arrival.
    pub(super) fn claim_again(&self, place: Place, now: Now) -> Claim {
        let now_s = self.clock_s(now);
        let renewed = |seat: SeatRef| self.state.seats.renew(seat, now_s, self.seat_expires_s(now));
        match self.state.line.come_for(place, renewed) {
            Some(Ok(seat)) => {
                // A unit is set aside from here on.
                let reserve_s = self.reserving(now).map_or(0, |(sale, _)| sale.reserve_s);
                self.set_aside(seat, now_s.saturating_add(reserve_s), now);
                Claim::Seated(seat)
            }
            Some(Err(_over)) => Claim::Busy,
            None => self.state.seats.of(place, now_s).filter(|s| renewed(*s)).map_or(Claim::NoTicket, Claim::Seated),
        }
    }

    /// Takes back the seats, and the units with them, that nobody came for. Before each tick.
    pub fn withdraw(&self, now: Now) -> Vec<(Place, SeatRef)> {
        let withdrawn = self.state.line.withdraw(self.clock_s(now), &self.state.seats);
        withdrawn.iter().for_each(|(_, seat)| self.unit_back(*seat));
        withdrawn
    }

    /// Seconds for which the seat of a place is kept for its holder, who has not come for it yet: the seat, and the unit with it.
    pub(super) fn kept_for_s(&self, place: Place, now: Now) -> u32 {
        let now_s = self.clock_s(now);
        if let Some(until_s) = self.state.line.kept_until(place) {
            return until_s.saturating_sub(now_s);
        }
        // It was given, and its pass was lost.
        let Some(seat) = self.state.seats.of(place, now_s) else { return 0 };
        let given_s = self.state.seats.end(seat).saturating_sub(self.settings.seats.pass_age_max.secs_ceil() as u32);
        let unit_s = self.reserving(now).map_or(u32::MAX, |(sale, _)| given_s.saturating_add(sale.reserve_s));
        self.state.seats.expires(seat).min(unit_s).saturating_sub(now_s)
    }

    /// What a ticket or pass given to this visit is bound to; 0 when to nothing.
    pub fn binding_of(&self, visit: &Visit<'_>) -> u64 {
        let bound = match self.settings.binding {
            Binding::None => None,
            Binding::Network => visit.network.map(|n| n.subscriber()),
            Binding::Tls => Some(visit.hello).filter(|h| *h != 0),
            Binding::Key => visit.identity,
        };
        // One bit is set, so that what is bound never looks like what is not.
        bound.map_or(0, |b| b | 1 << 63)
    }

    /// The token, bound to this visit as the policy says.
    pub fn bound(&self, visit: &Visit<'_>, token: Token) -> Token {
        Token { binding: self.binding_of(visit), ..token }
    }

    /// The visit's token of a kind for this room and the sale that is on, where it may be used from: whoever passed a
    /// challenge may use it from anywhere.
    pub(in crate::seats) fn token_of<'v>(&self, visit: &Visit<'v>, kind: Kind, now: Now) -> Option<&'v Token> {
        self.token_anywhere(visit, kind, now).filter(|t| !self.is_elsewhere(t, visit, now))
    }

    /// The visit brings a good token that was given to somebody else, or to somebody who has moved: it must show that
    /// somebody is there. Nothing is lost: the same token is good afterwards.
    pub(super) fn must_show(&self, visit: &Visit<'_>, now: Now) -> bool {
        self.settings.binding != Binding::None
            && [Kind::Pass, Kind::Ticket]
                .into_iter()
                .any(|kind| self.token_anywhere(visit, kind, now).is_some_and(|t| self.is_elsewhere(t, visit, now)))
    }

    fn token_anywhere<'v>(&self, visit: &Visit<'v>, kind: Kind, now: Now) -> Option<&'v Token> {
        let sale = self.current_sale(now).map(|(s, _)| &*s.name);
        token_for(visit, kind, self.name(), self.state.epoch, sale, now)
    }

    pub(super) fn is_elsewhere(&self, token: &Token, visit: &Visit<'_>, now: Now) -> bool {
        // A room that stopped binding honours what was bound before.
        self.settings.binding != Binding::None
            && token.binding != 0
            && token.binding != self.binding_of(visit)
            && cleared(visit, now).is_none()
            && !sabotage::is(Bug::BindingNotChecked)
    }
}
