//! What the replicated membership says of one coordinator.

use serde::{Deserialize, Serialize};

/// One coordinator of the cluster, as its replicas and clients reach it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Member {
    /// `coordinator.name`.
    pub name: String,
    /// `host:port` for the other coordinators.
    pub raft_address: String,
    /// `host:port` for clients and task managers.
    pub client_address: String,
}
