//! `process` on a keyed stream: user functions with state and timers for each key.

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::rc::Rc;

use tidemill_model::execution::Failure;
use tidemill_model::key::{Key, KeyHash};

use super::process::user_failure;
use crate::engine::timers::TimeDomain;
use crate::flow::OperatorIndex;
use crate::function::{Collector, KeyedContext, KeyedProcessFunction, KeyedRuntime};
use crate::key_selector::KeySelector;
use crate::pipe::{Input, Pipe, Placement};
use crate::push::{Push, Stopped, blame, blame_on};
use crate::record::{Control, Data, NO_TIME, Timestamp};
use crate::runtime::sink::UserError;
use crate::runtime::task::{Task, TaskContext};
use crate::state::StateRegistry;

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
        let (mut function, operator) = (self.function.clone(), context.operator_name(self.operator));
        let mut runtime = KeyedRuntime::new(self.operator, context)?;
        let mut registry = StateRegistry::new(&mut runtime.states);
        blame(&operator, || function.open(&mut registry)).map_err(|error| user_failure(context, &operator, &error))?;
        let operator = KeyedProcessOperator {
            selector: self.selector.clone(),
            function,
            operator,
            runtime,
            out: Collector::default(),
            next,
            records: PhantomData::<fn(T)>,
        };
        self.input.fuse(operator, context)
    }

    fn place(self, placement: &mut Placement<'_>) -> Self {
        placement.whole_vertex();
        self
    }
}

struct KeyedProcessOperator<T, S: KeySelector<T>, F: KeyedProcessFunction<S::Key, T>, N> {
    selector: S,
    function: F,
    operator: Rc<str>,
    runtime: KeyedRuntime<S::Key>,
    out: Collector<F::Out>,
    next: N,
    records: PhantomData<fn(T)>,
}

impl<T, S: KeySelector<T>, F: KeyedProcessFunction<S::Key, T>, N: Push<F::Out>> KeyedProcessOperator<T, S, F, N> {
    /// Calls the function for a key, and sends on what it emitted.
    #[inline]
    fn call(
        &mut self,
        (hash, key, time): (KeyHash, &S::Key, Timestamp),
        call: impl FnOnce(&mut F, &mut KeyedContext<'_, S::Key>, &mut Collector<F::Out>) -> Result<(), UserError>,
    ) -> Result<(), Stopped> {
        self.out.set_time(time);
        let (function, out) = (&mut self.function, &mut self.out);
        let mut context = KeyedContext { hash, key, time, runtime: &mut self.runtime };
        let result = blame(&self.operator, || call(function, &mut context, out));
        let task = &self.runtime.task;
        result.map_err(|error| task.fail(user_failure(task, &self.operator, &error)))?;
        self.runtime.sides.check()?;
        self.out.drain_into(&mut self.next)
    }
}

impl<T: Data, S: KeySelector<T>, F: KeyedProcessFunction<S::Key, T>, N: Push<F::Out>> Push<T>
    for KeyedProcessOperator<T, S, F, N>
{
    #[inline]
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        let selector = &mut self.selector;
        let (hash, key) = blame_on(&self.operator, &record, || {
            let found = selector.select(&record);
            (Borrow::<S::Key>::borrow(&found).key_hash(), S::into_key(found))
        });
        self.call((hash, &key, time), |function, context, out| function.process(record, context, out))
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        let mut due = self.runtime.due(control);
        while let Some((timer, hash, key)) = due.next(&mut self.runtime) {
            self.runtime.task.poll()?;
            let time = if timer.domain == TimeDomain::Event { timer.time } else { NO_TIME };
            self.call((hash, &key, time), |function, context, out| function.on_timer(timer, context, out))?;
        }
        self.runtime.control(control)?;
        self.next.control(control)
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.runtime.sides.flush()?;
        self.next.flush()
    }
}
