//! Somebody who entered a draw and comes without the ticket of it, or goes away.

use super::{Kind, Lane, Now, Place, Room, SeatRef, Visit, Waiting, lane_of, seat_of};
use crate::{
    rule::bot_gate::Class,
    seats::{
        answer::Entered,
        draw::{
            live::{EntryRef, SaleDraw},
            register::{Standing, Written},
        },
    },
};

impl Room {
    /// What somebody is told whose entry is known by who they are: another browser with the same login, or one that lost its
    /// ticket. The ticket is given again; a second entry or place is not. `None`: nobody of that name entered, or the place
    /// is used up.
    pub(in crate::seats) fn entered_before(&self, draw: &SaleDraw, visit: &Visit<'_>, class: Class, now: Now) -> Option<Waiting> {
        let who = self.person(visit)?;
        let entry = draw.entry_of(who.key, now)?;
        let window = draw.window(u64::from(entry.window))?;
        // On its way to the disk: the answer to that request carries the ticket.
        let Standing::Written(Written { crowded, .. }) = window.register.standing(entry.index) else { return None };
        let told = match draw.place(entry) {
            Some(number) => {
                let place = Place { lane: Lane::Main, number };
                self.is_held(place, now).then(|| self.waiting(place, false, false, now))?
            }
            None => self.entered(draw, entry, Some(class), now),
        };
        let entered = Entered { entry, who, class, crowded, fresh: false };
        Some(Waiting { entry: Some(entered), fresh: true, again: true, ..told })
    }

    /// A place at the end. One whom the shop's login names has one, whatever browser it comes with; who has none of its own is
    /// told apart by nothing.
    pub(super) fn join(&self, visit: &Visit<'_>, class: Class, restarted: bool, now: Now) -> Waiting {
        let Some(key) = visit.identity.filter(|_| self.settings.visitor.key.is_some()) else {
            return self.take_place(class, restarted, now);
        };
        let mut people = self.state.people.lock(key);
        // In a drawn sale only what was taken after its list: a number of before would stand before the drawn.
        let from = match self.current_draw(now) {
            Some(_) => self.drawn_places(now).map_or(u32::MAX, |[first, count]| first.saturating_add(count)),
            None => 0,
        };
        let good = |p: &Place| (p.lane == Lane::Slow || p.number >= from) && self.is_held(*p, now);
        let held = people.get(&key).and_then(|bits| Place::from_bits(*bits)).filter(good);
        if let Some(place) = held {
            return Waiting { fresh: true, again: true, ..self.waiting(place, false, restarted, now) };
        }
        let w = self.take_place(class, restarted, now);
        people.extend(w.place.map(|p| (key, p.to_bits())));
        w
    }

    fn take_place(&self, class: Class, restarted: bool, now: Now) -> Waiting {
        let lane = lane_of(class);
        // Written as present for a minute; `waiting` extends it by what the visitor is told.
        let number = self.state.line.lane(lane).take(self.clock_s(now) + 60, self.numbers_max());
        match number {
            Some(number) => self.waiting(Place { lane, number }, true, restarted, now),
            None => self.no_number(lane, restarted, now),
        }
    }

    /// The seat of the visit's pass. One from before the pre-queue of a drawn sale is none in it: whoever was inside then would
    /// buy at the opening, before everybody in the drum.
    pub(super) fn pass(&self, visit: &Visit<'_>, now: Now) -> Option<SeatRef> {
        let token = self.token_of(visit, Kind::Pass, now)?;
        self.current_draw(now).is_none_or(|d| *token.sale == *d.sale_id()).then(|| seat_of(token))
    }

    /// The holder of an entry that has no place yet goes away.
    pub(super) fn leave_entry(&self, visit: &Visit<'_>, now: Now) -> Option<EntryRef> {
        let entry = self.entry_of(visit, now)?;
        let window = self.current_draw(now)?.window(u64::from(entry.window))?;
        window.register.away(entry.index);
        Some(entry)
    }
}
