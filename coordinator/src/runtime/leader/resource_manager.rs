//! The actor around the engine of task managers and slots; it owns the sessions' outbound halves.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use kameo::Actor;
use kameo::actor::{ActorRef, WeakActorRef};
use kameo::error::{Infallible, SendError};
use kameo::message::{Context, Message};
use tidemill_model::id::{JobId, TaskManagerId};
use tidemill_model::job_graph::SlotRequirements;
use tidemill_model::slot::SlotId;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::context::LeaderContext;
use super::job_master::{Happened, JobMasterActor, deliver};
use crate::engine::leader::{
    AddressedCommand, Grant, JobMasterEvent, ResourceManager, ResourceManagerAction, ResourceManagerEvent, SessionId,
    SlotRequestId, TaskManagerCommand, TaskManagerHello, TaskManagerMessage, TaskManagerObservation,
};
use crate::engine::replicated::{CommandBody, JobState};
use crate::runtime::spawn::{OwnedTask, spawn};

/// How long a probe of a task manager's port may take; no answer is no proof of death.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// The leadership's view of its task managers.
pub(super) struct ResourceManagerActor {
    context: Arc<LeaderContext>,
    engine: ResourceManager,
    sessions: BTreeMap<SessionId, mpsc::Sender<AddressedCommand>>,
    masters: BTreeMap<JobId, ActorRef<JobMasterActor>>,
    last_session: u64,
    _ticks: OwnedTask,
}

/// A task manager opens a session.
pub(super) struct Open {
    pub(super) hello: TaskManagerHello,
    pub(super) outbound: mpsc::Sender<AddressedCommand>,
}

/// A task manager says something.
pub(super) struct Inbound {
    pub(super) session: SessionId,
    pub(super) message: TaskManagerMessage,
}

/// A session's stream has ended.
pub(super) struct Closed(pub(super) SessionId);

/// A job master runs.
pub(super) struct JobStarted {
    pub(super) job: JobId,
    pub(super) master: ActorRef<JobMasterActor>,
}

/// A job has ended.
pub(super) struct JobEnded(pub(super) JobId);

/// A task manager is to be left, or may be used again.
pub(super) struct SetDraining {
    pub(super) task_manager: TaskManagerId,
    pub(super) draining: bool,
}

/// A job needs slots.
pub(super) struct RequestSlots {
    pub(super) job: JobId,
    pub(super) request: SlotRequestId,
    pub(super) requirements: SlotRequirements,
    pub(super) former: Vec<Option<TaskManagerId>>,
}

/// A job has no use for some of its slots.
pub(super) struct ReturnSlots {
    pub(super) job: JobId,
    pub(super) slots: BTreeMap<SlotId, SlotRequestId>,
}

/// A job needs no slots.
pub(super) struct ReleaseSlots(pub(super) JobId);

/// A job master has something to say to a task manager.
pub(super) struct Send {
    pub(super) task_manager: TaskManagerId,
    pub(super) command: TaskManagerCommand,
}

/// Asks why a job waits.
pub(super) struct Waiting(pub(super) JobId);

/// Asks for all task managers.
pub(super) struct Observe;

struct Probed {
    task_manager: TaskManagerId,
    refused: bool,
}

struct Tick;

impl Actor for ResourceManagerActor {
    type Args = Arc<LeaderContext>;
    type Error = Infallible;

    async fn on_start(context: Arc<LeaderContext>, me: ActorRef<Self>) -> Result<Self, Infallible> {
        let (allocated, draining): (Vec<(SlotId, JobId)>, Vec<TaskManagerId>) = context
            .log
            .state()
            .read(|state| (state.scheduled_slots().collect(), state.draining.keys().copied().collect()));
        let engine = ResourceManager::new(context.settings.detector(), allocated)
            .with_placement(context.settings.placement)
            .with_draining(draining);
        let ticks = OwnedTask::spawn("resource-manager-tick", tick(me.downgrade(), context.settings.tick));
        let (sessions, masters) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { context, engine, sessions, masters, last_session: 0, _ticks: ticks })
    }
}

