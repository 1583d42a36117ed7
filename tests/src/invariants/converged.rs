//! Once all faults are over, everything heals: a leader, equal replicas, registered task managers, running jobs.

use tidemill_model::id::{ExecutionAttemptId, JobId, NodeId, TaskManagerId};

/// What has not healed in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Nobody leads.
    #[error("nobody leads")]
    NoLeader,
    /// A replica lags.
    #[error("node {node} has applied {applied} of {index} entries")]
    Lags {
        /// Which.
        node: NodeId,
        /// How far it is.
        applied: u64,
        /// How far the leader is.
        index: u64,
    },
    /// A task manager has no session.
    #[error("task manager tm-{place} has not found the leader")]
    NotRegistered {
        /// Which.
        place: usize,
    },
    /// A job is neither running nor over.
    #[error("job {job} is {status}")]
    Job {
        /// Which.
        job: JobId,
        /// How it stands.
        status: String,
    },
    /// A scheduled attempt does not run.
    #[error("attempt {attempt} is scheduled and does not run")]
    NotRunning {
        /// Which.
        attempt: ExecutionAttemptId,
    },
    /// A draining task manager is not left, although others have room.
    #[error("attempt {attempt} runs on task manager {task_manager}, which drains")]
    NotLeft {
        /// Who stays.
        attempt: ExecutionAttemptId,
        /// Where.
        task_manager: TaskManagerId,
    },
    /// A job takes no checkpoints any more.
    #[error("job {job} has completed no checkpoint since all faults are over")]
    NoCheckpoint {
        /// Which.
        job: JobId,
    },
    /// The leader's copy of a job is not what is replicated.
    #[error("the leader takes job {job} for another than the replicas do")]
    CopyDiffers {
        /// Which.
        job: JobId,
    },
}
