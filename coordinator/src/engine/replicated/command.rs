//! What can be decided, and what applying a decision answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill_model::checkpoint::{CheckpointKind, SubtaskState};
use tidemill_model::execution::{Failure, Schedule, TerminalState};
use tidemill_model::id::{
    AttemptNumber, BlobId, CheckpointId, ExecutionAttemptId, ExecutionVertexId, JobId, LeaderEpoch, NodeId,
    TaskManagerId,
};
use tidemill_model::job::{JobSpec, StopMode};
use tidemill_model::time::Timestamp;

use super::chaos::{ChaosAnswer, ChaosCommand};
use super::checkpoints::Garbage;

/// One decision, as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The leadership that decided it; refused at apply once another one has begun.
    pub epoch: LeaderEpoch,
    /// When the leader decided it, by its wall clock.
    pub stamp: Timestamp,
    /// The decision.
    pub body: CommandBody,
}

/// The closed list of decisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandBody {
    /// A leadership begins; this entry's log index is its epoch.
    LeaderStarted {
        /// Who leads.
        node: NodeId,
        /// The Raft term in which it was elected.
        term: u64,
    },
    /// A blob lies on these replicas' disks.
    RegisterBlob {
        /// Which.
        blob: BlobId,
        /// Its length.
        size_bytes: u64,
        /// Who has it: a majority.
        holders: BTreeSet<NodeId>,
    },
    /// A client wants this job.
    SubmitJob {
        /// Everything about it.
        spec: Box<JobSpec>,
    },
    /// A client wants this job to stop.
    CancelJob {
        /// Which.
        job: JobId,
    },
    /// Sub-tasks that await one get an attempt and a slot.
    RecordSchedule {
        /// Of which job.
        job: JobId,
        /// Where each of them runs: exactly those that await an attempt.
        schedule: Schedule,
    },
    /// Attempts have ended.
    RecordTerminal {
        /// Of which job.
        job: JobId,
        /// Which, and how.
        ended: Vec<(ExecutionAttemptId, TerminalState)>,
    },
    /// Attempts have failed: replace the regions that they are in, or fail the job, as its restart strategy says.
    FailOver {
        /// Of which job.
        job: JobId,
        /// Which sub-tasks.
        failed: BTreeSet<ExecutionVertexId>,
        /// Why.
        cause: Failure,
    },
    /// A failure for good: stop the job and drop its output.
    FailJob {
        /// Which.
        job: JobId,
        /// Why.
        cause: Failure,
    },
    /// Every task has finished: publish the output.
    StartCommitting {
        /// Of which job.
        job: JobId,
        /// The id of its final checkpoint, which consists of every task's last snapshot; none: it takes no checkpoints.
        checkpoint: Option<CheckpointId>,
    },
    /// The job has ended, as its status says it would.
    EndJob {
        /// Which.
        job: JobId,
        /// How.
        ending: Ending,
        /// How many ended jobs to keep from now on.
        history_size: u32,
    },
    /// Checkpoint ids come into use: none of them was ever used before.
    ReserveCheckpoints {
        /// Of which job.
        job: JobId,
        /// Up to this one.
        upto: CheckpointId,
    },
    /// Every sub-task has acknowledged a checkpoint.
    CompleteCheckpoint {
        /// Of which job.
        job: JobId,
        /// Which.
        id: CheckpointId,
        /// Who took part: refused unless these are still the scheduled attempts.
        attempts: BTreeMap<ExecutionVertexId, AttemptNumber>,
        /// What each of them acknowledged.
        states: BTreeMap<ExecutionVertexId, SubtaskState>,
        /// From its trigger until it was complete.
        duration: Duration,
        /// For what it was taken.
        kind: CheckpointKind,
    },
    /// Every attempt that took part has heard of a checkpoint's completion.
    RecordNotified {
        /// Of which job.
        job: JobId,
        /// Which checkpoint.
        checkpoint: CheckpointId,
    },
    /// Files that nothing needed are gone.
    RecordGarbageDeleted {
        /// Of which job.
        job: JobId,
        /// Which.
        garbage: Garbage,
    },
    /// What a new leadership found of a job that was running.
    RecordTakeover {
        /// Which job.
        job: JobId,
        /// Attempts that simply ran on.
        adopted: u32,
        /// Attempts that had to be replaced.
        restarted: u32,
    },
    /// An operation of the chaos harness; only with `coordinator.chaos-api`.
    Chaos(ChaosCommand),
    /// A task manager is to be left by everything that runs there and to get nothing new, or may be used again.
    SetDraining {
        /// Which incarnation: the next one at its place drains only when it is told to.
        task_manager: TaskManagerId,
        /// Whether it is to drain.
        draining: bool,
    },
    /// There are slots for all that has to leave draining task managers: replace its regions. That is no failure.
    Relocate {
        /// Of which job.
        job: JobId,
        /// The sub-tasks that have to leave.
        leaving: BTreeSet<ExecutionVertexId>,
        /// Why, in words.
        reason: String,
    },
    /// A task manager that had been given up has come back with something of a job that has ended: what that wrote into
    /// the checkpoint storage since is to be deleted.
    RecordStraggler {
        /// Of which job.
        job: JobId,
    },
    /// A client wants this job to stop without losing what it has done.
    StopJob {
        /// Which.
        job: JobId,
        /// How.
        how: StopMode,
    },
}

