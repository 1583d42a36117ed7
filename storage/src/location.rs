//! The folder that a URL names.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tidemill_model::id::JobId;
use uuid::Uuid;

use super::{Error, JobStorage};

/// A folder for the checkpoints of any number of jobs; a handle, cheap to clone.
#[derive(Clone)]
pub struct CheckpointStorage {
    store: Arc<dyn ObjectStore>,
    root: Path,
    url: String,
    /// The folder, if it is one of a file system.
    local: Option<PathBuf>,
}

impl fmt::Debug for CheckpointStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CheckpointStorage").field(&self.url).finish()
    }
}

/// How long a store that does not answer, or has too much to do, is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As long as a checkpoint can afford.
    Long,
    /// As long as somebody waits for an answer.
    Short,
}

impl CheckpointStorage {
    /// The folder that `url` names: `file:///...`, an absolute path, or with the feature `s3` `s3://bucket/...`. A folder
    /// of a file system is made if need be.
    ///
    /// # Errors
    /// It is no URL of a kind that this program knows, or a relative path, or the folder cannot be made.
    pub fn open(url: &str) -> Result<Self, Error> {
        Self::open_with(url, Patience::Long)
    }

    /// The same, with so much patience for a store that is out of order.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_with(url: &str, patience: Patience) -> Result<Self, Error> {
        let opened = match Place::parse(url)? {
            Place::Folder(path) => Self::open_folder(url, path),
            Place::Bucket { bucket, folder } => Self::open_bucket(url, bucket, folder, patience),
        };
        opened.map_err(|reason| refuse(url, reason))
    }

    /// Whether this program could use what the URL names, as far as the URL tells.
    ///
    /// # Errors
    /// As for [`open`](Self::open), but for what the store itself says.
    pub fn check_url(url: &str) -> Result<(), Error> {
        Place::parse(url).map(drop)
    }

    fn open_folder(url: &str, path: &str) -> Result<Self, String> {
        // Made here: what is below it is removed with the last file in it, and it itself is not.
        std::fs::create_dir_all(path).map_err(|error| format!("make the folder: {error}"))?;
        let store = LocalFileSystem::new_with_prefix(path).map_err(|error| error.to_string())?;
        let store = store.with_automatic_cleanup(true).with_fsync(true);
        let (url, local) = (url.trim_end_matches('/').to_owned(), Some(PathBuf::from(path)));
        Ok(Self { store: Arc::new(store), root: Path::default(), url, local })
    }

    #[cfg(feature = "s3")]
    fn open_bucket(url: &str, bucket: &str, folder: &str, patience: Patience) -> Result<Self, String> {
        let root = Path::parse(folder.trim_matches('/')).map_err(|error| error.to_string())?;
        Ok(Self::of_store(super::s3::open(bucket, patience)?, root, url))
    }

    #[cfg(feature = "s3")]
    pub(super) fn of_store(store: Arc<dyn ObjectStore>, root: Path, url: &str) -> Self {
        Self { store, root, url: url.trim_end_matches('/').to_owned(), local: None }
    }

    #[cfg(not(feature = "s3"))]
    fn open_bucket(_: &str, _: &str, _: &str, _: Patience) -> Result<Self, String> {
        Err(WITHOUT_S3.to_owned())
    }

    /// Whether files can be written, read and deleted there: to be asked before a job relies on it.
    ///
    /// # Errors
    /// Not.
    pub async fn check(&self) -> Result<(), Error> {
        let name = format!(".tidemill-check-{}", Uuid::new_v4());
        let path = self.root.clone().join(name.as_str());
        let file = format!("{}/{name}", self.url);
        let failed = |action| {
            let file = file.clone();
            move |source| Error::Store { action, file, source }
        };
        let content = Bytes::from_static(b"tidemill");
        self.store.put(&path, content.clone().into()).await.map_err(failed("write"))?;
        let read = async { self.store.get(&path).await?.bytes().await };
        let read = read.await.map_err(failed("read"))?;
        self.store.delete(&path).await.map_err(failed("delete"))?;
        if read == content { Ok(()) } else { Err(Error::Unfaithful { file }) }
    }

    /// This folder itself, such as that of a savepoint.
    #[must_use]
    pub fn folder(&self) -> JobStorage {
        JobStorage::new(Arc::clone(&self.store), self.root.clone(), self.url.clone(), self.local.clone())
    }

    /// The folder of one job.
    #[must_use]
    pub fn job(&self, job: JobId) -> JobStorage {
        let name = job.to_string();
        let root = self.root.clone().join(name.as_str());
        let local = self.local.as_ref().map(|folder| folder.join(&name));
        JobStorage::new(Arc::clone(&self.store), root, format!("{}/{name}", self.url), local)
    }
}

