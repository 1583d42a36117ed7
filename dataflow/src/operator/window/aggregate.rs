//! Windows that keep one value, which takes in each record as it comes.

use std::marker::PhantomData;

use tidemill_model::key::Key;

use super::WindowFunction;
use crate::engine::window::{Contents, Sharing, TimeWindow};
use crate::function::{Aggregate, Collector, WindowContext};
use crate::record::{Data, Timestamp};
use crate::runtime::sink::UserError;

/// A value that takes in one record after the other.
pub trait Incremental<T>: Clone + Send + Sync + 'static {
    /// What is kept while records come.
    type Accumulator: Data;
    /// The value of a window.
    type Out: Data;

    /// Whether [`merge`](Self::merge) works.
    const MERGES: bool = true;

    /// The accumulator of one record.
    fn first(&mut self, record: T) -> Self::Accumulator;

    /// Takes another record in.
    fn add(&mut self, accumulator: &mut Self::Accumulator, record: T);

    /// Takes in what another accumulator has.
    fn merge(&mut self, into: &mut Self::Accumulator, from: Self::Accumulator);

    /// The value of an accumulator.
    fn result(&mut self, accumulator: Self::Accumulator) -> Self::Out;
}

/// A function that takes one record into another.
#[derive(Clone)]
pub struct Reducing<F>(pub F);

impl<T: Data, F: FnMut(&mut T, T) + Clone + Send + Sync + 'static> Incremental<T> for Reducing<F> {
    type Accumulator = T;
    type Out = T;

    #[inline(always)]
    fn first(&mut self, record: T) -> T {
        record
    }

    #[inline(always)]
    fn add(&mut self, accumulator: &mut T, record: T) {
        (self.0)(accumulator, record);
    }

    fn merge(&mut self, into: &mut T, from: T) {
        (self.0)(into, from);
    }

    fn result(&mut self, accumulator: T) -> T {
        accumulator
    }
}

/// How two folded values become one.
pub trait Merge<V>: Clone + Send + Sync + 'static {
    /// Whether they can.
    const MERGES: bool;

    /// Takes one value into another.
    fn merge(&mut self, into: &mut V, from: V);
}

/// Folded values that cannot become one: each window has its own, and there are no sessions.
#[derive(Debug, Clone, Copy)]
pub struct NoMerge;

impl<V> Merge<V> for NoMerge {
    const MERGES: bool = false;

    fn merge(&mut self, _into: &mut V, _from: V) {
        unreachable!("windows that would merge what they hold are refused when the program is built")
    }
}

impl<V, M: FnMut(&mut V, V) + Clone + Send + Sync + 'static> Merge<V> for M {
    const MERGES: bool = true;

    fn merge(&mut self, into: &mut V, from: V) {
        self(into, from);
    }
}

/// An initial value, a function that takes records into it, and perhaps one that merges two values.
#[derive(Clone)]
pub struct Folding<V, F, M> {
    initial: V,
    add: F,
    merge: M,
}

impl<V, F, M> Folding<V, F, M> {
    /// Folds with `add` from `initial` on.
    pub fn new(initial: V, add: F, merge: M) -> Self {
        Self { initial, add, merge }
    }
}

impl<T, V, F, M> Incremental<T> for Folding<V, F, M>
where
    V: Data + Sync,
    F: FnMut(&mut V, T) + Clone + Send + Sync + 'static,
    M: Merge<V>,
{
    type Accumulator = V;
    type Out = V;
    const MERGES: bool = M::MERGES;

    #[inline(always)]
    fn first(&mut self, record: T) -> V {
        let mut value = self.initial.clone();
        (self.add)(&mut value, record);
        value
    }

    #[inline(always)]
    fn add(&mut self, accumulator: &mut V, record: T) {
        (self.add)(accumulator, record);
    }

    fn merge(&mut self, into: &mut V, from: V) {
        self.merge.merge(into, from);
    }

    fn result(&mut self, accumulator: V) -> V {
        accumulator
    }
}

/// The user's own [`Aggregate`].
#[derive(Clone)]
pub struct Typed<A>(pub A);

impl<T, A: Aggregate<T>> Incremental<T> for Typed<A> {
    type Accumulator = A::Accumulator;
    type Out = A::Out;

    #[inline(always)]
    fn first(&mut self, record: T) -> A::Accumulator {
        let mut accumulator = self.0.create();
        self.0.add(&mut accumulator, record);
        accumulator
    }

    #[inline(always)]
    fn add(&mut self, accumulator: &mut A::Accumulator, record: T) {
        self.0.add(accumulator, record);
    }

    fn merge(&mut self, into: &mut A::Accumulator, from: A::Accumulator) {
        self.0.merge(into, from);
    }

    fn result(&mut self, accumulator: A::Accumulator) -> A::Out {
        self.0.result(accumulator)
    }
}

/// Windows that keep one value; `finish` makes the result of key, window and value.
pub struct AggregateWindow<A, W, O> {
    aggregate: A,
    finish: W,
    out: PhantomData<fn() -> O>,
}

impl<A, W, O> AggregateWindow<A, W, O> {
    /// Aggregates, then finishes.
    pub fn new(aggregate: A, finish: W) -> Self {
        Self { aggregate, finish, out: PhantomData }
    }
}

impl<A: Clone, W: Clone, O> Clone for AggregateWindow<A, W, O> {
    fn clone(&self) -> Self {
        Self::new(self.aggregate.clone(), self.finish.clone())
    }
}

impl<K, T, A, W, O> WindowFunction<K, T> for AggregateWindow<A, W, O>
where
    K: Key,
    A: Incremental<T>,
    W: FnMut(&K, TimeWindow, A::Out) -> O + Clone + Send + Sync + 'static,
    O: Data,
{
    type Contents = A::Accumulator;
    type Out = O;
    const SHARING: Sharing = if A::MERGES { Sharing::Panes } else { Sharing::Windows };
    const MERGES: bool = A::MERGES;

    #[inline(always)]
    fn fold(&mut self, contents: &mut Option<A::Accumulator>, record: T, _time: Timestamp) {
        match contents {
            Some(accumulator) => self.aggregate.add(accumulator, record),
            None => *contents = Some(self.aggregate.first(record)),
        }
    }

    fn merge(&mut self, into: &mut A::Accumulator, from: A::Accumulator) {
        self.aggregate.merge(into, from);
    }

    fn fire(
        &mut self,
        contents: Contents<'_, A::Accumulator>,
        context: &mut WindowContext<'_, K>,
        out: &mut Collector<O>,
    ) -> Result<(), UserError> {
        let value = self.aggregate.result(contents.into_owned());
        out.emit((self.finish)(context.key, context.window, value));
        Ok(())
    }
}
