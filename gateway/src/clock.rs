//! The only file that reads a clock. Everything else is handed a [`Now`].
//!
//! Durations are measured on the monotonic clock. The wall clock follows the system's in small corrections; a larger step is
//! not believed until an operator says so ([`Clock::accept`]): it would open or close a sale. Over a restart time goes on
//! from what was [kept](Kept), so it never runs back.

use std::{
    fs,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tidegate_filters::Now;

/// A wall-clock step larger than this against the monotonic clock is not believed, milliseconds.
pub const STEP_MS_MAX: i64 = 2_000;

/// Both clocks of one gate. The wall time it gives never steps back.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    /// Wall milliseconds at monotonic zero, as believed now.
    offset_ms: AtomicI64,
    /// By how much the system's clock differs from what is believed, while that is more than a correction; else 0.
    doubt_ms: AtomicI64,
    /// The latest wall time given out.
    last_wall_ms: AtomicU64,
    /// Test hooks: added to both clocks, and to the system's wall clock alone.
    ahead_ms: AtomicU64,
    step_ms: AtomicI64,
}

/// What outlives the process: the latest wall time, and when that was by a clock that nobody sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Unix milliseconds.
    pub wall_ms: u64,
    /// Milliseconds since the machine was booted.
    pub uptime_ms: u64,
    /// Which boot that was.
    pub boot: String,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Monotonic zero is now; the system's clock is believed.
    pub fn new() -> Self {
        Self::after(None)
    }

    /// Goes on after what an earlier life kept.
    pub fn after(kept: Option<&Kept>) -> Self {
        let system_ms = system_ms();
        let (offset_ms, last_wall_ms) = match kept {
            Some(kept) => (begin(system_ms, kept, &uptime()), kept.wall_ms),
            None => (system_ms, 0),
        };
        Clock {
            start: Instant::now(),
            offset_ms: AtomicI64::new(offset_ms),
            doubt_ms: AtomicI64::new(0),
            last_wall_ms: AtomicU64::new(last_wall_ms),
            ahead_ms: AtomicU64::new(0),
            step_ms: AtomicI64::new(0),
        }
    }

    /// The instant for one visit, one tick or one plan.
    pub fn now(&self) -> Now {
        let ahead_ms = self.ahead_ms.load(Ordering::Relaxed);
        let mono_ns = self.mono_ns();
        let system_ms = system_ms() + ahead_ms as i64 + self.step_ms.load(Ordering::Relaxed);
        Now { mono_ns, wall_ms: self.wall(mono_ns / 1_000_000, system_ms) }
    }

    /// By how many milliseconds the system's clock has stepped away from what is believed; 0 while all is well.
    pub fn doubt_ms(&self) -> i64 {
        self.doubt_ms.load(Ordering::Relaxed)
    }

    /// An operator says that the system's clock is right. Ahead, time jumps to it; behind, time stands still until it is
    /// reached.
    pub fn accept(&self) {
        self.offset_ms.fetch_add(self.doubt_ms.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// What a restart goes on after.
    pub fn keep(&self) -> Kept {
        Kept { wall_ms: self.now().wall_ms, ..uptime() }
    }

    /// Only the monotonic half, for durations.
    pub fn mono_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64 + self.ahead_ms.load(Ordering::Relaxed) * 1_000_000
    }

    /// Moves both clocks ahead. For tests.
    pub fn advance(&self, ms: u64) {
        self.ahead_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Steps the system's wall clock. For tests.
    pub fn step(&self, ms: i64) {
        self.step_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Follows small corrections of the system clock, ignores steps.
    fn wall(&self, mono_ms: u64, system_ms: i64) -> u64 {
        let believed = self.offset_ms.load(Ordering::Relaxed) + mono_ms as i64;
        let drift = system_ms - believed;
        let wall = if drift.abs() <= STEP_MS_MAX {
            if drift != 0 {
                self.offset_ms.fetch_add(drift, Ordering::Relaxed);
            }
            if self.doubt_ms.load(Ordering::Relaxed) != 0 {
                self.doubt_ms.store(0, Ordering::Relaxed);
            }
            system_ms
        } else {
            self.doubt_ms.store(drift, Ordering::Relaxed);
            believed
        };
        let wall = wall.max(0) as u64;
        self.last_wall_ms.fetch_max(wall, Ordering::Relaxed).max(wall)
    }
}

/// Where the wall clock of a new life begins.
fn begin(system_ms: i64, kept: &Kept, now: &Kept) -> i64 {
    let kept_ms = kept.wall_ms as i64;
    if kept.boot.is_empty() || kept.boot != now.boot {
        // Nothing but the system's clock knows how long the machine was off.
        return system_ms.max(kept_ms);
    }
    let believed = kept_ms + now.uptime_ms.saturating_sub(kept.uptime_ms) as i64;
    if (system_ms - believed).abs() <= STEP_MS_MAX { system_ms.max(kept_ms) } else { believed }
}

/// The machine's own count of time, whatever its clock is set to; without a boot's name where the system has none.
fn uptime() -> Kept {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let seconds = read("/proc/uptime").split(' ').next().and_then(|s| s.parse::<f64>().ok());
    let boot = seconds.map_or_else(String::new, |_| read("/proc/sys/kernel/random/boot_id").trim().to_owned());
    Kept { wall_ms: 0, uptime_ms: (seconds.unwrap_or(0.0) * 1_000.0) as u64, boot }
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

    const HOUR: i64 = 3_600_000;

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
    fn a_step_is_ignored_until_an_operator_accepts_it() {
        let c = at(1_000_000);
        assert_eq!(c.wall(10, 1_000_010 + HOUR), 1_000_010);
        assert_eq!(c.wall(7_200_000, 8_200_000 + HOUR), 8_200_000, "however long it lasts");
        assert_eq!(c.doubt_ms(), HOUR);
        assert_eq!((c.wall(7_200_001, 8_200_001), c.doubt_ms()), (8_200_001, 0), "it went away again: forgotten");
        assert_eq!((c.wall(7_200_002, 8_200_002 - HOUR), c.doubt_ms()), (8_200_002, -HOUR));
        assert_eq!(c.wall(7_200_003, 8_200_003 + HOUR), 8_200_003);
        c.accept();
        assert_eq!((c.wall(7_200_004, 8_200_004 + HOUR), c.doubt_ms()), (8_200_004 + HOUR as u64, 0));
        c.wall(7_200_005, 8_200_005);
        c.accept();
        assert_eq!(c.wall(7_200_006, 8_200_006), 8_200_005 + HOUR as u64, "back: stands still until it is reached");
    }

    #[test]
    fn a_restart_goes_on_where_time_was() {
        let kept = |uptime_ms, boot: &str| Kept { wall_ms: 10_000_000, uptime_ms, boot: boot.into() };
        let now = Kept { wall_ms: 0, uptime_ms: 905_000, boot: "this".into() };
        let same = kept(900_000, "this");
        assert_eq!(begin(10_005_100, &same, &now), 10_005_100, "five seconds passed");
        assert_eq!(begin(10_005_000 + HOUR, &same, &now), 10_005_000, "set ahead while it was down");
        assert_eq!(begin(10_005_000 - HOUR, &same, &now), 10_005_000, "set back while it was down");
        assert_eq!(begin(10_000_000 + HOUR, &kept(900_000, "another"), &now), 10_000_000 + HOUR);
        assert_eq!(begin(10_000_000 - HOUR, &kept(900_000, "another"), &now), 10_000_000, "never back");
        assert_eq!(begin(10_000_000 - HOUR, &kept(0, ""), &Kept { boot: String::new(), ..now }), 10_000_000);
        let c = Clock::after(Some(&Kept { wall_ms: 9_999_999_999_999, uptime_ms: 0, boot: String::new() }));
        assert!(c.now().wall_ms >= 9_999_999_999_999 && !uptime().boot.is_empty());
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
