//! A sink that counts its records and forgets them.

use tidemill_model::execution::Failure;

use super::Sink;
use crate::push::{Push, Stopped};
use crate::record::{Control, Timestamp};
use crate::runtime::task::TaskContext;

/// Forgets every record.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiscardSink;

/// Counts what one sub-task forgets; the count is published now and then.
pub struct DiscardWriter {
    taken: u64,
    context: TaskContext,
}

impl<T> Sink<T> for DiscardSink {
    type Writer = DiscardWriter;

    fn open(&self, context: &TaskContext) -> Result<DiscardWriter, Failure> {
        Ok(DiscardWriter { taken: 0, context: context.clone() })
    }
}

impl<T> Push<T> for DiscardWriter {
    #[inline(always)]
    fn push(&mut self, _record: T, _time: Timestamp) -> Result<(), Stopped> {
        self.taken += 1;
        if self.taken.is_multiple_of(1024) { Push::<T>::flush(self) } else { Ok(()) }
    }

    fn control(&mut self, _control: Control) -> Result<(), Stopped> {
        Push::<T>::flush(self)
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.context.count_out(std::mem::take(&mut self.taken));
        Ok(())
    }
}
