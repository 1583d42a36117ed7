//! The actor around one job's engine.

use std::sync::Arc;

use kameo::Actor;
use kameo::actor::{ActorRef, WeakActorRef};
use kameo::error::{Infallible, SendError};
use kameo::message::{Context, Message};
use tidemill_event_log::{EventLog, manifest_files, manifest_sha};
use tidemill_failpoint::FailPoint;
use tidemill_model::event::Event;
use tidemill_model::id::JobId;
use tokio::sync::watch;

use super::context::{LeaderContext, MAILBOX_CAPACITY};
use super::dispatcher::{self, Dispatcher};
use super::handle::JobObservation;
use super::resource_manager::{self, ResourceManagerActor};
use super::storage::{self, Request};
use crate::engine::leader::{CheckpointNote, JobMaster, JobMasterAction, JobMasterEvent, StorageAnswer};
use crate::engine::replicated::{CommandBody, Garbage};
use crate::runtime::spawn::{OwnedTask, spawn};

/// What a job master is started with, and restarted.
#[derive(Clone)]
pub(super) struct Arguments {
    pub(super) job: JobId,
    pub(super) context: Arc<LeaderContext>,
    pub(super) dispatcher: ActorRef<Dispatcher>,
    pub(super) resource_manager: ActorRef<ResourceManagerActor>,
    pub(super) undecided: Undecided,
}

/// What a job's masters have proposed and no answer has come to. One that is restarted begins only when there is nothing:
/// it would decide the same once more, and both would be lawful.
#[derive(Clone, Default)]
pub(super) struct Undecided(Arc<watch::Sender<usize>>);

/// One proposal, until it is dropped.
struct Proposed(Undecided);

impl Undecided {
    fn begin(&self) -> Proposed {
        self.0.send_modify(|count| *count += 1);
        Proposed(self.clone())
    }

    /// A proposal without an answer ends the leadership, and the masters with it.
    pub(super) async fn settled(&self) {
        // The sender lives as long as this.
        drop(self.0.subscribe().wait_for(|count| *count == 0).await);
    }
}

impl Drop for Proposed {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// One job's master: owns its engine and carries out what it wants.
pub(super) struct JobMasterActor {
    arguments: Arguments,
    engine: JobMaster,
    /// It was started from the state as applied up to here: earlier decisions are in it.
    started_at: u64,
    /// Present while the engine depends on the time. A master that is started again has ticks of its own.
    ticks: Option<OwnedTask>,
}

/// Something happened to the job.
pub(super) struct Happened(pub(super) JobMasterEvent);

/// A decision about the job has been applied, at this index.
pub(super) struct Decided {
    pub(super) index: u64,
    pub(super) event: JobMasterEvent,
}

/// Asks for what is observed.
pub(super) struct Observe;

impl Actor for JobMasterActor {
    type Args = Arguments;
    type Error = Infallible;

    async fn on_start(arguments: Arguments, me: ActorRef<Self>) -> Result<Self, Infallible> {
        arguments.undecided.settled().await;
        let context = &arguments.context;
        let (started_at, job) = context.job(arguments.job);
        let job = job.expect("the dispatcher starts masters of jobs that are in the state");
        let engine = JobMaster::new(context.settings.job_master(), job, context.clock.now());
        deliver(
            arguments
                .resource_manager
                .tell(resource_manager::JobStarted { job: arguments.job, master: me.clone() })
                .try_send(),
        );
        let mut actor = Self { arguments, engine, started_at, ticks: None };
        // Before what its former self has left in the mailbox.
        actor.step(JobMasterEvent::Started, &me);
        Ok(actor)
    }
}

async fn tick(master: WeakActorRef<JobMasterActor>, interval: std::time::Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(master) = master.upgrade() else { return };
        if let Err(SendError::ActorNotRunning(_) | SendError::ActorStopped) =
            master.tell(Happened(JobMasterEvent::Tick)).try_send()
        {
            return;
        }
    }
}

/// A message that cannot be delivered because its receiver has ended is moot: the leadership ends with it. So is one
/// to an actor that is being restarted: it starts from what is durable and has every task manager report again.
/// One that does not fit a full mailbox must not be dropped silently: the sender panics and is restarted itself.
pub(super) fn deliver<M>(outcome: Result<(), SendError<M, Infallible>>) {
    match outcome {
        Ok(()) | Err(SendError::ActorNotRunning(_) | SendError::ActorStopped | SendError::ActorRestarting(_)) => {}
        Err(SendError::MailboxFull(_)) => panic!("a mailbox of {MAILBOX_CAPACITY} messages is full"),
        Err(SendError::Timeout(_) | SendError::HandlerError(_)) => unreachable!("tell has neither timeout nor reply"),
    }
}

impl Message<Happened> for JobMasterActor {
    type Reply = ();

    async fn handle(&mut self, Happened(event): Happened, context: &mut Context<Self, ()>) {
        if event == JobMasterEvent::Tick {
            FailPoint::JobMasterTick.hit();
        }
        self.step(event, context.actor_ref());
    }
}

impl Message<Decided> for JobMasterActor {
    type Reply = ();

    async fn handle(&mut self, Decided { index, event }: Decided, context: &mut Context<Self, ()>) {
        if index > self.started_at {
            self.step(event, context.actor_ref());
        }
    }
}

impl Message<Observe> for JobMasterActor {
    type Reply = JobObservation;

    async fn handle(&mut self, _: Observe, _: &mut Context<Self, JobObservation>) -> JobObservation {
        let (records_in, records_out) = self.engine.records();
        let checkpoints = self.engine.observe_checkpoints(self.arguments.context.clock.now());
        JobObservation { attempts: self.engine.observe(), waiting_reason: None, records_in, records_out, checkpoints }
    }
}

