//! What a state back-end is to the state handles: typed tables by key, and entries of maps by key.

use std::collections::BTreeMap;

use tidemill_model::key::{Key, KeyHash};

use super::{FrozenState, KeyedTable, Section};
use crate::record::{self, Data};
use crate::runtime::sink::UserError;

/// The values of one state in one sub-task, by key.
///
/// [`KeyedTable`] keeps them as they are, all or, in front of a disk, those in use; rolling aggregates use it without
/// this trait. A table that keeps encoded bytes alone would read a batch's keys in [`prepare`](Self::prepare), lend its
/// decoded copies out, and write what was lent for change back in [`settle`](Self::settle).
///
/// # To ensure correctness
///
/// - Every access names the key's hash, so that an implementation knows the key group before anything changes:
///   after [`freeze`](Self::freeze) the frozen values stay as they were, shared until the first later change of a group.
/// - A failure of a read or write is remembered and told by [`settle`](Self::settle); until then nothing is found.
pub trait StateTable<K, V>: 'static {
    /// These keys are used next, all of one batch or a part of it.
    fn prepare(&mut self, keys: &[(KeyHash, K)]);

    /// The value of a key.
    fn get(&mut self, hash: KeyHash, key: &K) -> Option<&V>;

    /// The value of a key, to be changed.
    fn get_mut(&mut self, hash: KeyHash, key: &K) -> Option<&mut V>;

    /// The value of a key, to be changed; made when there is none.
    fn get_or_insert_with(&mut self, hash: KeyHash, key: &K, make: &mut dyn FnMut() -> V) -> &mut V;

    /// Gives a key this value, whether it had one or not.
    fn put(&mut self, hash: KeyHash, key: &K, value: V);

    /// Takes a key's value away.
    fn remove(&mut self, hash: KeyHash, key: &K) -> Option<V>;

    /// Looks at so many places at most, each time at others, and takes out what `keep` refuses.
    fn retain_some(&mut self, budget: usize, keep: &mut dyn FnMut(&K, &mut V) -> bool);

    /// Looks at so many places at most for values whose time is over.
    fn sweep(&mut self, _budget: usize) {}

    /// A batch is done: changes are written to wherever they are kept.
    ///
    /// # Errors
    /// Something could not be read or written since the last time.
    fn settle(&mut self) -> Result<(), UserError>;

    /// All values as they are now.
    fn freeze(&mut self) -> Box<dyn FrozenState>;

    /// Takes in a section of a snapshot, of a key group that the sub-task has.
    ///
    /// # Errors
    /// The section is of other types, or damaged.
    fn restore(&mut self, section: &Section) -> Result<(), record::Error>;
}

/// The entries of one map state in one sub-task, by key and the user's second key.
///
/// # To ensure correctness
///
/// What [`StateTable`] says holds here, too; a key without entries takes no room.
pub trait MapTable<K, U, V>: 'static {
    /// These keys are used next.
    fn prepare(&mut self, keys: &[(KeyHash, K)]);

    /// An entry.
    fn get(&mut self, hash: KeyHash, key: &K, entry: &U) -> Option<&V>;

    /// An entry, to be changed.
    fn get_mut(&mut self, hash: KeyHash, key: &K, entry: &U) -> Option<&mut V>;

    /// Sets an entry.
    fn put(&mut self, hash: KeyHash, key: &K, entry: U, value: V);

    /// Takes an entry away.
    fn remove(&mut self, hash: KeyHash, key: &K, entry: &U) -> Option<V>;

    /// The entries of a key, in the order of the user's keys.
    fn iter<'a>(&'a mut self, hash: KeyHash, key: &K) -> Box<dyn Iterator<Item = (&'a U, &'a V)> + 'a>;

    /// Takes out the entries of a key that `keep` refuses.
    fn retain(&mut self, hash: KeyHash, key: &K, keep: &mut dyn FnMut(&U, &mut V) -> bool);

    /// Takes all entries of a key away.
    fn clear(&mut self, hash: KeyHash, key: &K);

    /// Looks at so many keys at most, each time at others, and takes out the entries that `keep` refuses.
    fn retain_some(&mut self, budget: usize, keep: &mut dyn FnMut(&U, &mut V) -> bool);

    /// Looks at so many keys at most for entries whose time is over.
    fn sweep(&mut self, _budget: usize) {}

    /// A batch is done: changes are written to wherever they are kept.
    ///
    /// # Errors
    /// Something could not be read or written since the last time.
    fn settle(&mut self) -> Result<(), UserError>;

    /// All entries as they are now.
    fn freeze(&mut self) -> Box<dyn FrozenState>;

    /// Takes in a section of a snapshot, of a key group that the sub-task has.
    ///
    /// # Errors
    /// The section is of other types, or damaged.
    fn restore(&mut self, section: &Section) -> Result<(), record::Error>;
}

