//! The keyed state of one sub-task: a table for each of its key groups.
//!
//! A snapshot shares the [tables](Groups) instead of copying them. A group that has not been changed since
//! the last snapshot is known by its version, and need not be written again.
//!
//! With a [`Cache`] the tables hold only what is in use, and the rest is on disk.

use tidemill_model::execution::Failure;
use tidemill_model::key::{Key, KeyHash};
use tidemill_model::key_group::KeyGroupRange;

use super::cache::Cache;
use super::frozen::decode_entries;
use super::groups::Groups;
use super::table::{Place, Table};
use super::{FrozenState, Section};
use crate::engine::snapshot::StateId;
use crate::record::{self, Data};
use crate::runtime::sink::UserError;
use crate::runtime::task::TaskContext;

/// How many keys ahead slots are fetched: 8 and 32 were slower with a million keys.
const PREFETCH_DISTANCE: usize = 16;

/// Values by key, in the key groups that one sub-task owns.
pub(crate) struct KeyedTable<K, V> {
    groups: Groups<K, V>,
    /// The group and slot at which [`retain_some`](Self::retain_some) goes on.
    cursor: (usize, usize),
    /// None: memory holds all. Else the groups hold what is in use, and change only behind the cache's back where it
    /// was told before.
    cache: Option<Box<Cache<K, V>>>,
}

impl<K: Key, V: Data> KeyedTable<K, V> {
    /// The table of a state in the sub-task of this context, with what it starts from.
    ///
    /// # Errors
    /// The checkpoint cannot be read, or has the state of other types.
    pub(crate) fn open(context: &TaskContext, id: &StateId, types: &[&str]) -> Result<Self, Failure> {
        let mut table = Self::empty(context, id);
        context.restore_keyed(id, types, |section| table.restore_section(section))?;
        Ok(table)
    }

    /// The table of a state before it is restored.
    pub(super) fn empty(context: &TaskContext, id: &StateId) -> Self {
        let table = Self::of(&context.key_groups(), context.max_parallelism());
        Self { cache: context.state_on_disk(id).map(Box::new), ..table }
    }
}

impl<K: Key, V: Data> KeyedTable<K, V> {
    /// An empty one in memory.
    pub(super) fn of(range: &KeyGroupRange, max_parallelism: u32) -> Self {
        Self { groups: Groups::of(range, max_parallelism), cursor: (0, 0), cache: None }
    }

    /// An empty one with a disk.
    #[cfg(all(test, feature = "rocksdb"))]
    pub(super) fn with_cache(range: &KeyGroupRange, max_parallelism: u32, cache: Cache<K, V>) -> Self {
        Self { cache: Some(Box::new(cache)), ..Self::of(range, max_parallelism) }
    }

    /// How much memory it takes, with what its entries point to.
    #[cfg(all(test, feature = "rocksdb"))]
    pub(super) fn memory_bytes(&self, pointed_to: impl Fn(&K, &V) -> usize) -> usize {
        let table = |table: &Table<K, V>| {
            let entries: usize = table.iter().map(|(_, key, value)| pointed_to(key, value)).sum();
            table.slot_count() * Table::<K, V>::slot_bytes() + entries
        };
        let groups: usize = self.groups.tables().map(table).sum();
        groups + self.cache.as_ref().map_or(0, |cache| cache.index_bytes())
    }

    /// The table in which the key of a hash is, or would be, to be changed.
    #[inline(always)]
    pub(crate) fn group(&mut self, hash: KeyHash) -> &mut Table<K, V> {
        if let Some(cache) = &mut self.cache {
            cache.change(hash, &mut self.groups);
        }
        self.groups.table_mut(hash)
    }

    /// Begins a batch of keys that will be looked for in this order: has them read, or the first ones fetched.
    #[inline(always)]
    pub(crate) fn prepare(&mut self, hashes: &[KeyHash]) {
        if let Some(cache) = &mut self.cache {
            cache.prepare(hashes.iter().copied(), &mut self.groups);
        }
        hashes.iter().take(PREFETCH_DISTANCE).for_each(|&hash| self.prefetch(hash));
    }

    /// Goes on with the batch, at the key of this index: has one fetched that comes later, so that its cache miss
    /// passes while those before it are worked on.
    #[inline(always)]
    pub(crate) fn prefetch_ahead(&self, hashes: &[KeyHash], index: usize) {
        if let Some(&hash) = hashes.get(index + PREFETCH_DISTANCE) {
            self.prefetch(hash);
        }
    }

    #[inline(always)]
    fn prefetch(&self, hash: KeyHash) {
        self.groups.table(hash).prefetch(hash);
    }

    /// Has all these keys read, or their slots fetched.
    #[inline]
    pub(crate) fn prepare_keys(&mut self, keys: &[(KeyHash, K)]) {
        if let Some(cache) = &mut self.cache {
            cache.prepare(keys.iter().map(|(hash, _)| *hash), &mut self.groups);
        }
        keys.iter().for_each(|&(hash, _)| self.prefetch(hash));
    }

