//! `tidemill checkpoints`, and what `status` says of them.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use tidemill_model::id::{ExecutionVertexId, JobId};
use tidemill_model::job_graph::JobVertex;
use tidemill_model::time::Timestamp;

use super::arguments::{ClusterArguments, ReadArguments};
use super::error::Error;
use super::jobs::{client, print};
use super::text::{duration, freshness, moment, size, table};
use crate::clock;
use crate::job_client::{CheckpointActivity, CheckpointOverview, JobDetails};

/// A newest checkpoint that is older than so many intervals is overdue.
const INTERVALS_OVERDUE: u32 = 3;

/// `checkpoints`.
#[derive(Debug, Args)]
pub(super) struct CheckpointsCommand {
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    read: ReadArguments,
    /// The job's id, as `tidemill list` shows it.
    #[arg(value_name = "JOB")]
    job: JobId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Shows a job's checkpoints.
pub(super) async fn run(given: Option<Vec<String>>, command: CheckpointsCommand) -> Result<ExitCode, Error> {
    let consistency = command.read.consistency();
    let job = client(command.cluster.resolve(given)?).read_job(command.job, consistency).await?;
    print(&if command.json {
        format!("{}\n", value(&job.value, clock::wall()))
    } else {
        text(&job.value, clock::wall()) + &freshness(&job.freshness)
    })
}

/// Whether the job could go on now after a failure, and from where, in words.
pub(super) fn recovery(job: &JobDetails, now: Timestamp) -> Option<String> {
    let details = job.checkpoints.as_ref()?;
    let Some(newest) = details.retained.last() else {
        return Some("a failed region begins again: no checkpoint is completed".to_owned());
    };
    let age = now.since(newest.completed);
    let overdue = if is_overdue(details, now) {
        format!("; OVERDUE, one is wanted every {}", duration(details.interval))
    } else {
        String::new()
    };
    let size = size(newest.size_bytes);
    Some(format!("from checkpoint {}, {} old, {size}{overdue}", newest.id, duration(age)))
}

fn is_overdue(details: &CheckpointOverview, now: Timestamp) -> bool {
    let limit = details.interval.saturating_mul(INTERVALS_OVERDUE);
    details.retained.last().is_none_or(|newest| now.since(newest.completed) > limit)
}

/// For people.
pub(super) fn text(job: &JobDetails, now: Timestamp) -> String {
    let Some(details) = &job.checkpoints else {
        return format!("job {} takes no checkpoints: execution.checkpointing.interval is not set\n", job.id);
    };
    let failed = details.activity.as_ref().map_or(0, |activity| activity.failed);
    let pending = details.activity.as_ref().map_or(0, |activity| activity.pending.len());
    let mut text = format!(
        "Checkpoints of job {} every {} in {}\n{} completed, {pending} in progress, {failed} failed since the leader \
         began\n",
        job.id,
        duration(details.interval),
        details.directory,
        job.checkpoints_completed,
    );
    if let Some(recovery) = recovery(job, now).filter(|_| !job.status.is_terminal()) {
        text += &format!("Recovery    {recovery}\n");
    }
    let retained = details.retained.iter().map(|checkpoint| {
        vec![
            checkpoint.id.to_string(),
            moment(checkpoint.triggered),
            duration(checkpoint.completed.since(checkpoint.triggered)),
            size(checkpoint.size_bytes),
            if checkpoint.notified { "yes" } else { "no" }.to_owned(),
        ]
    });
    text += &format!("\n{}", table(&["RETAINED", "TRIGGERED (UTC)", "TOOK", "SIZE", "NOTIFIED"], retained));
    if let Some(activity) = &details.activity {
        text += &activity_text(job, activity);
    }
    text
}

fn activity_text(job: &JobDetails, activity: &CheckpointActivity) -> String {
    let mut text = String::new();
    if let Some(failure) = &activity.last_failure {
        text += &format!(
            "\nLast failure: checkpoint {}: {}{}\n",
            failure.id,
            failure.reason,
            held_up(job, &failure.held_up_by)
        );
    }
    for pending in &activity.pending {
        let (id, age) = (pending.id, duration(pending.age));
        text += &format!("\nIn progress: checkpoint {id} for {age}{}\n", held_up(job, &pending.missing));
    }
    if let Some(newest) = activity.newest {
        let subtasks = activity.newest_subtasks.iter().map(|subtask| {
            let index = subtask.vertex.subtask.to_string();
            vec![operators(job, subtask.vertex), index, duration(subtask.duration), size(subtask.size_bytes)]
        });
        let header = ["OPERATORS", "SUBTASK", "ACKNOWLEDGED AFTER", "SIZE"];
        text += &format!("\nCheckpoint {newest} by sub-task\n{}", table(&header, subtasks));
    }
    text
}

/// The operators that a checkpoint waited for, each once.
fn held_up(job: &JobDetails, vertices: &[ExecutionVertexId]) -> String {
    let mut names: Vec<String> = vertices.iter().map(|vertex| operators(job, *vertex)).collect();
    names.sort();
    names.dedup();
    if names.is_empty() { String::new() } else { format!("; held up by {}", names.join(", ")) }
}

fn operators(job: &JobDetails, vertex: ExecutionVertexId) -> String {
    job.graph.vertex(vertex.vertex).map_or_else(|| vertex.vertex.to_string(), JobVertex::name)
}

/// For scripts.
pub(super) fn value(job: &JobDetails, now: Timestamp) -> Value {
    let Some(details) = &job.checkpoints else { return json!({ "job": job.id.to_string(), "checkpointing": false }) };
    let retained = details.retained.iter().map(|checkpoint| {
        json!({
            "id": checkpoint.id.0,
            "triggered_ms": checkpoint.triggered.0,
            "completed_ms": checkpoint.completed.0,
            "size_bytes": checkpoint.size_bytes,
            "notified": checkpoint.notified,
        })
    });
    json!({
        "job": job.id.to_string(),
        "checkpointing": true,
        "interval_ms": millis(details.interval),
        "directory": details.directory,
        "completed": job.checkpoints_completed,
        "recoverable": !details.retained.is_empty(),
        "overdue": is_overdue(details, now),
        "retained": retained.collect::<Vec<_>>(),
        "activity": details.activity.as_ref().map(activity_value),
    })
}

fn activity_value(activity: &CheckpointActivity) -> Value {
    let vertices = |vertices: &[ExecutionVertexId]| -> Vec<Value> {
        vertices.iter().map(|vertex| json!({ "vertex": vertex.vertex.0, "subtask": vertex.subtask.0 })).collect()
    };
    let failure = activity.last_failure.as_ref().map(
        |failure| json!({ "id": failure.id.0, "reason": failure.reason, "held_up_by": vertices(&failure.held_up_by) }),
    );
    let pending = activity.pending.iter().map(
        |pending| json!({ "id": pending.id.0, "age_ms": millis(pending.age), "missing": vertices(&pending.missing) }),
    );
    let subtasks = activity.newest_subtasks.iter().map(|subtask| {
        json!({
            "vertex": subtask.vertex.vertex.0,
            "subtask": subtask.vertex.subtask.0,
            "duration_ms": millis(subtask.duration),
            "size_bytes": subtask.size_bytes,
        })
    });
    json!({
        "failed": activity.failed,
        "last_failure": failure,
        "pending": pending.collect::<Vec<_>>(),
        "newest": activity.newest.map(|id| id.0),
        "newest_subtasks": subtasks.collect::<Vec<_>>(),
    })
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
