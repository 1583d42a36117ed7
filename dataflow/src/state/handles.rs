//! The handles of states: made by the registry, copied freely, and lent the context at each use.

use std::marker::PhantomData;

use tidemill_model::key::Key;

use super::list::ListTable;
use super::map::Maps;
use super::merging::{Merging, Reduce};
use super::value::ValueTable;
use crate::function::{Aggregate, KeyedContext};
use crate::record::Data;

/// What all handles have: where their state is, and that they are plain values whatever their types.
macro_rules! handle {
    ($(#[$doc:meta])* $name:ident<$($parameter:ident),+>) => {
        $(#[$doc])*
        pub struct $name<$($parameter),+> {
            index: usize,
            types: PhantomData<fn() -> ($($parameter,)+)>,
        }

        impl<$($parameter),+> $name<$($parameter),+> {
            pub(super) fn new(index: usize) -> Self {
                Self { index, types: PhantomData }
            }
        }

        impl<$($parameter),+> Clone for $name<$($parameter),+> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<$($parameter),+> Copy for $name<$($parameter),+> {}

        impl<$($parameter),+> Default for $name<$($parameter),+> {
            /// A handle that nothing was registered for; using it panics.
            fn default() -> Self {
                Self::new(usize::MAX)
            }
        }

        impl<$($parameter),+> std::fmt::Debug for $name<$($parameter),+> {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self.index)
            }
        }
    };
}

handle! {
    /// One value for each key, asked for by [`StateRegistry::value`](super::StateRegistry::value).
    ValueState<V>
}

handle! {
    /// A list for each key, asked for by [`StateRegistry::list`](super::StateRegistry::list).
    ///
    /// With a time to live, each element has its own; a read refreshes all of a key's elements, if reads count.
    ListState<T>
}

handle! {
    /// A map for each key, asked for by [`StateRegistry::map`](super::StateRegistry::map).
    ///
    /// With a time to live, each entry has its own.
    MapState<U, V>
}

handle! {
    /// One value for each key that others are folded into, asked for by
    /// [`StateRegistry::reducing`](super::StateRegistry::reducing).
    ReducingState<V>
}

handle! {
    /// One accumulator for each key that records are added to, asked for by
    /// [`StateRegistry::aggregating`](super::StateRegistry::aggregating).
    AggregatingState<T, A>
}

impl<V: Data> ValueState<V> {
    /// The value of the context's key.
    pub fn get<'a, K: Key>(self, context: &'a mut KeyedContext<'_, K>) -> Option<&'a V> {
        context.runtime.states.state::<ValueTable<K, V>>(self.index).get(context.hash, context.key)
    }

    /// The value of the context's key, to be changed: this counts as a write.
    pub fn get_mut<'a, K: Key>(self, context: &'a mut KeyedContext<'_, K>) -> Option<&'a mut V> {
        context.runtime.states.state::<ValueTable<K, V>>(self.index).get_mut(context.hash, context.key)
    }

    /// The value of the context's key, made when there is none: this counts as a write.
    pub fn get_or_insert_with<'a, K: Key>(
        self,
        context: &'a mut KeyedContext<'_, K>,
        make: impl FnOnce() -> V,
    ) -> &'a mut V {
        let table = context.runtime.states.state::<ValueTable<K, V>>(self.index);
        table.get_or_insert_with(context.hash, context.key, make)
    }

    /// Gives the context's key this value.
    pub fn set<K: Key>(self, context: &mut KeyedContext<'_, K>, value: V) {
        context.runtime.states.state::<ValueTable<K, V>>(self.index).put(context.hash, context.key, value);
    }

    /// Takes the value of the context's key away.
    pub fn clear<K: Key>(self, context: &mut KeyedContext<'_, K>) -> Option<V> {
        context.runtime.states.state::<ValueTable<K, V>>(self.index).remove(context.hash, context.key)
    }
}

impl<T: Data> ListState<T> {
    /// The elements of the context's key, in the order in which they were added.
    pub fn get<'a, K: Key>(self, context: &'a mut KeyedContext<'_, K>) -> &'a [T] {
        context.runtime.states.state::<ListTable<K, T>>(self.index).get(context.hash, context.key)
    }

    /// Adds an element.
    pub fn add<K: Key>(self, context: &mut KeyedContext<'_, K>, element: T) {
        self.extend(context, [element]);
    }

    /// Adds elements.
    pub fn extend<K: Key>(self, context: &mut KeyedContext<'_, K>, elements: impl IntoIterator<Item = T>) {
        context.runtime.states.state::<ListTable<K, T>>(self.index).extend(context.hash, context.key, elements);
    }

