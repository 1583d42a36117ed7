//! Randomised, growing pauses between tries.

use std::time::Duration;

/// Doubles from its first to its longest pause; each pause is random between half and all of that, so that many
/// task managers do not return in step.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    initial: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, next: initial }
    }

    /// Starts again at the first pause.
    pub(crate) fn reset(&mut self) {
        self.next = self.initial;
    }

    /// Sleeps, and makes the next pause longer.
    pub(crate) async fn pause(&mut self) {
        let pause = self.next.mul_f64(rand::random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.max);
        tokio::time::sleep(pause).await;
    }
}
