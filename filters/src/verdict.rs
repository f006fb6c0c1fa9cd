//! What the filters decided. A refusal is a value that answers the next question: when, where in the line, why.

use serde::{Deserialize, Serialize};

use crate::seats::room::{Entrance, Waiting};

/// What to do with a visit.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// To the shop (through the in-flight limit).
    Forward(Entrance),
    /// A place in a room.
    Wait(Waiting),
    /// Prove that somebody is there; then come back.
    Challenge,
    /// A quota of this visitor is used up: 429.
    Throttle(Quota),
    /// No: 403, or 503 with `retry_after_s` when it is a matter of time.
    Refuse {
        /// Seconds until asking again makes sense; `None` when it never will.
        retry_after_s: Option<u32>,
    },
    /// Nothing left: told at once. A place, where there is one, is kept for a restock.
    SoldOut(Box<Waiting>),
}

impl Verdict {
    /// One word, stable: journal, metrics, `Tidegate-Verdict` header.
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Forward(_) => "forward",
            Verdict::Wait(_) => "wait",
            Verdict::Challenge => "challenge",
            Verdict::Throttle(_) => "throttle",
            Verdict::Refuse { .. } => "refuse",
            Verdict::SoldOut(_) => "sold_out",
        }
    }
}

/// State of a rate limit after a check, for `RateLimit` headers and `Retry-After`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// The filter's index in the policy; gives the header its policy name.
    pub filter: u8,
    /// Visits that may still come at once.
    pub remaining: u32,
    /// Milliseconds until the next visit conforms (0 when it does now).
    pub wait_ms: u64,
}

/// Why. Each has a code that never changes its meaning; texts may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// No filter had an objection.
    NoObjection,
    /// The route says `filters: none`.
    Unfiltered,
    /// The address is on an allow list.
    AddressAllowed,
    /// The address is on a deny list.
    AddressDenied,
    /// No route matches host, path and method.
    NoRoute,
    /// The sale has not opened.
    SaleNotOpen,
    /// The sale is over.
    SaleClosed,
    /// More visits than the quota.
    RateExceeded,
    /// The key a quota needs is missing and the policy refuses that.
    KeyMissing,
    /// A valid pass.
    Pass,
    /// The room is open: nobody waits.
    WalkIn,
    /// Has a place, not yet called.
    Queued,
    /// Called: the claim is open.
    Called,
    /// The waiting room has as many places as the policy allows.
    RoomFull,
    /// The operator paused the room.
    RoomPaused,
    /// The room cannot write down what it gives out at the moment.
    RoomDown,
    /// The disk did not keep it in time: nothing was promised, ask again.
    NotKept,
    /// A method that cannot join came without a pass.
    NoPass,
    /// The sale that the visitor waited for or entered was called off.
    SaleCancelled,
    /// The stock is gone.
    StockGone,
    /// A ticket or pass is used from elsewhere than the policy binds it to.
    TokenElsewhere,
    /// Every unit is held by somebody; one may come back.
    AllHeld,
    /// Another request of this visitor that may buy is at the shop.
    HoldInFlight,
    /// The route needs a unit of stock, the visitor holds none, and the method takes none.
    NoHold,
    /// The visitor has bought, or may have bought, as much as one may.
    VisitorLimit,
    /// The score is at or above `refuse_at`.
    ScoreRefuse,
    /// The score is at or above `challenge_at`, or unknown where the policy says so.
    ScoreChallenge,
    /// The score is at or above `to_the_back_at`.
    ScoreToTheBack,
    /// No score in time; `when_unscored` decided.
    Unscored,
    /// Asked for a path that no person finds.
    Honeypot,
    /// Says to be a program that is welcome, and is not.
    FalseCrawler,
    /// The score is at or above `throttle_at`, and more came than `throttle_to` allows.
    ScoreThrottle,
    /// The shop has as many requests as it can take and the queue in front of it is full or too slow.
    ShopBusy,
    /// No upstream is healthy.
    ShopDown,
    /// The body is larger than the policy allows.
    BodyTooLarge,
    /// The shop's answer came too late, broke off or made no sense.
    ShopFailed,
    /// What the client sent cannot be used, or came too slowly.
    BadRequest,
    /// The gate is stopping.
    Stopping,
    /// A request of the gate's own pages and APIs.
    Own,
    /// A plain request on a listener that only redirects.
    Redirect,
    /// A poll before the time the last answer named.
    PolledEarly,
    /// An operator closed the room, or drains it.
    RoomClosed,
    /// A probe, a crawler or a prefetch came while people wait.
    PeopleWait,
    /// Staff or a partner with a bypass.
    Bypass,
    /// Done by an operator.
    Operator,
}

