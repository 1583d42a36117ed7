//! The replicated log on openraft over RocksDB: the only place that knows openraft's types.
//!
//! Durable bytes are ours ([`format`](self)'s envelopes), the wire carries openraft's messages inside a versioned
//! frame, and everything else of the coordinator sees a [`ReplicatedLog`](super::replicated_log::ReplicatedLog).

mod commit_news;
mod format;
mod inspection;
mod leadership;
mod log_store;
mod member;
mod membership;
mod network;
mod offline;
mod raft_log;
mod reads;
mod recent_entries;
mod rpc;
mod state_machine;
mod storage;
mod types;

pub use inspection::{Inspection, LoggedEntry, RaftStatus};
pub use leadership::Failure;
pub use member::Member;
pub use membership::{Error as MembershipError, MemberView};
pub(crate) use network::RAFT_MESSAGE_BYTES_MAX;
pub use network::{Channels, Refusals, peer_channel};
pub use offline::{Beginning, Survivor, begin_cluster};
pub use raft_log::{Error, RaftLog, RaftSettings};
pub use reads::ReadIndexPolicy;
pub use rpc::RpcError;
pub use storage::{Error as StorageError, Storage};
