//! The line of a room: two lanes, claims, calls. A call is an invitation; token and seat are taken at the claim, so that
//! people who do not come cost nobody an admission.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
};

use crossbeam_queue::ArrayQueue;

use super::{
    keep::Kept,
    pace::{CALLED_POLL_S, Moves, PRESENCE_GRACE_S, Pace},
    promise::Promises,
    queue::{KeptLane, Lane, Place, Queue, State},
    response::Response,
    seat::{SeatRef, Seats},
    sync::{AtomicU32, AtomicU64, Mutex, Ordering},
};
use crate::{
    bucket::Bucket,
    sabotage::{self, Bug},
    time::Now,
};

/// Claims that may be under way between two ticks; one more is told to try again.
pub const CLAIMS_MAX: usize = 16_384;
/// How long a claim waits for token and seat before it is answered "you are next", milliseconds. It stands all the same, but
/// whoever is told so comes a poll later than its seat, which at a busy shop is a tenth of the orders: so most are told more.
pub const CLAIM_WAIT_MS: u64 = 5_000;
/// Claims that stand at the same time; of one more the holder claims again.
const STANDING_MAX: usize = 16_384;
/// Whoever was told "you are next" has asked again within this, seconds, or is absent.
pub const STANDS_S: u32 = CALLED_POLL_S + PRESENCE_GRACE_S;
/// Longest claim window, seconds.
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
pub const CLAIM_WINDOW_S_MAX: u32 = 900;
/// Small for model checkers.
#[cfg(any(feature = "loom", feature = "shuttle"))]
pub const CLAIM_WINDOW_S_MAX: u32 = 3;
/// Places one tick looks at: 2^16 absent ones are passed over in a millisecond.
const SCAN_MAX: u32 = 1 << 16;
/// How often one call can be extended: what WCAG 2.2.1 asks for.
pub const EXTENSIONS_MAX: u8 = 10;
/// Luck evens out with the root: so many standard deviations of claims are called in advance, so that seldom a token waits
/// for somebody. Those who come when there is none yet are next, for a second or two.
const SPARE: f64 = 1.5;
/// Calls that can be extended at the same time.
const EXTENDED_MAX: usize = 16_384;

/// [`CLAIMS_MAX`] claims are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimsFull;

/// A claim's answer, out of [`Line::tick`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Who claimed.
    pub place: Place,
    /// The seat, or `None`: next, nothing was free in [`CLAIM_WAIT_MS`]. Its seat comes by itself while it is present.
    pub seat: Option<SeatRef>,
}

/// What a tick may give out, and how.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Most live seats.
    pub seats_max: u32,
    /// Most seats given: where each comes with a unit, as many as there are units for.
    pub units: u32,
    /// Seconds (of the room's clock) at which a seat given now expires.
    pub seat_expires_s: u32,
    /// Seconds (of the room's clock) at which it ends however much it is used.
    pub seat_ends_s: u32,
    /// Seconds a called visitor is waited for.
    pub claim_window_s: u32,
    /// Seconds a seat is kept for a holder who has not come for it.
    pub kept_s: u32,
    /// Tokens the bucket gets a second.
    pub refill_per_s: f64,
    /// Percent of calls for the slow lane while both wait.
    pub slow_lane_percent: u8,
    /// Nobody is called or seated: before the opening, paused.
    pub closed: bool,
    /// A seat that is given counts once it is written down: [`Line::settle`] says so.
    pub keeps: bool,
}

mod calling;
mod offers;
mod serving;

/// The line.
#[derive(Debug)]
pub struct Line {
    lanes: [Queue; 2],
    /// Places, and the deadline of their call.
    claims: ArrayQueue<(Place, u32)>,
    /// Calls whose deadline is at second `i % len`, not yet claimed.
    outstanding: Box<[AtomicU32]>,
    /// Deadlines below are over, and not counted any more.
    over_s: AtomicU32,
    /// Called or claiming as of the last tick.
    owed: AtomicU32,
    left: AtomicU64,
    seated: AtomicU64,
    /// Numbers that a restart left behind and nobody has shown a ticket of.
    void: AtomicU64,
    /// Calls below are written down, so people may be told.
    announced: [AtomicU32; 2],
    /// [`Pace`] of the last tick, as bits: read by every waiting visit, so not behind the lock.
    pace: [AtomicU64; 5],
    promises: Promises,
    offers: offers::Offers,
    /// How often calls were extended. Looked at when somebody extends, and once a second.
    extended: Mutex<BTreeMap<Place, u8>>,
    tick: Mutex<Tick>,
}

