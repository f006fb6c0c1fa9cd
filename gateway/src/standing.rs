//! Where somebody stands in a room: what page, JSON and live page are made from.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use tidegate_filters::seats::{
    draw::{digest::hex, work::Work},
    room::{Order, Room, Stage, Waiting},
    token::TOKENS_MAX,
};

use crate::{own::url, pages, reply::claimable, trace::Trace};

/// Rooms one visitor may wait in at the same time: a ticket and a pass each are what is looked at.
pub const ROOMS_AT_ONCE_MAX: usize = TOKENS_MAX / 2;

/// Who waits for a sale to be drawn again asks at most this often, seconds.
const AGAIN_POLL_S_MIN: u32 = 60;
/// And at least this often, seconds: an operator may move it.
const AGAIN_POLL_S_MAX: u32 = 720;

/// Where somebody stands in a room, for page and JSON.
pub struct State<'a> {
    /// The request.
    pub trace: &'a Trace,
    /// The room.
    pub room: &'a Room,
    /// The place, where there is one.
    pub waiting: Option<&'a Waiting>,
    /// Stable name of the state.
    pub name: &'static str,
    /// The sale that does not take place, where that is what is told.
    pub off: Option<&'a str>,
}

/// What scripts and apps read: `GET …/status` and every visit that waits. Written straight into the body: crowds poll it.
#[derive(Clone, Debug, Serialize)]
pub struct Told<'a> {
    state: &'static str,
    room: &'a str,
    /// From 0.
    place: Option<u32>,
    /// Which of the lists in `frontier` and `rate` of the live frames: 0 everybody's, 1 the slow one.
    lane: Option<u8>,
    ahead: Option<u64>,
    /// Seconds, soonest and latest.
    wait_s: Option<(u32, u32)>,
    stock_percent: Option<u8>,
    because: Option<&'static str>,
    poll_after_s: Option<u32>,
    opens_in_s: Option<u32>,
    claim: Option<Claim>,
    /// How far the draw of the sale is, where its places are drawn.
    draw: Option<&'static str>,
    entry: Option<Entry>,
    work: Option<Asked>,
    cancelled: Option<CalledOff>,
    restarted: bool,
    message: Option<String>,
    events_url: String,
    #[serde(rename = "waitingRoom")]
    known: KnownNames,
}

/// A sale that does not take place, to who waited for it, entered its draw, or would buy in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CalledOff {
    /// Which.
    pub sale: String,
    /// As the policy says.
    pub reason: String,
    /// The operator's word.
    pub message: Option<String>,
    /// What that is for the visitor, in English.
    pub means: String,
    /// The sale that is drawn instead: who entered the old one has to enter anew.
    pub again: Option<Again>,
    /// Where a form goes back into the shop: `POST room=…`.
    pub leave_url: String,
}

/// A sale that is drawn in the place of another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Again {
    /// Which.
    pub sale: String,
    /// From here on people enter, as the policy says.
    pub prequeue_opens_at: String,
    /// It opens, as the policy says.
    pub opens_at: String,
}

/// How a call is claimed.
#[derive(Clone, Debug, Serialize)]
struct Claim {
    method: &'static str,
    url: String,
    extend: Extend,
    expires_in_s: u32,
}

#[derive(Clone, Debug, Serialize)]
struct Extend {
    method: &'static str,
    url: String,
}

/// An entry of a draw that has given it no place yet.
#[derive(Clone, Debug, Serialize)]
struct Entry {
    /// From 0.
    number: u32,
    receipt_url: String,
    /// How far the draw is: `open`, `frozen`, `late` or `drawn`.
    draw: Option<&'static str>,
}

/// Work that is asked for above a quota.
#[derive(Clone, Debug, Serialize)]
struct Asked {
    method: &'static str,
    url: String,
    challenge: String,
    bits: u8,
    /// `quota`, or `not_logged_in`: with the shop's login none is asked for.
    because: &'static str,
}

