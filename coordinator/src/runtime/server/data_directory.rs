//! A coordinator's data directory: who may use it, and which node of which cluster it is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidemill_model::id::{ClusterId, DirectoryId, NodeId};
use uuid::Uuid;

use crate::runtime::codec;

/// A directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error(
        "lock {}: another process uses this data directory; stop it, or give this coordinator a directory of its own",
        path.display()
    )]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// The disk says no.
    #[error("{action} {}: {source}; check the path, its permissions and the disk", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The identity is damaged.
    #[error("read {}: {source}; restore the file, or empty the whole directory and have it added anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: codec::Error,
    },
    /// It is another node already.
    #[error(
        "adopt directory: it is node {} of cluster {} already and cannot become node {} of cluster {}; give that \
         cluster an empty directory", found.1, found.0, wanted.1, wanted.0
    )]
    Belongs {
        /// What it is.
        found: (ClusterId, NodeId),
        /// What it should have become.
        wanted: (ClusterId, NodeId),
    },
}

/// Who a data directory is, as it stands in its `IDENTITY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Made when the directory was first used.
    pub directory: DirectoryId,
    /// A cluster that an `InitCluster` here has begun to make.
    pub planned: Option<ClusterId>,
    /// The membership, once adopted; never changes after.
    pub member: Option<(ClusterId, NodeId)>,
}

/// A data directory that this process holds alone.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    identity: Identity,
    /// Held for as long as the process uses the directory.
    lock: Option<File>,
}

impl DataDirectory {
    /// Locks the directory and reads its identity, or gives it one.
    ///
    /// # Errors
    ///
    /// When another process holds it, or it cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { action, path, source }
        };
        fs::create_dir_all(path).map_err(io("create", path))?;
        let lock_path = path.join("LOCK");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(io("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { path: lock_path }),
            Err(TryLockError::Error(source)) => return Err(io("lock", &lock_path)(source)),
        }
        let identity_path = path.join("IDENTITY");
        let identity = match fs::read(&identity_path) {
            Ok(bytes) => {
                let identity = codec::decode("identity", &bytes);
                identity.map_err(|source| Error::Damaged { path: identity_path, source })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let identity = Identity { directory: DirectoryId(Uuid::new_v4()), planned: None, member: None };
                write_durably(path, "IDENTITY", &codec::encode(&identity))?;
                identity
            }
            Err(source) => return Err(io("read", &identity_path)(source)),
        };
        Ok(Self { path: path.to_owned(), identity, lock: Some(lock) })
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Lets another process have the directory; nothing may be written to it after.
    pub fn release(&mut self) {
        self.lock = None;
    }

    /// Where the Raft log lies.
    #[must_use]
    pub fn raft_path(&self) -> PathBuf {
        self.path.join("raft")
    }

    /// Notes the id of a cluster about to be made, so that an interrupted `InitCluster` goes on with it.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn plan(&mut self, cluster: ClusterId) -> Result<(), Error> {
        self.change(Identity { planned: Some(cluster), ..self.identity })
    }

    /// Makes the directory a member, for good.
    ///
    /// # Errors
    ///
    /// When it is another member already, or cannot be written.
    pub fn adopt(&mut self, cluster: ClusterId, node: NodeId) -> Result<(), Error> {
        self.may_become(cluster, node)?;
        self.change(Identity { planned: None, member: Some((cluster, node)), ..self.identity })
    }

    /// Makes the directory a member of a new cluster, whatever it was: only for a quorum that is gone for good.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn begin_cluster(&mut self, cluster: ClusterId, node: NodeId) -> Result<(), Error> {
        self.change(Identity { planned: None, member: Some((cluster, node)), ..self.identity })
    }

    /// Whether [`adopt`](Self::adopt) would agree.
    ///
    /// # Errors
    ///
    /// When it is another member already.
    pub fn may_become(&self, cluster: ClusterId, node: NodeId) -> Result<(), Error> {
        match self.identity.member {
            Some(found) if found != (cluster, node) => Err(Error::Belongs { found, wanted: (cluster, node) }),
            Some(_) | None => Ok(()),
        }
    }

    fn change(&mut self, identity: Identity) -> Result<(), Error> {
        if identity != self.identity {
            write_durably(&self.path, "IDENTITY", &codec::encode(&identity))?;
            self.identity = identity;
        }
        Ok(())
    }
}

/// Writes a whole file so that after a crash either the old or the new content is there.
fn write_durably(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let (path, temporary) = (folder.join(name), folder.join(format!("{name}.new")));
    let written = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(folder)?.sync_all()
    };
    written().map_err(|source| Error::Io { action: "write", path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(7));

    #[test]
    fn an_identity_outlives_its_process() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut first = DataDirectory::open(dir.path()).expect("an empty folder");
        first.plan(CLUSTER).expect("writable");
        first.adopt(CLUSTER, NodeId(2)).expect("writable");
        let identity = first.identity();
        drop(first);
        assert_eq!(DataDirectory::open(dir.path()).expect("unlocked again").identity(), identity);
        assert_eq!((identity.planned, identity.member), (None, Some((CLUSTER, NodeId(2)))));
    }

    #[test]
    fn a_second_user_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let _first = DataDirectory::open(dir.path()).expect("an empty folder");
        let error = DataDirectory::open(dir.path()).expect_err("in use").to_string();
        assert!(error.contains("another process uses this data directory"), "{error}");
    }

    #[test]
    fn a_member_becomes_no_other() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut directory = DataDirectory::open(dir.path()).expect("an empty folder");
        directory.adopt(CLUSTER, NodeId(2)).expect("writable");
        directory.adopt(CLUSTER, NodeId(2)).expect("the same again is fine");
        let error = directory.adopt(CLUSTER, NodeId(3)).expect_err("another node").to_string();
        assert!(error.contains("node 2 of cluster") && error.contains("node 3 of cluster"), "{error}");
    }

    #[test]
    fn a_damaged_identity_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join("IDENTITY"), [1, 2]).expect("write");
        let error = DataDirectory::open(dir.path()).expect_err("damaged").to_string();
        assert!(error.contains("IDENTITY"), "{error}");
    }

    #[test]
    fn the_bytes_of_an_identity_are_golden() {
        let directory = DirectoryId(Uuid::from_u128(5));
        let identity = Identity { directory, planned: None, member: Some((CLUSTER, NodeId(2))) };
        let hex: String = codec::encode(&identity).iter().map(|byte| format!("{byte:02x}")).collect();
        expect!["0110000000000000000000000000000000050001100000000000000000000000000000000702"].assert_eq(&hex);
    }
}
