//! A room whose places are drawn: visits become entries, entries become places.

use std::{num::NonZeroU64, sync::Arc};

use super::{
    answer::{Doors, DrawFrame, Entered, Stage, Waiting},
    draw::{
        beacon::BeaconSettings,
        digest::hex,
        live::{EntryRef, Frozen, SaleDraw, Window},
        register::{Entering, Limits, Person, Standing, Written},
        work::Work,
    },
    pace::{OPENING_SPREAD_S, PRESENCE_GRACE_S},
    queue::Lane,
    room::{OnFailure, Room, RoomSettings},
    token::{Kind, Token},
};
use crate::{
    rule::{
        bot_gate::Class,
        sale_window::{Phase, Sale},
    },
    seats::{queue::Place, room::TICKET_AGE_MAX_MS},
    time::Now,
    visit::Visit,
};

/// Longest time between two polls of somebody who entered, seconds.
const POLL_S_MAX: u32 = 720;
/// So shortly before the freeze the next poll is for after it, seconds.
const FREEZE_POLL_S: u32 = 60;
/// A round of a beacon comes up to this long after its delay, seconds: drand's period.
const ROUND_S: u32 = 3;
/// Who does not do the work asked for looks in again after this long, seconds.
const WORK_POLL_S: u32 = 30;
/// Places that should be there and are not are asked about again after one to two of these, seconds; the later, the longer.
const LATE_POLL_S: u32 = 3;
/// But at most this, seconds.
const LATE_POLL_S_MAX: u32 = 60;

/// Somebody who asks for an entry.
struct Knock<'a> {
    draw: &'a SaleDraw,
    number: u32,
    window: &'a Window,
    who: Person,
    class: Class,
    restarted: bool,
}

impl Room {
    /// The draws of its sales.
    pub fn draws(&self) -> impl Iterator<Item = &Arc<SaleDraw>> {
        self.draws.iter()
    }

    /// The draw of the sale that is on, pre-queue included.
    pub fn current_draw(&self, now: Now) -> Option<&SaleDraw> {
        let (sale, _) = self.current_sale(now)?;
        self.draw_of(&sale.name)
    }

    fn draw_of(&self, sale: &str) -> Option<&SaleDraw> {
        self.draws().find(|d| d.sale_id() == sale).map(|d| &**d)
    }

    /// What a drawn room says to a visit that has no place yet: an entry, or "a moment". `None`: as in any other room.
    pub(super) fn draw_answer(&self, visit: &Visit<'_>, class: Class, restarted: bool, now: Now) -> Option<Waiting> {
        let draw = self.current_draw(now)?;
        if let Some(entry) = self.entry_of(visit, now) {
            return Some(self.entered(draw, entry, Some(class), now));
        }
        if let Some(waiting) = self.entered_before(draw, visit, class, now) {
            return Some(waiting);
        }
        let Some((number, window)) = draw.open_window(now) else {
            // After the window, until its places are reserved: whoever took a number now would stand before the drawn.
            return (!self.late_may_come(draw, now)).then(|| self.moment(restarted, now));
        };
        // An entry rests on something that came back once: a program without cookies has none.
        let Some(who) = self.person(visit) else { return Some(Waiting { fresh: true, ..self.moment(restarted, now) }) };
        let knock = Knock { draw, number, window, who, class, restarted };
        Some(self.knock(visit, knock, false, now))
    }

    /// Enters somebody above a quota who brings the answer to the work that was asked for. `None`: it is no answer, or there
    /// is nothing to enter.
    pub fn enter_with_work(&self, visit: &Visit<'_>, answer: u64, now: Now) -> Option<Waiting> {
        let draw = self.current_draw(now)?;
        let (number, window) = draw.open_window(now)?;
        let closed = self.doors() != Doors::Open || self.is_failing() && self.settings.on_failure == OnFailure::Closed;
        let who = self.person(visit).filter(|_| !closed)?;
        self.work(visit, now).filter(|work| work.is_done(answer))?;
        // A form is not scored; the page it leads back to is.
        let knock = Knock { draw, number, window, who, class: Class::Unsure, restarted: false };
        Some(self.knock(visit, knock, true, now))
    }

    /// The work that somebody above a quota has to do for an entry of the list that is open.
    pub fn work(&self, visit: &Visit<'_>, now: Now) -> Option<Work> {
        let draw = self.current_draw(now)?;
        let (_, window) = draw.open_window(now)?;
        draw.work(window, self.person(visit)?.key, self.settings.visitor.work_bits)
    }

