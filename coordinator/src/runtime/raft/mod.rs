//! The replicated log on openraft over RocksDB: the only place that knows openraft's types.
//!
//! Durable bytes are ours ([`format`](self)'s envelopes), the wire carries openraft's messages inside a versioned
//! frame, and everything else of the coordinator sees a [`ReplicatedLog`](super::replicated_log::ReplicatedLog).

mod format;
mod leadership;
mod log_store;
mod member;
mod network;
mod raft_log;
mod rpc;
mod state_machine;
mod storage;
mod types;

pub use member::Member;
pub(crate) use network::RAFT_MESSAGE_BYTES_MAX;
pub use network::{Refusals, peer_channel};
pub use raft_log::{Error, RaftLog, RaftSettings, RaftStatus};
pub use rpc::RpcError;
pub use storage::{Error as StorageError, Storage};
