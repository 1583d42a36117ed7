//! Keyed state: what operators remember for each key.

mod keyed_table;
mod prefetch;
mod store;
mod table;

pub(crate) use keyed_table::KeyedTable;
pub(crate) use table::{Place, Table};

pub(crate) use store::StateStore;
pub use store::{Error, StateRegistry, ValueState};
