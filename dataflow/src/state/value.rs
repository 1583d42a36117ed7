//! The table behind most states: a plain one that is called directly, or any other.

use tidemill_model::key::{Key, KeyHash};

use super::backend::StateTable;
use super::store::AnyState;
use super::time_to_live::{Expiry, TtlTable};
use super::{FrozenState, KeyedTable, Section};
use crate::record::{self, Data};
use crate::runtime::sink::UserError;

/// Values by key. The plain table is apart from the others, so that no access to it is a virtual call.
pub(super) enum ValueTable<K, V> {
    Plain(KeyedTable<K, V>),
    Other(Box<dyn StateTable<K, V>>),
}

impl<K: Key, V: Data> ValueTable<K, V> {
    /// A table whose values end when there is an `expiry`; `tables` makes the one below.
    pub(super) fn new(tables: &super::store::Tables<'_>, expiry: Option<Expiry>) -> Self {
        match expiry {
            None => Self::Plain(tables.open()),
            Some(expiry) => Self::Other(Box::new(TtlTable::new(tables.open::<K, _>(), expiry))),
        }
    }

    #[inline]
    pub(super) fn get(&mut self, hash: KeyHash, key: &K) -> Option<&V> {
        match self {
            Self::Plain(table) => table.get(hash, |other| other == key),
            Self::Other(table) => table.get(hash, key),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, hash: KeyHash, key: &K) -> Option<&mut V> {
        match self {
            Self::Plain(table) => table.get_mut(hash, |other| other == key),
            Self::Other(table) => table.get_mut(hash, key),
        }
    }

    #[inline]
    pub(super) fn get_or_insert_with(&mut self, hash: KeyHash, key: &K, make: impl FnOnce() -> V) -> &mut V {
        match self {
            Self::Plain(table) => table.get_or_insert_with(hash, key, make),
            Self::Other(table) => {
                let mut make = Some(make);
                table.get_or_insert_with(hash, key, &mut || make.take().expect("a value is made once")())
            }
        }
    }

    #[inline]
    pub(super) fn put(&mut self, hash: KeyHash, key: &K, value: V) {
        match self {
            Self::Plain(table) => table.put(hash, key, value),
            Self::Other(table) => table.put(hash, key, value),
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, hash: KeyHash, key: &K) -> Option<V> {
        match self {
            Self::Plain(table) => table.remove(hash, |other| other == key),
            Self::Other(table) => table.remove(hash, key),
        }
    }

    pub(super) fn retain_some(&mut self, budget: usize, keep: &mut dyn FnMut(&K, &mut V) -> bool) {
        match self {
            Self::Plain(table) => table.retain_some(budget, keep),
            Self::Other(table) => table.retain_some(budget, keep),
        }
    }
}

impl<K: Key, V: Data> AnyState<K> for ValueTable<K, V> {
    fn prepare(&mut self, keys: &[(KeyHash, K)]) {
        match self {
            Self::Plain(table) => table.prepare_keys(keys),
            Self::Other(table) => table.prepare(keys),
        }
    }

    fn sweep(&mut self, budget: usize) {
        match self {
            Self::Plain(_) => {}
            Self::Other(table) => table.sweep(budget),
        }
    }

    fn settle(&mut self) -> Result<(), UserError> {
        match self {
            Self::Plain(table) => table.settle(),
            Self::Other(table) => table.settle(),
        }
    }

    fn freeze(&mut self) -> Box<dyn FrozenState> {
        match self {
            Self::Plain(table) => table.freeze(),
            Self::Other(table) => table.freeze(),
        }
    }

    fn restore(&mut self, section: &Section) -> Result<(), record::Error> {
        match self {
            Self::Plain(table) => table.restore_section(section),
            Self::Other(table) => table.restore(section),
        }
    }
}
