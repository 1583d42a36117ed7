//! The only clock of the harness: `CLOCK_MONOTONIC`, which all processes of one machine share.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[must_use]
pub fn now() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Nanoseconds since 1970, for people who compare a report with a log.
#[must_use]
pub fn wall() -> u64 {
    nanoseconds(ClockId::Realtime)
}

/// Waits on this thread.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// A length of time in nanoseconds.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Seconds between two times; negative when the second is earlier.
#[must_use]
pub fn seconds(from: u64, to: u64) -> f64 {
    if to >= from { (to - from) as f64 / 1e9 } else { -((from - to) as f64 / 1e9) }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let (seconds, rest) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    seconds * 1_000_000_000 + rest
}
