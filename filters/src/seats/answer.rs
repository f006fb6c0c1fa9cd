//! What a room answers.

use super::{queue::Place, seat::SeatRef};

/// How a forwarded visit got in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// No room covers it.
    Free,
    /// It holds a live pass.
    Inside {
        /// Index of the room.
        room: usize,
        /// Its seat.
        seat: SeatRef,
    },
    /// It gets a pass with this answer.
    Seated {
        /// Index of the room.
        room: usize,
        /// Its new seat.
        seat: SeatRef,
    },
}

/// A place in the room, and what to tell about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Waiting {
    /// Index of the room.
    pub room: usize,
    /// The place; `None` when none was given.
    pub place: Option<Place>,
    /// The ticket is new: the answer must carry it.
    pub fresh: bool,
    /// The visit carried a ticket of an older epoch: the room was restarted and the place is a new one.
    pub restarted: bool,
    /// What stage the visitor is in.
    pub stage: Stage,
    /// People ahead, at most.
    pub ahead: u64,
    /// Seconds until the turn, from P10 to P90; `None` while nobody is called.
    pub wait_s: Option<(u32, u32)>,
    /// When to ask again, seconds, ≥ 1.
    pub poll_after_s: u32,
}

/// The stage of a waiting visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The sale has not opened; seconds until it does.
    Prequeue {
        /// Seconds until the opening.
        opens_in_s: u32,
    },
    /// In the line.
    Waiting,
    /// The turn has come.
    Called {
        /// Seconds left of the claim window; 0 when it is over (the claim is still good).
        expires_in_s: u32,
    },
    /// Claimed when nothing was free: next in line.
    Next,
    /// The operator paused the room.
    Paused,
    /// No places left to give.
    Full,
}

impl Stage {
    /// Stable name, as in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Prequeue { .. } => "prequeue",
            Stage::Waiting => "waiting",
            Stage::Called { .. } => "called",
            Stage::Next => "next",
            Stage::Paused => "paused",
            Stage::Full => "full",
        }
    }
}
