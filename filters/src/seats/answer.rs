//! What a room answers.

use serde::Serialize;

use super::{
    draw::{census::Census, live::EntryRef, register::Person},
    ledger::Units,
    pace::wait_interval,
    queue::{Lane, Place},
    seat::SeatRef,
};
pub use super::{operate::Doors, pace::Cause};
use crate::{plan::Plan, rule::bot_gate::Class, verdict::Reason};

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
    /// Its entry in a draw that has not given it a place yet, or whose ticket is given `again`; with `fresh` the answer must
    /// carry it, once it is durable.
    pub entry: Option<Entered>,
    /// It came above a quota: an entry takes work ([`super::room::Room::work`]).
    pub needs_work: bool,
    /// And that because no login of the shop names the visitor.
    pub unnamed: bool,
    /// The ticket is new: the answer must carry it.
    pub fresh: bool,
    /// The place or entry is known by who the visitor is; the ticket went missing and is given again.
    pub again: bool,
    /// The visit carried a ticket of an older epoch: the room was restarted and the place is a new one.
    pub restarted: bool,
    /// What stage the visitor is in.
    pub stage: Stage,
    /// People ahead, at most.
    pub ahead: u64,
    /// Seconds until the turn, from P10 to P90; `None` while nobody is called.
    pub wait_s: Option<(u32, u32)>,
    /// Why that is longer than usual.
    pub because: Option<Cause>,
    /// The chance that stock lasts until then, percent; `None` where stock is not counted.
    pub stock_percent: Option<u8>,
    /// When to ask again, seconds, ≥ 1.
    pub poll_after_s: u32,
}

impl Waiting {
    /// The entry that stands in the place of a place: it has drawn none yet.
    pub fn undrawn(&self) -> Option<Entered> {
        self.entry.filter(|_| self.place.is_none())
    }
}

/// An entry of a draw, on its way to the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// Which.
    pub entry: EntryRef,
    /// Who.
    pub who: Person,
    /// As it was seen now.
    pub class: Class,
    /// It came above its network's quota.
    pub crowded: bool,
    /// Reserved just now: make it durable, then [`super::room::Room::settle_entry`]. Else it is written already.
    pub fresh: bool,
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
    /// Nothing is left to buy.
    SoldOut {
        /// Not all of it is surely sold: of some units nobody knows yet.
        undecided: bool,
    },
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
            Stage::SoldOut { .. } => "sold_out",
        }
    }

    /// The reason code of an answer that tells it.
    pub fn reason(self) -> Reason {
        match self {
            Stage::Called { .. } | Stage::Next => Reason::Called,
            Stage::Paused => Reason::RoomPaused,
            Stage::Full => Reason::RoomFull,
            Stage::SoldOut { .. } => Reason::StockGone,
            Stage::Prequeue { .. } | Stage::Waiting => Reason::Queued,
        }
    }
}

/// What all live pages of a room are sent, once a tick at most.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Frame {
    /// Its name.
    pub room: Box<str>,
    /// `prequeue`, `waiting`, `paused` or `sold_out`: for places from the frontier on.
    pub stage: &'static str,
    /// The sale that is on, pre-queue included.
    pub sale: Option<Box<str>>,
    /// Every place below was called: main lane, slow lane.
    pub frontier: [u32; 2],
    /// People called a second, by lane.
    pub rate: [f64; 2],
    /// Share of places that have somebody.
    pub present: f64,
    /// How far off the rate may be: 0.2 is a fifth.
    pub spread: f64,
    /// Why the wait is longer than usual.
    pub because: Option<Cause>,
    /// The operator's word.
    pub message: Option<String>,
    /// The draw of the sale that is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draw: Option<DrawFrame>,
}

impl Frame {
    /// The wait of somebody with so many places ahead in a lane, seconds from P10 to P90, as a live page computes it.
    pub fn wait_s(&self, lane: Lane, ahead: u32) -> Option<(u32, u32)> {
        wait_interval(f64::from(ahead) * self.present + 1.0, self.rate[lane as usize], self.spread)
    }
}

/// How far the draw of the sale that is on has come.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrawFrame {
    /// `open`, `frozen`, `late` (frozen, and the public randomness should be there) or `drawn`.
    pub state: &'static str,
    /// Entries of the frozen list, void ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// Its root, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Entries by class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_class: Option<Census>,
}

/// Where the holder of a ticket or pass stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RoomStatus {
    /// Neither ticket nor pass of this room.
    None,
    /// A live pass.
    Seated(SeatRef),
    /// In the line.
    Waiting(Waiting),
    /// In the line or the draw of a sale that was called off.
    CalledOff,
    /// In the line of a room that an operator closed.
    Closed,
}

/// The start of a claim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Claim {
    /// The answer comes out of [`super::room::Room::tick`] within [`super::line::CLAIM_WAIT_MS`].
    Pending(Place),
    /// This ticket's seat: the same pass again (the first answer was lost).
    Seated(SeatRef),
    /// A live pass came along: nothing to claim.
    Inside(SeatRef),
    /// Not called yet.
    NotYet(Waiting),
    /// No ticket, or one that is used up.
    NoTicket,
    /// Too many claims in this instant; try again in a second.
    Busy,
}

/// Numbers of a room, for the planner, metrics and checkers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RoomStats {
    /// Name.
    pub name: String,
    /// Newcomers wait.
    pub armed: bool,
    /// Paused by an operator.
    pub paused: bool,
    /// Who may come in.
    pub doors: Doors,
    /// Places given out.
    pub arrived: u64,
    /// Waiting or called, not seated, not gone.
    pub waiting: u64,
    /// Called, in the claim window.
    pub called: u32,
    /// Seated by a claim.
    pub seated: u64,
    /// Seated without waiting.
    pub walk_ins: u64,
    /// Gone of their own will.
    pub left: u64,
    /// Live seats.
    pub seats_live: u32,
    /// Most live seats.
    pub seats_max: u32,
    /// Passes that could be given this instant.
    pub tokens: u64,
    /// Passes the bucket ever minted.
    pub minted: f64,
    /// Every place below was called, seated or has left: main lane, slow lane.
    pub frontier: [u32; 2],
    /// People called a second.
    pub call_rate: f64,
    /// Visitors who were shown an interval and have been called since.
    pub promises_made: u64,
    /// Those of them whose real wait fell into the interval first shown.
    pub promises_kept: u64,
    /// Units reported sold in the current sale.
    pub sold: u64,
    /// Name of the current sale.
    pub sale: Option<String>,
    /// Units of the current sale by state.
    pub stock: Option<Units>,
    /// Who comes in has a unit of it set aside.
    pub reserves: bool,
    /// Places of the current sale that are drawn from its one list: the first, and how many.
    pub drawn: Option<[u32; 2]>,
    /// The operator's word to those who wait.
    pub message: Option<String>,
    /// The plan in force.
    pub plan: Option<Plan>,
}

/// What was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenBack {
    /// A seat.
    Seat(SeatRef),
    /// A place.
    Place(Place),
    /// An entry of a draw: it stays in the list, and its place is passed over until its holder returns.
    Entry(EntryRef),
}