#[derive(Debug, Default)]
struct Tick {
    /// Claims that are not answered yet, lowest place first, and since when.
    pending: BTreeMap<Place, u64>,
    /// Those that were answered "you are next".
    standing: BTreeSet<Place>,
    last_s: u32,
    response: Response,
    moves: Moves,
    calls_this_s: u32,
    /// Share of the places passed that had somebody present, smoothed.
    present_share: Option<f64>,
    slow_credit: f64,
}

impl Default for Line {
    fn default() -> Self {
        Line {
            lanes: Default::default(),
            claims: ArrayQueue::new(CLAIMS_MAX),
            over_s: AtomicU32::new(0),
            owed: AtomicU32::new(0),
            outstanding: (0..=CLAIM_WINDOW_S_MAX).map(|_| AtomicU32::new(0)).collect(),
            left: AtomicU64::new(0),
            seated: AtomicU64::new(0),
            void: AtomicU64::new(0),
            announced: [AtomicU32::new(u32::MAX), AtomicU32::new(u32::MAX)],
            pace: [0f64, 1.0, 0.0, 0.0, 0.0].map(|x| AtomicU64::new(x.to_bits())),
            promises: Promises::default(),
            offers: offers::Offers::default(),
            extended: Mutex::new(BTreeMap::new()),
            tick: Mutex::new(Tick::default()),
        }
    }
}

impl Line {
    /// A lane.
    pub fn lane(&self, lane: Lane) -> &Queue {
        &self.lanes[lane as usize]
    }

    /// What stands at a place.
    pub fn state(&self, place: Place) -> State {
        self.lane(place.lane).state(place.number)
    }

    /// What the holder of a place may know about it: a call that is not written down yet has not happened.
    pub fn told(&self, place: Place) -> State {
        match self.state(place) {
            State::Called { deadline_s } if !self.is_announced(place) => State::Waiting { present_until_s: deadline_s },
            state => state,
        }
    }

    /// The holder of a place was here and counts as present until then.
    pub fn touch(&self, place: Place, until_s: u32) {
        if self.lane(place.lane).touch(place.number, until_s) == Some(0) {
            // Somebody has this number after all.
            let _ = self.void.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        }
    }

    /// Calls of places below these are written down.
    pub fn announce(&self, frontier: [u32; 2]) {
        for (announced, frontier) in self.announced.iter().zip(frontier) {
            announced.fetch_max(frontier, Ordering::AcqRel);
        }
    }

    /// No call is told until [`Line::announce`].
    pub fn hold_calls(&self) {
        self.announced.iter().for_each(|a| a.store(0, Ordering::Release));
    }

    fn is_announced(&self, place: Place) -> bool {
        place.number < self.announced[place.lane as usize].load(Ordering::Acquire)
    }

    /// A seat of [`Line::tick`] is written down, or could not be: then its claim stays good and the caller takes the seat
    /// and the token back.
    pub fn settle(&self, place: Place, kept: bool) {
        if !kept {
            self.collect(place);
            self.seated.fetch_sub(1, Ordering::AcqRel);
        }
        self.lane(place.lane).end_claim(place.number, kept && !sabotage::is(Bug::TicketNotBurnt));
    }

    /// Starts a claim: `true` when it was a called place and is now waiting for the next tick. `Err` when too many are.
    pub fn claim(&self, place: Place) -> Result<bool, ClaimsFull> {
        if !self.is_announced(place) {
            return Ok(false);
        }
        let Some(deadline_s) = self.lane(place.lane).begin_claim(place.number) else { return Ok(false) };
        if self.claims.push((place, deadline_s)).is_err() {
            self.lane(place.lane).end_claim(place.number, false);
            return Err(ClaimsFull);
        }
        self.call_over(deadline_s);
        Ok(true)
    }

    /// Gives a place back.
    pub fn leave(&self, place: Place) -> bool {
        let before = self.lane(place.lane).leave(place.number);
        if let Some(State::Called { deadline_s }) = before {
            self.call_over(deadline_s);
        }
        self.left.fetch_add(u64::from(before.is_some() && !sabotage::is(Bug::LeaveNotCounted)), Ordering::AcqRel);
        before.is_some()
    }

