//! `process` on a keyed stream: user functions with state and timers for each key.

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::rc::Rc;

use tidemill_model::execution::Failure;
use tidemill_model::key::{Key, KeyHash};

use super::process::user_failure;
use crate::engine::timers::TimeDomain;
use crate::flow::OperatorIndex;
use crate::function::{Collector, KeyedContext, KeyedProcessFunction, KeyedRuntime, ProcessContext, Timer};
use crate::key_selector::KeySelector;
use crate::pipe::{Input, Pipe, Placement};
use crate::push::{Push, Stopped, blame, blame_on, showing};
use crate::record::{Batch, Control, Data, NO_TIME, Timestamp};
use crate::runtime::sink::UserError;
use crate::runtime::task::{Task, TaskContext};
use crate::state::{PREPARED_TOGETHER, StateRegistry};

/// A keyed exchange followed by a process function.
pub struct KeyedProcess<T, S, F> {
    input: Input<T>,
    selector: S,
    function: F,
    operator: OperatorIndex,
}

impl<T, S, F> KeyedProcess<T, S, F> {
    /// Keys by `selector`, calls `function`.
    pub fn new(selector: S, function: F, operator: OperatorIndex) -> Self {
        Self { input: Input::new(), selector, function, operator }
    }
}

impl<T: Data, S: KeySelector<T>, F: KeyedProcessFunction<S::Key, T>> Pipe for KeyedProcess<T, S, F> {
    type Out = F::Out;
    type Placed = Self;

    fn fuse<N: Push<F::Out> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        let open = |function: &mut F, states: &mut StateRegistry<'_, S::Key>| function.open(states);
        let operator = KeyedProcessOperator {
            selector: self.selector.clone(),
            host: KeyedHost::open((self.function.clone(), open), self.operator, next, context)?,
            keys: Vec::with_capacity(PREPARED_TOGETHER),
            records: PhantomData::<fn(T)>,
        };
        self.input.fuse(operator, context)
    }

    fn place(self, placement: &mut Placement<'_>) -> Self {
        placement.whole_vertex();
        self
    }
}

/// A keyed function with all that it is called with.
pub(super) struct KeyedHost<K, F, O, N> {
    function: F,
    pub(super) operator: Rc<str>,
    pub(super) runtime: KeyedRuntime<K>,
    out: Collector<O>,
    pub(super) next: N,
}

