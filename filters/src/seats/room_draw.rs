//! A room whose places are drawn: visits become entries, entries become places.

use std::sync::Arc;

use super::{
    answer::{Entered, Stage, Waiting},
    draw::{
        live::{EntryRef, Frozen, SaleDraw, Window},
        register::{Entering, Person, Standing},
    },
    pace::OPENING_SPREAD_S,
    queue::Lane,
    room::{PRESENCE_GRACE_S, Room, RoomSettings},
    token::{Kind, Token},
};
use crate::{
    rule::{bot_gate::Class, sale_window::Sale},
    seats::{queue::Place, room::TICKET_AGE_MAX_MS},
    time::Now,
    visit::{Network, Visit},
};

/// Longest time between two polls of somebody who entered, seconds.
const POLL_S_MAX: u32 = 720;
/// So shortly before the freeze the next poll is for after it, seconds.
const FREEZE_POLL_S: u32 = 60;

impl Room {
    /// The draws of its sales.
    pub fn draws(&self) -> impl Iterator<Item = &Arc<SaleDraw>> {
        self.draws.iter()
    }

    /// The draw of the sale that is on, pre-queue included.
    pub fn current_draw(&self, now: Now) -> Option<&SaleDraw> {
        let (sale, _) = self.current_sale(now)?;
        self.draws().find(|d| d.sale_id() == &*sale.name).map(|d| &**d)
    }

    /// What a drawn room says to a visit that has no place yet: an entry, or "a moment". `None`: as in any other room.
    pub(super) fn draw_answer(&self, visit: &Visit<'_>, class: Class, restarted: bool, now: Now) -> Option<Waiting> {
        let draw = self.current_draw(now)?;
        if let Some(entry) = self.entry_of(visit, now) {
            return Some(self.entered(draw, entry, Some(class), now));
        }
        let Some((number, window)) = draw.open_window(now) else {
            // After the window, until its places are reserved: whoever took a number now would stand before the drawn.
            return (!self.late_may_come(draw, now)).then(|| self.moment(restarted, now));
        };
        // An entry rests on something that came back once: a program without cookies has none.
        let key = match visit.identity {
            Some(key) => key,
            None if visit.visitor_by_cookie => visit.visitor?.0,
            None => return Some(Waiting { fresh: true, ..self.moment(restarted, now) }),
        };
        let settings = &self.settings.visitor;
        let named = settings.key.is_none() || visit.identity.is_some();
        let who = Person { key, network: visit.network.map(Network::subscriber) };
        // Whom the shop's login does not name is never refused, but counts like one too many of a network.
        let quota = if named { settings.entries_per_network } else { Some(0) };
        let max = settings.entries_max.unwrap_or(self.settings.entries_max);
        match window.register.enter(who, max, quota) {
            Entering::New { index, crowded } => {
                let entry = EntryRef { window: number, index };
                let mut w = self.entered(draw, entry, None, now);
                w.fresh = true;
                w.restarted = restarted;
                w.entry = Some(Entered { entry, crowded, class, who, fresh: true });
                Some(w)
            }
            Entering::Known { index } => {
                let entry = EntryRef { window: number, index };
                // The ticket again, once the entry is on the disk.
                let written = matches!(window.register.standing(index), Standing::Written { .. });
                let mut w = self.entered(draw, entry, Some(class), now);
                w.fresh = written;
                w.entry = written.then_some(Entered { entry, crowded: false, class, who, fresh: false });
                Some(w)
            }
            // In the order of arrival, after the drawn: not before their places are reserved.
            Entering::Full | Entering::Closed => Some(self.moment(restarted, now)),
        }
    }

    /// The entry's fate after it was handed to the disk. `true`: it is an entry.
    pub fn settle_entry(&self, sale: &str, entered: &Entered, durable: bool, now: Now) -> bool {
        let draw = self.draws().find(|d| d.sale_id() == sale);
        let Some(window) = draw.and_then(|d| d.window(u64::from(entered.entry.window))) else { return false };
        let Entered { entry, crowded, class, who, .. } = *entered;
        let written = Standing::Written { class, crowded, present_until_s: self.clock_s(now) + POLL_S_MAX };
        window.register.settle(entry.index, who, durable.then_some(written))
    }

    /// The entry of the visit's ticket, when it has one of the present draw that is written and not drawn yet.
    pub(super) fn entry_of(&self, visit: &Visit<'_>, now: Now) -> Option<EntryRef> {
        let draw = self.current_draw(now)?;
        let entry = EntryRef::from_bits(self.token_of(visit, Kind::Ticket, now)?.number)?;
        let window = draw.window(u64::from(entry.window))?;
        let written = matches!(window.register.standing(entry.index), Standing::Written { .. });
        (written && !window.is_drawn()).then_some(entry)
    }

    /// The entry of the visit's ticket, drawn or not, with its draw and list: what a receipt is about.
    pub fn entry_for_receipt(&self, visit: &Visit<'_>, now: Now) -> Option<(&SaleDraw, &Window, u32)> {
        let draw = self.current_draw(now)?;
        let entry = EntryRef::from_bits(self.token_of(visit, Kind::Ticket, now)?.number)?;
        let window = draw.window(u64::from(entry.window))?;
        let written = matches!(window.register.standing(entry.index), Standing::Written { .. });
        written.then_some((draw, window, entry.index))
    }

