//! Checkpoints: what a sub-task's snapshot is, what a completed one holds, and how a job wants them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{CheckpointId, ExecutionAttemptId, ExecutionVertexId};
use crate::time::Timestamp;

/// Where one piece of a sub-task's state lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateHandle {
    /// Small state: in the checkpoint's metadata itself.
    Inline(Vec<u8>),
    /// A range of a file in the checkpoint storage. It may have been written for an older checkpoint.
    File {
        /// The file, below the job's folder in the checkpoint storage.
        path: String,
        /// The first byte.
        offset: u64,
        /// How many bytes.
        length: u64,
        /// CRC-32 of these bytes.
        checksum: u32,
    },
}

impl StateHandle {
    /// How many bytes of state it stands for.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::Inline(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::File { length, .. } => *length,
        }
    }

    /// The file that must exist for as long as this handle is of use.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Inline(_) => None,
            Self::File { path, .. } => Some(path),
        }
    }
}

/// What one sub-task's snapshot consists of, in an order that only the sub-task understands; empty: it keeps no state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SubtaskState(pub Vec<StateHandle>);

impl SubtaskState {
    /// How many bytes of state it stands for.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.0.iter().map(StateHandle::size_bytes).sum()
    }
}

/// For what a checkpoint is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum CheckpointKind {
    /// To go on from after a failure.
    #[default]
    Periodic,
    /// To be copied, or to stop at: in the form that every state back-end reads.
    Savepoint,
}

/// A checkpoint that every sub-task has acknowledged *and* that Raft has committed: what a restore may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedCheckpoint {
    /// Which.
    pub id: CheckpointId,
    /// For what it was taken.
    pub kind: CheckpointKind,
    /// When it was triggered.
    pub triggered: Timestamp,
    /// When it was committed.
    pub completed: Timestamp,
    /// Invariant: one for each sub-task of the job's graph.
    pub states: BTreeMap<ExecutionVertexId, SubtaskState>,
}

impl CompletedCheckpoint {
    /// How many bytes of state it stands for.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.states.values().map(SubtaskState::size_bytes).sum()
    }

    /// The files that it needs.
    pub fn paths(&self) -> impl Iterator<Item = &str> + '_ {
        self.states.values().flat_map(|state| &state.0).filter_map(StateHandle::path)
    }
}

/// What attempts start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreFrom {
    /// The checkpoint; promise `last-completed`: one and the same for all attempts that are replaced together.
    pub checkpoint: CheckpointId,
    /// Its state of each sub-task that is deployed.
    pub states: BTreeMap<ExecutionVertexId, SubtaskState>,
}

/// What a leader wants of attempts that take part in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckpointAction {
    /// Take a snapshot: sources inject the barrier.
    Trigger(CheckpointKind),
    /// It is committed: publish every transaction up to it. Repeated until it is confirmed.
    NotifyComplete,
    /// It came to nothing: drop what was written for it. No transaction of a sink is aborted, since a later checkpoint
    /// commits it.
    Abort,
    /// Sources are to end as if they had no more input; it is about no checkpoint. Repeated while they run.
    Drain,
}

/// A leader's message about one checkpoint to the attempts of one job on one task manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointCommand {
    /// What is wanted.
    pub action: CheckpointAction,
    /// Of which checkpoint.
    pub checkpoint: CheckpointId,
    /// Of whom, all of one job.
    pub attempts: Vec<ExecutionAttemptId>,
}

impl fmt::Display for CheckpointCommand {
    /// `trigger checkpoint 7 v0[0]#1`: as it is logged before it is sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            CheckpointAction::Trigger(CheckpointKind::Periodic) => "trigger",
            CheckpointAction::Trigger(CheckpointKind::Savepoint) => "trigger savepoint",
            CheckpointAction::NotifyComplete => "notify",
            CheckpointAction::Abort => "abort",
            CheckpointAction::Drain => "drain",
        };
        write!(f, "{action} checkpoint {}", self.checkpoint)?;
        self.attempts.iter().try_for_each(|id| write!(f, " {}#{}", id.vertex, id.attempt))
    }
}

impl CheckpointCommand {
    /// The answers of attempts that take no snapshots: a trigger is declined, anything else asks for nothing.
    #[must_use]
    pub fn declined(&self, reason: &str) -> Vec<CheckpointReport> {
        let decline = |&attempt: &ExecutionAttemptId| CheckpointReport {
            attempt,
            checkpoint: self.checkpoint,
            outcome: CheckpointOutcome::Declined(reason.to_owned()),
        };
        match self.action {
            CheckpointAction::Trigger(_) => self.attempts.iter().map(decline).collect(),
            CheckpointAction::NotifyComplete | CheckpointAction::Abort | CheckpointAction::Drain => Vec::new(),
        }
    }
}

/// What one attempt says of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointReport {
    /// Who.
    pub attempt: ExecutionAttemptId,
    /// Of which checkpoint.
    pub checkpoint: CheckpointId,
    /// What.
    pub outcome: CheckpointOutcome,
}

