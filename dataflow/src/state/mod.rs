//! Keyed state: what operators remember for each key.

mod backend;
mod descriptor;
mod frozen;
mod frozen_timers;
mod handles;
mod keyed_table;
mod list;
mod map;
mod merging;
mod prefetch;
mod store;
mod table;
mod time_to_live;
mod value;

pub(crate) use keyed_table::KeyedTable;
pub(crate) use table::{Place, Table};

pub use backend::{MapTable, StateTable};
pub use descriptor::{StateDescriptor, StateKind, StateSchema};
pub use frozen::FrozenState;
pub(crate) use frozen::decode_entries;
pub(crate) use frozen_timers::FrozenTimers;
pub use handles::{AggregatingState, ListState, MapState, ReducingState, ValueState};
pub use store::{Error, StateRegistry};
pub(crate) use store::{PREPARED_TOGETHER, StateStore};
pub use time_to_live::TimeToLive;
