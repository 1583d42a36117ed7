//! Everything that a task manager can do.

use std::sync::Arc;

use tidemill_model::checkpoint::{CheckpointCommand, CheckpointReport};
use tidemill_model::execution::{AttemptReport, Failure, Finalization, JobDeployment};
use tidemill_model::id::{AttemptNumber, BlobId, ClusterId, ExecutionAttemptId, JobId};
use tidemill_model::job::JobSpec;

use super::event::Collected;
use super::executor_lifecycle::ExecutorId;
use super::executor_lifecycle::GenerationId;
use super::memory_limit::MemoryLimit;

/// What the runtime needs to start one executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorStart {
    /// Its number.
    pub executor: ExecutorId,
    /// The job.
    pub spec: Arc<JobSpec>,
    /// The attempt number of the job's tasks.
    pub attempt: AttemptNumber,
    /// The share of this task manager's memory that the job's slots are worth, in bytes.
    pub memory_bytes: u64,
    /// What it may use; none: whatever there is.
    pub memory_limit: Option<MemoryLimit>,
    /// The cluster, as the leader named it.
    pub cluster: ClusterId,
}

/// What an executor is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutorCommand {
    /// Run these.
    Deploy(JobDeployment),
    /// Stop these.
    Cancel(Vec<ExecutionAttemptId>),
    /// Publish or drop staged output.
    Finalize(Finalization),
    /// Take part in a checkpoint.
    Checkpoint(CheckpointCommand),
}

/// An executor process, for the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecutorReport {
    /// Whose attempts it runs.
    pub generation: GenerationId,
    /// Its process.
    pub process_id: u32,
}

/// What became of a finalization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalizationOutcome {
    /// The job.
    pub job: JobId,
    /// What was asked for.
    pub finalization: Finalization,
    /// Why it failed, when it did.
    pub failure: Option<Failure>,
}

/// The complete truth of this incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Attempts that it runs, and ended ones that are not yet acknowledged.
    pub attempts: Vec<AttemptReport>,
    /// Its executors.
    pub executors: Vec<ExecutorReport>,
    /// Finalizations that have an outcome.
    pub finalized: Vec<FinalizationOutcome>,
    /// Every job of which anything is kept, be it only a folder.
    pub hosted: Vec<JobId>,
    /// Acknowledged checkpoints of which no leader has said what became of them.
    pub checkpoints: Vec<CheckpointReport>,
}

/// What the leader is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outbound {
    /// Everything, once a session.
    Report(Report),
    /// One attempt has changed.
    Attempt(AttemptReport),
    /// One executor has started.
    Executor(ExecutorReport),
    /// One finalization has an outcome.
    Finalized(FinalizationOutcome),
    /// What became of a checkpoint at one attempt.
    Checkpoint(CheckpointReport),
}

/// Everything that the runtime can be asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Put an artifact into the cache, and say when it is there.
    FetchArtifact {
        /// Which.
        artifact: BlobId,
    },
    /// Start a process.
    StartExecutor(ExecutorStart),
    /// Tell an executor.
    SendToExecutor {
        /// Which.
        executor: ExecutorId,
        /// What.
        command: ExecutorCommand,
    },
    /// End an executor's process group, with SIGKILL.
    KillExecutor {
        /// Which.
        executor: ExecutorId,
    },
    /// Tell the leader.
    SendToCoordinator(Outbound),
    /// Store what an attempt gathered as blobs, and say when that is done.
    StoreCollected {
        /// Which attempt.
        attempt: ExecutionAttemptId,
        /// What it gathered.
        collected: Vec<Collected>,
    },
    /// Remove one generation's folder: its process is gone, the job goes on.
    RemoveGenerationFiles {
        /// Which.
        generation: GenerationId,
    },
    /// Nobody waits for these blobs any more.
    AbandonCollected {
        /// Whose.
        attempt: ExecutionAttemptId,
    },
    /// Remove a job's folder: none of its processes is left.
    RemoveJobFiles {
        /// Which job.
        job: JobId,
    },
    /// Leave this leader and look for another.
    DropSession {
        /// Why.
        reason: String,
    },
    /// A directive was refused: log it.
    Refuse {
        /// Why.
        reason: String,
    },
}
