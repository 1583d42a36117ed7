//! Where records come from.

mod collection;
mod sequence;
mod text;

pub use collection::CollectionSource;
pub use sequence::SequenceSource;
pub use text::TextSource;

use std::time::Duration;

use tidemill_model::execution::Failure;

use crate::push::{Push, Stopped};
use crate::record::Data;
use crate::runtime::task::TaskContext;

/// Emits records; each sub-task reads with a reader of its own.
pub trait Source: Clone + Send + Sync + 'static {
    /// The records.
    type Out: Data;
    /// What one sub-task reads with.
    type Reader: SourceReader<Self::Out> + 'static;

    /// Opens one sub-task's share.
    ///
    /// # Errors
    /// There is nothing to read from.
    fn open(&self, context: &TaskContext) -> Result<Self::Reader, Failure>;
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

/// One sub-task's share of a source.
pub trait SourceReader<T> {
    /// Emits some records: about as many as fill a batch, so that the task can look into its mailbox in between.
    ///
    /// # To ensure correctness
    /// It does not wait: [`Reading::Wait`] says for how long the task shall.
    ///
    /// # Errors
    /// The task was stopped, or the source failed it.
    fn read<N: Push<T>>(&mut self, next: &mut N, context: &TaskContext) -> Result<Reading, Stopped>;
}
