//! Tidemill's job manager: the control engines, the replicated state machine, and what drives them.
//!
//! Without the feature `raft` this crate is the pure engines and their actors over a [`ReplicatedLog`], which is
//! all that the embedded cluster links. With it, the log is openraft over RocksDB and the services are tonic's.
//!
//! [`ReplicatedLog`]: runtime::replicated_log::ReplicatedLog

pub mod engine;
pub mod runtime;
