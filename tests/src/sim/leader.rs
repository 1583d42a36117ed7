//! The actors of one leadership around their engines.
//!
//! This imitates `coordinator/src/runtime/leader/{dispatcher,job_master,resource_manager}.rs`: mailboxes keep the order
//! in which they were filled, actors run in any order, and what a spawned task has to say arrives some time later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tidemill_coordinator::engine::leader::{
    DetectorSettings, JobMaster, JobMasterAction, JobMasterEvent, JobMasterSettings, ResourceManager,
    ResourceManagerEvent, SessionId,
};
use tidemill_coordinator::engine::replicated::{CommandBody, JobState};
use tidemill_model::id::{JobId, LeaderEpoch, TaskManagerId};
use tidemill_model::slot::SlotId;

use super::clock::{MILLISECOND, Time};
use super::coordinator::{Proposer, Shell};
use super::event::{Actor, ConnectionId, Event, Mail, StorageRequest};
use super::fact::Fact;
use super::raft::Node;
use super::world::{World, node_id};

/// How often engines are told that time has passed.
const TICK: Time = 100 * MILLISECOND;

/// The timers of task managers, as the product has them by default.
const DETECTOR: DetectorSettings = DetectorSettings {
    timeout: Duration::from_secs(3),
    grace: Duration::from_millis(300),
    tick: Duration::from_micros(TICK),
};

/// How many ended jobs are remembered.
const HISTORY: u32 = 100;

/// As servers have it.
const LATE_WRITES: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Master {
    engine: JobMaster,
    /// The state that it started from was applied up to here.
    started_at: u64,
    pub(super) mailbox: VecDeque<Mail>,
    /// It has not begun again yet.
    pub(super) panicked: bool,
    /// When it, or who was in its place, panicked lately.
    pub(super) panics: Vec<Time>,
}

/// The engines of one leadership and their mailboxes.
#[derive(Debug)]
pub(crate) struct Leadership {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) term: u64,
    dispatcher: VecDeque<Mail>,
    pub(super) resource_manager: ResourceManager,
    mailbox: VecDeque<Mail>,
    pub(super) sessions: BTreeMap<SessionId, ConnectionId>,
    /// Also of sessions that were closed: their last messages may still come.
    session_of: BTreeMap<ConnectionId, SessionId>,
    pub(super) masters: BTreeMap<JobId, Master>,
    /// Those that have no master for the moment, because it panicked too often.
    pub(super) given_up: BTreeSet<JobId>,
    /// Those that the resource manager has been told of.
    pub(super) known: Vec<JobId>,
}

impl Leadership {
    fn mailbox(&mut self, actor: Actor) -> Option<&mut VecDeque<Mail>> {
        match actor {
            Actor::Dispatcher => Some(&mut self.dispatcher),
            Actor::ResourceManager => Some(&mut self.mailbox),
            Actor::Master(job) => self.masters.get_mut(&job).map(|master| &mut master.mailbox),
        }
    }

    /// The jobs that have a master, for those who look on.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = (&JobId, &JobMaster)> + '_ {
        self.masters.iter().map(|(job, master)| (job, &master.engine))
    }
}

impl World {
    /// The leader's engines are built when its own entry is applied.
    pub(crate) fn lead(&mut self, node: Node, term: u64, epoch: LeaderEpoch) {
        let allocated: Vec<(SlotId, JobId)> = self.coordinators[node].state.scheduled_slots().collect();
        let draining: Vec<TaskManagerId> = self.coordinators[node].state.draining.keys().copied().collect();
        let leadership = Leadership {
            epoch,
            term,
            dispatcher: VecDeque::new(),
            resource_manager: ResourceManager::new(DETECTOR, allocated).with_draining(draining),
            mailbox: VecDeque::new(),
            sessions: BTreeMap::new(),
            session_of: BTreeMap::new(),
            masters: BTreeMap::new(),
            given_up: BTreeSet::new(),
            known: Vec::new(),
        };
        self.coordinators[node].shell = Shell::Leading(Box::new(leadership));
        self.note(&Fact::LeadershipBegan { node: node_id(node), epoch });
        self.echo(node, epoch);
        // Job masters must be known before task managers report, or their attempts would look unwanted.
        self.synchronize(node, epoch);
        self.tick_later(node, epoch, Actor::ResourceManager);
    }

