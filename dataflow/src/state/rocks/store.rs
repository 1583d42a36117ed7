//! The database of one sub-task: its states by number, and its files at barriers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DB, IteratorMode, ReadOptions, WriteBatch};
use tidemill_model::key::{Key, KeyHash};
use tidemill_model::key_group::KeyGroupRange;

use super::key::{end_of, key};
use super::options::{cache_bytes, options, unlogged};
use super::table::RocksTable;
use crate::engine::snapshot::StateId;
use crate::record::Data;
use crate::state::{Cache, CacheMemory, LaterFiles, StoreFiles};

/// How much is written together at most.
pub(super) const BATCH_BYTES: usize = 1024 * 1024;

/// The column family that all states are in.
pub(super) const FAMILY: &str = "default";

/// Why a store does not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A folder.
    #[error("{action} state folder {folder:?}: {source}")]
    Folder { action: &'static str, folder: PathBuf, source: std::io::Error },
    /// The database.
    #[error("{action} state in RocksDB: {source}")]
    Database { action: &'static str, source: rocksdb::Error },
    /// What was changed by a barrier, written by whoever came first.
    #[error("{0}")]
    Barrier(String),
}

pub(super) fn database(action: &'static str) -> impl FnOnce(rocksdb::Error) -> Error {
    move |source| Error::Database { action, source }
}

/// A folder for one store, which is deleted with this value.
#[derive(Debug)]
pub(crate) struct StoreFolder(PathBuf);

impl StoreFolder {
    /// Makes the folder, empty.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn make(folder: PathBuf) -> Result<Self, Error> {
        let emptied = match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
        let made = emptied.and_then(|()| std::fs::create_dir_all(&folder));
        made.map_err(|source| Error::Folder { action: "make", folder: folder.clone(), source })?;
        Ok(Self(folder))
    }

    /// Where a database is in it.
    pub(crate) fn database(&self) -> PathBuf {
        self.0.join("db")
    }

    /// Where the files of another sub-task's store are put for a while.
    pub(crate) fn earlier(&self) -> PathBuf {
        self.0.join("earlier")
    }

    fn checkpoint(&self, number: u64) -> PathBuf {
        self.0.join(format!("barrier-{number}"))
    }
}

impl Drop for StoreFolder {
    fn drop(&mut self) {
        // Files of a snapshot that is being written stay until it is.
        let mut emptied = std::fs::remove_dir_all(self.database());
        let _ = std::fs::remove_dir_all(self.earlier());
        let in_use =
            std::fs::remove_dir(&self.0).is_err_and(|error| error.kind() == std::io::ErrorKind::DirectoryNotEmpty);
        if emptied.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            emptied = Ok(());
        }
        if let Err(error) = emptied {
            tracing::warn!(%error, folder = %self.0.display(), "state is left until the executor ends");
        } else if in_use {
            tracing::debug!(folder = %self.0.display(), "files of a snapshot are still being written");
        }
    }
}

/// A database and its folder, for the sub-task and for whoever writes its snapshots.
pub(super) struct Opened {
    pub(super) db: DB,
    /// After the database: it is closed first.
    folder: StoreFolder,
}

/// The store of one sub-task; it is used by the sub-task's thread alone.
pub(crate) struct RocksStore {
    pub(super) opened: Arc<Opened>,
    pub(super) range: KeyGroupRange,
    pub(super) max_parallelism: u32,
    memory: Rc<CacheMemory>,
    numbers: RefCell<BTreeMap<StateId, u32>>,
    next_state: Cell<u32>,
    barriers: Cell<u64>,
    /// The barrier that is passing, if a state was frozen for it.
    passing: RefCell<Option<LaterFiles>>,
    /// The one that has passed, until everything is written that was changed by then, and its files are set aside.
    passed: RefCell<Option<LaterFiles>>,
}

