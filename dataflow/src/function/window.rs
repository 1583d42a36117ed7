//! The functions that users write for windows, and what they see of the one that fires.

use tidemill_model::key::Key;

use super::{Collector, KeyedRuntime, OutputTag};
use crate::engine::window::TimeWindow;
use crate::record::{Data, Timestamp};
use crate::runtime::sink::{Subtask, UserError};

/// Makes any number of records of all records of a window, which are kept until then.
pub trait ProcessWindowFunction<K: Key, T>: Clone + Send + Sync + 'static {
    /// What it emits.
    type Out: Data;

    /// Called once in each sub-task, before the first record.
    ///
    /// # Errors
    /// It cannot work; the job fails.
    fn open(&mut self, _subtask: Subtask) -> Result<(), UserError> {
        Ok(())
    }

    /// Takes the records of a window that fires, those of one key; what it emits has the window's last timestamp.
    ///
    /// # Errors
    /// It cannot go on; the job fails.
    fn process(
        &mut self,
        records: &[T],
        context: &mut WindowContext<'_, K>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;
}

/// What a function sees of the window that fires.
pub struct WindowContext<'a, K> {
    pub(crate) key: &'a K,
    pub(crate) window: TimeWindow,
    pub(crate) runtime: &'a mut KeyedRuntime<K>,
}

impl<K: Key> WindowContext<'_, K> {
    /// The key of all records in it.
    #[must_use]
    pub fn key(&self) -> &K {
        self.key
    }

    /// From when to when it lasts.
    #[must_use]
    pub fn window(&self) -> TimeWindow {
        self.window
    }

    /// The event time up to which all records have come; `i64::MIN` before the first watermark.
    #[must_use]
    pub fn watermark(&self) -> Timestamp {
        self.runtime.watermark
    }

    /// Milliseconds since the epoch by the clock.
    #[must_use]
    pub fn processing_time(&self) -> Timestamp {
        self.runtime.task.processing_time()
    }

    /// Emits a record to a side output, with the window's last timestamp.
    pub fn output<S: Data>(&mut self, tag: &OutputTag<S>, record: S) {
        self.runtime.sides.emit(tag, record, self.window.max_timestamp());
    }
}
