//! The state of a room that outlives a reload.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64},
};

use super::{draw::people::People, line::Line, pace::Polls, seat::Seats};
use crate::{bucket::Bucket, plan::Plan, time::Now, units::Rate};

#[derive(Debug)]
pub(super) struct RoomState {
    pub(super) epoch: u64,
    /// The room's clock at the start of this process, seconds: it stands still while the gate is down.
    pub(super) base_s: u32,
    /// What is given out counts once it is written down.
    pub(super) keeps: bool,
    /// It cannot be written down at the moment.
    pub(super) failing: AtomicBool,
    pub(super) line: Line,
    pub(super) seats: Seats,
    pub(super) bucket: Bucket,
    pub(super) armed: AtomicBool,
    /// Monotonic milliseconds since which nobody waits.
    pub(super) idle_since_ms: AtomicU64,
    pub(super) seats_max: AtomicU32,
    /// Every unit that is left is set aside: nobody can be let in, whatever seats there are.
    pub(super) all_reserved: AtomicBool,
    pub(super) swept_s: AtomicU32,
    pub(super) walk_ins: AtomicU64,
    pub(super) operator: Mutex<Operator>,
    /// The operator has said something: polls take no lock to find out that nobody has.
    pub(super) says: AtomicBool,
    pub(super) paused: AtomicBool,
    /// [`super::operate::Doors`].
    pub(super) doors: AtomicU8,
    /// The last step of the schedule that was done, Unix milliseconds.
    pub(super) followed_ms: AtomicU64,
    /// When each place was told to ask again.
    pub(super) polls: Polls,
    /// Places of those whom the shop's login names, by key, as bits. Of this process: a restart tells them apart anew.
    pub(super) people: People<u64>,
    /// A [`super::pace::Cause`], 0 for none; and the refill of the last minutes it is judged by, as bits.
    pub(super) cause: AtomicU8,
    pub(super) usual_refill: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Operator {
    pub(super) slow: Option<Rate>,
    pub(super) message: Option<String>,
    pub(super) plan: Option<Plan>,
}

impl RoomState {
    pub(super) fn new(epoch: u64, seats_max: u32, keeps: bool, base_s: u32, now: Now) -> Self {
        RoomState {
            epoch,
            base_s,
            keeps,
            failing: AtomicBool::new(false),
            line: Line::default(),
            seats: Seats::default(),
            bucket: Bucket::new(now),
            armed: AtomicBool::new(false),
            idle_since_ms: AtomicU64::new(now.mono_ms()),
            seats_max: AtomicU32::new(seats_max),
            all_reserved: AtomicBool::new(false),
            swept_s: AtomicU32::new(0),
            walk_ins: AtomicU64::new(0),
            operator: Mutex::default(),
            says: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            doors: AtomicU8::new(0),
            followed_ms: AtomicU64::new(0),
            polls: Polls::default(),
            people: People::default(),
            cause: AtomicU8::new(0),
            usual_refill: AtomicU64::new(0),
        }
    }
}
