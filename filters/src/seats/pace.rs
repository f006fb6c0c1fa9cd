//! What waiting visitors are told about time: how long, why, and when to ask again; and who asks too early.

use serde::Serialize;

use super::{
    answer::Stage,
    draw::live::EntryRef,
    queue::{Place, TIME_MAX_S},
    sync::{AtomicU64, Ordering},
};
use crate::time::Now;

/// Polls told for the opening come within this long after it, seconds.
pub(super) const OPENING_SPREAD_S: u32 = 30;
/// Longest time between two polls, seconds: a place is present for as long as it was told to wait.
pub(super) const POLL_AFTER_S_MAX: u32 = 900;
/// A restock is rare: half an hour of waiting for one takes ten polls, seconds.
pub(super) const SOLD_OUT_POLL_S: u32 = 180;
/// While nobody knows when the line moves, all but the first ask at least this often, seconds.
const UNKNOWN_POLL_S_MAX: u32 = 300;
/// So many are the first.
const FIRST: u64 = 10;
/// Who is called asks again after this long, seconds.
pub(super) const CALLED_POLL_S: u32 = 2;
/// A visitor counts as present until the poll it was told plus this.
pub(super) const PRESENCE_GRACE_S: u32 = 15;
/// A line that only begins to move is asked about again this soon, seconds.
const TRUST_S: u32 = 30;
/// Timers of clients are no better than this, milliseconds: that much too early is not too early.
const EARLY_MS: u64 = 1_000;

/// Why the wait is longer than it would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Cause {
    /// The operator slowed the room.
    Slowed = 1,
    /// The shop takes clearly fewer people than it did.
    ShopSlower,
    /// The shop takes nobody.
    ShopDown,
    /// Every seat is taken.
    SeatsTaken,
    /// Every unit that is left is set aside for somebody inside.
    AllReserved,
    /// The operator paused the room.
    Paused,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 6] =
        [Cause::Slowed, Cause::ShopSlower, Cause::ShopDown, Cause::SeatsTaken, Cause::AllReserved, Cause::Paused];

    /// Stable name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Slowed => "slowed",
            Cause::ShopSlower => "shop_slower",
            Cause::ShopDown => "shop_down",
            Cause::SeatsTaken => "seats_taken",
            Cause::AllReserved => "all_reserved",
            Cause::Paused => "paused",
        }
    }

    pub(super) fn from_bits(bits: u8) -> Option<Cause> {
        Cause::ALL.into_iter().find(|c| *c as u8 == bits)
    }
}

/// What a second counts for a second later in the pace of a line: a minute ago counts a third.
const KEEP: f64 = 0.983;
/// Calls that the plan is worth in the pace.
const PLAN_CALLS: f64 = 20.0;
/// What a tick counts in the share of ticks without a free seat: half of it is the last 7 s.
const FULL_WEIGHT: f64 = 0.01;

/// How fast a line moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// People called a second; 0 while that is not known.
    pub rate: f64,
    /// Share of places that have somebody.
    pub present: f64,
    /// Calls the rate was learnt from.
    pub calls: f64,
    /// Seconds since the line began to move; 0 while it does not.
    pub moving_s: u32,
    /// Seconds since somebody was called.
    pub quiet_s: u32,
}

/// What was seen of a line's moving.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moves {
    /// Present people called, and seconds in which somebody waited for it, both fading with [`KEEP`] a second.
    calls: f64,
    waited_s: f64,
    /// Share of the last ticks in which every seat was taken.
    full: f64,
    /// Second at which the line last began to move; `None` while closed, or while nobody waits.
    since_s: Option<u32>,
    /// Second in which somebody was last called, or waited first.
    called_s: u32,
}

impl Moves {
    /// `span_s` seconds with so many calls are over; `waits`: somebody could have been called.
    pub(super) fn second(&mut self, now_s: u32, span_s: u32, calls: u32, waits: bool) {
        // Seconds in which nobody waited say nothing about how fast a line moves.
        let moves = calls > 0 || waits;
        if calls > 0 || !waits || self.called_s == 0 {
            self.called_s = now_s;
        }
        self.since_s = moves.then(|| self.since_s.unwrap_or(now_s));
        if moves {
            let span = f64::from(span_s.min(60));
            let keep = KEEP.powf(span);
            (self.calls, self.waited_s) = (self.calls * keep + f64::from(calls), self.waited_s * keep + span);
        }
    }

