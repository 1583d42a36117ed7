//! The functions that users write when a closure is not enough.

use tidemill_model::key::Key;

use super::{Collector, KeyedContext, ProcessContext, Timer};
use crate::record::Data;
use crate::runtime::sink::{Subtask, UserError};
use crate::state::StateRegistry;

/// Makes any number of records of each record, with a view of time and with side outputs.
pub trait ProcessFunction<T>: Clone + Send + Sync + 'static {
    /// What it emits.
    type Out: Data;

    /// Called once in each sub-task, before the first record.
    ///
    /// # Errors
    /// It cannot work; the job fails.
    fn open(&mut self, _subtask: Subtask) -> Result<(), UserError> {
        Ok(())
    }

    /// Takes a record.
    ///
    /// # Errors
    /// It cannot go on; the job fails.
    fn process(
        &mut self,
        record: T,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;

    /// What the function keeps in its sub-task, encoded, for a checkpoint; none: nothing that matters after a restart.
    ///
    /// # Errors
    /// It cannot be encoded; the job fails.
    fn snapshot(&self) -> Result<Option<Vec<u8>>, UserError> {
        Ok(None)
    }

    /// Takes in what [`snapshot`](Self::snapshot) gave, after [`open`](Self::open): after a failure its own; from a
    /// savepoint those of all sub-tasks, however many there were.
    ///
    /// # Errors
    /// It is something else; the job fails.
    fn restore(&mut self, _snapshots: Vec<Vec<u8>>) -> Result<(), UserError> {
        Ok(())
    }

    /// Called once in each sub-task, after the last record.
    ///
    /// # Errors
    /// It cannot finish; the job fails.
    fn finish(&mut self, _context: &mut ProcessContext<'_>, _out: &mut Collector<Self::Out>) -> Result<(), UserError> {
        Ok(())
    }
}

/// Makes any number of records of each record, with state and timers for each key.
pub trait KeyedProcessFunction<K: Key, T>: Clone + Send + Sync + 'static {
    /// What it emits.
    type Out: Data;

    /// Called once in each sub-task, before the first record: the place to ask for state.
    ///
    /// # Errors
    /// It cannot work; the job fails.
    fn open(&mut self, _states: &mut StateRegistry<'_, K>) -> Result<(), UserError> {
        Ok(())
    }

    /// Takes a record of the context's key.
    ///
    /// # Errors
    /// It cannot go on; the job fails.
    fn process(
        &mut self,
        record: T,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;

    /// Takes a timer of the context's key.
    ///
    /// # Errors
    /// It cannot go on; the job fails.
    fn on_timer(
        &mut self,
        _timer: Timer,
        _context: &mut KeyedContext<'_, K>,
        _out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        Ok(())
    }
}
