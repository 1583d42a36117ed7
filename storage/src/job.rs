//! The files of one job's checkpoints.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use object_store::path::{Path, PathPart};
use object_store::{ObjectStore, ObjectStoreExt};
use tidemill_model::checkpoint::StateHandle;

use super::local_copy::Found;
use super::writer::Begin;
use super::{Error, LocalCopy, StateWriter, local};

/// How much of a large range an object store is asked for at a time, and how many times at once.
const PIECE_BYTES: u64 = 8 * 1024 * 1024;
const PIECES_AT_ONCE: usize = 4;

/// How many files are deleted at once.
const DELETED_AT_ONCE: usize = 16;

/// The folder of one job; a handle, cheap to clone.
#[derive(Clone)]
pub struct JobStorage {
    store: Arc<dyn ObjectStore>,
    root: Path,
    /// For people.
    url: String,
    /// The folder, if it is one of a file system.
    local: Option<PathBuf>,
    /// What this machine keeps of it besides.
    copy: Option<LocalCopy>,
}

impl fmt::Debug for JobStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JobStorage").field(&self.url).finish()
    }
}

impl JobStorage {
    pub(super) fn new(store: Arc<dyn ObjectStore>, root: Path, url: String, local: Option<PathBuf>) -> Self {
        Self { store, root, url, local, copy: None }
    }

    /// The same; what is written is kept on this machine as well, and read from there first.
    #[must_use]
    pub fn with_local_copy(self, copy: Option<LocalCopy>) -> Self {
        Self { copy, ..self }
    }

    /// What this machine keeps of it.
    #[must_use]
    pub fn local_copy(&self) -> Option<&LocalCopy> {
        self.copy.as_ref()
    }

    /// A file's full name, for people.
    pub(super) fn name(&self, path: &str) -> String {
        format!("{}/{path}", self.url)
    }

