//! Functions over a stream and a broadcast one, which every sub-task sees whole and keeps a state of.

use tidemill_model::key::Key;

use super::{Collector, Either, KeyedContext, ProcessContext, ProcessFunction, Timer};
use crate::engine::snapshot::Form;
use crate::key_selector::KeySelector;
use crate::record::Data;
use crate::runtime::sink::{Subtask, UserError};
use crate::state::StateRegistry;

/// Makes any number of records of each record of a stream, by a state that a broadcast stream changes.
///
/// # To ensure correctness
///
/// Every sub-task sees all broadcast records, though not in the same order: the state must come out the same whatever
/// their order, and depend on nothing else.
pub trait BroadcastProcessFunction<T, R>: Clone + Send + Sync + 'static {
    /// What broadcast records change.
    type State: Data + Sync + Default;
    /// What it emits.
    type Out: Data;

    /// Called once in each sub-task, before the first record.
    ///
    /// # Errors
    /// It cannot work; the job fails.
    fn open(&mut self, _subtask: Subtask) -> Result<(), UserError> {
        Ok(())
    }

    /// Takes a record of the stream.
    ///
    /// # Errors
    /// It cannot go on; the job fails.
    fn process(
        &mut self,
        record: T,
        state: &Self::State,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;

    /// Takes a broadcast record.
    ///
    /// # Errors
    /// It cannot go on; the job fails.
    fn process_broadcast(
        &mut self,
        record: R,
        state: &mut Self::State,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;

    /// Called once in each sub-task, after the last record of both.
    ///
    /// # Errors
    /// It cannot finish; the job fails.
    fn finish(
        &mut self,
        _state: &Self::State,
        _context: &mut ProcessContext<'_>,
        _out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        Ok(())
    }
}

/// Makes any number of records of each record of a keyed stream, by the state and timers of its key and a state that
/// a broadcast stream changes.
///
/// # To ensure correctness
///
/// What [`BroadcastProcessFunction`] says of the order of broadcast records holds here, too.
pub trait KeyedBroadcastProcessFunction<K: Key, T, R>: Clone + Send + Sync + 'static {
    /// What broadcast records change.
    type State: Data + Sync + Default;
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
        state: &Self::State,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;

    /// Takes a broadcast record.
    ///
    /// # Errors
    /// It cannot go on; the job fails.
    fn process_broadcast(
        &mut self,
        record: R,
        state: &mut Self::State,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;

    /// Takes a timer of the context's key.
    ///
    /// # Errors
    /// It cannot go on; the job fails.
    fn on_timer(
        &mut self,
        _timer: Timer,
        _state: &Self::State,
        _context: &mut KeyedContext<'_, K>,
        _out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        Ok(())
    }
}

/// A function with its broadcast state, as one over either stream.
#[derive(Clone)]
pub struct BroadcastProcess<F, B> {
    function: F,
    state: B,
}

impl<F, B: Default> BroadcastProcess<F, B> {
    /// `function` with the state of no broadcast records.
    pub fn new(function: F) -> Self {
        Self { function, state: B::default() }
    }
}

impl<T, R, F: BroadcastProcessFunction<T, R>> ProcessFunction<Either<T, R>> for BroadcastProcess<F, F::State> {
    type Out = F::Out;

    fn open(&mut self, subtask: Subtask) -> Result<(), UserError> {
        self.function.open(subtask)
    }

    #[inline]
    fn process(
        &mut self,
        record: Either<T, R>,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<F::Out>,
    ) -> Result<(), UserError> {
        match record {
            Either::Left(record) => self.function.process(record, &self.state, context, out),
            Either::Right(record) => self.function.process_broadcast(record, &mut self.state, context, out),
        }
    }

    fn snapshot(&self) -> Result<Option<Vec<u8>>, UserError> {
        // A savepoint may be of this, too.
        Ok(Some(Form::Described.encode(&self.state)?.to_vec()))
    }

    fn restore(&mut self, mut snapshots: Vec<Vec<u8>>) -> Result<(), UserError> {
        // Every sub-task had the same.
        if let Some(state) = snapshots.pop() {
            self.state = Form::Described.decode(&state)?;
        }
        Ok(())
    }

    fn finish(&mut self, context: &mut ProcessContext<'_>, out: &mut Collector<F::Out>) -> Result<(), UserError> {
        self.function.finish(&self.state, context, out)
    }
}

/// The key of a record of the stream beside a broadcast one, for the exchange that takes the stream's records only.
#[derive(Clone)]
pub struct LeftKey<S>(pub S);

impl<T: 'static, R: 'static, S: KeySelector<T>> KeySelector<Either<T, R>> for LeftKey<S> {
    type Key = S::Key;
    type Found<'a> = S::Found<'a>;

    #[inline(always)]
    fn select<'a>(&mut self, record: &'a Either<T, R>) -> S::Found<'a> {
        match record {
            Either::Left(record) => self.0.select(record),
            Either::Right(_) => unreachable!("broadcast records do not go by key"),
        }
    }

    #[inline(always)]
    fn into_key(found: S::Found<'_>) -> S::Key {
        S::into_key(found)
    }
}