    pub(super) fn tick_later(&mut self, node: Node, epoch: LeaderEpoch, actor: Actor) {
        let boot = self.coordinators[node].life.boot;
        self.after(TICK, Event::ActorTick { node, boot, epoch, actor });
    }

    pub(crate) fn actor_ticked(&mut self, node: Node, boot: u64, epoch: LeaderEpoch, actor: Actor) {
        if !self.coordinators[node].life.is(boot) {
            return;
        }
        let Some(leadership) = self.coordinators[node].leadership(epoch) else { return };
        if leadership.mailbox(actor).is_none() {
            return;
        }
        self.tick_later(node, epoch, actor);
        let mail = match actor {
            Actor::Master(_) => Mail::Master(JobMasterEvent::Tick),
            Actor::ResourceManager | Actor::Dispatcher => Mail::Resources(ResourceManagerEvent::Tick),
        };
        self.post(node, epoch, actor, mail);
    }

    /// Puts something into an actor's mailbox; of an actor that has ended it is moot.
    pub(crate) fn post(&mut self, node: Node, epoch: LeaderEpoch, actor: Actor, mail: Mail) {
        let coordinator = &mut self.coordinators[node];
        let boot = coordinator.life.boot;
        let Some(mailbox) = coordinator.leadership(epoch).and_then(|leadership| leadership.mailbox(actor)) else {
            return;
        };
        // The watch of the applied index keeps the last change only.
        if matches!(mail, Mail::Synchronize) && mailbox.iter().any(|waiting| matches!(waiting, Mail::Synchronize)) {
            return;
        }
        mailbox.push_back(mail);
        if mailbox.len() == 1 {
            let delay = self.moment();
            self.after(delay, Event::ActorWakes { node, boot, epoch, actor });
        }
    }

    /// A spawned task puts it there, whenever it runs.
    pub(crate) fn post_later(&mut self, node: Node, epoch: LeaderEpoch, actor: Actor, mail: Mail) {
        let (delay, boot) = (self.moment(), self.coordinators[node].life.boot);
        self.after(delay, Event::Mail { node, boot, epoch, actor, mail: Box::new(mail) });
    }

    pub(crate) fn mail(&mut self, node: Node, boot: u64, epoch: LeaderEpoch, actor: Actor, mail: Mail) {
        if self.coordinators[node].life.is(boot) {
            self.post(node, epoch, actor, mail);
        }
    }

    /// An actor handles what waits for it, or a part of that.
    pub(crate) fn actor_wakes(&mut self, node: Node, boot: u64, epoch: LeaderEpoch, actor: Actor) {
        if !self.coordinators[node].life.is(boot) {
            return;
        }
        if !self.is_up(node, epoch, actor) {
            return self.after(MILLISECOND, Event::ActorWakes { node, boot, epoch, actor });
        }
        let mut turns = 1 + self.random.below(8);
        loop {
            let Some(leadership) = self.coordinators[node].leadership(epoch) else { return };
            let Some(mailbox) = leadership.mailbox(actor) else { return };
            let Some(front) = mailbox.front_mut() else { return };
            if turns == 0 {
                let delay = self.moment();
                return self.after(delay, Event::ActorWakes { node, boot, epoch, actor });
            }
            turns -= 1;
            // It stays in the mailbox meanwhile: an actor that has not finished is not woken.
            let mail = std::mem::replace(front, Mail::UnderWay);
            self.handle(node, epoch, actor, mail);
            if let Some(mailbox) = self.coordinators[node].leadership(epoch).and_then(|all| all.mailbox(actor)) {
                mailbox.pop_front();
            }
        }
    }

