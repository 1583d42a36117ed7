//! Why a program could not be run, or its job failed.

use tidemill_dataflow::runtime::sink::CollectError;
use tidemill_dataflow::{flow, runtime::process};
use tidemill_model::config;
use tidemill_model::execution::Failure;
use tidemill_model::id::JobId;

use crate::submission;

/// Why a program could not be run, or its job failed.
///
/// ```
/// use tidemill::{Environment, Error};
///
/// let env = Environment::with_arguments(["--parallelism", "many"]);
/// assert!(matches!(env, Err(Error::Arguments(_))));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is wrong.
    #[error("read arguments: {0}")]
    Arguments(String),
    /// An option is unknown, or its value is not allowed.
    #[error(transparent)]
    Configuration(#[from] config::Error),
    /// The job wants a state back-end that the program was built without.
    #[error(
        "use state.backend.type = rocksdb: this program was built without it; build it with the feature `rocksdb` of the \
         crate `tidemill`, or set state.backend.type to heap"
    )]
    NoRocksDb,
    /// The program describes no valid data flow.
    #[error(transparent)]
    Flow(#[from] flow::Error),
    /// The process could not take the role that its task manager gave it.
    #[error(transparent)]
    Executor(#[from] process::Error),
    /// A second environment would submit jobs, but an executor could not tell them from the first one's.
    #[error(
        "create environment: this process has made one before, and only the first can submit jobs; create one \
         Environment and keep it for the whole program"
    )]
    SecondEnvironment,
    /// The job failed.
    #[error("run job {job}: it failed: {failure}")]
    JobFailed {
        /// The job.
        job: JobId,
        /// Why.
        failure: Failure,
    },
    /// The job was cancelled.
    #[error("run job {job}: it was cancelled")]
    JobCanceled {
        /// The job.
        job: JobId,
    },
    /// The cluster could not be reached, or refused the job.
    #[error(transparent)]
    Submission(submission::Error),
    /// The handle belongs to another `execute`, or the records are not here.
    #[error("read collected records: {0}")]
    NotCollected(&'static str),
    /// A job under test cannot be fed.
    #[error(transparent)]
    Test(tidemill_dataflow::harness::Error),
    /// The program cannot use the folder of its checkpoints.
    #[error(transparent)]
    Checkpoints(#[from] tidemill_storage::Error),
    /// The records that arrived are damaged.
    #[error(transparent)]
    Collected(#[from] CollectError),
}

impl From<submission::Error> for Error {
    fn from(error: submission::Error) -> Self {
        match error {
            submission::Error::JobFailed { job, failure } => Self::JobFailed { job, failure },
            submission::Error::JobCanceled { job } => Self::JobCanceled { job },
            submission::Error::Client(_)
            | submission::Error::Unconfirmed { .. }
            | submission::Error::Savepoint(_)
            | submission::Error::Program(_)
            | submission::Error::Runtime(_) => Self::Submission(error),
        }
    }
}
