//! What services may ask of the leader that lives in this process.

use std::collections::BTreeSet;
use std::sync::Arc;

use kameo::Reply;
use kameo::actor::ActorRef;
use tidemill_failpoint::FailPoint;
use tidemill_model::id::{BlobId, JobId, LeaderEpoch, NodeId, TaskManagerId};
use tidemill_model::job::{JobSpec, StopMode};
use tokio::sync::mpsc;

use super::context::{Decided, LeaderContext};
use super::dispatcher::{self, Dispatcher};
use super::job_master;
use super::resource_manager::{self, ResourceManagerActor};
use super::storage;
use crate::engine::leader::{
    AddressedCommand, AttemptObservation, CheckpointActivity, JobMasterEvent, SessionId, TaskManagerHello,
    TaskManagerMessage, TaskManagerObservation,
};
use crate::engine::replicated::{ChaosAnswer, ChaosCommand, CommandBody, Response};
use crate::runtime::spawn::spawn;

/// Why the leader did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The leadership is over; surely not done.
    #[error("ask the leader: this coordinator does not lead any more; ask the new leader")]
    NotLeader,
    /// The answer was lost.
    #[error("ask the leader: the outcome is unknown: {reason}; the request may be repeated, it is idempotent")]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// The request is wrong.
    #[error("{message}")]
    Refused {
        /// Why, and what to do.
        message: String,
    },
    /// No such job.
    #[error("find job {0}: no such job in this cluster; `tidemill list` names them")]
    UnknownJob(JobId),
    /// The replica has stopped.
    #[error("ask the leader: the coordinator has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// What the leader observes of a job, beside what is replicated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Reply)]
pub struct JobObservation {
    /// Its scheduled attempts.
    pub attempts: Vec<AttemptObservation>,
    /// Why it waits, when it does.
    pub waiting_reason: Option<String>,
    /// Records that its sources emitted.
    pub records_in: u64,
    /// Records that its sinks took.
    pub records_out: u64,
    /// What happens to its checkpoints; none: it takes none, or nobody observes it.
    pub checkpoints: Option<CheckpointActivity>,
}

/// An accepted job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// True: by this call; false: by an earlier one with the same content.
    pub created: bool,
    /// Where that was decided.
    pub log_index: u64,
}

/// One leadership's actors. Clones are cheap.
#[derive(Clone)]
pub struct LeaderHandle {
    pub(super) context: Arc<LeaderContext>,
    pub(super) dispatcher: ActorRef<Dispatcher>,
    pub(super) resource_manager: ActorRef<ResourceManagerActor>,
}

