//! Output in parts: hidden while they are written, renamed when they are complete.
//!
//! ```text
//! <folder>/.part-<subtask>-<number>.tidemill-<job>-<attempt>   while it is written
//! <folder>/part-<subtask>-<number>                             afterwards
//! ```
//!
//! In a job that takes checkpoints, a part appears when the checkpoint is committed that it was closed for: it is a
//! prepared transaction until then. What a restarted attempt finds hidden, and its checkpoint does not know, is removed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::RenameFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tidemill_failpoint::FailPoint;
use tidemill_model::id::{AttemptNumber, JobId, SubtaskIndex};

use super::durable::{create_folder, rename, sync_file, sync_folder as sync_names};
use super::staged::Error;
use crate::engine::transactions::Transactions;
use crate::record::Timestamp;

/// A folder that fills with parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollingOutput {
    /// The folder; others may write into it, too.
    pub folder: PathBuf,
    /// The size at which a part is complete.
    pub bytes: u64,
    /// The age at which a part is complete.
    pub interval: Duration,
}

impl RollingOutput {
    /// Removes what attempts of this job began and did not complete.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove_unfinished(&self, job: JobId) -> Result<(), Error> {
        let infix = format!(".tidemill-{job}-");
        self.remove(|name| name.starts_with(".part-") && name.contains(&infix))
    }

    fn remove(&self, which: impl Fn(&str) -> bool) -> Result<(), Error> {
        for name in self.names()?.into_iter().filter(|name| which(name)) {
            let path = self.folder.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", &path)(error)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        match fs::read_dir(&self.folder) {
            Ok(entries) => {
                Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(io_error("list", &self.folder)(error)),
        }
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

/// A part that is complete and hidden, as anybody may publish it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PreparedPart {
    /// A job that starts from a savepoint may write elsewhere.
    folder: PathBuf,
    hidden: String,
    name: String,
}

impl PreparedPart {
    /// Has prepared parts appear; those that have already stay as they are, so that anybody may repeat it.
    ///
    /// # Errors
    /// A part is gone, another file has its name, or the file system refuses.
    pub(crate) fn commit_all(parts: &[Self]) -> Result<(), Error> {
        FailPoint::SinkCommitPre.hit();
        for Self { folder, hidden, name } in parts {
            let path = folder.join(name);
            match rename(&folder.join(hidden), &path, RenameFlags::NOREPLACE) {
                Ok(()) => {}
                // Committed before.
                Err(Errno::NOENT) if fs::symlink_metadata(&path).is_ok() => {}
                Err(Errno::NOENT) => return Err(Error::LostPart { path: folder.join(hidden) }),
                Err(Errno::EXIST) => return Err(Error::Exists { path }),
                Err(error) => return Err(io_error("publish", &path)(error.into())),
            }
        }
        let synced = parts.first().map_or(Ok(()), |part| sync_folder(&part.folder));
        FailPoint::SinkCommitPost.hit();
        synced
    }
}

/// What a checkpoint has of the parts of one sub-task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartsState {
    pub(crate) prepared: Transactions<Vec<PreparedPart>>,
    next_number: u64,
}

impl PartsState {
    /// The parts that wait, each by the path at which it will appear, and for which checkpoint; none: for the end.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (Option<u64>, String)> {
        self.prepared.waiting().flat_map(|(waits_for, parts)| {
            let what = |part: &PreparedPart| format!("{}, now {}", part.folder.join(&part.name).display(), part.hidden);
            parts.iter().map(move |part| (waits_for, what(part)))
        })
    }
}

/// When parts appear.
enum Publishing {
    /// As soon as they are complete.
    AtOnce,
    /// With checkpoints: those since the last barrier, and those before.
    WithCheckpoints { since_barrier: Vec<PreparedPart>, prepared: Transactions<Vec<PreparedPart>> },
}