impl<K: Key, V: Data> StateTable<K, V> for KeyedTable<K, V> {
    fn prepare(&mut self, keys: &[(KeyHash, K)]) {
        self.prepare_keys(keys);
    }

    fn get(&mut self, hash: KeyHash, key: &K) -> Option<&V> {
        KeyedTable::get(self, hash, |other| other == key)
    }

    fn get_mut(&mut self, hash: KeyHash, key: &K) -> Option<&mut V> {
        KeyedTable::get_mut(self, hash, |other| other == key)
    }

    fn get_or_insert_with(&mut self, hash: KeyHash, key: &K, make: &mut dyn FnMut() -> V) -> &mut V {
        KeyedTable::get_or_insert_with(self, hash, key, make)
    }

    fn put(&mut self, hash: KeyHash, key: &K, value: V) {
        KeyedTable::put(self, hash, key, value);
    }

    fn remove(&mut self, hash: KeyHash, key: &K) -> Option<V> {
        KeyedTable::remove(self, hash, |other| other == key)
    }

    fn retain_some(&mut self, budget: usize, keep: &mut dyn FnMut(&K, &mut V) -> bool) {
        KeyedTable::retain_some(self, budget, keep);
    }

    fn settle(&mut self) -> Result<(), UserError> {
        KeyedTable::settle(self)
    }

    fn freeze(&mut self) -> Box<dyn FrozenState> {
        KeyedTable::freeze(self)
    }

    fn restore(&mut self, section: &Section) -> Result<(), record::Error> {
        self.restore_section(section)
    }
}

impl<K: Key, U: Ord + Data, V: Data> MapTable<K, U, V> for KeyedTable<K, BTreeMap<U, V>> {
    fn prepare(&mut self, keys: &[(KeyHash, K)]) {
        self.prepare_keys(keys);
    }

    fn get(&mut self, hash: KeyHash, key: &K, entry: &U) -> Option<&V> {
        KeyedTable::get(self, hash, |other| other == key)?.get(entry)
    }

    fn get_mut(&mut self, hash: KeyHash, key: &K, entry: &U) -> Option<&mut V> {
        KeyedTable::get_mut(self, hash, |other| other == key)?.get_mut(entry)
    }

    fn put(&mut self, hash: KeyHash, key: &K, entry: U, value: V) {
        KeyedTable::get_or_insert_with(self, hash, key, BTreeMap::new).insert(entry, value);
    }

    fn remove(&mut self, hash: KeyHash, key: &K, entry: &U) -> Option<V> {
        let entries = KeyedTable::get_mut(self, hash, |other| other == key)?;
        let removed = entries.remove(entry);
        if entries.is_empty() {
            KeyedTable::remove(self, hash, |other| other == key);
        }
        removed
    }

    fn iter<'a>(&'a mut self, hash: KeyHash, key: &K) -> Box<dyn Iterator<Item = (&'a U, &'a V)> + 'a> {
        Box::new(KeyedTable::get(self, hash, |other| other == key).into_iter().flat_map(|entries| entries.iter()))
    }

    fn retain(&mut self, hash: KeyHash, key: &K, keep: &mut dyn FnMut(&U, &mut V) -> bool) {
        let Some(entries) = KeyedTable::get_mut(self, hash, |other| other == key) else { return };
        entries.retain(keep);
        if entries.is_empty() {
            KeyedTable::remove(self, hash, |other| other == key);
        }
    }

    fn clear(&mut self, hash: KeyHash, key: &K) {
        KeyedTable::remove(self, hash, |other| other == key);
    }

    fn retain_some(&mut self, budget: usize, keep: &mut dyn FnMut(&U, &mut V) -> bool) {
        KeyedTable::retain_some(self, budget, &mut |_, entries| {
            entries.retain(&mut *keep);
            !entries.is_empty()
        });
    }

    fn settle(&mut self) -> Result<(), UserError> {
        KeyedTable::settle(self)
    }

    fn freeze(&mut self) -> Box<dyn FrozenState> {
        KeyedTable::freeze(self)
    }

    fn restore(&mut self, section: &Section) -> Result<(), record::Error> {
        self.restore_section(section)
    }
}

#[cfg(test)]
mod tests;
