//! One lane of the line: an atomic counter, and one 32-bit word a place. A place never changes.

use std::sync::OnceLock;

use super::{
    marks::Marks,
    sync::{AtomicU32, Ordering},
};
use crate::sabotage::{self, Bug};

/// A lane and a number in it. Never changes; the lower number of a lane goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which lane.
    pub lane: Lane,
    /// Number in the lane, from 0.
    pub number: u32,
}

/// The two lanes of a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Everybody.
    #[default]
    Main,
    /// Suspects: a guaranteed small share of calls.
    Slow,
}

impl Lane {
    /// Both, in the order of their numbers.
    pub const ALL: [Lane; 2] = [Lane::Main, Lane::Slow];
}

impl Place {
    /// Bit 32 is the lane, bits 0..32 the number.
    pub fn to_bits(self) -> u64 {
        (self.lane as u64) << 32 | u64::from(self.number)
    }

    /// The inverse of [`Place::to_bits`]; `None` for bits that it never gives.
    pub fn from_bits(bits: u64) -> Option<Self> {
        let lane = match bits >> 32 {
            0 => Lane::Main,
            1 => Lane::Slow,
            _ => return None,
        };
        Some(Place { lane, number: bits as u32 })
    }
}

/// Restarts whose gaps are remembered while people wait behind them; each leaves one.
pub const GAPS_MAX: usize = 64;

/// Numbers of which nobody knows whether they were given out. They were given in order: who shows one proves those before.
#[derive(Debug)]
struct Gap {
    from: AtomicU32,
    to: u32,
}

/// What is kept of a lane besides its places.
#[derive(Clone, Copy, Debug)]
pub struct KeptLane<'a> {
    /// Numbers given out for certain.
    pub taken: u32,
    /// Numbers that may have been given out.
    pub reserved: u32,
    /// Everybody below was called.
    pub frontier: u32,
    /// Numbers that earlier restarts left behind.
    pub gaps: &'a [(u32, u32)],
}

/// What stands at a place. Times are whole seconds since the room's state began, at most [`TIME_MAX_S`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Number taken, word not yet written (nanoseconds), or a number nobody took.
    Unwritten,
    /// In the line; counts as present until then.
    Waiting {
        /// Seconds.
        present_until_s: u32,
    },
    /// Called; somebody else is called as well after the deadline (0: passed over while absent). The claim stays good.
    Called {
        /// Seconds.
        deadline_s: u32,
    },
    /// A claim is under way: one winner.
    Claiming,
    /// Claimed when nothing was free: next, as long as its holder is present.
    Next {
        /// Seconds.
        present_until_s: u32,
    },
    /// The ticket is burnt.
    Seated,
    /// Gone of its own will.
    Left,
}

/// 29 bits of seconds: 17 years.
pub const TIME_MAX_S: u32 = (1 << TIME_BITS) - 1;
const TIME_BITS: u32 = 29;

/// Places a segment: 256 KiB, allocated when the first of them is taken.
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
const SEGMENT: usize = 1 << 16;
#[cfg(any(feature = "loom", feature = "shuttle"))]
const SEGMENT: usize = 8;
/// Most places a lane: 64 MiB of words.
pub const PLACES_MAX: u32 = 1 << 24;
/// Places that are written down together: with key and header one page of 4 KiB.
pub const CHUNK: usize = 960;
/// Bytes of room state a waiting visitor costs: the place's word, and the waiting time that was promised.
pub const BYTES_A_PLACE: usize = size_of::<u32>() + size_of::<u64>();

/// A lane.
#[derive(Debug)]
pub struct Queue {
    next: AtomicU32,
    /// Numbers below may be given out: a restart begins behind them.
    reserved: AtomicU32,
    /// Every place below it was called, seated or has left. Moved by `tick` alone.
    frontier: AtomicU32,
    /// Numbers that restarts left behind, from and to: hardly anybody has one. Known once the lane is put back.
    gaps: OnceLock<Box<[Gap]>>,
    /// Chunks with a place that was called, seated or left since they were written down.
    changed: Marks,
    segments: Box<[OnceLock<Box<[AtomicU32]>>]>,
}

impl Default for Queue {
    fn default() -> Self {
        let segments = (0..(PLACES_MAX as usize / SEGMENT).min(256)).map(|_| OnceLock::new()).collect();
        Queue {
            next: AtomicU32::new(0),
            reserved: AtomicU32::new(u32::MAX),
            frontier: AtomicU32::new(0),
            gaps: OnceLock::new(),
            changed: Marks::new(PLACES_MAX as usize / CHUNK + 1),
            segments,
        }
    }
}

