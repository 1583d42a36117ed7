//! A job's checkpoints as clients see them: what is replicated, and what the leader observes.

use std::time::Duration;

use tidemill_model::checkpoint::CompletedCheckpoint;
use tidemill_model::id::ExecutionVertexId;
use tidemill_proto::pb;

use crate::engine::leader::{CheckpointActivity, CheckpointFailure, PendingObservation, SubtaskSnapshot};
use crate::engine::replicated::JobState;

/// None: the job takes none.
pub(super) fn checkpoint_overview(
    state: &JobState,
    activity: Option<CheckpointActivity>,
) -> Option<pb::CheckpointOverview> {
    let settings = state.spec.settings.checkpointing.as_ref()?;
    let checkpoints = &state.checkpoints;
    let retained = |checkpoint: &CompletedCheckpoint| pb::RetainedCheckpoint {
        id: checkpoint.id.0,
        triggered_ms: checkpoint.triggered.0,
        completed_ms: checkpoint.completed.0,
        size_bytes: checkpoint.size_bytes(),
        notified: checkpoint.id <= checkpoints.notified,
    };
    Some(pb::CheckpointOverview {
        interval_ms: millis(settings.interval),
        directory: settings.directory.clone(),
        retained: checkpoints.completed.values().map(retained).collect(),
        activity: activity.map(activity_to_pb),
    })
}

fn activity_to_pb(activity: CheckpointActivity) -> pb::CheckpointActivity {
    let failure = |failure: CheckpointFailure| pb::CheckpointFailure {
        id: failure.id.0,
        reason: failure.reason,
        held_up_by: vertices(failure.held_up_by),
    };
    let pending = |pending: PendingObservation| pb::PendingCheckpoint {
        id: pending.id.0,
        age_ms: millis(pending.age),
        missing: vertices(pending.missing),
    };
    let snapshot = |snapshot: SubtaskSnapshot| pb::SubtaskSnapshot {
        vertex: Some(snapshot.vertex.into()),
        duration_ms: millis(snapshot.duration),
        size_bytes: snapshot.size_bytes,
    };
    let (newest, subtasks) = activity.newest.unzip();
    pb::CheckpointActivity {
        failed: activity.failed,
        last_failure: activity.last_failure.map(failure),
        pending: activity.pending.into_iter().map(pending).collect(),
        newest: newest.map(|id| id.0),
        newest_subtasks: subtasks.into_iter().flatten().map(snapshot).collect(),
    }
}

fn vertices(vertices: Vec<ExecutionVertexId>) -> Vec<pb::ExecutionVertexId> {
    vertices.into_iter().map(Into::into).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
