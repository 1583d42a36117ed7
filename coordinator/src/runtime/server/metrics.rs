//! The numbers behind `/metrics`, gathered when they are asked for.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidemill_model::id::JobId;

use super::node::{Node, Replica};
use crate::runtime::clock::Clock;
use crate::runtime::raft::Failure;
use crate::runtime::replicated_log::{Leadership, ReplicatedLog};

/// The metrics in Prometheus' text format.
pub(super) async fn render(node: &Node) -> String {
    let mut registry = Registry::with_prefix("tidemill_coordinator");
    gauge(&mut registry, "leader_changes", "Leaders seen since the start", node.leader_changes());
    gauge(&mut registry, "member", "1 when this directory is part of a cluster", u64::from(node.replica().is_some()));
    if let Some(replica) = node.replica() {
        register_log(&mut registry, &replica);
        register_state(&mut registry, &replica);
        register_task_managers(&mut registry, &replica).await;
        register_checkpoints(&mut registry, &replica).await;
    }
    let mut text = String::new();
    if encode(&mut text, &registry).is_err() {
        text.clear();
    }
    text
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<i64, AtomicI64>::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

fn register_log(registry: &mut Registry, replica: &Replica) {
    let status = replica.log.status();
    let leads = matches!(*replica.log.leadership().borrow(), Leadership::Leader { .. });
    gauge(registry, "raft_term", "Newest Raft term", status.term);
    gauge(registry, "raft_leader_node", "Node id of the leader, 0 when unknown", status.leader.map_or(0, |id| id.0));
    gauge(registry, "raft_is_leader", "1 when this coordinator leads with a quorum", u64::from(leads));
    gauge(registry, "raft_last_log_index", "End of the log", status.last_log_index);
    gauge(registry, "raft_committed_index", "Committed up to here", status.committed_index);
    gauge(registry, "raft_applied_index", "Applied up to here", status.applied_index);
    gauge(registry, "raft_snapshot_index", "Newest snapshot", status.snapshot_index);
    if let Some(since) = status.since_quorum_ack {
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        gauge(registry, "raft_quorum_ack_age_ms", "Since a quorum last answered this leader", millis);
    }
    gauge(registry, "proposals", "Commands proposed here since the start", status.proposals);
    gauge(registry, "proposals_refused_stale", "Of them, refused at apply as stale", status.stale);
    let refusals = u64::try_from(replica.log.refusals().list().len()).unwrap_or(u64::MAX);
    let failure = replica.log.failure().borrow().clone();
    let full = matches!(failure, Some(Failure::DiskFull { .. }));
    gauge(registry, "replica_stopped", "1 when the log has failed for good", u64::from(failure.is_some()));
    gauge(registry, "disk_full", "1 when it has stopped for want of room on its disk", u64::from(full));
    gauge(registry, "refusing_peers", "Peers that this coordinator and they refuse each other", refusals);
}

fn register_state(registry: &mut Registry, replica: &Replica) {
    let (epoch, blobs, jobs) = replica.log.state().read(|state| {
        let mut jobs: BTreeMap<&'static str, i64> = BTreeMap::new();
        for job in state.jobs.values() {
            *jobs.entry(job.status.name()).or_default() += 1;
        }
        (state.epoch.0, state.blobs.len(), jobs)
    });
    gauge(registry, "leader_epoch", "Newest leader epoch", epoch);
    gauge(registry, "blobs", "Registered blobs", u64::try_from(blobs).unwrap_or(u64::MAX));
    let by_status = Family::<Vec<(String, String)>, Gauge>::default();
    for (status, count) in jobs {
        by_status.get_or_create(&vec![("status".to_owned(), status.to_owned())]).set(count);
    }
    registry.register("jobs", "Jobs by status", by_status);
}

async fn register_task_managers(registry: &mut Registry, replica: &Replica) {
    let Some(leader) = replica.leader.borrow().clone() else { return };
    let task_managers = leader.task_managers().await;
    let total: u64 = task_managers.iter().map(|task_manager| u64::from(task_manager.slots.count)).sum();
    let free: u64 = task_managers.iter().map(|task_manager| u64::from(task_manager.free_slots)).sum();
    let count = u64::try_from(task_managers.len()).unwrap_or(u64::MAX);
    gauge(registry, "task_managers", "Task managers with a session here", count);
    gauge(registry, "task_slots", "Their slots", total);
    gauge(registry, "task_slots_free", "Slots that nobody holds", free);
}

/// By job: of those that take checkpoints and have not ended, on the leader.
async fn register_checkpoints(registry: &mut Registry, replica: &Replica) {
    let Some(leader) = replica.leader.borrow().clone() else { return };
    let now = Clock::default().wall();
    let jobs: Vec<(JobId, u64, Option<[u64; 3]>)> = replica.log.state().read(|state| {
        let running = state.jobs.values().filter(|job| !job.status.is_terminal());
        let checkpointed = running.filter(|job| job.spec.settings.checkpointing.is_some());
        let figures = checkpointed.map(|job| {
            let newest = job.checkpoints.completed.values().next_back().map(|newest| {
                let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                let took = newest.completed.since(newest.triggered);
                [millis(took), newest.size_bytes(), millis(now.since(newest.completed))]
            });
            (job.spec.id, job.checkpoints.completed_count, newest)
        });
        figures.collect()
    });
    let names = ["completed", "failed", "last_duration_ms", "last_size_bytes", "newest_age_ms"];
    let families = names.map(|_| Family::<Vec<(String, String)>, Gauge>::default());
    for (job, completed, newest) in jobs {
        let observed = leader.observe_job(job).await.and_then(|observation| observation.checkpoints);
        let failed = observed.map_or(0, |activity| activity.failed);
        let values = [Some(completed), Some(failed)].into_iter().chain(match newest {
            Some(newest) => newest.map(Some),
            None => [None; 3],
        });
        for (family, value) in families.iter().zip(values) {
            if let Some(value) = value {
                let gauge = family.get_or_create(&vec![("job".to_owned(), job.to_string())]);
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            }
        }
    }
    let helps = [
        "Completed checkpoints by job",
        "Checkpoints that came to nothing since the leader began, by job",
        "How long the newest checkpoint took, by job",
        "State that the newest checkpoint stands for, by job",
        "Since the newest checkpoint was completed, by job",
    ];
    for ((name, help), family) in names.iter().zip(helps).zip(families) {
        registry.register(format!("checkpoints_{name}"), help, family);
    }
}
