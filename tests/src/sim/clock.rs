//! Simulated time: one clock for the whole world, and what each process believes of it.

use std::time::Duration;

use tidemill_model::time::{Instant, Timestamp};

/// Microseconds since the simulation began.
pub(crate) type Time = u64;

pub(crate) const MILLISECOND: Time = 1000;
pub(crate) const SECOND: Time = 1000 * MILLISECOND;

/// The wall clock at the beginning of every simulation, in milliseconds since the epoch.
pub(crate) const BEGINNING: u64 = 1_800_000_000_000;

/// What one process takes for the time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProcessClock {
    /// Its monotonic clock began this much earlier: it differs from process to process.
    pub(crate) origin: Time,
    /// Its wall clock is behind by this many milliseconds.
    pub(crate) behind_ms: u64,
}

impl ProcessClock {
    pub(crate) fn instant(self, now: Time) -> Instant {
        Instant::from_origin(Duration::from_micros(now + self.origin))
    }

    pub(crate) fn wall(self, now: Time) -> Timestamp {
        Timestamp(BEGINNING + now / MILLISECOND - self.behind_ms)
    }
}
