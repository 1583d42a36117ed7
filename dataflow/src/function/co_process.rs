//! Functions over two connected streams, which travel as one stream of either.

use serde::{Deserialize, Serialize};
use tidemill_model::key::Key;

use super::{Collector, KeyedContext, KeyedProcessFunction, ProcessContext, ProcessFunction, Timer};
use crate::key_selector::KeySelector;
use crate::record::Data;
use crate::runtime::sink::{Subtask, UserError};
use crate::state::StateRegistry;

/// A record of one of two streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Either<L, R> {
    /// Of the first stream.
    Left(L),
    /// Of the second stream.
    Right(R),
}

/// Makes any number of records of each record of two streams.
pub trait CoProcessFunction<L, R>: Clone + Send + Sync + 'static {
    /// What it emits.
    type Out: Data;

    /// Called once in each sub-task, before the first record.
    ///
    /// # Errors
    /// It cannot work; the job fails.
    fn open(&mut self, _subtask: Subtask) -> Result<(), UserError> {
        Ok(())
    }

    /// Takes a record of the first stream.
    ///
    /// # Errors
    /// It cannot go on; the job fails.
    fn process_left(
        &mut self,
        record: L,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;

    /// Takes a record of the second stream.
    ///
    /// # Errors
    /// It cannot go on; the job fails.
    fn process_right(
        &mut self,
        record: R,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;

    /// Called once in each sub-task, after the last record of both.
    ///
    /// # Errors
    /// It cannot finish; the job fails.
    fn finish(&mut self, _context: &mut ProcessContext<'_>, _out: &mut Collector<Self::Out>) -> Result<(), UserError> {
        Ok(())
    }
}

/// Makes any number of records of each record of two keyed streams, with state and timers that both share.
pub trait KeyedCoProcessFunction<K: Key, L, R>: Clone + Send + Sync + 'static {
    /// What it emits.
    type Out: Data;

    /// Called once in each sub-task, before the first record: the place to ask for state.
    ///
    /// # Errors
    /// It cannot work; the job fails.
    fn open(&mut self, _states: &mut StateRegistry<'_, K>) -> Result<(), UserError> {
        Ok(())
    }

    /// Takes a record of the first stream, of the context's key.
    ///
    /// # Errors
    /// It cannot go on; the job fails.
    fn process_left(
        &mut self,
        record: L,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;

    /// Takes a record of the second stream, of the context's key.
    ///
    /// # Errors
    /// It cannot go on; the job fails.
    fn process_right(
        &mut self,
        record: R,
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

/// A function over two streams, as one over either.
#[derive(Clone)]
pub struct CoProcess<F>(pub F);

impl<L, R, F: CoProcessFunction<L, R>> ProcessFunction<Either<L, R>> for CoProcess<F> {
    type Out = F::Out;

    fn open(&mut self, subtask: Subtask) -> Result<(), UserError> {
        self.0.open(subtask)
    }

    #[inline]
    fn process(
        &mut self,
        record: Either<L, R>,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<F::Out>,
    ) -> Result<(), UserError> {
        match record {
            Either::Left(record) => self.0.process_left(record, context, out),
            Either::Right(record) => self.0.process_right(record, context, out),
        }
    }

    fn finish(&mut self, context: &mut ProcessContext<'_>, out: &mut Collector<F::Out>) -> Result<(), UserError> {
        self.0.finish(context, out)
    }
}

impl<K: Key, L, R, F: KeyedCoProcessFunction<K, L, R>> KeyedProcessFunction<K, Either<L, R>> for CoProcess<F> {
    type Out = F::Out;

    fn open(&mut self, states: &mut StateRegistry<'_, K>) -> Result<(), UserError> {
        self.0.open(states)
    }

    #[inline]
    fn process(
        &mut self,
        record: Either<L, R>,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<F::Out>,
    ) -> Result<(), UserError> {
        match record {
            Either::Left(record) => self.0.process_left(record, context, out),
            Either::Right(record) => self.0.process_right(record, context, out),
        }
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<F::Out>,
    ) -> Result<(), UserError> {
        self.0.on_timer(timer, context, out)
    }
}

/// The key of a record of either stream.
#[derive(Clone)]
pub struct EitherKey<S, U> {
    left: S,
    right: U,
}

impl<S, U> EitherKey<S, U> {
    /// The selector that asks the one of the record's stream.
    pub fn new(left: S, right: U) -> Self {
        Self { left, right }
    }
}

impl<L, R, S, U> KeySelector<Either<L, R>> for EitherKey<S, U>
where
    L: 'static,
    R: 'static,
    S: KeySelector<L>,
    U: KeySelector<R, Key = S::Key>,
{
    type Key = S::Key;
    type Found<'a> = S::Key;

    #[inline(always)]
    fn select(&mut self, record: &Either<L, R>) -> S::Key {
        match record {
            Either::Left(record) => S::into_key(self.left.select(record)),
            Either::Right(record) => U::into_key(self.right.select(record)),
        }
    }

    #[inline(always)]
    fn into_key(found: S::Key) -> S::Key {
        found
    }
}
