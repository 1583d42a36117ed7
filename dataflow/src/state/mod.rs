//! Keyed state: what operators remember for each key.

mod keyed_table;
mod store;
mod table;

pub(crate) use keyed_table::{KeyedTable, TOUCHED_TOGETHER};
pub(crate) use table::{Place, Table};

pub(crate) use store::StateStore;
pub use store::{Error, StateRegistry, ValueState};
