//! The named states of one sub-task's keyed operator.

use std::any::{Any, type_name};

use tidemill_model::execution::Failure;
use tidemill_model::key::{Key, KeyHash};
#[cfg(test)]
use tidemill_model::key_group::KeyGroupRange;

use super::descriptor::{StateDescriptor, StateKind, StateSchema};
use super::handles::{AggregatingState, ListState, MapState, ReducingState, ValueState};
use super::list::ListTable;
use super::map::Maps;
use super::merging::{Merging, Reduce};
#[cfg(all(test, feature = "rocksdb"))]
use super::rocks::tests::TestStore;
use super::time_to_live::Expiry;
use super::value::ValueTable;
use super::{FrozenState, Section};
use super::{KeyedTable, TimeToLive};
use crate::engine::snapshot::StateId;
use crate::function::Aggregate;
use crate::record::{self, Data};
use crate::runtime::clock::ProcessingClock;
use crate::runtime::sink::UserError;
use crate::runtime::task::{OperatorUid, TaskContext};

/// How many keys are announced to the states together: their slots fit into the nearest cache, and their cache misses
/// overlap.
pub(crate) const PREPARED_TOGETHER: usize = 32;

/// How many slots of a state are searched for values whose time is over, for each record that came: about the garbage
/// of two thirds of what lives gathers until a table has been gone through.
const SWEPT_PER_RECORD: usize = 4;

/// A state, whatever it keeps.
pub(super) trait AnyState<K>: Any {
    /// These keys are used next.
    fn prepare(&mut self, keys: &[(KeyHash, K)]);

    /// Looks at so many slots for values whose time is over.
    fn sweep(&mut self, budget: usize);

    /// A batch is done.
    fn settle(&mut self) -> Result<(), UserError>;

    /// All values as they are now.
    fn freeze(&mut self) -> Box<dyn FrozenState>;

    /// Takes in a section of a snapshot.
    fn restore(&mut self, section: &Section) -> Result<(), record::Error>;
}