/// The fields app developers know from another waiting room's JSON, under their names and in their units (minutes).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KnownNames {
    in_waiting_room: bool,
    wait_time_known: bool,
    wait_time: u32,
    #[serde(rename = "waitTime25Percentile")]
    wait_time_25: u32,
    #[serde(rename = "waitTime50Percentile")]
    wait_time_50: u32,
    #[serde(rename = "waitTime75Percentile")]
    wait_time_75: u32,
    wait_time_formatted: Minutes,
    queue_is_full: bool,
    queue_all: bool,
    last_updated: LastUpdated,
    refresh_interval_seconds: u32,
    queueing_method: &'static str,
    #[serde(rename = "isFIFOQueue")]
    is_fifo_queue: bool,
    is_random_queue: bool,
    is_passthrough_queue: bool,
    is_reject_queue: bool,
    is_event_active: bool,
    is_event_prequeueing: bool,
    time_until_event_start: u32,
    time_until_event_start_formatted: Minutes,
    time_until_event_end: u32,
    time_until_event_end_formatted: Minutes,
    shuffle_at_event_start: bool,
}

/// `5 minutes`, or that nobody knows.
#[derive(Clone, Copy, Debug)]
struct Minutes(Option<u32>);

impl Serialize for Minutes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => to.serialize_str("unavailable"),
            Some(m) => to.collect_str(&format_args!("{m} minute{}", if m == 1 { "" } else { "s" })),
        }
    }
}

/// Milliseconds of the epoch, written as RFC 3339.
#[derive(Clone, Copy, Debug)]
struct LastUpdated(u64);

impl Serialize for LastUpdated {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match i64::try_from(self.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
            Some(t) => to.collect_str(&format_args!("{t:.3}")),
            None => to.serialize_str(""),
        }
    }
}

impl<'a> State<'a> {
    /// Of somebody who waits.
    pub fn of(trace: &'a Trace, room: &'a Room, waiting: &'a Waiting) -> Self {
        State { trace, room, waiting: Some(waiting), name: waiting.stage.name(), off: None }
    }

    /// Of somebody who asks for a sale that does not take place.
    pub fn cancelled(trace: &'a Trace, room: &'a Room, sale: &'a str) -> Self {
        State { trace, room, waiting: None, name: "cancelled", off: Some(sale) }
    }