impl<K: Key, F, O, N: Push<O>> KeyedHost<K, F, O, N> {
    /// Opens the function.
    pub(super) fn open(
        (mut function, open): (F, impl FnOnce(&mut F, &mut StateRegistry<'_, K>) -> Result<(), UserError>),
        operator: OperatorIndex,
        next: N,
        context: &TaskContext,
    ) -> Result<Self, Failure> {
        let (mut runtime, operator) = (KeyedRuntime::new(operator, context)?, context.operator_name(operator));
        let mut registry = StateRegistry::new(&mut runtime.states);
        blame(&operator, || open(&mut function, &mut registry))
            .map_err(|error| user_failure(context, &operator, &error))?;
        runtime.restore()?;
        Ok(Self { function, operator, runtime, out: Collector::default(), next })
    }

    /// Calls the function for a key, and sends on what it emitted.
    #[inline]
    pub(super) fn call(
        &mut self,
        (hash, key, time): (KeyHash, &K, Timestamp),
        call: impl FnOnce(&mut F, &mut KeyedContext<'_, K>, &mut Collector<O>) -> Result<(), UserError>,
    ) -> Result<(), Stopped> {
        self.out.set_time(time);
        let (function, out) = (&mut self.function, &mut self.out);
        let mut context = KeyedContext { hash, key, time, runtime: &mut self.runtime };
        let result = blame(&self.operator, || call(function, &mut context, out));
        self.sent(result)
    }

    /// Calls the function for no key, and sends on what it emitted.
    pub(super) fn call_unkeyed(
        &mut self,
        time: Timestamp,
        call: impl FnOnce(&mut F, &mut ProcessContext<'_>, &mut Collector<O>) -> Result<(), UserError>,
    ) -> Result<(), Stopped> {
        self.out.set_time(time);
        let (function, out, runtime) = (&mut self.function, &mut self.out, &mut self.runtime);
        let (watermark, sides) = (runtime.watermark, &mut runtime.sides);
        let mut context = ProcessContext { time, watermark, sides, task: &runtime.task };
        let result = blame(&self.operator, || call(function, &mut context, out));
        self.sent(result)
    }

    #[inline]
    fn sent(&mut self, result: Result<(), UserError>) -> Result<(), Stopped> {
        result.map_err(|error| self.fail(&error))?;
        self.runtime.sides.check()?;
        self.out.drain_into(&mut self.next)
    }

    #[cold]
    fn fail(&self, error: &UserError) -> Stopped {
        let task = &self.runtime.task;
        task.fail(user_failure(task, &self.operator, error))
    }

    /// So many records were dealt with.
    pub(super) fn settle(&mut self, records: usize) -> Result<(), Stopped> {
        self.runtime.states.settle(records).map_err(|error| self.fail(&error))
    }

    /// Fires the timers that are due with `on_timer`, then passes control on.
    pub(super) fn control(
        &mut self,
        control: Control,
        on_timer: impl Fn(&mut F, Timer, &mut KeyedContext<'_, K>, &mut Collector<O>) -> Result<(), UserError>,
    ) -> Result<(), Stopped> {
        let (mut due, mut fired) = (self.runtime.due(control), 0);
        while let Some((timer, hash, key)) = due.next(&mut self.runtime) {
            self.runtime.task.poll()?;
            let time = if timer.domain == TimeDomain::Event { timer.time } else { NO_TIME };
            self.call((hash, &key, time), |function, context, out| on_timer(function, timer, context, out))?;
            fired += 1;
            if fired == PREPARED_TOGETHER {
                self.settle(std::mem::take(&mut fired))?;
            }
        }
        self.settle(fired)?;
        if matches!(control, Control::Barrier(_)) {
            self.runtime.keep();
        }
        self.runtime.control(control)?;
        self.next.control(control)
    }

    pub(super) fn flush(&mut self) -> Result<(), Stopped> {
        self.runtime.sides.flush()?;
        self.next.flush()
    }
}

struct KeyedProcessOperator<T, S: KeySelector<T>, F: KeyedProcessFunction<S::Key, T>, N> {
    selector: S,
    host: KeyedHost<S::Key, F, F::Out, N>,
    /// The keys of the records that are looked up together.
    keys: Vec<(KeyHash, S::Key)>,
    records: PhantomData<fn(T)>,
}

impl<T: Data, S: KeySelector<T>, F: KeyedProcessFunction<S::Key, T>, N: Push<F::Out>> Push<T>
    for KeyedProcessOperator<T, S, F, N>
{
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        self.push_batch(&mut Batch { records: vec![record], times: vec![time] })
    }

    fn push_batch(&mut self, batch: &mut Batch<T>) -> Result<(), Stopped> {
        let (count, mut index) = (batch.records.len(), 0);
        let mut keys = std::mem::take(&mut self.keys);
        let mut records = batch.records.drain(..);
        while index < count {
            let together = records.as_slice().iter().take(PREPARED_TOGETHER);
            let (selector, operator) = (&mut self.selector, &self.host.operator);
            keys.extend(together.map(|record| blame_on(operator, record, || hashed_key(selector, record))));
            self.host.runtime.states.prepare(&keys);
            for ((hash, key), record) in keys.drain(..).zip(&mut records) {
                let time = batch.times.get(index).copied().unwrap_or(NO_TIME);
                index += 1;
                self.host.call((hash, &key, time), |function, context, out| {
                    showing(record, |record| function.process(record, context, out))
                })?;
            }
        }
        drop(records);
        batch.clear();
        self.keys = keys;
        self.host.settle(count)
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        self.host.control(control, F::on_timer)
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.host.flush()
    }
}

/// The key of a record, to be kept, and its hash.
#[inline(always)]
pub(super) fn hashed_key<T, S: KeySelector<T>>(selector: &mut S, record: &T) -> (KeyHash, S::Key) {
    let found = selector.select(record);
    (Borrow::<S::Key>::borrow(&found).key_hash(), S::into_key(found))
}
