//! A sink that writes records as text into files: staged ones, or parts that appear one after the other.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::mutant::{self, Mutant};

use super::rolling::{PartsState, PreparedPart, RollingOutput, RollingParts};
use super::staged::{self, StagedOutput, StagedPosition};
use super::{Sink, durable};
use crate::engine::snapshot::StateId;
use crate::flow::{OperatorIndex, OutputIndex};
use crate::push::{Push, Stopped, blame_on};
use crate::record::{Control, Data, Timestamp};
use crate::runtime::checkpoint::Restored;
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

/// What becomes of a sink's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileOutput {
    /// A file a sub-task; all appear at once when the job has finished.
    Staged(StagedOutput),
    /// Any number of files, each of which appears when it is complete.
    Rolling(RollingOutput),
}

impl FileOutput {
    /// What tells it from a staged output that replaces nothing.
    pub(crate) fn manner(&self) -> Option<String> {
        match self {
            Self::Staged(output) => output.overwrite.then(|| format!("overwrite {}", output.path.display())),
            Self::Rolling(output) => Some(format!("rolling {:?} and {} bytes", output.interval, output.bytes)),
        }
    }

    /// Opens the files of one sub-task.
    fn open(&self, state: &StateId, context: &TaskContext) -> Result<Files, Failure> {
        let id = (context.attempt().job, context.attempt_number(), context.subtask());
        let opened = match self {
            Self::Staged(output) => {
                let positions = context.restored_values::<StagedPosition>(state)?;
                let opened = output.continue_part(id, &positions);
                opened.map(|(path, file, length)| Files::Staged { path, file, length })
            }
            Self::Rolling(output) if context.takes_checkpoints() => {
                let restored = context.restored_values::<PartsState>(state)?;
                RollingParts::open_transactional(output, id, restored).map(Files::Rolling)
            }
            Self::Rolling(output) => RollingParts::open(output, id).map(Files::Rolling),
        };
        opened.map_err(|error| context.failure(error.kind(), None, error.to_string()))
    }

    /// Commits what a sub-task had prepared when it finished.
    pub(crate) fn commit_last(&self, state: &StateId, restored: &Restored) -> Result<(), Failure> {
        let Self::Rolling(output) = self else { return Ok(()) };
        let failure = |kind, message| Failure { kind, vertex: None, operator: None, message };
        let values = restored
            .values(state, &[std::any::type_name::<PartsState>()])
            .map_err(|error| failure(error.kind(), format!("publish {}: {error}", output.folder.display())))?;
        for value in values {
            let parts: PartsState = value.decode().map_err(|error| {
                failure(FailureKind::InvalidInput, format!("publish {}: {error}", output.folder.display()))
            })?;
            for prepared in parts.prepared.into_committed() {
                PreparedPart::commit_all(&prepared).map_err(|error| failure(error.kind(), error.to_string()))?;
            }
        }
        Ok(())
    }
}

/// The name of the state of a sink's files.
pub(crate) const FILES: &str = "files";

/// The files of one sub-task.
enum Files {
    Staged { path: PathBuf, file: File, length: u64 },
    Rolling(RollingParts),
}

impl Files {
    fn write(&mut self, text: &[u8], now: Timestamp) -> Result<(), staged::Error> {
        match self {
            Self::Staged { path, file, length } => {
                file.write_all(text).map_err(|source| write_error(path, source))?;
                *length += u64::try_from(text.len()).unwrap_or(u64::MAX);
                Ok(())
            }
            Self::Rolling(parts) => parts.write(text, now),
        }
    }

    /// Makes durable what is written: up to a barrier, or to the end of input.
    fn prepare(&mut self, checkpoint: Option<u64>) -> Result<(), staged::Error> {
        match self {
            Self::Staged { path, file, .. } => {
                durable::sync_file(file, path).map_err(|source| write_error(path, source))
            }
            Self::Rolling(parts) => parts.prepare(checkpoint),
        }
    }