impl JobMasterActor {
    /// Ticks only while they can change something: of a thousand jobs most may be waiting for slots.
    fn keep_time(&mut self, me: &ActorRef<Self>) {
        if !self.engine.depends_on_time() {
            self.ticks = None;
        } else if self.ticks.is_none() {
            let ticks = tick(me.downgrade(), self.arguments.context.settings.tick);
            self.ticks = Some(OwnedTask::spawn("job-master-tick", ticks));
        }
    }

    fn step(&mut self, event: JobMasterEvent, me: &ActorRef<Self>) {
        let leadership = &self.arguments.context;
        let now = leadership.clock.now();
        let span = tracing::info_span!("job", job_id = %self.arguments.job, leader_epoch = %leadership.epoch);
        span.in_scope(|| {
            for action in self.engine.step(now, event) {
                self.act(action, me);
            }
        });
        self.keep_time(me);
    }

    fn act(&self, action: JobMasterAction, me: &ActorRef<Self>) {
        let job = self.arguments.job;
        let resource_manager = &self.arguments.resource_manager;
        match action {
            JobMasterAction::Propose(body) => {
                if matches!(body, CommandBody::CompleteCheckpoint { .. }) {
                    FailPoint::CheckpointPreCommit.hit();
                }
                let proposed = self.arguments.undecided.begin();
                spawn("propose", propose(self.arguments.context.clone(), body, proposed));
            }
            JobMasterAction::RequestSlots { request, requirements, former } => {
                let requested = resource_manager::RequestSlots { job, request, requirements, former };
                deliver(resource_manager.tell(requested).try_send());
            }
            JobMasterAction::ReturnSlots { slots } => {
                deliver(resource_manager.tell(resource_manager::ReturnSlots { job, slots }).try_send());
            }
            JobMasterAction::DeleteFiles(garbage) => self.ask_storage(Request::Delete(garbage), me),
            JobMasterAction::Note(note) => self.note(note),
            JobMasterAction::ListFiles => self.ask_storage(Request::List, me),
            JobMasterAction::ReleaseSlots => {
                deliver(resource_manager.tell(resource_manager::ReleaseSlots(job)).try_send());
            }
            JobMasterAction::Send { task_manager, command } => {
                tracing::debug!(task_manager_id = %task_manager, %command, "send");
                deliver(resource_manager.tell(resource_manager::Send { task_manager, command }).try_send());
            }
            JobMasterAction::Ended => {
                deliver(resource_manager.tell(resource_manager::JobEnded(job)).try_send());
                deliver(self.arguments.dispatcher.tell(dispatcher::Ended(job)).try_send());
            }
        }
    }
}

impl JobMasterActor {
    fn note(&self, note: CheckpointNote) {
        let (job, context) = (self.arguments.job, &self.arguments.context);
        let term = context.epoch;
        let point = match note {
            CheckpointNote::Triggered(_) => Some(FailPoint::CheckpointTrigger),
            CheckpointNote::Completed(_) => Some(FailPoint::CheckpointPostCommit),
            CheckpointNote::Aborted(..) => None,
        };
        context.events.write(|| match note {
            CheckpointNote::Triggered(id) => Event::CkptTrigger { job, id: id.0, term },
            CheckpointNote::Completed(id) => {
                let completed = self.engine.job().checkpoints.completed.get(&id);
                let files = completed.map(|completed| manifest_files(&completed.states)).unwrap_or_default();
                let manifest_sha = completed.map(|completed| manifest_sha(&completed.states));
                Event::CkptComplete { job, id: id.0, term, manifest_sha, files }
            }
            CheckpointNote::Aborted(id, reason) => Event::CkptAbort { job, id: id.0, term, reason: reason.to_string() },
        });
        if let Some(point) = point {
            point.hit();
        }
    }

    /// In a task of its own: a storage that does not answer holds up nothing else.
    fn ask_storage(&self, request: Request, me: &ActorRef<Self>) {
        let Some(settings) = &self.engine.job().spec.settings.checkpointing else { return };
        let (directory, job, me) = (settings.directory.clone(), self.arguments.job, me.downgrade());
        let events = self.arguments.context.events.clone();
        spawn("checkpoint-storage", async move {
            let answer = storage::carry_out(directory, job, request).await.unwrap_or_else(|error| {
                tracing::warn!(job_id = %job, %error, "checkpoint storage; it is tried again");
                StorageAnswer::Failed
            });
            if let StorageAnswer::Deleted(garbage) = &answer {
                note_deleted(&events, job, garbage);
            }
            if let Some(me) = me.upgrade() {
                deliver(me.tell(Happened(JobMasterEvent::StorageAnswered(answer))).try_send());
            }
        });
    }
}

fn note_deleted(events: &EventLog, job: JobId, garbage: &Garbage) {
    match garbage {
        Garbage::Files(paths) => {
            paths.iter().for_each(|path| events.write(|| Event::GcDelete { path: format!("{job}/{path}") }));
        }
        Garbage::Folder => events.write(|| Event::GcDelete { path: job.to_string() }),
    }
}

#[tracing::instrument(skip_all, fields(leader_epoch = %context.epoch, command = body.name()))]
async fn propose(context: Arc<LeaderContext>, body: CommandBody, _proposed: Proposed) {
    // The dispatcher hears of it when it is applied. Without an answer the leadership ends, and what came of the proposal
    // is for the next one to see.
    if let Err(error) = context.propose(body).await {
        tracing::debug!(%error, "a proposal has no answer");
    }
}
