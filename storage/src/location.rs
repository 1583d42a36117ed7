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

impl CheckpointStorage {
    /// The folder that `url` names: `file:///...`, or an absolute path. A folder of a file system is made if need be.
    ///
    /// # Errors
    /// It is no URL of a kind that this program knows, or a relative path, or the folder cannot be made.
    pub fn open(url: &str) -> Result<Self, Error> {
        let refuse = |reason: &str| Error::Url { url: url.to_owned(), reason: reason.to_owned() };
        let path = match url.split_once("://") {
            Some(("file", path)) => path.strip_prefix("localhost").unwrap_or(path),
            Some((scheme, _)) => return Err(refuse(&format!("this program keeps no checkpoints at {scheme}://"))),
            None => url,
        };
        if path.is_empty() {
            return Err(refuse("it is empty"));
        }
        if !FilePath::new(path).is_absolute() {
            return Err(refuse("the path is not absolute, and processes have other working directories"));
        }
        // Made here: what is below it is removed with the last file in it, and it itself is not.
        std::fs::create_dir_all(path).map_err(|error| refuse(&format!("make the folder: {error}")))?;
        let store = LocalFileSystem::new_with_prefix(path).map_err(|error| refuse(&error.to_string()))?;
        let store = store.with_automatic_cleanup(true).with_fsync(true);
        let (url, local) = (url.trim_end_matches('/').to_owned(), Some(PathBuf::from(path)));
        Ok(Self { store: Arc::new(store), root: Path::default(), url, local })
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
        ] {
            let error = CheckpointStorage::open(url).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(&format!("{url:?}")), "{error}");
        }
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