    /// Who asks for an entry; `None` when nothing that came back names them.
    pub(super) fn person(&self, visit: &Visit<'_>) -> Option<Person> {
        let key = match visit.identity.filter(|_| self.settings.visitor.key.is_some()) {
            Some(key) => key,
            None if visit.visitor_by_cookie => visit.visitor?.0,
            None => return None,
        };
        Some(Person { key, network: visit.network.and_then(|n| NonZeroU64::new(n.subscriber())), fingerprint: visit.fingerprint })
    }

    fn knock(&self, visit: &Visit<'_>, knock: Knock<'_>, worked: bool, now: Now) -> Waiting {
        let Knock { draw, number, window, who, class, restarted } = knock;
        let settings = &self.settings.visitor;
        // Whom the shop's login does not name is never refused, but counts like one too many of a network.
        let named = settings.key.is_none() || visit.identity.is_some();
        let limits = Limits {
            max: settings.entries_max.unwrap_or(self.settings.entries_max),
            per_network: if named { settings.entries_per_network } else { Some(0) },
            per_fingerprint: settings.entries_per_fingerprint,
            work: settings.work_bits > 0,
        };
        match window.register.enter(who, limits, worked) {
            Entering::New { index, crowded } => {
                let entry = EntryRef { window: number, index };
                let mut w = self.entered(draw, entry, None, now);
                w.fresh = true;
                w.restarted = restarted;
                w.entry = Some(Entered { entry, crowded, class, who, fresh: true });
                w
            }
            Entering::Known { index } => {
                let entry = EntryRef { window: number, index };
                // The ticket again, once the entry is on the disk.
                let written = matches!(window.register.standing(index), Standing::Written(_));
                let mut w = self.entered(draw, entry, Some(class), now);
                w.fresh = written;
                w.entry = written.then_some(Entered { entry, crowded: false, class, who, fresh: false });
                w
            }
            Entering::NeedsWork => {
                let left_s = draw.window_ends_ms(u64::from(number)).saturating_sub(now.wall_ms).div_ceil(1_000) as u32;
                // Who does no work takes a place after the drawn.
                Waiting {
                    needs_work: true,
                    unnamed: !named,
                    poll_after_s: (left_s + 1).min(WORK_POLL_S),
                    ..self.moment(restarted, now)
                }
            }
            // In the order of arrival, after the drawn: not before their places are reserved.
            Entering::Full | Entering::Closed => self.moment(restarted, now),
        }
    }

    /// The entry's fate after it was handed to the disk. `true`: it is an entry.
    pub fn settle_entry(&self, sale: &str, entered: &Entered, durable: bool, now: Now) -> bool {
        let Some(window) = self.draw_of(sale).and_then(|d| d.window(u64::from(entered.entry.window))) else { return false };
        let Entered { entry, crowded, class, who, .. } = *entered;
        let present_until_s = self.clock_s(now) + POLL_S_MAX;
        let written = Standing::Written(Written { class, crowded, rendered: false, present_until_s });
        window.register.settle(entry.index, who, durable.then_some(written))
    }

    /// The entry of the visit's ticket, when it has one of the present draw that is written and not drawn yet.
    pub(super) fn entry_of(&self, visit: &Visit<'_>, now: Now) -> Option<EntryRef> {
        let draw = self.current_draw(now)?;
        let entry = EntryRef::from_bits(self.token_of(visit, Kind::Ticket, now)?.number)?;
        let window = draw.window(u64::from(entry.window))?;
        let written = matches!(window.register.standing(entry.index), Standing::Written(_));
        (written && !window.is_drawn()).then_some(entry)
    }

    /// Whether a browser has yet to show the page of an entry, for what the draw gives it.
    pub fn wants_rendering(&self, entry: EntryRef, now: Now) -> bool {
        let window = || self.current_draw(now)?.window(u64::from(entry.window));
        // What is still on its way to the disk will not have been shown.
        let rendered = |w: &Window| matches!(w.register.standing(entry.index), Standing::Written(Written { rendered: true, .. }));
        self.settings.weights.unrendered.is_some() && window().is_some_and(|w| w.frozen().is_none() && !rendered(w))
    }

