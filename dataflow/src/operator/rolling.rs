//! Rolling aggregates: one running value per key, behind a keyed exchange.

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::rc::Rc;

use tidemill_model::execution::Failure;
use tidemill_model::job::RuntimeMode;
use tidemill_model::key::{Key, KeyHash};

use crate::engine::snapshot::StateId;
use crate::flow::OperatorIndex;
use crate::function::Aggregate;
use crate::key_selector::KeySelector;
use crate::operator::process::user_failure;
use crate::pipe::{Input, Pipe, Placement};
use crate::push::{Push, Stopped, blame, blame_on, showing};
use crate::record::{Batch, Control, Data, END_OF_TIME, NO_TIME, Timestamp};
use crate::runtime::task::{Task, TaskContext};
use crate::state::{KeyedTable, Place};

/// How many results are emitted between two looks into the mailbox.
const RESULTS_PER_POLL: usize = 4096;

/// How a key's value comes about.
pub trait RollingFunction<K, T>: Clone + Send + Sync + 'static {
    /// What is kept for each key.
    type Value: Data;
    /// What is emitted.
    type Out: Data;

    /// The value of a key's first record.
    fn first(&mut self, record: T) -> Self::Value;

    /// Takes another record into a key's value.
    fn add(&mut self, value: &mut Self::Value, record: T);

    /// What is emitted for a value that goes on.
    fn update(&mut self, key: &K, value: &Self::Value) -> Self::Out;

    /// What is emitted for a value that is complete.
    fn result(&mut self, key: K, value: Self::Value) -> Self::Out;
}

/// A function that folds each record into its key's.
#[derive(Clone)]
pub struct ReduceFunction<F>(pub F);

impl<K, T: Data, F: FnMut(&mut T, T) + Clone + Send + Sync + 'static> RollingFunction<K, T> for ReduceFunction<F> {
    type Value = T;
    type Out = T;

    #[inline(always)]
    fn first(&mut self, record: T) -> T {
        record
    }

    #[inline(always)]
    fn add(&mut self, value: &mut T, record: T) {
        (self.0)(value, record);
    }

    #[inline(always)]
    fn update(&mut self, _key: &K, value: &T) -> T {
        value.clone()
    }

    fn result(&mut self, _key: K, value: T) -> T {
        value
    }
}

/// An initial value, and a function that folds each record into it.
#[derive(Clone)]
pub struct FoldFunction<V, F> {
    initial: V,
    function: F,
}

impl<V, F> FoldFunction<V, F> {
    /// Folds with `function`, from `initial` on.
    pub fn new(initial: V, function: F) -> Self {
        Self { initial, function }
    }
}

impl<K, T, V, F> RollingFunction<K, T> for FoldFunction<V, F>
where
    K: Key + Data,
    V: Data + Sync,
    F: FnMut(&mut V, T) + Clone + Send + Sync + 'static,
{
    type Value = V;
    type Out = (K, V);

    #[inline(always)]
    fn first(&mut self, record: T) -> V {
        let mut value = self.initial.clone();
        (self.function)(&mut value, record);
        value
    }

    #[inline(always)]
    fn add(&mut self, value: &mut V, record: T) {
        (self.function)(value, record);
    }

    #[inline(always)]
    fn update(&mut self, key: &K, value: &V) -> (K, V) {
        (key.clone(), value.clone())
    }

    fn result(&mut self, key: K, value: V) -> (K, V) {
        (key, value)
    }
}

/// An aggregate with an accumulator of its own.
#[derive(Clone)]
pub struct AggregateFunction<A>(pub A);

impl<K: Key + Data, T, A: Aggregate<T>> RollingFunction<K, T> for AggregateFunction<A> {
    type Value = A::Accumulator;
    type Out = (K, A::Out);

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

    #[inline(always)]
    fn update(&mut self, key: &K, accumulator: &A::Accumulator) -> (K, A::Out) {
        (key.clone(), self.0.result(accumulator.clone()))
    }

    fn result(&mut self, key: K, accumulator: A::Accumulator) -> (K, A::Out) {
        (key, self.0.result(accumulator))
    }
}

/// A keyed exchange followed by a rolling aggregate.
pub struct Rolling<T, S, R> {
    input: Input<T>,
    selector: S,
    function: R,
    operator: OperatorIndex,
}

impl<T, S, R> Rolling<T, S, R> {
    /// Keys by `selector`, aggregates with `function`.
    pub fn new(selector: S, function: R, operator: OperatorIndex) -> Self {
        Self { input: Input::new(), selector, function, operator }
    }
}

impl<T: Data, S: KeySelector<T>, R: RollingFunction<S::Key, T>> Pipe for Rolling<T, S, R> {
    type Out = R::Out;
    type Placed = Self;