    /// A tick ended with every seat taken, or not.
    pub(super) fn tick(&mut self, full: bool) {
        self.full += FULL_WEIGHT * (f64::from(u8::from(full)) - self.full);
    }

    /// The pace, where `planned` people would be called a second. The plan counts as much as the last calls at its rate
    /// would: right from the first page, until the line has shown how fast it really moves. While every seat is taken
    /// people go in as others leave, whatever the plan.
    pub(super) fn pace(&self, planned: f64, present: f64, now_s: u32) -> Pace {
        let plan_calls = PLAN_CALLS * (1.0 - self.full);
        let known = planned > 0.0 && self.calls + plan_calls > 1.0;
        let rate = if known { (self.calls + plan_calls) / (self.waited_s + plan_calls / planned) } else { 0.0 };
        let moving_s = self.since_s.map_or(0, |s| now_s.saturating_sub(s));
        let quiet_s = now_s.saturating_sub(self.called_s);
        Pace { rate, present, calls: self.calls + plan_calls / 2.0, moving_s, quiet_s }
    }
}

/// How far off a rate may be that was learnt from so many calls: 10 % for drift, and half a Poisson's P90, since the bucket
/// paces what is called.
pub(super) fn rate_spread(calls: f64) -> f64 {
    0.1 + 0.64 / calls.max(1.0).sqrt()
}

/// P10–P90 of the wait until the last of `people` (the visitor included) is called, at `rate` a second, give or take
/// `spread` of it; the people by Poisson's.
pub(super) fn wait_interval(people: f64, rate: f64, spread: f64) -> Option<(u32, u32)> {
    if rate < 1e-3 {
        return None;
    }
    let people_spread = 1.28 * people.sqrt();
    let low = (people - people_spread).max(0.0) / (rate * (1.0 + spread));
    let high = (people + people_spread) * (1.0 + spread) / rate + 1.0;
    Some((low.min(86_400.0) as u32, high.min(86_400.0).ceil() as u32))
}

/// Who is told when to ask again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    /// The place's number.
    pub(super) number: u32,
    /// Seconds after the opening at which its call is to be expected; `None`: not soon.
    pub(super) called_after_s: Option<u32>,
    /// Seconds a called visitor is waited for.
    pub(super) claim_window_s: u32,
    /// Seconds for which the line has moved.
    pub(super) moving_s: u32,
    /// Seconds since somebody was called.
    pub(super) quiet_s: u32,
    /// People before it.
    pub(super) ahead: u64,
}

/// When to ask again, seconds. Four fifths of what is surely left: polls are O(log wait). Spread by number, so that they do
/// not come together. Told for the opening: about when the call is to be expected, everybody else over
/// [`OPENING_SPREAD_S`].
pub(super) fn poll_after(stage: Stage, wait_s: Option<(u32, u32)>, who: Asker) -> u32 {
    let mixed = who.number.wrapping_mul(2_654_435_769) >> 8;
    let base = match stage {
        Stage::Called { .. } | Stage::Next => return CALLED_POLL_S,
        Stage::Prequeue { opens_in_s } if opens_in_s <= 2 * OPENING_SPREAD_S => {
            return opens_in_s + 1 + who.called_after_s.unwrap_or(mixed % OPENING_SPREAD_S);
        }
        Stage::Prequeue { opens_in_s } => (opens_in_s / 2).min(POLL_AFTER_S_MAX),
        // Past the low end the turn may come at any time: then soon enough to find most of the claim window.
        // While nobody knows when somebody is called, twice as long each time; the first find most of a claim window.
        Stage::Waiting => match wait_s {
            Some((low, high)) => (low / 5 * 4).max((high / 3).min(who.claim_window_s / 4)),
            None if who.ahead < FIRST => who.quiet_s.clamp(5, who.claim_window_s.max(60)),
            None => who.quiet_s.clamp(5, UNKNOWN_POLL_S_MAX),
        },
        Stage::Paused => 30,
        Stage::Full => 60,
        Stage::SoldOut { .. } => SOLD_OUT_POLL_S,
    };
    // How fast a line moves is trusted for some times as long as it has moved.
    let trusted = TRUST_S.saturating_add(who.moving_s.saturating_mul(4));
    let base = if stage == Stage::Waiting { base.min(trusted) } else { base };
    let base = base.clamp(2, POLL_AFTER_S_MAX - POLL_AFTER_S_MAX / 5);
    base + mixed % (1 + base / 4)
}

