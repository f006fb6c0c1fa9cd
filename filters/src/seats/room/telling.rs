//! What the holder of a place is told, and when it may ask again.

use super::selling::{gone_of, sold_out_stage};
use super::{Cause, Doors, Frame, Kind, Lane, Now, Ordering, Phase, Place, Plan, Room, Sale, Stage, State, Visit, Waiting};
use crate::seats::pace::{Asker, CALLED_POLL_S, PRESENCE_GRACE_S, Pace, called_after_s, poll_after, rate_spread, wait_interval};

/// A refill below this share of the usual one is worth a word to those who wait.
const CLEARLY_SLOWER: f64 = 0.7;
/// Weight of the newest second in the usual refill: half of it is the last 70 s.
const USUAL_WEIGHT: f64 = 0.01;

impl Room {
    /// What to tell the holder of a place; refreshes its presence.
    pub(super) fn waiting(&self, place: Place, fresh: bool, restarted: bool, now: Now) -> Waiting {
        let line = &self.state.line;
        let queue = line.lane(place.lane);
        let now_s = self.clock_s(now);
        let frontier = queue.frontier();
        // Nobody stands at the numbers that a restart left behind: they are passed over in an instant.
        let before = place.number.saturating_sub(frontier);
        let ahead = u64::from(before.saturating_sub(queue.void_between(frontier, place.number)));
        let (rates, pace) = self.rates(now);
        let sale = self.current_sale(now);
        let gone = sale.and_then(gone_of).map(sold_out_stage);
        let stage = gone.unwrap_or_else(|| match line.told(place) {
            State::Called { deadline_s } => Stage::Called { expires_in_s: deadline_s.saturating_sub(now_s) },
            State::Seated => Stage::Called { expires_in_s: self.kept_for_s(place, now) },
            State::Claiming | State::Next { .. } => Stage::Next,
            _ => self.stage(now),
        });
        let people = ahead as f64 * pace.present + 1.0;
        // When something comes back, nobody knows.
        let wait_s = wait_interval(people, rates[place.lane as usize], rate_spread(pace.calls)).filter(|_| gone.is_none());
        if let (Stage::Waiting, Some(wait_s)) = (stage, wait_s) {
            line.promise(place, now_s, wait_s);
        }
        let at_once = self.state.bucket.available().min(u64::from(self.state.seats_max.load(Ordering::Acquire))) as f64;
        let who = Asker {
            number: place.number,
            called_after_s: called_after_s(place.number, at_once, rates[place.lane as usize]),
            claim_window_s: self.settings.claim_window.secs_ceil() as u32,
            moving_s: pace.moving_s,
            quiet_s: pace.quiet_s,
            ahead,
        };
        let poll_after_s = match stage {
            Stage::Waiting => self.undrawn_poll_s(place.number, now),
            _ => None,
        };
        let poll_after_s = poll_after_s.unwrap_or_else(|| poll_after(stage, wait_s, who));
        line.touch(place, now_s + poll_after_s + PRESENCE_GRACE_S);
        self.state.polls.told(place, poll_after_s, now);
        // With nothing left there is no wait to give a reason for, and no chance to give.
        let because = self.cause().filter(|_| gone.is_none());
        let present = pace.present;
        let stock_percent =
            sale.filter(|_| gone.is_none()).and_then(|(_, stock)| stock.outlook().percent(ahead as f64 * present));
        let told = self.without_place(stage, poll_after_s);
        Waiting { place: Some(place), fresh, restarted, ahead, wait_s, because, stock_percent, ..told }
    }

    /// Seconds by which the visitor asks again too early: it was told when. `None`: it may ask.
    pub fn early(&self, visit: &Visit<'_>, now: Now) -> Option<u32> {
        let Some(place) = self.place_of(visit, now) else { return self.entry_early(visit, now) };
        let early_s = self.state.polls.early_s(place, now)?;
        match self.state.line.told(place) {
            State::Waiting { .. } => Some(early_s),
            // What was told before the call does not count any more.
            State::Called { .. } | State::Claiming | State::Next { .. } => (early_s <= CALLED_POLL_S).then_some(early_s),
            State::Seated | State::Left | State::Unwritten => None,
        }
    }