    /// A batch is done: whether all of it could be read and written.
    ///
    /// # Errors
    /// Something could not since the last time.
    #[inline]
    pub(crate) fn settle(&mut self) -> Result<(), UserError> {
        self.cache.as_mut().map_or(Ok(()), |cache| cache.check())
    }

    /// The value of the key for which `is_key` holds.
    #[inline(always)]
    pub(crate) fn get(&mut self, hash: KeyHash, is_key: impl Fn(&K) -> bool) -> Option<&V> {
        if let Some(cache) = &mut self.cache {
            cache.look(hash, &mut self.groups);
        }
        self.groups.table(hash).get(hash, is_key)
    }

    /// The value of the key for which `is_key` holds, to be changed.
    #[inline(always)]
    pub(crate) fn get_mut(&mut self, hash: KeyHash, is_key: impl Fn(&K) -> bool) -> Option<&mut V> {
        self.group(hash).get_mut(hash, is_key)
    }

    /// The value of a key, made when there is none.
    #[inline(always)]
    pub(crate) fn get_or_insert_with(&mut self, hash: KeyHash, key: &K, make: impl FnOnce() -> V) -> &mut V {
        let group = self.group(hash);
        match group.probe(hash, |other| other == key) {
            Place::Taken(slot) => group.entry(slot).1,
            Place::Free(slot) => group.fill(slot, hash, key.clone(), make()).1,
        }
    }

    /// Gives a key this value, whether it had one or not.
    pub(crate) fn put(&mut self, hash: KeyHash, key: &K, value: V) {
        self.group(hash).put(hash, key.clone(), value);
    }

    /// Takes out the key for which `is_key` holds.
    pub(crate) fn remove(&mut self, hash: KeyHash, is_key: impl Fn(&K) -> bool) -> Option<V> {
        self.group(hash).remove(hash, is_key)
    }

    /// Looks at a few slots, each time at others, and takes out what `keep` refuses.
    pub(crate) fn retain_some(&mut self, budget: usize, keep: &mut dyn FnMut(&K, &mut V) -> bool) {
        if let Some(cache) = &mut self.cache {
            return cache.retain_some(budget, &mut self.groups, keep);
        }
        self.cursor = self.groups.retain_from(self.cursor, budget, keep);
    }

    /// Empties all groups, in their order, and shows what was in them.
    ///
    /// # Errors
    /// What `each` answers.
    pub(crate) fn drain<E>(&mut self, mut each: impl FnMut(KeyHash, K, V) -> Result<(), E>) -> Result<(), E> {
        if let Some(cache) = &mut self.cache {
            return cache.drain(&mut self.groups, &mut each);
        }
        self.groups.drain(&mut each)
    }

    /// Shows each key with its value.
    ///
    /// # Errors
    /// What `each` answers.
    pub(crate) fn try_for_each<E>(&mut self, mut each: impl FnMut(KeyHash, &K, &V) -> Result<(), E>) -> Result<(), E> {
        if let Some(cache) = &mut self.cache {
            return cache.try_for_each(&mut self.groups, &mut |hash, key, value| each(hash, &key, &value));
        }
        self.groups.try_for_each(&mut each)
    }
}

impl<K: Key, V: Data> KeyedTable<K, V> {
    /// Everything as it is now; later changes do not show in it.
    pub(crate) fn freeze(&mut self) -> Box<dyn FrozenState> {
        if let Some(cache) = &mut self.cache {
            return cache.freeze(&mut self.groups);
        }
        Box::new(self.groups.share())
    }

    /// Takes in a section of a snapshot.
    pub(crate) fn restore_section(&mut self, section: &Section) -> Result<(), record::Error> {
        let groups = &mut self.groups;
        let Some(cache) = &mut self.cache else {
            return decode_entries(section, |key: K, value| {
                let hash = key.key_hash();
                groups.table_mut(hash).put(hash, key, value);
            });
        };
        let mut entries = Vec::new();
        decode_entries(section, |key: K, value| {
            entries.push((key.key_hash(), key, value));
        })?;
        cache.take_in(entries);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_model::id::SubtaskIndex;
    use tidemill_model::key::Key;
    use tidemill_model::key_group::KeyGroup;

    #[test]
    fn each_subtask_holds_the_keys_of_its_groups() {
        let mut held = 0;
        for subtask in 0..3 {
            let range = KeyGroupRange::of(SubtaskIndex(subtask), 3, 128);
            let mut table = KeyedTable::of(&range, 128);
            for key in 0..1000u64 {
                if range.contains(KeyGroup::of(key.key_hash(), 128)) {
                    *table.get_or_insert_with(key.key_hash(), &key, || 0) += key;
                    *table.get_or_insert_with(key.key_hash(), &key, || 0) += 1;
                    assert_eq!(table.get_mut(key.key_hash(), |&other| other == key), Some(&mut (key + 1)));
                }
            }
            let drained: Result<(), ()> = table.drain(|hash, key, value| {
                assert_eq!((key.key_hash(), value), (hash, key + 1));
                held += 1;
                Ok(())
            });
            drained.unwrap();
        }
        assert_eq!(held, 1000);
    }
}
