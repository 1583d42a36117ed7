//! The only place that reads this process's clock.

use std::sync::LazyLock;

use tidemill_model::time::Instant;

static ORIGIN: LazyLock<std::time::Instant> = LazyLock::new(monotonic);

#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
fn monotonic() -> std::time::Instant {
    std::time::Instant::now()
}

/// The time since this process first asked.
pub(crate) fn now() -> Instant {
    let origin = *ORIGIN;
    Instant::from_origin(monotonic().saturating_duration_since(origin))
}

/// The end of a wait that begins now, on the timers' own clock.
pub(crate) fn deadline(wait: std::time::Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + wait
}
