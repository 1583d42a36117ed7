//! `process` on a keyed stream beside a broadcast one.

use std::marker::PhantomData;

use tidemill_model::execution::Failure;
use tidemill_model::key::KeyHash;

use super::keyed_process::{KeyedHost, hashed_key};
use crate::flow::OperatorIndex;
use crate::function::{Either, KeyedBroadcastProcessFunction};
use crate::key_selector::KeySelector;
use crate::pipe::{Input, Pipe, Placement};
use crate::push::{Push, Stopped, blame};
use crate::record::{Batch, Control, Data, NO_TIME, Timestamp};
use crate::runtime::task::{Task, TaskContext};
use crate::state::{PREPARED_TOGETHER, StateRegistry};

/// A keyed exchange and a broadcast one, followed by a process function.
pub struct KeyedBroadcastProcess<T, R, S, F> {
    input: Input<Either<T, R>>,
    selector: S,
    function: F,
    operator: OperatorIndex,
}

impl<T, R, S, F> KeyedBroadcastProcess<T, R, S, F> {
    /// Keys by `selector`, calls `function`.
    pub fn new(selector: S, function: F, operator: OperatorIndex) -> Self {
        Self { input: Input::new(), selector, function, operator }
    }
}

impl<T, R, S, F> Pipe for KeyedBroadcastProcess<T, R, S, F>
where
    T: Data,
    R: Data,
    S: KeySelector<T>,
    F: KeyedBroadcastProcessFunction<S::Key, T, R>,
{
    type Out = F::Out;
    type Placed = Self;

    fn fuse<N: Push<F::Out> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        let open = |function: &mut F, states: &mut StateRegistry<'_, S::Key>| function.open(states);
        let host = KeyedHost::open((self.function.clone(), open), self.operator, next, context)?;
        // Every sub-task had the same.
        let restored = context.everybodys_values::<F::State>(&host.runtime.state(BROADCAST))?.pop();
        let operator = KeyedBroadcastOperator {
            selector: self.selector.clone(),
            state: restored.unwrap_or_default(),
            host,
            keys: Vec::with_capacity(PREPARED_TOGETHER),
            records: PhantomData::<fn(T, R)>,
        };
        self.input.fuse(operator, context)
    }

    fn place(self, placement: &mut Placement<'_>) -> Self {
        placement.whole_vertex();
        self
    }
}

/// The name of the state that broadcast records change; the user's states cannot have it.
const BROADCAST: &str = "$broadcast";

struct KeyedBroadcastOperator<T, R, S, F, N>
where
    S: KeySelector<T>,
    F: KeyedBroadcastProcessFunction<S::Key, T, R>,
{
    selector: S,
    state: F::State,
    host: KeyedHost<S::Key, F, F::Out, N>,
    /// The keys of the records that are looked up together; broadcast ones have none.
    keys: Vec<(KeyHash, S::Key)>,
    records: PhantomData<fn(T, R)>,
}

impl<T, R, S, F, N> KeyedBroadcastOperator<T, R, S, F, N>
where
    S: KeySelector<T>,
    F: KeyedBroadcastProcessFunction<S::Key, T, R>,
    N: Push<F::Out>,
{
    fn keyed(&mut self, (hash, key, time): (KeyHash, &S::Key, Timestamp), record: T) -> Result<(), Stopped> {
        let state = &self.state;
        self.host.call((hash, key, time), |function, context, out| function.process(record, state, context, out))
    }

    fn broadcast(&mut self, record: R, time: Timestamp) -> Result<(), Stopped> {
        let state = &mut self.state;
        self.host.call_unkeyed(time, |function, context, out| function.process_broadcast(record, state, context, out))
    }
}

impl<T, R, S, F, N> Push<Either<T, R>> for KeyedBroadcastOperator<T, R, S, F, N>
where
    S: KeySelector<T>,
    F: KeyedBroadcastProcessFunction<S::Key, T, R>,
    N: Push<F::Out>,
{
    fn push(&mut self, record: Either<T, R>, time: Timestamp) -> Result<(), Stopped> {
        self.push_batch(&mut Batch { records: vec![record], times: vec![time] })
    }

    fn push_batch(&mut self, batch: &mut Batch<Either<T, R>>) -> Result<(), Stopped> {
        let (count, mut index) = (batch.records.len(), 0);
        let mut keys = std::mem::take(&mut self.keys);
        let mut records = batch.records.drain(..);
        while index < count {
            let together = records.as_slice().iter().take(PREPARED_TOGETHER);
            let selector = &mut self.selector;
            let end = index + together.len();
            blame(&self.host.operator, || {
                keys.extend(together.filter_map(|record| match record {
                    Either::Left(record) => Some(hashed_key(selector, record)),
                    Either::Right(_) => None,
                }));
            });
            self.host.runtime.states.prepare(&keys);
            let mut found = keys.drain(..);
            for record in records.by_ref().take(end - index) {
                let time = batch.times.get(index).copied().unwrap_or(NO_TIME);
                index += 1;
                match record {
                    Either::Left(record) => {
                        let (hash, key) = found.next().expect("each keyed record's key was found before");
                        self.keyed((hash, &key, time), record)?;
                    }
                    Either::Right(record) => self.broadcast(record, time)?,
                }
            }
        }
        drop(records);
        batch.clear();
        self.keys = keys;
        self.host.settle(count)
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        if matches!(control, Control::Barrier(_)) {
            let runtime = &self.host.runtime;
            runtime.task.keep_value(runtime.state(BROADCAST), self.state.clone());
        }
        let state = &self.state;
        self.host.control(control, |function, timer, context, out| function.on_timer(timer, state, context, out))
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.host.flush()
    }
}
