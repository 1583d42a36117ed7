//! What becomes of a job whose master panics again and again.

use tidemill_model::job::JobStatus;
use tidemill_model::mutant::{self, Mutant};

/// Who follows a master that has given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// Nobody who goes on with the work: the job is failed, and a last master has its tasks end.
    Fail,
    /// Another master, after a pause.
    BeginAgain,
}

impl Succession {
    /// `job-isolation` asks that a job whose work goes on fails when its master cannot lead it: its slots are others' then.
    /// One that is ending is not failed, and least of all one that commits: its work is done, its last checkpoint is
    /// completed, and what its sinks prepared becomes visible, however often that has to be tried.
    #[must_use]
    pub fn of(status: &JobStatus) -> Self {
        match status {
            JobStatus::Created | JobStatus::Running | JobStatus::Restarting => Self::Fail,
            JobStatus::Committing if mutant::active(Mutant::CommitGivenUp) => Self::Fail,
            JobStatus::Cancelling
            | JobStatus::Failing(_)
            | JobStatus::Committing
            | JobStatus::Finished(_)
            | JobStatus::Canceled
            | JobStatus::Failed(_) => Self::BeginAgain,
        }
    }
}
