//! Effects: the actors that feed the engines, the replicated log, and (feature `raft`) the server.

pub mod clock;
pub mod codec;
pub mod leader;
pub mod memory_log;
#[cfg(feature = "raft")]
pub mod raft;
pub mod replicated_log;
#[cfg(feature = "raft")]
pub mod server;
pub mod spawn;
