//! The job client: finds the leading coordinator, follows it when it changes, and asks it things.
//!
//! Architecture invariant: this folder is the only place of the client that knows a network.

mod backup;
mod blobs;
mod checkpoint_overview;
mod connections;
mod error;
mod fall_back;
mod leader_search;
mod membership;
mod once;
mod pending_sinks;
mod reads;
mod savepoint;
mod task_managers;
#[cfg(test)]
pub(crate) mod tests;
mod types;

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tidemill_model::id::{ClusterId, JobId};
use tidemill_model::job::JobSpec;
use tidemill_proto::{convert, pb};

pub use self::backup::BackupSummary;
pub use self::checkpoint_overview::{
    CheckpointActivity, CheckpointFailure, CheckpointOverview, PendingCheckpoint, RetainedCheckpoint, SubtaskSnapshot,
};
use self::connections::{Connections, Stub, Verdict, judge};
pub use self::error::Error;
pub use self::fall_back::{FallBack, FallBackError};
use self::leader_search::{Audience, LeaderSearch, Refusal, Step};
pub use self::membership::{MemberStatus, MembershipChanged};
pub use self::once::{Answered, CallError, ChaosAnswer, ChaosOperation, OnceClient};
pub use self::pending_sinks::{NewestCommit, PendingSink, PendingSinks, PendingSinksError};
pub use self::reads::{Consistency, Freshness, Read};
pub use self::savepoint::{JobSavepoint, SavepointError, TakenSavepoint, savepoint_folder};
pub use self::task_managers::DrainingSet;
pub use self::types::{AttemptDetails, ClusterStatus, JobDetails, JobSummary, NodeStatus, Takeover, TaskManagerStatus};
use crate::clock;

/// How long a call looks for a coordinator that answers, unless told otherwise (`client.timeout`).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long watching a job goes on without hearing from any coordinator.
const WATCH_PATIENCE: Duration = Duration::from_secs(600);
/// A watch as silent as this attaches again: a leader that was cut off from its peers does not know it at once.
const WATCH_SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long one coordinator may take for a small answer before the next one is asked; calls are idempotent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// The shortest pause between two rounds.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause between two attachments of a watch.
const ATTACH_PAUSE_MAX: Duration = Duration::from_millis(100);

/// A client of one cluster; belongs to the tokio runtime that it is first used in.
///
/// Every call is idempotent and is repeated until a coordinator answers it or the time-out passes. A call that
/// failed by [`Error::AllUnreachable`] or [`Error::NoLeader`] may have taken effect all the same.
///
/// ```no_run
/// # async fn example() -> Result<(), tidemill::job_client::Error> {
/// let client = tidemill::job_client::JobClient::new(vec!["127.0.0.1:6123".to_owned()]);
/// for job in client.list_jobs().await? {
///     println!("{} {} {}", job.id, job.status, job.name);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct JobClient {
    coordinators: Vec<String>,
    timeout: Duration,
    connections: Connections,
    /// Who answered last as the leader.
    leader: Mutex<Option<String>>,
}

impl JobClient {
    /// A client of the cluster whose coordinators have these `host:port` client addresses; connects when first used.
    #[must_use]
    pub fn new(coordinators: Vec<String>) -> Self {
        let connections = Connections::default();
        Self { coordinators, timeout: DEFAULT_TIMEOUT, connections, leader: Mutex::new(None) }
    }

    /// The same client with another time-out for each call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The coordinators' addresses.
    #[must_use]
    pub fn coordinators(&self) -> &[String] {
        &self.coordinators
    }

    /// Submits a job; true when this made it, false when the same submission was there already.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the spec is wrong, or the id is taken by another spec.
    pub async fn submit_job(&self, spec: &JobSpec) -> Result<bool, Error> {
        let spec = pb::JobSpec::from(spec.clone());
        let call = |mut stub: Stub| {
            let request = pb::SubmitJobRequest { spec: Some(spec.clone()) };
            async move { stub.submit_job(request).await }
        };
        Ok(self.ask(Audience::Leader, Some(ANSWER_TIMEOUT), call).await?.into_inner().created)
    }

    /// All that is known of a job now; [`read_job`](Self::read_job) asks for less.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such job.
    pub async fn get_job(&self, job: JobId) -> Result<JobDetails, Error> {
        self.read_job(job, Consistency::Linearizable).await.map(|read| read.value)
    }

    /// The cluster's jobs, those in its history included.
    ///
    /// # Errors
    ///
    /// When no coordinator can answer.
    pub async fn list_jobs(&self) -> Result<Vec<JobSummary>, Error> {
        self.read_jobs(Consistency::Linearizable).await.map(|read| read.value)
    }