    /// The place a ticket's number stands for: its own, or the one its entry drew.
    pub(super) fn place_of_number(&self, token: &Token, now: Now) -> Option<Place> {
        let Some(entry) = EntryRef::from_bits(token.number) else {
            // A place taken before the pre-queue is none in a sale whose places are drawn.
            let draw = self.current_draw(now);
            return Place::from_bits(token.number).filter(|_| draw.is_none_or(|d| *token.sale == *d.sale_id()));
        };
        let number = self.current_draw(now)?.place(entry)?;
        Some(Place { lane: Lane::Main, number })
    }

    /// What to tell somebody who entered and whose place is not drawn yet; refreshes its presence.
    pub(super) fn entered(&self, draw: &SaleDraw, entry: EntryRef, class: Option<Class>, now: Now) -> Waiting {
        let ends_ms = draw.window_ends_ms(u64::from(entry.window));
        let left_s = (ends_ms.saturating_sub(now.wall_ms).div_ceil(1_000)).min(86_400) as u32;
        // Shortly after the list is frozen the places are there; a beacon takes its delay more.
        let poll_after_s = match left_s {
            0 => 2,
            left @ ..=FREEZE_POLL_S => left + 1 + entry.index % OPENING_SPREAD_S,
            left => (left / 2).min(POLL_S_MAX),
        };
        if let Some(window) = draw.window(u64::from(entry.window)) {
            window.register.seen(entry.index, class, self.clock_s(now) + poll_after_s + PRESENCE_GRACE_S);
        }
        Waiting { entry: None, poll_after_s, ..self.moment(false, now) }
    }

    /// There was no number. After a large draw the next ones may still be on their way to the disk: a matter of moments.
    pub(super) fn no_number(&self, lane: Lane, restarted: bool, now: Now) -> Waiting {
        let numbers_left = self.state.line.lane(lane).taken() < self.settings.entries_max;
        match numbers_left && self.current_draw(now).is_some() {
            true => self.moment(restarted, now),
            false => Waiting { restarted, ..self.without_place(Stage::Full, 60) },
        }
    }

    /// Without a place for the moment.
    fn moment(&self, restarted: bool, now: Now) -> Waiting {
        Waiting { restarted, ..self.without_place(self.prequeue(now).unwrap_or(Stage::Waiting), 2) }
    }

    /// Whether newcomers may take numbers: the drawn have theirs.
    fn late_may_come(&self, draw: &SaleDraw, now: Now) -> bool {
        draw.pledged().is_some() && draw.window(0).is_some_and(|w| w.frozen().is_some()) && draw.open_window(now).is_none()
    }

    /// Takes as many places for a frozen list as will be drawn; gives the number of the first.
    pub fn reserve_places(&self, count: u32) -> Option<u32> {
        self.state.line.lane(Lane::Main).reserve(count)
    }

    /// Puts a frozen list's places where they were before a restart.
    pub fn reserve_places_at(&self, base: u32, count: u32) {
        self.state.line.lane(Lane::Main).reserve_at(base, count);
    }

    /// No draw, no call: not even of those who came later.
    pub(super) fn draw_is_pending(&self, now: Now) -> bool {
        self.current_draw(now).is_some_and(SaleDraw::is_pending)
    }

    /// Puts the drawn into the line.
    pub fn seat_drawn(&self, window: &Window, frozen: &Frozen, now: Now) {
        let lane = self.state.line.lane(Lane::Main);
        for index in 0..window.register.taken() {
            let Some(place) = window.drawn(index) else { continue };
            let present_until_s = match window.register.standing(index) {
                Standing::Written { present_until_s, .. } => present_until_s.max(self.clock_s(now)),
                _ => self.clock_s(now),
            };
            lane.put(frozen.base + place, present_until_s);
        }
    }

    /// The ticket of an entry.
    pub fn entry_token(&self, entry: EntryRef, host: &str, now: Now) -> Token {
        self.token(Kind::Ticket, entry.to_bits(), TICKET_AGE_MAX_MS, host, now)
    }

    /// Where somebody with an entry stands.
    pub(super) fn entry_status(&self, visit: &Visit<'_>, now: Now) -> Option<Waiting> {
        let entry = self.entry_of(visit, now)?;
        Some(self.entered(self.current_draw(now)?, entry, None, now))
    }

    /// The draw of a sale in a room of these settings; `None` where nothing is drawn.
    pub(super) fn draw_for(settings: &RoomSettings, sale: &Sale) -> Option<Arc<SaleDraw>> {
        let draw = SaleDraw::new(sale, settings.freeze_before.ms(), settings.order.window_ms());
        (settings.order.is_drawn() && draw.window_count() > 0).then(|| Arc::new(draw))
    }

    /// A draw goes on under a new policy; its rules are fixed, so the shell refuses policies that would change them.
    pub(super) fn carry_over_draws(&mut self, old: &Room) {
        for draw in &mut self.draws {
            if let Some(was) = old.draws.iter().find(|d| d.sale_id() == draw.sale_id() && d.pledged().is_some()) {
                *draw = was.clone();
            }
        }
    }
}
