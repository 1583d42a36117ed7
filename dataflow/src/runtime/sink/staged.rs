//! Output that appears all at once: written to a hidden folder beside its place, then renamed.
//!
//! ```text
//! <dir>/.<name>.tidemill-<job>-<attempt>/1 2 3 ..   while the job runs: what each attempt wrote
//! <dir>/.<name>.tidemill-<job>-commit/1 2 3 ..      during a commit: one file of each sub-task, moved here
//! <dir>/<name>                                       afterwards: the folder, or its single file
//! ```
//!
//! Failover regions restart some sub-tasks and not others, so a commit names the attempt of each sub-task.
//!
//! Why a commit may be repeated, by anybody, after a crash at any moment: the files of the named attempts are complete,
//! and only a commit takes them away (an abort never follows the decision to commit). A part is in its attempt's folder
//! or in the assembly, so a commit that was interrupted while it moved them is taken up where it stopped. When neither
//! has any and the output is there, the commit has happened. Where the file system keeps extended attributes, the
//! published output also carries the job's id (`user.tidemill.job`), and a repeated commit insists on it. Replacing a
//! folder exchanges it with the assembly, which would be undone by a second exchange: the assembly therefore carries a
//! mark until the old content is deleted.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{RenameFlags, XattrFlags, getxattr, setxattr};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tidemill_failpoint::FailPoint;
use tidemill_model::id::{AttemptNumber, JobId, SubtaskIndex};

use super::durable;

mod error;

pub use error::Error;
use error::io_error;

/// The extended attribute that names the job of a published output.
const JOB_ATTRIBUTE: &str = "user.tidemill.job";

/// An output and whether it may replace what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedOutput {
    /// Where it appears.
    pub path: PathBuf,
    /// Whether it replaces an earlier output.
    pub overwrite: bool,
}

/// How much of a part is durable, for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedPosition {
    /// The part, in the folder of the attempt that wrote it.
    pub part: PathBuf,
    /// How many bytes.
    pub length: u64,
}

/// The names that an output uses.
struct Places {
    parent: PathBuf,
    name: String,
}

impl Places {
    fn staging(&self, job: JobId, attempt: AttemptNumber) -> PathBuf {
        self.parent.join(format!("{}{attempt}", self.staging_prefix(job)))
    }

    fn staging_prefix(&self, job: JobId) -> String {
        format!(".{}.tidemill-{job}-", self.name)
    }

    /// Where the parts of the attempts that count are brought together.
    fn assembly(&self, job: JobId) -> PathBuf {
        self.parent.join(format!("{}commit", self.staging_prefix(job)))
    }

    /// Whatever is staged of a job: each attempt's folder, and the assembly.
    fn stagings(&self, job: JobId) -> Result<Vec<PathBuf>, Error> {
        let entries = match fs::read_dir(&self.parent) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("list", &self.parent)(error)),
        };
        let prefix = self.staging_prefix(job);
        let ours = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&prefix))
        };
        Ok(entries.flatten().map(|entry| entry.path()).filter(ours).collect())
    }
}

impl StagedOutput {
    fn places(&self) -> Result<Places, Error> {
        let name = self.path.file_name().ok_or_else(|| Error::NoFileName { path: self.path.clone() })?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok(Places { parent: parent.unwrap_or(Path::new(".")).to_owned(), name: name.to_string_lossy().into_owned() })
    }

    /// Opens the file of one sub-task.
    ///
    /// # Errors
    /// The output exists and may not be replaced, or the file system refuses.
    pub fn open_part(
        &self,
        job: JobId,
        attempt: AttemptNumber,
        subtask: SubtaskIndex,
    ) -> Result<(PathBuf, File), Error> {
        self.check_place()?;
        let staging = self.places()?.staging(job, attempt);
        fs::create_dir_all(&staging).map_err(io_error("create folder", &staging))?;
        let path = staging.join((subtask.0 + 1).to_string());
        let file = File::create(&path).map_err(io_error("create", &path))?;
        // A checkpoint that names the part must find it after a loss of power.
        sync_folder(&staging)?;
        sync_folder(&self.places()?.parent)?;
        Ok((path, file))
    }