/// How a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Its output is published.
    Finished,
    /// It was cancelled.
    Canceled,
    /// It failed.
    Failed,
}

impl CommandBody {
    /// The job that this is about, if it is about one.
    #[must_use]
    pub fn job(&self) -> Option<JobId> {
        match self {
            Self::LeaderStarted { .. } | Self::RegisterBlob { .. } | Self::Chaos(_) | Self::SetDraining { .. } => None,
            Self::SubmitJob { spec } => Some(spec.id),
            Self::CancelJob { job }
            | Self::StopJob { job, .. }
            | Self::RecordSchedule { job, .. }
            | Self::RecordTerminal { job, .. }
            | Self::FailOver { job, .. }
            | Self::ReserveCheckpoints { job, .. }
            | Self::CompleteCheckpoint { job, .. }
            | Self::RecordNotified { job, .. }
            | Self::RecordGarbageDeleted { job, .. }
            | Self::FailJob { job, .. }
            | Self::StartCommitting { job, .. }
            | Self::EndJob { job, .. }
            | Self::RecordTakeover { job, .. }
            | Self::Relocate { job, .. }
            | Self::RecordStraggler { job } => Some(*job),
        }
    }

    /// Whether the leadership that decided this acts once it is applied: on all about a job that exists, and on drains. Who
    /// accepts a submission tells the dispatcher, and waits for it.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        match self {
            Self::LeaderStarted { .. } | Self::RegisterBlob { .. } | Self::Chaos(_) | Self::SubmitJob { .. } => false,
            Self::CancelJob { .. }
            | Self::StopJob { .. }
            | Self::RecordSchedule { .. }
            | Self::RecordTerminal { .. }
            | Self::FailOver { .. }
            | Self::Relocate { .. }
            | Self::ReserveCheckpoints { .. }
            | Self::CompleteCheckpoint { .. }
            | Self::RecordNotified { .. }
            | Self::RecordGarbageDeleted { .. }
            | Self::FailJob { .. }
            | Self::StartCommitting { .. }
            | Self::EndJob { .. }
            | Self::RecordTakeover { .. }
            | Self::RecordStraggler { .. }
            | Self::SetDraining { .. } => true,
        }
    }

    /// Whether this moves a job from one status to another, or out of its end's last stage back into the cleaning. A job's
    /// master decides one such thing at a time.
    #[must_use]
    pub fn changes_status(&self) -> bool {
        match self {
            Self::RecordSchedule { .. }
            | Self::FailOver { .. }
            | Self::Relocate { .. }
            | Self::FailJob { .. }
            | Self::StartCommitting { .. }
            | Self::EndJob { .. }
            | Self::RecordStraggler { .. }
            | Self::SubmitJob { .. }
            | Self::CancelJob { .. } => true,
            Self::LeaderStarted { .. }
            | Self::RegisterBlob { .. }
            | Self::Chaos(_)
            | Self::SetDraining { .. }
            | Self::StopJob { .. }
            | Self::RecordTerminal { .. }
            | Self::ReserveCheckpoints { .. }
            | Self::CompleteCheckpoint { .. }
            | Self::RecordNotified { .. }
            | Self::RecordGarbageDeleted { .. }
            | Self::RecordTakeover { .. } => false,
        }
    }

    /// The decision's name, for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::LeaderStarted { .. } => "LeaderStarted",
            Self::RegisterBlob { .. } => "RegisterBlob",
            Self::SubmitJob { .. } => "SubmitJob",
            Self::CancelJob { .. } => "CancelJob",
            Self::RecordSchedule { .. } => "RecordSchedule",
            Self::RecordTerminal { .. } => "RecordTerminal",
            Self::FailOver { .. } => "FailOver",
            Self::ReserveCheckpoints { .. } => "ReserveCheckpoints",
            Self::CompleteCheckpoint { .. } => "CompleteCheckpoint",
            Self::RecordNotified { .. } => "RecordNotified",
            Self::RecordGarbageDeleted { .. } => "RecordGarbageDeleted",
            Self::FailJob { .. } => "FailJob",
            Self::StartCommitting { .. } => "StartCommitting",
            Self::EndJob { .. } => "EndJob",
            Self::RecordTakeover { .. } => "RecordTakeover",
            Self::Chaos(_) => "Chaos",
            Self::SetDraining { .. } => "SetDraining",
            Self::Relocate { .. } => "Relocate",
            Self::RecordStraggler { .. } => "RecordStraggler",
            Self::StopJob { .. } => "StopJob",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.body.name(), self.epoch)?;
        self.body.job().map_or(Ok(()), |job| write!(f, " {job}"))
    }
}

