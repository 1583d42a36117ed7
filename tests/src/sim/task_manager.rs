//! One task manager: the agent's engine, and what carries out what it decides.
//!
//! This imitates `taskmanager/src/runtime/agent_loop.rs`.

use std::collections::BTreeMap;

use tidemill_coordinator::engine::leader::{
    AddressedCommand, ExecutorProcess, FinalizationKind, FinalizationReport, TaskManagerCommand, TaskManagerHello,
    TaskManagerMessage,
};
use tidemill_model::execution::{Finalization, TaskManagerLocation};
use tidemill_model::id::{ClusterId, LeaderEpoch, TaskManagerId, TaskManagerName};
use tidemill_model::slot::SlotOffer;
use tidemill_taskmanager::engine::{
    Action, Agent, Directive, Event as AgentEvent, ExecutorId, ExecutorReport, FinalizationOutcome, FinalizationStep,
    Outbound, Settings,
};
use uuid::Uuid;

use super::clock::{MILLISECOND, Time};
use super::event::{ConnectionId, Event, Upward};
use super::executor::Executor;
use super::fact::Fact;
use super::plan::Plan;
use super::random::Random;
use super::session::Search;
use super::world::{Life, World};

/// How often the agent looks at its timers.
const TICK: Time = 100 * MILLISECOND;

/// The simulated cluster's id.
const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(0xC1));

/// A place for a task manager, and the incarnation that lives there.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) life: Life,
    place: usize,
    /// Where its data port is, whichever incarnation listens.
    pub(crate) address: String,
    pub(crate) id: TaskManagerId,
    offer: SlotOffer,
    pub(crate) agent: Agent,
    /// The agent's end of a session.
    pub(crate) handle: Option<ConnectionId>,
    pub(crate) search: Search,
    pub(crate) executors: BTreeMap<ExecutorId, Executor>,
    pub(crate) random: Random,
}

impl Place {
    pub(crate) fn new(place: usize, plan: &Plan, life: Life, mut random: Random) -> Self {
        let offer = SlotOffer { count: plan.slots, memory_bytes: 1 << 20 };
        let id = incarnation(place, life.boot);
        let agent = Agent::new(settings(id, offer, plan), life.clock.instant(0));
        let search = Search::new(random.index(plan.coordinators));
        let address = format!("tm-{place}:6121");
        Self { life, place, address, id, offer, agent, handle: None, search, executors: BTreeMap::new(), random }
    }

    /// Another incarnation, which knows nothing.
    pub(crate) fn restart(&mut self, now: Time, plan: &Plan) {
        self.id = incarnation(self.place, self.life.boot);
        self.agent = Agent::new(settings(self.id, self.offer, plan), self.life.clock.instant(now));
        self.handle = None;
        self.search = Search::new(self.random.index(plan.coordinators));
    }

    pub(crate) fn hello(&self) -> TaskManagerHello {
        let name = TaskManagerName(format!("tm-{}", self.place));
        let location = TaskManagerLocation { id: self.id, name, data_address: self.address.clone() };
        TaskManagerHello { location, slots: self.offer, process_id: 100, fence: self.agent.fence() }
    }
}

fn settings(task_manager: TaskManagerId, offer: SlotOffer, plan: &Plan) -> Settings {
    Settings {
        task_manager,
        offer,
        slot_process_bytes: None,
        orphan_timeout: plan.orphan_timeout,
        cancellation_timeout: plan.cancellation_timeout,
    }
}

fn incarnation(place: usize, boot: u64) -> TaskManagerId {
    TaskManagerId(Uuid::from_u128(((place as u128 + 1) << 64) | u128::from(boot)))
}

impl World {
    pub(crate) fn start_task_manager(&mut self, place: usize) {
        let boot = self.places[place].life.boot;
        self.after(TICK, Event::AgentTick { place, boot });
        let delay = self.random.between(1, 50) * MILLISECOND;
        self.search(place, delay);
    }

