//! What `--json` prints: a form of its own, so that scripts survive changes of the model.

use serde_json::{Value, json};
use tidemill_model::execution::Failure;
use tidemill_model::job::JobStatus;

use super::cluster::{Answers, leading};
use crate::job_client::{
    AttemptDetails, ClusterStatus, DrainingSet, Freshness, JobDetails, JobSummary, MemberStatus, MembershipChanged,
    NodeStatus, Read, TaskManagerStatus,
};

/// The list of jobs.
pub(super) fn jobs(jobs: &Read<Vec<JobSummary>>) -> String {
    let job = |job: &JobSummary| {
        json!({
            "id": job.id.to_string(),
            "name": job.name,
            "status": job.status.name(),
            "submitted_ms": job.submitted.0,
        })
    };
    line(&json!({ "jobs": jobs.value.iter().map(job).collect::<Vec<_>>(), "read": freshness(&jobs.freshness) }))
}

/// One job.
pub(super) fn job(read: &Read<JobDetails>) -> String {
    let job = &read.value;
    let history = job.history.iter().map(
        |entry| json!({ "at_ms": entry.at.0, "status": entry.status, "cause": entry.cause.as_ref().map(failure) }),
    );
    let edges = job.graph.edges.iter().map(|edge| {
        json!({
            "source": edge.source.0,
            "target": edge.target.0,
            "partitioning": edge.partitioning.to_string(),
        })
    });
    let vertices = job.graph.vertices.iter().map(|vertex| {
        json!({
            "id": vertex.id.0,
            "name": vertex.name(),
            "parallelism": vertex.parallelism,
            "slot_sharing_group": vertex.slot_sharing_group.0,
            "co_location_group": vertex.co_location_group.as_ref().map(|group| &group.0),
        })
    });
    line(&json!({
        "id": job.id.to_string(),
        "name": job.name,
        "status": job.status.name(),
        "failure": status_failure(&job.status).map(failure),
        "result": result(&job.status),
        "submitted_ms": job.submitted.0,
        "waiting_reason": job.waiting_reason,
        "restarts": job.restarts,
        "checkpoints_completed": job.checkpoints_completed,
        "latest_checkpoint": job.latest_checkpoint.map(|id| id.0),
        "restored_checkpoint": job.restored_checkpoint.map(|id| id.0),
        "checkpoints": super::checkpoints::value(job, crate::clock::wall()),
        "records_in": job.records_in,
        "records_out": job.records_out,
        "history": history.collect::<Vec<_>>(),
        "attempts": job.attempts.iter().map(attempt).collect::<Vec<_>>(),
        "vertices": vertices.collect::<Vec<_>>(),
        "edges": edges.collect::<Vec<_>>(),
        "read": freshness(&read.freshness),
    }))
}

fn freshness(freshness: &Freshness) -> Value {
    json!({
        "consistency": freshness.consistency.to_string(),
        "node": freshness.node.0,
        "applied_index": freshness.applied_index,
        "age_ms": freshness.age.map(millis),
    })
}

/// The coordinators.
pub(super) fn members(members: &[MemberStatus]) -> String {
    let member = |member: &MemberStatus| {
        let own = member.own.as_ref();
        json!({
            "node": member.node.id.0,
            "name": member.node.name,
            "role": role(&member.node),
            "leader": member.node.leader,
            "raft": member.node.raft_address,
            "client": member.node.client_address,
            "applied_index": own.ok().map(|own| own.applied_index),
            "matched_index": member.node.matched_index,
            "lag": member.lag,
            "answered_ms": member.node.answered.map(millis),
            "alarms": own.map(|own| own.alarms.clone()).unwrap_or_default(),
            "error": own.err().map(ToString::to_string),
        })
    };
    line(&json!({ "members": members.iter().map(member).collect::<Vec<_>>() }))
}

/// What a change of membership came to.
pub(super) fn membership(changed: &MembershipChanged) -> String {
    let node = |node: &NodeStatus| json!({ "node": node.id.0, "name": node.name, "role": role(node) });
    line(&json!({
        "node": changed.node.0,
        "name": changed.name,
        "members": changed.nodes.iter().map(node).collect::<Vec<_>>(),
    }))
}

