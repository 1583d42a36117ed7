//! Everything that can happen to a task manager.

use std::fmt;
use std::sync::Arc;

use tidemill_model::checkpoint::{CheckpointCommand, CheckpointReport};
use tidemill_model::execution::{AttemptReport, CollectedPart, Failure, Finalization, JobDeployment};
use tidemill_model::id::{BlobId, ClusterId, ExecutionAttemptId, JobId, LeaderEpoch, SubtaskIndex, TaskManagerId};
use tidemill_model::job::JobSpec;
use tidemill_model::job_graph::Fingerprint;

use super::executor_lifecycle::ExecutorId;

/// Records that sources emitted and sinks took, so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Emitted by sources.
    pub records_in: u64,
    /// Taken by sinks.
    pub records_out: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with status {code}"),
            Self::Signal(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "was killed by signal {signal} ({name})"),
                None => write!(f, "was killed by signal {signal}"),
            },
        }
    }
}

/// How an executor's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorExit {
    /// By itself or by a signal.
    pub status: ExitStatus,
    /// The last lines that it wrote to its standard error.
    pub last_words: String,
    /// The most memory that it was seen to use, counted as its limit counts it.
    pub memory_peak_bytes: u64,
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

/// What a `collect()` sub-task gathered, before it is a blob.
#[derive(Clone, PartialEq, Eq)]
pub struct Collected {
    /// Which of the program's `collect()` calls, from 0.
    pub collect_index: u32,
    /// Which sub-task of the sink.
    pub subtask: SubtaskIndex,
    /// The encoded records.
    pub records: Arc<[u8]>,
}

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "collect {}[{}]: {} bytes", self.collect_index, self.subtask, self.records.len())
    }
}

/// What a leader wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directive {
    /// Run these attempts.
    Deploy {
        /// The job, so that no question remains before its executor starts.
        spec: Box<JobSpec>,
        /// What to run, and the whole schedule.
        deployment: JobDeployment,
    },
    /// Stop these attempts.
    Cancel {
        /// Which.
        attempts: Vec<ExecutionAttemptId>,
    },
    /// The terminal states of these attempts are applied: forget them.
    Acknowledge {
        /// Which.
        attempts: Vec<ExecutionAttemptId>,
    },
    /// Publish or drop what the job's sinks have staged.
    Finalize {
        /// The job.
        spec: Box<JobSpec>,
        /// Which of both.
        finalization: Finalization,
    },
    /// The job has ended: nothing of it may remain.
    Release {
        /// Which job.
        job: JobId,
    },
    /// Take part in a checkpoint.
    Checkpoint(CheckpointCommand),
}

/// Which step an executor says that it has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalizationStep {
    /// Publishing.
    Commit,
    /// Dropping.
    Abort,
}

impl FinalizationStep {
    /// The step that a finalization asks for.
    #[must_use]
    pub fn of(finalization: &Finalization) -> Self {
        match finalization {
            Finalization::Commit { .. } => Self::Commit,
            Finalization::Abort { .. } => Self::Abort,
        }
    }
}

/// What an executor says of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptChange {
    /// The attempt and its state there.
    pub report: AttemptReport,
    /// What it gathered, when it has finished.
    pub collected: Vec<Collected>,
}

/// Everything that can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A leader has answered this incarnation's hello.
    Welcomed {
        /// The leader's epoch.
        epoch: LeaderEpoch,
        /// The incarnation that it speaks to.
        task_manager: TaskManagerId,
        /// The leader's cluster.
        cluster: ClusterId,
    },
    /// A leader wants something.
    Directed {
        /// The epoch that decided it.
        epoch: LeaderEpoch,
        /// The incarnation it is meant for.
        task_manager: TaskManagerId,
        /// What it wants.
        directive: Directive,
    },
    /// The stream to the leader has ended.
    SessionLost,
    /// An artifact lies in the cache.
    ArtifactReady {
        /// Which.
        artifact: BlobId,
    },
    /// An artifact could not be had, or is none.
    ArtifactFailed {
        /// Which.
        artifact: BlobId,
        /// Why.
        failure: Failure,
    },
    /// An executor's process runs.
    ExecutorStarted {
        /// Which.
        executor: ExecutorId,
        /// Its process.
        process_id: u32,
    },
    /// An executor's process could not be started.
    ExecutorStartFailed {
        /// Which.
        executor: ExecutorId,
        /// Why.
        failure: Failure,
    },
    /// An executor has built its graph.
    ExecutorReady {
        /// Which.
        executor: ExecutorId,
        /// The graph's fingerprint.
        fingerprint: Fingerprint,
    },
    /// The program cannot be an executor of its job.
    ExecutorRefused {
        /// Which.
        executor: ExecutorId,
        /// Why.
        failure: Failure,
    },
    /// An attempt has changed.
    AttemptChanged {
        /// Who says so.
        executor: ExecutorId,
        /// How.
        change: AttemptChange,
    },
    /// An executor has published or dropped its job's staged output, or failed to.
    ExecutorFinalized {
        /// Which.
        executor: ExecutorId,
        /// What it did.
        step: FinalizationStep,
        /// Why it could not.
        failure: Option<Failure>,
    },
    /// An executor says what became of a checkpoint at one of its attempts.
    CheckpointReported {
        /// Which.
        executor: ExecutorId,
        /// What.
        report: CheckpointReport,
    },
    /// An executor has counted on.
    Progressed {
        /// Which.
        executor: ExecutorId,
        /// How far.
        progress: Progress,
    },
    /// An executor's process has ended and its whole process group with it.
    ExecutorExited {
        /// Which.
        executor: ExecutorId,
        /// How.
        exit: ExecutorExit,
    },
    /// What an attempt gathered is stored as blobs.
    CollectedStored {
        /// Which attempt.
        attempt: ExecutionAttemptId,
        /// The blobs.
        parts: Vec<CollectedPart>,
    },
    /// What an attempt gathered is not accepted, and never will be.
    CollectedRefused {
        /// Which attempt.
        attempt: ExecutionAttemptId,
        /// Why not.
        failure: Failure,
    },
    /// Some time has passed.
    Tick,
    /// This agent is about to end.
    Shutdown,
}