impl Queue {
    /// Takes the next number, unless `max` were taken or it is not reserved.
    pub fn take(&self, present_until_s: u32, max: u32) -> Option<u32> {
        let max = max.min((self.segments.len() * SEGMENT) as u32).min(self.reserved());
        let n = self.next.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < max).then_some(n + 1)).ok()?;
        let n = if sabotage::is(Bug::PlaceGivenTwice) && n % 8 == 7 { n - 1 } else { n };
        self.set(n, pack(State::Waiting { present_until_s }));
        Some(n)
    }

    fn set(&self, n: u32, word: u32) {
        let segment = self.segments[n as usize / SEGMENT].get_or_init(|| (0..SEGMENT).map(|_| AtomicU32::new(0)).collect());
        segment[n as usize % SEGMENT].store(word, Ordering::Release);
    }

    /// Takes `count` numbers at once for places that are drawn, and gives the first. Nobody is called beyond them until
    /// [`Queue::put`] has written each. `None` when the lane has no room for them.
    pub fn reserve(&self, count: u32) -> Option<u32> {
        let max = (self.segments.len() * SEGMENT) as u32;
        let next = |n: u32| n.checked_add(count).filter(|end| *end <= max);
        self.next.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok()
    }

    /// The same after a restart: these numbers are taken and, unless somebody was called, not written yet.
    pub fn reserve_at(&self, first: u32, count: u32) {
        let end = first.saturating_add(count).min((self.segments.len() * SEGMENT) as u32);
        self.next.fetch_max(end, Ordering::AcqRel);
        for n in first..end {
            self.step(n, |s| matches!(s, State::Waiting { .. }).then_some(State::Unwritten));
        }
    }

    /// Writes a reserved place that nobody has written yet.
    pub fn put(&self, n: u32, present_until_s: u32) {
        let Some(segment) = self.segments.get(n as usize / SEGMENT) else { return };
        segment.get_or_init(|| (0..SEGMENT).map(|_| AtomicU32::new(0)).collect());
        // After a restart it may stand as a number that nobody took.
        self.step(n, |s| {
            let free = matches!(s, State::Unwritten | State::Waiting { present_until_s: 0 });
            free.then_some(State::Waiting { present_until_s })
        });
    }

    /// What stands at a place.
    pub fn state(&self, n: u32) -> State {
        self.word(n).map_or(State::Unwritten, |w| unpack(w.load(Ordering::Acquire)))
    }

    /// Who waits or is next was here: present until then (where that is later). Gives what it was before, where somebody
    /// who waits is present for longer now.
    pub fn touch(&self, n: u32, until_s: u32) -> Option<u32> {
        let before = self.step(n, |s| match s {
            State::Waiting { present_until_s } if present_until_s < until_s => Some(State::Waiting { present_until_s: until_s }),
            State::Next { present_until_s } if present_until_s < until_s => Some(State::Next { present_until_s: until_s }),
            _ => None,
        });
        let Some(State::Waiting { present_until_s }) = before else { return None };
        if present_until_s == 0 {
            let known = |g: &&Gap| n < g.to && n >= g.from.load(Ordering::Acquire);
            if let Some(gap) = self.gaps.get().and_then(|g| g.iter().find(known)) {
                gap.from.fetch_max(n + 1, Ordering::AcqRel);
            }
        }
        Some(present_until_s)
    }

    /// Waiting → called.
    pub fn call(&self, n: u32, deadline_s: u32) -> bool {
        let called = self.step(n, |s| matches!(s, State::Waiting { .. }).then_some(State::Called { deadline_s })).is_some();
        self.mark(n);
        called
    }

    /// Called with a deadline → called with a later one. Gives the one before.
    pub fn extend(&self, n: u32, deadline_s: u32) -> Option<u32> {
        let later = |s| match s {
            State::Called { deadline_s: d } if d > 0 && d < deadline_s => Some(State::Called { deadline_s }),
            _ => None,
        };
        match self.step(n, later) {
            Some(State::Called { deadline_s }) => Some(deadline_s),
            _ => None,
        }
    }

    /// Called → claiming. One of any number of callers gets `Some(deadline_s)`.
    pub fn begin_claim(&self, n: u32) -> Option<u32> {
        match self.step(n, |s| matches!(s, State::Called { .. }).then_some(State::Claiming)) {
            Some(State::Called { deadline_s }) => Some(deadline_s),
            _ => None,
        }
    }

    /// Claiming → seated (the ticket is burnt) or back to called, without a deadline.
    pub fn end_claim(&self, n: u32, seated: bool) {
        let to = if seated { State::Seated } else { State::Called { deadline_s: 0 } };
        self.step(n, |s| (s == State::Claiming).then_some(to));
        self.mark(n);
    }

    /// Seated → called, without a deadline: nobody came for the seat.
    pub fn unseat(&self, n: u32) -> bool {
        let unseated = self.step(n, |s| (s == State::Seated).then_some(State::Called { deadline_s: 0 })).is_some();
        self.mark(n);
        unseated
    }

    /// Claiming → next.
    pub fn stand(&self, n: u32, present_until_s: u32) {
        self.step(n, |s| (s == State::Claiming).then_some(State::Next { present_until_s }));
        self.mark(n);
    }

    /// Next → claiming. Gives until when its holder is present.
    pub fn resume(&self, n: u32) -> Option<u32> {
        match self.step(n, |s| matches!(s, State::Next { .. }).then_some(State::Claiming)) {
            Some(State::Next { present_until_s }) => Some(present_until_s),
            _ => None,
        }
    }

    /// Next, but absent at `now_s` → called, without a deadline.
    pub fn lapse(&self, n: u32, now_s: u32) {
        let absent = |s| matches!(s, State::Next { present_until_s } if present_until_s < now_s);
        if self.step(n, |s| absent(s).then_some(State::Called { deadline_s: 0 })).is_some() {
            self.mark(n);
        }
    }

    /// Waiting, called or next → left. Gives what it was.
    pub fn leave(&self, n: u32) -> Option<State> {
        let may = |s| matches!(s, State::Waiting { .. } | State::Called { .. } | State::Next { .. });
        let before = self.step(n, |s| may(s).then_some(State::Left));
        if before.is_some() {
            self.mark(n);
        }
        before
    }

    /// Numbers below may be given out.
    pub fn reserved(&self) -> u32 {
        self.reserved.load(Ordering::Acquire)
    }

    /// Numbers below `n` may be given out. Only once that is durable, and never fewer than before, but for `0` at the start.
    pub fn permit(&self, n: u32) {
        match n {
            0 => self.reserved.store(0, Ordering::Release),
            n => drop(self.reserved.fetch_max(n, Ordering::AcqRel)),
        }
    }

    /// Chunks that changed since the last call.
    pub fn take_changed(&self) -> Vec<usize> {
        self.changed.take()
    }

    /// The words of a chunk as they are to be found after a restart: a claim under way is a call again, one that stands has to
    /// be seen anew.
    pub fn chunk(&self, chunk: usize) -> Vec<u32> {
        let first = chunk * CHUNK;
        let count = (self.taken() as usize).saturating_sub(first).min(CHUNK);
        let kept = |n: usize| match self.state(n as u32) {
            State::Claiming => pack(State::Called { deadline_s: 0 }),
            State::Next { .. } => pack(State::Next { present_until_s: 0 }),
            state => pack(state),
        };
        (first..first + count).map(kept).collect()
    }

    /// Puts a lane back. `taken` were given out for certain, numbers up to `reserved` perhaps; words that are missing are of
    /// people who came last: present until `present_until_s`, or absent where nobody may be. `gaps` are those of earlier times.
    pub fn restore(&self, kept: &KeptLane<'_>, present_until_s: u32, chunks: &[(usize, Vec<u32>)]) {
        let &KeptLane { taken, reserved, frontier, gaps } = kept;
        let most = (self.segments.len() * SEGMENT) as u32;
        let (taken, reserved) = (taken.min(most), reserved.max(taken).min(most));
        for (chunk, words) in chunks {
            let numbers = (chunk * CHUNK) as u64..;
            numbers.zip(words).filter(|(n, _)| *n < u64::from(reserved)).for_each(|(n, word)| self.set(n as u32, *word));
        }
        // Those behind the frontier make nobody wait any more.
        let mut gaps: Vec<_> = gaps.iter().copied().filter(|(from, to)| from < to && *to > frontier).collect();
        if reserved > taken {
            gaps.push((taken, reserved));
        }
        gaps.drain(..gaps.len().saturating_sub(GAPS_MAX));
        for n in 0..reserved {
            if self.state(n) == State::Unwritten {
                let nobody = gaps.iter().any(|(from, to)| (*from..*to).contains(&n));
                let present_until_s = if nobody { 0 } else { present_until_s };
                self.set(n, pack(State::Waiting { present_until_s }));
            }
        }
        let _ = self.gaps.set(gaps.into_iter().map(|(from, to)| Gap { from: AtomicU32::new(from), to }).collect());
        self.next.store(reserved, Ordering::Release);
        self.reserved.store(reserved, Ordering::Release);
        self.frontier.store(frontier.min(reserved), Ordering::Release);
    }

    /// Numbers that restarts left behind, from and to.
    pub fn gaps(&self) -> impl Iterator<Item = (u32, u32)> {
        self.gaps.get().into_iter().flatten().map(|g| (g.from.load(Ordering::Acquire), g.to))
    }

    /// Numbers from `from` to below `to` that restarts left behind.
    pub fn void_between(&self, from: u32, to: u32) -> u32 {
        self.gaps().map(|(start, end)| to.min(end).saturating_sub(from.max(start))).sum()
    }

    /// The ticket of a place is burnt, whatever stood there: at a restore.
    pub fn seat(&self, n: u32) {
        if n < self.taken() {
            self.set(n, pack(State::Seated));
        }
    }

    fn mark(&self, n: u32) {
        if n < PLACES_MAX {
            self.changed.mark(n as usize / CHUNK);
        }
    }

    /// Numbers taken.
    pub fn taken(&self) -> u32 {
        self.next.load(Ordering::Acquire)
    }

    /// Every place below was called, seated or has left.
    pub fn frontier(&self) -> u32 {
        self.frontier.load(Ordering::Acquire)
    }

    /// Moves the frontier one on; for the one caller of `tick`.
    pub fn advance(&self) {
        self.frontier.fetch_add(1, Ordering::AcqRel);
    }

    /// One compare-and-swap step of a place's word. Gives the state before, `None` when `f` did not want to move.
    fn step(&self, n: u32, f: impl Fn(State) -> Option<State>) -> Option<State> {
        let word = self.word(n)?;
        word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |w| f(unpack(w)).map(pack)).ok().map(unpack)
    }

    fn word(&self, n: u32) -> Option<&AtomicU32> {
        self.segments.get(n as usize / SEGMENT)?.get()?.get(n as usize % SEGMENT)
    }
}