async fn tick(resource_manager: WeakActorRef<ResourceManagerActor>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(resource_manager) = resource_manager.upgrade() else { return };
        if let Err(SendError::ActorNotRunning(_) | SendError::ActorStopped) = resource_manager.tell(Tick).try_send() {
            return;
        }
    }
}

impl ResourceManagerActor {
    fn step(&mut self, event: ResourceManagerEvent, me: &ActorRef<Self>) {
        for action in self.engine.step(self.context.clock.now(), event) {
            self.act(action, me);
        }
    }

    fn act(&mut self, action: ResourceManagerAction, me: &ActorRef<Self>) {
        match action {
            ResourceManagerAction::Send { session, task_manager, command } => {
                self.send(session, task_manager, command);
            }
            ResourceManagerAction::Close { session } => {
                self.sessions.remove(&session);
            }
            ResourceManagerAction::Registered { job, location, report } => {
                tracing::debug!(
                    job_id = %job, task_manager_id = %location.id, leader_epoch = %self.context.epoch,
                    attempts = report.attempts.len(), "task manager reported"
                );
                self.tell(job, JobMasterEvent::TaskManagerRegistered { location, report });
            }
            ResourceManagerAction::DrainingChanged { job, task_manager, draining } => {
                self.tell(job, JobMasterEvent::DrainingChanged { task_manager, draining });
            }
            ResourceManagerAction::Lost { task_manager, reason } => {
                tracing::warn!(task_manager_id = %task_manager, leader_epoch = %self.context.epoch, reason);
                for &job in self.masters.keys() {
                    let reason = reason.clone();
                    self.tell(job, JobMasterEvent::TaskManagerLost { task_manager, reason });
                }
            }
            ResourceManagerAction::Forward { job, task_manager, message } => self.forward(job, task_manager, message),
            ResourceManagerAction::Granted { grant, locations } => {
                let Grant { job, request, slots } = grant;
                self.tell(job, JobMasterEvent::SlotsGranted { request, slots, locations });
            }
            ResourceManagerAction::SlotsHeld { job, slots, last_request } => {
                self.tell(job, JobMasterEvent::SlotsHeld { slots, last_request });
            }
            ResourceManagerAction::Straggled { job } => {
                let state = self.context.log.state();
                if state.read(|state| state.jobs.get(&job).is_some_and(JobState::cleans_up_after_stragglers)) {
                    let context = Arc::clone(&self.context);
                    // A refusal needs no answer: the leadership is over, or the job is forgotten.
                    spawn("propose", async move { drop(context.propose(CommandBody::RecordStraggler { job }).await) });
                }
            }
            ResourceManagerAction::ProbePort { task_manager, data_address } => {
                spawn("probe-port", probe(me.clone(), task_manager, data_address));
            }
        }
    }

    fn forward(&self, job: JobId, task_manager: TaskManagerId, message: TaskManagerMessage) {
        match message {
            TaskManagerMessage::Attempt(report) => {
                self.tell(job, JobMasterEvent::AttemptChanged { task_manager, report });
            }
            TaskManagerMessage::Finalized(report) => self.tell(job, JobMasterEvent::Finalized { task_manager, report }),
            TaskManagerMessage::Checkpoint(report) => self.tell(job, JobMasterEvent::CheckpointReported { report }),
            TaskManagerMessage::Executor(executor) => {
                self.tell(job, JobMasterEvent::ExecutorStarted { task_manager, executor });
            }
            TaskManagerMessage::Heartbeat { progress, .. } => {
                for (_, records_in, records_out) in progress {
                    self.tell(job, JobMasterEvent::Progressed { task_manager, records_in, records_out });
                }
            }
            // Split by the engine before it gets here.
            TaskManagerMessage::Report { .. } => {}
        }
    }

    fn tell(&self, job: JobId, event: JobMasterEvent) {
        if let Some(master) = self.masters.get(&job) {
            deliver(master.tell(Happened(event)).try_send());
        }
    }

    /// A task manager that does not drain its stream is cut off; it reconnects and reports.
    fn send(&mut self, session: SessionId, task_manager: TaskManagerId, command: TaskManagerCommand) {
        let Some(outbound) = self.sessions.get(&session) else { return };
        let addressed = AddressedCommand { epoch: self.context.epoch, task_manager, command };
        if outbound.try_send(addressed).is_err() {
            tracing::debug!(task_manager_id = %task_manager, %session, "session closed: it does not drain");
            self.sessions.remove(&session);
        }
    }
}

