//! Where somebody stands in a room: what page, JSON and live page are made from.

use jiff::Timestamp;
use serde_json::{Value, json};
use tidegate_filters::seats::{
    room::{Order, Room, Stage, Waiting},
    token::TOKENS_MAX,
};

use crate::{own::url, reply::claimable, trace::Trace};

/// Rooms one visitor may wait in at the same time: a ticket and a pass each are what is looked at.
pub const ROOMS_AT_ONCE_MAX: usize = TOKENS_MAX / 2;

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
}

impl State<'_> {
    /// As scripts and apps read it.
    pub fn json(&self) -> Value {
        let w = self.waiting;
        let claim = w.and_then(|w| claimable(w.stage)).map(|expires_in_s| {
            json!({
                "method": "POST",
                "url": url(self.trace, "claim"),
                "extend": { "method": "POST", "url": url(self.trace, "extend") },
                "expires_in_s": expires_in_s,
            })
        });
        json!({
            "state": self.name,
            "room": self.room.name(),
            "place": w.and_then(|w| w.place).map(|p| p.number),
            "ahead": w.map(|w| w.ahead),
            "wait_s": w.and_then(|w| w.wait_s).map(|(low, high)| [low, high]),
            "stock_percent": w.and_then(|w| w.stock_percent),
            "because": w.and_then(|w| w.because).map(|c| c.name()),
            "poll_after_s": w.map(|w| w.poll_after_s.max(1)),
            "opens_in_s": w.and_then(|w| opens_in_s(w.stage)),
            "claim": claim,
            "restarted": w.is_some_and(|w| w.restarted),
            "message": self.room.current_message(),
            "events_url": self.events_url(),
            "waitingRoom": self.known_names(),
        })
    }

    /// Where a live page of this room listens.
    pub fn events_url(&self) -> String {
        format!("{}?room={}", url(self.trace, "events"), self.room.name())
    }

    /// The fields app developers know from another waiting room's JSON, under their names and in their units (minutes).
    fn known_names(&self) -> Value {
        let w = self.waiting;
        let minutes = |s: u32| s.div_ceil(60);
        let quartile = |share: f64| {
            let (low, high) = w?.wait_s?;
            // Between P10 and P90 a straight line is as good as what is known.
            Some(minutes(low + (f64::from(high - low) * share).round() as u32))
        };
        let opens_min = w.and_then(|w| opens_in_s(w.stage)).map(minutes);
        let (in_event, ends_min) = self.event();
        let said =
            |m: Option<u32>| m.map_or("unavailable".to_owned(), |m| format!("{m} minute{}", if m == 1 { "" } else { "s" }));
        let method = if self.room.settings().order == Order::Fifo { "fifo" } else { "random" };
        let wait = quartile(0.5);
        json!({
            "inWaitingRoom": self.name != "seated",
            "waitTimeKnown": wait.is_some(),
            "waitTime": wait.unwrap_or(0),
            "waitTime25Percentile": quartile(0.1875).unwrap_or(0),
            "waitTime50Percentile": wait.unwrap_or(0),
            "waitTime75Percentile": quartile(0.8125).unwrap_or(0),
            "waitTimeFormatted": said(wait),
            "queueIsFull": w.is_some_and(|w| w.stage == Stage::Full),
            "queueAll": w.is_some_and(|w| matches!(w.stage, Stage::Paused | Stage::Prequeue { .. })),
            "lastUpdated": self.now_text(),
            "refreshIntervalSeconds": w.map_or(0, |w| w.poll_after_s.max(1)),
            "queueingMethod": method,
            "isFIFOQueue": method == "fifo",
            "isRandomQueue": method == "random",
            "isPassthroughQueue": false,
            "isRejectQueue": false,
            "isEventActive": in_event,
            "isEventPrequeueing": opens_min.is_some(),
            "timeUntilEventStart": opens_min.unwrap_or(0),
            "timeUntilEventStartFormatted": said(opens_min),
            "timeUntilEventEnd": ends_min.unwrap_or(0),
            "timeUntilEventEndFormatted": said(ends_min),
            "shuffleAtEventStart": method == "random" && opens_min.is_some(),
        })
    }

    /// Whether a sale is on (or its pre-queue), and the minutes until its end.
    fn event(&self) -> (bool, Option<u32>) {
        let now = self.trace.started;
        let closes_ms = self.room.sale_now(now).map(|s| s.closes_ms);
        let ends = closes_ms.map(|c| c.saturating_sub(now.wall_ms).div_ceil(60_000).min(u64::from(u32::MAX)) as u32);
        (ends.is_some(), ends)
    }

    fn now_text(&self) -> String {
        let ms = i64::try_from(self.trace.started.wall_ms).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |t| format!("{t:.3}"))
    }
}

/// Seconds until the sale opens, before it does.
pub fn opens_in_s(stage: Stage) -> Option<u32> {
    match stage {
        Stage::Prequeue { opens_in_s } => Some(opens_in_s),
        _ => None,
    }
}
