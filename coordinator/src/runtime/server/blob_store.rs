//! Blobs on this coordinator's disk: files named by the SHA-256 of their bytes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream};
use sha2::{Digest, Sha256};
use tidemill_model::id::BlobId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// Uploads at a time; each holds a temporary file that may grow to `blob.max-size`. Others wait.
const PARALLEL_UPLOADS: usize = 8;

/// A blob is read, hashed and sent in pieces of this size.
const CHUNK_BYTES: usize = 1 << 20;

/// Half-written files start with this; they are removed at the next start.
const TEMPORARY: &str = "upload-";

/// Why a blob is not stored or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is larger than allowed.
    #[error("store blob {blob}: it has more than {limit} bytes; raise blob.max-size on every coordinator")]
    TooLarge {
        /// Which.
        blob: BlobId,
        /// `blob.max-size`.
        limit: u64,
    },
    /// Its bytes are not what its id says.
    #[error("check blob {blob}: its bytes have the hash {actual}; they were damaged on the way, send it again")]
    Hash {
        /// Which.
        blob: BlobId,
        /// What its bytes are.
        actual: BlobId,
    },
    /// The disk says no.
    #[error("{action} blob {blob} in {}: {source}; check the disk", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which.
        blob: BlobId,
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The folder itself.
    #[error("open blob folder {}: {source}; check the disk", path.display())]
    Folder {
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// One file of the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBlob {
    /// Which.
    pub id: BlobId,
    /// When it was stored, as an age.
    pub age: Duration,
}

/// The folder of blobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BlobStore {
    path: PathBuf,
    size_max: u64,
    uploads: Arc<Semaphore>,
}

impl BlobStore {
    /// Opens the folder and removes what interrupted uploads left.
    ///
    /// # Errors
    ///
    /// When the folder cannot be used.
    pub fn open(path: &Path, size_max: u64) -> Result<Self, Error> {
        let failed = |source| Error::Folder { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(failed)?;
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(Self { path: path.to_owned(), size_max, uploads: Arc::new(Semaphore::new(PARALLEL_UPLOADS)) })
    }

    /// Whether the blob is here.
    #[must_use]
    pub fn contains(&self, blob: BlobId) -> bool {
        self.file(blob).is_file()
    }

    /// The length of a blob that is here.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn size(&self, blob: BlobId) -> Result<u64, Error> {
        fs::metadata(self.file(blob)).map(|metadata| metadata.len()).map_err(self.io("read", blob))
    }

    /// Every blob that is here.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<StoredBlob>, Error> {
        let failed = |source| Error::Folder { path: self.path.clone(), source };
        let mut blobs = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(id) = entry.file_name().to_string_lossy().parse() else { continue };
            // A clock that was set back makes a file from the future: as good as new.
            let age = entry.metadata().and_then(|metadata| metadata.modified()).map_err(failed)?.elapsed();
            blobs.push(StoredBlob { id, age: age.unwrap_or_default() });
        }
        Ok(blobs)
    }

    /// Removes a blob; one that is not here is fine.
    ///
    /// # Errors
    ///
    /// When the file cannot be removed.
    pub fn remove(&self, blob: BlobId) -> Result<(), Error> {
        match fs::remove_file(self.file(blob)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(self.io("remove", blob)(source)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Begins to store a blob, when fewer than the allowed number are under way.
    ///
    /// # Errors
    ///
    /// When no file can be made.
    pub async fn begin(&self, blob: BlobId) -> Result<BlobWriter, Error> {
        let permit = Arc::clone(&self.uploads).acquire_owned().await.expect("the semaphore is never closed");
        let temporary = self.path.join(format!("{TEMPORARY}{}", Uuid::new_v4().simple()));
        let file = File::create_new(&temporary).map_err(self.io("create", blob))?;
        let upload = Upload { file, hash: Sha256::new(), size_bytes: 0 };
        let temporary = TemporaryFile { path: temporary };
        Ok(BlobWriter { store: self.clone(), blob, upload: Some(upload), temporary, _permit: permit })
    }

    /// The blob's pieces, if it is here. A damaged one ends in an error and is removed, so that it is fetched anew.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn read(&self, blob: BlobId) -> Result<Option<impl Stream<Item = Result<Bytes, Error>> + Send + use<>>, Error> {
        let file = match File::open(self.file(blob)) {
            Ok(file) => file,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.io("open", blob)(source)),
        };
        let start = Some((self.clone(), file, Sha256::new()));
        Ok(Some(stream::try_unfold(start, move |state| async move {
            let Some((store, mut file, mut hash)) = state else { return Ok(None) };
            let io = store.io("read", blob);
            let read = blocking(move || {
                let mut piece = Vec::with_capacity(CHUNK_BYTES);
                let limit = u64::try_from(CHUNK_BYTES).unwrap_or(u64::MAX);
                Read::by_ref(&mut file).take(limit).read_to_end(&mut piece)?;
                hash.update(&piece);
                Ok((piece, file, hash))
            });
            let (piece, file, hash) = read.await.map_err(io)?;
            if !piece.is_empty() {
                return Ok(Some((Bytes::from(piece), Some((store, file, hash)))));
            }
            let actual = BlobId(hash.finalize().into());
            if actual == blob {
                return Ok(None);
            }
            store.remove(blob)?;
            tracing::error!(%blob, %actual, "a blob on this disk is damaged: removed, to be fetched from a peer");
            Err(Error::Hash { blob, actual })
        })))
    }

    fn file(&self, blob: BlobId) -> PathBuf {
        self.path.join(blob.to_string())
    }

    fn io(&self, action: &'static str, blob: BlobId) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::Io { action, blob, path, source }
    }
}

