//! The named states of one sub-task's keyed operator.

use std::any::Any;
use std::marker::PhantomData;

use tidemill_model::key::{Key, KeyHash};

use super::KeyedTable;
use crate::function::KeyedContext;
use crate::record::Data;
use crate::runtime::task::TaskContext;

/// A table of some value type.
struct NamedTable {
    name: String,
    /// A `KeyedTable<K, V>` of the value's type.
    table: Box<dyn Any>,
}

/// The states of one keyed operator in one sub-task, by the order in which they were asked for.
pub(crate) struct StateStore<K> {
    tables: Vec<NamedTable>,
    task: TaskContext,
    key: PhantomData<fn() -> K>,
}

/// Why a state cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is taken.
    #[error("register state {name:?}: this operator has a state of that name already; give it another")]
    DuplicateName {
        /// The name.
        name: String,
    },
}

impl<K: Key> StateStore<K> {
    pub(crate) fn new(task: &TaskContext) -> Self {
        Self { tables: Vec::new(), task: task.clone(), key: PhantomData }
    }

    fn register<V: 'static>(&mut self, name: &str) -> Result<usize, Error> {
        if self.tables.iter().any(|other| other.name == name) {
            return Err(Error::DuplicateName { name: name.to_owned() });
        }
        let table = Box::new(KeyedTable::<K, V>::new(&self.task));
        self.tables.push(NamedTable { name: name.to_owned(), table });
        Ok(self.tables.len() - 1)
    }

    /// The table of a handle.
    ///
    /// # Panics
    /// The handle was not made by this operator's registry.
    #[inline]
    pub(crate) fn table<V: 'static>(&mut self, index: usize) -> &mut KeyedTable<K, V> {
        let named = self.tables.get_mut(index).expect("a state handle comes from the registry of open()");
        named.table.downcast_mut().expect("a state handle is used with the key type that it was made for")
    }
}

/// Where a function asks for its states, when it is opened.
pub struct StateRegistry<'a, K> {
    store: &'a mut StateStore<K>,
}

impl<'a, K: Key> StateRegistry<'a, K> {
    pub(crate) fn new(store: &'a mut StateStore<K>) -> Self {
        Self { store }
    }

    /// A state that holds one value for each key.
    ///
    /// # Errors
    /// The operator has a state of that name already.
    pub fn value<V: Data>(&mut self, name: &str) -> Result<ValueState<V>, Error> {
        Ok(ValueState { index: self.store.register::<V>(name)?, value: PhantomData })
    }
}

/// One value for each key; the handle is made by [`StateRegistry::value`] and lent the context at each use.
#[derive(Debug)]
pub struct ValueState<V> {
    index: usize,
    value: PhantomData<fn() -> V>,
}

impl<V> Clone for ValueState<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for ValueState<V> {}

impl<V> Default for ValueState<V> {
    /// A handle that nothing was registered for; using it panics.
    fn default() -> Self {
        Self { index: usize::MAX, value: PhantomData }
    }
}

impl<V: Data> ValueState<V> {
    /// The value of the context's key.
    pub fn get<'a, K: Key>(self, context: &'a mut KeyedContext<'_, K>) -> Option<&'a V> {
        self.get_mut(context).map(|value| &*value)
    }

    /// The value of the context's key, to be changed.
    pub fn get_mut<'a, K: Key>(self, context: &'a mut KeyedContext<'_, K>) -> Option<&'a mut V> {
        let (hash, key): (KeyHash, &K) = (context.hash, context.key);
        context.runtime.states.table::<V>(self.index).get_mut(hash, |other| other == key)
    }

    /// The value of the context's key, made when there is none.
    pub fn get_or_insert_with<'a, K: Key>(
        self,
        context: &'a mut KeyedContext<'_, K>,
        make: impl FnOnce() -> V,
    ) -> &'a mut V {
        let (hash, key) = (context.hash, context.key);
        context.runtime.states.table::<V>(self.index).get_or_insert_with(hash, key, make)
    }

    /// Gives the context's key this value.
    pub fn set<K: Key>(self, context: &mut KeyedContext<'_, K>, value: V) {
        let (hash, key) = (context.hash, context.key);
        context.runtime.states.table::<V>(self.index).put(hash, key, value);
    }

    /// Takes the value of the context's key away.
    pub fn clear<K: Key>(self, context: &mut KeyedContext<'_, K>) -> Option<V> {
        let (hash, key) = (context.hash, context.key);
        context.runtime.states.table::<V>(self.index).remove(hash, |other| other == key)
    }
}