impl Reason {
    /// The stable code, as in the journal.
    pub fn code(self) -> &'static str {
        match self {
            Reason::NoObjection => "NO_OBJECTION",
            Reason::Unfiltered => "UNFILTERED",
            Reason::AddressAllowed => "ADDRESS_ALLOWED",
            Reason::AddressDenied => "ADDRESS_DENIED",
            Reason::NoRoute => "NO_ROUTE",
            Reason::SaleNotOpen => "SALE_NOT_OPEN",
            Reason::SaleClosed => "SALE_CLOSED",
            Reason::RateExceeded => "RATE_EXCEEDED",
            Reason::KeyMissing => "KEY_MISSING",
            Reason::Pass => "PASS",
            Reason::WalkIn => "WALK_IN",
            Reason::Queued => "QUEUED",
            Reason::Called => "CALLED",
            Reason::RoomFull => "ROOM_FULL",
            Reason::RoomPaused => "ROOM_PAUSED",
            Reason::RoomDown => "ROOM_DOWN",
            Reason::NotKept => "NOT_KEPT",
            Reason::NoPass => "NO_PASS",
            Reason::SaleCancelled => "SALE_CANCELLED",
            Reason::StockGone => "STOCK_GONE",
            Reason::TokenElsewhere => "TOKEN_ELSEWHERE",
            Reason::AllHeld => "ALL_HELD",
            Reason::HoldInFlight => "HOLD_IN_FLIGHT",
            Reason::NoHold => "NO_HOLD",
            Reason::VisitorLimit => "VISITOR_LIMIT",
            Reason::ScoreRefuse => "SCORE_REFUSE",
            Reason::ScoreChallenge => "SCORE_CHALLENGE",
            Reason::ScoreToTheBack => "SCORE_TO_THE_BACK",
            Reason::Unscored => "UNSCORED",
            Reason::Honeypot => "HONEYPOT",
            Reason::FalseCrawler => "FALSE_CRAWLER",
            Reason::ScoreThrottle => "SCORE_THROTTLE",
            Reason::ShopBusy => "SHOP_BUSY",
            Reason::ShopDown => "SHOP_DOWN",
            Reason::BodyTooLarge => "BODY_TOO_LARGE",
            Reason::ShopFailed => "SHOP_FAILED",
            Reason::BadRequest => "BAD_REQUEST",
            Reason::Stopping => "STOPPING",
            Reason::Own => "OWN",
            Reason::Redirect => "REDIRECT",
            Reason::PolledEarly => "POLLED_EARLY",
            Reason::RoomClosed => "ROOM_CLOSED",
            Reason::PeopleWait => "PEOPLE_WAIT",
            Reason::Bypass => "BYPASS",
            Reason::Operator => "OPERATOR",
        }
    }
}

/// A verdict with its reason, and what a shadow filter would have said instead.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What to do.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Index of the filter that decided; `None` for routing and "no objection".
    pub filter: Option<u8>,
}

/// What filters in `shadow: true` would have done, and the state of the tightest quota: filled in beside the decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notes {
    /// The first shadow opinion: filter index, verdict's name, reason.
    pub shadow: Option<(u8, &'static str, Reason)>,
    /// The quota with the least left among those that were asked.
    pub quota: Option<Quota>,
    /// The class by what is known for sure and the bot gate's score; `None` without a bot gate.
    pub class: Option<crate::rule::bot_gate::Class>,
}
