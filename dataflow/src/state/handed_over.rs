//! What a task has changed of a state on disk by a barrier, for the writer of the snapshot.

use std::sync::{Arc, Mutex, PoisonError};

use tidemill_model::key::{Key, KeyHash};

use super::frozen::FrozenTable;
use crate::record::Data;

/// The bytes that entries take, by hash, as the writer finds out.
#[derive(Debug, Clone, Default)]
pub(super) struct Sizes(Arc<Mutex<Vec<(KeyHash, usize)>>>);

impl Sizes {
    /// Shows some that were not shown before.
    pub(super) fn take(&self, count: usize, mut each: impl FnMut(KeyHash, usize)) {
        // While the writer adds some: another time.
        let Ok(mut sizes) = self.0.try_lock() else { return };
        let from = sizes.len().saturating_sub(count);
        sizes.drain(from..).for_each(|(hash, bytes)| each(hash, bytes));
    }
}

/// The entries of a state that were changed and are not on disk, as they were at a barrier.
pub(crate) struct HandedOver<K, V> {
    entries: FrozenTable<K, V>,
    changed: Vec<KeyHash>,
    evicted: Vec<KeyHash>,
    /// None: nobody asks for them.
    sizes: Option<Sizes>,
}

impl<K, V> HandedOver<K, V> {
    /// The hashes that are in `changed` more often than in `evicted` are to be written.
    pub(super) fn new(
        entries: FrozenTable<K, V>,
        changed: Vec<KeyHash>,
        evicted: Vec<KeyHash>,
        sizes: Option<Sizes>,
    ) -> Self {
        Self { entries, changed, evicted, sizes }
    }
}

impl<K: Key, V: Data> HandedOver<K, V> {
    /// Shows each hash to be written, in order, and all its entries; `write` answers how many bytes they take.
    #[cfg_attr(not(feature = "rocksdb"), expect(dead_code, reason = "only back-ends on disk do this"))]
    pub(crate) fn try_for_each<E>(
        self,
        mut write: impl FnMut(KeyHash, &[(&K, &V)]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let Self { entries, mut changed, mut evicted, sizes } = self;
        changed.sort_unstable();
        evicted.sort_unstable();
        let mut evicted = evicted.into_iter().peekable();
        let (mut of_hash, mut found) = (Vec::new(), Vec::new());
        for same in changed.chunk_by(PartialEq::eq) {
            let hash = same[0];
            let mut times = 0;
            while evicted.next_if(|other| *other <= hash).is_some() {
                times += 1;
            }
            if times < same.len() {
                of_hash.clear();
                of_hash.extend(entries.table(hash).of_hash(hash));
                found.push((hash, write(hash, &of_hash)?));
            }
        }
        if let Some(Sizes(sizes)) = sizes {
            *sizes.lock().unwrap_or_else(PoisonError::into_inner) = found;
        }
        Ok(())
    }
}
