//! Health, readiness, metrics and the admin port over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use super::node::Node;
use super::{admin, metrics};
use crate::runtime::raft::RaftLog;
use crate::runtime::replicated_log::{Leadership, ReplicatedLog};

/// The HTTP service of a coordinator.
pub(super) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/health", get(async || "ok\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(async |State(node): State<Arc<Node>>| metrics::render(&node).await))
        .merge(tidemill_failpoint::http::routes())
        .route("/raft", get(admin::raft))
        .route("/raftlog", get(admin::log))
        .route("/checksum", get(admin::checksum))
        .with_state(node)
}

async fn ready(State(node): State<Arc<Node>>) -> (StatusCode, String) {
    match readiness(&node) {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

fn readiness(node: &Node) -> Result<(), String> {
    let Some(replica) = node.replica() else {
        return Err("waiting to be adopted: run `tidemill cluster init` once".to_owned());
    };
    if let Some(failure) = replica.log.failure().borrow().clone() {
        return Err(format!("the replicated log has stopped: {failure}"));
    }
    let leadership = *replica.log.leadership().borrow();
    match leadership {
        Leadership::Leader { .. } | Leadership::Follower { leader: Some(_) } => Ok(()),
        Leadership::Follower { leader: None } if replica.log.members().is_empty() => Err(format!(
            "member of cluster {}, which has no first entry yet{}",
            replica.cluster,
            refusals(&replica.log)
        )),
        Leadership::Follower { leader: None } => {
            Err(format!("cluster {} has no known leader{}", replica.cluster, refusals(&replica.log)))
        }
    }
}

fn refusals(log: &RaftLog) -> String {
    let refusals = log.refusals().list();
    refusals
        .iter()
        .map(|(node, reason)| format!("; node {node} and this coordinator refuse each other: {reason}"))
        .collect()
}
