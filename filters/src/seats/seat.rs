//! Seats: the right to be in the shop at the same time as others. A fixed table of one word a seat, checked, renewed and
//! revoked in O(1) without a lock; the free ones in a lock-free list.

use super::{
    marks::Marks,
    sync::{AtomicU32, AtomicU64, Ordering},
};
use crate::{
    sabotage::{self, Bug},
    seats::queue::Place,
};

/// Seats a room's table can hold; `seats.max` may not be more. 24 bytes each: 3 MiB a room.
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
pub const SEATS_MAX: u32 = 131_072;
/// Small for model checkers.
#[cfg(any(feature = "loom", feature = "shuttle"))]
pub const SEATS_MAX: u32 = 4;

const NOBODY: u64 = u64::MAX;

/// A seat and its generation. A released seat's next holder has another generation, so an old pass never fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeatRef {
    /// Index in the table.
    pub index: u32,
    /// Generation.
    pub generation: u32,
}

impl SeatRef {
    /// High half generation, low half index.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The inverse of [`SeatRef::to_bits`].
    pub fn from_bits(bits: u64) -> Self {
        SeatRef { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// A seat as it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatRecord {
    /// Index in the table.
    pub index: u32,
    /// Generation.
    pub generation: u32,
    /// Second of the room's clock at which it expires; 0: free.
    pub expires_s: u32,
    /// Second of the room's clock at which it ends however much it is used.
    pub ends_s: u32,
    /// The place that bought it.
    pub owner: Option<Place>,
}

/// The table.
#[derive(Debug)]
pub struct Seats {
    /// `generation << 32 | expires_s`; `expires_s` 0: free.
    words: Box<[AtomicU64]>,
    /// Bits of the place that bought the seat, so that a lost answer can be given again.
    owners: Box<[AtomicU64]>,
    /// When the seat ends however much it is used. Written before the word that makes it live.
    ends: Box<[AtomicU32]>,
    /// Free list links, index + 1; 0 ends it.
    links: Box<[AtomicU32]>,
    /// `tag << 32 | index + 1`: the tag makes a head that came back differ from the one that was read.
    head: AtomicU64,
    /// Indices below were handed out at least once.
    fresh: AtomicU32,
    live: AtomicU32,
    /// Seats taken or given back since they were written down.
    changed: Marks,
}

impl Default for Seats {
    fn default() -> Self {
        let n = SEATS_MAX as usize;
        Seats {
            words: (0..n).map(|_| AtomicU64::new(0)).collect(),
            owners: (0..n).map(|_| AtomicU64::new(NOBODY)).collect(),
            ends: (0..n).map(|_| AtomicU32::new(0)).collect(),
            links: (0..n).map(|_| AtomicU32::new(0)).collect(),
            head: AtomicU64::new(0),
            fresh: AtomicU32::new(0),
            live: AtomicU32::new(0),
            changed: Marks::new(n),
        }
    }
}

impl Seats {
    /// Takes a seat until `expires_s` (> 0), never to be renewed past `ends_s`, unless `max` are live.
    pub fn acquire(&self, max: u32, owner: Option<Place>, expires_s: u32, ends_s: u32) -> Option<SeatRef> {
        let max = if sabotage::is(Bug::SeatsIgnoreMax) { SEATS_MAX } else { max.min(SEATS_MAX) };
        self.live.fetch_update(Ordering::AcqRel, Ordering::Acquire, |l| (l < max).then_some(l + 1)).ok()?;
        let Some(index) = self.pop().or_else(|| self.fresh_index()) else {
            self.live.fetch_sub(1, Ordering::AcqRel);
            return None;
        };
        let generation = (self.words[index as usize].load(Ordering::Acquire) >> 32) as u32;
        self.owners[index as usize].store(owner.map_or(NOBODY, Place::to_bits), Ordering::Release);
        self.ends[index as usize].store(ends_s, Ordering::Release);
        self.words[index as usize].store(word(generation, expires_s.min(ends_s).max(1)), Ordering::Release);
        self.changed.mark(index as usize);
        Some(SeatRef { index, generation })
    }

    /// Whether the seat is live at `now_s`; if so its expiry moves to `expires_s` where that is later, but not past its end.
    pub fn renew(&self, seat: SeatRef, now_s: u32, expires_s: u32) -> bool {
        let Some(slot) = self.words.get(seat.index as usize) else { return false };
        let mut old = slot.load(Ordering::Acquire);
        loop {
            let (generation, expires) = ((old >> 32) as u32, old as u32);
            let mine = generation == seat.generation || sabotage::is(Bug::GenerationNotChecked);
            if !mine || expires <= now_s {
                return false;
            }
            // Another holder's end is never used: its generation is in the word, and the exchange below fails.
            let expires_s = expires_s.min(self.end(seat));
            if expires_s <= expires {
                return true;
            }
            match slot.compare_exchange(old, word(generation, expires_s), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => old = now,
            }
        }
    }

    /// Whether the seat is this holder's and not over at `now_s`. Renews nothing.
    pub fn is_live(&self, seat: SeatRef, now_s: u32) -> bool {
        let word = self.words.get(seat.index as usize).map_or(0, |w| w.load(Ordering::Acquire));
        (word >> 32) as u32 == seat.generation && word as u32 > now_s
    }

    /// When the seat ends however much it is used. Means something only for the holder of a live seat.
    pub fn end(&self, seat: SeatRef) -> u32 {
        let end = self.ends.get(seat.index as usize).map_or(0, |e| e.load(Ordering::Acquire));
        if sabotage::is(Bug::SeatOutlivesAge) { u32::MAX } else { end }
    }

    /// When the seat expires unless it is used. Means something only for the holder of a live seat.
    pub fn expires(&self, seat: SeatRef) -> u32 {
        self.words.get(seat.index as usize).map_or(0, |w| w.load(Ordering::Acquire) as u32)
    }

    /// Gives a seat back at once. `false` when it was no longer this holder's.
    pub fn release(&self, seat: SeatRef) -> bool {
        let Some(slot) = self.words.get(seat.index as usize) else { return false };
        let mut old = slot.load(Ordering::Acquire);
        loop {
            if (old >> 32) as u32 != seat.generation || old as u32 == 0 {
                return false;
            }
            match slot.compare_exchange(old, freed(seat), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => old = now,
            }
        }
        self.vacate(seat.index);
        true
    }

    /// Gives back every seat that expired; returns how many.
    pub fn sweep(&self, now_s: u32) -> u32 {
        let fresh = self.fresh.load(Ordering::Acquire).min(SEATS_MAX);
        let expired = |i: &u32| {
            let w = self.words[*i as usize].load(Ordering::Acquire);
            (w as u32 != 0 && w as u32 <= now_s).then_some(SeatRef { index: *i, generation: (w >> 32) as u32 })
        };
        (0..fresh).filter_map(|i| expired(&i)).filter(|s| self.expire(*s, now_s)).count() as u32
    }

    /// The live seat that a place bought. Scans: for the rare visitor whose answer was lost.
    pub fn of(&self, owner: Place, now_s: u32) -> Option<SeatRef> {
        let fresh = self.fresh.load(Ordering::Acquire).min(SEATS_MAX);
        (0..fresh).find_map(|index| {
            let w = self.words[index as usize].load(Ordering::Acquire);
            let mine = w as u32 > now_s && self.owners[index as usize].load(Ordering::Acquire) == owner.to_bits();
            // Read again: between the two the seat may have changed hands, and the generation would be another's.
            let same = || self.words[index as usize].load(Ordering::Acquire) >> 32 == w >> 32;
            (mine && same()).then_some(SeatRef { index, generation: (w >> 32) as u32 })
        })
    }

    /// Live seats that a place bought, and when each ends. Scans: for a restart.
    pub fn claimed(&self, now_s: u32) -> Vec<(SeatRef, u32)> {
        let fresh = self.fresh.load(Ordering::Acquire).min(SEATS_MAX);
        let live = (0..fresh).map(|i| self.record(i as usize)).filter(|r| r.owner.is_some() && r.expires_s > now_s);
        live.map(|r| (SeatRef { index: r.index, generation: r.generation }, r.ends_s)).collect()
    }

    /// Seats that changed since the last call; with `all`, every one that was ever taken.
    pub fn changed(&self, all: bool) -> Vec<SeatRecord> {
        let changed = self.changed.take();
        let indices = if all { (0..self.fresh.load(Ordering::Acquire).min(SEATS_MAX) as usize).collect() } else { changed };
        indices.into_iter().map(|i| self.record(i)).collect()
    }

    fn record(&self, i: usize) -> SeatRecord {
        let word = self.words[i].load(Ordering::Acquire);
        SeatRecord {
            index: i as u32,
            generation: (word >> 32) as u32,
            expires_s: word as u32,
            ends_s: self.ends[i].load(Ordering::Acquire),
            owner: Some(self.owners[i].load(Ordering::Acquire)).filter(|o| *o != NOBODY).and_then(Place::from_bits),
        }
    }

    /// Puts seats back into an empty table. Live ones count as used at `used_until_s`: nobody could use them meanwhile.
    pub fn restore(&self, records: &[SeatRecord], used_until_s: u32) {
        let known: std::collections::BTreeMap<u32, &SeatRecord> =
            records.iter().filter(|r| r.index < SEATS_MAX).map(|r| (r.index, r)).collect();
        let fresh = known.keys().last().map_or(0, |i| i + 1);
        self.fresh.store(fresh, Ordering::Release);
        for index in (0..fresh).rev() {
            let record = known.get(&index);
            let i = index as usize;
            let generation = record.map_or(0, |r| r.generation);
            let live = record.filter(|r| r.expires_s != 0);
            let Some(r) = live else {
                self.words[i].store(word(generation, 0), Ordering::Release);
                self.push(index);
                continue;
            };
            self.owners[i].store(r.owner.map_or(NOBODY, Place::to_bits), Ordering::Release);
            self.ends[i].store(r.ends_s, Ordering::Release);
            let expires_s = r.expires_s.max(used_until_s).min(r.ends_s).max(1);
            self.words[i].store(word(generation, expires_s), Ordering::Release);
            self.live.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Live seats; never more than the largest `max` asked for.
    pub fn live(&self) -> u32 {
        self.live.load(Ordering::Acquire)
    }

    /// Like `release`, but only if the seat was not renewed in the meantime.
    fn expire(&self, seat: SeatRef, now_s: u32) -> bool {
        let slot = &self.words[seat.index as usize];
        let old = slot.load(Ordering::Acquire);
        if (old >> 32) as u32 != seat.generation || old as u32 == 0 || old as u32 > now_s {
            return false;
        }
        if slot.compare_exchange(old, freed(seat), Ordering::AcqRel, Ordering::Acquire).is_err() {
            return false;
        }
        self.vacate(seat.index);
        true
    }

    /// The word says that it is free: now others may have it.
    fn vacate(&self, index: u32) {
        self.owners[index as usize].store(NOBODY, Ordering::Release);
        // Before it can be taken again: who writes down the next holder of any seat writes this down as well.
        self.changed.mark(index as usize);
        self.push(index);
        self.live.fetch_sub(1, Ordering::AcqRel);
    }

    fn fresh_index(&self) -> Option<u32> {
        self.fresh.fetch_update(Ordering::AcqRel, Ordering::Acquire, |f| (f < SEATS_MAX).then_some(f + 1)).ok()
    }

    fn pop(&self) -> Option<u32> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let index = (head as u32).checked_sub(1)?;
            let next = self.links[index as usize].load(Ordering::Acquire);
            let new = tagged(head, next);
            match self.head.compare_exchange(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }

    fn push(&self, index: u32) {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            self.links[index as usize].store(head as u32, Ordering::Release);
            match self.head.compare_exchange(head, tagged(head, index + 1), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

/// The word of a seat that was given back: no pass of before fits.
fn freed(seat: SeatRef) -> u64 {
    word(if sabotage::is(Bug::GenerationNotBumped) { seat.generation } else { seat.generation.wrapping_add(1) }, 0)
}

fn word(generation: u32, expires_s: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(expires_s)
}

fn tagged(head: u64, link: u32) -> u64 {
    ((head >> 32).wrapping_add(1) & 0xffff_ffff) << 32 | u64::from(link)
}

#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod tests {
    use super::*;

    #[test]
    fn an_old_pass_never_fits_a_reused_seat() {
        let seats = Seats::default();
        let a = seats.acquire(1, None, 100, 10_000).expect("free");
        assert!(seats.acquire(1, None, 100, 10_000).is_none(), "one seat");
        assert!(seats.release(a) && !seats.release(a));
        let b = seats.acquire(1, None, 100, 10_000).expect("free again");
        assert_eq!(a.index, b.index);
        assert!(seats.renew(b, 50, 150) && !seats.renew(a, 50, 150));
        assert_eq!(SeatRef::from_bits(b.to_bits()), b);
        assert!(!seats.renew(SeatRef { index: u32::MAX, generation: 0 }, 0, 1));
    }

    #[test]
    fn expiry_slides_and_sweeps() {
        let seats = Seats::default();
        let place = Place::from_bits(7);
        let s = seats.acquire(10, place, 100, 10_000).expect("free");
        assert!(seats.renew(s, 99, 200));
        assert_eq!(seats.sweep(199), 0);
        assert_eq!(place.and_then(|p| seats.of(p, 199)), Some(s));
        assert!(!seats.renew(s, 200, 300), "expired at 200");
        assert_eq!((seats.sweep(200), seats.live()), (1, 0));
        assert_eq!(place.and_then(|p| seats.of(p, 199)), None);
    }

    #[test]
    fn nobody_renews_past_the_end() {
        let seats = Seats::default();
        let s = seats.acquire(1, None, 500, 120).expect("free");
        assert!(seats.renew(s, 119, 400));
        assert!(!seats.renew(s, 120, 400), "it ends at 120 however often it is used");
        assert_eq!((seats.end(s), seats.sweep(120)), (120, 1));
    }

    #[test]
    fn many_threads_never_share_a_seat() {
        let seats = Seats::default();
        let taken = std::sync::Mutex::new(std::collections::HashSet::new());
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    for _ in 0..5_000 {
                        let Some(seat) = seats.acquire(5, None, 10, 10_000) else { continue };
                        assert!(taken.lock().expect("lock").insert(seat.index), "two holders of seat {}", seat.index);
                        assert!(seats.live() <= 5);
                        taken.lock().expect("lock").remove(&seat.index);
                        assert!(seats.release(seat));
                    }
                });
            }
        });
        assert_eq!(seats.live(), 0);
    }
}
