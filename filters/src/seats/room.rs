//! A waiting room: its settings, and the state that outlives a reload.

mod entrant;
mod holder;
mod selling;

use std::sync::{Arc, PoisonError, atomic::Ordering};

use self::operating::turned_away;
pub use self::operating::{LOOK_AGAIN_S, bypass_id};
pub use super::{answer::*, settings::*};
use super::{
    draw::live::SaleDraw,
    line::{Claimed, ClaimsFull, Terms},
    pace::clock_s,
    queue::{Lane, PLACES_MAX, Place, State, TIME_MAX_S},
    seat::SeatRef,
    state::{Operator, RoomState},
    stock::Stock,
    token::{Kind, Token},
};
use crate::{
    plan::Plan,
    rule::{
        bot_gate::Class,
        pass::seat_of,
        sale_window::{Phase, Sale},
    },
    sabotage::{self, Bug},
    time::Now,
    units::Rate,
    verdict::{Reason, Verdict},
    visit::{Visit, Wants},
};

mod operating;
mod telling;

/// How long a ticket is good, milliseconds. The place itself lives as long as the room's state.
pub const TICKET_AGE_MAX_MS: u64 = 24 * 3_600_000;
/// An armed room in which nobody had to wait for a token or a seat opens again after this long, milliseconds.
pub const DISARM_AFTER_MS: u64 = 10_000;

/// When newcomers are told to come back while nothing can be written down, seconds.
const DOWN_RETRY_S: u32 = 10;

/// A room: this policy's settings over carried state.
#[derive(Debug)]
pub struct Room {
    index: usize,
    pub(super) settings: RoomSettings,
    pub(super) sales: Vec<(Sale, Arc<Stock>)>,
    pub(super) draws: Vec<Arc<SaleDraw>>,
    pub(super) state: Arc<RoomState>,
}

impl Room {
    /// A fresh room; `epoch` is random, so tokens of an earlier life never match.
    pub fn new(index: usize, settings: &RoomSettings, sales: &[Sale], epoch: u64, now: Now) -> Self {
        let state = RoomState::new(epoch, settings.seats.max, false, 0, now);
        let sales = sales.iter().filter(|s| *s.room == *settings.name);
        let draws = sales.clone().filter_map(|s| Self::draw_for(settings, s)).collect();
        let sales = sales.map(|s| (s.clone(), Arc::new(Stock::new(s.stock, s.lot)))).collect();
        Room { index, settings: settings.clone(), sales, draws, state: Arc::new(state) }
    }

