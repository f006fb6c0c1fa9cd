//! What a room keeps over a restart, as plain data: the shell writes it down and brings it back.
//!
//! The room's clock stands still while the gate is down, so a restart ages nobody: seats, calls and presence go on where they
//! were. Numbers are given out below a mark that was written down beforehand, so a ticket costs no write; what lies between
//! the last number known and the mark may be held by somebody, and is passed over free until a ticket of it is shown.

use std::sync::{Arc, atomic::Ordering};

use serde::{Deserialize, Serialize};

use super::{
    operate::Doors,
    queue::{CHUNK, Lane, Place},
    room::Room,
    seat::{SeatRecord, SeatRef},
    state::RoomState,
};
use crate::{time::Now, units::Rate};

/// Who came in the last seconds before a restart counts as present for this long after it.
const PRESENT_AFTER_RESTART_S: u32 = 60;
/// Numbers that are reserved ahead at least, and at most.
const BLOCK: (u32, u32) = (1_024, 65_536);

/// A room's small numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Tokens of this epoch are good.
    pub epoch: u64,
    /// The room's clock, seconds.
    pub clock_s: u32,
    /// Numbers given out, by lane.
    pub taken: [u32; 2],
    /// Numbers that may be given out.
    pub reserved: [u32; 2],
    /// Everybody below was called.
    pub frontier: [u32; 2],
    /// Numbers that restarts left behind, from and to, by lane.
    #[serde(default)]
    pub gaps: [Vec<(u32, u32)>; 2],
    /// Seated by a claim.
    pub seated: u64,
    /// Gone of their own will.
    pub left: u64,
    /// Numbers that nobody has shown a ticket of since a restart.
    pub void: u64,
    /// Seated without waiting.
    pub walk_ins: u64,
    /// The bucket's level, millionths of a token.
    pub tokens: u64,
    /// Newcomers wait.
    pub armed: bool,
    /// Paused by an operator.
    pub paused: bool,
    /// Who may come in.
    #[serde(default)]
    pub doors: Doors,
    /// Sales whose times an operator moved: name, times as written then, times as moved (0: not).
    #[serde(default)]
    pub moved: Vec<(String, [u64; 2], [u64; 2])>,
    /// The last step of the schedule that was done, Unix milliseconds.
    #[serde(default)]
    pub followed_ms: u64,
    /// Slowed by an operator.
    pub slow: Option<Rate>,
    /// The operator's word.
    pub message: Option<String>,
    /// Units sold, by sale.
    pub sold: Vec<(String, u64)>,
}

/// Some places of a lane, [`super::queue::CHUNK`] at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which lane.
    pub lane: Lane,
    /// Which of its chunks.
    pub index: usize,
    /// The words of the places.
    pub words: Vec<u32>,
}

/// A room, or what changed in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// Always whole.
    pub head: Head,
    /// Seats.
    pub seats: Vec<SeatRecord>,
    /// Places.
    pub chunks: Vec<Chunk>,
}

impl Room {
    /// What is given out counts once it is written down, from now on: no number is given out before
    /// [`Room::reserve`], no call told before [`Room::announce`], no seat counts before [`Room::settle`].
    pub fn keep(&mut self, now: Now) {
        let plan = self.operator().plan.take();
        let state = RoomState::new(self.epoch(), self.settings().seats.max, true, 0, now);
        for lane in Lane::ALL {
            state.line.lane(lane).permit(0);
        }
        state.line.hold_calls();
        self.state = Arc::new(state);
        if let Some(plan) = plan {
            self.open(&plan, now);
        }
    }

    /// Puts back what was written down, in place of a fresh state. Nobody was served since: call it before the first visit.
    pub fn restore(&mut self, kept: &Kept, now: Now) {
        let head = &kept.head;
        let plan = self.operator().plan.take();
        let state = RoomState::new(head.epoch, self.settings().seats.max, true, head.clock_s, now);
        self.state = Arc::new(state);
        let s = &self.state;
        let now_s = self.clock_s(now);
        match self.settings().order.is_drawn() && head.taken[Lane::Main as usize] == 0 {
            // Nobody has a number for certain. Whoever got one in the last instant got it before the pre-queue, where it is
            // none in the sale: the drawn begin with the first place, as their list says.
            true => {
                let mut first = kept.clone();
                first.head.reserved[Lane::Main as usize] = 0;
                s.line.restore(&first, now_s + PRESENT_AFTER_RESTART_S);
            }
            false => s.line.restore(kept, now_s + PRESENT_AFTER_RESTART_S),
        }
        s.seats.restore(&kept.seats, self.seat_expires_s(now));
        s.walk_ins.store(head.walk_ins, Ordering::Release);
        s.armed.store(head.armed, Ordering::Release);
        s.paused.store(head.paused, Ordering::Release);
        s.doors.store(head.doors as u8, Ordering::Release);
        s.followed_ms.store(head.followed_ms, Ordering::Release);
        for (sale, _) in &self.sales {
            // Times that were written anew since are meant.
            let same = |m: &&(String, [u64; 2], [u64; 2])| *m.0 == *sale.name && m.1 == [sale.opens_ms, sale.closes_ms];
            if let Some((_, _, moved)) = head.moved.iter().find(same) {
                sale.move_to(*moved);
            }
        }
        let mut operator = self.operator();
        operator.slow = head.slow;
        self.put_message(&mut operator, head.message.clone());
        drop(operator);
        if let Some(plan) = plan {
            self.set_plan(&plan, now);
        }
        // Not a full burst: it may have been spent a moment before.
        s.bucket.set_level(head.tokens);
        // Limited stock has records of its own.
        for (sale, stock) in self.sales.iter().filter(|(s, _)| s.stock.is_none()) {
            let was = head.sold.iter().find(|(name, _)| **name == *sale.name).map_or(0, |(_, n)| *n);
            stock.with(|l| l.elsewhere(was));
        }
    }

