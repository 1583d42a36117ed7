//! The only place of this crate that reads clocks.

use std::time::SystemTime;

use rustix::time::{ClockId, clock_gettime};

/// The machine's monotonic clock, the same for all of its processes.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or_default() * 1_000_000_000 + nanos.unwrap_or_default()
}

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub(crate) fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
