//! What a back-end on disk leaves for a snapshot: files that do not change any more, once they are written.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The files of a sub-task's store as it was at one barrier; they are deleted with this value.
#[derive(Debug)]
pub struct StoreFiles {
    folder: PathBuf,
    names: Vec<String>,
    next_state: u32,
}

impl StoreFiles {
    /// Takes over a folder of files. `next_state` is the first number that no state in them has.
    ///
    /// # Errors
    /// The folder cannot be read.
    #[cfg_attr(not(feature = "rocksdb"), expect(dead_code, reason = "only back-ends on disk do this"))]
    pub(crate) fn take_over(folder: PathBuf, next_state: u32) -> std::io::Result<Self> {
        let mut files = Self { folder, names: Vec::new(), next_state };
        for entry in std::fs::read_dir(&files.folder)? {
            files.names.extend(entry?.file_name().into_string());
        }
        files.names.sort();
        Ok(files)
    }

    /// The folder that they are in.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Their names.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The first number that no state in them has.
    pub(crate) fn next_state(&self) -> u32 {
        self.next_state
    }
}

impl Drop for StoreFiles {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "files of a snapshot are left until the executor ends");
        }
        // The store's own folder, if these were the last files in it.
        if let Some(folder) = self.folder.parent() {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Writes what a state had changed by a barrier.
pub(crate) type WriteBack = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// Sets the files of a store aside, as they are then.
pub(crate) type SetAside = Box<dyn Fn() -> Result<StoreFiles, String> + Send + Sync>;

/// What a barrier leaves to be done with a store: to write what its states had changed by then, and to set the files of
/// that moment aside. Whoever wants the files first does it, the snapshot's writer or a task that has to change the store;
/// the other one waits.
///
/// # To ensure correctness
///
/// Nothing that is changed after the barrier is written to the store before `files` has returned, as long
/// as anyone may still ask for them, and before `write` has in any case.
#[derive(Default)]
pub struct PassedBarrier {
    waiting: Mutex<Waiting>,
    /// None: the barrier has not gone through the whole chain.
    set_aside: OnceLock<SetAside>,
    files: OnceLock<Result<StoreFiles, String>>,
}

#[derive(Default)]
struct Waiting {
    writes: Vec<WriteBack>,
    /// What went wrong first.
    error: Option<String>,
}

impl PassedBarrier {
    /// Another state has this to write.
    #[cfg_attr(not(feature = "rocksdb"), expect(dead_code, reason = "only back-ends on disk do this"))]
    pub(crate) fn add(&self, write: WriteBack) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).writes.push(write);
    }

    /// All states have been asked: the files can be set aside once everything is written.
    #[cfg_attr(not(feature = "rocksdb"), expect(dead_code, reason = "only back-ends on disk do this"))]
    pub(crate) fn complete(&self, set_aside: SetAside) {
        // Nobody else sets it.
        let _ = self.set_aside.set(set_aside);
    }

    /// Writes what waits to be written.
    ///
    /// # Errors
    /// Something could not be written, now or before.
    pub(crate) fn write(&self) -> Result<(), String> {
        // Kept while it is written: the other one waits.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(write) = waiting.writes.pop() {
            let before = waiting.error.replace("what writes state has panicked".to_owned());
            let written = write();
            waiting.error = before.or(written.err());
        }
        waiting.error.clone().map_or(Ok(()), Err)
    }

    /// Whether nothing waits to be written, nor is being written.
    #[cfg_attr(not(feature = "rocksdb"), expect(dead_code, reason = "only back-ends on disk do this"))]
    pub(crate) fn is_written(&self) -> bool {
        self.waiting.try_lock().is_ok_and(|waiting| waiting.writes.is_empty())
    }

    /// The files, which are set aside now if they were not before.
    ///
    /// # Errors
    /// Why there are none.
    pub(crate) fn files(&self) -> Result<&StoreFiles, String> {
        let set_aside = self.set_aside.get().ok_or("the barrier has not gone through the chain")?;
        let files = self.files.get_or_init(|| self.write().and_then(|()| set_aside()));
        files.as_ref().map_err(Clone::clone)
    }

    /// Whether the files were set aside, or could not be.
    #[cfg_attr(not(feature = "rocksdb"), expect(dead_code, reason = "only back-ends on disk do this"))]
    pub(crate) fn is_done(&self) -> bool {
        self.files.get().is_some()
    }
}

impl std::fmt::Debug for PassedBarrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PassedBarrier").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Files that are there once somebody asks for them.
pub type LaterFiles = Arc<PassedBarrier>;

/// One state in the files of its sub-task's store.
#[derive(Debug, Clone)]
pub struct StoredState {
    /// Its number in the store.
    pub(crate) number: u32,
    /// The files, once the barrier has gone through the whole chain.
    pub(crate) files: LaterFiles,
}
