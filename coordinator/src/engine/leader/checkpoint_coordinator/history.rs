//! What people are told of a job's checkpoints under this leadership: observations, bounded in number.

use std::time::Duration;

use tidemill_model::checkpoint::AbortReason;
use tidemill_model::id::{CheckpointId, ExecutionVertexId};
use tidemill_model::time::Instant;

use super::CheckpointCoordinator;
use super::pending::PendingCheckpoint;

/// What happens to the checkpoints of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckpointActivity {
    /// How many have come to nothing.
    pub failed: u64,
    /// The newest of them.
    pub last_failure: Option<CheckpointFailure>,
    /// Those that are under way, oldest first.
    pub pending: Vec<PendingObservation>,
    /// The newest that was completed, if this leadership saw it.
    pub newest: Option<(CheckpointId, Vec<SubtaskSnapshot>)>,
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
pub struct PendingObservation {
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

/// What is kept of checkpoints that are over.
#[derive(Debug, Default)]
pub(super) struct History {
    failed: u64,
    last_failure: Option<CheckpointFailure>,
    newest: Option<(CheckpointId, Vec<SubtaskSnapshot>)>,
}

impl History {
    pub(super) fn completed(&mut self, id: CheckpointId, pending: &PendingCheckpoint) {
        self.newest = Some((id, pending.snapshots()));
    }

    /// One that a newer one has overtaken has not failed.
    pub(super) fn aborted(&mut self, id: CheckpointId, reason: &AbortReason) {
        let held_up_by = match reason {
            AbortReason::Declined { vertex, .. } => vec![*vertex],
            AbortReason::Expired { missing } | AbortReason::StreamBroken { missing } => missing.clone(),
            AbortReason::Superseded | AbortReason::LeaderChanged => Vec::new(),
            AbortReason::Subsumed => return,
        };
        self.failed += 1;
        self.last_failure = Some(CheckpointFailure { id, reason: reason.to_string(), held_up_by });
    }
}

impl CheckpointCoordinator {
    /// What people are told.
    pub(in crate::engine::leader) fn observe(&self, now: Instant) -> CheckpointActivity {
        let pending = self.pending.iter().map(|(&id, pending)| {
            let (age, missing) = (now.since(pending.triggered), pending.missing());
            PendingObservation { id, age, missing }
        });
        CheckpointActivity {
            failed: self.history.failed,
            last_failure: self.history.last_failure.clone(),
            pending: pending.collect(),
            newest: self.history.newest.clone(),
        }
    }
}
