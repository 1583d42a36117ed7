//! Output in parts: hidden while they are written, renamed when they are complete.
//!
//! ```text
//! <folder>/.part-<subtask>-<number>.tidemill-<job>-<attempt>   while it is written
//! <folder>/part-<subtask>-<number>                             afterwards
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tidemill_model::id::{AttemptNumber, JobId, SubtaskIndex};

use super::staged::Error;
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
}

impl RollingParts {
    pub(super) fn open(
        output: &RollingOutput,
        job: JobId,
        attempt: AttemptNumber,
        subtask: SubtaskIndex,
    ) -> Result<Self, Error> {
        fs::create_dir_all(&output.folder).map_err(io_error("create folder", &output.folder))?;
        let prefix = format!("part-{}-", subtask.0);
        // Only one attempt of a sub-task runs at a time: what an earlier one began is nobody's.
        let infix = format!(".tidemill-{job}-");
        output.remove(|name| {
            name.strip_prefix('.').is_some_and(|name| name.starts_with(&prefix)) && name.contains(&infix)
        })?;
        let number = |name: &String| name.strip_prefix(&prefix)?.parse::<u64>().ok();
        let number = output.names()?.iter().filter_map(number).max().map_or(0, |last| last.saturating_add(1));
        Ok(Self { output: output.clone(), prefix, suffix: format!("{infix}{attempt}"), number, open: None })
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

    /// Completes the open part, if there is one: it appears under its name, and is on disk.
    pub(super) fn roll(&mut self) -> Result<(), Error> {
        let Some(part) = self.open.take() else { return Ok(()) };
        part.file.sync_all().map_err(io_error("sync", &part.path))?;
        loop {
            let path = self.output.folder.join(format!("{}{}", self.prefix, self.number));
            self.number = self.number.saturating_add(1);
            match renameat_with(CWD, &part.path, CWD, &path, RenameFlags::NOREPLACE) {
                Ok(()) => break,
                // Somebody else writes parts of the same name: theirs stays.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(io_error("rename", &part.path)(error.into())),
            }
        }
        let folder = &self.output.folder;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("sync", folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn parts(output: &RollingOutput, attempt: u32) -> RollingParts {
        let job = "0190f3a1b2c37d4e8f00112233445566".parse().unwrap();
        RollingParts::open(output, job, AttemptNumber(attempt), SubtaskIndex(3)).unwrap()
    }

    #[test]
    fn a_part_appears_when_it_is_large_or_old_enough_and_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let output = RollingOutput { folder: folder.path().join("out"), bytes: 4, interval: Duration::from_millis(10) };
        let mut parts = parts(&output, 0);
        parts.write(b"ab\n", 100).unwrap();
        assert!(names(&output.folder)[0].starts_with(".part-3-0.tidemill-"));
        parts.write(b"c\n", 101).unwrap();
        assert_eq!(names(&output.folder), ["part-3-0"]);
        parts.write(b"d\n", 102).unwrap();
        assert_eq!(parts.due_at(), Some(112));
        parts.roll_if_due(111).unwrap();
        assert_eq!(names(&output.folder).len(), 2);
        parts.roll_if_due(112).unwrap();
        parts.write(b"e\n", 113).unwrap();
        parts.roll().unwrap();
        parts.roll().unwrap();
        assert_eq!(names(&output.folder), ["part-3-0", "part-3-1", "part-3-2"]);
        assert_eq!(fs::read(output.folder.join("part-3-0")).unwrap(), b"ab\nc\n");
    }

    #[test]
    fn a_later_attempt_goes_on_with_the_numbers_and_clears_what_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let output = RollingOutput { folder: folder.path().to_owned(), bytes: 4, interval: Duration::from_secs(10) };
        let mut first = parts(&output, 0);
        first.write(b"whole\n", 0).unwrap();
        first.write(b"x\n", 0).unwrap();
        drop(first);
        fs::write(folder.path().join(".part-3-9.of-somebody-else"), "").unwrap();
        let mut second = parts(&output, 1);
        assert_eq!(names(folder.path()), [".part-3-9.of-somebody-else", "part-3-0"]);
        fs::write(folder.path().join("part-3-1"), "of somebody else").unwrap();
        second.write(b"again\n", 0).unwrap();
        assert_eq!(fs::read(folder.path().join("part-3-2")).unwrap(), b"again\n");
        second.write(b"y\n", 0).unwrap();
        output.remove_unfinished("0190f3a1b2c37d4e8f00112233445566".parse().unwrap()).unwrap();
        assert_eq!(names(folder.path()), [".part-3-9.of-somebody-else", "part-3-0", "part-3-1", "part-3-2"]);
    }
}
