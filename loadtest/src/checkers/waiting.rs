//! Nobody present waits for ever while seats and tokens are free.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Found, Log, Violation,
    log::{At, Name, What},
    seats::lives,
};

/// Beyond the claim window, for ticks, whole seconds and the planner's next step.
const GRACE_US: u64 = 5_000_000;

/// When a token and a seat are free for longer than a claim window, and in all that time nobody is called or seated, then
/// nobody may be told to wait.
pub fn nobody_waits_for_ever(log: &Log) -> Vec<Violation> {
    let mut found = Found::new("nobody_waits_for_ever", log);
    for room in 0..log.rooms.len() {
        check(log, room, &mut found);
    }
    found.list
}

/// What the gate could give, by the log.
#[derive(Default)]
struct Free {
    tokens: f64,
    refill_per_s: f64,
    burst: f64,
    seats_max: u32,
    at_us: u64,
    closed: bool,
    stock: Option<u64>,
    sold: u64,
    /// Nobody is let in without a unit that nobody has reserved, and at the last look there was none.
    all_reserved: bool,
}

impl Free {
    fn advance(&mut self, at_us: u64) {
        let gained = self.refill_per_s * at_us.saturating_sub(self.at_us) as f64 / 1e6;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.at_us = at_us;
    }

    fn is_free(&self, live: i64) -> bool {
        let left = self.stock.is_none_or(|s| self.sold < s) && !self.all_reserved;
        // A tenth more than a token: the gate refills at its ticks.
        !self.closed && left && self.tokens >= 1.1 && live < i64::from(self.seats_max)
    }
}

fn check(log: &Log, room: usize, found: &mut Found<'_>) {
    let mut steps: Vec<(u64, i64)> =
        lives(log, room).values().flat_map(|l| [(l.from_us, 1), (l.ends_at_most(log.slack_us).max(l.from_us), -1)]).collect();
    steps.sort_unstable();
    let mut steps = steps.into_iter().peekable();
    let mut free = Free { burst: 1.0, ..Free::default() };
    let mut reserves = false;
    let (mut live, mut window_us, mut stuck_since, mut frontier, mut told_at_us) = (0i64, 0u64, None, [0u32; 2], 0u64);
    let mut known = BTreeSet::new();
    let (mut called, mut came, mut lot) = (BTreeSet::new(), BTreeMap::new(), 1u32);
    for e in log.of_room(room) {
        free.advance(e.at_us);
        while let Some((_, step)) = steps.next_if(|s| s.0 <= e.at_us) {
            live += step;
        }
        let progress = match e.what {
            What::Plan { refill_per_s, burst, seats_max } => {
                (free.refill_per_s, free.burst, free.seats_max) = (refill_per_s, burst.max(1.0), seats_max);
                free.tokens = free.tokens.min(free.burst);
                false
            }
            What::Rules { claim_window_us, reserve_us, .. } => {
                (window_us, reserves) = (window_us.max(claim_window_us), reserve_us > 0);
                false
            }
            What::Units(u) => {
                free.all_reserved = reserves && u.free.is_some_and(|n| n <= u.reserved);
                false
            }
            What::Closed(closed) => {
                free.closed = closed;
                false
            }
            What::Stock(units) => {
                (free.stock, free.sold, free.all_reserved) = (units, 0, false);
                false
            }
            What::Sold(units) | What::HoldEnded { sold: Some(units), .. } => {
                free.sold += u64::from(units);
                false
            }
            What::HoldSent { units, .. } => {
                lot = units;
                false
            }
            // Nobody can buy what nobody knows about.
            What::HoldEnded { sold: None, .. } => {
                free.sold += u64::from(lot);
                false
            }
            What::Seated { seat, .. } | What::Kept { seat, .. } if known.insert(seat.to_bits()) => {
                free.tokens -= 1.0;
                true
            }
            What::Frontier(f) => std::mem::replace(&mut frontier, f) != f,
            What::Told { place, called: true } => called.insert(place),
            What::Joined(place) => {
                came.insert(place, e.at_us);
                false
            }
            _ => false,
        };
        if progress || !free.is_free(live) {
            stuck_since = None;
            continue;
        }
        let stuck = *stuck_since.get_or_insert(e.at_us);
        let What::Told { place, called: false } = e.what else { continue };
        let since = came.get(&place).copied().unwrap_or(0).max(stuck);
        let limit_us = window_us + GRACE_US + log.slack_us + log.plan_slack_us;
        if e.at_us > since + limit_us && e.at_us > told_at_us + limit_us {
            told_at_us = e.at_us;
            let there = format!("{:.1} tokens and {} of {} seats", free.tokens, i64::from(free.seats_max) - live, free.seats_max);
            found.add(
                room,
                e.at_us,
                format!("{} waits; {there} are free and nobody was called since {}", Name(place), At(since)),
            );
        }
    }
}
