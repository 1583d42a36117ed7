//! A backup of the whole cluster, into a file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tidemill_model::id::ClusterId;
use tidemill_proto::{convert, pb};

use super::connections::Stub;
use super::leader_search::Audience;
use super::{Error, JobClient};

/// What the end of the file is long: the digest of what is before.
const DIGEST_BYTES: usize = 32;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSummary {
    /// The cluster.
    pub cluster: ClusterId,
    /// Up to where its log is contained.
    pub log_index: u64,
    /// How many jobs it knows.
    pub jobs: u32,
    /// How many blobs it has.
    pub blobs: u32,
    /// How long the file is.
    pub bytes: u64,
}

impl JobClient {
    /// Writes everything that the cluster knows, and its blobs, to a file; it appears when it is whole and checked.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when the file cannot be written or was damaged on the way.
    pub async fn backup(&self, path: &Path) -> Result<BackupSummary, Error> {
        let call = |mut stub: Stub| async move { stub.backup(pb::BackupRequest {}).await };
        let mut stream = self.ask(Audience::Reader, None, call).await?.into_inner();
        let mut file = Partial::create(path).map_err(|error| unwritable(path, &error))?;
        let mut info = pb::BackupInfo::default();
        loop {
            let chunk = stream.message().await.map_err(|status| broken(path, status.message()))?;
            let Some(chunk) = chunk else { break };
            info = chunk.info.unwrap_or(info);
            file.write(&chunk.data).map_err(|error| unwritable(path, &error))?;
        }
        let bytes = file.finish().map_err(|error| unwritable(path, &error))?;
        let cluster = convert::cluster_id(&info.cluster_id, "BackupInfo.cluster_id");
        let cluster = cluster.map_err(|error| self.malformed(&error))?;
        Ok(BackupSummary { cluster, log_index: info.log_index, jobs: info.jobs, blobs: info.blobs, bytes })
    }
}

/// A file that is not there before it is whole.
struct Partial {
    path: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
    digest: Sha256,
    /// The last bytes, which may be the digest.
    tail: Vec<u8>,
    bytes: u64,
}

impl Partial {
    fn create(path: &Path) -> io::Result<Self> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = BufWriter::new(File::create(&partial)?);
        Ok(Self { path: path.to_owned(), partial, file, digest: Sha256::new(), tail: Vec::new(), bytes: 0 })
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data)?;
        self.bytes += u64::try_from(data.len()).unwrap_or(0);
        self.tail.extend_from_slice(data);
        let certain = self.tail.len().saturating_sub(DIGEST_BYTES);
        self.digest.update(&self.tail[..certain]);
        self.tail.drain(..certain);
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        let digest = std::mem::take(&mut self.digest).finalize();
        if digest[..] != self.tail[..] {
            return Err(io::Error::other("it ended early or was damaged on the way; try again"));
        }
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.partial, &self.path)?;
        self.path = PathBuf::new();
        Ok(self.bytes)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // The empty path stands for a file that is in its place.
        if self.path != Path::new("") {
            drop(fs::remove_file(&self.partial));
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    Error::File { path: path.display().to_string(), reason: error.to_string() }
}

fn broken(path: &Path, reason: &str) -> Error {
    Error::File { path: path.display().to_string(), reason: format!("the coordinator broke off: {reason}; try again") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_appears_only_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        let content = b"a backup of some length, longer than its digest".repeat(3);
        let sealed = [&content[..], &Sha256::digest(&content)[..]].concat();
        let write = |bytes: &[u8]| -> io::Result<u64> {
            let mut file = Partial::create(&path)?;
            for piece in bytes.chunks(7) {
                file.write(piece)?;
            }
            file.finish()
        };
        for damaged in [&sealed[..sealed.len() - 1], &content[..], b""] {
            write(damaged).unwrap_err();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left of a failed one");
        }
        assert_eq!(write(&sealed).unwrap(), u64::try_from(sealed.len()).unwrap());
        assert_eq!(fs::read(&path).unwrap(), sealed);
    }
}
