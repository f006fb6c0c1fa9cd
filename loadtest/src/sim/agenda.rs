//! What will happen, in order of time; what falls on the same instant in the order it was planned.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use super::{gate::Gift, trouble::Extra};
use crate::crowd::Answer;

/// Something that will happen.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// Claims are answered, people called, and the planner looks at the shop; each second it plans.
    Tick,
    /// The operator or the shop does something: index into the world's upheavals.
    Upheaval(usize),
    /// A client sends what it has in mind.
    Send(usize),
    /// An answer arrives.
    Arrive(Box<Delivery>),
    /// A client's patience with one request ends.
    Patience {
        /// Whose.
        client: usize,
        /// With which request.
        serial: u64,
    },
    /// A request that is not part of anybody's plan.
    Extra(Box<Extra>),
    /// The shop is done with a job.
    ShopDone(u32, Served),
    /// A job waited too long for a connection of the shop's pool.
    PoolTimeout(u32),
    /// A job waited too long in front of the shop.
    QueueTimeout(u32),
}

/// How the shop ended a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// After work in the pool.
    Worked,
    /// Without any: a file.
    File,
    /// Turned away: too many wait.
    TurnedAway,
    /// Nobody answers.
    Down,
}

/// An answer on its way.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) client: usize,
    pub(super) serial: u64,
    pub(super) answer: Answer,
    pub(super) gift: Option<Gift>,
}

#[derive(Debug)]
struct Entry {
    at_us: u64,
    planned: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_us, self.planned).cmp(&(other.at_us, other.planned))
    }
}

/// The agenda.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<Entry>>,
    planned: u64,
}

impl Agenda {
    pub(super) fn at(&mut self, at_us: u64, what: Happening) {
        self.planned += 1;
        self.heap.push(Reverse(Entry { at_us, planned: self.planned, what }));
    }

    pub(super) fn next(&mut self) -> Option<(u64, Happening)> {
        self.heap.pop().map(|Reverse(e)| (e.at_us, e.what))
    }
}
