//! The cluster as clients see it: its coordinators, and what the leader knows of its task managers.

use std::time::Duration;

use tidemill_proto::{convert, pb};
use tonic::Status;

use super::membership::MembershipChange;
use super::node::Replica;
use super::reads::ReadView;
use super::refusal;
use crate::engine::leader::TaskManagerObservation;
use crate::engine::replicated::Takeover;
use crate::runtime::replicated_log::ReplicatedLog;

/// Everything about the cluster that the answering coordinator knows.
pub(super) async fn cluster_status(view: &ReadView) -> pb::ClusterStatusResponse {
    let replica = &view.replica;
    let handle = replica.leader.borrow().clone();
    let task_managers = match &handle {
        Some(handle) => handle.task_managers().await.into_iter().map(task_manager).collect(),
        None => Vec::new(),
    };
    let log = replica.log.status();
    let (nodes, alarms) = (nodes(replica), replica.log.alarms());
    let (applied_index, state_checksum) = replica.log.state().checksum();
    replica.log.state().read(|state| pb::ClusterStatusResponse {
        cluster_id: convert::uuid_bytes(replica.cluster.0),
        epoch: log.leader.map_or(0, |_| state.epoch.0),
        nodes,
        task_managers,
        takeovers: state.takeovers.iter().map(takeover).collect(),
        node_id: replica.node.0,
        applied_index,
        state_checksum,
        last_log_index: log.last_log_index,
        committed_index: log.committed_index,
        alarms,
        read: Some(view.info(applied_index)),
    })
}

/// The coordinators.
pub(super) fn nodes(replica: &Replica) -> Vec<pb::NodeStatus> {
    let leader = replica.log.status().leader;
    let millis = |ago: Duration| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
    let views = replica.log.member_views().into_iter();
    let node = |(node, view): (tidemill_model::id::NodeId, crate::runtime::raft::MemberView)| pb::NodeStatus {
        node_id: node.0,
        name: view.member.name,
        client_address: view.member.client_address,
        raft_address: view.member.raft_address,
        leader: leader == Some(node),
        voter: view.voter,
        matched_index: view.matched_index,
        answered_ms: view.answered.map(millis),
    };
    views.map(node).collect()
}

/// What a client wants to change.
pub(super) fn membership_change(change: pb::MembershipChange) -> Result<MembershipChange, Status> {
    use pb::membership_change::Change;
    let given = |text: String, field: &str| {
        if text.trim().is_empty() {
            Err(refusal::user(format!("change membership: {field} is empty")))
        } else {
            Ok(text)
        }
    };
    let missing = || refusal::user("change membership: nothing to change was named");
    Ok(match change.change.ok_or_else(missing)? {
        Change::Add(address) => MembershipChange::Add(given(address, "the address to add")?),
        Change::Remove(member) => MembershipChange::Remove(given(member, "the member to remove")?),
        Change::Replace(pb::ReplaceMember { member, raft_address }) => MembershipChange::Replace {
            member: given(member, "the member to replace")?,
            raft_address: given(raft_address, "the address of its replacement")?,
        },
        Change::TransferLeader(member) => {
            MembershipChange::TransferLeader(Some(member).filter(|member| !member.is_empty()))
        }
    })
}

fn takeover(takeover: &Takeover) -> pb::Takeover {
    pb::Takeover {
        epoch: takeover.epoch.0,
        job: convert::uuid_bytes(takeover.job.0),
        tasks_adopted: takeover.adopted,
        tasks_restarted: takeover.restarted,
    }
}

fn task_manager(observation: TaskManagerObservation) -> pb::TaskManagerStatus {
    pb::TaskManagerStatus {
        id: convert::uuid_bytes(observation.location.id.0),
        name: observation.location.name.0,
        data_address: observation.location.data_address,
        slots: observation.slots.count,
        free_slots: observation.free_slots,
        slot_memory_bytes: observation.slots.memory_bytes,
        heartbeat_age_ms: u64::try_from(observation.heartbeat_age.as_millis()).unwrap_or(u64::MAX),
        process_id: observation.process_id,
        draining: observation.draining,
        jobs: observation.jobs.into_iter().map(|job| convert::uuid_bytes(job.0)).collect(),
    }
}
