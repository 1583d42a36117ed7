//! `process`: user functions with a view of time and with side outputs, not keyed.

use std::marker::PhantomData;
use std::rc::Rc;

use bytes::Bytes;
use tidemill_model::execution::{Failure, FailureKind};

use crate::engine::snapshot::StateId;
use crate::flow::OperatorIndex;
use crate::function::{Collector, ProcessContext, ProcessFunction, SideOutputs};
use crate::pipe::{Pipe, Placement, Upstream};
use crate::push::{Push, Stopped, blame, showing};
use crate::record::{Control, Data, NO_TIME, Timestamp};
use crate::runtime::sink::{Subtask, UserError};
use crate::runtime::task::{Task, TaskContext};

/// A pipe followed by a process function.
pub struct Process<P, F> {
    upstream: P,
    function: F,
    operator: OperatorIndex,
}

impl<P, F> Process<P, F> {
    /// `upstream`, each of whose records goes through `function`.
    pub fn new(upstream: P, function: F, operator: OperatorIndex) -> Self {
        Self { upstream, function, operator }
    }
}

impl<P: Pipe, F: ProcessFunction<P::Out>> Pipe for Process<P, F> {
    type Out = F::Out;
    type Placed = Process<Upstream<P>, F>;

    fn fuse<N: Push<F::Out> + 'static>(&self, next: N, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        let (mut function, operator) = (self.function.clone(), context.operator_name(self.operator));
        let subtask = Subtask { index: context.subtask().0, parallelism: context.parallelism() };
        blame(&operator, || function.open(subtask)).map_err(|error| user_failure(context, &operator, &error))?;
        let state = context.operator_uid(self.operator).state(FUNCTION);
        let kept: Vec<Vec<u8>> = context.everybodys_values::<Bytes>(&state)?.into_iter().map(Vec::from).collect();
        if !kept.is_empty() {
            blame(&operator, || function.restore(kept)).map_err(|error| user_failure(context, &operator, &error))?;
        }
        let operator = ProcessOperator {
            function,
            operator,
            state,
            watermark: Timestamp::MIN,
            out: Collector::default(),
            sides: SideOutputs::open(self.operator, context)?,
            next,
            context: context.clone(),
            records: PhantomData::<fn(P::Out)>,
        };
        self.upstream.fuse(operator, context)
    }

    fn place(self, placement: &mut Placement<'_>) -> Self::Placed {
        Process { upstream: placement.after(self.upstream), function: self.function, operator: self.operator }
    }
}

/// The name of the state in which a function's own state is.
const FUNCTION: &str = "function";

/// The failure of a task whose user function said that it cannot go on.
#[cold]
pub(crate) fn user_failure(context: &TaskContext, operator: &str, error: &UserError) -> Failure {
    context.failure(FailureKind::Io, Some(operator), error.to_string())
}

struct ProcessOperator<T, F: ProcessFunction<T>, N> {
    function: F,
    operator: Rc<str>,
    state: StateId,
    watermark: Timestamp,
    out: Collector<F::Out>,
    sides: SideOutputs,
    next: N,
    context: TaskContext,
    records: PhantomData<fn(T)>,
}

impl<T, F: ProcessFunction<T>, N: Push<F::Out>> ProcessOperator<T, F, N> {
    /// Leaves what the function keeps for the snapshot of a barrier that passes.
    fn keep(&self) -> Result<(), Stopped> {
        if !self.context.takes_checkpoints() {
            return Ok(());
        }
        let kept = blame(&self.operator, || self.function.snapshot());
        let failed = |error| self.context.fail(user_failure(&self.context, &self.operator, &error));
        if let Some(kept) = kept.map_err(failed)? {
            self.context.keep_value(self.state.clone(), Bytes::from(kept));
        }
        Ok(())
    }

    /// Calls the function, and sends on what it emitted.
    #[inline]
    fn call(
        &mut self,
        time: Timestamp,
        call: impl FnOnce(&mut F, &mut ProcessContext<'_>, &mut Collector<F::Out>) -> Result<(), UserError>,
    ) -> Result<(), Stopped> {
        self.out.set_time(time);
        let (function, out, task) = (&mut self.function, &mut self.out, &self.context);
        let mut context = ProcessContext { time, watermark: self.watermark, sides: &mut self.sides, task };
        let result = blame(&self.operator, || call(function, &mut context, out));
        result.map_err(|error| task.fail(user_failure(task, &self.operator, &error)))?;
        self.sides.check()?;
        self.out.drain_into(&mut self.next)
    }
}

impl<T: Data, F: ProcessFunction<T>, N: Push<F::Out>> Push<T> for ProcessOperator<T, F, N> {
    #[inline]
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        self.call(time, |function, context, out| showing(record, |record| function.process(record, context, out)))
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        match control {
            Control::Watermark(time) => self.watermark = time,
            Control::EndOfInput => self.call(NO_TIME, F::finish)?,
            Control::Barrier(_) => self.keep()?,
            Control::Idle
            | Control::Active
            | Control::ProcessingTime(_)
            | Control::Completed(_)
            | Control::FinishedBefore => {}
        }
        self.sides.control(control)?;
        self.next.control(control)
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.sides.flush()?;
        self.next.flush()
    }
}
