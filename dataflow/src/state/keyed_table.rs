//! The keyed state of one sub-task: a table for each of its key groups.
//!
//! A snapshot shares the tables instead of copying them (copy-on-write, as in Flink's heap back-end): the first change of
//! a key group after it takes a copy of that group, unless the snapshot is written by then. A group that has not been
//! changed since the last snapshot is known by its version, and need not be written again.

use std::sync::Arc;

use tidemill_model::key::{Key, KeyHash};
use tidemill_model::key_group::{KeyGroup, KeyGroupRange};

use super::frozen::{FrozenTable, decode_entries};
use super::table::{Place, Table};
use crate::record::{self, Data};
use crate::runtime::task::TaskContext;

/// How many keys ahead slots are fetched: 8 and 32 were slower with a million keys.
const PREFETCH_DISTANCE: usize = 16;

/// The slots of a key group that has no key yet.
const SLOTS_INITIAL: usize = 8;

/// The table of one key group.
#[derive(Debug)]
struct Group<K, V> {
    /// Which of the states that the group has gone through this is; it grows with the first change after a snapshot.
    version: u64,
    table: Holding<K, V>,
}

#[derive(Debug)]
enum Holding<K, V> {
    /// Nobody else looks at it.
    Own(Table<K, V>),
    /// A snapshot has it, too: it does not change.
    Shared(Arc<Table<K, V>>),
}

impl<K, V> Group<K, V> {
    #[inline(always)]
    fn table(&self) -> &Table<K, V> {
        match &self.table {
            Holding::Own(table) => table,
            Holding::Shared(table) => table,
        }
    }
}

impl<K: Clone, V: Clone> Group<K, V> {
    /// The table, to be changed.
    #[inline(always)]
    fn table_mut(&mut self) -> &mut Table<K, V> {
        if let Holding::Shared(_) = self.table {
            self.unshare();
        }
        match &mut self.table {
            Holding::Own(table) => table,
            Holding::Shared(_) => unreachable!("it was made this group's own"),
        }
    }

    #[cold]
    #[inline(never)]
    fn unshare(&mut self) {
        let empty = Holding::Own(Table::with_slots(1));
        if let Holding::Shared(shared) = std::mem::replace(&mut self.table, empty) {
            // A snapshot that is written by now has let go of it.
            self.table = Holding::Own(Arc::try_unwrap(shared).unwrap_or_else(|shared| (*shared).clone()));
            self.version += 1;
        }
    }

    /// The table as it is now, and the version that it will keep.
    fn share(&mut self) -> (u64, Arc<Table<K, V>>) {
        let shared = match std::mem::replace(&mut self.table, Holding::Own(Table::with_slots(1))) {
            Holding::Own(table) => Arc::new(table),
            Holding::Shared(shared) => shared,
        };
        self.table = Holding::Shared(Arc::clone(&shared));
        (self.version, shared)
    }
}

/// Values by key, in the key groups that one sub-task owns.
#[derive(Debug)]
pub(crate) struct KeyedTable<K, V> {
    groups: Vec<Group<K, V>>,
    first: u32,
    max_parallelism: u32,
    /// The group and slot at which [`retain_some`](Self::retain_some) goes on.
    cursor: (usize, usize),
}

impl<K: Clone, V: Clone> KeyedTable<K, V> {
    /// An empty one for the sub-task of this context.
    pub(crate) fn new(context: &TaskContext) -> Self {
        Self::of(&context.key_groups(), context.max_parallelism())
    }

    pub(super) fn of(KeyGroupRange(range): &KeyGroupRange, max_parallelism: u32) -> Self {
        let group = |_| Group { version: 0, table: Holding::Own(Table::with_slots(SLOTS_INITIAL)) };
        let groups = range.clone().map(group).collect();
        Self { groups, first: range.start, max_parallelism, cursor: (0, 0) }
    }

    /// The table of the group that a hash belongs to.
    ///
    /// # Panics
    /// The group is another sub-task's: the exchange has sent the record astray.
    #[inline(always)]
    fn index(&self, hash: KeyHash) -> usize {
        (KeyGroup::of(hash, self.max_parallelism).0 - self.first) as usize
    }

