//! What happened at a gate, whoever wrote it down: the simulation, or the journal of a live run.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    fmt,
    hash::{Hash, Hasher as _},
};

use tidegate_filters::seats::{
    ledger::Units,
    queue::{Lane, Place},
    seat::SeatRef,
};

/// Everything a checker needs.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// By room index.
    pub rooms: Vec<RoomFacts>,
    /// In the order they happened.
    pub events: Vec<Event>,
    /// What the gate counted beside the log.
    pub accounts: Accounts,
    /// How far a time may be off, microseconds: 0 in the simulation; live, the time between a decision and its row.
    pub slack_us: u64,
    /// How far the time of a plan may be off, microseconds: 0 in the simulation; live, the distance of the samples.
    pub plan_slack_us: u64,
}

/// A room, and its own count at the end.
#[derive(Clone, Debug, Default)]
pub struct RoomFacts {
    /// Name.
    pub name: String,
    /// The room's numbers after the last event; `None` when they were not asked for.
    pub counts: Option<Counts>,
}

/// A room's own count of people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Places given out.
    pub arrived: u64,
    /// Seated by a claim.
    pub seated: u64,
    /// Seated without waiting.
    pub walk_ins: u64,
    /// Gone of their own will.
    pub left: u64,
    /// Waiting or called.
    pub waiting: u64,
}

/// Requests and rows as counted, not listed. `None`: not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Rows in the journal.
    pub rows: Option<u64>,
    /// Rows the gate says it dropped.
    pub rows_dropped: u64,
    /// Requests whose head was parsed.
    pub parsed: Option<u64>,
    /// Requests whose head was refused, by reason.
    pub heads_refused: BTreeMap<String, u64>,
    /// Requests whose head was refused, in all.
    pub heads_refused_total: Option<u64>,
    /// Answers the crowd got from the gate.
    pub answers: Option<u64>,
    /// Claims whose client was gone before the answer: they may have been seated, and no row says so.
    pub claims_unheard: u64,
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// Microseconds since the gate's start, by the gate's clock.
    pub at_us: u64,
    /// Index of the room.
    pub room: u16,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// A plan is in force from now on.
    Plan {
        /// New passes a second.
        refill_per_s: f64,
        /// Passes at once.
        burst: f64,
        /// Most live seats.
        seats_max: u32,
    },
    /// Settings in force from now on.
    Rules {
        /// A seat ends this long after its last use, microseconds.
        idle_us: u64,
        /// A seat ends after this long in any case, microseconds.
        age_us: u64,
        /// A called visitor is waited for this long, microseconds.
        claim_window_us: u64,
        /// Who comes in has a unit set aside for this long, microseconds; 0: nobody has.
        reserve_us: u64,
    },
    /// A sale with that many units is on; `None`: no limit, or no sale.
    Stock(Option<u64>),
    /// The shop reported units sold.
    Sold(u32),
    /// A request that may sell so many units went to the shop with a hold.
    HoldSent {
        /// Number of the hold.
        hold: u64,
        /// Units it may sell.
        units: u32,
        /// Whose it is, where it came with a pass.
        seat: Option<SeatRef>,
    },
    /// A request with this pass got no unit: all are in others' hands, or sold.
    HoldDenied(SeatRef),
    /// One with this pass got none because its visitor has as many as it may: what was set aside for it is for others.
    HoldBarred(SeatRef),
    /// It ended.
    HoldEnded {
        /// Number of the hold.
        hold: u64,
        /// Units sold; `None`: nobody knows.
        sold: Option<u32>,
    },
    /// The room's own count of the units of its sale.
    Units(Units),
    /// Nobody is called or seated (paused, not open), or people are again.
    Closed(bool),
    /// Places below these were called: main lane, slow lane.
    Frontier([u32; 2]),
    /// An answer gave a ticket.
    Joined(Place),
    /// An answer told a place where it stands.
    Told {
        /// Whose.
        place: Place,
        /// That it may claim (or is claiming).
        called: bool,
    },
    /// A claim of a called place came in.
    Claimed(Place),
    /// It was answered: nothing free, next.
    Next(Place),
    /// An answer gave a pass.
    Seated {
        /// The place that claimed; `None`: walked in.
        place: Option<Place>,
        /// The seat.
        seat: SeatRef,
    },
    /// A seat was given to a place and nobody waited for the answer: it is kept.
    Kept {
        /// Whose.
        place: Place,
        /// The seat.
        seat: SeatRef,
    },
    /// Nobody came for a kept seat: the place has to claim again.
    Withdrawn {
        /// Whose.
        place: Place,
        /// The seat.
        seat: SeatRef,
    },
    /// A pass was honoured.
    Used(SeatRef),
    /// A place was given back.
    Left(Place),
    /// A seat was given back or revoked.
    Released(SeatRef),
    /// Somebody who should have got a place got none: the room is full.
    Refused,
    /// A token that the gate never issued like this was shown.
    Forged {
        /// What is wrong with it.
        how: &'static str,
        /// The gate took it for good.
        accepted: bool,
    },
}

impl Log {
    /// The events of a room, in order.
    pub fn of_room(&self, room: usize) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |e| usize::from(e.room) == room)
    }

    /// The same events give the same number.
    pub fn hash(&self) -> u64 {
        let mut h = DefaultHasher::new();
        for e in &self.events {
            (e.at_us, e.room, std::mem::discriminant(&e.what)).hash(&mut h);
            match e.what {
                What::Plan { refill_per_s, burst, seats_max } => {
                    (refill_per_s.to_bits(), burst.to_bits(), seats_max).hash(&mut h)
                }
                What::Rules { idle_us, age_us, claim_window_us, reserve_us } => {
                    (idle_us, age_us, claim_window_us, reserve_us).hash(&mut h)
                }
                What::Stock(n) => n.hash(&mut h),
                What::Sold(n) => n.hash(&mut h),
                What::HoldSent { hold, units, seat } => (hold, units, seat).hash(&mut h),
                What::HoldEnded { hold, sold } => (hold, sold).hash(&mut h),
                What::Units(u) => (u.stock, u.held, u.in_flight, u.uncertain, u.sold).hash(&mut h),
                What::Closed(closed) => closed.hash(&mut h),
                What::Frontier(f) => f.hash(&mut h),
                What::Joined(p) | What::Claimed(p) | What::Next(p) | What::Left(p) => p.hash(&mut h),
                What::Told { place, called } => (place, called).hash(&mut h),
                What::Seated { place, seat } => (place, seat).hash(&mut h),
                What::Kept { place, seat } | What::Withdrawn { place, seat } => (place, seat).hash(&mut h),
                What::Used(seat) | What::Released(seat) | What::HoldDenied(seat) | What::HoldBarred(seat) => seat.hash(&mut h),
                What::Refused => {}
                What::Forged { how, accepted } => (how, accepted).hash(&mut h),
            }
        }
        h.finish()
    }
}

/// A time as people read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct At(pub u64);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s", self.0 as f64 / 1e6)
    }
}

/// A place as people read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name(pub Place);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.lane {
            Lane::Main => write!(f, "place {}", self.0.number),
            Lane::Slow => write!(f, "place {} of the slow lane", self.0.number),
        }
    }
}

/// A seat as people read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeatName(pub SeatRef);

impl fmt::Display for SeatName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seat {} (generation {})", self.0.index, self.0.generation)
    }
}
