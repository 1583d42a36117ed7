//! A client learns how its job ended, and it is what was decided.

use tidemill_model::id::JobId;
use tidemill_model::job::JobStatus;

/// How it was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It was told nothing.
    #[error("job {job} is {status}, and its client was not told of an end")]
    NotTold {
        /// Which.
        job: JobId,
        /// How it stands.
        status: String,
    },
    /// It was told something else.
    #[error("the client of job {job} was told {told}, and the job is {status}")]
    Different {
        /// Which.
        job: JobId,
        /// What it was told.
        told: String,
        /// How it stands.
        status: String,
    },
}

/// Compares what a client was told with what was decided.
pub(crate) fn check(job: JobId, told: Option<&JobStatus>, decided: Option<&JobStatus>) -> Result<(), Violation> {
    let status = decided.map_or("nothing", |status| status.name()).to_owned();
    match told {
        None => Err(Violation::NotTold { job, status }),
        Some(told) if Some(told) != decided => Err(Violation::Different { job, told: told.to_string(), status }),
        Some(_) => Ok(()),
    }
}