    fn fuse<N: Push<R::Out> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        let state = context.operator_uid(self.operator).state(VALUES);
        let table = KeyedTable::open(context, &state, &value_types::<S::Key, R::Value>())?;
        let operator = RollingOperator {
            table,
            state,
            selector: self.selector.clone(),
            function: self.function.clone(),
            operator: context.operator_name(self.operator),
            hashes: Vec::new(),
            updates: context.mode() == RuntimeMode::Streaming,
            time_has_ended: false,
            next,
            context: context.clone(),
            records: PhantomData::<fn(T)>,
        };
        self.input.fuse(operator, context)
    }

    fn place(self, placement: &mut Placement<'_>) -> Self {
        placement.whole_vertex();
        self
    }
}

/// The name of the state in which the running values are.
const VALUES: &str = "values";

fn value_types<K, V>() -> [&'static str; 2] {
    [std::any::type_name::<K>(), std::any::type_name::<V>()]
}

struct RollingOperator<T, S: KeySelector<T>, R: RollingFunction<S::Key, T>, N> {
    table: KeyedTable<S::Key, R::Value>,
    state: StateId,
    selector: S,
    function: R,
    operator: Rc<str>,
    hashes: Vec<KeyHash>,
    /// Whether each record causes an update, or each key one result at the end.
    updates: bool,
    /// Whether the end of time waits for the results.
    time_has_ended: bool,
    next: N,
    context: TaskContext,
    records: PhantomData<fn(T)>,
}

impl<T: Data, S: KeySelector<T>, R: RollingFunction<S::Key, T>, N: Push<R::Out>> RollingOperator<T, S, R, N> {
    #[inline(always)]
    fn hash(&mut self, record: &T) -> KeyHash {
        let selector = &mut self.selector;
        blame_on(&self.operator, record, || Borrow::<S::Key>::borrow(&selector.select(record)).key_hash())
    }

    #[inline(always)]
    fn push_hashed(&mut self, hash: KeyHash, record: T, time: Timestamp) -> Result<(), Stopped> {
        let (selector, function, updates) = (&mut self.selector, &mut self.function, self.updates);
        let group = self.table.group(hash);
        let update = blame(&self.operator, || {
            let found = selector.select(&record);
            let place = group.probe(hash, |key| key == Borrow::<S::Key>::borrow(&found));
            let (key, value) = match place {
                Place::Taken(slot) => {
                    drop(found);
                    let (key, value) = group.entry(slot);
                    showing(record, |record| function.add(value, record));
                    (key, value)
                }
                Place::Free(slot) => {
                    let key = S::into_key(found);
                    group.fill(slot, hash, key, showing(record, |record| function.first(record)))
                }
            };
            updates.then(|| function.update(key, value))
        });
        update.map_or(Ok(()), |update| self.next.push(update, time))
    }

    /// Emits each key's value; it has no event time, as it belongs to all of the input.
    fn emit_results(&mut self) -> Result<(), Stopped> {
        let mut number = 0;
        let Self { table, context, function, operator, next, .. } = self;
        table.drain(|_, key, value| {
            if number % RESULTS_PER_POLL == 0 {
                context.poll()?;
            }
            number += 1;
            let result = blame(operator, || function.result(key, value));
            next.push(result, NO_TIME)
        })?;
        self.settle()
    }

    /// Whether all of the state that was used since the last time could be read and written.
    #[inline]
    fn settle(&mut self) -> Result<(), Stopped> {
        let settled = self.table.settle();
        settled.map_err(|error| self.context.fail(user_failure(&self.context, &self.operator, &error)))
    }
}

impl<T: Data, S: KeySelector<T>, R: RollingFunction<S::Key, T>, N: Push<R::Out>> Push<T>
    for RollingOperator<T, S, R, N>
{
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        let hash = self.hash(&record);
        self.push_hashed(hash, record, time)
    }

    fn push_batch(&mut self, batch: &mut Batch<T>) -> Result<(), Stopped> {
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        hashes.extend(batch.records.iter().map(|record| self.hash(record)));
        let mut records = batch.records.drain(..);
        self.table.prepare(&hashes);
        for (index, record) in (&mut records).enumerate() {
            self.table.prefetch_ahead(&hashes, index);
            let time = batch.times.get(index).copied().unwrap_or(NO_TIME);
            self.push_hashed(hashes[index], record, time)?;
        }
        drop(records);
        batch.clear();
        self.hashes = hashes;
        self.settle()
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        if matches!(control, Control::Barrier(_)) && self.context.takes_checkpoints() {
            let frozen = self.table.freeze();
            self.settle()?;
            self.context.keep_keyed(self.state.clone(), &value_types::<S::Key, R::Value>(), frozen);
        }
        if self.updates {
            return self.next.control(control);
        }
        match control {
            // Behind it the results would be late, whatever event times they are given downstream.
            Control::Watermark(END_OF_TIME) => {
                self.time_has_ended = true;
                Ok(())
            }
            Control::EndOfInput => {
                self.emit_results()?;
                if self.time_has_ended {
                    self.next.control(Control::Watermark(END_OF_TIME))?;
                }
                self.next.control(control)
            }
            Control::Watermark(_)
            | Control::Barrier(_)
            | Control::Idle
            | Control::Active
            | Control::Completed(_)
            | Control::FinishedBefore
            | Control::ProcessingTime(_) => self.next.control(control),
        }
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.next.flush()
    }
}