    /// Takes over the line, seats, tokens and sold units of the room of the same name.
    pub fn carry_over(&mut self, old: &Room) {
        self.state = old.state.clone();
        for (sale, stock) in &mut self.sales {
            if let Some((before, was)) = old.sales.iter().find(|(s, _)| s.name == sale.name) {
                sale.carry_over(before);
                *stock = was.clone();
                stock.with(|l| l.rewrite(sale.stock, sale.lot));
            }
        }
        self.carry_over_draws(old);
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Its settings.
    pub fn settings(&self) -> &RoomSettings {
        &self.settings
    }

    /// The epoch its tokens carry.
    pub fn epoch(&self) -> u64 {
        self.state.epoch
    }

    /// Answers a visit of a covered route.
    pub fn visit(&self, visit: &Visit<'_>, class: Class, now: Now) -> (Verdict, Reason) {
        if self.lets_pass(visit, now) {
            return (Verdict::Forward(Entrance::Free), Reason::Bypass);
        }
        if let Some(seat) = self.seated(visit, now) {
            return (Verdict::Forward(Entrance::Inside { room: self.index, seat }), Reason::Pass);
        }
        if self.called_off(visit, now).is_some() {
            return (Verdict::Refuse { retry_after_s: None }, Reason::SaleCancelled);
        }
        let doors = self.doors();
        if doors == Doors::Closed {
            return (Verdict::Refuse { retry_after_s: None }, Reason::RoomClosed);
        }
        if self.must_show(visit, now) {
            return (Verdict::Challenge, Reason::TokenElsewhere);
        }
        let (ticket, restarted) = self.ticket(visit, now);
        if let Some(stock) = self.gone(now) {
            let kept = ticket.map(|place| self.waiting(place, false, false, now));
            let told = kept.unwrap_or_else(|| self.nothing_left(stock));
            return (Verdict::SoldOut(Box::new(told)), Reason::StockGone);
        }
        if let Some(place) = ticket {
            if !visit.may_join() {
                return turned_away(visit);
            }
            let w = self.waiting(place, false, false, now);
            return (Verdict::Wait(w), w.stage.reason());
        }
        let failing = self.is_failing();
        if failing && self.settings.on_failure == OnFailure::Closed && self.entry_of(visit, now).is_none() {
            return self.down();
        }
        let waits = doors != Doors::Open || self.closed(now) || self.armed(now) || class != Class::Human || failing;
        if !visit.may_join() || visit.wants == Wants::Other {
            // While nobody waits, probes, assets and posts of people without cookies pass and cost no seat.
            return match waits {
                false => (Verdict::Forward(Entrance::Free), Reason::WalkIn),
                true => turned_away(visit),
            };
        }
        if doors == Doors::Draining && self.entry_of(visit, now).is_none() {
            return (Verdict::Refuse { retry_after_s: None }, Reason::RoomClosed);
        }
        if let Some(w) = self.draw_answer(visit, class, restarted, now) {
            return (Verdict::Wait(w), w.stage.reason());
        }
        if !waits && let Some(seat) = self.walk_in(now) {
            return (Verdict::Forward(Entrance::Seated { room: self.index, seat }), Reason::WalkIn);
        }
        let w = self.join(visit, class, restarted, now);
        match (w.stage, self.settings.on_failure) {
            (Stage::Full, OnFailure::OpenBounded) => (Verdict::Forward(Entrance::Free), Reason::RoomFull),
            // There are places, but none that is written down.
            (Stage::Full, _) if !self.is_full(class) => self.down(),
            _ => (Verdict::Wait(w), w.stage.reason()),
        }
    }

    /// Where the visitor stands. Never joins; refreshes presence.
    pub fn status(&self, visit: &Visit<'_>, now: Now) -> RoomStatus {
        // To look is not to visit: a seat whose holder only asks about it comes back.
        if let Some(seat) = self.pass(visit, now).filter(|s| self.state.seats.is_live(*s, self.clock_s(now))) {
            return RoomStatus::Seated(seat);
        }
        match self.ticket(visit, now).0 {
            _ if self.called_off(visit, now).is_some() => RoomStatus::CalledOff,
            Some(_) if self.doors() == Doors::Closed => RoomStatus::Closed,
            None => self.entry_status(visit, now).map_or(RoomStatus::None, RoomStatus::Waiting),
            Some(place) => RoomStatus::Waiting(self.waiting(place, false, false, now)),
        }
    }

    /// Starts the claim of the visitor's ticket.
    pub fn claim(&self, visit: &Visit<'_>, now: Now) -> Claim {
        if let Some(seat) = self.seated(visit, now) {
            return Claim::Inside(seat);
        }
        let place = self.place_of(visit, now).filter(|_| self.called_off(visit, now).is_none());
        let Some(place) = place else { return Claim::NoTicket };
        if self.is_failing() && matches!(self.state.line.told(place), State::Called { .. } | State::Claiming | State::Next { .. })
        {
            return Claim::NotYet(self.waiting(place, false, false, now));
        }
        match self.state.line.claim(place) {
            Ok(true) => Claim::Pending(place),
            Err(ClaimsFull) => Claim::Busy,
            Ok(false) => match self.state.line.told(place) {
                State::Claiming => Claim::Pending(place),
                State::Waiting { .. } | State::Next { .. } => Claim::NotYet(self.waiting(place, false, false, now)),
                State::Seated => self.claim_again(place, now),
                State::Called { .. } => Claim::Busy,
                State::Left | State::Unwritten => Claim::NoTicket,
            },
        }
    }

    /// Gives back the visitor's seat or else its place; `None` when there was neither.
    pub fn leave(&self, visit: &Visit<'_>, now: Now) -> Option<GivenBack> {
        let pass = self.token_of(visit, Kind::Pass, now);
        if let Some(seat) = pass.map(seat_of).filter(|s| self.revoke(*s)) {
            return Some(GivenBack::Seat(seat));
        }
        if let Some(place) = self.place_of(visit, now) {
            // A seat that nobody has come for, or whose pass was lost.
            let seat = || {
                self.state.line.collect(place);
                self.state.seats.of(place, self.clock_s(now)).filter(|s| self.revoke(*s)).map(GivenBack::Seat)
            };
            let left = self.state.line.leave(place).then_some(GivenBack::Place(place)).or_else(seat);
            if left.is_some() {
                return left;
            }
        }
        self.leave_entry(visit, now).map(GivenBack::Entry)
    }

    /// Serves claims, calls people, expires seats, opens an idle room. Ten times a second.
    pub fn tick(&self, now: Now) -> Vec<Claimed> {
        let s = &self.state;
        let now_s = self.clock_s(now);
        s.bucket.refill(now);
        if s.swept_s.swap(now_s, Ordering::AcqRel) != now_s {
            s.seats.sweep(now_s);
            self.stock_second(now);
        }
        let terms = Terms {
            seats_max: s.seats_max.load(Ordering::Acquire),
            units: u32::MAX,
            seat_expires_s: self.seat_expires_s(now),
            seat_ends_s: self.seat_ends_s(now),
            claim_window_s: self.settings.claim_window.secs_ceil() as u32,
            kept_s: self.kept_s(now),
            refill_per_s: s.bucket.rate_per_s(),
            slow_lane_percent: self.settings.slow_lane_percent,
            closed: self.closed(now) || self.is_failing(),
            keeps: s.keeps,
        };
        let answers = self.give_out(now, now_s, terms);
        // Whoever comes is called at once, and would be let in as well if nobody were called.
        let owed = s.line.owed();
        let spare = s.bucket.available() > u64::from(owed) && s.seats.live().saturating_add(owed) < terms.seats_max;
        if !(s.line.is_called() && spare) {
            s.idle_since_ms.store(now.mono_ms(), Ordering::Release);
        } else if now.mono_ms() >= s.idle_since_ms.load(Ordering::Acquire) + DISARM_AFTER_MS {
            s.armed.store(false, Ordering::Release);
        }
        answers
    }

    /// Puts a plan in force.
    pub fn set_plan(&self, plan: &Plan, now: Now) {
        let mut op = self.operator();
        let slow = op.slow.map_or(f64::INFINITY, Rate::as_per_s);
        let mut plan = plan.clone();
        let slowed = plan.refill_per_s > slow;
        if slowed {
            plan.reason = format!("refill {slow:.2}/s: slowed by an operator; without it {}", plan.reason);
            (plan.refill_per_s, plan.burst) = (slow, 1.0);
        }
        self.state.bucket.set_rate(plan.refill_per_s, plan.burst, now);
        self.state.seats_max.store(plan.seats, Ordering::Release);
        if plan.armed {
            self.state.armed.store(true, Ordering::Release);
        }
        self.note_cause(&plan, slowed);
        op.plan = Some(plan);
    }

    /// Puts the first plan in force, with a full burst. For rooms that were not carried over.
    pub fn open(&self, plan: &Plan, now: Now) {
        self.set_plan(plan, now);
        self.state.bucket.fill();
    }

    /// Numbers.
    pub fn stats(&self, now: Now) -> RoomStats {
        let s = &self.state;
        let (taken, seated, left) = s.line.counts();
        // Numbers that a restart skipped are nobody.
        let arrived = taken.saturating_sub(s.line.void());
        let (promises_made, promises_kept) = s.line.promises();
        let op = self.operator();
        let sale = self.current_sale(now);
        let units = sale.map(|(_, stock)| stock.units());
        RoomStats {
            name: self.name().to_owned(),
            armed: self.armed(now),
            paused: s.paused.load(Ordering::Acquire),
            doors: self.doors(),
            arrived,
            waiting: arrived.saturating_sub(seated + left),
            called: s.line.outstanding(),
            seated,
            walk_ins: s.walk_ins.load(Ordering::Acquire),
            left,
            seats_live: s.seats.live(),
            seats_max: s.seats_max.load(Ordering::Acquire),
            tokens: s.bucket.available(),
            minted: s.bucket.minted(),
            frontier: Lane::ALL.map(|l| s.line.lane(l).frontier()),
            call_rate: s.line.pace().rate,
            promises_made,
            promises_kept,
            sold: units.map_or(0, |u| u.sold),
            sale: sale.map(|(s, _)| s.name.to_string()),
            stock: units.filter(|u| u.stock.is_some()),
            reserves: self.reserving(now).is_some(),
            drawn: self.drawn_places(now),
            message: op.message.clone(),
            plan: op.plan.clone(),
        }
    }

    /// The ticket of a place.
    pub fn ticket_token(&self, place: Place, host: &str, now: Now) -> Token {
        self.token(Kind::Ticket, place.to_bits(), TICKET_AGE_MAX_MS, host, now)
    }

    /// The pass of a seat. Asked for again it ends when the first one does.
    pub fn pass_token(&self, seat: SeatRef, host: &str, now: Now) -> Token {
        let left_s = self.state.seats.end(seat).saturating_sub(self.clock_s(now));
        self.token(Kind::Pass, seat.to_bits(), u64::from(left_s) * 1000, host, now)
    }

    pub(super) fn token(&self, kind: Kind, number: u64, age_max_ms: u64, host: &str, now: Now) -> Token {
        let sale = self.current_sale(now).map_or("", |(s, _)| &*s.name).into();
        Token {
            kind,
            room: self.name().into(),
            sale,
            host: host.into(),
            epoch: self.state.epoch,
            number,
            binding: 0,
            issued_at_ms: now.wall_ms,
            not_before_ms: now.wall_ms,
            expires_at_ms: now.wall_ms + age_max_ms,
        }
    }

    pub(super) fn operator(&self) -> std::sync::MutexGuard<'_, Operator> {
        self.state.operator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The live seat of the visit's pass, renewed.
    fn seated(&self, visit: &Visit<'_>, now: Now) -> Option<SeatRef> {
        let seat = self.pass(visit, now)?;
        self.state.seats.renew(seat, self.clock_s(now), self.seat_expires_s(now)).then_some(seat)
    }

    pub(super) fn clock_s(&self, now: Now) -> u32 {
        clock_s(now).saturating_add(self.state.base_s).min(TIME_MAX_S)
    }

    /// Nothing can be written down, and the room must not go on without.
    pub fn is_failing(&self) -> bool {
        self.state.failing.load(Ordering::Acquire) && self.settings.on_failure != OnFailure::OpenBounded
    }

    fn down(&self) -> (Verdict, Reason) {
        (Verdict::Refuse { retry_after_s: Some(DOWN_RETRY_S) }, Reason::RoomDown)
    }

    fn is_full(&self, class: Class) -> bool {
        self.state.line.lane(lane_of(class)).taken() >= self.numbers_max()
    }

    /// Numbers below this may be given out in a lane: as many as people may have places, and those that restarts left behind.
    pub fn numbers_max(&self) -> u32 {
        let void = u32::try_from(self.state.line.void()).unwrap_or(u32::MAX);
        self.settings.entries_max.saturating_add(void).min(PLACES_MAX)
    }

    pub(super) fn seat_expires_s(&self, now: Now) -> u32 {
        self.clock_s(now).saturating_add(self.settings.seats.pass_idle.secs_ceil() as u32)
    }

    fn seat_ends_s(&self, now: Now) -> u32 {
        self.clock_s(now).saturating_add(self.settings.seats.pass_age_max.secs_ceil() as u32)
    }

    /// The place of the visit's ticket, whatever stands there.
    pub fn place_of(&self, visit: &Visit<'_>, now: Now) -> Option<Place> {
        self.place_of_number(self.token_of(visit, Kind::Ticket, now)?, now)
    }

    /// Whether the holder of a place has something to wait for.
    pub(super) fn is_held(&self, place: Place, now: Now) -> bool {
        match self.state.line.state(place) {
            State::Waiting { .. } | State::Called { .. } | State::Claiming | State::Next { .. } => true,
            // Seated, but the pass did not come back: the claim gives the same one again.
            State::Seated => self.state.seats.of(place, self.clock_s(now)).is_some(),
            State::Left | State::Unwritten => false,
        }
    }

    /// The place of a ticket that still waits, and whether the visit carries a ticket of an earlier life of the room.
    fn ticket(&self, visit: &Visit<'_>, now: Now) -> (Option<Place>, bool) {
        let place = self.place_of(visit, now).filter(|p| self.is_held(*p, now));
        let earlier = |t: &&Token| t.kind == Kind::Ticket && *t.room == *self.settings.name && t.epoch != self.state.epoch;
        (place, place.is_none() && visit.tokens.iter().any(|t| earlier(&t)))
    }

    fn walk_in(&self, now: Now) -> Option<SeatRef> {
        let s = &self.state;
        // What the last who were called have coming to them is not for who walks in.
        let owed = s.line.owed();
        let max = s.seats_max.load(Ordering::Acquire).saturating_sub(owed);
        s.bucket.refill(now);
        let token = s.bucket.take();
        if token
            && s.bucket.available() >= u64::from(owed)
            && let Some(seat) = s.seats.acquire(max, None, self.seat_expires_s(now), self.seat_ends_s(now))
        {
            s.walk_ins.fetch_add(1, Ordering::AcqRel);
            return Some(seat);
        }
        if token {
            s.bucket.put_back();
        }
        // Tokens or seats ran out: from now on people wait, in order.
        s.idle_since_ms.store(now.mono_ms(), Ordering::Release);
        s.armed.store(true, Ordering::Release);
        None
    }

    /// What to tell somebody who has no place.
    pub(super) fn without_place(&self, stage: Stage, poll_after_s: u32) -> Waiting {
        let room = self.index;
        Waiting {
            room,
            place: None,
            entry: None,
            needs_work: false,
            unnamed: false,
            fresh: false,
            again: false,
            restarted: false,
            stage,
            ahead: 0,
            wait_s: None,
            because: None,
            stock_percent: None,
            poll_after_s,
        }
    }

    fn armed(&self, now: Now) -> bool {
        self.settings.arm == Arm::Always || self.state.armed.load(Ordering::Acquire) || self.current_sale(now).is_some()
    }

    fn closed(&self, now: Now) -> bool {
        let before = self.prequeue(now).is_some() || self.draw_is_pending(now);
        before
            || self.state.paused.load(Ordering::Acquire)
            || self.doors() == Doors::Closed
            || (self.sold_out(now) && !sabotage::is(Bug::SoldOutStillSeats))
    }
}

fn lane_of(class: Class) -> Lane {
    if class == Class::Suspect { Lane::Slow } else { Lane::Main }
}
