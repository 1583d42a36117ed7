//! A sink that the user wrote.

use std::rc::Rc;

use tidemill_model::execution::{Failure, FailureKind};

use super::Sink;
use crate::flow::OperatorIndex;
use crate::push::{Push, Stopped, blame, showing};
use crate::record::{Control, Data, Timestamp};
use crate::runtime::task::TaskContext;

/// Why user code cannot go on; it fails the job.
pub type UserError = Box<dyn std::error::Error + Send + Sync>;

/// Which sub-task of an operator this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subtask {
    /// Its number, from 0.
    pub index: u32,
    /// How many there are.
    pub parallelism: u32,
}

/// Takes records out of the job; each sub-task has a clone of its own.
///
/// Unless it writes in transactions, what it has written when the job fails is written again by the next attempt.
pub trait SinkFunction<T>: Clone + Send + Sync + 'static {
    /// Called once, before the first record.
    ///
    /// # Errors
    /// The destination cannot be used.
    fn open(&mut self, _subtask: Subtask) -> Result<(), UserError> {
        Ok(())
    }

    /// Takes a record and its event time (`i64::MIN`: it has none).
    ///
    /// # Errors
    /// It could not be written.
    fn write(&mut self, record: T, time: Timestamp) -> Result<(), UserError>;

    /// The task has run out of input for the moment: what is held back goes out now.
    ///
    /// # Errors
    /// It could not be written.
    fn flush(&mut self) -> Result<(), UserError> {
        Ok(())
    }

    /// Called once, after the last record.
    ///
    /// # Errors
    /// What was held back could not be written.
    fn finish(&mut self) -> Result<(), UserError> {
        Ok(())
    }
}

/// The sink that calls a user's function.
#[derive(Clone)]
pub struct FunctionSink<F> {
    function: F,
    operator: OperatorIndex,
}

impl<F> FunctionSink<F> {
    /// The sink of this operator.
    pub fn new(function: F, operator: OperatorIndex) -> Self {
        Self { function, operator }
    }
}

/// The user's function in one sub-task.
pub struct FunctionWriter<F> {
    function: F,
    taken: u64,
    operator: Rc<str>,
    context: TaskContext,
}

impl<T: Data, F: SinkFunction<T>> Sink<T> for FunctionSink<F> {
    type Writer = FunctionWriter<F>;

    fn open(&self, context: &TaskContext) -> Result<FunctionWriter<F>, Failure> {
        let (mut function, operator) = (self.function.clone(), context.operator_name(self.operator));
        let subtask = Subtask { index: context.subtask().0, parallelism: context.parallelism() };
        blame(&operator, || function.open(subtask)).map_err(|error| failure(context, &operator, &error))?;
        Ok(FunctionWriter { function, taken: 0, operator, context: context.clone() })
    }
}

#[cold]
fn failure(context: &TaskContext, operator: &str, error: &UserError) -> Failure {
    context.failure(FailureKind::Io, Some(operator), error.to_string())
}

impl<F> FunctionWriter<F> {
    #[cold]
    fn fail(&self, error: &UserError) -> Stopped {
        self.context.fail(failure(&self.context, &self.operator, error))
    }

    fn count(&mut self) {
        self.context.count_out(std::mem::take(&mut self.taken));
    }
}

impl<T: Data, F: SinkFunction<T>> Push<T> for FunctionWriter<F> {
    #[inline(always)]
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        let function = &mut self.function;
        blame(&self.operator, || showing(record, |record| function.write(record, time)))
            .map_err(|error| self.fail(&error))?;
        self.taken += 1;
        if self.taken.is_multiple_of(1024) {
            self.count();
        }
        Ok(())
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        self.count();
        if control == Control::EndOfInput {
            let function = &mut self.function;
            blame(&self.operator, || function.finish()).map_err(|error| self.fail(&error))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.count();
        let function = &mut self.function;
        blame(&self.operator, || function.flush()).map_err(|error| self.fail(&error))
    }
}