    fn handle(&mut self, node: Node, epoch: LeaderEpoch, actor: Actor, mail: Mail) {
        match mail {
            Mail::UnderWay => {}
            Mail::Synchronize => self.synchronize(node, epoch),
            Mail::Applied { index, event } => self.decided(node, epoch, actor, index, event),
            Mail::Ended(job) => {
                if let Some(leadership) = self.coordinators[node].leadership(epoch) {
                    leadership.masters.remove(&job);
                }
            }
            Mail::Master(event) => {
                if let Actor::Master(job) = actor {
                    self.step_master(node, epoch, job, event);
                }
            }
            Mail::Open { connection, hello } => {
                let Some(leadership) = self.coordinators[node].leadership(epoch) else { return };
                let session = SessionId(leadership.session_of.len() as u64 + 1);
                leadership.sessions.insert(session, connection);
                leadership.session_of.insert(connection, session);
                self.step_resource_manager(node, epoch, ResourceManagerEvent::Hello { session, hello: *hello });
            }
            Mail::Closed(connection) => {
                let Some(session) = self.session_of(node, epoch, connection) else { return };
                if let Some(leadership) = self.coordinators[node].leadership(epoch) {
                    leadership.sessions.remove(&session);
                }
                self.step_resource_manager(node, epoch, ResourceManagerEvent::SessionClosed { session });
            }
            Mail::Inbound { connection, message } => {
                let Some(session) = self.session_of(node, epoch, connection) else { return };
                self.step_resource_manager(node, epoch, ResourceManagerEvent::Message { session, message });
            }
            Mail::Send { task_manager, command } => {
                let Some(leadership) = self.coordinators[node].leadership(epoch) else { return };
                // A task manager that is not here gets nothing: it will report, and the job master will compare.
                if let Some(session) = leadership.resource_manager.session(task_manager) {
                    self.send_to(node, epoch, session, task_manager, command);
                }
            }
            Mail::Resources(event) => {
                let Some(leadership) = self.coordinators[node].leadership(epoch) else { return };
                if let ResourceManagerEvent::JobStarted { job } = event
                    && !leadership.known.contains(&job)
                {
                    leadership.known.push(job);
                }
                if let ResourceManagerEvent::JobEnded { job } = event {
                    leadership.known.retain(|known| *known != job);
                }
                self.step_resource_manager(node, epoch, event);
            }
        }
    }

    /// Job masters hear of decisions in the order of the log, from the dispatcher.
    fn decided(&mut self, node: Node, epoch: LeaderEpoch, actor: Actor, index: u64, event: JobMasterEvent) {
        match (actor, &event) {
            (
                Actor::Dispatcher,
                &JobMasterEvent::Applied { body: CommandBody::SetDraining { task_manager, draining }, .. },
            ) => {
                let event = ResourceManagerEvent::DrainingSet { task_manager, draining };
                self.post(node, epoch, Actor::ResourceManager, Mail::Resources(event));
            }
            (Actor::Dispatcher, JobMasterEvent::Applied { body, response, .. }) => {
                if let CommandBody::FailJob { job, .. } = body {
                    self.given_up_was_decided(node, epoch, *job, response);
                }
                if let Some(job) = body.job() {
                    self.post(node, epoch, Actor::Master(job), Mail::Applied { index, event });
                }
            }
            (Actor::Master(job), _) => {
                let Some(leadership) = self.coordinators[node].leadership(epoch) else { return };
                // Earlier ones are in the state that it started from.
                if leadership.masters.get(&job).is_some_and(|master| index > master.started_at) {
                    self.step_master(node, epoch, job, event);
                }
            }
            (Actor::Dispatcher | Actor::ResourceManager, _) => {}
        }
    }

    fn session_of(&mut self, node: Node, epoch: LeaderEpoch, connection: ConnectionId) -> Option<SessionId> {
        self.coordinators[node].leadership(epoch)?.session_of.get(&connection).copied()
    }

    /// One job master for each unfinished job of the replicated state.
    fn synchronize(&mut self, node: Node, epoch: LeaderEpoch) {
        let coordinator = &mut self.coordinators[node];
        let Shell::Leading(leadership) = &mut coordinator.shell else { return };
        let missing: Vec<_> = coordinator
            .state
            .unfinished()
            .filter(|job| !leadership.masters.contains_key(&job.spec.id) && !leadership.given_up.contains(&job.spec.id))
            .cloned()
            .collect();
        for job in missing {
            let id = job.spec.id;
            self.start_master(node, epoch, job, (VecDeque::new(), Vec::new()));
            self.tick_later(node, epoch, Actor::Master(id));
        }
    }

