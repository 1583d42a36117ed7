//! Task managers that are to be left: whom a caller means, and the decision.

use tidemill_model::execution::TaskManagerLocation;
use tidemill_model::id::{TaskManagerId, TaskManagerName};
use tidemill_proto::{convert, pb};
use tonic::Status;

use super::node::{Node, Replica};
use super::refusal;
use crate::runtime::leader::LeaderHandle;
use crate::runtime::replicated_log::ReplicatedLog;

/// Has a task manager drain, or lets it be used again.
pub(super) async fn set_draining(
    node: &Node,
    (replica, handle): (Replica, LeaderHandle),
    request: pb::SetDrainingRequest,
) -> Result<pb::DrainingSet, Status> {
    let pb::SetDrainingRequest { task_manager: named, draining } = request;
    let registered = handle.task_managers().await.into_iter().map(|observation| observation.location);
    let (id, name) = match find(&named, registered) {
        Some(TaskManagerLocation { id, name, .. }) => (id, name),
        None => remembered(&named, &replica).filter(|_| !draining).ok_or_else(|| unknown(&named))?,
    };
    let log_index = handle.set_draining(id, draining).await.map_err(|error| node.refused_by_leader(&error))?;
    Ok(pb::DrainingSet { id: convert::uuid_bytes(id.0), name: name.0, log_index })
}

/// One that is here, by its id or its name.
fn find(named: &str, registered: impl Iterator<Item = TaskManagerLocation>) -> Option<TaskManagerLocation> {
    registered.into_iter().find(|location| location.id.to_string() == named || location.name.0 == named)
}

/// One that drains and is not here; only its id is known.
fn remembered(named: &str, replica: &Replica) -> Option<(TaskManagerId, TaskManagerName)> {
    let draining = replica.log.state().read(|state| state.draining.keys().copied().collect::<Vec<_>>());
    draining.into_iter().find(|id| id.to_string() == named).map(|id| (id, TaskManagerName(id.to_string())))
}

fn unknown(named: &str) -> Status {
    if named.trim().is_empty() {
        return refusal::user("drain task manager: none was named");
    }
    let message = format!(
        "drain task manager {named}: the leader knows none of this id or name; `tidemill taskmanager list` names them"
    );
    convert::status(pb::ErrorKind::NotFound, message, None)
}
