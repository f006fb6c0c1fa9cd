//! The only file that reads a clock. Everything else is handed a [`Now`].

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tidegate_filters::Now;

/// A wall-clock step larger than this against the monotonic clock is not believed at once.
pub const STEP_MS_MAX: i64 = 2_000;
/// A larger step is believed when the wall clock still says so after this long on the monotonic clock.
pub const CONFIRM_MS: u64 = 60_000;

/// Both clocks of one gate. The wall time it gives never steps back.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    /// Wall milliseconds at monotonic zero, as believed now.
    offset_ms: AtomicI64,
    /// Monotonic milliseconds at which an unbelieved step was first seen; 0 when none is pending.
    doubted_since_ms: AtomicU64,
    /// The latest wall time given out.
    last_wall_ms: AtomicU64,
    /// Test hook: added to both clocks.
    ahead_ms: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Monotonic zero is now.
    pub fn new() -> Self {
        let clock = Clock {
            start: Instant::now(),
            offset_ms: AtomicI64::new(0),
            doubted_since_ms: AtomicU64::new(0),
            last_wall_ms: AtomicU64::new(0),
            ahead_ms: AtomicU64::new(0),
        };
        clock.offset_ms.store(system_ms(), Ordering::Relaxed);
        clock
    }

    /// The instant for one visit, one tick or one plan.
    pub fn now(&self) -> Now {
        let ahead_ms = self.ahead_ms.load(Ordering::Relaxed);
        let mono_ns = self.mono_ns();
        Now { mono_ns, wall_ms: self.wall(mono_ns / 1_000_000, system_ms() + ahead_ms as i64) }
    }

    /// Only the monotonic half, for durations.
    pub fn mono_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64 + self.ahead_ms.load(Ordering::Relaxed) * 1_000_000
    }

    /// Moves both clocks ahead. For tests.
    pub fn advance(&self, ms: u64) {
        self.ahead_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Follows small corrections of the system clock, ignores steps until they have lasted.
    fn wall(&self, mono_ms: u64, system_ms: i64) -> u64 {
        let believed = self.offset_ms.load(Ordering::Relaxed) + mono_ms as i64;
        let drift = system_ms - believed;
        let wall = if drift.abs() <= STEP_MS_MAX {
            self.doubted_since_ms.store(0, Ordering::Relaxed);
            if drift != 0 {
                self.offset_ms.fetch_add(drift, Ordering::Relaxed);
            }
            system_ms
        } else {
            match self.doubted_since_ms.load(Ordering::Relaxed) {
                0 => self.doubted_since_ms.store(mono_ms.max(1), Ordering::Relaxed),
                since if mono_ms.saturating_sub(since) >= CONFIRM_MS => {
                    self.offset_ms.fetch_add(drift, Ordering::Relaxed);
                    self.doubted_since_ms.store(0, Ordering::Relaxed);
                }
                _ => {}
            }
            believed
        };
        let wall = wall.max(0) as u64;
        self.last_wall_ms.fetch_max(wall, Ordering::Relaxed).max(wall)
    }
}

fn system_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(d) => d.as_millis() as i64,
        Err(e) => -(e.duration().as_millis() as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset_ms: i64) -> Clock {
        let clock = Clock::new();
        clock.offset_ms.store(offset_ms, Ordering::Relaxed);
        clock
    }

    #[test]
    fn small_corrections_are_followed_and_time_never_steps_back() {
        let c = at(1_000_000);
        assert_eq!(c.wall(10, 1_000_010), 1_000_010);
        assert_eq!(c.wall(20, 1_001_020), 1_001_020, "a second ahead is a correction");
        assert_eq!(c.wall(30, 1_000_030), 1_001_020, "back by a second: stands still");
        assert_eq!(c.wall(2_000, 1_002_000), 1_002_000);
    }

    #[test]
    fn a_step_is_ignored_until_it_has_lasted() {
        let c = at(1_000_000);
        let hour = 3_600_000;
        assert_eq!(c.wall(10, 1_000_010 + hour), 1_000_010);
        assert_eq!(c.wall(30_000, 1_030_000 + hour), 1_030_000);
        assert_eq!(c.wall(40_000, 1_040_000), 1_040_000, "it went away again: forgotten");
        assert_eq!(c.wall(50_000, 1_050_000 + hour), 1_050_000);
        assert_eq!(c.wall(110_000, 1_110_000 + hour), 1_110_000, "confirmed by now, believed from the next reading on");
        assert_eq!(c.wall(110_001, 1_110_001 + hour), 1_110_001 + hour as u64);
    }

    #[test]
    fn both_clocks_move_together() {
        let c = Clock::new();
        let a = c.now();
        c.advance(5_000);
        let b = c.now();
        assert!(b.mono_ms() >= a.mono_ms() + 5_000);
        assert!(b.wall_ms >= a.wall_ms + 4_999);
    }
}