    pub(crate) fn agent_ticked(&mut self, place: usize, boot: u64) {
        if self.places[place].life.is(boot) {
            self.after(TICK, Event::AgentTick { place, boot });
            self.step_agent(place, AgentEvent::Tick);
        }
    }

    pub(crate) fn agent_event(&mut self, place: usize, boot: u64, event: AgentEvent) {
        if self.places[place].life.is(boot) {
            self.step_agent(place, event);
        }
    }

    pub(crate) fn session_lost(&mut self, place: usize) {
        self.places[place].handle = None;
        self.step_agent(place, AgentEvent::SessionLost);
    }

    /// Hands a welcome to the agent; false when it would not have this leader.
    pub(crate) fn welcome_agent(&mut self, place: usize, epoch: LeaderEpoch, to: TaskManagerId) -> bool {
        let event = AgentEvent::Welcomed { epoch, task_manager: to, cluster: CLUSTER };
        let (id, before) = (self.places[place].id, self.places[place].agent.fence());
        let now = self.places[place].life.clock.instant(self.now);
        let actions = self.places[place].agent.step(now, event);
        let refused = actions.iter().any(|action| matches!(action, Action::DropSession { .. }));
        let after = self.places[place].agent.fence();
        self.note(&Fact::Directed { task_manager: id, addressee: to, epoch, before, after, directive: None, refused });
        if actions.iter().any(|action| matches!(action, Action::SendToCoordinator(Outbound::Report(_)))) {
            self.note(&Fact::Reported { task_manager: id, epoch, fence: after });
        }
        for action in &actions {
            let Action::SendToCoordinator(Outbound::Report(report)) = action else { continue };
            for told in &report.attempts {
                self.note(&Fact::Told { attempt: told.attempt, state: &told.state });
            }
        }
        for action in actions {
            self.carry_out(place, action);
        }
        !refused
    }

    /// Hands a leader's command to the agent; those that belong to the session itself end here.
    pub(crate) fn directed(
        &mut self,
        place: usize,
        epoch: LeaderEpoch,
        to: TaskManagerId,
        command: TaskManagerCommand,
    ) {
        let Some(directive) = directive(command) else { return };
        let (id, before) = (self.places[place].id, self.places[place].agent.fence());
        let now = self.places[place].life.clock.instant(self.now);
        let event = AgentEvent::Directed { epoch, task_manager: to, directive: directive.clone() };
        let actions = self.places[place].agent.step(now, event);
        let refused = actions.iter().any(|action| matches!(action, Action::Refuse { .. }));
        let (after, directive) = (self.places[place].agent.fence(), Some(&directive));
        self.note(&Fact::Directed { task_manager: id, addressee: to, epoch, before, after, directive, refused });
        for action in actions {
            self.carry_out(place, action);
        }
    }

    /// What a stream that has been closed since still brings: only to an agent that has heard of a later leadership, or
    /// to another incarnation. A stream of the leadership that is in office ends in order.
    pub(crate) fn late(&mut self, place: usize, command: AddressedCommand) {
        let here = &self.places[place];
        if here.life.up && (command.epoch < here.agent.fence() || command.task_manager != here.id) {
            self.directed(place, command.epoch, command.task_manager, command.command);
        }
    }

    fn step_agent(&mut self, place: usize, event: AgentEvent) {
        let now = self.places[place].life.clock.instant(self.now);
        for action in self.places[place].agent.step(now, event) {
            self.carry_out(place, action);
        }
    }