    /// Cancels a job; returns when the cancellation is committed, which is before the job has ended.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such job.
    pub async fn cancel_job(&self, job: JobId) -> Result<(), Error> {
        let call = |mut stub: Stub| async move { stub.cancel_job(job_request(job)).await };
        self.ask(Audience::Leader, Some(ANSWER_TIMEOUT), call).await?;
        Ok(())
    }

    /// Follows a job to its end, over changes of the leader, and tells of each change.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such job; a retryable error when coordinators were silent for 10 minutes.
    pub async fn watch_job(&self, job: JobId, mut on_change: impl FnMut(&JobDetails)) -> Result<JobDetails, Error> {
        self.watch_job_until(job, |details| {
            on_change(details);
            details.status.is_terminal()
        })
        .await
    }

    /// Follows a job over changes of the leader until `enough` says so of what has changed; that is returned.
    pub(crate) async fn watch_job_until(
        &self,
        job: JobId,
        mut enough: impl FnMut(&JobDetails) -> bool,
    ) -> Result<JobDetails, Error> {
        let mut last: Option<JobDetails> = None;
        let mut heard = clock::now();
        loop {
            let call = |mut stub: Stub| async move { stub.watch_job(read_request(job)).await };
            let mut stream = match self.ask(Audience::Reader, Some(ANSWER_TIMEOUT), call).await {
                Ok(answer) => answer.into_inner(),
                Err(error) if error.retryable() && clock::now() < heard + WATCH_PATIENCE => continue,
                Err(error) => return Err(error),
            };
            while let Some(details) = self.next_details(&mut stream).await? {
                heard = clock::now();
                if last.as_ref() != Some(&details) && enough(&details) {
                    return Ok(details);
                }
                last = Some(details);
            }
            pause(ATTACH_PAUSE_MAX).await;
        }
    }

    /// What each coordinator says of the cluster, asked at the same time and only once.
    pub async fn cluster_status(&self) -> Vec<(String, Result<ClusterStatus, Error>)> {
        let ask = |address: &String| {
            let address = address.clone();
            async move {
                let status = self.status_of(&address).await;
                (address, status)
            }
        };
        futures::future::join_all(self.coordinators.iter().map(ask)).await
    }

    /// What the leader says of the cluster, found as in every other call.
    ///
    /// # Errors
    ///
    /// When no leader answers.
    pub async fn leader_status(&self) -> Result<ClusterStatus, Error> {
        let deadline = clock::now() + self.timeout;
        loop {
            let mut search = LeaderSearch::new(self.coordinators.clone(), None, 0);
            let mut answers: FuturesUnordered<_> = self
                .coordinators
                .iter()
                .map(|address| async move { (address, self.status_of(address).await) })
                .collect();
            while let Some((address, answer)) = answers.next().await {
                match answer {
                    Ok(status) if status.from_leader() => return Ok(status),
                    Ok(_) => search.refused(address, Refusal::NoLeader("it follows".to_owned()))?,
                    Err(Error::NotInitialized) => search.refused(address, Refusal::NotInitialized)?,
                    Err(error) => search.refused(address, Refusal::Unreachable(error.to_string()))?,
                }
            }
            if clock::now() >= deadline {
                return Err(search.give_up());
            }
            pause(ATTACH_PAUSE_MAX).await;
        }
    }

    /// Makes the cluster, once in its life; asking again answers the same id.
    ///
    /// Only the first of the given coordinators is asked, so that an answer that was lost never leads to two clusters.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when a coordinator belongs to another cluster.
    pub async fn init_cluster(&self) -> Result<ClusterId, Error> {
        let first: Vec<String> = self.coordinators.iter().take(1).cloned().collect();
        let search = LeaderSearch::new(first, None, 0);
        let call = |mut stub: Stub| async move { stub.init_cluster(pb::InitClusterRequest {}).await };
        let answer = self.search(search, Audience::Anyone, None, call).await?.into_inner();
        convert::cluster_id(&answer.cluster_id, "InitClusterResponse.cluster_id")
            .map_err(|error| self.malformed(&error))
    }

    /// Asks until somebody answers.
    async fn ask<T, F, A>(&self, audience: Audience, answer_timeout: Option<Duration>, call: F) -> Result<T, Error>
    where
        F: Fn(Stub) -> A,
        A: Future<Output = Result<T, tonic::Status>>,
    {
        let start = rand::random_range(0..self.coordinators.len().max(1));
        let search = LeaderSearch::new(self.coordinators.clone(), self.remembered_leader(), start);
        self.search(search, audience, answer_timeout, call).await
    }