/// What a coordinator is.
pub(super) fn role(node: &NodeStatus) -> &'static str {
    match (node.leader, node.voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "learner",
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One cluster, coordinator by coordinator.
pub(super) fn cluster(answers: &Answers) -> String {
    let leader = leading(answers);
    let coordinators = answers.iter().map(|(address, answer)| match answer {
        Ok(status) => coordinator(address, status),
        Err(error) => json!({ "address": address, "error": error.to_string() }),
    });
    line(&json!({
        "cluster": leader.map(|status| status.cluster.to_string()),
        "epoch": leader.and_then(|status| status.epoch).map(|epoch| epoch.0),
        "leader": leader.and_then(|status| status.leader()).map(|node| node.client_address.clone()),
        "coordinators": coordinators.collect::<Vec<_>>(),
        "task_managers": leader.map(|status| task_managers(&status.task_managers)),
        "takeovers": leader.map(takeovers),
    }))
}

fn coordinator(address: &str, status: &ClusterStatus) -> Value {
    let own = status.nodes.iter().find(|node| node.id == status.node);
    json!({
        "address": address,
        "node_id": status.node.0,
        "name": own.map(|node| node.name.clone()),
        "raft_address": own.map(|node| node.raft_address.clone()),
        "leader": status.from_leader(),
        "epoch": status.epoch.map(|epoch| epoch.0),
        "applied_index": status.applied_index,
        // A number of 64 bits does not survive every JSON reader.
        "state_checksum": format!("{:016x}", status.state_checksum),
    })
}

/// The task managers.
pub(super) fn task_manager_list(managers: &[TaskManagerStatus]) -> String {
    line(&json!({ "task_managers": task_managers(managers) }))
}

/// Whether a task manager drains.
pub(super) fn draining(set: &DrainingSet) -> String {
    line(&json!({ "id": set.id.to_string(), "name": set.name.0 }))
}

fn task_managers(managers: &[TaskManagerStatus]) -> Value {
    let manager = |manager: &TaskManagerStatus| {
        json!({
            "id": manager.id.to_string(),
            "name": manager.name.0,
            "data_address": manager.data_address,
            "slots": manager.slots,
            "free_slots": manager.free_slots,
            "slot_memory_bytes": manager.slot_memory_bytes,
            "heartbeat_age_ms": u64::try_from(manager.heartbeat_age.as_millis()).unwrap_or(u64::MAX),
            "pid": manager.process_id,
            "draining": manager.draining,
            "jobs": manager.jobs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    };
    managers.iter().map(manager).collect()
}

fn takeovers(status: &ClusterStatus) -> Value {
    let takeover = |takeover: &crate::job_client::Takeover| {
        json!({
            "epoch": takeover.epoch.0,
            "job": takeover.job.to_string(),
            "tasks_adopted": takeover.tasks_adopted,
            "tasks_restarted": takeover.tasks_restarted,
        })
    };
    status.takeovers.iter().map(takeover).collect()
}

fn attempt(attempt: &AttemptDetails) -> Value {
    let id = attempt.report.attempt;
    json!({
        "vertex": id.vertex.vertex.0,
        "subtask": id.vertex.subtask.0,
        "attempt": id.attempt.0,
        "state": attempt.report.state.name(),
        "task_manager": attempt.task_manager.as_ref().map(|name| name.0.clone()),
        "slot": attempt.slot,
        "pid": attempt.process_id,
    })
}

fn failure(failure: &Failure) -> Value {
    json!({
        "kind": failure.kind.to_string(),
        "operator": failure.operator,
        "vertex": failure.vertex.map(|vertex| vertex.vertex.0),
        "subtask": failure.vertex.map(|vertex| vertex.subtask.0),
        "message": failure.message,
    })
}

/// The failure that ends a job.
pub(super) fn status_failure(status: &JobStatus) -> Option<&Failure> {
    match status {
        JobStatus::Failing(failure) | JobStatus::Failed(failure) => Some(failure),
        JobStatus::Created
        | JobStatus::Running
        | JobStatus::Restarting
        | JobStatus::Cancelling
        | JobStatus::Committing
        | JobStatus::Finished(_)
        | JobStatus::Canceled => None,
    }
}

fn result(status: &JobStatus) -> Option<Value> {
    match status {
        JobStatus::Finished(result) => Some(json!({
            "net_runtime_ms": u64::try_from(result.net_runtime.as_millis()).unwrap_or(u64::MAX),
            "accumulators": result.accumulators,
        })),
        JobStatus::Created
        | JobStatus::Running
        | JobStatus::Restarting
        | JobStatus::Cancelling
        | JobStatus::Failing(_)
        | JobStatus::Committing
        | JobStatus::Canceled
        | JobStatus::Failed(_) => None,
    }
}

fn line(value: &Value) -> String {
    format!("{value:#}\n")
}
