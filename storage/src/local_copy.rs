//! Copies of state on this machine's own disk, beside what the checkpoint storage has: what is started again here reads
//! them first. They may be missing or damaged at any time, and are then of no use, and of no harm.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tidemill_model::id::CheckpointId;

use super::local;

/// The folder of one job's copies on this machine.
#[derive(Debug, Clone)]
pub struct LocalCopy {
    folder: PathBuf,
}

/// What became of a look at a copy.
pub(super) enum Found {
    /// It is what was written.
    Whole(Vec<u8>),
    /// There is none.
    None,
    /// It is something else; what, in words.
    Damaged(String),
}

impl LocalCopy {
    /// Copies in this folder, which is made if need be.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Begins the copy of a file; none, and a warning, when the disk does not take it.
    pub(super) fn create(&self, path: &str) -> Option<CopyWriter> {
        let path = local::within(&self.folder, path);
        let create = |path: &Path| {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            File::create(path)
        };
        match create(&path) {
            Ok(file) => Some(CopyWriter { file: Some(BufWriter::new(file)), path }),
            Err(error) => {
                warn(&path, &error);
                None
            }
        }
    }

    /// Reads a range, verified.
    pub(super) fn read(&self, path: &str, begin: u64, length: u64, checksum: u32) -> Found {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(local::within(&self.folder, path))?;
            file.seek(SeekFrom::Start(begin))?;
            let mut bytes = Vec::new();
            file.take(length).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) if u64::try_from(bytes.len()) != Ok(length) => Found::Damaged("it is truncated".to_owned()),
            Ok(bytes) if crc32fast::hash(&bytes) != checksum => Found::Damaged("its checksum is wrong".to_owned()),
            Ok(bytes) => Found::Whole(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => Found::None,
            Err(error) => Found::Damaged(error.to_string()),
        }
    }

    /// Removes the copies of checkpoints before this one, but for these paths.
    pub fn prune(&self, before: CheckpointId, keep: &BTreeSet<String>) {
        let checkpoints = self.checkpoints().into_iter().filter(|(id, _)| *id < before);
        for (id, folder) in checkpoints {
            for file in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let name = file.file_name().to_string_lossy().into_owned();
                if !keep.contains(&format!("{id}/{name}")) {
                    self.remove(&file.path());
                }
            }
        }
    }

    /// Removes the copies that a process has of a checkpoint that came to nothing: the file of its name, and those with
    /// numbers behind it.
    pub fn forget(&self, checkpoint: CheckpointId, process: &str) {
        for file in fs::read_dir(self.folder.join(checkpoint.to_string())).into_iter().flatten().flatten() {
            let name = file.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(process));
            if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) {
                self.remove(&file.path());
            }
        }
    }

    fn checkpoints(&self) -> Vec<(CheckpointId, PathBuf)> {
        let folder = |entry: fs::DirEntry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            Some((CheckpointId(id), entry.path()))
        };
        fs::read_dir(&self.folder).into_iter().flatten().flatten().filter_map(folder).collect()
    }

    fn remove(&self, path: &Path) {
        if let Err(error) = local::delete(&self.folder, path) {
            warn(path, &error);
        }
    }
}

fn warn(path: &Path, error: &io::Error) {
    tracing::warn!(path = %path.display(), %error, "local copy of state; the checkpoint storage has it all the same");
}

/// A copy that is being written; dropped before it is finished, it is removed.
pub(super) struct CopyWriter {
    /// None: it is finished, or given up.
    file: Option<BufWriter<File>>,
    path: PathBuf,
}

impl CopyWriter {
    /// A disk that does not take it costs the copy and nothing else.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.write_all(bytes) {
            warn(&self.path, &error);
            self.give_up();
        }
    }

    pub(super) fn finish(mut self) {
        let Some(mut file) = self.file.take() else { return };
        if let Err(error) = file.flush() {
            warn(&self.path, &error);
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        self.file = None;
        // It may be gone already.
        let _ = fs::remove_file(&self.path);
    }
}

impl Drop for CopyWriter {
    fn drop(&mut self) {
        if self.file.is_some() {
            self.give_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidemill_model::checkpoint::StateHandle;

    use super::*;
    use crate::{CheckpointStorage, Error, JobStorage};

    async fn write(storage: &JobStorage, path: &str, bytes: &'static [u8]) -> StateHandle {
        let mut writer = storage.create(path).await.unwrap();
        writer.write(Bytes::from_static(bytes)).await.unwrap();
        let length = writer.finish().await.unwrap();
        StateHandle::File { path: path.to_owned(), offset: 0, length, checksum: crc32fast::hash(bytes) }
    }

    fn storage(folder: &Path) -> JobStorage {
        let remote = CheckpointStorage::open(folder.join("remote").to_str().unwrap()).unwrap().folder();
        remote.with_local_copy(Some(LocalCopy::new(folder.join("local"))))
    }

    #[tokio::test]
    async fn the_copy_is_read_first_and_a_damaged_or_missing_one_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let storage = storage(folder.path());
        let handle = write(&storage, "7/p", b"content").await;
        let (local, remote) = (folder.path().join("local/7/p"), folder.path().join("remote/7/p"));
        fs::write(&remote, "another").unwrap();
        assert_eq!(storage.read(&handle).await.unwrap(), b"content".as_slice(), "the copy is read");
        for damage in ["Content", "cont"] {
            fs::write(&local, damage).unwrap();
            assert!(matches!(storage.read(&handle).await, Err(Error::Corrupt { .. })), "the copy is not trusted");
        }
        fs::write(&remote, "content").unwrap();
        assert_eq!(storage.read(&handle).await.unwrap(), b"content".as_slice());
        fs::remove_file(&local).unwrap();
        assert_eq!(storage.read(&handle).await.unwrap(), b"content".as_slice());
    }

    #[tokio::test]
    async fn a_disk_that_takes_no_copy_holds_up_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("local"), "a file where the folder should be").unwrap();
        let storage = storage(folder.path());
        let handle = write(&storage, "7/p", b"content").await;
        assert_eq!(storage.read(&handle).await.unwrap(), b"content".as_slice());
    }

    #[tokio::test]
    async fn copies_go_with_their_checkpoints_unless_a_later_one_builds_on_them() {
        let folder = tempfile::tempdir().unwrap();
        let storage = storage(folder.path());
        for path in ["6/p-1", "7/p-1", "7/p-1-1", "7/p-10", "8/p-1", "last/p-1"] {
            write(&storage, path, b"content").await;
        }
        drop(storage.create("8/p-1-1").await.unwrap());
        let copies = || {
            let mut files: Vec<String> = Vec::new();
            for checkpoint in fs::read_dir(folder.path().join("local")).unwrap().flatten() {
                for file in fs::read_dir(checkpoint.path()).unwrap().flatten() {
                    files.push(format!("{}/{}", checkpoint.file_name().display(), file.file_name().display()));
                }
            }
            files.sort();
            files
        };
        assert_eq!(copies(), ["6/p-1", "7/p-1", "7/p-1-1", "7/p-10", "8/p-1", "last/p-1"]);
        let copy = storage.local_copy().unwrap();
        copy.forget(CheckpointId(7), "p-1");
        assert_eq!(copies(), ["6/p-1", "7/p-10", "8/p-1", "last/p-1"]);
        copy.prune(CheckpointId(8), &["6/p-1".to_owned()].into());
        assert_eq!(copies(), ["6/p-1", "8/p-1", "last/p-1"]);
    }
}
