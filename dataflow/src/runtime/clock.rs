//! The only place where the data flow reads a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::record::Timestamp;

/// What a sub-task takes processing time from.
#[derive(Debug, Clone)]
pub enum ProcessingClock {
    /// The machine's clock.
    System,
    /// One that is set by hand, for tests of operators.
    Manual(Arc<AtomicI64>),
}

impl ProcessingClock {
    /// Milliseconds since the epoch.
    #[expect(clippy::disallowed_methods, reason = "this module is the clock")]
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::try_from(since.as_millis()).unwrap_or(Timestamp::MAX)
            }
            Self::Manual(time) => time.load(Ordering::Relaxed),
        }
    }

    /// How long to sleep until this time; none: nobody knows when the clock will be set, and whoever does sends
    /// something along.
    #[must_use]
    pub fn until(&self, time: Timestamp) -> Option<Duration> {
        let left = u64::try_from(time.saturating_sub(self.now())).unwrap_or(0);
        match self {
            Self::Manual(_) if left > 0 => None,
            Self::System | Self::Manual(_) => Some(Duration::from_millis(left)),
        }
    }
}

/// A running stop-watch.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    started: Instant,
}

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "this module is the clock")]
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