    /// Whether it keeps its state.
    pub fn keeps(&self) -> bool {
        self.state.keeps
    }

    /// What changed since the last call, or everything. Everything that was done before the call is in it or in an earlier
    /// one; write them down in order.
    pub fn changes(&self, all: bool, now: Now) -> Kept {
        let s = &self.state;
        // Before the places: who is below the frontier was called, and that is in the words that are read after it.
        let frontier = self.frontier();
        let taken = Lane::ALL.map(|l| s.line.lane(l).taken());
        let mut chunks = Vec::new();
        for lane in Lane::ALL {
            let queue = s.line.lane(lane);
            let changed = queue.take_changed();
            let indices = if all { (0..(queue.taken() as usize).div_ceil(CHUNK)).collect() } else { changed };
            chunks.extend(indices.into_iter().map(|index| Chunk { lane, index, words: queue.chunk(index) }));
        }
        let seats = s.seats.changed(all);
        let (_, seated, left) = s.line.counts();
        let operator = self.operator();
        let head = Head {
            epoch: s.epoch,
            clock_s: self.clock_s(now),
            taken,
            reserved: Lane::ALL.map(|l| s.line.lane(l).reserved()),
            frontier,
            gaps: Lane::ALL.map(|l| s.line.lane(l).gaps().collect()),
            seated,
            left,
            void: s.line.void(),
            walk_ins: s.walk_ins.load(Ordering::Acquire),
            tokens: s.bucket.level(),
            armed: s.armed.load(Ordering::Acquire),
            paused: s.paused.load(Ordering::Acquire),
            doors: self.doors(),
            moved: self.moved(),
            followed_ms: self.followed_ms(),
            slow: operator.slow,
            message: operator.message.clone(),
            sold: self.sales.iter().map(|(sale, stock)| (sale.name.to_string(), stock.units().sold)).collect(),
        };
        Kept { head, seats, chunks }
    }

    fn moved(&self) -> Vec<(String, [u64; 2], [u64; 2])> {
        let moved = self.sales.iter().filter(|(s, _)| s.moved_ms() != [0, 0]);
        moved.map(|(s, _)| (s.name.to_string(), [s.opens_ms, s.closes_ms], s.moved_ms())).collect()
    }

    /// A chunk of places as it stands, with who is present: for snapshots beside the changes.
    pub fn chunk(&self, lane: Lane, index: usize) -> Chunk {
        Chunk { lane, index, words: self.state.line.lane(lane).chunk(index) }
    }

    /// Chunks that people wait in: first and last of a lane.
    pub fn chunks(&self, lane: Lane) -> std::ops::Range<usize> {
        let queue = self.state.line.lane(lane);
        queue.frontier() as usize / CHUNK..(queue.taken() as usize).div_ceil(CHUNK)
    }

    /// Everybody below was called, by lane.
    pub fn frontier(&self) -> [u32; 2] {
        Lane::ALL.map(|l| self.state.line.lane(l).frontier())
    }

    /// Numbers below are written down as reserved and may be given out.
    pub fn reserve(&self, numbers: [u32; 2]) {
        Lane::ALL.iter().zip(numbers).for_each(|(lane, n)| self.state.line.lane(*lane).permit(n));
    }

    /// Calls below the frontiers of a [`Head`] are written down: people may be told.
    pub fn announce(&self, frontier: [u32; 2]) {
        self.state.line.announce(frontier);
    }

    /// A seat that a claim got is written down, or could not be: then it is taken back, and the claim stays good.
    pub fn settle(&self, place: Place, seat: SeatRef, kept: bool) {
        self.state.line.settle(place, kept);
        if !kept && self.state.seats.release(seat) {
            self.state.bucket.put_back();
        }
    }

    /// A walk-in's seat could not be written down: it is taken back.
    pub fn take_back(&self, seat: SeatRef) {
        if self.state.seats.release(seat) {
            self.state.bucket.put_back();
            self.state.walk_ins.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Whether anything can be written down now; if not, the room does as its `on_failure` says.
    pub fn set_failing(&self, failing: bool) {
        self.state.failing.store(failing, Ordering::Release);
    }
}

/// The mark for a lane of which `taken` numbers are given out, `lately` of them in the last second.
pub fn reserve_ahead(taken: u32, reserved: u32, lately: u32, max: u32) -> u32 {
    let block = lately.saturating_mul(4).clamp(BLOCK.0, BLOCK.1);
    if reserved.saturating_sub(taken) >= block / 2 { reserved } else { taken.saturating_add(block).min(max).max(reserved) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_reserved_before_they_run_out_and_not_in_vain() {
        assert_eq!(reserve_ahead(0, 0, 0, 1_000_000), 1_024);
        assert_eq!(reserve_ahead(500, 1_024, 10, 1_000_000), 1_024);
        assert_eq!(reserve_ahead(600, 1_024, 10, 1_000_000), 1_624);
        assert_eq!(reserve_ahead(600, 1_024, 9_000, 1_000_000), 36_600);
        assert_eq!(reserve_ahead(600, 1_024, 1_000_000, 1_000_000), 66_136);
        assert_eq!(reserve_ahead(999_900, 999_950, 5, 1_000_000), 1_000_000);
        assert_eq!(reserve_ahead(10, 2_000, 5, 1_000), 2_000, "a lower limit takes nothing back");
    }
}
