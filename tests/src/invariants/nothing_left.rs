//! Promise `nothing-left`: after a job's end no task, executor, slot, folder or staged output of it remains; and of a
//! job that runs, nothing remains but what its schedule wants.

use tidemill_model::id::{ExecutionAttemptId, JobId, TaskManagerId};

/// What is left of something that should be gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A task runs that nobody wants.
    #[error("attempt {attempt} runs on {task_manager}, and no schedule wants it")]
    Task {
        /// Which.
        attempt: ExecutionAttemptId,
        /// Where.
        task_manager: TaskManagerId,
    },
    /// An executor of a job that has ended.
    #[error("an executor of job {job} runs on {task_manager}, and the job has ended")]
    Executor {
        /// Whose.
        job: JobId,
        /// Where.
        task_manager: TaskManagerId,
    },
    /// A job's folder.
    #[error("a folder of job {job} is on {task_manager}, and the job has ended")]
    Folder {
        /// Whose.
        job: JobId,
        /// Where.
        task_manager: TaskManagerId,
    },
    /// A slot that nobody uses, and nobody gets.
    #[error("{free} slots of {task_manager} are free, and all but {used} should be")]
    Slot {
        /// Whose.
        task_manager: TaskManagerId,
        /// How many the leader takes for free.
        free: u32,
        /// How many schedules name.
        used: usize,
    },
    /// A file of a checkpoint.
    #[error("file {path} of job {job} is in the checkpoint storage, and the job has ended")]
    CheckpointFile {
        /// Whose.
        job: JobId,
        /// Which.
        path: String,
    },
    /// Staged output.
    #[error("output of attempt {attempt} is staged, and its job has ended")]
    Staged {
        /// Whose.
        attempt: ExecutionAttemptId,
    },
}