    /// The room as everybody in it sees it: the one frame of a tick that all live pages share. A page computes its own
    /// place and time from it.
    pub fn frame(&self, now: Now) -> Frame {
        let line = &self.state.line;
        let (rates, pace) = self.rates(now);
        Frame {
            room: self.name().into(),
            stage: self.stage_name(now),
            sale: self.sale_now(now).map(|s| s.name.clone()),
            frontier: Lane::ALL.map(|l| line.told_frontier(l)),
            rate: rates.map(|r| (r * 1e4).round() / 1e4),
            present: (pace.present * 1e3).round() / 1e3,
            spread: (rate_spread(pace.calls) * 1e3).round() / 1e3,
            because: self.cause(),
            message: self.current_message(),
            draw: self.draw_frame(now),
        }
    }

    /// Stable name of the stage of who is not called yet.
    pub fn stage_name(&self, now: Now) -> &'static str {
        match self.doors() {
            Doors::Closed => "closed",
            _ if self.sold_out(now) => "sold_out",
            _ => self.stage(now).name(),
        }
    }

    /// The number of the visit's ticket, of a place or of an entry: who may listen to live updates.
    pub fn ticket_number(&self, visit: &Visit<'_>, now: Now) -> Option<u64> {
        self.token_of(visit, Kind::Ticket, now).map(|t| t.number)
    }

    /// The sale that is on, or whose pre-queue is.
    pub fn sale_now(&self, now: Now) -> Option<&Sale> {
        self.current_sale(now).map(|(sale, _)| sale)
    }

    /// Units of that sale, as they are now: a restock is among them.
    pub fn units_now(&self, now: Now) -> Option<u64> {
        self.current_sale(now).and_then(|(_, stock)| stock.all())
    }

    /// The visitor of a live page is there: counts as a poll.
    pub fn touch(&self, place: Place, for_s: u32, now: Now) {
        self.state.line.touch(place, self.clock_s(now) + for_s + PRESENCE_GRACE_S);
    }

    /// The stage of who is not called yet.
    fn stage(&self, now: Now) -> Stage {
        match self.prequeue(now) {
            Some(stage) => stage,
            None if self.state.paused.load(Ordering::Acquire) || self.is_failing() => Stage::Paused,
            None => Stage::Waiting,
        }
    }

    /// The stage before the opening of a sale whose pre-queue is open.
    pub(in crate::seats) fn prequeue(&self, now: Now) -> Option<Stage> {
        let (sale, _) = self.current_sale(now).filter(|(s, _)| s.phase(now) == Phase::Prequeue)?;
        let opens_in_s = sale.opens_at_ms().saturating_sub(now.wall_ms).div_ceil(1000);
        Some(Stage::Prequeue { opens_in_s: opens_in_s.min(u64::from(u32::MAX)) as u32 })
    }

    /// People called a second by lane, and the pace they come from. Nobody knows when a draw that is waited for comes.
    fn rates(&self, now: Now) -> ([f64; 2], Pace) {
        let mut pace = self.state.line.pace();
        // Nor when somebody does not take what is set aside, or goes on.
        if self.waits_for_draw(now) || self.all_reserved() || self.state.paused.load(Ordering::Acquire) {
            pace.rate = 0.0;
        }
        ([pace.rate, pace.rate * f64::from(self.settings.slow_lane_percent.max(1)) / 100.0], pace)
    }

    fn all_reserved(&self) -> bool {
        self.state.all_reserved.load(Ordering::Acquire)
    }

    fn cause(&self) -> Option<Cause> {
        match self.state.paused.load(Ordering::Acquire) {
            true => Some(Cause::Paused),
            false if self.all_reserved() => Some(Cause::AllReserved),
            false => Cause::from_bits(self.state.cause.load(Ordering::Relaxed)),
        }
    }

    /// Why people wait longer than usual, from the plan that was just put in force.
    pub(super) fn note_cause(&self, plan: &Plan, slowed: bool) {
        let s = &self.state;
        let usual = f64::from_bits(s.usual_refill.load(Ordering::Relaxed));
        let cause = match plan.refill_per_s {
            r if r <= 0.0 => Some(Cause::ShopDown),
            _ if slowed => Some(Cause::Slowed),
            _ if s.seats.live() >= plan.seats => Some(Cause::SeatsTaken),
            r if r < CLEARLY_SLOWER * usual => Some(Cause::ShopSlower),
            _ => None,
        };
        s.cause.store(cause.map_or(0, |c| c as u8), Ordering::Relaxed);
        let next = if usual > 0.0 { usual + USUAL_WEIGHT * (plan.refill_per_s - usual) } else { plan.refill_per_s };
        s.usual_refill.store(next.to_bits(), Ordering::Relaxed);
    }
}