async fn probe(me: ActorRef<ResourceManagerActor>, task_manager: TaskManagerId, data_address: String) {
    let connect = tokio::time::timeout(PROBE_TIMEOUT, TcpStream::connect(&data_address)).await;
    let refused = matches!(connect, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused);
    // An error means that the leadership is over.
    let _ = me.tell(Probed { task_manager, refused }).await;
}

impl Message<Open> for ResourceManagerActor {
    type Reply = u64;

    async fn handle(&mut self, open: Open, context: &mut Context<Self, u64>) -> u64 {
        self.last_session += 1;
        let session = SessionId(self.last_session);
        self.sessions.insert(session, open.outbound);
        let location = &open.hello.location;
        tracing::info!(
            task_manager_id = %location.id, name = %location.name, data_address = location.data_address,
            leader_epoch = %self.context.epoch, "task manager came"
        );
        let me = context.actor_ref().clone();
        self.step(ResourceManagerEvent::Hello { session, hello: open.hello }, &me);
        session.0
    }
}

impl Message<Closed> for ResourceManagerActor {
    type Reply = ();

    async fn handle(&mut self, Closed(session): Closed, context: &mut Context<Self, ()>) {
        self.sessions.remove(&session);
        let me = context.actor_ref().clone();
        self.step(ResourceManagerEvent::SessionClosed { session }, &me);
    }
}

impl Message<JobStarted> for ResourceManagerActor {
    type Reply = ();

    async fn handle(&mut self, JobStarted { job, master }: JobStarted, context: &mut Context<Self, ()>) {
        self.masters.insert(job, master);
        let me = context.actor_ref().clone();
        self.step(ResourceManagerEvent::JobStarted { job }, &me);
    }
}

impl Message<JobEnded> for ResourceManagerActor {
    type Reply = ();

    async fn handle(&mut self, JobEnded(job): JobEnded, context: &mut Context<Self, ()>) {
        self.masters.remove(&job);
        let me = context.actor_ref().clone();
        self.step(ResourceManagerEvent::JobEnded { job }, &me);
    }
}

impl Message<Send> for ResourceManagerActor {
    type Reply = ();

    async fn handle(&mut self, Send { task_manager, command }: Send, _: &mut Context<Self, ()>) {
        // A task manager that is not here gets nothing: it will report, and the job master will compare.
        if let Some(session) = self.engine.session(task_manager) {
            self.send(session, task_manager, command);
        }
    }
}

impl Message<Waiting> for ResourceManagerActor {
    type Reply = Option<String>;

    async fn handle(&mut self, Waiting(job): Waiting, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.engine.waiting().remove(&job)
    }
}

impl Message<Observe> for ResourceManagerActor {
    type Reply = Vec<TaskManagerObservation>;

    async fn handle(&mut self, _: Observe, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.engine.observe(self.context.clock.now())
    }
}

macro_rules! events {
    ($($message:ident $pattern:pat => $event:expr;)*) => {$(
        impl Message<$message> for ResourceManagerActor {
            type Reply = ();

            async fn handle(&mut self, $pattern: $message, context: &mut Context<Self, ()>) {
                let me = context.actor_ref().clone();
                self.step($event, &me);
            }
        }
    )*};
}
events! {
    Inbound Inbound { session, message } => ResourceManagerEvent::Message { session, message };
    RequestSlots RequestSlots { job, request, requirements, former } =>
        ResourceManagerEvent::SlotsRequested { job, request, requirements, former };
    ReturnSlots ReturnSlots { job, slots } => ResourceManagerEvent::SlotsReturned { job, slots };
    SetDraining SetDraining { task_manager, draining } => ResourceManagerEvent::DrainingSet { task_manager, draining };
    ReleaseSlots ReleaseSlots(job) => ResourceManagerEvent::SlotsReleased { job };
    Probed Probed { task_manager, refused } => ResourceManagerEvent::PortProbed { task_manager, refused };
    Tick Tick => ResourceManagerEvent::Tick;
}
