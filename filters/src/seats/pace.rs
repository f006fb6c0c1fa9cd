//! What waiting visitors are told about time: how long, and when to ask again.

use super::{answer::Stage, queue::TIME_MAX_S};
use crate::time::Now;

/// P10–P90 of the wait for `people` served at `rate` a second: Poisson spread, and ±15 % for a rate that drifts.
pub(super) fn wait_interval(people: f64, rate: f64) -> Option<(u32, u32)> {
    if rate < 1e-3 {
        return None;
    }
    let spread = 1.28 * people.sqrt();
    let low = 0.85 * (people - spread).max(0.0) / rate;
    let high = 1.15 * (people + spread) / rate + 1.0;
    Some((low.min(86_400.0) as u32, high.min(86_400.0).ceil() as u32))
}

/// Grows with the wait, so that polls a visitor makes are few; spread by number, so that they do not come together.
pub(super) fn poll_after(stage: Stage, wait_s: Option<(u32, u32)>, number: u32) -> u32 {
    let base = match stage {
        Stage::Called { .. } | Stage::Next => 2,
        Stage::Prequeue { opens_in_s } if opens_in_s <= 20 => return opens_in_s + 1 + number % 3,
        Stage::Prequeue { opens_in_s } => (opens_in_s / 4).clamp(5, 60),
        Stage::Waiting => wait_s.map_or(5, |(low, _)| low / 4).clamp(2, 120),
        Stage::Paused => 15,
        Stage::Full => 60,
    };
    base + number.wrapping_mul(2_654_435_769) % (1 + base / 4)
}

/// Seconds of the room's clock; from 1, since 0 has a meaning of its own in the words of places and seats.
pub(super) fn clock_s(now: Now) -> u32 {
    (now.mono_s() + 1).min(u64::from(TIME_MAX_S)) as u32
}
