//! What coordinators tell about a job's checkpoints, in the model's types.

use std::time::Duration;

use tidemill_model::id::{CheckpointId, ExecutionVertexId};
use tidemill_model::time::Timestamp;
use tidemill_proto::{convert, pb};

/// The checkpoints of a job that takes some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointOverview {
    /// The time from one trigger to the next.
    pub interval: Duration,
    /// Where they are kept.
    pub directory: String,
    /// Those that a restart may use, oldest first.
    pub retained: Vec<RetainedCheckpoint>,
    /// What the leader observes; none: it did not answer, or the job has ended.
    pub activity: Option<CheckpointActivity>,
}

/// A completed checkpoint that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedCheckpoint {
    /// Which.
    pub id: CheckpointId,
    /// When it was triggered.
    pub triggered: Timestamp,
    /// When it was completed.
    pub completed: Timestamp,
    /// How many bytes of state it stands for.
    pub size_bytes: u64,
    /// Whether every attempt that took part has confirmed that it heard of its completion.
    pub notified: bool,
}

/// What has happened to checkpoints since the leader began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointActivity {
    /// How many came to nothing.
    pub failed: u64,
    /// The newest of those.
    pub last_failure: Option<CheckpointFailure>,
    /// Those that are under way, oldest first.
    pub pending: Vec<PendingCheckpoint>,
    /// The newest completed one.
    pub newest: Option<CheckpointId>,
    /// Each sub-task's part of it.
    pub newest_subtasks: Vec<SubtaskSnapshot>,
}

/// A checkpoint that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFailure {
    /// Which.
    pub id: CheckpointId,
    /// Why, in words.
    pub reason: String,
    /// Who held it up.
    pub held_up_by: Vec<ExecutionVertexId>,
}

/// A checkpoint that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingCheckpoint {
    /// Which.
    pub id: CheckpointId,
    /// How long ago it was triggered.
    pub age: Duration,
    /// Who has not acknowledged it.
    pub missing: Vec<ExecutionVertexId>,
}

/// One sub-task's part of a completed checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubtaskSnapshot {
    /// Whose.
    pub vertex: ExecutionVertexId,
    /// From the trigger to its acknowledgement.
    pub duration: Duration,
    /// How many bytes of state it stands for.
    pub size_bytes: u64,
}

impl TryFrom<pb::CheckpointOverview> for CheckpointOverview {
    type Error = convert::Error;

    fn try_from(details: pb::CheckpointOverview) -> Result<Self, convert::Error> {
        let retained = |checkpoint: pb::RetainedCheckpoint| RetainedCheckpoint {
            id: CheckpointId(checkpoint.id),
            triggered: Timestamp(checkpoint.triggered_ms),
            completed: Timestamp(checkpoint.completed_ms),
            size_bytes: checkpoint.size_bytes,
            notified: checkpoint.notified,
        };
        Ok(Self {
            interval: Duration::from_millis(details.interval_ms),
            directory: details.directory,
            retained: details.retained.into_iter().map(retained).collect(),
            activity: details.activity.map(CheckpointActivity::try_from).transpose()?,
        })
    }
}

impl TryFrom<pb::CheckpointActivity> for CheckpointActivity {
    type Error = convert::Error;

    fn try_from(activity: pb::CheckpointActivity) -> Result<Self, convert::Error> {
        let failure = |failure: pb::CheckpointFailure| {
            let held_up_by = vertices(failure.held_up_by)?;
            Ok(CheckpointFailure { id: CheckpointId(failure.id), reason: failure.reason, held_up_by })
        };
        let pending = |pending: pb::PendingCheckpoint| {
            let (id, age) = (CheckpointId(pending.id), Duration::from_millis(pending.age_ms));
            Ok(PendingCheckpoint { id, age, missing: vertices(pending.missing)? })
        };
        let snapshot = |snapshot: pb::SubtaskSnapshot| {
            let (vertex, duration) = (snapshot.vertex.unwrap_or_default(), Duration::from_millis(snapshot.duration_ms));
            Ok(SubtaskSnapshot { vertex: vertex.try_into()?, duration, size_bytes: snapshot.size_bytes })
        };
        Ok(Self {
            failed: activity.failed,
            last_failure: activity.last_failure.map(failure).transpose()?,
            pending: activity.pending.into_iter().map(pending).collect::<Result<_, convert::Error>>()?,
            newest: activity.newest.map(CheckpointId),
            newest_subtasks: activity.newest_subtasks.into_iter().map(snapshot).collect::<Result<_, _>>()?,
        })
    }
}

fn vertices(vertices: Vec<pb::ExecutionVertexId>) -> Result<Vec<ExecutionVertexId>, convert::Error> {
    vertices.into_iter().map(TryInto::try_into).collect()
}
