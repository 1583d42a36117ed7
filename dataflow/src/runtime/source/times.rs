//! How the records of a source get event times: split by split, so that each has watermarks of its own.

use std::time::Duration;

use crate::operator::WatermarkGenerator;
use crate::record::Timestamp;

/// Gives the records of each split their event times.
pub trait Times<T>: Clone + Send + Sync + 'static {
    /// What it remembers of one split.
    type Split: SplitTimes<T> + 'static;

    /// Whether it gives any times: if not, the source sends no watermarks.
    const ASSIGNS: bool;

    /// A split begins.
    fn begin(&self) -> Self::Split;

    /// Milliseconds without a record after which a split counts as idle.
    fn idle_after_ms(&self) -> Option<Timestamp>;
}

/// The event time of one split.
pub trait SplitTimes<T> {
    /// The time of a record that was emitted with `time`, and a watermark that is sent at once.
    fn on_record(&mut self, record: &T, time: Timestamp) -> (Timestamp, Option<Timestamp>);

    /// The watermark that is sent now and then.
    fn on_interval(&mut self) -> Option<Timestamp>;
}

/// Leaves records the times that they were emitted with.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTimes;

impl<T> Times<T> for NoTimes {
    type Split = Self;

    const ASSIGNS: bool = false;

    fn begin(&self) -> Self {
        Self
    }

    fn idle_after_ms(&self) -> Option<Timestamp> {
        None
    }
}

impl<T> SplitTimes<T> for NoTimes {
    #[inline(always)]
    fn on_record(&mut self, _record: &T, time: Timestamp) -> (Timestamp, Option<Timestamp>) {
        (time, None)
    }

    fn on_interval(&mut self) -> Option<Timestamp> {
        None
    }
}

/// Times by an assigner and watermarks by a generator, of which each split has a clone.
#[derive(Debug, Clone)]
pub struct WithTimes<F, G> {
    assigner: F,
    generator: G,
    idle_after_ms: Option<Timestamp>,
}

impl<F, G> WithTimes<F, G> {
    /// A split without records for `idle` does not hold back others.
    pub fn new(assigner: F, generator: G, idle: Option<Duration>) -> Self {
        let idle_after_ms = idle.map(|idle| Timestamp::try_from(idle.as_millis()).unwrap_or(Timestamp::MAX));
        Self { assigner, generator, idle_after_ms }
    }
}

impl<T, F, G> Times<T> for WithTimes<F, G>
where
    F: FnMut(&T) -> Timestamp + Clone + Send + Sync + 'static,
    G: WatermarkGenerator<T>,
{
    type Split = Self;

    const ASSIGNS: bool = true;

    fn begin(&self) -> Self {
        self.clone()
    }

    fn idle_after_ms(&self) -> Option<Timestamp> {
        self.idle_after_ms
    }
}

impl<T, F: FnMut(&T) -> Timestamp, G: WatermarkGenerator<T>> SplitTimes<T> for WithTimes<F, G> {
    #[inline(always)]
    fn on_record(&mut self, record: &T, _time: Timestamp) -> (Timestamp, Option<Timestamp>) {
        let time = (self.assigner)(record);
        (time, self.generator.on_record(record, time))
    }

    fn on_interval(&mut self) -> Option<Timestamp> {
        self.generator.on_interval()
    }
}
