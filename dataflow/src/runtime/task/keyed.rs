//! The keyed state of a sub-task: its key groups, and its store on disk, which is opened before its operators are, with
//! what it starts from.

use std::path::PathBuf;

use tidemill_model::execution::Failure;
#[cfg(feature = "rocksdb")]
use tidemill_model::execution::FailureKind;
use tidemill_model::job_graph::Partitioning;
use tidemill_model::key::Key;
use tidemill_model::key_group::KeyGroupRange;

use super::TaskContext;
use crate::engine::snapshot::StateId;
use crate::record::Data;
#[cfg(not(feature = "rocksdb"))]
use crate::runtime::checkpoint::Error;
use crate::state::Cache;
#[cfg(feature = "rocksdb")]
use crate::state::{RocksStore, StoreFolder};

/// Where the keyed state of a sub-task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StatePlace {
    /// In memory.
    Heap,
    /// In RocksDB in a folder of its own, with this much memory.
    RocksDb { folder: PathBuf, memory_bytes: usize },
}

impl TaskContext {
    /// The key groups that this sub-task owns.
    pub(crate) fn key_groups(&self) -> KeyGroupRange {
        let max_parallelism = self.flow().max_parallelism(self.attempt().vertex.vertex);
        KeyGroupRange::of(self.subtask(), self.parallelism(), max_parallelism)
    }

    /// Among how many key groups the keys of this vertex are distributed.
    pub(crate) fn max_parallelism(&self) -> u32 {
        self.flow().max_parallelism(self.attempt().vertex.vertex)
    }

    /// Whether the sub-task's chain begins with what is distributed by key.
    fn is_keyed(&self) -> bool {
        let mut edges = self.flow().input_edges(self.attempt().vertex.vertex);
        edges.any(|index| self.flow().edge(index).partitioning == Partitioning::Hash)
    }

    /// Opens the store of keyed state, if that is to be on disk.
    ///
    /// # Errors
    /// It cannot be opened, or what it starts from cannot be had.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn open_store(&self) -> Result<(), Failure> {
        let StatePlace::RocksDb { folder, memory_bytes } = &self.inner.environment.state else { return Ok(()) };
        if !self.is_keyed() {
            return Ok(());
        }
        let folder = StoreFolder::make(folder.clone()).map_err(|error| self.store_failure("open", &error))?;
        let restored = self.inner.restored.borrow();
        let (range, max_parallelism) = (self.key_groups(), self.max_parallelism());
        let earlier = restored.as_ref().map(|restored| restored.stores(&range, max_parallelism)).unwrap_or_default();
        let fetch = |store, folder: &std::path::Path| {
            let fetched = restored.as_ref().map_or(Ok(()), |restored| restored.fetch(store, folder));
            fetched.map_err(|error| self.restore_failure(&error))
        };
        // The one store of the same key groups is gone on with; of others, what belongs here is copied.
        let begin = match earlier.as_slice() {
            [whole] if whole.range == range => {
                fetch(whole, &folder.database())?;
                (whole.states.clone(), whole.index.next_state)
            }
            _ => Default::default(),
        };
        let copied = if begin.0.is_empty() { earlier.as_slice() } else { &[] };
        let store = RocksStore::open(folder, *memory_bytes, (range, max_parallelism), begin);
        let store = store.map_err(|error| self.store_failure("open", &error))?;
        for part in copied {
            let folder = store.folder().earlier();
            fetch(part, &folder)?;
            store.take_over(&folder, &part.states).map_err(|error| self.store_failure("restore", &error))?;
            std::fs::remove_dir_all(&folder).map_err(|error| self.store_failure("restore", &error))?;
        }
        drop(restored);
        *self.inner.store.borrow_mut() = Some(store);
        Ok(())
    }

    /// The same in a program that has no other back-end than the heap.
    ///
    /// # Errors
    /// The job wants another one.
    #[cfg(not(feature = "rocksdb"))]
    pub(crate) fn open_store(&self) -> Result<(), Failure> {
        match &self.inner.environment.state {
            StatePlace::RocksDb { .. } if self.is_keyed() => Err(self.restore_failure(&Error::NoRocksDb)),
            StatePlace::RocksDb { .. } | StatePlace::Heap => Ok(()),
        }
    }

    /// What is in memory of a state that is on disk; none: all of it is in memory.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn state_on_disk<K: Key, V: Data>(&self, id: &StateId) -> Option<Cache<K, V>> {
        self.inner.store.borrow().as_ref().map(|store| store.table(id))
    }

    #[cfg(not(feature = "rocksdb"))]
    pub(crate) fn state_on_disk<K: Key, V: Data>(&self, _id: &StateId) -> Option<Cache<K, V>> {
        None
    }

    /// The barrier has gone through the chain: the files of the store are set aside for the snapshot.
    pub(super) fn set_store_aside(&self) {
        #[cfg(feature = "rocksdb")]
        if let Some(store) = &*self.inner.store.borrow() {
            store.set_aside();
        }
    }

    #[cfg(feature = "rocksdb")]
    #[cold]
    fn store_failure(&self, action: &str, error: &dyn std::fmt::Display) -> Failure {
        self.failure(FailureKind::Io, None, format!("{action} state: {error}"))
    }
}