/// A part that is being written.
struct OpenPart {
    file: File,
    path: PathBuf,
    bytes: u64,
    due_at: Timestamp,
}

/// The parts of one sub-task.
pub(super) struct RollingParts {
    output: RollingOutput,
    /// How names begin.
    prefix: String,
    /// How hidden names end.
    suffix: String,
    /// The number of the next part.
    number: u64,
    open: Option<OpenPart>,
    publishing: Publishing,
}

impl RollingParts {
    /// Parts that appear as soon as they are complete.
    pub(super) fn open(
        output: &RollingOutput,
        (job, attempt, subtask): (JobId, AttemptNumber, SubtaskIndex),
    ) -> Result<Self, Error> {
        let mut parts = Self::begin(output, (job, attempt, subtask))?;
        // Only one attempt of a sub-task runs at a time: what an earlier one began is nobody's.
        parts.remove_older(job, attempt)?;
        parts.number = parts.number.max(parts.free_number()?);
        Ok(parts)
    }

    /// Parts that appear with checkpoints. `restored` are those of the checkpoint that the sub-task starts from: it is
    /// committed, so they appear now, and whatever else earlier attempts left is removed.
    pub(super) fn open_transactional(
        output: &RollingOutput,
        (job, attempt, subtask): (JobId, AttemptNumber, SubtaskIndex),
        restored: Vec<PartsState>,
    ) -> Result<Self, Error> {
        let mut parts = Self::begin(output, (job, attempt, subtask))?;
        for PartsState { prepared, next_number } in restored {
            parts.number = parts.number.max(next_number);
            for prepared in prepared.into_committed() {
                PreparedPart::commit_all(&prepared)?;
            }
        }
        parts.remove_older(job, attempt)?;
        parts.number = parts.number.max(parts.free_number()?);
        parts.publishing = Publishing::WithCheckpoints { since_barrier: Vec::new(), prepared: Transactions::default() };
        Ok(parts)
    }

    fn begin(
        output: &RollingOutput,
        (job, attempt, subtask): (JobId, AttemptNumber, SubtaskIndex),
    ) -> Result<Self, Error> {
        create_folder(&output.folder).map_err(io_error("create folder", &output.folder))?;
        let (prefix, suffix) = (format!("part-{}-", subtask.0), format!(".tidemill-{job}-{attempt}"));
        let publishing = Publishing::AtOnce;
        Ok(Self { output: output.clone(), prefix, suffix, number: 0, open: None, publishing })
    }

    /// Removes the hidden parts of earlier attempts of this sub-task. Those of later attempts stay: this one may have
    /// been superseded without knowing it.
    fn remove_older(&self, job: JobId, attempt: AttemptNumber) -> Result<(), Error> {
        let infix = format!(".tidemill-{job}-");
        self.output.remove(|name| {
            let hidden = name.strip_prefix('.').and_then(|name| name.strip_prefix(&self.prefix));
            let of = hidden.and_then(|name| name.split_once(&infix)).and_then(|(_, of)| of.parse::<u32>().ok());
            of.is_some_and(|of| of < attempt.0)
        })
    }

    /// A number beyond all parts that there are.
    fn free_number(&self) -> Result<u64, Error> {
        let number = |name: &String| name.strip_prefix(&self.prefix)?.parse::<u64>().ok();
        Ok(self.output.names()?.iter().filter_map(number).max().map_or(0, |last| last.saturating_add(1)))
    }

    /// The size at which a part is complete.
    pub(super) fn bytes(&self) -> u64 {
        self.output.bytes
    }

    /// What is written at present.
    pub(super) fn path(&self) -> &Path {
        self.open.as_ref().map_or(&self.output.folder, |part| &part.path)
    }

    /// When the open part is old enough.
    pub(super) fn due_at(&self) -> Option<Timestamp> {
        self.open.as_ref().map(|part| part.due_at)
    }