/// Seconds after the opening at which a place is called, when that is within [`OPENING_SPREAD_S`]: the first `at_once` in
/// the first instant, then `rate` a second.
pub(super) fn called_after_s(number: u32, at_once: f64, rate: f64) -> Option<u32> {
    let after_s = (f64::from(number) - at_once).max(0.0) / rate;
    (after_s < f64::from(OPENING_SPREAD_S)).then_some(after_s as u32)
}

/// Seconds of the room's clock; from 1, since 0 has a meaning of its own in the words of places and seats.
pub(super) fn clock_s(now: Now) -> u32 {
    (now.mono_s() + 1).min(u64::from(TIME_MAX_S)) as u32
}

/// Slots of [`Polls`]: 512 KiB a room.
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
const POLL_SLOTS: usize = 1 << 16;
#[cfg(any(feature = "loom", feature = "shuttle"))]
const POLL_SLOTS: usize = 2;
/// 40 bits of milliseconds: 34 years.
const WHEN_BITS: u32 = 40;

/// When each place was told to ask again. A fixed table that forgets: two places of one slot take turns, and the one that
/// is forgotten is served; it never throttles a place for what another was told.
#[derive(Debug)]
pub(super) struct Polls(Box<[AtomicU64]>);

impl Default for Polls {
    fn default() -> Self {
        Polls((0..POLL_SLOTS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Polls {
    /// It was told to ask again after so many seconds.
    pub(super) fn told(&self, who: impl Into<Polling>, after_s: u32, now: Now) {
        let who = who.into();
        let when = now.mono_ms() + u64::from(after_s) * 1_000;
        self.slot(who).store(who.tag << WHEN_BITS | when & ((1 << WHEN_BITS) - 1), Ordering::Relaxed);
    }

    /// Seconds by which it comes too early; `None` when it may ask.
    pub(super) fn early_s(&self, who: impl Into<Polling>, now: Now) -> Option<u32> {
        let who = who.into();
        let word = self.slot(who).load(Ordering::Relaxed);
        let left_ms = (word & ((1 << WHEN_BITS) - 1)).saturating_sub(now.mono_ms());
        (word >> WHEN_BITS == who.tag && left_ms > EARLY_MS).then(|| left_ms.div_ceil(1_000) as u32)
    }

    fn slot(&self, who: Polling) -> &AtomicU64 {
        &self.0[who.number as usize % self.0.len()]
    }
}

/// Who polls: the holder of a place, or of an entry that has none yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Polling {
    number: u32,
    /// What tells those of a slot apart: 24 bits, never 0.
    tag: u64,
}

impl From<Place> for Polling {
    fn from(place: Place) -> Self {
        Polling { number: place.number, tag: (u64::from(place.number >> 16) << 1 | place.lane as u64) + 1 }
    }
}

impl From<EntryRef> for Polling {
    /// Entries have the upper half of the tags; windows of a chain share it, as places of a slot do.
    fn from(entry: EntryRef) -> Self {
        let mixed = u64::from(entry.index >> 16 ^ entry.window.wrapping_mul(2_654_435_769) >> 8);
        Polling { number: entry.index, tag: 1 << 23 | mixed & ((1 << 23) - 1) }
    }
}

#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod tests {
    use super::*;
    use crate::seats::queue::Lane;

    fn asker(number: u32) -> Asker {
        Asker { number, called_after_s: None, claim_window_s: 120, moving_s: 0, quiet_s: 0, ahead: u64::from(number) }
    }

    #[test]
    fn while_nobody_knows_when_the_line_moves_half_an_hour_takes_few_polls() {
        for (number, most) in [(0, 22), (9, 22), (10, 12), (500, 12)] {
            let (mut t, mut n) = (0, 0);
            while t < 1_800 {
                t += poll_after(Stage::Waiting, None, Asker { moving_s: t, quiet_s: t, ..asker(number) });
                n += 1;
            }
            assert!(n <= most, "number {number}: {n} polls");
            let next = poll_after(Stage::Waiting, None, Asker { moving_s: 900, quiet_s: 2, ..asker(number) });
            assert!(next <= 7, "somebody has just been called: {next}");
        }
    }

    /// Polls of a visitor with so many people ahead, served at a steady rate, until the turn is seen.
    fn polls_until_called(people: f64, rate: f64, number: u32) -> (u32, f64) {
        let (mut t, mut n) = (0.0, 0);
        let called_at = people / rate;
        loop {
            if t >= called_at {
                return (n, t - called_at);
            }
            let left = people - rate * t;
            let who = Asker { number, moving_s: t as u32, ..asker(number) };
            t += f64::from(poll_after(Stage::Waiting, wait_interval(left, rate, 0.15), who));
            n += 1;
        }
    }

    #[test]
    fn a_wait_of_half_an_hour_takes_at_most_twelve_polls() {
        for rate in [0.02, 0.1, 1.0, 10.0, 100.0, 1_000.0] {
            for number in 0..64 {
                let (polls, late_s) = polls_until_called(1_800.0 * rate, rate, number);
                assert!(polls <= 12, "{rate}/s, number {number}: {polls} polls");
                assert!(late_s <= 15.0, "{rate}/s, number {number}: seen {late_s:.0} s after the call");
            }
        }
    }

    #[test]
    fn polls_grow_with_the_logarithm_of_the_wait() {
        let polls = |minutes: f64| polls_until_called(minutes * 60.0, 1.0, 0).0;
        // Capped at a quarter of an hour: presence is known that exactly.
        assert!(polls(1_200.0) <= 20 * 5 + polls(30.0), "twenty hours: {}", polls(1_200.0));
        assert!(polls(1.0) < polls(30.0) && polls(30.0) < polls(300.0));
    }

    #[test]
    fn polls_for_the_opening_are_few_and_spread_and_the_called_come_when_they_are_called() {
        let (people, opens_ms, rate) = (10_000, 1_800_000u64, 5.0);
        let mut after_s = Vec::new();
        for number in 0..people {
            let (mut t, mut n) = (0u64, 0);
            while t <= opens_ms {
                let opens_in_s = (opens_ms - t).div_ceil(1_000) as u32;
                let called_after_s = called_after_s(number, 10.0, rate);
                let who = Asker { called_after_s, ..asker(number) };
                t += u64::from(poll_after(Stage::Prequeue { opens_in_s }, None, who)) * 1_000;
                n += 1;
            }
            assert!(n <= 8, "{n} polls before the opening");
            after_s.push((t - opens_ms) / 1_000);
        }
        assert!(after_s.iter().all(|s| (1..=u64::from(OPENING_SPREAD_S)).contains(s)));
        for (number, after_s) in after_s.iter().enumerate().take(150) {
            let called_s = (number as f64 - 10.0).max(0.0) / rate;
            assert!((*after_s as f64 - called_s) <= 2.0, "place {number}: called at {called_s} s, asks at {after_s} s");
        }
        let in_second = |s: u64| after_s.iter().filter(|a| **a == s).count();
        let most = (1..=30).map(in_second).max().unwrap_or(0);
        assert!(most <= after_s.len() / 30 + 60, "{most} of {} in one second", after_s.len());
    }

    #[test]
    fn who_asks_too_early_is_seen_and_nobody_else() {
        let polls = Polls::default();
        let at = |ms: u64| Now { mono_ns: ms * 1_000_000, wall_ms: 0 };
        let place = |lane, number| Place { lane, number };
        let me = place(Lane::Main, 5);
        assert_eq!(polls.early_s(me, at(0)), None, "never told");
        polls.told(me, 60, at(10_000));
        assert_eq!(polls.early_s(me, at(10_001)), Some(60));
        assert_eq!(polls.early_s(me, at(60_000)), Some(10));
        assert_eq!(polls.early_s(me, at(69_000)), None, "timers are not exact");
        for other in [place(Lane::Slow, 5), place(Lane::Main, 5 + (1 << 16)), place(Lane::Main, 6)] {
            assert_eq!(polls.early_s(other, at(10_001)), None, "{other:?}");
        }
        let entry = EntryRef { window: 0, index: 5 };
        assert_eq!(polls.early_s(entry, at(10_001)), None, "an entry of the same number is somebody else");
        polls.told(EntryRef { window: 0, index: 6 }, 60, at(10_000));
        assert_eq!(polls.early_s(EntryRef { window: 0, index: 6 }, at(10_001)), Some(60));
        assert_eq!(polls.early_s(place(Lane::Main, 6), at(10_001)), None);
        polls.told(place(Lane::Slow, 5), 60, at(20_000));
        assert_eq!(polls.early_s(me, at(20_001)), None, "forgotten, so served");
    }
}