    async fn search<T, F, A>(
        &self,
        mut search: LeaderSearch,
        audience: Audience,
        answer_timeout: Option<Duration>,
        call: F,
    ) -> Result<T, Error>
    where
        F: Fn(Stub) -> A,
        A: Future<Output = Result<T, tonic::Status>>,
    {
        let deadline = clock::now() + self.timeout;
        loop {
            let address = match search.step() {
                Step::Try(address) => address,
                Step::Pause(_) if clock::now() >= deadline => return Err(search.give_up()),
                Step::Pause(pause_max) => {
                    pause(pause_max).await;
                    continue;
                }
            };
            match self.try_one(audience, &address, answer_timeout, &call).await {
                Ok(value) => {
                    match audience {
                        // One that follows names the leader when it is asked for what only the leader does.
                        Audience::Leader | Audience::Reader => self.remember_leader(Some(address)),
                        Audience::Anyone => {}
                    }
                    return Ok(value);
                }
                Err(Verdict::Final(error)) => return Err(error),
                Err(Verdict::Next(refusal)) => search.refused(&address, refusal)?,
            }
        }
    }

    async fn try_one<T, F, A>(
        &self,
        audience: Audience,
        address: &str,
        answer_timeout: Option<Duration>,
        call: &F,
    ) -> Result<T, Verdict>
    where
        F: Fn(Stub) -> A,
        A: Future<Output = Result<T, tonic::Status>>,
    {
        let stub = self.connections.stub(address).map_err(Verdict::Next)?;
        let answer = match answer_timeout {
            None => call(stub).await,
            Some(limit) => match tokio::time::timeout(limit, call(stub)).await {
                Ok(answer) => answer,
                Err(_) => Err(tonic::Status::deadline_exceeded(format!("no answer within {limit:?}"))),
            },
        };
        answer.map_err(|status| judge(audience, address, &status))
    }

    async fn status_of(&self, address: &str) -> Result<ClusterStatus, Error> {
        let call = |mut stub: Stub| async move { stub.cluster_status(pb::ClusterStatusRequest::default()).await };
        match self.try_one(Audience::Leader, address, Some(ANSWER_TIMEOUT), &call).await {
            Ok(answer) => ClusterStatus::try_from(answer.into_inner()).map_err(|error| self.malformed(&error)),
            Err(Verdict::Final(error)) => Err(error),
            Err(Verdict::Next(refusal)) => {
                let mut search = LeaderSearch::new(vec![address.to_owned()], None, 0);
                search.refused(address, refusal)?;
                Err(search.give_up())
            }
        }
    }

    /// The next message of a watch, or none when the watch must attach again.
    async fn next_details(&self, stream: &mut tonic::Streaming<pb::JobDetails>) -> Result<Option<JobDetails>, Error> {
        let Ok(message) = tokio::time::timeout(WATCH_SILENCE_MAX, stream.message()).await else {
            return Ok(None);
        };
        match message {
            Ok(Some(details)) => JobDetails::try_from(details).map(Some).map_err(|error| self.malformed(&error)),
            Ok(None) => Ok(None),
            Err(status) => {
                let leader = self.remembered_leader().unwrap_or_default();
                match judge(Audience::Leader, &leader, &status) {
                    Verdict::Final(error) => Err(error),
                    Verdict::Next(Refusal::NotLeader { leader }) => {
                        self.remember_leader(leader);
                        Ok(None)
                    }
                    Verdict::Next(
                        Refusal::NoLeader(_) | Refusal::NotInitialized | Refusal::NotFound(_) | Refusal::Unreachable(_),
                    ) => {
                        self.remember_leader(None);
                        Ok(None)
                    }
                }
            }
        }
    }

    fn remembered_leader(&self) -> Option<String> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember_leader(&self, leader: Option<String>) {
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = leader;
    }

    /// An answer that the wire contract does not allow.
    fn malformed(&self, error: &convert::Error) -> Error {
        let coordinator = self.remembered_leader().unwrap_or_else(|| self.coordinators.join(","));
        Error::Internal { coordinator, message: format!("its answer is malformed: {error}") }
    }
}

fn read_request(job: JobId) -> pb::ReadJobRequest {
    pb::ReadJobRequest { id: convert::uuid_bytes(job.0), ..pb::ReadJobRequest::default() }
}

fn job_request(job: JobId) -> pb::JobId {
    pb::JobId { id: convert::uuid_bytes(job.0) }
}

/// Waits for a random time between the shortest pause and `pause_max`, so that clients do not come in step.
async fn pause(pause_max: Duration) {
    tokio::time::sleep(rand::random_range(PAUSE_MIN..=pause_max.max(PAUSE_MIN))).await;
}
