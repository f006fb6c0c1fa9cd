//! What a visitor does, and what it hears back.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::headers::Header;

/// The next thing a visitor does.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Sends a request and waits for its answer.
    Send {
        /// Milliseconds since the start of the run; latency counts from here, whenever it was really sent.
        at_ms: u64,
        /// What.
        request: Request,
    },
    /// Goes home.
    Leave(Outcome),
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What it is for.
    pub action: Action,
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// Form body.
    pub body: Option<String>,
    /// In the order they are sent; empty values are filled in by whoever sends (host, cookie, referer, origin) or left out.
    pub headers: &'static [Header],
    /// Path of the page it was sent from.
    pub referer: Option<&'static str>,
    /// Whom the trusted proxy in front says it comes from.
    pub address: Ipv4Addr,
    /// Cookies are kept and sent.
    pub cookies: bool,
    /// The sender gives up and closes the connection after this long.
    pub patience_ms: u64,
    /// Fetched beside each other once the page itself has come from the shop.
    pub assets: &'static [&'static str],
}

impl Request {
    /// Whether the client asks for JSON: a script on a page, or an app.
    pub fn wants_json(&self) -> bool {
        self.headers.iter().any(|(n, v)| *n == "accept" && v.starts_with("application/json"))
    }
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The front page.
    Home,
    /// The product of the sale.
    Product,
    /// Putting it in the cart.
    Cart,
    /// Paying.
    Checkout,
    /// The confirmation.
    Order,
    /// A stylesheet, script or image.
    Asset,
    /// Asking for the place in the room.
    Poll,
    /// Taking the seat.
    Claim,
    /// Proving that somebody is there.
    Challenge,
}

impl Action {
    /// A page of the shop that a shopper waits for.
    pub fn is_page(self) -> bool {
        matches!(self, Action::Home | Action::Product | Action::Cart | Action::Checkout | Action::Order)
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP status; 0 when there was none.
    pub status: u16,
    /// What it means to the visitor.
    pub kind: AnswerKind,
    /// What the gate decided, when it answered itself.
    pub verdict: Option<GateVerdict>,
    /// The place in the room.
    pub note: Option<Note>,
    /// Seconds until asking again makes sense.
    pub retry_after_s: Option<u32>,
    /// Where a redirect leads.
    pub location: Option<String>,
    /// A pass came with it.
    pub pass: bool,
    /// How long the shop took, microseconds, when it said so.
    pub shop_us: Option<u64>,
    /// Form body that answers a challenge.
    pub proof: Option<String>,
    /// Path of the style that a page of the gate names: who has a browser asks for it.
    pub style: Option<String>,
}

impl Answer {
    /// An answer with nothing but a meaning.
    pub fn of(kind: AnswerKind, status: u16) -> Self {
        Answer {
            status,
            kind,
            verdict: None,
            note: None,
            retry_after_s: None,
            location: None,
            pass: false,
            shop_us: None,
            proof: None,
            style: None,
        }
    }
}

/// What an answer means to the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerKind {
    /// The page that was asked for.
    Page,
    /// An asset.
    Asset,
    /// The order is placed; `location` is its page.
    Ordered,
    /// Nothing left.
    SoldOut,
    /// A place in the room: `note`.
    Waiting,
    /// There is a seat: go on.
    Seated,
    /// The gate knows no ticket of this visitor.
    NoTicket,
    /// Look at `location`.
    Redirect,
    /// Prove that somebody is there.
    Challenged,
    /// Too many requests: 429.
    Throttled,
    /// No: 403 and other 4xx.
    Refused,
    /// Later: 503.
    Busy,
    /// Any other 5xx.
    Error,
    /// The visitor's patience ended.
    Timeout,
    /// No connection, or one that broke.
    Failed,
}

impl AnswerKind {
    /// The visitor did not get what it was due.
    pub fn is_failure(self) -> bool {
        matches!(
            self,
            AnswerKind::Throttled
                | AnswerKind::Refused
                | AnswerKind::Busy
                | AnswerKind::Error
                | AnswerKind::Timeout
                | AnswerKind::Failed
        )
    }
}

/// The `Tidegate-Verdict` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateVerdict {
    /// A place in a room.
    Wait,
    /// A proof is asked for.
    Challenge,
    /// A quota is used up.
    Throttle,
    /// No.
    Refuse,
    /// Nothing left.
    SoldOut,
    /// One of the gate's own pages.
    Own,
}

impl GateVerdict {
    /// From the header's text.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "wait" => GateVerdict::Wait,
            "challenge" => GateVerdict::Challenge,
            "throttle" => GateVerdict::Throttle,
            "refuse" => GateVerdict::Refuse,
            "sold_out" => GateVerdict::SoldOut,
            "own" => GateVerdict::Own,
            _ => return None,
        })
    }
}

/// What a visitor was told about its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// `prequeue`, `waiting`, `called`, `next`, `paused`, `full`; empty when the page did not say.
    pub state: String,
    /// The room.
    pub room: Option<String>,
    /// The place, lane included: [`tidegate_filters::seats::queue::Place::to_bits`].
    pub place: Option<u64>,
    /// The wait it was shown, seconds: from, to.
    pub wait_s: Option<(u32, u32)>,
    /// When to ask again.
    pub poll_after_s: u32,
    /// The turn has come: the seat can be taken now.
    pub claimable: bool,
}

/// Why a visitor went home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Has what it came for.
    Bought,
    /// Only looked.
    Looked,
    /// There was nothing left.
    SoldOut,
    /// Too many failed pages.
    GaveUp,
    /// Waited too long.
    TiredOfWaiting,
}
