//! What a back-end on disk leaves for a snapshot: files that do not change any more.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

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

/// Files that are there once a barrier has gone through its chain, or why they are not.
pub type LaterFiles = Arc<OnceLock<Result<StoreFiles, String>>>;

/// One state in the files of its sub-task's store.
#[derive(Debug, Clone)]
pub struct StoredState {
    /// Its number in the store.
    pub(crate) number: u32,
    /// The files, once the barrier has gone through the whole chain.
    pub(crate) files: LaterFiles,
}
