//! Somebody who entered a draw and comes without the ticket of it, or goes away.

use super::{Lane, Now, Place, Room, Visit, Waiting};
use crate::{
    rule::bot_gate::Class,
    seats::{
        answer::Entered,
        draw::{
            live::{EntryRef, SaleDraw},
            register::Standing,
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
        let Standing::Written { crowded, .. } = window.register.standing(entry.index) else { return None };
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

    /// The holder of an entry that has no place yet goes away.
    pub(super) fn leave_entry(&self, visit: &Visit<'_>, now: Now) -> Option<EntryRef> {
        let entry = self.entry_of(visit, now)?;
        let window = self.current_draw(now)?.window(u64::from(entry.window))?;
        window.register.away(entry.index);
        Some(entry)
    }
}