    /// Leaves what a restart has to know.
    fn keep(&self, state: &StateId, context: &TaskContext) {
        match self {
            Self::Staged { path, length, .. } => {
                context.keep_value(state.clone(), StagedPosition { part: path.clone(), length: *length });
            }
            Self::Rolling(parts) => {
                parts.state().into_iter().for_each(|parts| context.keep_value(state.clone(), parts));
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Staged { path, .. } => path,
            Self::Rolling(parts) => parts.path(),
        }
    }

    fn rolling(&mut self) -> Option<&mut RollingParts> {
        match self {
            Self::Staged { .. } => None,
            Self::Rolling(parts) => Some(parts),
        }
    }
}

fn write_error(path: &Path, source: io::Error) -> staged::Error {
    staged::Error::Io { action: "write", path: path.to_owned(), source }
}

/// Writes the records of each sub-task to files of its own.
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

/// The open files of one sub-task.
pub struct FileWriter<T, F> {
    files: Files,
    state: StateId,
    text: Vec<u8>,
    /// How much text is held back before it is written.
    text_bytes: usize,
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
        let state = context.operator_uid(self.operator).state(FILES);
        let opened = context.flow().output(self.output).open(&state, context);
        let mut files = opened.map_err(|failure| Failure { operator: Some(operator.to_string()), ..failure })?;
        // A part is to end soon after it has its size.
        let part_bytes = files.rolling().and_then(|parts| usize::try_from(parts.bytes()).ok());
        Ok(FileWriter {
            files,
            state,
            text: Vec::with_capacity(TEXT_BYTES),
            text_bytes: part_bytes.map_or(TEXT_BYTES, |bytes| bytes.clamp(1, TEXT_BYTES)),
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
    fn fail(&self, kind: FailureKind, message: String) -> Stopped {
        self.context.fail(self.context.failure(kind, Some(&self.operator), message))
    }

    #[cold]
    #[inline(never)]
    fn write_out(&mut self) -> Result<(), Stopped> {
        let written = self.files.write(&self.text, self.context.processing_time());
        self.text.clear();
        self.context.count_out(std::mem::take(&mut self.taken));
        self.check(written)?;
        self.wake();
        self.context.poll()
    }

    #[cold]
    fn prepare(&mut self, checkpoint: Option<u64>) -> Result<(), Stopped> {
        self.write_out()?;
        if let (true, Some(parts)) = (mutant::active(Mutant::SinkAbortsOnCheckpointAbort), self.files.rolling()) {
            parts.forget(self.context.aborted());
        }
        let prepared = self.files.prepare(checkpoint);
        self.check(prepared)?;
        if let (true, Some(parts)) = (mutant::active(Mutant::SinkCommitsAtBarrier), self.files.rolling()) {
            let committed = parts.commit(checkpoint.unwrap_or(u64::MAX));
            self.check(committed)?;
        }
        self.files.keep(&self.state, &self.context);
        Ok(())
    }

    fn check(&self, result: Result<(), staged::Error>) -> Result<(), Stopped> {
        result.map_err(|error| self.fail(error.kind(), error.to_string()))
    }

    /// Asks to be called when a part is old enough.
    fn wake(&mut self) {
        if let Some(time) = self.files.rolling().and_then(|parts| parts.due_at()) {
            self.context.wake_at(time);
        }
    }
}

impl<T: Data, F: Format<T>> Push<T> for FileWriter<T, F> {
    #[inline]
    fn push(&mut self, record: T, _time: Timestamp) -> Result<(), Stopped> {
        let (format, text) = (&self.format, &mut self.text);
        blame_on(&self.operator, &record, || format.write(&record, text)).map_err(|reason| {
            self.fail(FailureKind::InvalidInput, format!("write {}: {reason}", self.files.path().display()))
        })?;
        self.taken += 1;
        if self.text.len() >= self.text_bytes { self.write_out() } else { Ok(()) }
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        match control {
            Control::EndOfInput | Control::FinishedBefore => self.prepare(None),
            Control::Barrier(checkpoint) if self.context.takes_checkpoints() => self.prepare(Some(checkpoint)),
            Control::Completed(checkpoint) => {
                let committed = self.files.rolling().map_or(Ok(()), |parts| parts.commit(checkpoint));
                self.check(committed)
            }
            Control::ProcessingTime(now) => {
                let rolled = self.files.rolling().map_or(Ok(()), |parts| parts.roll_if_due(now));
                self.check(rolled)?;
                self.wake();
                Ok(())
            }
            Control::Watermark(_) | Control::Barrier(_) | Control::Idle | Control::Active => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        if self.files.rolling().is_some() && !self.text.is_empty() {
            // The part's time begins now, so that it appears even if nothing more comes.
            return self.write_out();
        }
        // Nobody reads a staged file before it is published; the count is for people who watch.
        self.context.count_out(std::mem::take(&mut self.taken));
        Ok(())
    }
}