    /// Opens the file of one sub-task with what earlier attempts had written up to a checkpoint. It is copied: an earlier
    /// attempt may still run somewhere and go on writing. Answers its length, too.
    ///
    /// # Errors
    /// The same, or the earlier attempt's file is gone or too short.
    pub fn continue_part(
        &self,
        (job, attempt, subtask): (JobId, AttemptNumber, SubtaskIndex),
        positions: &[StagedPosition],
    ) -> Result<(PathBuf, File, u64), Error> {
        let (path, mut file) = self.open_part(job, attempt, subtask)?;
        let mut total = 0;
        for StagedPosition { part, length } in positions.iter().filter(|position| position.length > 0) {
            let earlier = File::open(part).map_err(io_error("restore from", part))?;
            let copied = io::copy(&mut earlier.take(*length), &mut file);
            if copied.map_err(io_error("restore from", part))? < *length {
                return Err(Error::ShortPart { path: part.clone(), length: *length });
            }
            total += length;
        }
        Ok((path, file, total))
    }

    /// Whether the output may appear in its place.
    fn check_place(&self) -> Result<(), Error> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("look at", &self.path)(error)),
            Ok(_) if !self.overwrite => Err(Error::Exists { path: self.path.clone() }),
            Ok(metadata) if metadata.is_dir() => self.check_replaceable(),
            Ok(_) => Ok(()),
        }
    }

    /// A folder may be replaced when it holds nothing but the parts of an earlier output.
    fn check_replaceable(&self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.path).map_err(io_error("list", &self.path))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let part = name.parse::<u32>().is_ok() || name.starts_with(".tidemill-");
            if !part || entry.path().is_dir() {
                return Err(Error::ForeignContent { path: self.path.clone(), entry: name });
            }
        }
        Ok(())
    }

    /// Publishes what the named attempt of each sub-task staged, and removes what other attempts did.
    ///
    /// It may be repeated, by anybody and after a crash at any moment: each step either has been done, which shows on
    /// disk, or is done now.
    ///
    /// # Errors
    /// The output exists and may not be replaced, parts are missing, or the file system refuses.
    pub fn commit(&self, job: JobId, attempts: &[AttemptNumber]) -> Result<(), Error> {
        FailPoint::SinkCommitPre.check().map_err(io_error("publish", &self.path))?;
        let places = self.places()?;
        let mark = format!(".tidemill-{job}");
        if fs::symlink_metadata(self.path.join(&mark)).is_ok() {
            // An exchange was interrupted: what is staged now is the old content.
        } else if let [attempt] = attempts {
            self.publish_file(job, &places.staging(job, *attempt).join("1"))?;
        } else {
            self.publish_folder(job, &places, &mark, attempts)?;
        }
        sync_folder(&places.parent)?;
        remove_all(places.stagings(job)?)?;
        remove_mark(&self.path.join(&mark))?;
        sync_folder(&places.parent)?;
        FailPoint::SinkCommitPost.check().map_err(io_error("publish", &self.path))
    }

    fn publish_file(&self, job: JobId, part: &Path) -> Result<(), Error> {
        // A folder in the part's place is the old content that an interrupted commit has exchanged with it.
        if !part.is_file() {
            return self.check_published(job, 0, 1);
        }
        name_job(part, job);
        let old = fs::symlink_metadata(&self.path).ok();
        match old {
            Some(old) if self.overwrite && old.is_dir() => {
                self.check_replaceable()?;
                self.rename(part, RenameFlags::EXCHANGE)
            }
            Some(_) if self.overwrite => self.rename(part, RenameFlags::empty()),
            Some(_) | None => self.rename(part, RenameFlags::NOREPLACE),
        }
    }

    fn publish_folder(&self, job: JobId, places: &Places, mark: &str, attempts: &[AttemptNumber]) -> Result<(), Error> {
        let assembly = places.assembly(job);
        let wanted = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
        let found = gather(job, places, &assembly, attempts)?;
        if found == 0 {
            return self.check_published(job, found, wanted);
        }
        if found != wanted {
            return Err(Error::MissingParts { path: self.path.clone(), found, wanted });
        }
        name_job(&assembly, job);
        sync_folder(&assembly)?;
        if !self.overwrite || fs::symlink_metadata(&self.path).is_err() {
            return self.rename(&assembly, RenameFlags::NOREPLACE);
        }
        if self.path.is_dir() {
            self.check_replaceable()?;
        }
        let mark = assembly.join(mark);
        File::create(&mark).and_then(|file| file.sync_all()).map_err(io_error("mark", &mark))?;
        sync_folder(&assembly)?;
        self.rename(&assembly, RenameFlags::EXCHANGE)
    }

    fn rename(&self, from: &Path, flags: RenameFlags) -> Result<(), Error> {
        match durable::rename(from, &self.path, flags) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(Error::Exists { path: self.path.clone() }),
            Err(error) => Err(io_error("publish", &self.path)(error.into())),
        }
    }

    /// Nothing is staged: an earlier commit must have published it.
    fn check_published(&self, job: JobId, found: u32, wanted: u32) -> Result<(), Error> {
        let missing = || Error::MissingParts { path: self.path.clone(), found, wanted };
        fs::symlink_metadata(&self.path).map_err(|_| missing())?;
        let mut value = [0u8; 64];
        match getxattr(&self.path, JOB_ATTRIBUTE, &mut value) {
            Ok(length) if value[..length] == *job.to_string().as_bytes() => Ok(()),
            Ok(_) | Err(Errno::NODATA) => Err(missing()),
            // No extended attributes here: the absence of the staging folder must do.
            Err(_) => Ok(()),
        }
    }

    /// Removes whatever any attempt staged.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn abort(&self, job: JobId) -> Result<(), Error> {
        remove_all(self.places()?.stagings(job)?)
    }
}