impl LeaderHandle {
    /// The leadership's epoch.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.context.epoch
    }

    /// Has a job accepted.
    ///
    /// # Errors
    ///
    /// When the specification is not usable, or there is no answer.
    pub async fn submit(&self, spec: JobSpec) -> Result<Accepted, Error> {
        let id = spec.id;
        spec.graph.validate().map_err(|error| Error::Refused { message: format!("submit job {id}: {error}") })?;
        // A submission that is repeated gets its first answer, whatever has become of the storage.
        if let Some(settings) = &spec.settings.checkpointing
            && self.context.job(id).1.is_none()
        {
            let refused = |reason| Error::Refused { message: format!("submit job {id}: {reason}") };
            storage::check(&settings.directory).await.map_err(refused)?;
        }
        let Decided { response, log_index, .. } = self.propose(CommandBody::SubmitJob { spec: Box::new(spec) }).await?;
        let refused = |reason: String| Err(Error::Refused { message: format!("submit job {id}: {reason}") });
        match response {
            Response::Submitted { created } => Ok(Accepted { created, log_index }),
            Response::Conflict => refused("the id belongs to a job with another content; take a fresh id".to_owned()),
            Response::Expired => refused("the id is older than the history that is kept; take a fresh id".to_owned()),
            Response::BlobMissing(blob) => refused(format!("artifact {blob} has not been uploaded; upload it first")),
            Response::Started(_)
            | Response::Lingered
            | Response::Stale { .. }
            | Response::Done
            | Response::UnknownJob
            | Response::Chaos(_)
            | Response::Superseded
            | Response::Refused { .. } => refused(format!("unexpected answer: {response}")),
        }
    }

    /// Has a job cancelled; answers when that is committed, with the place in the log; the job ends later.
    ///
    /// # Errors
    ///
    /// When the job is unknown or ending otherwise, or there is no answer.
    pub async fn cancel(&self, job: JobId) -> Result<u64, Error> {
        self.order(job, ("cancel", "cannot be cancelled"), CommandBody::CancelJob { job }).await
    }

    /// Has a job stopped, later, without losing what it has done; answers when that wish is committed, with the place in
    /// the log.
    ///
    /// # Errors
    ///
    /// When the job is unknown, ending, or takes no checkpoints to be suspended at, or there is no answer.
    pub async fn stop(&self, job: JobId, how: StopMode) -> Result<u64, Error> {
        if how == StopMode::Suspend {
            self.takes_checkpoints(job)?;
        }
        self.order(job, ("stop", "cannot be stopped any more"), CommandBody::StopJob { job, how }).await
    }

    /// Has an order to a job decided; answers with its place in the log. It is named by what it does, and by what a job
    /// that is ending says.
    async fn order(&self, job: JobId, (verb, refusal): (&str, &str), body: CommandBody) -> Result<u64, Error> {
        let Decided { response, log_index, .. } = self.propose(body).await?;
        match response {
            Response::Done => Ok(log_index),
            Response::UnknownJob => Err(Error::UnknownJob(job)),
            Response::Refused { status } => {
                Err(Error::Refused { message: format!("{verb} job {job}: it is {status} and {refusal}") })
            }
            response @ (Response::Started(_)
            | Response::Lingered
            | Response::Stale { .. }
            | Response::Submitted { .. }
            | Response::Conflict
            | Response::Expired
            | Response::Chaos(_)
            | Response::Superseded
            | Response::BlobMissing(_)) => {
                Err(Error::Refused { message: format!("{verb} job {job}: unexpected answer: {response}") })
            }
        }
    }

    /// Has the job's next checkpoint taken as a savepoint, and soon; nothing of the wish outlives this leadership.
    ///
    /// # Errors
    ///
    /// When the job is unknown, or takes no checkpoints.
    pub async fn trigger_savepoint(&self, job: JobId) -> Result<(), Error> {
        self.takes_checkpoints(job)?;
        if let Some(master) = self.dispatcher.ask(dispatcher::Find(job)).await.ok().flatten() {
            let wanted = job_master::Happened(JobMasterEvent::SavepointWanted);
            master.tell(wanted).await.map_err(|_| Error::NotLeader)?;
        }
        Ok(())
    }

    fn takes_checkpoints(&self, job: JobId) -> Result<(), Error> {
        let state = self.context.job(job).1.ok_or(Error::UnknownJob(job))?;
        if state.spec.settings.checkpointing.is_some() {
            return Ok(());
        }
        let message =
            format!("save job {job}: it takes no checkpoints; run it with execution.checkpointing.interval and .dir");
        Err(Error::Refused { message })
    }

    /// Has a task manager left by what runs there, or used again; answers when that is committed, with the place in the log.
    /// What runs there leaves later.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn set_draining(&self, task_manager: TaskManagerId, draining: bool) -> Result<u64, Error> {
        let decided = self.propose(CommandBody::SetDraining { task_manager, draining }).await?;
        match decided.response {
            Response::Done => Ok(decided.log_index),
            response @ (Response::Started(_)
            | Response::Lingered
            | Response::Stale { .. }
            | Response::Submitted { .. }
            | Response::Conflict
            | Response::Expired
            | Response::UnknownJob
            | Response::Chaos(_)
            | Response::Superseded
            | Response::Refused { .. }
            | Response::BlobMissing(_)) => Err(Error::Refused {
                message: format!("drain task manager {task_manager}: unexpected answer: {response}"),
            }),
        }
    }

    /// Decides an operation of the chaos harness; also its place in the log.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn chaos(&self, command: ChaosCommand) -> Result<(ChaosAnswer, u64), Error> {
        let Decided { response, log_index, .. } = self.propose(CommandBody::Chaos(command)).await?;
        match response {
            Response::Chaos(answer) => Ok((answer, log_index)),
            response @ (Response::Started(_)
            | Response::Lingered
            | Response::Stale { .. }
            | Response::Done
            | Response::Submitted { .. }
            | Response::Conflict
            | Response::Expired
            | Response::BlobMissing(_)
            | Response::UnknownJob
            | Response::Superseded
            | Response::Refused { .. }) => Err(Error::Refused { message: format!("unexpected answer: {response}") }),
        }
    }

    /// Notes that a majority holds a blob.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn register_blob(&self, blob: BlobId, size_bytes: u64, holders: BTreeSet<NodeId>) -> Result<(), Error> {
        self.propose(CommandBody::RegisterBlob { blob, size_bytes, holders }).await.map(drop)
    }

    /// Lets a task manager in. Its first message has to be a report, composed after it saw `Welcome`.
    ///
    /// # Errors
    ///
    /// When the leadership is over.
    pub async fn open_session(
        &self,
        hello: TaskManagerHello,
        outbound: mpsc::Sender<AddressedCommand>,
    ) -> Result<SessionInbox, Error> {
        let open = resource_manager::Open { hello, outbound };
        let session = self.resource_manager.ask(open).await.map_err(|_| Error::NotLeader)?;
        Ok(SessionInbox { session: SessionId(session), resource_manager: self.resource_manager.clone() })
    }

    /// What the leader observes of an unfinished job.
    pub async fn observe_job(&self, job: JobId) -> Option<JobObservation> {
        let Some(master) = self.dispatcher.ask(dispatcher::Find(job)).await.ok()? else {
            let waiting_reason = Some(self.dispatcher.ask(dispatcher::GivenUp(job)).await.ok()??);
            return Some(JobObservation { waiting_reason, ..JobObservation::default() });
        };
        let mut observation = master.ask(job_master::Observe).await.ok()?;
        let waiting = self.resource_manager.ask(resource_manager::Waiting(job)).await;
        observation.waiting_reason = waiting.unwrap_or_default();
        Some(observation)
    }

    /// The task managers that are here.
    pub async fn task_managers(&self) -> Vec<TaskManagerObservation> {
        self.resource_manager.ask(resource_manager::Observe).await.unwrap_or_default()
    }

    /// Proposes in a task of its own: a caller that goes away must not keep the dispatcher from hearing of a new job.
    /// Masters hear what was decided from the log.
    async fn propose(&self, body: CommandBody) -> Result<Decided, Error> {
        let handle = self.clone();
        let proposal = spawn("propose", async move {
            let decided = handle.context.propose(body.clone()).await?;
            if matches!(body, CommandBody::SubmitJob { .. }) {
                FailPoint::JobSubmitPostPropose.hit();
            }
            if let (CommandBody::SubmitJob { spec }, Response::Submitted { .. }) = (&body, &decided.response) {
                // The job is durable: if this leadership has ended meanwhile, the next one starts it.
                let _ = handle.dispatcher.tell(dispatcher::Submitted(spec.id)).await;
            }
            Ok(decided)
        });
        proposal.await.unwrap_or_else(|error| {
            // It panicked, perhaps between the decision and the news of it.
            self.context.end();
            Err(Error::Unknown { reason: error.to_string() })
        })
    }
}

/// The inbound half of a session. Dropping it tells the leader that the stream is lost.
pub struct SessionInbox {
    session: SessionId,
    resource_manager: ActorRef<ResourceManagerActor>,
}

impl SessionInbox {
    /// Hands a message to the leader, waiting while its mailbox is full.
    ///
    /// # Errors
    ///
    /// When the leadership is over.
    pub async fn deliver(&self, message: TaskManagerMessage) -> Result<(), Error> {
        let inbound = resource_manager::Inbound { session: self.session, message };
        self.resource_manager.tell(inbound).await.map_err(|_| Error::NotLeader)
    }
}

impl Drop for SessionInbox {
    fn drop(&mut self) {
        let (session, resource_manager) = (self.session, self.resource_manager.clone());
        if tokio::runtime::Handle::try_current().is_ok() {
            spawn("session-closed", async move {
                // An error means that the leadership is over, and with it the session.
                let _ = resource_manager.tell(resource_manager::Closed(session)).await;
            });
        }
    }
}
