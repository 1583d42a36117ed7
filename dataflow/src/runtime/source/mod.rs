//! Where records come from.

mod collection;
mod enumerate;
mod error;
mod files;
mod generator;
mod lines;
mod read_splits;
mod records;
mod sequence;
mod socket;
mod split;
mod split_output;
mod text;
mod times;
mod watermark_group;

pub use collection::CollectionSource;
pub use enumerate::add_source;
pub use error::Error;
pub use files::{FileSplit, FileSplits};
pub use generator::GeneratorSource;
pub use lines::LINE_BYTES_MAX;
pub use read_splits::FromSplits;
pub use records::{BadRecords, RecordSource};
pub use sequence::SequenceSource;
pub use socket::{Reconnect, SocketTextSource};
pub use split::{Boundedness, Discovery, Source, SourceOutput, SplitEnumerator, SplitReader};
pub use text::TextSource;
pub use times::{NoTimes, SplitTimes, Times, WithTimes};
pub(crate) use watermark_group::{AlignedSubtask, SharedGroup};

use std::time::Duration;

use tidemill_model::execution::Failure;

use crate::push::{Push, Stopped};
use crate::record::Data;
use crate::runtime::task::TaskContext;

/// A source whose sub-tasks know their shares by themselves: nobody enumerates splits for them.
pub trait PlainSource: Clone + Send + Sync + 'static {
    /// The records.
    type Out: Data;
    /// What one sub-task reads with.
    type Reader: PlainReader<Self::Out> + 'static;

    /// Opens one sub-task's share, from this position on, if there is one.
    ///
    /// # Errors
    /// There is nothing to read from.
    fn open(
        &self,
        context: &TaskContext,
        position: Option<<Self::Reader as PlainReader<Self::Out>>::Position>,
    ) -> Result<Self::Reader, Failure>;
}

/// How a source goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// There is more at once.
    More,
    /// There may be more after this time.
    Wait(Duration),
    /// There is nothing more.
    Ended,
}

/// One sub-task's share of a plain source.
pub trait PlainReader<T> {
    /// How far it has read, for checkpoints.
    type Position: Data;

    /// How far it has read: a reader that is opened there emits exactly what is left.
    fn position(&self) -> Self::Position;

    /// Emits some records: about as many as fill a batch, so that the task can look into its mailbox in between.
    ///
    /// # To ensure correctness
    /// It does not wait: [`Reading::Wait`] says for how long the task shall.
    ///
    /// # Errors
    /// The task was stopped, or the source failed it.
    fn read<N: Push<T>>(&mut self, next: &mut N, context: &TaskContext) -> Result<Reading, Stopped>;
}
