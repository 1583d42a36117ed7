//! The task manager's directory: its lock, the artifact cache and the jobs' folders.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tidemill_model::id::{AttemptNumber, BlobId, JobId};

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process uses it.
    #[error(
        "lock task manager directory {path:?}: another process uses it; stop that one, or give this one another \
         directory with -D taskmanager.dir=..."
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It cannot be made or read.
    #[error("prepare {path:?}: {source}; make it writable, or choose another with -D taskmanager.dir=...")]
    Prepare {
        /// What could not be prepared.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Whether copies of the state of jobs are kept here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LocalState {
    Kept,
    None,
}

/// An exclusively held directory; the lock ends with the value.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    local_state: LocalState,
    _lock: File,
}

impl Directory {
    /// Locks the directory, makes it if need be, and removes the jobs' folders of a former incarnation.
    pub(crate) fn open(root: &Path, local_state: LocalState) -> Result<Self, Error> {
        let prepare = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Prepare { path, source }
        };
        fs::create_dir_all(root).map_err(prepare(root))?;
        // Absolute, since executors are started in other directories.
        let root = root.canonicalize().map_err(prepare(root))?;
        let lock_path = root.join("lock");
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = open.map_err(prepare(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { path: root }),
            Err(TryLockError::Error(source)) => return Err(Error::Prepare { path: lock_path, source }),
        }
        let directory = Self { root, local_state, _lock: lock };
        for (path, keep) in [(directory.jobs(), false), (directory.artifacts(), true), (directory.incoming(), false)] {
            if !keep && path.exists() {
                fs::remove_dir_all(&path).map_err(prepare(&path))?;
            }
            fs::create_dir_all(&path).map_err(prepare(&path))?;
        }
        Ok(directory)
    }

    fn jobs(&self) -> PathBuf {
        self.root.join("jobs")
    }

    fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    /// Where artifacts are written before they are complete.
    pub(crate) fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// The cached executable.
    pub(crate) fn artifact(&self, artifact: BlobId) -> PathBuf {
        self.artifacts().join(artifact.to_string())
    }

    /// Everything that a job leaves here.
    pub(crate) fn job(&self, job: JobId) -> PathBuf {
        self.jobs().join(job.to_string())
    }

    /// Where executors keep copies of a job's state, for those that follow them.
    pub(crate) fn local_state(&self, job: JobId) -> Option<PathBuf> {
        (self.local_state == LocalState::Kept).then(|| self.job(job).join("state"))
    }

    /// One executor's folder: its logs, and its working directory when the recorded one does not exist.
    pub(crate) fn executor(&self, job: JobId, attempt: AttemptNumber) -> PathBuf {
        self.job(job).join(attempt.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_user_is_told_the_directory_and_what_to_do() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let first = Directory::open(root.path(), LocalState::None).expect("nobody uses it");
        let error = Directory::open(root.path(), LocalState::None).expect_err("the first one does");
        let text = error.to_string();
        assert!(text.contains(&*root.path().to_string_lossy()) && text.contains("taskmanager.dir"), "{text}");
        drop(first);
        Directory::open(root.path(), LocalState::None).expect("free again");
    }

    #[test]
    fn what_jobs_of_a_former_incarnation_left_is_removed_and_artifacts_are_kept() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let artifact = BlobId([7; 32]);
        let job = JobId(uuid::Uuid::nil());
        {
            let directory = Directory::open(root.path(), LocalState::None).expect("open");
            fs::create_dir_all(directory.executor(job, AttemptNumber(0))).expect("make a job's folder");
            fs::write(directory.artifact(artifact), "program").expect("write an artifact");
            fs::write(directory.incoming().join("half"), "pro").expect("write half an artifact");
        }
        let directory = Directory::open(root.path(), LocalState::None).expect("open again");
        assert!(!directory.job(job).exists());
        assert!(directory.artifact(artifact).exists());
        assert!(!directory.incoming().join("half").exists());
    }
}
