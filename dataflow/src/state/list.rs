//! Lists by key, whose elements may end one by one.

use serde::{Deserialize, Serialize};
use tidemill_model::key::{Key, KeyHash};

use super::store::{AnyState, Tables};
use super::time_to_live::Expiry;
use super::value::ValueTable;
use super::{FrozenState, Section};
use crate::record::{self, Data, Timestamp};
use crate::runtime::sink::UserError;

/// The elements of one key.
///
/// Invariant: `times` is empty when elements never end, else as long as `elements` and never falls, so that what has
/// ended is in front.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct List<T> {
    elements: Vec<T>,
    times: Vec<Timestamp>,
}

impl<T> List<T> {
    fn new() -> Self {
        Self { elements: Vec::new(), times: Vec::new() }
    }

    fn drop_ended(&mut self, expiry: &Expiry, now: Timestamp) {
        let ended = self.times.iter().take_while(|time| expiry.is_over(**time, now)).count();
        if ended > 0 {
            self.times.drain(..ended);
            self.elements.drain(..ended);
        }
    }

    /// A clock that was set back makes no element older than the one before it.
    fn stamp(&mut self, now: Timestamp) {
        let time = self.times.last().map_or(now, |last| now.max(*last));
        self.times.resize(self.elements.len(), time);
    }
}

/// The lists of one state.
pub(super) struct ListTable<K, T> {
    lists: ValueTable<K, List<T>>,
    expiry: Option<Expiry>,
}

impl<K: Key, T: Data> ListTable<K, T> {
    pub(super) fn new(tables: &Tables<'_>, expiry: Option<Expiry>) -> Self {
        // Elements end, not lists.
        Self { lists: ValueTable::new(tables, None), expiry }
    }

    /// Takes out what has ended; answers whether something is left.
    fn check(&mut self, hash: KeyHash, key: &K, used: bool) -> bool {
        let Some(expiry) = &self.expiry else { return true };
        let now = expiry.now();
        let Some(list) = self.lists.get_mut(hash, key) else { return false };
        list.drop_ended(expiry, now);
        if list.elements.is_empty() {
            self.lists.remove(hash, key);
            return false;
        }
        if used && expiry.reads_count() {
            list.times.clear();
            list.stamp(now);
        }
        true
    }

    pub(super) fn get(&mut self, hash: KeyHash, key: &K) -> &[T] {
        if !self.check(hash, key, true) {
            return &[];
        }
        self.lists.get(hash, key).map_or(&[], |list| &list.elements)
    }

    pub(super) fn extend(&mut self, hash: KeyHash, key: &K, elements: impl IntoIterator<Item = T>) {
        let mut elements = elements.into_iter().peekable();
        if elements.peek().is_none() {
            return;
        }
        self.check(hash, key, false);
        let list = self.lists.get_or_insert_with(hash, key, List::new);
        list.elements.extend(elements);
        if let Some(expiry) = &self.expiry {
            list.stamp(expiry.now());
        }
    }

    pub(super) fn set(&mut self, hash: KeyHash, key: &K, elements: Vec<T>) {
        self.lists.remove(hash, key);
        self.extend(hash, key, elements);
    }

    pub(super) fn clear(&mut self, hash: KeyHash, key: &K) -> Vec<T> {
        if !self.check(hash, key, false) {
            return Vec::new();
        }
        self.lists.remove(hash, key).map_or_else(Vec::new, |list| list.elements)
    }
}

impl<K: Key, T: Data> AnyState<K> for ListTable<K, T> {
    fn prepare(&mut self, keys: &[(KeyHash, K)]) {
        self.lists.prepare(keys);
    }

    fn sweep(&mut self, budget: usize) {
        let Some(expiry) = &self.expiry else { return };
        let now = expiry.now();
        self.lists.retain_some(budget, &mut |_, list| {
            list.drop_ended(expiry, now);
            !list.elements.is_empty()
        });
    }

    fn settle(&mut self) -> Result<(), UserError> {
        self.lists.settle()
    }

    fn freeze(&mut self) -> Box<dyn FrozenState> {
        self.lists.freeze()
    }

    fn restore(&mut self, section: &Section) -> Result<(), record::Error> {
        self.lists.restore(section)
    }
}