/// What became of a checkpoint at one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointOutcome {
    /// The snapshot is durable.
    Acknowledged(SubtaskState),
    /// There is no snapshot; why, in words.
    Declined(String),
    /// The notification of its completion has been acted upon.
    Notified,
}

impl fmt::Display for CheckpointReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checkpoint {} {}#{} ", self.checkpoint, self.attempt.vertex, self.attempt.attempt)?;
        match &self.outcome {
            CheckpointOutcome::Acknowledged(state) => write!(f, "acknowledged, {} bytes", state.size_bytes()),
            CheckpointOutcome::Declined(reason) => write!(f, "declined: {reason}"),
            CheckpointOutcome::Notified => f.write_str("notified"),
        }
    }
}

/// How often a record is reflected in state after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum CheckpointingMode {
    /// Once: inputs are aligned.
    #[default]
    ExactlyOnce,
    /// Once or more often: inputs are not aligned.
    AtLeastOnce,
}

/// What becomes of the retained checkpoints of a job that ends without having finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum ExternalizedRetention {
    /// They are deleted with the job.
    #[default]
    DeleteOnEnd,
    /// They stay, for a later job to start from.
    RetainOnEnd,
}

/// How a job takes checkpoints (`execution.checkpointing.*`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointSettings {
    /// The folder in which they are kept, as a URL or an absolute path.
    pub directory: String,
    /// The time from one trigger to the next.
    pub interval: Duration,
    /// The shortest time from the end of one checkpoint to the trigger of the next.
    pub pause_min: Duration,
    /// A checkpoint that takes longer is aborted.
    pub timeout: Duration,
    /// How many may be under way at once.
    pub concurrent_max: u32,
    /// How many may fail in a row before the job does.
    pub failures_tolerable: u32,
    /// How many completed ones are kept.
    pub retained: u32,
    /// How often records are reflected.
    pub mode: CheckpointingMode,
    /// What becomes of them in the end.
    pub externalized: ExternalizedRetention,
    /// How long a sub-task that has heard of a checkpoint waits for its barriers before it takes its snapshot without
    /// them; what is in flight becomes part of the checkpoint then. None: for ever.
    pub unaligned_after: Option<Duration>,
}

impl Default for CheckpointSettings {
    /// What Flink does when only an interval is given; the interval itself is ours.
    fn default() -> Self {
        Self {
            directory: String::new(),
            interval: Duration::from_secs(1),
            pause_min: Duration::ZERO,
            timeout: Duration::from_secs(600),
            concurrent_max: 1,
            failures_tolerable: 0,
            retained: 1,
            mode: CheckpointingMode::ExactlyOnce,
            externalized: ExternalizedRetention::DeleteOnEnd,
            unaligned_after: None,
        }
    }
}

/// Why a checkpoint came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AbortReason {
    /// A sub-task could not take its snapshot.
    Declined {
        /// Which.
        vertex: ExecutionVertexId,
        /// Why, in words.
        reason: String,
    },
    /// It took longer than `execution.checkpointing.timeout`.
    Expired {
        /// Who had not acknowledged it.
        missing: Vec<ExecutionVertexId>,
    },
    /// Attempts that were to take part were replaced.
    Superseded,
    /// Another leadership had triggered it, and not every sub-task had acknowledged it.
    LeaderChanged,
    /// A task manager's stream broke before these had acknowledged it: they may never have heard of it.
    StreamBroken {
        /// Who.
        missing: Vec<ExecutionVertexId>,
    },
    /// A newer one was completed first.
    Subsumed,
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declined { vertex, reason } => write!(f, "{vertex} declined: {reason}"),
            Self::Expired { missing } => {
                write!(f, "it took too long; not acknowledged by")?;
                missing.iter().try_for_each(|vertex| write!(f, " {vertex}"))
            }
            Self::Superseded => f.write_str("attempts were replaced"),
            Self::LeaderChanged => f.write_str("the leader that triggered it is gone"),
            Self::StreamBroken { missing } => {
                write!(f, "the stream to their task manager broke before it was acknowledged by")?;
                missing.iter().try_for_each(|vertex| write!(f, " {vertex}"))
            }
            Self::Subsumed => f.write_str("a newer one was completed first"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{JobVertexId, SubtaskIndex};

    #[test]
    fn a_checkpoint_knows_its_size_and_the_files_that_it_needs() {
        let vertex = |subtask| ExecutionVertexId { vertex: JobVertexId(0), subtask: SubtaskIndex(subtask) };
        let file = StateHandle::File { path: "7/a".into(), offset: 4, length: 96, checksum: 1 };
        let states = [(vertex(0), SubtaskState(vec![StateHandle::Inline(vec![1; 4]), file]))];
        let states = states.into_iter().chain([(vertex(1), SubtaskState::default())]).collect();
        let (triggered, completed) = (Timestamp(1), Timestamp(2));
        let kind = CheckpointKind::Periodic;
        let checkpoint = CompletedCheckpoint { id: CheckpointId(7), kind, triggered, completed, states };
        assert_eq!(checkpoint.size_bytes(), 100);
        assert_eq!(checkpoint.paths().collect::<Vec<_>>(), ["7/a"]);
    }
}
