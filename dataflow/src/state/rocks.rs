//! State in RocksDB: one store for each sub-task with keyed operators, in a folder that goes with it.
//!
//! ```text
//! key   := number of the state (u32) | hash of the key (u64), both big-endian: by state, then by key group
//! value := encoded list of (key, value), nearly always of one
//! ```
//!
//! There is no write-ahead log: what is not in a checkpoint is lost with the process, as on the heap.

mod key;
mod options;
mod store;
mod table;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use store::{RocksStore, StoreFolder};
