//! The words of the ledger: whose a hold is, what it may take, what becomes of it.

use serde::{Deserialize, Serialize};

use crate::{seats::seat::SeatRef, visit::VisitorId};

/// Most units of a sale: one hold each at the worst, about 200 bytes a hold.
pub const UNITS_MAX: u64 = 10_000_000;
/// Longest time a unit is held for somebody who does not come back, seconds.
pub const HOLD_S_MAX: u32 = 3_600;

/// A hold's number in its sale; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct HoldId(pub u64);

/// Whose a hold is: one at a time each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A seat with its generation, [`SeatRef::to_bits`].
    Seat(u64),
    /// Somebody whom an address list lets through without a pass.
    Visitor(VisitorId),
}

impl Holder {
    /// Who sits there.
    pub fn seat(seat: SeatRef) -> Self {
        Holder::Seat(seat.to_bits())
    }
}

/// Who wants to buy. Purchases count for the pass and for the visitor: dropping either cookie helps nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buyer {
    /// Whose hold it would be.
    pub holder: Holder,
    /// Who it is, where that is known.
    pub visitor: Option<VisitorId>,
}

/// What one request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Units one request can sell at most.
    pub units: u32,
    /// Units a visitor may buy in this sale.
    pub per_visitor_max: Option<u32>,
    /// Takes a hold when there is none.
    pub may_take: bool,
    /// When a new hold ends unless it is at the shop by then, seconds.
    pub expires_s: u32,
}

/// Why there is no unit for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Nothing is left, and nobody can give anything back.
    SoldOut,
    /// Every unit is held, or set aside for somebody else; the first may come back after so many seconds.
    AllHeld {
        /// Seconds, ≥ 1.
        retry_after_s: u32,
    },
    /// Another request of this hold is at the shop.
    InFlight,
    /// This method does not take a hold, and there is none.
    NoHold,
    /// The visitor has bought (or may have bought) as much as one may.
    VisitorLimit,
}

/// What became of a request at the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The shop sold that many units.
    Sold(u32),
    /// The shop says that nothing was sold.
    NotSold,
    /// It never reached the shop.
    NotSent,
    /// No answer, half an answer, or one that says neither.
    Lost,
}

impl Outcome {
    /// Stable name, as in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Sold(_) => "sold",
            Outcome::NotSold => "not_sold",
            Outcome::NotSent => "not_sent",
            Outcome::Lost => "lost",
        }
    }
}

/// Where a hold's units are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// In somebody's hand.
    Held,
    /// A request that may sell them is on its way.
    InFlight,
    /// Such a request ended without an answer.
    Uncertain,
}

/// A hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Whose.
    pub buyer: Buyer,
    /// How many units.
    pub units: u32,
    /// Where they are.
    pub unit: Unit,
    /// When it was taken, seconds.
    pub since_s: u32,
    /// When it ends unless it is at the shop, seconds.
    pub expires_s: u32,
}

/// A step of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Free → held.
    Taken(HoldId, Hold),
    /// Held → in flight.
    Sent(HoldId),
    /// In flight → held.
    Back(HoldId),
    /// Held, in flight or uncertain → free.
    Freed(HoldId),
    /// In flight → uncertain.
    Lost(HoldId),
    /// Held, in flight or uncertain → that many units sold, the others free.
    Sold(HoldId, u32),
    /// Units sold without a hold.
    Elsewhere(u64),
    /// That many units there are; `None`: not limited.
    Stock(Option<u64>),
}

/// Units by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Units {
    /// All; `None` when not limited.
    pub stock: Option<u64>,
    /// Nobody's; `None` when not limited.
    pub free: Option<u64>,
    /// Of the free ones, those set aside for people who came in and have taken none yet.
    #[serde(default)]
    pub reserved: u64,
    /// In somebody's hand.
    pub held: u64,
    /// At the shop.
    pub in_flight: u64,
    /// Nobody knows.
    pub uncertain: u64,
    /// Sold.
    pub sold: u64,
    /// Sold beyond the stock: by others, or by a shop that sold more than it was asked for.
    pub over: u64,
}

/// How people with a pass turned out, for the chance that stock lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conversion {
    /// Passes that bought.
    pub buyers: u64,
    /// Those of them that are still live.
    pub buyers_inside: u64,
    /// Holds that sold.
    pub holds_sold: u64,
    /// Holds that were given back or ran out.
    pub holds_freed: u64,
}
