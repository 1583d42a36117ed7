//! What the leader and task managers tell each other, free of any wire format.

use std::collections::BTreeSet;
use std::fmt;

use tidemill_model::checkpoint::{CheckpointCommand, CheckpointReport};
use tidemill_model::execution::{AttemptReport, Failure, Finalization, JobDeployment, TaskManagerLocation};
use tidemill_model::id::{AttemptNumber, ExecutionAttemptId, JobId, LeaderEpoch, TaskManagerId};
use tidemill_model::job::JobSpec;
use tidemill_model::slot::SlotOffer;

/// One connection of a task manager to this leader; a reconnected task manager has a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A task manager introduces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskManagerHello {
    /// Who and where it is.
    pub location: TaskManagerLocation,
    /// What it offers.
    pub slots: SlotOffer,
    /// The agent's process id.
    pub process_id: u32,
    /// The highest epoch this incarnation has seen.
    pub fence: LeaderEpoch,
}

/// What a task manager says after it has been welcomed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskManagerMessage {
    /// The complete truth of this incarnation; the first message of a session.
    Report {
        /// Attempts that it runs, and ended ones not yet acknowledged.
        attempts: Vec<AttemptReport>,
        /// Executor processes by job.
        executors: Vec<ExecutorProcess>,
        /// Finalizations not yet acknowledged by a release.
        finalized: Vec<FinalizationReport>,
        /// Every job of which it keeps anything, be it only a folder.
        hosted: Vec<JobId>,
        /// Acknowledged checkpoints of which no leader has said what became of them.
        checkpoints: Vec<CheckpointReport>,
    },
    /// It lives.
    Heartbeat {
        /// Echoed.
        sequence: u64,
        /// Per job: records that sources emitted and sinks took, in the executor that now runs.
        progress: Vec<(JobId, u64, u64)>,
    },
    /// An attempt changed its state.
    Attempt(AttemptReport),
    /// A finalization has ended.
    Finalized(FinalizationReport),
    /// What became of a checkpoint at one attempt.
    Checkpoint(CheckpointReport),
    /// An executor process has been started.
    Executor(ExecutorProcess),
}

/// An executor process: a job has one for each attempt number that a task manager runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecutorProcess {
    /// For which job.
    pub job: JobId,
    /// The number of the attempts that it runs.
    pub attempt: AttemptNumber,
    /// Its process id.
    pub process_id: u32,
}

/// Which of the two finalizations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalizationKind {
    /// Staged output was to be published.
    Commit,
    /// Staged output was to be dropped.
    Abort,
}

/// How a finalization ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalizationReport {
    /// Of which job.
    pub job: JobId,
    /// What was to be done.
    pub kind: FinalizationKind,
    /// None: it is done.
    pub failure: Option<Failure>,
}

/// What the leader wants of a task manager. Idempotent per epoch and attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskManagerCommand {
    /// Raise your fence to this command's epoch, then report.
    Welcome,
    /// Answers a heartbeat.
    HeartbeatAnswer {
        /// The heartbeat's number.
        sequence: u64,
    },
    /// Start these attempts.
    Deploy {
        /// The job.
        spec: Box<JobSpec>,
        /// Its schedule and what to start.
        deployment: JobDeployment,
    },
    /// Stop these attempts.
    Cancel {
        /// Which.
        attempts: Vec<ExecutionAttemptId>,
    },
    /// These attempts' terminal states are replicated: forget them.
    Acknowledge {
        /// Which.
        attempts: Vec<ExecutionAttemptId>,
    },
    /// Publish or drop what the job's sinks have staged.
    Finalize {
        /// The job.
        spec: Box<JobSpec>,
        /// Which of the two.
        finalization: Finalization,
    },
    /// Nothing of this job is wanted here any more: end its executor, remove its files.
    Release {
        /// The job.
        job: JobId,
    },
    /// Take part in a checkpoint, or hear what became of it.
    Checkpoint(CheckpointCommand),
}

impl fmt::Display for TaskManagerCommand {
    /// `deploy v0[0]#0 v1[0]#0`: what the leader logs before it sends.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, attempts): (_, &[ExecutionAttemptId]) = match self {
            Self::Welcome => ("welcome", &[]),
            Self::HeartbeatAnswer { .. } => ("heartbeat answer", &[]),
            Self::Deploy { deployment, .. } => ("deploy", &deployment.start),
            Self::Cancel { attempts } => ("cancel", attempts),
            Self::Acknowledge { attempts } => ("acknowledge", attempts),
            Self::Finalize { finalization: Finalization::Commit { attempts, .. }, .. } => {
                let numbers: BTreeSet<_> = attempts.values().collect();
                f.write_str("commit")?;
                return numbers.into_iter().try_for_each(|number| write!(f, " #{number}"));
            }
            Self::Finalize { finalization: Finalization::Abort { .. }, .. } => ("abort", &[]),
            Self::Release { .. } => ("release", &[]),
            Self::Checkpoint(command) => return write!(f, "{command}"),
        };
        f.write_str(name)?;
        attempts.iter().try_for_each(|attempt| write!(f, " {}#{}", attempt.vertex, attempt.attempt))
    }
}

/// A command with its fencing token and the one incarnation that may obey it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressedCommand {
    /// Who decided it.
    pub epoch: LeaderEpoch,
    /// Whom it is for.
    pub task_manager: TaskManagerId,
    /// What to do.
    pub command: TaskManagerCommand,
}

/// The part of a task manager's report that concerns one job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobReport {
    /// Its attempts there.
    pub attempts: Vec<AttemptReport>,
    /// A finalization that ended there.
    pub finalized: Option<FinalizationReport>,
    /// Acknowledged checkpoints of which no leader has said what became of them.
    pub checkpoints: Vec<CheckpointReport>,
}