    /// As scripts and apps read it.
    pub fn told(&self) -> Told<'a> {
        let w = self.waiting;
        let claim = w.and_then(|w| claimable(w.stage)).map(|expires_in_s| Claim {
            method: "POST",
            url: url(self.trace, "claim"),
            extend: Extend { method: "POST", url: url(self.trace, "extend") },
            expires_in_s,
        });
        Told {
            state: self.name,
            room: self.room.name(),
            place: w.and_then(|w| w.place).map(|p| p.number),
            lane: w.and_then(|w| w.place).map(|p| p.lane as u8),
            ahead: w.map(|w| w.ahead),
            wait_s: w.and_then(|w| w.wait_s),
            stock_percent: w.and_then(|w| w.stock_percent),
            because: w.and_then(|w| w.because).map(|c| c.name()),
            poll_after_s: match self.off {
                Some(sale) => again_in_s(self.trace, sale),
                None => w.map(|w| w.poll_after_s.max(1)),
            },
            opens_in_s: w.and_then(|w| opens_in_s(w.stage)),
            claim,
            draw: w.and_then(|_| self.room.draw_state(self.trace.started)),
            entry: w.and_then(Waiting::undrawn).map(|e| Entry {
                number: e.entry.index,
                receipt_url: url(self.trace, "receipt"),
                draw: self.room.draw_state(self.trace.started),
            }),
            work: self.work().map(|work| Asked {
                method: "POST",
                url: url(self.trace, "work"),
                challenge: hex(&work.challenge),
                bits: work.bits,
                because: if w.is_some_and(|w| w.unnamed) { "not_logged_in" } else { "quota" },
            }),
            cancelled: self.off.map(|sale| called_off(self.trace, self.room, sale)),
            restarted: w.is_some_and(|w| w.restarted),
            message: self.room.current_message(),
            events_url: self.events_url(),
            known: self.known_names(),
        }
    }

    /// The work that is asked for above a quota.
    pub fn work(&self) -> Option<Work> {
        self.waiting.filter(|w| w.needs_work)?;
        self.room.work(&self.trace.intake.visit(None), self.trace.started)
    }

    /// Where a live page of this room listens.
    pub fn events_url(&self) -> String {
        format!("{}?room={}", url(self.trace, "events"), self.room.name())
    }

    fn known_names(&self) -> KnownNames {
        let w = self.waiting;
        let minutes = |s: u32| s.div_ceil(60);
        let quartile = |share: f64| {
            let (low, high) = w?.wait_s?;
            // Between P10 and P90 a straight line is as good as what is known.
            Some(minutes(low + (f64::from(high - low) * share).round() as u32))
        };
        let opens_min = w.and_then(|w| opens_in_s(w.stage)).map(minutes);
        let ends_min = self.ends_min();
        let random = self.room.settings().order != Order::Fifo;
        let wait = quartile(0.5);
        KnownNames {
            in_waiting_room: !matches!(self.name, "seated" | "closed" | "cancelled"),
            wait_time_known: wait.is_some(),
            wait_time: wait.unwrap_or(0),
            wait_time_25: quartile(0.1875).unwrap_or(0),
            wait_time_50: wait.unwrap_or(0),
            wait_time_75: quartile(0.8125).unwrap_or(0),
            wait_time_formatted: Minutes(wait),
            queue_is_full: w.is_some_and(|w| w.stage == Stage::Full),
            queue_all: w.is_some_and(|w| matches!(w.stage, Stage::Paused | Stage::Prequeue { .. })),
            last_updated: LastUpdated(self.trace.started.wall_ms),
            refresh_interval_seconds: w.map_or(0, |w| w.poll_after_s.max(1)),
            queueing_method: if random { "random" } else { "fifo" },
            is_fifo_queue: !random,
            is_random_queue: random,
            is_passthrough_queue: false,
            is_reject_queue: matches!(self.name, "sold_out" | "closed" | "cancelled"),
            is_event_active: ends_min.is_some(),
            is_event_prequeueing: opens_min.is_some(),
            time_until_event_start: opens_min.unwrap_or(0),
            time_until_event_start_formatted: Minutes(opens_min),
            time_until_event_end: ends_min.unwrap_or(0),
            time_until_event_end_formatted: Minutes(ends_min),
            shuffle_at_event_start: random && opens_min.is_some(),
        }
    }

    /// Minutes until the end of the sale that is on or has its pre-queue.
    fn ends_min(&self) -> Option<u32> {
        let now = self.trace.started;
        let closes_ms = self.room.sale_now(now)?.closes_ms;
        Some(closes_ms.saturating_sub(now.wall_ms).div_ceil(60_000).min(u64::from(u32::MAX)) as u32)
    }
}

/// What people are told of a sale that does not take place.
pub fn called_off(trace: &Trace, room: &Room, sale: &str) -> CalledOff {
    let sales = &trace.active.policy.sales;
    let written = sales.iter().find(|s| s.name == sale).and_then(|s| s.cancelled.clone());
    let again = trace.active.policy.drawn_again(sale).filter(|s| s.closes_at.unix_ms() > trace.started.wall_ms);
    CalledOff {
        sale: sale.to_owned(),
        reason: written.unwrap_or_default(),
        message: room.current_message(),
        means: pages::called_off_in_english(sale),
        again: again.map(|s| Again {
            sale: s.name.clone(),
            prequeue_opens_at: s.enters_at().to_string(),
            opens_at: s.opens_at.to_string(),
        }),
        leave_url: url(trace, "leave"),
    }
}

/// When somebody whose sale is drawn again looks in again, seconds: once people enter there, and now and then before.
fn again_in_s(trace: &Trace, sale: &str) -> Option<u32> {
    let again = trace.active.policy.drawn_again(sale)?;
    let enter_ms = again.enters_at().unix_ms();
    let left_s = enter_ms.saturating_sub(trace.started.wall_ms).div_ceil(1_000);
    Some(left_s.clamp(u64::from(AGAIN_POLL_S_MIN), u64::from(AGAIN_POLL_S_MAX)) as u32)
}

/// Seconds until the sale opens, before it does.
pub fn opens_in_s(stage: Stage) -> Option<u32> {
    match stage {
        Stage::Prequeue { opens_in_s } => Some(opens_in_s),
        _ => None,
    }
}
