//! Values by key that grow by what is added to them: reduced, or aggregated.

use tidemill_model::key::{Key, KeyHash};

use super::store::AnyState;
use super::value::ValueTable;
use super::{FrozenState, Section};
use crate::function::Aggregate;
use crate::record::{self, Data};
use crate::runtime::sink::UserError;

/// Folds a value into another.
pub(super) type Reduce<V> = Box<dyn FnMut(&mut V, V)>;

/// Values with the function that grows them.
pub(super) struct Merging<K, V, F> {
    pub(super) values: ValueTable<K, V>,
    pub(super) function: F,
}

impl<K: Key, V: Data> Merging<K, V, Reduce<V>> {
    pub(super) fn add(&mut self, hash: KeyHash, key: &K, value: V) {
        match self.values.get_mut(hash, key) {
            Some(kept) => (self.function)(kept, value),
            None => self.values.put(hash, key, value),
        }
    }
}

impl<K: Key, V: Data, A> Merging<K, V, A> {
    pub(super) fn add_to<T>(&mut self, hash: KeyHash, key: &K, record: T)
    where
        A: Aggregate<T, Accumulator = V>,
    {
        let Self { values, function } = self;
        let accumulator = values.get_or_insert_with(hash, key, || function.create());
        function.add(accumulator, record);
    }

    pub(super) fn result<T>(&mut self, hash: KeyHash, key: &K) -> Option<A::Out>
    where
        A: Aggregate<T, Accumulator = V>,
    {
        let Self { values, function } = self;
        values.get(hash, key).map(|accumulator| function.result(accumulator.clone()))
    }
}

impl<K: Key, V: Data, F: 'static> AnyState<K> for Merging<K, V, F> {
    fn prepare(&mut self, keys: &[(KeyHash, K)]) {
        self.values.prepare(keys);
    }

    fn sweep(&mut self, budget: usize) {
        self.values.sweep(budget);
    }

    fn settle(&mut self) -> Result<(), UserError> {
        self.values.settle()
    }

    fn freeze(&mut self) -> Box<dyn FrozenState> {
        self.values.freeze()
    }

    fn restore(&mut self, section: &Section) -> Result<(), record::Error> {
        self.values.restore(section)
    }
}