    /// A called visitor needs more time: waited for until `deadline_s`. `false`: not called, not so soon over, or
    /// extended [`EXTENSIONS_MAX`] times already.
    pub fn extend(&self, place: Place, deadline_s: u32) -> bool {
        let mut extended = self.extended.lock().unwrap_or_else(PoisonError::into_inner);
        let times = extended.get(&place).copied().unwrap_or(0);
        if times >= EXTENSIONS_MAX || times == 0 && extended.len() >= EXTENDED_MAX {
            return false;
        }
        // Counted first: whoever claims or leaves in between takes this count back, not one that is not there yet.
        let slot = &self.outstanding[deadline_s as usize % self.outstanding.len()];
        slot.fetch_add(1, Ordering::AcqRel);
        let Some(before_s) = self.lane(place.lane).extend(place.number, deadline_s) else {
            slot.fetch_sub(1, Ordering::AcqRel);
            return false;
        };
        self.call_over(before_s);
        extended.insert(place, times + 1);
        true
    }

    /// Serves the claims since the last tick, lowest place first, then calls as many as will find token and seat.
    pub fn tick(&self, now_s: u32, now: Now, terms: Terms, seats: &Seats, bucket: &Bucket) -> Vec<Claimed> {
        let mut t = self.tick.lock().unwrap_or_else(PoisonError::into_inner);
        let window_s = window(terms);
        while let Some((place, deadline_s)) = self.claims.pop() {
            t.pending.insert(place, now.mono_ms());
            // Who was passed over, or comes after the window, says nothing about how people respond to calls.
            if deadline_s >= now_s {
                t.response.claim(window_s.saturating_sub(deadline_s - now_s) as usize);
            }
        }
        self.each_second(&mut t, now_s, window_s, terms.closed);
        let answers = self.serve(&mut t, (now_s, now), terms, seats, bucket);
        if !terms.closed {
            let given = answers.iter().filter(|c| c.seat.is_some()).count() as u32;
            let terms = Terms { units: terms.units.saturating_sub(given), ..terms };
            self.call(&mut t, now_s, terms, seats, bucket);
        }
        self.owed.store(self.outstanding() + t.claims() as u32, Ordering::Release);
        t.moves.tick(seats.live() >= terms.seats_max || terms.units == 0);
        let pace = t.moves.pace(terms.refill_per_s / t.response.share(), t.present_share.unwrap_or(1.0), now_s);
        let told = [pace.rate, pace.present, pace.calls, f64::from(pace.moving_s), f64::from(pace.quiet_s)];
        for (slot, x) in self.pace.iter().zip(told) {
            slot.store(x.to_bits(), Ordering::Relaxed);
        }
        answers
    }

    /// How fast the line moves: for waiting times.
    pub fn pace(&self) -> Pace {
        let [rate, present, calls, moving_s, quiet_s] =
            [0, 1, 2, 3, 4].map(|i: usize| f64::from_bits(self.pace[i].load(Ordering::Relaxed)));
        Pace { rate, present, calls, moving_s: moving_s as u32, quiet_s: quiet_s as u32 }
    }

    /// The interval a visitor is shown; the first one counts.
    pub fn promise(&self, place: Place, now_s: u32, wait_s: (u32, u32)) {
        self.promises.make(place, now_s, wait_s);
    }

    /// Promised waits whose end is known, and those of them that were kept.
    pub fn promises(&self) -> (u64, u64) {
        self.promises.counts()
    }

    /// Everybody below was called, and may be told.
    pub fn told_frontier(&self, lane: Lane) -> u32 {
        self.lane(lane).frontier().min(self.announced[lane as usize].load(Ordering::Acquire))
    }

    /// Numbers that a restart left behind and nobody has shown a ticket of.
    pub fn void(&self) -> u64 {
        self.void.load(Ordering::Acquire)
    }

