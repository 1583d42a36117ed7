//! Maps by key: any table of entries, and one around it in which entries end.

use std::collections::BTreeMap;

use tidemill_model::key::{Key, KeyHash};

use super::backend::MapTable;
use super::store::{AnyState, Tables};
use super::time_to_live::{Expiry, Timed};
use super::{FrozenState, Section};
use crate::record::{self, Data};
use crate::runtime::sink::UserError;

/// The entries of one map state.
pub(super) struct Maps<K, U, V>(pub(super) Box<dyn MapTable<K, U, V>>);

impl<K: Key, U: Ord + Data, V: Data> Maps<K, U, V> {
    pub(super) fn new(tables: &Tables<'_>, expiry: Option<Expiry>) -> Self {
        match expiry {
            None => Self(Box::new(tables.open::<K, BTreeMap<U, V>>())),
            Some(expiry) => {
                let entries = Box::new(tables.open::<K, BTreeMap<U, Timed<V>>>());
                Self(Box::new(TtlMap { entries, expiry }))
            }
        }
    }
}

impl<K: Key, U: Ord + Data, V: Data> AnyState<K> for Maps<K, U, V> {
    fn prepare(&mut self, keys: &[(KeyHash, K)]) {
        self.0.prepare(keys);
    }

    fn sweep(&mut self, budget: usize) {
        self.0.sweep(budget);
    }

    fn settle(&mut self) -> Result<(), UserError> {
        self.0.settle()
    }

    fn freeze(&mut self) -> Box<dyn FrozenState> {
        self.0.freeze()
    }

    fn restore(&mut self, section: &Section) -> Result<(), record::Error> {
        self.0.restore(section)
    }
}

/// A map state whose entries end; `entries` are kept with their times.
struct TtlMap<K, U, V> {
    entries: Box<dyn MapTable<K, U, Timed<V>>>,
    expiry: Expiry,
}

impl<K: Key, U: Ord + Data, V: Data> MapTable<K, U, V> for TtlMap<K, U, V> {
    fn prepare(&mut self, keys: &[(KeyHash, K)]) {
        self.entries.prepare(keys);
    }

    fn get(&mut self, hash: KeyHash, key: &K, entry: &U) -> Option<&V> {
        if self.expiry.reads_count() {
            return self.get_mut(hash, key, entry).map(|value| &*value);
        }
        let now = self.expiry.now();
        if self.expiry.is_over(self.entries.get(hash, key, entry)?.time, now) {
            self.entries.remove(hash, key, entry);
        }
        self.entries.get(hash, key, entry).map(|timed| &timed.value)
    }

    fn get_mut(&mut self, hash: KeyHash, key: &K, entry: &U) -> Option<&mut V> {
        let now = self.expiry.now();
        if self.expiry.is_over(self.entries.get(hash, key, entry)?.time, now) {
            self.entries.remove(hash, key, entry);
        }
        let timed = self.entries.get_mut(hash, key, entry)?;
        timed.time = now;
        Some(&mut timed.value)
    }

    fn put(&mut self, hash: KeyHash, key: &K, entry: U, value: V) {
        let time = self.expiry.now();
        self.entries.put(hash, key, entry, Timed { value, time });
    }

    fn remove(&mut self, hash: KeyHash, key: &K, entry: &U) -> Option<V> {
        let (removed, now) = (self.entries.remove(hash, key, entry)?, self.expiry.now());
        (!self.expiry.is_over(removed.time, now)).then_some(removed.value)
    }

    fn iter<'a>(&'a mut self, hash: KeyHash, key: &K) -> Box<dyn Iterator<Item = (&'a U, &'a V)> + 'a> {
        let (expiry, now) = (&self.expiry, self.expiry.now());
        self.entries.retain(hash, key, &mut |_, timed| {
            let over = expiry.is_over(timed.time, now);
            if expiry.reads_count() && !over {
                timed.time = now;
            }
            !over
        });
        Box::new(self.entries.iter(hash, key).map(|(entry, timed)| (entry, &timed.value)))
    }

    fn retain(&mut self, hash: KeyHash, key: &K, keep: &mut dyn FnMut(&U, &mut V) -> bool) {
        let (expiry, now) = (&self.expiry, self.expiry.now());
        self.entries
            .retain(hash, key, &mut |entry, timed| !expiry.is_over(timed.time, now) && keep(entry, &mut timed.value));
    }

    fn clear(&mut self, hash: KeyHash, key: &K) {
        self.entries.clear(hash, key);
    }

    fn retain_some(&mut self, budget: usize, keep: &mut dyn FnMut(&U, &mut V) -> bool) {
        self.entries.retain_some(budget, &mut |entry, timed| keep(entry, &mut timed.value));
    }

    fn sweep(&mut self, budget: usize) {
        let (expiry, now) = (&self.expiry, self.expiry.now());
        self.entries.retain_some(budget, &mut |_, timed| !expiry.is_over(timed.time, now));
    }

    fn settle(&mut self) -> Result<(), UserError> {
        self.entries.settle()
    }

    fn freeze(&mut self) -> Box<dyn FrozenState> {
        self.entries.freeze()
    }

    fn restore(&mut self, section: &Section) -> Result<(), record::Error> {
        self.entries.restore(section)
    }
}