    fn carry_out(&mut self, place: usize, action: Action) {
        match action {
            Action::FetchArtifact { artifact } => {
                let event = AgentEvent::ArtifactReady { artifact };
                let (boot, delay) = (self.places[place].life.boot, self.random.between(1, 40) * MILLISECOND);
                self.after(delay, Event::Agent { place, boot, event: Box::new(event) });
            }
            Action::StartExecutor(start) => self.start_executor(place, start),
            Action::SendToExecutor { executor, command } => self.tell_executor(place, executor, command),
            Action::KillExecutor { executor } => self.kill_executor(place, executor, 9),
            Action::SendToCoordinator(outbound) => {
                if let Outbound::Attempt(report) = &outbound {
                    self.note(&Fact::Told { attempt: report.attempt, state: &report.state });
                }
                // Removing is tried once everywhere and then given up, by design.
                let failed = |outcome: &&FinalizationOutcome| {
                    outcome.failure.is_some() && matches!(outcome.finalization, Finalization::Abort { .. })
                };
                let outcomes = match &outbound {
                    Outbound::Report(report) => report.finalized.as_slice(),
                    Outbound::Finalized(outcome) => std::slice::from_ref(outcome),
                    Outbound::Attempt(_) | Outbound::Executor(_) | Outbound::Checkpoint(_) => &[],
                };
                self.storage.excused.extend(outcomes.iter().filter(failed).map(|outcome| outcome.job));
                if let Some(connection) = self.places[place].handle {
                    self.send_up(connection, Upward::Message(message(outbound)));
                }
            }
            Action::StoreCollected { .. } | Action::AbandonCollected { .. } => {
                unreachable!("simulated programs do not collect")
            }
            // Those of the job go in the end, with whatever is left of generations.
            Action::RemoveGenerationFiles { .. } => {}
            Action::RemoveJobFiles { job } => {
                let id = self.places[place].id;
                self.storage.remove_local(id, job);
            }
            Action::DropSession { .. } => self.drop_session(place),
            Action::Refuse { .. } => {}
        }
    }

    /// The agent is gone, and its executors with it: they end with the thread that started them.
    pub(crate) fn task_manager_crashed(&mut self, place: usize) {
        let executors: Vec<ExecutorId> = self.places[place].executors.keys().copied().collect();
        for executor in executors {
            self.executor_gone(place, executor);
        }
        self.places[place].executors.clear();
        self.places[place].handle = None;
        // What is left in its folders goes when the next agent starts there.
        let id = self.places[place].id;
        self.storage.local.retain(|(task_manager, _)| *task_manager != id);
    }
}

fn directive(command: TaskManagerCommand) -> Option<Directive> {
    Some(match command {
        TaskManagerCommand::Welcome | TaskManagerCommand::HeartbeatAnswer { .. } => return None,
        TaskManagerCommand::Deploy { spec, deployment } => Directive::Deploy { spec, deployment },
        TaskManagerCommand::Cancel { attempts } => Directive::Cancel { attempts },
        TaskManagerCommand::Acknowledge { attempts } => Directive::Acknowledge { attempts },
        TaskManagerCommand::Finalize { spec, finalization } => Directive::Finalize { spec, finalization },
        TaskManagerCommand::Checkpoint(command) => Directive::Checkpoint(command),
        TaskManagerCommand::Release { job } => Directive::Release { job },
    })
}

fn executor(report: ExecutorReport) -> ExecutorProcess {
    let (generation, process_id) = (report.generation, report.process_id);
    ExecutorProcess { job: generation.job, attempt: generation.attempt, process_id }
}

fn message(outbound: Outbound) -> TaskManagerMessage {
    match outbound {
        Outbound::Report(report) => TaskManagerMessage::Report {
            attempts: report.attempts,
            executors: report.executors.into_iter().map(executor).collect(),
            finalized: report.finalized.into_iter().map(finalized).collect(),
            hosted: report.hosted,
            checkpoints: report.checkpoints,
        },
        Outbound::Attempt(report) => TaskManagerMessage::Attempt(report),
        Outbound::Executor(report) => TaskManagerMessage::Executor(executor(report)),
        Outbound::Checkpoint(report) => TaskManagerMessage::Checkpoint(report),
        Outbound::Finalized(outcome) => TaskManagerMessage::Finalized(finalized(outcome)),
    }
}

fn finalized(outcome: FinalizationOutcome) -> FinalizationReport {
    let kind = match FinalizationStep::of(&outcome.finalization) {
        FinalizationStep::Commit => FinalizationKind::Commit,
        FinalizationStep::Abort => FinalizationKind::Abort,
    };
    FinalizationReport { job: outcome.job, kind, failure: outcome.failure }
}