    /// Puts the line of a [`Kept`] back; who came last counts as present until `present_until_s`.
    pub fn restore(&self, kept: &Kept, present_until_s: u32) {
        let head = &kept.head;
        let mut void = head.void;
        for (i, lane) in self.lanes.iter().enumerate() {
            let chunks: Vec<_> =
                kept.chunks.iter().filter(|c| c.lane as usize == i).map(|c| (c.index, c.words.clone())).collect();
            let kept =
                KeptLane { taken: head.taken[i], reserved: head.reserved[i], frontier: head.frontier[i], gaps: &head.gaps[i] };
            lane.restore(&kept, present_until_s, &chunks);
            void += u64::from(lane.taken().saturating_sub(head.taken[i]));
            self.announced[i].store(head.frontier[i], Ordering::Release);
        }
        // The seat was written down with its claim; the place's own word may have come a moment later.
        let owners = kept.seats.iter().filter(|s| s.expires_s != 0).filter_map(|s| s.owner);
        owners.for_each(|place| self.lane(place.lane).seat(place.number));
        let mut standing = BTreeSet::new();
        for (lane, queue) in Lane::ALL.into_iter().zip(&self.lanes) {
            for n in 0..queue.taken() {
                match queue.state(n) {
                    State::Called { deadline_s } if deadline_s > head.clock_s => {
                        self.outstanding[deadline_s as usize % self.outstanding.len()].fetch_add(1, Ordering::AcqRel);
                    }
                    State::Next { .. } => {
                        queue.touch(n, present_until_s);
                        standing.insert(Place { lane, number: n });
                    }
                    _ => {}
                }
            }
        }
        self.left.store(head.left, Ordering::Release);
        self.seated.store(head.seated, Ordering::Release);
        self.void.store(void, Ordering::Release);
        let mut tick = self.tick.lock().unwrap_or_else(PoisonError::into_inner);
        (tick.last_s, tick.standing) = (head.clock_s, standing);
    }

    /// `(taken, seated, left)` of both lanes.
    pub fn counts(&self) -> (u64, u64, u64) {
        let taken = self.lanes.iter().map(|l| u64::from(l.taken())).sum();
        (taken, self.seated.load(Ordering::Acquire), self.left.load(Ordering::Acquire))
    }

    /// Called, deadline not over, not claimed yet.
    pub fn outstanding(&self) -> u32 {
        self.outstanding.iter().map(|c| c.load(Ordering::Acquire)).sum()
    }

    /// Nobody has a place that was not called yet.
    pub fn is_called(&self) -> bool {
        self.lanes.iter().all(|l| l.frontier() >= l.taken())
    }

    /// People who were called and may still come, or have claimed, as of the last tick: a token and a seat each are theirs.
    pub fn owed(&self) -> u32 {
        self.owed.load(Ordering::Acquire)
    }

    fn call_over(&self, deadline_s: u32) {
        let slot = &self.outstanding[deadline_s as usize % self.outstanding.len()];
        // 0 is "passed over while absent": never counted. Of one that is over the slot is another second's by now.
        if deadline_s > 0 && deadline_s >= self.over_s.load(Ordering::Acquire) {
            let _ = slot.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        }
    }

    fn each_second(&self, t: &mut Tick, now_s: u32, window_s: u32, closed: bool) {
        if now_s == t.last_s {
            return;
        }
        let first = t.last_s.max(now_s.saturating_sub(CLAIM_WINDOW_S_MAX + 1));
        let expired: u32 =
            (first..now_s).map(|s| self.outstanding[s as usize % self.outstanding.len()].swap(0, Ordering::AcqRel)).sum();
        if sabotage::is(Bug::CallsNeverExpire) {
            self.outstanding[first as usize % self.outstanding.len()].store(expired, Ordering::Release);
        }
        self.over_s.store(now_s, Ordering::Release);
        // Of the second that is over: who was called in it has been silent for a part of it.
        t.response.second(|age| self.silent(now_s.saturating_sub(1), window_s, age));
        let mut extended = self.extended.lock().unwrap_or_else(PoisonError::into_inner);
        extended.retain(|place, _| matches!(self.state(*place), State::Called { .. }));
        drop(extended);
        t.standing.retain(|place| {
            self.lane(place.lane).lapse(place.number, now_s);
            matches!(self.state(*place), State::Next { .. })
        });
        let waits = !closed && self.lanes.iter().any(|l| l.frontier() < l.taken());
        t.moves.second(now_s, now_s - t.last_s, t.calls_this_s, waits);
        (t.calls_this_s, t.last_s) = (0, now_s);
    }
}

/// The claim window, within what is counted.
fn window(terms: Terms) -> u32 {
    terms.claim_window_s.clamp(1, CLAIM_WINDOW_S_MAX - 1)
}