/// What applying a command answers; the same on every replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The leadership began with this epoch.
    Started(LeaderEpoch),
    /// A `LeaderStarted` that was appended in another term than it names: it lingered, and fences nobody.
    Lingered,
    /// Decided under an older leadership: without effect.
    Stale {
        /// The leadership that has begun since.
        current: LeaderEpoch,
    },
    /// Done.
    Done,
    /// The job is accepted.
    Submitted {
        /// False when it had been accepted before: the submission was repeated.
        created: bool,
    },
    /// The id belongs to a job with another content.
    Conflict,
    /// The id is older than the history that is kept, so that it cannot be told whether it ran.
    Expired,
    /// No majority of coordinators holds this blob.
    BlobMissing(BlobId),
    /// There is no such job.
    UnknownJob,
    /// The checkpoint cannot be completed any more: attempts that took part were replaced, or a newer one was completed.
    Superseded,
    /// The job's status does not allow it.
    Refused {
        /// The status's name.
        status: String,
    },
    /// What came of an operation of the chaos harness.
    Chaos(ChaosAnswer),
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(epoch) => write!(f, "started {epoch}"),
            Self::Lingered => f.write_str("lingered"),
            Self::Stale { current } => write!(f, "stale, now {current}"),
            Self::Done => f.write_str("done"),
            Self::Submitted { created } => write!(f, "submitted, created={created}"),
            Self::Conflict => f.write_str("conflict"),
            Self::Expired => f.write_str("expired"),
            Self::BlobMissing(blob) => write!(f, "blob {blob} missing"),
            Self::UnknownJob => f.write_str("unknown job"),
            Self::Superseded => f.write_str("superseded"),
            Self::Refused { status } => write!(f, "refused in status {status}"),
            Self::Chaos(answer) => write!(f, "chaos: {answer:?}"),
        }
    }
}
