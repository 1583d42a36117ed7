//! What the coordinator of checkpoints wants.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidemill_model::checkpoint::{AbortReason, CheckpointKind, SubtaskState};
use tidemill_model::id::{AttemptNumber, CheckpointId, ExecutionAttemptId, ExecutionVertexId};

use crate::engine::replicated::Garbage;

/// What the coordinator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine::leader) enum Wish {
    /// Have this decided by Raft.
    Propose(Proposal),
    /// Have every live attempt take a snapshot.
    Trigger(CheckpointId, CheckpointKind),
    /// Tell these attempts that it is committed.
    Notify(CheckpointId, BTreeSet<ExecutionAttemptId>),
    /// Tell every live attempt that it came to nothing.
    Abort(CheckpointId, AbortReason),
    /// Delete what nothing needs any more.
    Delete(Garbage),
    /// Say which files there are.
    ListFiles,
    /// Too many checkpoints in a row have failed: the job has; why, in words.
    Fail(String),
}

/// The decisions about checkpoints, without the job that they are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine::leader) enum Proposal {
    /// Reserve ids up to this one.
    Reserve(CheckpointId),
    /// Complete this checkpoint.
    Complete {
        id: CheckpointId,
        attempts: BTreeMap<ExecutionVertexId, AttemptNumber>,
        states: BTreeMap<ExecutionVertexId, SubtaskState>,
        duration: Duration,
        kind: CheckpointKind,
    },
    /// Everybody has heard of it.
    Notified(CheckpointId),
    /// This is gone.
    Deleted(Garbage),
}