#[derive(Debug)]
struct Upload {
    file: File,
    hash: Sha256,
    size_bytes: u64,
}

/// Removed when it is dropped; after the rename there is nothing to remove.
#[derive(Debug)]
struct TemporaryFile {
    path: PathBuf,
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// A blob on its way to the disk; dropping it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    store: BlobStore,
    blob: BlobId,
    upload: Option<Upload>,
    temporary: TemporaryFile,
    _permit: OwnedSemaphorePermit,
}

impl BlobWriter {
    /// Writes the next piece.
    ///
    /// # Errors
    ///
    /// When the blob gets too large or the disk refuses.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        let io = self.store.io("write", self.blob);
        let Some(mut upload) = self.upload.take() else { return Err(io(io::Error::other("it has failed before"))) };
        upload.size_bytes += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        if upload.size_bytes > self.store.size_max {
            return Err(Error::TooLarge { blob: self.blob, limit: self.store.size_max });
        }
        let written = blocking(move || {
            upload.hash.update(&piece);
            upload.file.write_all(&piece).map(|()| upload)
        });
        self.upload = Some(written.await.map_err(io)?);
        Ok(())
    }

    /// Checks the hash, makes the blob durable and visible; its length.
    ///
    /// # Errors
    ///
    /// When the bytes are not the blob's, or the disk refuses.
    pub async fn finish(mut self) -> Result<u64, Error> {
        let io = self.store.io("finish", self.blob);
        let Some(upload) = self.upload.take() else { return Err(io(io::Error::other("it has failed before"))) };
        let actual = BlobId(upload.hash.finalize().into());
        if actual != self.blob {
            return Err(Error::Hash { blob: self.blob, actual });
        }
        let (from, to, folder) = (self.temporary.path.clone(), self.store.file(self.blob), self.store.path.clone());
        let finished = blocking(move || {
            upload.file.sync_all()?;
            fs::rename(from, to)?;
            File::open(folder)?.sync_all()
        });
        finished.await.map_err(io)?;
        Ok(upload.size_bytes)
    }
}

/// Runs file work where it blocks nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    fn id(bytes: &[u8]) -> BlobId {
        BlobId(Sha256::digest(bytes).into())
    }

    async fn put(store: &BlobStore, blob: BlobId, bytes: &[u8]) -> Result<u64, Error> {
        let mut writer = store.begin(blob).await?;
        for piece in bytes.chunks(3) {
            writer.write(Bytes::copy_from_slice(piece)).await?;
        }
        writer.finish().await
    }

    async fn get(store: &BlobStore, blob: BlobId) -> Result<Vec<u8>, Error> {
        let pieces = store.read(blob)?.expect("it is here");
        Ok(pieces.try_collect::<Vec<_>>().await?.concat())
    }

    fn files(dir: &tempfile::TempDir) -> usize {
        fs::read_dir(dir.path()).expect("readable").count()
    }

    #[tokio::test]
    async fn a_blob_comes_back_as_it_was_stored() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = BlobStore::open(dir.path(), 100).expect("an empty folder");
        let blob = id(b"hello blob");
        assert_eq!(put(&store, blob, b"hello blob").await.expect("fits"), 10);
        assert_eq!(get(&store, blob).await.expect("sound"), b"hello blob");
        assert_eq!(store.list().expect("readable").iter().map(|b| b.id).collect::<Vec<_>>(), [blob]);
        store.remove(blob).expect("removable");
        assert!(!store.contains(blob));
        assert!(store.read(blob).expect("readable").is_none());
    }

    #[tokio::test]
    async fn wrong_bytes_and_too_many_leave_nothing_behind() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = BlobStore::open(dir.path(), 8).expect("an empty folder");
        assert!(matches!(put(&store, id(b"other"), b"bytes").await, Err(Error::Hash { .. })));
        assert!(matches!(put(&store, id(b"123456789"), b"123456789").await, Err(Error::TooLarge { limit: 8, .. })));
        assert_eq!(files(&dir), 0);
    }

    #[tokio::test]
    async fn a_damaged_file_is_found_when_it_is_read_and_removed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = BlobStore::open(dir.path(), 100).expect("an empty folder");
        let blob = id(b"hello blob");
        put(&store, blob, b"hello blob").await.expect("fits");
        fs::write(dir.path().join(blob.to_string()), b"hello blub").expect("writable");
        assert!(matches!(get(&store, blob).await, Err(Error::Hash { .. })));
        assert!(!store.contains(blob));
    }

    #[tokio::test]
    async fn an_interrupted_upload_is_removed_at_the_next_start() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join("upload-1"), b"half").expect("writable");
        BlobStore::open(dir.path(), 100).expect("an empty folder");
        assert_eq!(files(&dir), 0);
    }
}
