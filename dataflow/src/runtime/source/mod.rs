//! Where records come from.

mod collection;
mod sequence;
mod text;

pub use collection::CollectionSource;
pub use sequence::SequenceSource;
pub use text::TextSource;

use crate::push::{Push, Stopped};
use crate::record::Data;
use crate::runtime::task::TaskContext;

/// Emits records; each sub-task runs a copy of its own.
pub trait Source: Clone + Send + Sync + 'static {
    /// The records.
    type Out: Data;

    /// Emits this sub-task's share; returns when it is exhausted.
    ///
    /// # To ensure correctness
    /// It calls [`TaskContext::poll`] at least every few thousand records, and never waits elsewhere than in the
    /// context.
    ///
    /// # Errors
    /// The task was stopped, or the source failed it.
    fn run<N: Push<Self::Out>>(&mut self, next: &mut N, context: &TaskContext) -> Result<(), Stopped>;
}