    /// One that follows another has its mailbox, and panics no less often.
    pub(super) fn start_master(
        &mut self,
        node: Node,
        epoch: LeaderEpoch,
        job: JobState,
        (mailbox, panics): (VecDeque<Mail>, Vec<Time>),
    ) {
        let coordinator = &mut self.coordinators[node];
        let (id, now, started_at) = (job.spec.id, coordinator.life.clock.instant(self.now), coordinator.applied);
        let settings = JobMasterSettings {
            reconcile_timeout: self.plan.reconcile_timeout,
            history_size: HISTORY,
            late_writes: LATE_WRITES,
        };
        let Some(leadership) = coordinator.leadership(epoch) else { return };
        let master =
            Master { engine: JobMaster::new(settings, job, now), started_at, mailbox, panicked: false, panics };
        leadership.masters.insert(id, master);
        // It is known to the resource manager once it has started, and not before.
        self.post(node, epoch, Actor::ResourceManager, Mail::Resources(ResourceManagerEvent::JobStarted { job: id }));
        self.step_master(node, epoch, id, JobMasterEvent::Started);
    }

    fn step_master(&mut self, node: Node, epoch: LeaderEpoch, job: JobId, event: JobMasterEvent) {
        let now = self.coordinators[node].life.clock.instant(self.now);
        let Some(leadership) = self.coordinators[node].leadership(epoch) else { return };
        let Some(master) = leadership.masters.get_mut(&job) else { return };
        for action in master.engine.step(now, event) {
            match action {
                JobMasterAction::Propose(body) => {
                    self.propose(node, epoch, body, Proposer::Master { epoch, job });
                }
                JobMasterAction::RequestSlots { request, requirements, former } => {
                    let event = ResourceManagerEvent::SlotsRequested { job, request, requirements, former };
                    self.post(node, epoch, Actor::ResourceManager, Mail::Resources(event));
                }
                JobMasterAction::ReturnSlots { slots } => {
                    let event = ResourceManagerEvent::SlotsReturned { job, slots };
                    self.post(node, epoch, Actor::ResourceManager, Mail::Resources(event));
                }
                JobMasterAction::DeleteFiles(garbage) => {
                    let (delay, boot) = (self.moment(), self.coordinators[node].life.boot);
                    let request = StorageRequest::Delete(garbage);
                    self.after(delay, Event::AskStorage { node, boot, epoch, job, request });
                }
                JobMasterAction::Note(_) => {}
                JobMasterAction::ListFiles => {
                    let (delay, boot) = (self.moment(), self.coordinators[node].life.boot);
                    let request = StorageRequest::List;
                    self.after(delay, Event::AskStorage { node, boot, epoch, job, request });
                }
                JobMasterAction::ReleaseSlots => {
                    let event = ResourceManagerEvent::SlotsReleased { job };
                    self.post(node, epoch, Actor::ResourceManager, Mail::Resources(event));
                }
                JobMasterAction::Send { task_manager, command } => {
                    self.post(node, epoch, Actor::ResourceManager, Mail::Send { task_manager, command });
                }
                JobMasterAction::Ended => {
                    let event = ResourceManagerEvent::JobEnded { job };
                    self.post(node, epoch, Actor::ResourceManager, Mail::Resources(event));
                    self.post(node, epoch, Actor::Dispatcher, Mail::Ended(job));
                }
            }
        }
    }

    fn step_resource_manager(&mut self, node: Node, epoch: LeaderEpoch, event: ResourceManagerEvent) {
        let now = self.coordinators[node].life.clock.instant(self.now);
        let Some(leadership) = self.coordinators[node].leadership(epoch) else { return };
        for action in leadership.resource_manager.step(now, event) {
            self.act(node, epoch, action);
        }
    }

    /// An actor that is stopped handles what is in its mailbox first.
    pub(crate) fn drain_resource_manager(&mut self, node: Node) {
        let Some(epoch) = self.coordinators[node].leads() else { return };
        if self.random.chance(500) {
            return;
        }
        let Some(leadership) = self.coordinators[node].leadership(epoch) else { return };
        for mail in std::mem::take(&mut leadership.mailbox) {
            self.handle(node, epoch, Actor::ResourceManager, mail);
        }
    }
}
