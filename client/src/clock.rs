//! The client's only clock.

use std::time::Instant;
#[cfg(feature = "cli")]
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[cfg(feature = "cli")]
use tidemill_model::time::Timestamp;

/// What the monotonic clock says.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// What the wall clock says.
#[cfg(feature = "cli")]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub(crate) fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