    /// Writes whole records.
    pub(super) fn write(&mut self, text: &[u8], now: Timestamp) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        let part = match &mut self.open {
            Some(part) => part,
            none => {
                let path = self.output.folder.join(format!(".{}{}{}", self.prefix, self.number, self.suffix));
                let file = File::create(&path).map_err(io_error("create", &path))?;
                let interval = Timestamp::try_from(self.output.interval.as_millis()).unwrap_or(Timestamp::MAX);
                none.insert(OpenPart { file, path, bytes: 0, due_at: now.saturating_add(interval) })
            }
        };
        part.file.write_all(text).map_err(io_error("write", &part.path))?;
        part.bytes = part.bytes.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        if part.bytes >= self.output.bytes || now >= part.due_at { self.roll() } else { Ok(()) }
    }

    /// Completes the open part if it is old enough.
    pub(super) fn roll_if_due(&mut self, now: Timestamp) -> Result<(), Error> {
        if self.due_at().is_some_and(|due_at| now >= due_at) { self.roll() } else { Ok(()) }
    }

    /// Completes the open part, if there is one: it is on disk, and appears when its time has come.
    pub(super) fn roll(&mut self) -> Result<(), Error> {
        let Some(part) = self.open.take() else { return Ok(()) };
        sync_file(&part.file, &part.path).map_err(io_error("sync", &part.path))?;
        if let Publishing::WithCheckpoints { since_barrier, .. } = &mut self.publishing {
            let hidden = part.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let (folder, name) = (self.output.folder.clone(), format!("{}{}", self.prefix, self.number));
            since_barrier.push(PreparedPart { folder, hidden, name });
            self.number = self.number.saturating_add(1);
            return sync_folder(&self.output.folder);
        }
        loop {
            let path = self.output.folder.join(format!("{}{}", self.prefix, self.number));
            self.number = self.number.saturating_add(1);
            match rename(&part.path, &path, RenameFlags::NOREPLACE) {
                Ok(()) => break,
                // Somebody else writes parts of the same name: theirs stays.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(io_error("rename", &part.path)(error.into())),
            }
        }
        sync_folder(&self.output.folder)
    }

    /// Completes and prepares all that was written, for this checkpoint, or at the end of input for the job's last one.
    pub(super) fn prepare(&mut self, checkpoint: Option<u64>) -> Result<(), Error> {
        FailPoint::SinkPrecommitPre.hit();
        self.roll()?;
        if let Publishing::WithCheckpoints { since_barrier, prepared } = &mut self.publishing
            && !since_barrier.is_empty()
        {
            let parts = std::mem::take(since_barrier);
            match checkpoint {
                Some(checkpoint) => prepared.prepared(checkpoint, parts),
                None => prepared.prepared_last(parts),
            }
        }
        FailPoint::SinkPrecommitPost.hit();
        Ok(())
    }

    /// A checkpoint is committed, and with it the parts that wait for it.
    pub(super) fn commit(&mut self, checkpoint: u64) -> Result<(), Error> {
        let Publishing::WithCheckpoints { prepared, .. } = &mut self.publishing else { return Ok(()) };
        prepared.take_committed(checkpoint).iter().try_for_each(|parts| PreparedPart::commit_all(parts))
    }

    /// Forgets what was prepared for a checkpoint that came to nothing: a known bug, since the next one commits it.
    pub(super) fn forget(&mut self, aborted: u64) {
        if let Publishing::WithCheckpoints { prepared, .. } = &mut self.publishing {
            prepared.forget(aborted);
        }
    }

    /// What a checkpoint has to know of the parts; none when they appear at once.
    pub(super) fn state(&self) -> Option<PartsState> {
        match &self.publishing {
            Publishing::AtOnce => None,
            Publishing::WithCheckpoints { prepared, .. } => {
                Some(PartsState { prepared: prepared.clone(), next_number: self.number })
            }
        }
    }
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    sync_names(folder).map_err(io_error("sync", folder))
}

#[cfg(test)]
mod tests;
