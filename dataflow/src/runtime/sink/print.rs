//! A sink that prints each record on a line of the standard output.

use std::fmt::{Debug, Write as _};
use std::io::Write as _;
use std::marker::PhantomData;
use std::rc::Rc;

use tidemill_model::execution::{Failure, FailureKind};

use super::Sink;
use crate::flow::OperatorIndex;
use crate::push::{Push, Stopped, blame_on};
use crate::record::{Control, Data, Timestamp};
use crate::runtime::task::TaskContext;

/// How much text is held back at most.
const TEXT_BYTES: usize = 32 * 1024;

/// Prints records in their `Debug` form, behind `i> ` (the sub-task, from 1) when there are several sub-tasks.
pub struct PrintSink<T> {
    operator: OperatorIndex,
    records: PhantomData<fn(T)>,
}

impl<T> PrintSink<T> {
    /// The sink of this operator.
    #[must_use]
    pub fn new(operator: OperatorIndex) -> Self {
        Self { operator, records: PhantomData }
    }
}

impl<T> Clone for PrintSink<T> {
    fn clone(&self) -> Self {
        Self { operator: self.operator, records: PhantomData }
    }
}

/// The lines of one sub-task that are not printed yet.
pub struct PrintWriter {
    prefix: String,
    text: String,
    taken: u64,
    operator: Rc<str>,
    context: TaskContext,
}

impl<T: Data + Debug> Sink<T> for PrintSink<T> {
    type Writer = PrintWriter;

    fn open(&self, context: &TaskContext) -> Result<PrintWriter, Failure> {
        let several = context.parallelism() > 1;
        let prefix = if several { format!("{}> ", context.subtask().0 + 1) } else { String::new() };
        let operator = context.operator_name(self.operator);
        Ok(PrintWriter { prefix, text: String::new(), taken: 0, operator, context: context.clone() })
    }
}

impl PrintWriter {
    fn print(&mut self) -> Result<(), Stopped> {
        self.context.count_out(std::mem::take(&mut self.taken));
        let mut output = std::io::stdout().lock();
        let printed = output.write_all(self.text.as_bytes()).and_then(|()| output.flush());
        self.text.clear();
        printed.map_err(|error| {
            let message = format!("print to standard output: {error}");
            self.context.fail(self.context.failure(FailureKind::Io, Some(&self.operator), message))
        })
    }
}

impl<T: Data + Debug> Push<T> for PrintWriter {
    fn push(&mut self, record: T, _time: Timestamp) -> Result<(), Stopped> {
        let (text, prefix) = (&mut self.text, &self.prefix);
        // Writing to a string fails only when the record's `Debug` says so; its text so far is kept.
        let _ = blame_on(&self.operator, &record, || writeln!(text, "{prefix}{record:?}"));
        self.taken += 1;
        if self.text.len() >= TEXT_BYTES { self.print() } else { Ok(()) }
    }

    fn control(&mut self, _control: Control) -> Result<(), Stopped> {
        self.print()
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.print()
    }
}