    /// A browser that shows the page of an entry has asked for its style: which entry, of the draw of which sale, and whether
    /// that is news. `None`: the visit has no entry in a list that is not weighed yet.
    pub fn rendered(&self, visit: &Visit<'_>, now: Now) -> Option<(&str, EntryRef, bool)> {
        let (draw, entry) = (self.current_draw(now)?, self.entry_of(visit, now)?);
        let window = draw.window(u64::from(entry.window)).filter(|w| w.frozen().is_none())?;
        Some((draw.sale_id(), entry, window.register.rendered(entry.index)))
    }

    /// The entry of the visit's ticket, drawn or not, with its draw and list: what a receipt is about.
    pub fn entry_for_receipt(&self, visit: &Visit<'_>, now: Now) -> Option<(&SaleDraw, &Window, u32)> {
        // Of a sale that was called off as well: the list is published all the same.
        let (draw, ticket) = match self.called_off(visit, now) {
            Some((sale, ticket)) => (self.draw_of(&sale.name)?, ticket),
            None => (self.current_draw(now)?, self.token_of(visit, Kind::Ticket, now)?),
        };
        let entry = EntryRef::from_bits(ticket.number)?;
        let window = draw.window(u64::from(entry.window))?;
        let written = matches!(window.register.standing(entry.index), Standing::Written(_));
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
        let poll_after_s = self.entry_poll_s(draw, entry.index, ends_ms, now);
        if let Some(window) = draw.window(u64::from(entry.window)) {
            window.register.seen(entry.index, class, self.clock_s(now) + poll_after_s + PRESENCE_GRACE_S);
        }
        self.state.polls.told(entry, poll_after_s, now);
        let who = Person { key: 0, network: None, fingerprint: 0 };
        let entered = Entered { entry, who, class: class.unwrap_or_default(), crowded: false, fresh: false };
        Waiting { entry: Some(entered), poll_after_s, ..self.moment(false, now) }
    }

    /// Seconds by which the holder of an entry asks again too early; not once the place is drawn.
    pub(super) fn entry_early(&self, visit: &Visit<'_>, now: Now) -> Option<u32> {
        self.state.polls.early_s(self.entry_of(visit, now)?, now)
    }

    /// Seconds until the list that is open closes.
    pub fn list_closes_in_s(&self, now: Now) -> Option<u64> {
        let draw = self.current_draw(now)?;
        let (number, _) = draw.open_window(now)?;
        Some(draw.window_ends_ms(u64::from(number)).saturating_sub(now.wall_ms).div_ceil(1_000))
    }