    /// Gives the context's key these elements and no others.
    pub fn set<K: Key>(self, context: &mut KeyedContext<'_, K>, elements: Vec<T>) {
        context.runtime.states.state::<ListTable<K, T>>(self.index).set(context.hash, context.key, elements);
    }

    /// Takes all elements of the context's key away.
    pub fn clear<K: Key>(self, context: &mut KeyedContext<'_, K>) -> Vec<T> {
        context.runtime.states.state::<ListTable<K, T>>(self.index).clear(context.hash, context.key)
    }
}

impl<U: Ord + Data, V: Data> MapState<U, V> {
    /// An entry of the context's key.
    pub fn get<'a, K: Key>(self, context: &'a mut KeyedContext<'_, K>, entry: &U) -> Option<&'a V> {
        context.runtime.states.state::<Maps<K, U, V>>(self.index).0.get(context.hash, context.key, entry)
    }

    /// An entry of the context's key, to be changed: this counts as a write.
    pub fn get_mut<'a, K: Key>(self, context: &'a mut KeyedContext<'_, K>, entry: &U) -> Option<&'a mut V> {
        context.runtime.states.state::<Maps<K, U, V>>(self.index).0.get_mut(context.hash, context.key, entry)
    }

    /// Sets an entry of the context's key.
    pub fn put<K: Key>(self, context: &mut KeyedContext<'_, K>, entry: U, value: V) {
        context.runtime.states.state::<Maps<K, U, V>>(self.index).0.put(context.hash, context.key, entry, value);
    }

    /// Takes an entry of the context's key away.
    pub fn remove<K: Key>(self, context: &mut KeyedContext<'_, K>, entry: &U) -> Option<V> {
        context.runtime.states.state::<Maps<K, U, V>>(self.index).0.remove(context.hash, context.key, entry)
    }

    /// Whether the context's key has this entry.
    pub fn contains<K: Key>(self, context: &mut KeyedContext<'_, K>, entry: &U) -> bool {
        self.get(context, entry).is_some()
    }

    /// The entries of the context's key, in the order of their keys.
    pub fn iter<'a, K: Key>(self, context: &'a mut KeyedContext<'_, K>) -> impl Iterator<Item = (&'a U, &'a V)> {
        context.runtime.states.state::<Maps<K, U, V>>(self.index).0.iter(context.hash, context.key)
    }

    /// Takes all entries of the context's key away.
    pub fn clear<K: Key>(self, context: &mut KeyedContext<'_, K>) {
        context.runtime.states.state::<Maps<K, U, V>>(self.index).0.clear(context.hash, context.key);
    }
}

impl<V: Data> ReducingState<V> {
    /// What was folded together for the context's key.
    pub fn get<'a, K: Key>(self, context: &'a mut KeyedContext<'_, K>) -> Option<&'a V> {
        let state = context.runtime.states.state::<Merging<K, V, Reduce<V>>>(self.index);
        state.values.get(context.hash, context.key)
    }

    /// Folds a value into that of the context's key.
    pub fn add<K: Key>(self, context: &mut KeyedContext<'_, K>, value: V) {
        let state = context.runtime.states.state::<Merging<K, V, Reduce<V>>>(self.index);
        state.add(context.hash, context.key, value);
    }

    /// Takes the value of the context's key away.
    pub fn clear<K: Key>(self, context: &mut KeyedContext<'_, K>) -> Option<V> {
        let state = context.runtime.states.state::<Merging<K, V, Reduce<V>>>(self.index);
        state.values.remove(context.hash, context.key)
    }
}

impl<T: 'static, A: Aggregate<T>> AggregatingState<T, A> {
    /// What the accumulator of the context's key says.
    pub fn get<K: Key>(self, context: &mut KeyedContext<'_, K>) -> Option<A::Out> {
        let state = context.runtime.states.state::<Merging<K, A::Accumulator, A>>(self.index);
        state.result::<T>(context.hash, context.key)
    }

    /// Adds a record to the accumulator of the context's key.
    pub fn add<K: Key>(self, context: &mut KeyedContext<'_, K>, record: T) {
        let state = context.runtime.states.state::<Merging<K, A::Accumulator, A>>(self.index);
        state.add_to(context.hash, context.key, record);
    }

    /// Takes the accumulator of the context's key away.
    pub fn clear<K: Key>(self, context: &mut KeyedContext<'_, K>) {
        let state = context.runtime.states.state::<Merging<K, A::Accumulator, A>>(self.index);
        state.values.remove(context.hash, context.key);
    }
}
