//! A sink that writes records as text into staged files.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::rc::Rc;

use tidemill_model::execution::{Failure, FailureKind};

use super::Sink;
use crate::flow::{OperatorIndex, OutputIndex};
use crate::push::{Push, Stopped, blame_on};
use crate::record::{Control, Data, Timestamp};
use crate::runtime::task::TaskContext;

/// How much text is held back before it is written.
const TEXT_BYTES: usize = 128 * 1024;

/// How a record becomes text.
pub trait Format<T>: Clone + Send + Sync + 'static {
    /// Appends the record and what ends it.
    ///
    /// # Errors
    /// The record has no such form; the message says why.
    fn write(&self, record: &T, text: &mut Vec<u8>) -> Result<(), String>;
}

/// A record's `Display` form and a line end.
#[derive(Debug, Clone, Copy, Default)]
pub struct TextFormat;

impl<T: Display> Format<T> for TextFormat {
    fn write(&self, record: &T, text: &mut Vec<u8>) -> Result<(), String> {
        writeln!(text, "{record}").map_err(|error| error.to_string())
    }
}

/// Writes the records of each sub-task to a file of its own, which is published when the job has finished.
pub struct FileSink<T, F> {
    output: OutputIndex,
    format: F,
    operator: OperatorIndex,
    records: PhantomData<fn(T)>,
}

impl<T, F> FileSink<T, F> {
    /// The sink that stages `output`.
    pub fn new(output: OutputIndex, format: F, operator: OperatorIndex) -> Self {
        Self { output, format, operator, records: PhantomData }
    }
}

impl<T, F: Clone> Clone for FileSink<T, F> {
    fn clone(&self) -> Self {
        Self::new(self.output, self.format.clone(), self.operator)
    }
}

/// The open file of one sub-task.
pub struct FileWriter<T, F> {
    path: PathBuf,
    file: File,
    text: Vec<u8>,
    taken: u64,
    format: F,
    operator: Rc<str>,
    context: TaskContext,
    records: PhantomData<fn(T)>,
}

impl<T: Data, F: Format<T>> Sink<T> for FileSink<T, F> {
    type Writer = FileWriter<T, F>;

    fn open(&self, context: &TaskContext) -> Result<FileWriter<T, F>, Failure> {
        let operator = context.operator_name(self.operator);
        let attempt = context.attempt();
        let output = context.flow().output(self.output);
        let opened = output.open_part(attempt.job, context.attempt_number(), context.subtask());
        let (path, file) = opened.map_err(|error| context.failure(error.kind(), Some(&operator), error.to_string()))?;
        Ok(FileWriter {
            path,
            file,
            text: Vec::with_capacity(TEXT_BYTES),
            taken: 0,
            format: self.format.clone(),
            operator,
            context: context.clone(),
            records: PhantomData,
        })
    }
}

impl<T, F> FileWriter<T, F> {
    #[cold]
    fn fail(&self, kind: FailureKind, reason: &str) -> Stopped {
        let message = format!("write {}: {reason}", self.path.display());
        self.context.fail(self.context.failure(kind, Some(&self.operator), message))
    }

    #[cold]
    #[inline(never)]
    fn write_out(&mut self) -> Result<(), Stopped> {
        let written = self.file.write_all(&self.text);
        self.text.clear();
        self.context.count_out(std::mem::take(&mut self.taken));
        self.io(written)?;
        self.context.poll()
    }

    fn io(&self, result: io::Result<()>) -> Result<(), Stopped> {
        result.map_err(|error| self.fail(FailureKind::Io, &error.to_string()))
    }
}

impl<T: Data, F: Format<T>> Push<T> for FileWriter<T, F> {
    #[inline]
    fn push(&mut self, record: T, _time: Timestamp) -> Result<(), Stopped> {
        let (format, text) = (&self.format, &mut self.text);
        blame_on(&self.operator, &record, || format.write(&record, text))
            .map_err(|reason| self.fail(FailureKind::InvalidInput, &reason))?;
        self.taken += 1;
        if self.text.len() >= TEXT_BYTES { self.write_out() } else { Ok(()) }
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        if control == Control::EndOfInput {
            self.write_out()?;
            let synced = self.file.sync_all();
            return self.io(synced);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        // Nobody reads the file before it is published; the count is for people who watch.
        self.context.count_out(std::mem::take(&mut self.taken));
        Ok(())
    }
}
