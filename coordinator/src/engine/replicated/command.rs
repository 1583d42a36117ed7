//! What can be decided, and what applying a decision answers.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use tidemill_model::execution::{Failure, Schedule, TerminalState};
use tidemill_model::id::{BlobId, ExecutionAttemptId, JobId, LeaderEpoch, NodeId};
use tidemill_model::job::JobSpec;
use tidemill_model::time::Timestamp;

use super::chaos::{ChaosAnswer, ChaosCommand};

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
    /// Attempts are placed; replaces every earlier attempt.
    RecordSchedule {
        /// Of which job.
        job: JobId,
        /// Where each sub-task runs.
        schedule: Schedule,
    },
    /// Attempts have ended.
    RecordTerminal {
        /// Of which job.
        job: JobId,
        /// Which, and how.
        ended: Vec<(ExecutionAttemptId, TerminalState)>,
    },
    /// A failure that may pass: start the job again.
    RestartJob {
        /// Which.
        job: JobId,
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
            Self::LeaderStarted { .. } | Self::RegisterBlob { .. } | Self::Chaos(_) => None,
            Self::SubmitJob { spec } => Some(spec.id),
            Self::CancelJob { job }
            | Self::RecordSchedule { job, .. }
            | Self::RecordTerminal { job, .. }
            | Self::RestartJob { job, .. }
            | Self::FailJob { job, .. }
            | Self::StartCommitting { job }
            | Self::EndJob { job, .. }
            | Self::RecordTakeover { job, .. } => Some(*job),
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
            Self::RestartJob { .. } => "RestartJob",
            Self::FailJob { .. } => "FailJob",
            Self::StartCommitting { .. } => "StartCommitting",
            Self::EndJob { .. } => "EndJob",
            Self::RecordTakeover { .. } => "RecordTakeover",
            Self::Chaos(_) => "Chaos",
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
            Self::Refused { status } => write!(f, "refused in status {status}"),
            Self::Chaos(answer) => write!(f, "chaos: {answer:?}"),
        }
    }
}
