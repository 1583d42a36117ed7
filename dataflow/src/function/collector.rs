//! Gathers what a user's function emits, to be sent on when it returns.

use crate::push::{Push, Stopped};
use crate::record::Timestamp;

/// Takes the records that a function emits.
#[derive(Debug)]
pub struct Collector<T> {
    records: Vec<(T, Timestamp)>,
    time: Timestamp,
}

impl<T> Default for Collector<T> {
    fn default() -> Self {
        Self { records: Vec::new(), time: crate::record::NO_TIME }
    }
}

impl<T> Collector<T> {
    /// Emits a record with the event time of what caused it: the record or the timer.
    #[inline]
    pub fn emit(&mut self, record: T) {
        self.records.push((record, self.time));
    }

    /// Emits a record with an event time of its own, which must be after the last watermark, or it will be late.
    #[inline]
    pub fn emit_at(&mut self, record: T, time: Timestamp) {
        self.records.push((record, time));
    }

    /// The event time of what is emitted from now on.
    #[inline]
    pub(crate) fn set_time(&mut self, time: Timestamp) {
        self.time = time;
    }

    /// Sends on what was emitted.
    #[inline]
    pub(crate) fn drain_into<N: Push<T>>(&mut self, next: &mut N) -> Result<(), Stopped> {
        self.records.drain(..).try_for_each(|(record, time)| next.push(record, time))
    }
}
