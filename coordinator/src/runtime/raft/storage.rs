//! The RocksDB database of one replica, and the thread that makes its writes durable in groups.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use std::{io, thread};

use rocksdb::{BoundColumnFamily, ColumnFamilyDescriptor, DBWithThreadMode, MultiThreaded, Options, WriteBatch};
use serde::de::DeserializeOwned;
use tidemill_failpoint::FailPoint;
use tidemill_model::id::{ClusterId, NodeId};
use tokio::sync::{oneshot, watch};

use super::format::{self, DurableLogId, DurableOwner};
use super::types::IoFlushed;

pub(crate) type Database = DBWithThreadMode<MultiThreaded>;

/// The Raft log, by big-endian index.
pub(crate) const LOG: &str = "log";
/// The vote, the purge marker, the committed index, the owner, the snapshot's description.
pub(crate) const META: &str = "meta";
/// The newest snapshot's state.
pub(crate) const SNAPSHOT: &str = "snapshot";

const OWNER: &str = "owner";
const COMMITTED: &str = "committed";

/// Writes waiting for one fsync. Openraft pipelines far fewer; a full queue is the disk's back-pressure.
const SYNC_QUEUE: usize = 4096;

/// A replica that has written nothing for so long has time to note up to where its log is committed.
const IDLE: Duration = Duration::from_millis(20);

/// A write buffer of a column family: a log between two snapshots fits into it.
const WRITE_BUFFER_BYTES: usize = 16 << 20;

/// The WAL may grow to this before buffers are flushed to tables.
const WAL_BYTES_MAX: u64 = 64 << 20;

/// Why a replica's database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// RocksDB says no.
    #[error("open Raft log in {}: {source}; check the disk, the permissions and that the folder is complete", path.display())]
    Open {
        /// The database's folder.
        path: PathBuf,
        /// RocksDB's reason.
        source: rocksdb::Error,
    },
    /// The log is gone although the directory was a member: voting from an empty log would be amnesia.
    #[error(
        "open Raft log in {}: it does not exist although this directory is a member of a cluster; restore the folder, \
         or empty the whole data directory and have it added as a new member", path.display()
    )]
    Missing {
        /// The database's folder.
        path: PathBuf,
    },
    /// It belongs to another cluster or node.
    #[error(
        "open Raft log in {}: it belongs to node {} of cluster {}, not to node {} of cluster {}; use the directory \
         that belongs together", path.display(), found.1, found.0, expected.1, expected.0
    )]
    Owner {
        /// The database's folder.
        path: PathBuf,
        /// Whose it is.
        found: (ClusterId, NodeId),
        /// Whose it should be.
        expected: (ClusterId, NodeId),
    },
    /// A read, a write or a value that does not decode.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Up to where the log is known to be committed, while that is not in the database yet. It is written with the next entries,
/// and at the latest when nothing else is to be done: it only spares replay at start, and an older one is as true.
#[derive(Default)]
struct CommittedMark(Mutex<Option<Vec<u8>>>);

impl CommittedMark {
    fn unwritten(&self) -> std::sync::MutexGuard<'_, Option<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Without fsync. One that cannot be written is missed by nobody: the next append fails as well.
    fn write(&self, database: &Database) {
        let Some(family) = database.cf_handle(META) else { return };
        if let Some(sealed) = self.unwritten().take()
            && let Err(error) = database.put_cf(&family, COMMITTED, sealed)
        {
            tracing::warn!(%error, "note up to where the log is committed");
        }
    }
}

/// What waits for the next fsync.
pub(crate) enum Pending {
    Append(IoFlushed),
    Write(oneshot::Sender<io::Result<()>>),
}

/// One replica's database. Cheap to clone; closed when the last clone is dropped.
#[derive(Clone)]
pub struct Storage {
    inner: Arc<Inner>,
}

/// A way to a database for those that must not keep it open.
#[derive(Clone)]
pub(crate) struct WeakStorage(Weak<Inner>);

impl WeakStorage {
    /// The database, unless it has been closed.
    pub(crate) fn upgrade(&self) -> Option<Storage> {
        self.0.upgrade().map(|inner| Storage { inner })
    }
}