/// Moves each sub-task's part from its attempt's folder into the assembly; says how many are there.
///
/// Only the named attempt's file ever comes to a part's place, so one that is there already is the right one.
fn gather(job: JobId, places: &Places, assembly: &Path, attempts: &[AttemptNumber]) -> Result<u32, Error> {
    let mut found = 0;
    for (part, &attempt) in (1u32..).zip(attempts) {
        let (staged, place) = (places.staging(job, attempt).join(part.to_string()), assembly.join(part.to_string()));
        if staged.is_file() {
            fs::create_dir_all(assembly).map_err(io_error("create folder", assembly))?;
            let moved = durable::rename(&staged, &place, RenameFlags::empty());
            moved.map_err(|error| io_error("assemble", &place)(error.into()))?;
        }
        found += u32::from(place.is_file());
    }
    Ok(found)
}

/// Writes the job's id on an output; where that is not supported, nothing is lost but a check.
fn name_job(path: &Path, job: JobId) {
    if let Err(error) = setxattr(path, JOB_ATTRIBUTE, job.to_string().as_bytes(), XattrFlags::empty()) {
        tracing::debug!(path = %path.display(), %error, "output carries no job id");
    }
}

fn remove_all(folders: Vec<PathBuf>) -> Result<(), Error> {
    for folder in folders {
        let removed = match fs::symlink_metadata(&folder) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&folder),
            // An output that was a file is staged now, exchanged with the folder that replaced it.
            Ok(_) => fs::remove_file(&folder),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", &folder)(error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn remove_mark(mark: &Path) -> Result<(), Error> {
    match fs::remove_file(mark) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(io_error("remove", mark)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    durable::sync_folder(folder).map_err(io_error("sync", folder))
}

#[cfg(test)]
mod tests;