/// What a program without the feature says of a bucket.
const WITHOUT_S3: &str = "this program was built without S3; build it with the feature `s3` of the crate tidemill";

/// What a URL names.
enum Place<'a> {
    Folder(&'a str),
    Bucket { bucket: &'a str, folder: &'a str },
}

impl<'a> Place<'a> {
    fn parse(url: &'a str) -> Result<Self, Error> {
        match url.split_once("://") {
            Some(("file", path)) => Self::folder(url, path.strip_prefix("localhost").unwrap_or(path)),
            Some(("s3" | "s3a", path)) => Self::bucket(url, path),
            Some((scheme, _)) => Err(refuse(url, format!("this program keeps no checkpoints at {scheme}://"))),
            None => Self::folder(url, url),
        }
    }

    fn folder(url: &str, path: &'a str) -> Result<Self, Error> {
        if path.is_empty() {
            return Err(refuse(url, "it is empty".to_owned()));
        }
        if !FilePath::new(path).is_absolute() {
            let reason = "the path is not absolute, and processes have other working directories";
            return Err(refuse(url, reason.to_owned()));
        }
        Ok(Self::Folder(path))
    }

    fn bucket(url: &str, path: &'a str) -> Result<Self, Error> {
        let (bucket, folder) = path.split_once('/').unwrap_or((path, ""));
        if let Some((_, bucket)) = bucket.rsplit_once('@') {
            let reason = "it has credentials in it, which would be replicated; have coordinators and task managers \
                          started with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead";
            return Err(refuse(&format!("s3://...@{bucket}"), reason.to_owned()));
        }
        if bucket.is_empty() {
            return Err(refuse(url, "it names no bucket".to_owned()));
        }
        if !cfg!(feature = "s3") {
            return Err(refuse(url, WITHOUT_S3.to_owned()));
        }
        Ok(Self::Bucket { bucket, folder })
    }
}

fn refuse(url: &str, reason: String) -> Error {
    Error::Url { url: url.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_names_no_usable_folder_is_refused_with_the_reason() {
        for (url, reason) in [
            ("", "it is empty"),
            ("file://", "it is empty"),
            ("relative/folder", "not absolute"),
            ("ftp://host/folder", "no checkpoints at ftp://"),
            ("s3:///folder", "it names no bucket"),
        ] {
            let error = CheckpointStorage::open(url).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(&format!("{url:?}")), "{error}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_repeated() {
        let error = CheckpointStorage::check_url("s3://id:secret@bucket/folder").unwrap_err().to_string();
        assert!(error.contains("AWS_SECRET_ACCESS_KEY") && error.contains("bucket"), "{error}");
        assert!(!error.contains("id:secret"), "{error}");
    }

    #[cfg(not(feature = "s3"))]
    #[test]
    fn a_program_without_s3_says_how_to_have_it() {
        let error = CheckpointStorage::check_url("s3://bucket/folder").unwrap_err().to_string();
        assert!(error.contains("the feature `s3`"), "{error}");
    }

    #[tokio::test]
    async fn a_folder_is_checked_and_nothing_is_left_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b");
        std::fs::create_dir(&path).unwrap();
        for url in [format!("file://{}", path.display()), path.display().to_string()] {
            CheckpointStorage::open(&url).unwrap().check().await.unwrap();
        }
        std::fs::write(folder.path().join("file"), "").unwrap();
        let inside_a_file = format!("file://{}/file/folder", folder.path().display());
        let error = CheckpointStorage::open(&inside_a_file).unwrap_err();
        assert!(error.to_string().contains("make the folder"), "{error}");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    }
}