/// Makes the table of a state, on whichever back-end.
pub(super) enum Tables<'a> {
    /// The back-end of a task, for a state of this name.
    Of(&'a TaskContext, StateId),
    /// Memory, whatever the back-end.
    #[cfg(test)]
    InMemory(&'a KeyGroupRange, u32),
    /// A test's store on disk, for a state of this name.
    #[cfg(all(test, feature = "rocksdb"))]
    OnDisk(&'a TestStore, String),
}

impl Tables<'_> {
    pub(super) fn open<K: Key, V: Data>(&self) -> KeyedTable<K, V> {
        match self {
            Self::Of(task, id) => KeyedTable::empty(task, id),
            #[cfg(test)]
            Self::InMemory(range, max_parallelism) => KeyedTable::of(range, *max_parallelism),
            #[cfg(all(test, feature = "rocksdb"))]
            Self::OnDisk(test, name) => test.table(name),
        }
    }
}

struct NamedState<K> {
    schema: StateSchema,
    state: Box<dyn AnyState<K>>,
}

/// The states of one keyed operator in one sub-task, by the order in which they were asked for.
pub(crate) struct StateStore<K> {
    states: Vec<NamedState<K>>,
    owner: Owner,
    clock: ProcessingClock,
}

/// Whose states they are.
enum Owner {
    /// An operator's in a task.
    Operator(TaskContext, OperatorUid),
    /// A test's.
    #[cfg(test)]
    Test(KeyGroupRange, u32),
    /// A test's, on disk.
    #[cfg(all(test, feature = "rocksdb"))]
    TestOnDisk(TestStore),
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
    pub(crate) fn new(task: &TaskContext, uid: &OperatorUid) -> Self {
        Self { states: Vec::new(), owner: Owner::Operator(task.clone(), uid.clone()), clock: task.clock() }
    }

    #[cfg(test)]
    pub(super) fn of(range: KeyGroupRange, max_parallelism: u32, clock: ProcessingClock) -> Self {
        Self { states: Vec::new(), owner: Owner::Test(range, max_parallelism), clock }
    }

    #[cfg(all(test, feature = "rocksdb"))]
    pub(super) fn on_disk(test: TestStore, clock: ProcessingClock) -> Self {
        Self { states: Vec::new(), owner: Owner::TestOnDisk(test), clock }
    }

    fn tables(&self, name: &str) -> Tables<'_> {
        match &self.owner {
            Owner::Operator(task, uid) => Tables::Of(task, uid.state(name)),
            #[cfg(test)]
            Owner::Test(range, max_parallelism) => Tables::InMemory(range, *max_parallelism),
            #[cfg(all(test, feature = "rocksdb"))]
            Owner::TestOnDisk(test) => Tables::OnDisk(test, name.to_owned()),
        }
    }

    fn expiry(&self, time_to_live: Option<TimeToLive>) -> Option<Expiry> {
        time_to_live.map(|time_to_live| Expiry::new(time_to_live, self.clock.clone()))
    }

    fn register<S: AnyState<K>>(
        &mut self,
        StateDescriptor { name, time_to_live }: StateDescriptor,
        (kind, types): (StateKind, Vec<&'static str>),
        make: impl FnOnce(&Tables<'_>, Option<Expiry>) -> S,
    ) -> Result<usize, Error> {
        if self.states.iter().any(|other| other.schema.name == name) {
            return Err(Error::DuplicateName { name });
        }
        let state = Box::new(make(&self.tables(&name), self.expiry(time_to_live)));
        let schema = StateSchema { name, kind, types, time_to_live, definition: None };
        self.states.push(NamedState { schema, state });
        Ok(self.states.len() - 1)
    }

    /// The state of a handle.
    ///
    /// # Panics
    /// The handle was not made by this operator's registry.
    #[inline]
    pub(super) fn state<S: AnyState<K>>(&mut self, index: usize) -> &mut S {
        let named = self.states.get_mut(index).expect("a state handle comes from the registry of open()");
        let state: &mut dyn Any = named.state.as_mut();
        state.downcast_mut().expect("a state handle is used with the key type that it was made for")
    }

    /// These keys are used next.
    #[inline]
    pub(crate) fn prepare(&mut self, keys: &[(KeyHash, K)]) {
        for named in &mut self.states {
            named.state.prepare(keys);
        }
    }

    /// So many records were dealt with: writes back what they changed, and clears away a little.
    ///
    /// # Errors
    /// A state could not be read or written.
    pub(crate) fn settle(&mut self, records: usize) -> Result<(), UserError> {
        self.states.iter_mut().try_for_each(|named| {
            if named.schema.time_to_live.is_some() {
                named.state.sweep(records * SWEPT_PER_RECORD);
            }
            named.state.settle()
        })
    }

    /// Leaves each state as it is now for the task's snapshot.
    pub(crate) fn keep(&mut self, uid: &OperatorUid, task: &TaskContext) {
        for NamedState { schema, state } in &mut self.states {
            task.keep_keyed(uid.state(&schema.name), &types::<K>(schema), state.freeze());
        }
    }

    /// Fills each state with what the checkpoint has of it that the task starts from.
    ///
    /// # Errors
    /// The checkpoint cannot be read, or has the state of other types.
    pub(crate) fn restore(&mut self, uid: &OperatorUid, task: &TaskContext) -> Result<(), Failure> {
        self.states.iter_mut().try_for_each(|NamedState { schema, state }| {
            task.restore_keyed(&uid.state(&schema.name), &types::<K>(schema), |section| state.restore(section))
        })
    }
}

/// What a state's entries are made of, its shape included.
fn types<K>(schema: &StateSchema) -> Vec<&'static str> {
    let kind = match (schema.kind, schema.time_to_live) {
        (StateKind::Value, None) => "value",
        (StateKind::Value, Some(_)) => "value with time to live",
        (StateKind::List, None) => "list",
        (StateKind::List, Some(_)) => "list with time to live",
        (StateKind::Map, None) => "map",
        (StateKind::Map, Some(_)) => "map with time to live",
        (StateKind::Reducing, None) => "reducing",
        (StateKind::Reducing, Some(_)) => "reducing with time to live",
        (StateKind::Aggregating, None) => "aggregating",
        (StateKind::Aggregating, Some(_)) => "aggregating with time to live",
    };
    [kind, type_name::<K>()].into_iter().chain(schema.types.iter().copied()).collect()
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
    pub fn value<V: Data>(&mut self, descriptor: impl Into<StateDescriptor>) -> Result<ValueState<V>, Error> {
        let shape = (StateKind::Value, vec![type_name::<V>()]);
        self.store.register(descriptor.into(), shape, ValueTable::<K, V>::new).map(ValueState::new)
    }

    /// A state that holds a list for each key.
    ///
    /// # Errors
    /// The operator has a state of that name already.
    pub fn list<T: Data>(&mut self, descriptor: impl Into<StateDescriptor>) -> Result<ListState<T>, Error> {
        let shape = (StateKind::List, vec![type_name::<T>()]);
        self.store.register(descriptor.into(), shape, ListTable::<K, T>::new).map(ListState::new)
    }

    /// A state that holds a map for each key.
    ///
    /// # Errors
    /// The operator has a state of that name already.
    pub fn map<U: Ord + Data, V: Data>(
        &mut self,
        descriptor: impl Into<StateDescriptor>,
    ) -> Result<MapState<U, V>, Error> {
        let shape = (StateKind::Map, vec![type_name::<U>(), type_name::<V>()]);
        self.store.register(descriptor.into(), shape, Maps::<K, U, V>::new).map(MapState::new)
    }

    /// A state that holds one value for each key, into which `reduce` folds each other one.
    ///
    /// # Errors
    /// The operator has a state of that name already.
    pub fn reducing<V: Data>(
        &mut self,
        descriptor: impl Into<StateDescriptor>,
        reduce: impl FnMut(&mut V, V) + 'static,
    ) -> Result<ReducingState<V>, Error> {
        let shape = (StateKind::Reducing, vec![type_name::<V>()]);
        let function: Reduce<V> = Box::new(reduce);
        let make = |tables: &Tables<'_>, expiry| Merging { values: ValueTable::<K, V>::new(tables, expiry), function };
        self.store.register(descriptor.into(), shape, make).map(ReducingState::new)
    }

    /// A state that holds one accumulator for each key.
    ///
    /// # Errors
    /// The operator has a state of that name already.
    pub fn aggregating<T: 'static, A: Aggregate<T>>(
        &mut self,
        descriptor: impl Into<StateDescriptor>,
        aggregate: A,
    ) -> Result<AggregatingState<T, A>, Error> {
        let shape = (StateKind::Aggregating, vec![type_name::<T>(), type_name::<A::Accumulator>()]);
        let make = |tables: &Tables<'_>, expiry| Merging {
            values: ValueTable::<K, A::Accumulator>::new(tables, expiry),
            function: aggregate,
        };
        self.store.register(descriptor.into(), shape, make).map(AggregatingState::new)
    }
}

#[cfg(test)]
mod tests;
