//! The operations of the chaos harness: the way of every other request, for histories that show whether it is
//! linearizable.

use tidemill_proto::convert::Error as ConvertError;
use tidemill_proto::pb;
use tidemill_proto::pb::chaos_request::Operation;
use tonic::Status;

use super::node::{Node, Replica};
use super::refusal;
use super::settings::ChaosApi;
use crate::engine::replicated::{ChaosAnswer, ChaosCommand};
use crate::runtime::leader::LeaderHandle;
use crate::runtime::replicated_log::ReplicatedLog;

/// Carries an operation out on the leader here.
pub(super) async fn serve(
    node: &Node,
    (replica, handle): (Replica, LeaderHandle),
    request: pb::ChaosRequest,
) -> Result<pb::ChaosResponse, Status> {
    if node.settings().chaos_api == ChaosApi::Closed {
        return Err(refusal::user(
            "use the chaos API: it is closed; start the coordinators with coordinator.chaos-api=true",
        ));
    }
    let operation = request.operation.ok_or(ConvertError::Missing { field: "ChaosRequest.operation" })?;
    let key = request.key;
    let command = match operation {
        Operation::Read(_) => return read(node, &replica, &key).await,
        Operation::Write(value) => ChaosCommand::Write { key, value },
        Operation::Swap(swap) => ChaosCommand::CompareAndSet { key, expect: swap.expect, value: swap.value },
        Operation::Append(value) => ChaosCommand::Append { key, value },
    };
    let (answer, log_index) = handle.chaos(command).await.map_err(|error| node.refused_by_leader(&error))?;
    match answer {
        ChaosAnswer::Done => Ok(pb::ChaosResponse { log_index, done: true, ..pb::ChaosResponse::default() }),
        ChaosAnswer::Mismatch { found } => Ok(pb::ChaosResponse { log_index, register: found, ..Default::default() }),
        ChaosAnswer::Full => {
            Err(refusal::user("use the chaos API: a key is too long, or there are too many; clean up"))
        }
    }
}

async fn read(node: &Node, replica: &Replica, key: &str) -> Result<pb::ChaosResponse, Status> {
    replica.log.linearize().await.map_err(|error| node.refused_by_log(&error))?;
    Ok(replica.log.state().read_with_index(|log_index, state| pb::ChaosResponse {
        log_index,
        done: true,
        register: state.chaos.register(key),
        list: state.chaos.list(key).to_vec(),
    }))
}