fn pack(state: State) -> u32 {
    let (kind, time) = match state {
        State::Unwritten => (0, 0),
        State::Waiting { present_until_s } => (1, present_until_s),
        State::Called { deadline_s } => (2, deadline_s),
        State::Claiming => (3, 0),
        State::Seated => (4, 0),
        State::Left => (5, 0),
        State::Next { present_until_s } => (6, present_until_s),
    };
    kind << TIME_BITS | time.min(TIME_MAX_S)
}

fn unpack(word: u32) -> State {
    let time = word & TIME_MAX_S;
    match word >> TIME_BITS {
        1 => State::Waiting { present_until_s: time },
        2 => State::Called { deadline_s: time },
        3 => State::Claiming,
        4 => State::Seated,
        5 => State::Left,
        6 => State::Next { present_until_s: time },
        _ => State::Unwritten,
    }
}

#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_claims_one_winner() {
        let q = Queue::default();
        let n = q.take(10, 100).expect("room");
        assert!(q.begin_claim(n).is_none(), "not called yet");
        assert!(q.call(n, 20) && !q.call(n, 20));
        let winners: usize = std::thread::scope(|s| {
            let hs: Vec<_> = (0..8).map(|_| s.spawn(|| (0..1250).filter(|_| q.begin_claim(n).is_some()).count())).collect();
            hs.into_iter().map(|h| h.join().expect("no panic")).sum()
        });
        assert_eq!(winners, 1);
        q.end_claim(n, true);
        assert_eq!((q.state(n), q.begin_claim(n), q.leave(n)), (State::Seated, None, None));
    }

    #[test]
    fn words_survive_packing() {
        let t = TIME_MAX_S;
        let next = State::Next { present_until_s: 7 };
        let waiting = State::Waiting { present_until_s: t };
        for s in [waiting, State::Called { deadline_s: 0 }, State::Claiming, next, State::Seated, State::Left] {
            assert_eq!(unpack(pack(s)), s);
        }
        assert_eq!(Place::from_bits(2 << 32), None);
    }

    #[test]
    fn strangers_cannot_grow_it_past_max() {
        let q = Queue::default();
        assert_eq!((0..10).filter_map(|_| q.take(0, 3)).count(), 3);
        assert_eq!(q.state(99), State::Unwritten);
        assert_eq!(q.state(u32::MAX), State::Unwritten);
    }
}
