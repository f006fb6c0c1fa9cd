//! Live seats never grow past `seats.max`.

use std::collections::BTreeMap;

use super::{
    Event, Found, Log, Violation,
    log::{At, SeatName, What},
};

/// The gate's clock of seats ticks in whole seconds: a seat may end up to this much before its time, and is swept up to
/// this much after.
pub(super) const SECOND_US: u64 = 1_000_000;

/// At every grant the live seats, this one included, are at most `seats.max`. A seat is live from its grant until it is
/// given back, unused for `pass_idle`, or as old as `pass_age_max`. Lowering `seats.max` evicts nobody.
pub fn live_seats_within_max(log: &Log) -> Vec<Violation> {
    let mut found = Found::new("live_seats_within_max", log);
    for room in 0..log.rooms.len() {
        let lives = lives(log, room);
        // Ends before grants at the same instant.
        let mut steps: Vec<(u64, bool)> =
            lives.values().flat_map(|l| [(l.from_us, true), (l.ends_at_least(log.slack_us), false)]).collect();
        steps.sort_unstable();
        let maxima: Vec<(u64, u32)> = log.of_room(room).filter_map(seats_max).collect();
        let mut live = 0i64;
        for (at_us, grant) in steps {
            live += if grant { 1 } else { -1 };
            let max = max_in_force(&maxima, at_us, log.slack_us + log.plan_slack_us);
            if grant && live > i64::from(max) {
                found.add(room, at_us, format!("{live} seats are live, at most {max} may be"));
            }
        }
    }
    found.list
}

/// A seat is kept for somebody who has not come for it as long as a call is; then it is taken back.
pub fn nothing_is_kept_for_ever(log: &Log) -> Vec<Violation> {
    let mut found = Found::new("nothing_is_kept_for_ever", log);
    for room in 0..log.rooms.len() {
        let (mut window_us, mut kept) = (u64::MAX / 4, BTreeMap::new());
        for e in log.of_room(room) {
            // Whoever is late has it all the same, until it is taken back.
            let over = kept.extract_if(.., |_, (_, until_us)| e.at_us > *until_us + 2 * SECOND_US + log.slack_us);
            for (_, (seat, until_us)) in over {
                found.add(room, e.at_us, format!("{} is kept, and nobody came for it by {}", SeatName(seat), At(until_us)));
            }
            match e.what {
                What::Rules { claim_window_us, .. } => window_us = claim_window_us,
                What::Kept { seat, .. } => drop(kept.insert(seat.to_bits(), (seat, e.at_us + window_us))),
                What::Seated { seat, .. } | What::Released(seat) | What::Withdrawn { seat, .. } => {
                    kept.remove(&seat.to_bits());
                }
                _ => {}
            }
        }
    }
    found.list
}

/// From grant to end, as far as the log tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    /// When it was granted.
    pub(super) from_us: u64,
    /// When it was given back.
    pub(super) released_us: Option<u64>,
    /// When it is too old for any use.
    pub(super) too_old_us: u64,
    /// The same where it was kept for a while before its grant, of which a journal says nothing.
    kept_too_old_us: u64,
    /// The first use after it had expired: when, and when it expired.
    pub(super) late: Option<(u64, u64)>,
    /// When it expires unless it is used again; a use never brings it forward.
    expires_us: u64,
}

impl Life {
    /// It was live at least until then.
    pub(super) fn ends_at_least(&self, slack_us: u64) -> u64 {
        let expires = self.expires_us.min(self.kept_too_old_us).saturating_sub(SECOND_US);
        let end = self.released_us.map_or(expires, |r| r.min(expires));
        end.saturating_sub(slack_us).max(self.from_us + 1)
    }

    /// It was dead and swept at the latest then.
    pub(super) fn ends_at_most(&self, slack_us: u64) -> u64 {
        let expires = self.expires_us.min(self.too_old_us) + 2 * SECOND_US;
        self.released_us.map_or(expires, |r| r.min(expires)) + slack_us
    }

    fn used(&mut self, at_us: u64, idle_us: u64, slack_us: u64) {
        if at_us > self.expires_us + SECOND_US + slack_us {
            self.late.get_or_insert((at_us, self.expires_us));
        }
        self.expires_us = self.expires_us.max(at_us + idle_us);
    }
}

/// Every seat and generation that was granted.
pub(super) fn lives(log: &Log, room: usize) -> BTreeMap<u64, Life> {
    let mut lives: BTreeMap<u64, Life> = BTreeMap::new();
    let (mut idle, mut age, mut kept) = (u64::MAX / 4, u64::MAX / 4, 0);
    for e in log.of_room(room) {
        match e.what {
            What::Rules { idle_us, age_us, claim_window_us, .. } => (idle, age, kept) = (idle_us, age_us, claim_window_us),
            What::Seated { seat, .. } | What::Kept { seat, .. } => {
                let (from_us, too_old_us, expires_us) = (e.at_us, e.at_us + age, e.at_us + idle);
                let kept_us = if log.slack_us > 0 { kept } else { 0 };
                let kept_too_old_us = too_old_us.saturating_sub(kept_us);
                let new = Life { from_us, released_us: None, too_old_us, kept_too_old_us, late: None, expires_us };
                lives.entry(seat.to_bits()).or_insert(new).used(e.at_us, idle, log.slack_us);
            }
            What::Used(seat) => {
                if let Some(life) = lives.get_mut(&seat.to_bits()) {
                    life.used(e.at_us, idle, log.slack_us);
                }
            }
            What::Released(seat) | What::Withdrawn { seat, .. } => {
                if let Some(life) = lives.get_mut(&seat.to_bits()) {
                    life.released_us.get_or_insert(e.at_us);
                }
            }
            _ => {}
        }
    }
    lives
}

fn seats_max(e: &Event) -> Option<(u64, u32)> {
    match e.what {
        What::Plan { seats_max, .. } => Some((e.at_us, seats_max)),
        _ => None,
    }
}

/// The largest that may have been in force at an instant.
fn max_in_force(maxima: &[(u64, u32)], at_us: u64, slack_us: u64) -> u32 {
    let until = maxima.partition_point(|m| m.0 <= at_us + slack_us);
    let from = maxima.partition_point(|m| m.0 + slack_us < at_us).saturating_sub(1);
    maxima[from.min(until)..until].iter().map(|m| m.1).max().unwrap_or(0)
}