struct Inner {
    /// Present until dropped.
    pending: Option<SyncSender<Pending>>,
    sync_thread: Option<thread::JoinHandle<()>>,
    // Dropped in this order: whoever sees the channel close finds the database closed.
    database: Arc<Database>,
    committed: Arc<CommittedMark>,
    _closed: watch::Sender<()>,
    path: PathBuf,
    closed: watch::Receiver<()>,
}

impl Drop for Inner {
    /// Waits for the sync thread, so that the database is closed here and not while the process ends around it.
    fn drop(&mut self) {
        self.pending = None;
        if let Some(thread) = self.sync_thread.take() {
            // A panic there has been reported by its own thread.
            drop(thread.join());
        }
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Storage {
    /// Makes the database of a node that is about to become a member, and says in it whose it is.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or exists and belongs to somebody else.
    pub fn create(path: &Path, cluster: ClusterId, node: NodeId) -> Result<Self, Error> {
        let storage = Self::open_with(path, true)?;
        if storage.get::<DurableOwner>("owner", OWNER)?.is_none() {
            let mut options = rocksdb::WriteOptions::default();
            options.set_sync(true);
            let owner = format::seal(&DurableOwner { cluster, node });
            let written = storage.database().put_cf_opt(&storage.family(META), OWNER, owner, &options);
            written.map_err(|error| storage.failed("write owner", &error))?;
        }
        storage.check_owner(cluster, node)?;
        Ok(storage)
    }

    /// Opens the database of a member.
    ///
    /// # Errors
    ///
    /// When it is missing, damaged, in use or somebody else's.
    pub fn open(path: &Path, cluster: ClusterId, node: NodeId) -> Result<Self, Error> {
        if !path.join("CURRENT").exists() {
            return Err(Error::Missing { path: path.to_owned() });
        }
        let storage = Self::open_with(path, false)?;
        storage.check_owner(cluster, node)?;
        Ok(storage)
    }

    /// A receiver whose sender is dropped when the database has been closed.
    #[must_use]
    pub fn closed(&self) -> watch::Receiver<()> {
        self.inner.closed.clone()
    }

    /// A way to this database that does not keep it open.
    pub(crate) fn downgrade(&self) -> WeakStorage {
        WeakStorage(Arc::downgrade(&self.inner))
    }

    fn open_with(path: &Path, create: bool) -> Result<Self, Error> {
        let mut options = Options::default();
        options.create_if_missing(create);
        options.create_missing_column_families(create);
        options.set_max_total_wal_size(WAL_BYTES_MAX);
        options.set_max_background_jobs(2);
        options.set_keep_log_file_num(4);
        // A log entry that a follower acknowledged must be found again: stop at a damaged WAL, never skip over it.
        options.set_wal_recovery_mode(rocksdb::DBRecoveryMode::TolerateCorruptedTailRecords);
        let families = [LOG, META, SNAPSHOT].map(|name| {
            let mut family = Options::default();
            family.set_write_buffer_size(WRITE_BUFFER_BYTES);
            ColumnFamilyDescriptor::new(name, family)
        });
        let opened = Database::open_cf_descriptors(&options, path, families);
        let database = opened.map_err(|source| Error::Open { path: path.to_owned(), source })?;
        let database = Arc::new(database);
        let (sender, closed) = watch::channel(());
        let (pending, waiting) = sync_channel(SYNC_QUEUE);
        let committed = Arc::new(CommittedMark::default());
        let (synced, mark, path) = (Arc::clone(&database), Arc::clone(&committed), path.to_owned());
        let place = path.clone();
        let sync_thread = thread::Builder::new().name("raft-log-sync".into());
        let sync_thread = sync_thread.spawn(move || sync_groups(&synced, &mark, &place, &waiting))?;
        let (pending, sync_thread) = (Some(pending), Some(sync_thread));
        let inner = Inner { pending, sync_thread, database, committed, _closed: sender, path, closed };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn check_owner(&self, cluster: ClusterId, node: NodeId) -> Result<(), Error> {
        let expected = (cluster, node);
        let found = self.get::<DurableOwner>("owner", OWNER)?;
        match found.map(|owner| (owner.cluster, owner.node)) {
            Some(found) if found == expected => Ok(()),
            Some(found) => Err(Error::Owner { path: self.inner.path.clone(), found, expected }),
            None => Err(Error::Missing { path: self.inner.path.clone() }),
        }
    }

    pub(crate) fn database(&self) -> &Database {
        &self.inner.database
    }

    pub(crate) fn family(&self, name: &'static str) -> Arc<BoundColumnFamily<'_>> {
        self.inner.database.cf_handle(name).expect("every family is opened with the database")
    }

    /// A sealed value of the family `meta`.
    pub(crate) fn get<T: DeserializeOwned>(&self, what: &'static str, key: &str) -> io::Result<Option<T>> {
        let value = self.database().get_cf(&self.family(META), key).map_err(|error| self.failed(what, &error))?;
        value.map(|sealed| format::open(what, &sealed).map_err(|error| self.damaged(META, key, &error))).transpose()
    }

    /// Notes up to where the log is known to be committed.
    pub(crate) fn note_committed(&self, mark: DurableLogId) {
        *self.inner.committed.unwritten() = Some(format::seal(&mark));
    }

    /// Adds the last such note to what is about to be written.
    pub(crate) fn write_committed_with(&self, batch: &mut WriteBatch) {
        if let Some(sealed) = self.inner.committed.unwritten().take() {
            batch.put_cf(&self.family(META), COMMITTED, sealed);
        }
    }

    /// Up to where the log was last known to be committed.
    pub(crate) fn committed(&self) -> io::Result<Option<DurableLogId>> {
        self.inner.committed.write(self.database());
        self.get(COMMITTED, COMMITTED)
    }

    /// Puts a completion in line for the next fsync.
    pub(crate) fn sync(&self, pending: Pending) -> io::Result<()> {
        let ended = || io::Error::other("sync Raft log: its thread has ended");
        self.inner.pending.as_ref().ok_or_else(ended)?.send(pending).map_err(|_| ended())
    }

    /// Waits until everything written so far is on the disk.
    pub(crate) async fn synced(&self) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.sync(Pending::Write(sender))?;
        receiver.await.map_err(|_| io::Error::other("sync Raft log: its thread has ended"))?
    }

    /// RocksDB refused.
    pub(crate) fn failed(&self, what: &str, error: &rocksdb::Error) -> io::Error {
        let path = self.inner.path.display();
        io::Error::other(format!("{what} in {path}: {error}; check the disk"))
    }

    /// A value does not decode.
    pub(crate) fn damaged(&self, family: &str, key: impl std::fmt::Display, error: &format::Error) -> io::Error {
        let path = self.inner.path.display();
        io::Error::other(format!(
            "read key {key} of {family} in {path}: {error}; stop this coordinator, empty its data directory and have \
             it added as a new member, or restore the directory from a copy"
        ))
    }
}

/// Group commit: everything queued while one fsync ran is covered by the next one. After a failed fsync nothing
/// is known of the pages, so every later one fails too.
fn sync_groups(database: &Database, committed: &CommittedMark, path: &Path, waiting: &Receiver<Pending>) {
    let mut broken: Option<String> = None;
    while let Some(first) = next_or_idle(database, committed, waiting) {
        let group: Vec<Pending> = std::iter::once(first).chain(waiting.try_iter()).collect();
        let appends = group.iter().any(|pending| matches!(pending, Pending::Append(_)));
        if appends {
            FailPoint::RaftAppendPreSync.hit();
        }
        if broken.is_none() {
            let path = path.display();
            broken =
                database.flush_wal(true).err().map(|error| format!("sync Raft log in {path}: {error}; check the disk"));
        }
        if appends {
            FailPoint::RaftAppendPostSync.hit();
        }
        for pending in group {
            let result = broken.clone().map_or(Ok(()), |reason| Err(io::Error::other(reason)));
            match pending {
                Pending::Append(flushed) => flushed.io_completed(result),
                // Whoever asked may have gone.
                Pending::Write(sender) => drop(sender.send(result)),
            }
        }
    }
}

/// The next to wait for an fsync; none: nobody can come any more.
fn next_or_idle(database: &Database, committed: &CommittedMark, waiting: &Receiver<Pending>) -> Option<Pending> {
    match waiting.recv_timeout(IDLE) {
        Ok(first) => Some(first),
        Err(RecvTimeoutError::Timeout) => {
            committed.write(database);
            let next = waiting.recv().ok();
            if next.is_none() {
                committed.write(database);
            }
            next
        }
        Err(RecvTimeoutError::Disconnected) => {
            committed.write(database);
            None
        }
    }
}
