//! Calls that are sent once, to one coordinator, and never repeated: what became of each is told exactly.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use tidemill_model::id::JobId;
use tidemill_model::job::JobSpec;
use tidemill_proto::{convert, pb};

use super::connections::{Connections, Stub};
use super::leader_search::Refusal;
use super::{JobDetails, JobSummary, job_request, read_request};

/// Why a call has no answer, and whether it may have taken effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Refused before anything was decided, or never sent: surely without effect.
    #[error("not done: {0}")]
    NotDone(String),
    /// Decided, and refused by the decision: surely without effect.
    #[error("refused: {0}")]
    Refused(String),
    /// There is no such thing.
    #[error("not found: {0}")]
    NotFound(String),
    /// The answer was lost: it may have taken effect, or still will.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}

impl CallError {
    /// Whether the call surely had no effect and never will.
    #[must_use]
    pub fn surely_without_effect(&self) -> bool {
        match self {
            Self::NotDone(_) | Self::Refused(_) | Self::NotFound(_) => true,
            Self::Unknown(_) => false,
        }
    }
}

/// An answer, and where in the log it was decided, or up to where the log was applied when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered<T> {
    /// The place in the log.
    pub log_index: u64,
    /// The answer.
    pub value: T,
}

/// An operation on a register or a list of the chaos harness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChaosOperation {
    /// Sets the register.
    Write(i64),
    /// Sets the register if it has the expected value.
    CompareAndSet {
        /// What it must be; none: never written.
        expect: Option<i64>,
        /// To what.
        value: i64,
    },
    /// Adds to the end of the list.
    Append(i64),
    /// Reads both.
    Read,
}

/// What an operation of the chaos harness answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChaosAnswer {
    /// False when a swap found another value.
    pub done: bool,
    /// The register, of reads and of swaps that failed.
    pub register: Option<i64>,
    /// The list, of reads.
    pub list: Vec<i64>,
}

/// A client of one coordinator that repeats nothing: for checkers of histories, which must know of every request.
///
/// Programs use [`JobClient`](super::JobClient) instead.
#[derive(Debug)]
pub struct OnceClient {
    address: String,
    timeout: Duration,
    connections: Connections,
}

impl OnceClient {
    /// A client of the coordinator with this `host:port` client address; connects when first used.
    #[must_use]
    pub fn new(address: String, timeout: Duration) -> Self {
        Self { address, timeout, connections: Connections::default() }
    }

    /// Submits a job; true when this made it, false when the same submission was there already.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn submit_job(&self, spec: &JobSpec) -> Result<Answered<bool>, CallError> {
        let request = pb::SubmitJobRequest { spec: Some(spec.clone().into()) };
        let answer = self.call(|mut stub| async move { stub.submit_job(request).await }).await?;
        Ok(Answered { log_index: answer.log_index, value: answer.created })
    }

    /// Cancels a job.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn cancel_job(&self, job: JobId) -> Result<Answered<()>, CallError> {
        let answer = self.call(|mut stub| async move { stub.cancel_job(job_request(job)).await }).await?;
        Ok(Answered { log_index: answer.log_index, value: () })
    }

    /// All that the leader knows of a job.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn get_job(&self, job: JobId) -> Result<JobDetails, CallError> {
        let answer = self.call(|mut stub| async move { stub.get_job(read_request(job)).await }).await?;
        JobDetails::try_from(answer).map_err(|error| malformed(&error))
    }

    /// The cluster's jobs.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn list_jobs(&self) -> Result<Answered<Vec<JobSummary>>, CallError> {
        let answer = self.call(|mut stub| async move { stub.list_jobs(pb::ListJobsRequest::default()).await }).await?;
        let jobs: Result<_, _> = answer.jobs.into_iter().map(JobSummary::try_from).collect();
        Ok(Answered { log_index: answer.log_index, value: jobs.map_err(|error| malformed(&error))? })
    }

    /// One operation on a register or list; needs `coordinator.chaos-api`.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn chaos(&self, key: &str, operation: ChaosOperation) -> Result<Answered<ChaosAnswer>, CallError> {
        use pb::chaos_request::Operation;
        let operation = match operation {
            ChaosOperation::Write(value) => Operation::Write(value),
            ChaosOperation::CompareAndSet { expect, value } => Operation::Swap(pb::ChaosSwap { expect, value }),
            ChaosOperation::Append(value) => Operation::Append(value),
            ChaosOperation::Read => Operation::Read(pb::ChaosRead {}),
        };
        let request = pb::ChaosRequest { key: key.to_owned(), operation: Some(operation) };
        let answer = self.call(|mut stub| async move { stub.chaos(request).await }).await?;
        let value = ChaosAnswer { done: answer.done, register: answer.register, list: answer.list };
        Ok(Answered { log_index: answer.log_index, value })
    }

    async fn call<T, A>(&self, call: impl FnOnce(Stub) -> A) -> Result<T, CallError>
    where
        A: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let stub = self.connections.stub(&self.address).map_err(|refusal| match refusal {
            Refusal::Unreachable(reason) | Refusal::NoLeader(reason) | Refusal::NotFound(reason) => {
                CallError::NotDone(reason)
            }
            Refusal::NotLeader { .. } | Refusal::NotInitialized => CallError::NotDone("not leading".to_owned()),
        })?;
        match tokio::time::timeout(self.timeout, call(stub)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(judge(&status)),
            Err(_) => Err(CallError::Unknown(format!("no answer within {:?}", self.timeout))),
        }
    }
}

fn malformed(error: &convert::Error) -> CallError {
    CallError::Unknown(format!("the answer is malformed: {error}"))
}

fn judge(status: &tonic::Status) -> CallError {
    let message = status.message().to_owned();
    let Some(detail) = convert::error_detail(status) else {
        // Without a connection nothing was sent.
        return if never_connected(status) { CallError::NotDone(message) } else { CallError::Unknown(message) };
    };
    match detail.kind() {
        pb::ErrorKind::User => CallError::Refused(message),
        pb::ErrorKind::NotFound => CallError::NotFound(message),
        pb::ErrorKind::NotLeader | pb::ErrorKind::NoLeader | pb::ErrorKind::NotInitialized => {
            CallError::NotDone(message)
        }
        pb::ErrorKind::UnknownOutcome | pb::ErrorKind::Internal | pb::ErrorKind::Unspecified => {
            CallError::Unknown(message)
        }
    }
}

fn never_connected(status: &tonic::Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}
