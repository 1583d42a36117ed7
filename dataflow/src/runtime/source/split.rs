//! The source interface: an enumerator finds splits, readers read them.

use std::fmt;
use std::time::Duration;

use super::Reading;
use crate::function::OutputTag;
use crate::record::{Data, Timestamp};
use crate::runtime::sink::UserError;

/// Whether a source ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundedness {
    /// It does: a job of such sources runs in batch mode by default.
    Bounded,
    /// It does not.
    Unbounded,
}

/// Where records come from: an enumerator finds the splits of the input, and each is read by one sub-task.
///
/// The enumerator runs in a hidden sub-task of the job. Splits go to the sub-tasks that have the fewest waiting.
///
/// # To ensure correctness
///
/// Every record of the input belongs to exactly one split.
pub trait Source: Clone + Send + Sync + 'static {
    /// The records.
    type Out: Data;
    /// A part of the input and how far it is read; its `Debug` form names it in errors.
    type Split: Data + fmt::Debug;
    /// Finds the splits.
    type Enumerator: SplitEnumerator<Split = Self::Split> + 'static;
    /// Reads one split.
    type Reader: SplitReader<Out = Self::Out, Split = Self::Split> + 'static;

    /// Whether it ends by itself.
    fn boundedness(&self) -> Boundedness;

    /// How many splits a sub-task reads in turn; others wait until one has ended.
    ///
    /// By default those of a bounded source are read one after the other, and all of an unbounded one in turn.
    fn open_splits_max(&self) -> usize {
        match self.boundedness() {
            Boundedness::Bounded => 1,
            Boundedness::Unbounded => usize::MAX,
        }
    }

    /// What finds the splits, for so many reading sub-tasks; after a restart, all but those that it had found when it gave
    /// this state.
    ///
    /// # Errors
    /// There is nothing to read; the job fails.
    fn enumerator(
        &self,
        readers: u32,
        restored: Option<<Self::Enumerator as SplitEnumerator>::State>,
    ) -> Result<Self::Enumerator, UserError>;

    /// What reads a split, from where the split says that reading has come to.
    ///
    /// # Errors
    /// The split cannot be read; the job fails.
    fn reader(&self, split: Self::Split) -> Result<Self::Reader, UserError>;
}

/// What an enumerator found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery<S> {
    /// More splits; it is asked again at once.
    Splits(Vec<S>),
    /// No more at present; it is asked again after this time.
    Wait(Duration),
    /// No more ever.
    Done,
}

/// Finds the splits of a source's input.
pub trait SplitEnumerator {
    /// The splits.
    type Split;
    /// What it must know after a restart to name every split once.
    type State: Data;

    /// What it has named so far, for a checkpoint.
    fn state(&self) -> Self::State;

    /// Looks for splits that it has not named yet.
    ///
    /// # Errors
    /// It cannot look; the job fails.
    fn discover(&mut self) -> Result<Discovery<Self::Split>, UserError>;
}

/// Reads one split.
pub trait SplitReader {
    /// The records.
    type Out;
    /// The split.
    type Split;

    /// Emits some records: about as many as fill a batch, so that the task can do other things in between.
    ///
    /// # To ensure correctness
    /// It does not wait: [`Reading::Wait`] says for how long the task shall.
    ///
    /// # Errors
    /// It cannot go on; the job fails.
    fn read<O: SourceOutput<Self::Out>>(&mut self, out: &mut O) -> Result<Reading, UserError>;

    /// The split, with how far it is read: a reader that is made of it emits exactly the records that are left.
    fn split(&self) -> Self::Split;
}

/// Takes what a reader emits; once the task was told to stop, it forgets it.
pub trait SourceOutput<T> {
    /// Emits a record without a time of its own.
    fn emit(&mut self, record: T);

    /// Emits a record with an event time.
    fn emit_at(&mut self, record: T, time: Timestamp);

    /// Whether the task has something else to do, such as to take part in a checkpoint: a reader that is asked between two
    /// records, which may take long further down, then returns [`Reading::More`].
    fn is_interrupted(&self) -> bool {
        false
    }

    /// Emits a record to a side output of the source.
    fn output<S: Data>(&mut self, tag: &OutputTag<S>, record: S);
}
