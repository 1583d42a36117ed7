//! Keyed state: what operators remember for each key.

mod backend;
mod cache;
mod descriptor;
mod frozen;
mod frozen_timers;
mod groups;
mod handed_over;
mod handles;
mod kept;
mod keyed_table;
mod list;
mod map;
mod merging;
mod prefetch;
#[cfg(feature = "rocksdb")]
pub(crate) mod rocks;
mod store;
mod stored;
mod table;
mod time_to_live;
mod value;

pub(crate) use cache::Cache;
#[cfg(feature = "rocksdb")]
pub(crate) use cache::CacheMemory;
pub(crate) use keyed_table::KeyedTable;
#[cfg(feature = "rocksdb")]
pub(crate) use rocks::{RocksStore, StoreFolder};
pub(crate) use table::{Place, Table};

pub use backend::{MapTable, StateTable};
pub use descriptor::{StateDescriptor, StateKind, StateSchema};
pub use frozen::FrozenState;
pub(crate) use frozen::decode_entries;
pub(crate) use frozen_timers::FrozenTimers;
pub use handles::{AggregatingState, ListState, MapState, ReducingState, ValueState};
pub use kept::Section;
pub(crate) use kept::{Frozen, FrozenValue, KeptValue};
pub use store::{Error, StateRegistry};
pub(crate) use store::{PREPARED_TOGETHER, StateStore};
pub use stored::{LaterFiles, PassedBarrier, StoreFiles, StoredState};
pub use time_to_live::TimeToLive;