impl RocksStore {
    /// Opens the database in a folder; `numbers` are those of the states that it has, and `next_state` is higher.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open(
        folder: StoreFolder,
        memory_bytes: usize,
        (range, max_parallelism): (KeyGroupRange, u32),
        (numbers, next_state): (BTreeMap<StateId, u32>, u32),
    ) -> Result<Rc<Self>, Error> {
        let options = options(memory_bytes);
        let db = DB::open_cf_with_opts(&options, folder.database(), [(FAMILY, options.clone())]);
        Ok(Rc::new(Self {
            opened: Arc::new(Opened { db: db.map_err(database("open"))?, folder }),
            range,
            max_parallelism,
            memory: CacheMemory::new(cache_bytes(memory_bytes)),
            numbers: RefCell::new(numbers),
            next_state: Cell::new(next_state),
            barriers: Cell::new(0),
            passing: RefCell::default(),
            passed: RefCell::default(),
        }))
    }

    /// The folder of the store.
    pub(crate) fn folder(&self) -> &StoreFolder {
        &self.opened.folder
    }

    /// The table of a state.
    pub(crate) fn table<K: Key, V: Data>(self: &Rc<Self>, id: &StateId) -> Cache<K, V> {
        Cache::new(Box::new(RocksTable::new(Rc::clone(self), self.number(id))), &self.memory)
    }

    /// The number of a state; one that the store does not know gets one that no state has had.
    fn number(&self, id: &StateId) -> u32 {
        *self.numbers.borrow_mut().entry(id.clone()).or_insert_with(|| {
            let number = self.next_state.get();
            self.next_state.set(number + 1);
            number
        })
    }

    /// Takes over what another store, whose files are in a folder, has in this one's key groups.
    ///
    /// # Errors
    /// It cannot be read, or written here.
    pub(crate) fn take_over(&self, folder: &Path, states: &BTreeMap<StateId, u32>) -> Result<(), Error> {
        let options = options(BATCH_BYTES);
        let earlier = DB::open_cf_for_read_only(&options, folder, [FAMILY], false).map_err(database("open earlier"))?;
        for (id, from) in states {
            let to = self.number(id);
            let Range { start, end } = self.hashes();
            let mut read = ReadOptions::default();
            read.set_iterate_upper_bound(end.map_or_else(|| end_of(*from), |end| key(*from, end).to_vec()));
            let mut batch = WriteBatch::default();
            let first = key(*from, start.unwrap_or(KeyHash(0)));
            for entry in earlier.iterator_opt(IteratorMode::From(&first, rocksdb::Direction::Forward), read) {
                let (old, value) = entry.map_err(database("read earlier"))?;
                let Some(hash) = super::key::hash_of(&old) else { continue };
                batch.put(key(to, hash), value);
                if batch.size_in_bytes() >= BATCH_BYTES {
                    self.write(&mut batch)?;
                }
            }
            self.write(&mut batch)?;
        }
        Ok(())
    }

    /// The hashes of this store's key groups; none is the end.
    fn hashes(&self) -> Range<Option<KeyHash>> {
        let KeyGroupRange(Range { start, end }) = self.range;
        let first = |group: u32| tidemill_model::key_group::KeyGroup(group).first_hash(self.max_parallelism);
        let end = (end < self.max_parallelism).then(|| first(end));
        Some(first(start))..end
    }

    /// Writes a batch and empties it.
    pub(super) fn write(&self, batch: &mut WriteBatch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        self.settle()?;
        write(&self.opened.db, batch)
    }

    /// Has everything written that was changed before, and no barrier's files be without it: what is written then comes
    /// later.
    pub(super) fn settle(&self) -> Result<(), Error> {
        self.settle_passed()?;
        match &*self.passing.borrow() {
            Some(passing) => passing.write().map_err(Error::Barrier),
            None => Ok(()),
        }
    }

    /// Has everything written that was changed by the barrier that passed last, and its files set aside if anybody may
    /// still want them.
    pub(super) fn settle_passed(&self) -> Result<(), Error> {
        let Some(passed) = self.passed.take() else { return Ok(()) };
        if Arc::strong_count(&passed) > 1 {
            // Who wants the files is told why there are none.
            let _ = passed.files();
        }
        passed.write().map_err(Error::Barrier)
    }

    /// Whether [`settle`](Self::settle) has nothing to do.
    pub(super) fn is_settled(&self) -> bool {
        let (passing, passed) = (self.passing.borrow(), self.passed.borrow());
        let is_done = |passed: &LaterFiles| passed.is_done() || Arc::strong_count(passed) == 1 && passed.is_written();
        passing.as_ref().is_none_or(|passing| passing.is_written()) && passed.as_ref().is_none_or(is_done)
    }

    /// The files that the barrier which is passing will leave.
    pub(super) fn passing(&self) -> LaterFiles {
        LaterFiles::clone(self.passing.borrow_mut().get_or_insert_default())
    }

    /// How many barriers have passed.
    pub(super) fn barriers(&self) -> u64 {
        self.barriers.get()
    }

    /// The barrier has gone through the whole chain: the files of the store as it is now are set aside when somebody wants
    /// them, or something is to be written.
    pub(crate) fn set_aside(&self) {
        let number = self.barriers.get() + 1;
        self.barriers.set(number);
        if let Some(passing) = self.passing.take() {
            let (opened, next_state) = (Arc::clone(&self.opened), self.next_state.get());
            passing
                .complete(Box::new(move || opened.link_files(number, next_state).map_err(|error| error.to_string())));
            *self.passed.borrow_mut() = Some(passing);
        }
    }
}

/// Writes a batch and empties it.
pub(super) fn write(db: &DB, batch: &mut WriteBatch) -> Result<(), Error> {
    if batch.is_empty() {
        return Ok(());
    }
    db.write_opt(std::mem::take(batch), &unlogged()).map_err(database("write"))
}

impl Opened {
    fn link_files(&self, number: u64, next_state: u32) -> Result<StoreFiles, Error> {
        let folder = self.folder.checkpoint(number);
        let checkpoint = Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(&folder));
        checkpoint.map_err(database("keep"))?;
        let files = StoreFiles::take_over(folder.clone(), next_state);
        files.map_err(|source| Error::Folder { action: "read", folder, source })
    }
}
