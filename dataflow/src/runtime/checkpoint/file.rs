//! The bytes that one checkpoint adds: held back while they are few, else one file for all sub-tasks of the process.

use bytes::Bytes;
use crc32fast::Hasher;
use tidemill_model::checkpoint::StateHandle;
use tidemill_model::id::{CheckpointId, ExecutionVertexId};
use tidemill_storage::{JobStorage, StateWriter};

use super::Error;

/// How much is written at a time.
const WRITE_BYTES: usize = 1024 * 1024;

/// The state of a sub-task up to this size stands in the checkpoint's metadata, as Flink's `fs.memory-threshold` does:
/// a file would cost more than it holds.
pub(super) const INLINE_BYTES_MAX: usize = 1024;

/// The file of one checkpoint and process; it comes into being with the first state that is too large to stand inline.
pub(super) struct CheckpointFile {
    storage: JobStorage,
    /// The path of the first file of its kind; others follow, numbered.
    stem: String,
    number: u32,
    path: String,
    writer: Option<StateWriter>,
}

impl CheckpointFile {
    /// `process` tells this process from every other one that ever takes part in a checkpoint of the job.
    pub(super) fn new(storage: JobStorage, checkpoint: CheckpointId, process: &str) -> Self {
        Self::of(storage, format!("{checkpoint}/{process}"), 0)
    }

    /// The file of what a sub-task leaves at the end of its input, which belongs to no checkpoint.
    pub(super) fn last(storage: JobStorage, name: &str) -> Self {
        Self::of(storage, format!("last/{name}"), 0)
    }

    fn of(storage: JobStorage, stem: String, number: u32) -> Self {
        let path = if number == 0 { stem.clone() } else { format!("{stem}-{number}") };
        Self { storage, stem, number, path, writer: None }
    }

    /// Another file of the same checkpoint and process, after this one.
    pub(super) fn next(&self) -> Self {
        Self::of(self.storage.clone(), self.stem.clone(), self.number + 1)
    }

    /// A file of the same checkpoint and process that holds one file of a sub-task's store.
    pub(super) fn beside(&self, ExecutionVertexId { vertex, subtask }: ExecutionVertexId, name: &str) -> Self {
        Self::of(self.storage.clone(), format!("{}-{vertex}-{subtask}-{name}", self.stem), 0)
    }

    /// Writes the whole file, durably; answers its path.
    pub(super) async fn write_whole(mut self, bytes: Bytes) -> Result<String, Error> {
        self.write(bytes).await?;
        let path = self.path.clone();
        self.finish().await?;
        Ok(path)
    }

    /// Where the next range would begin.
    fn position(&self) -> u64 {
        self.writer.as_ref().map_or(0, StateWriter::position)
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(self.storage.create(&self.path).await?),
        };
        Ok(writer.write(bytes).await?)
    }

    /// Makes durable what was written.
    pub(super) async fn finish(self) -> Result<(), Error> {
        if let Some(writer) = self.writer {
            writer.finish().await?;
        }
        Ok(())
    }
}

/// The range that one sub-task adds.
pub(super) struct Range {
    begin: u64,
    length: u64,
    buffer: Vec<u8>,
    hasher: Hasher,
    /// Whether the beginning is in the file already.
    spilled: bool,
}

impl Range {
    /// An empty range at the end of the file.
    pub(super) fn begin(file: &CheckpointFile) -> Self {
        Self { begin: file.position(), length: 0, buffer: Vec::new(), hasher: Hasher::new(), spilled: false }
    }

    /// The end of the buffer, to be appended to; then call [`settle`](Self::settle).
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// How many bytes the range has, those in the buffer among them.
    pub(super) fn length(&self) -> u64 {
        self.length + u64::try_from(self.buffer.len()).unwrap_or(u64::MAX)
    }

    /// Writes the buffer out when it is large.
    pub(super) async fn settle(&mut self, file: &mut CheckpointFile) -> Result<(), Error> {
        if self.buffer.len() >= WRITE_BYTES { self.spill(file).await } else { Ok(()) }
    }

    async fn spill(&mut self, file: &mut CheckpointFile) -> Result<(), Error> {
        self.hasher.update(&self.buffer);
        self.length = self.length();
        self.spilled = true;
        file.write(Bytes::from(std::mem::take(&mut self.buffer))).await
    }

    /// The handle of the range; none of an empty one.
    pub(super) async fn end(mut self, file: &mut CheckpointFile) -> Result<Option<StateHandle>, Error> {
        if !self.spilled && self.buffer.len() <= INLINE_BYTES_MAX {
            return Ok((!self.buffer.is_empty()).then_some(StateHandle::Inline(self.buffer)));
        }
        if !self.buffer.is_empty() {
            self.spill(file).await?;
        }
        let (offset, length, checksum) = (self.begin, self.length, self.hasher.finalize());
        Ok(Some(StateHandle::File { path: file.path.clone(), offset, length, checksum }))
    }
}
