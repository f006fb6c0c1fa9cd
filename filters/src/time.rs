//! The instant a decision is taken at. The shell reads both clocks once a visit; every rule and the journal row agree.

/// An instant: durations are measured on `mono_ms`, schedules and tokens on `wall_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds of a monotonic clock since the process (or the simulation) began.
    pub mono_ns: u64,
    /// Milliseconds since the Unix epoch, slewed by the shell so that it never steps back.
    pub wall_ms: u64,
}

impl Now {
    /// An instant where both clocks started at the given wall time; `mono_ms` after the start. For tests and simulation.
    pub const fn at(wall_start_ms: u64, mono_ms: u64) -> Self {
        Now { mono_ns: mono_ms * 1_000_000, wall_ms: wall_start_ms + mono_ms }
    }

    /// Milliseconds of the monotonic clock.
    pub const fn mono_ms(self) -> u64 {
        self.mono_ns / 1_000_000
    }

    /// Whole seconds of the monotonic clock.
    pub const fn mono_s(self) -> u64 {
        self.mono_ns / 1_000_000_000
    }
}
