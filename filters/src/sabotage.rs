//! Bugs put in on purpose, one at a time, so that every checker can be shown to see what it is there for. Compiled in only
//! with the feature `sabotage`; without it every point is the constant `false`.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// The bucket counts what has accrued twice.
    BucketMintsTwice = 1,
    /// A lower burst leaves the tokens of the larger one in the bucket.
    BurstOutlivesPlan,
    /// A seat is given though `seats.max` are live.
    SeatsIgnoreMax,
    /// A released seat's next holder has the same generation.
    GenerationNotBumped,
    /// A pass is good whatever generation it names.
    GenerationNotChecked,
    /// The seat of a visitor who claims again lives on past its end.
    SeatOutlivesAge,
    /// Claims of a tick are served highest place first.
    ClaimsHighestFirst,
    /// Places are called in another order than they stand.
    CallsOutOfOrder,
    /// The frontier passes people who are present without calling them.
    FrontierSkipsPresent,
    /// Calls whose window is over count as outstanding for ever.
    CallsNeverExpire,
    /// The ticket stays good after its claim.
    TicketNotBurnt,
    /// Who left is not counted.
    LeaveNotCounted,
    /// Numbers of the line are given twice.
    PlaceGivenTwice,
    /// A token is believed without looking at its tag.
    TagNotChecked,
    /// A token of another room is believed.
    ForeignRoomAccepted,
    /// A token of another host is believed.
    ForeignHostAccepted,
    /// A token of the room's earlier life is believed.
    OldEpochAccepted,
    /// A token is believed after its end.
    ExpiryNotChecked,
    /// A reload forgets line, seats and tokens.
    CarryOverForgets,
    /// Seats are given when nothing is left to sell.
    SoldOutStillSeats,
    /// A row of the journal vanishes and is not counted.
    RowVanishes,
    /// A head that is refused is not counted.
    RefusedHeadNotCounted,
    /// A bound token is believed wherever it comes from.
    BindingNotChecked,
    /// A hold is taken though no unit is free.
    StockNotChecked,
    /// A hold goes to the shop a second time while it is there.
    HoldSentTwice,
    /// A lost answer counts as "not sold".
    LostAnswerFrees,
    /// A hold runs out though it is at the shop.
    InFlightExpires,
    /// The list of a draw takes entries after it was frozen.
    ListNotClosed,
    /// A unit set aside for somebody goes to whoever is faster.
    ReservedForNobody,
    /// Whoever was told "you are next" has to claim again, as fast as those behind.
    ClaimsFall,
    /// A seat that nobody comes for stays theirs.
    OffersNeverEnd,
}

#[cfg(feature = "sabotage")]
mod chosen {
    use std::{
        cell::Cell,
        sync::atomic::{AtomicU8, Ordering},
    };

    use super::Bug;

    thread_local! { static HERE: Cell<Option<Bug>> = const { Cell::new(None) }; }
    static EVERYWHERE: AtomicU8 = AtomicU8::new(0);

    /// Puts a bug into this thread, or takes it out.
    pub fn in_this_thread(bug: Option<Bug>) {
        HERE.set(bug);
    }

    /// Puts a bug into every thread, or takes it out: for a whole gate.
    pub fn everywhere(bug: Option<Bug>) {
        EVERYWHERE.store(bug.map_or(0, |b| b as u8), Ordering::Relaxed);
    }

    /// Whether the bug is in.
    pub fn is(bug: Bug) -> bool {
        HERE.get() == Some(bug) || EVERYWHERE.load(Ordering::Relaxed) == bug as u8
    }
}
#[cfg(feature = "sabotage")]
pub use chosen::{everywhere, in_this_thread, is};

/// Whether the bug is in: never, in a build without the feature.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
pub const fn is(_: Bug) -> bool {
    false
}