    /// How far the draw of the sale that is on has come: `open`, `frozen`, `late` or `drawn`.
    pub fn draw_state(&self, now: Now) -> Option<&'static str> {
        Some(state_of(self.last_window(now)?, now))
    }

    /// The list of the draw that is on; of a chain the one before the open one. `Some(None)`: nobody has entered it.
    fn last_window(&self, now: Now) -> Option<Option<&Window>> {
        let draw = self.current_draw(now)?;
        let last = match draw.open_window(now) {
            Some((number, _)) if draw.is_chained() => u64::from(number).checked_sub(1),
            _ => draw.window_count().checked_sub(1),
        };
        Some(last.and_then(|n| draw.window(n)))
    }

    /// How far the draw of the sale that is on has come, for live pages. Of a chain: the window before the open one.
    pub fn draw_frame(&self, now: Now) -> Option<DrawFrame> {
        let window = self.last_window(now)?;
        let frozen = window.and_then(Window::frozen);
        Some(DrawFrame {
            state: state_of(window, now),
            n: frozen.map(|f| f.list.n),
            root: frozen.map(|f| hex(&f.list.root)),
            by_class: frozen.map(|f| f.census),
        })
    }

    /// When somebody whose place is not drawn yet asks again, seconds. Near the freeze: for when the place is to be there,
    /// spread by index over what is then left until the opening.
    fn entry_poll_s(&self, draw: &SaleDraw, index: u32, ends_ms: u64, now: Now) -> u32 {
        let seconds = |ms: u64| ms.div_ceil(1_000).min(86_400) as u32;
        let beacon_s = match &self.settings.beacon {
            BeaconSettings::None => 0,
            BeaconSettings::Rounds(rounds) => seconds(rounds.delay.ms()) + ROUND_S,
        };
        // From the end of entries to the places: pages that are still loading, then the round.
        let drawn_after_s = seconds(self.settings.weights.wait_ms()) + beacon_s;
        let room_s = match self.settings.order.window_ms() {
            Some(window_ms) if draw.is_chained() => seconds(window_ms),
            _ => seconds(self.settings.freeze_before.ms()).saturating_sub(drawn_after_s + 1),
        };
        let spread_s = index % room_s.clamp(1, OPENING_SPREAD_S);
        let drawn_ms = ends_ms + u64::from(drawn_after_s) * 1_000;
        match (seconds(ends_ms.saturating_sub(now.wall_ms)), seconds(drawn_ms.saturating_sub(now.wall_ms))) {
            (left_s, _) if left_s > FREEZE_POLL_S => (left_s / 2).min(POLL_S_MAX),
            (_, 0) => {
                let late_s = (now.wall_ms.saturating_sub(drawn_ms) / 2_000).min(u64::from(LATE_POLL_S_MAX)) as u32;
                let base = late_s.max(LATE_POLL_S);
                base + index % base
            }
            (_, drawn_s) => drawn_s + 1 + spread_s,
        }
    }

    /// There was no number. After a large draw the next ones may still be on their way to the disk: a matter of moments.
    pub(super) fn no_number(&self, lane: Lane, restarted: bool, now: Now) -> Waiting {
        let numbers_left = self.state.line.lane(lane).taken() < self.numbers_max();
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

    /// Whether a sale is over and everything about its draw is settled, so that it may be forgotten.
    pub fn draw_is_over(&self, sale: &str, now: Now) -> bool {
        let over = self.sales.iter().any(|(s, _)| *s.name == *sale && s.phase(now) == Phase::Closed);
        over && self.draws().filter(|d| d.sale_id() == sale).all(|d| d.is_settled())
    }

    /// Takes as many places for a frozen list as will be drawn; gives the number of the first.
    pub fn reserve_places(&self, count: u32) -> Option<u32> {
        self.state.line.lane(Lane::Main).reserve(count)
    }

    /// Puts a frozen list's places where they were before a restart.
    pub fn reserve_places_at(&self, base: u32, count: u32) {
        self.state.line.lane(Lane::Main).reserve_at(base, count);
    }

    /// The first number of the line that belongs to the sale that is on, where its places are drawn; else 0.
    pub fn first_place(&self, now: Now) -> u32 {
        self.drawn_places(now).map_or(0, |[first, _]| first)
    }

    /// The places of the current sale's one list, once they are reserved: the first, and how many.
    pub(super) fn drawn_places(&self, now: Now) -> Option<[u32; 2]> {
        let draw = self.current_draw(now).filter(|d| !d.is_chained())?;
        draw.window(0)?.frozen().map(|f| [f.base, f.count])
    }

    /// No draw, no call: not even of those who came later.
    pub(super) fn draw_is_pending(&self, now: Now) -> bool {
        self.current_draw(now).is_some_and(SaleDraw::is_pending)
    }

    /// Whether people wait for the draw by now: the sale should be on, or the round of public randomness is late.
    pub(super) fn waits_for_draw(&self, now: Now) -> bool {
        let late = |d: &SaleDraw| d.window(0).and_then(Window::frozen).is_some_and(|f| f.list.is_late(now));
        self.current_draw(now).is_some_and(|d| d.is_pending() && (self.prequeue(now).is_none() || late(d)))
    }

    /// When the holder of a place asks again whether the places before it are drawn, seconds; `None`: they are.
    pub(super) fn undrawn_poll_s(&self, number: u32, now: Now) -> Option<u32> {
        let draw = self.current_draw(now).filter(|d| d.is_pending())?;
        Some(self.entry_poll_s(draw, number, draw.window_ends_ms(0), now))
    }

    /// Puts the drawn into the line.
    pub fn seat_drawn(&self, window: &Window, frozen: &Frozen, now: Now) {
        let lane = self.state.line.lane(Lane::Main);
        for index in 0..window.register.taken() {
            let Some(place) = window.drawn(index) else { continue };
            let present_until_s = match window.register.standing(index) {
                Standing::Written(e) => e.present_until_s.max(self.clock_s(now)),
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
            if let Some(was) =
                old.draws.iter().find(|d| d.sale_id() == draw.sale_id() && d.pledged().is_some() && !d.is_retired())
            {
                let cancelled = draw.is_cancelled();
                *draw = was.clone();
                if cancelled {
                    draw.cancel();
                }
            }
        }
    }
}

fn state_of(window: Option<&Window>, now: Now) -> &'static str {
    match (window, window.and_then(Window::frozen)) {
        (Some(w), _) if w.is_drawn() => "drawn",
        (_, Some(f)) if f.list.is_late(now) => "late",
        (_, Some(_)) => "frozen",
        _ => "open",
    }
}