    /// The folder, for people.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn path(&self, path: &str) -> Result<Path, Error> {
        let refused = || Error::Path { path: path.to_owned() };
        let mut full = self.root.clone();
        for part in path.split('/') {
            if matches!(part, "" | "." | "..") {
                return Err(refused());
            }
            full = full.join(PathPart::parse(part).map_err(|_| refused())?);
        }
        Ok(full)
    }

    /// Begins a file, which appears when it is finished.
    ///
    /// # Errors
    /// The path is none, or the store refuses.
    pub async fn create(&self, path: &str) -> Result<StateWriter, Error> {
        let (place, file) = (self.path(path)?, self.name(path));
        let begin = if self.local.is_some() { Begin::AtOnce } else { Begin::WhenLarge };
        let copy = self.copy.as_ref().and_then(|copy| copy.create(path));
        StateWriter::create(Arc::clone(&self.store), place, file, begin, copy).await
    }

    /// Reads what a handle stands for.
    ///
    /// # Errors
    /// A file is missing, truncated or damaged, or the store refuses.
    pub async fn read(&self, handle: &StateHandle) -> Result<Bytes, Error> {
        let (path, begin, length, expected) = match handle {
            StateHandle::Inline(bytes) => return Ok(Bytes::copy_from_slice(bytes)),
            StateHandle::File { path, offset, length, checksum } => (path, *offset, *length, *checksum),
        };
        let (place, file) = (self.path(path)?, self.name(path));
        if length == 0 {
            return Ok(Bytes::new());
        }
        match self.copy.as_ref().map(|copy| copy.read(path, begin, length, expected)) {
            Some(Found::Whole(bytes)) => return Ok(Bytes::from(bytes)),
            Some(Found::Damaged(reason)) => {
                tracing::warn!(file, reason, "the local copy is damaged; it is read from the checkpoint storage");
            }
            Some(Found::None) | None => {}
        }
        let end = begin.saturating_add(length);
        let bytes = match self.get(&place, begin..end).await {
            Ok(bytes) => bytes,
            Err(object_store::Error::NotFound { .. }) => return Err(Error::Missing { file }),
            Err(source) => {
                let size = self.store.head(&place).await.map(|meta| meta.size);
                return Err(match size {
                    Ok(size) if size < end => Error::Truncated { file, end },
                    Ok(_) | Err(_) => Error::Store { action: "read", file, source },
                });
            }
        };
        if u64::try_from(bytes.len()).is_ok_and(|read| read < length) {
            return Err(Error::Truncated { file, end });
        }
        let found = crc32fast::hash(&bytes);
        if found == expected { Ok(bytes) } else { Err(Error::Corrupt { file, begin, end, expected, found }) }
    }

    /// Large ranges in pieces, several at once.
    async fn get(&self, place: &Path, range: Range<u64>) -> object_store::Result<Bytes> {
        if self.local.is_some() || range.end - range.start <= PIECE_BYTES {
            return self.store.get_range(place, range).await;
        }
        let pieces = (range.start..range.end).step_by(usize::try_from(PIECE_BYTES).unwrap_or(usize::MAX));
        let piece = |begin: u64| self.store.get_range(place, begin..range.end.min(begin + PIECE_BYTES));
        let mut pieces = futures::stream::iter(pieces.map(piece)).buffered(PIECES_AT_ONCE);
        let mut whole = BytesMut::new();
        while let Some(piece) = pieces.try_next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// Reads a whole file.
    pub(super) async fn read_whole(&self, path: &str) -> Result<Bytes, Error> {
        let (place, file) = (self.path(path)?, self.name(path));
        let read = async { self.store.get(&place).await?.bytes().await };
        read.await.map_err(|source| {
            if matches!(source, object_store::Error::NotFound { .. }) {
                return Error::Missing { file };
            }
            Error::Store { action: "read", file, source }
        })
    }

    /// A file's size in bytes; none: there is no such file.
    pub(super) async fn size(&self, path: &str) -> Result<Option<u64>, Error> {
        match self.store.head(&self.path(path)?).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(Error::Store { action: "look at", file: self.name(path), source }),
        }
    }

    /// Deletes files, and folders that are empty then; files that are gone already count as deleted.
    ///
    /// # Errors
    /// The first that could not be deleted; others may be left, too.
    pub async fn delete(&self, paths: &[String]) -> Result<(), Error> {
        if let Some(folder) = &self.local {
            for path in paths {
                self.path(path)?;
                let path = path.clone();
                let delete = move |folder: &FilePath| local::delete(folder, &local::within(folder, &path));
                self.on_files(folder, "delete", delete).await?;
            }
            return Ok(());
        }
        let delete = |path: &String| {
            let (store, place, file) = (Arc::clone(&self.store), self.path(path), self.name(path));
            async move {
                match store.delete(&place?).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                    Err(source) => Err(Error::Store { action: "delete", file, source }),
                }
            }
        };
        futures::stream::iter(paths.iter().map(delete)).buffer_unordered(DELETED_AT_ONCE).try_collect().await
    }

    /// Deletes whatever the job has here, the folder included.
    ///
    /// # Errors
    /// The first thing that could not be deleted; others may be left, too.
    pub async fn delete_all(&self) -> Result<(), Error> {
        match &self.local {
            Some(folder) => self.on_files(folder, "delete", local::delete_folder).await,
            None => {
                let paths: Vec<String> = self.list().await?.into_iter().map(|(path, _)| path).collect();
                self.delete(&paths).await
            }
        }
    }

    /// The paths of files that are being written, or never will be finished; none in a store that keeps them to itself.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn list_unfinished(&self) -> Result<Vec<String>, Error> {
        match &self.local {
            Some(folder) => self.on_files(folder, "list", local::unfinished).await,
            None => Ok(Vec::new()),
        }
    }

    /// The paths of all files that are finished, with their sizes in bytes.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn list(&self) -> Result<Vec<(String, u64)>, Error> {
        let failed = |source| Error::Store { action: "list", file: self.url.clone(), source };
        let mut files = Vec::new();
        let mut listed = self.store.list(Some(&self.root));
        while let Some(meta) = listed.try_next().await.map_err(failed)? {
            if let Some(parts) = meta.location.prefix_match(&self.root) {
                let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
                files.push((parts.join("/"), meta.size));
            }
        }
        files.sort();
        Ok(files)
    }

    /// Does something with the folder where waiting for a disk holds nobody up.
    async fn on_files<T: Send + 'static>(
        &self,
        folder: &FilePath,
        action: &'static str,
        act: impl FnOnce(&FilePath) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let failed = |source| Error::FileSystem { action, file: self.url.clone(), source };
        let folder = folder.to_owned();
        let acted = tokio::task::spawn_blocking(move || act(&folder)).await;
        acted.map_err(io::Error::other).and_then(|result| result).map_err(failed)
    }
}

#[cfg(test)]
mod tests;