    #[inline(always)]
    pub(crate) fn group(&mut self, hash: KeyHash) -> &mut Table<K, V> {
        let index = self.index(hash);
        self.groups[index].table_mut()
    }

    /// Begins a batch of keys that will be looked for in this order: has the first ones fetched.
    #[inline(always)]
    pub(crate) fn prefetch_first(&self, hashes: &[KeyHash]) {
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
        self.groups[self.index(hash)].table().prefetch(hash);
    }

    /// Has the slots of all these keys fetched.
    #[inline]
    pub(crate) fn prefetch_keys(&self, keys: &[(KeyHash, K)]) {
        keys.iter().for_each(|&(hash, _)| self.prefetch(hash));
    }

    /// The value of the key for which `is_key` holds.
    #[inline(always)]
    pub(crate) fn get_mut(&mut self, hash: KeyHash, is_key: impl Fn(&K) -> bool) -> Option<&mut V> {
        self.group(hash).get_mut(hash, is_key)
    }

    /// The value of a key, made when there is none.
    #[inline(always)]
    pub(crate) fn get_or_insert_with(&mut self, hash: KeyHash, key: &K, make: impl FnOnce() -> V) -> &mut V
    where
        K: Eq,
    {
        let group = self.group(hash);
        match group.probe(hash, |other| other == key) {
            Place::Taken(slot) => group.entry(slot).1,
            Place::Free(slot) => group.fill(slot, hash, key.clone(), make()).1,
        }
    }

    /// Gives a key this value, whether it had one or not.
    pub(crate) fn put(&mut self, hash: KeyHash, key: &K, value: V)
    where
        K: Eq,
    {
        let group = self.group(hash);
        match group.probe(hash, |other| other == key) {
            Place::Taken(slot) => *group.entry(slot).1 = value,
            Place::Free(slot) => {
                group.fill(slot, hash, key.clone(), value);
            }
        }
    }

    /// Takes out the key for which `is_key` holds.
    pub(crate) fn remove(&mut self, hash: KeyHash, is_key: impl Fn(&K) -> bool) -> Option<V> {
        self.group(hash).remove(hash, is_key)
    }

    /// Looks at a few slots, each time at others, and takes out what `keep` refuses.
    pub(crate) fn retain_some(&mut self, budget: usize, keep: &mut dyn FnMut(&K, &mut V) -> bool) {
        let mut left = budget;
        // Small tables are not gone through twice.
        for _ in 0..=self.groups.len() {
            let (group, slot) = self.cursor;
            let Some(group_table) = self.groups.get_mut(group) else { return };
            self.cursor = match group_table.table_mut().retain_from(slot, &mut left, keep) {
                Some(slot) => (group, slot),
                None => ((group + 1) % self.groups.len(), 0),
            };
            if left == 0 {
                return;
            }
        }
    }

    /// Empties all groups, in their order.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (KeyHash, K, V)> + '_ {
        self.groups.iter_mut().flat_map(|group| group.table_mut().drain())
    }

    /// Each key with its value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (KeyHash, &K, &V)> {
        self.groups.iter().flat_map(|group| group.table().iter())
    }
}

impl<K: Key, V: Data> KeyedTable<K, V> {
    /// Everything as it is now; later changes do not show in it.
    pub(crate) fn freeze(&mut self) -> FrozenTable<K, V> {
        FrozenTable::new(self.first, self.groups.iter_mut().map(Group::share).collect())
    }

    /// Takes in a section of a snapshot.
    pub(crate) fn restore_section(&mut self, section: &[u8]) -> Result<(), record::Error> {
        decode_entries(section, |key, value| self.restore(&key, value))
    }

    /// Takes in an entry of a snapshot; one of another sub-task's key groups is left out.
    fn restore(&mut self, key: &K, value: V) {
        let hash = key.key_hash();
        let group = KeyGroup::of(hash, self.max_parallelism).0;
        if (self.first..).zip(&self.groups).any(|(owned, _)| owned == group) {
            self.put(hash, key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_model::id::SubtaskIndex;
    use tidemill_model::key::Key;

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
            for (hash, key, value) in table.drain() {
                assert_eq!((key.key_hash(), value), (hash, key + 1));
                held += 1;
            }
        }
        assert_eq!(held, 1000);
    }
}
