//! The simulated cluster as a whole: its processes, the events to come, and the one loop.

use std::collections::{BTreeMap, BinaryHeap};

use tidemill_model::id::{JobId, NodeId};

use super::client::Client;
use super::clock::{MILLISECOND, ProcessClock, SECOND, Time};
use super::connection::Connection;
use super::coordinator::Coordinator;
use super::echo::Echo;
use super::event::{ConnectionId, Event, Scheduled};
use super::fact::Fact;
use super::fault::Nemesis;
use super::network::{Network, Process};
use super::operator::Operator;
use super::plan::Plan;
use super::raft::Node;
use super::random::Random;
use super::scenario::Scenario;
use super::storage::Storage;
use super::task::Plane;
use super::task_manager::Place;
use super::watch::Watch;

/// The most messages that wait for a process which has been stopped; the kernel drops what is beyond.
const BACKLOG: usize = 4096;

/// What every simulated process has.
#[derive(Debug)]
pub(crate) struct Life {
    /// Counts its starts: what was meant for an earlier one is void.
    pub(crate) boot: u64,
    pub(crate) up: bool,
    /// Its machine answers nothing, not even that nobody listens.
    pub(crate) dark: bool,
    pub(crate) paused: bool,
    /// What happened while it was stopped.
    backlog: Vec<Event>,
    pub(crate) clock: ProcessClock,
}

impl Life {
    fn new(random: &mut Random) -> Self {
        let clock = ProcessClock { origin: random.below(1000 * SECOND), behind_ms: random.below(2000) };
        Self { boot: 1, up: true, dark: false, paused: false, backlog: Vec::new(), clock }
    }

    /// Whether something that was meant for this start of the process still finds it.
    pub(crate) fn is(&self, boot: u64) -> bool {
        self.up && self.boot == boot
    }
}

/// Everything.
pub(crate) struct World {
    pub(crate) now: Time,
    sequence: u64,
    queue: BinaryHeap<Scheduled>,
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    pub(crate) network: Network,
    pub(crate) coordinators: Vec<Coordinator>,
    pub(crate) places: Vec<Place>,
    pub(crate) clients: Vec<Client>,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    pub(crate) storage: Storage,
    pub(crate) plane: Plane,
    pub(crate) nemesis: Nemesis,
    pub(crate) operator: Operator,
    pub(crate) echo: Echo,
    pub(crate) watch: Watch,
    pub(crate) last_proposal: u64,
    pub(crate) last_connection: u64,
    pub(crate) last_process: u32,
    /// How many checkpoints of each job had been completed when the faults ended.
    pub(crate) healed_at: BTreeMap<JobId, u64>,
    /// Set when all is well after the faults have ended.
    pub(crate) converged: bool,
}

impl World {
    pub(crate) fn new(plan: Plan, watch: Watch) -> Self {
        let mut random = Random::new(plan.seed);
        let network = Network::new(random.fork());
        let count = plan.coordinators;
        let coordinators =
            (0..count).map(|node| Coordinator::new(node, count, Life::new(&mut random), random.fork())).collect();
        let places =
            (0..plan.task_managers).map(|place| Place::new(place, &plan, Life::new(&mut random), random.fork()));
        let places = places.collect();
        let clients = plan.jobs.iter().map(|job| Client::new(job.clone(), random.fork())).collect();
        let nemesis = Nemesis::new(&plan, random.fork());
        let mut world = Self {
            now: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            random: random.fork(),
            network,
            coordinators,
            places,
            clients,
            connections: BTreeMap::new(),
            storage: Storage::default(),
            plane: Plane::default(),
            nemesis,
            echo: Echo::new(Random::new(plan.seed ^ 0x00EC_4012)),
            operator: Operator::new(Random::new(plan.seed ^ 0x0D8A_1215)),
            watch,
            last_proposal: 0,
            last_connection: 0,
            last_process: 1000,
            healed_at: BTreeMap::new(),
            converged: false,
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for node in 0..self.coordinators.len() {
            self.start_coordinator(node);
        }
        for place in 0..self.places.len() {
            self.start_task_manager(place);
        }
        for client in 0..self.clients.len() {
            self.start_client(client);
        }
        self.start_operator();
        self.after(self.plan.quiet_start, Event::Fault);
        self.after(self.plan.duration, Event::Look);
    }

    /// Runs until all is well, something is wrong, or time is up.
    pub(crate) fn run(&mut self) {
        while let Some(Scheduled { at, event, .. }) = self.queue.pop() {
            self.now = at;
            self.watch.now = at;
            self.happen(event);
            if self.converged || self.watch.violation.is_some() {
                return;
            }
        }
    }

    /// Schedules an event.
    pub(crate) fn after(&mut self, delay: Time, event: Event) {
        self.sequence += 1;
        self.queue.push(Scheduled { at: self.now + delay, sequence: self.sequence, event });
    }

    pub(crate) fn life(&mut self, process: Process) -> Option<&mut Life> {
        match process {
            Process::Coordinator(node) => Some(&mut self.coordinators[node].life),
            Process::TaskManager(place) => Some(&mut self.places[place].life),
            Process::Client(_) => None,
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some(process) = self.addressee(&event) {
            let life = self.life(process).expect("only servers are addressed");
            if life.paused {
                if life.backlog.len() < BACKLOG {
                    life.backlog.push(event);
                }
                return;
            }
        }
        self.watch.trace.event(self.now, &event);
        match event {
            Event::Raft { to, from, message } => self.raft_received(to, from, *message),
            Event::RaftTick { node, boot } => self.raft_ticked(node, boot),
            Event::Append { node, boot, proposal, command } => self.append(node, boot, proposal, command),
            Event::Mail { node, boot, epoch, actor, mail } => self.mail(node, boot, epoch, actor, *mail),
            Event::ActorWakes { node, boot, epoch, actor } => self.actor_wakes(node, boot, epoch, actor),
            Event::ActorTick { node, boot, epoch, actor } => self.actor_ticked(node, boot, epoch, actor),
            Event::MasterPanics { node, boot, epoch, job, again } => {
                self.master_panics(node, boot, epoch, job, again);
            }
            Event::MasterBeginsAgain { node, boot, epoch, job } => self.master_begins_again(node, boot, epoch, job),
            Event::AskStorage { node, boot, epoch, job, request } => self.ask_storage(node, boot, epoch, job, request),
            Event::PortProbed { node, boot, epoch, task_manager, place } => {
                self.port_probed(node, boot, epoch, task_manager, place);
            }
            Event::Pump { connection, direction } => self.pump(connection, direction),
            Event::Gone { connection, direction } => self.gone(connection, direction),
            Event::AgentTick { place, boot } => self.agent_ticked(place, boot),
            Event::Agent { place, boot, event } => self.agent_event(place, boot, *event),
            Event::Session { place, boot, generation, timer } => self.session_timer(place, boot, generation, timer),
            Event::Executor { place, boot, executor, timer } => self.executor_timer(place, boot, executor, timer),
            Event::Late { place, command } => self.late(place, *command),
            Event::Request { to, request } => self.request(to, *request),
            Event::Reply { client, number, reply } => self.reply(client, number, *reply),
            Event::ClientTimer { client, number } => self.client_timer(client, number),
            Event::ClientCancels { client } => self.client_cancels(client),
            Event::Fault => self.next_fault(),
            Event::Heal(fault) => self.heal(fault),
            Event::Restart(process) => self.restart(process),
            Event::Resume(process) => self.resume(process),
            Event::Operator => self.operate(),
            Event::Look => self.look(),
        }
    }

    /// The process that has to run for this to happen to it.
    fn addressee(&self, event: &Event) -> Option<Process> {
        match event {
            Event::Raft { to: node, .. }
            | Event::RaftTick { node, .. }
            | Event::Append { node, .. }
            | Event::Mail { node, .. }
            | Event::ActorWakes { node, .. }
            | Event::ActorTick { node, .. }
            | Event::AskStorage { node, .. }
            | Event::MasterPanics { node, .. }
            | Event::MasterBeginsAgain { node, .. }
            | Event::PortProbed { node, .. }
            | Event::Request { to: node, .. } => Some(Process::Coordinator(*node)),
            Event::AgentTick { place, .. }
            | Event::Agent { place, .. }
            | Event::Session { place, .. }
            | Event::Late { place, .. } => Some(Process::TaskManager(*place)),
            Event::Pump { connection, direction } | Event::Gone { connection, direction } => {
                Some(self.connections.get(connection)?.receiver(*direction))
            }
            // Executors are processes of their own: they go on while their agent is stopped.
            Event::Executor { .. }
            | Event::Reply { .. }
            | Event::ClientTimer { .. }
            | Event::ClientCancels { .. }
            | Event::Operator
            | Event::Fault
            | Event::Heal(_)
            | Event::Restart(_)
            | Event::Resume(_)
            | Event::Look => None,
        }
    }

    pub(crate) fn pause(&mut self, process: Process) {
        if let Some(life) = self.life(process)
            && life.up
        {
            life.paused = true;
        }
    }

    /// Everything that came meanwhile is there at once; timers that are due and what has arrived are seen in any order.
    fn resume(&mut self, process: Process) {
        let Some(life) = self.life(process) else { return };
        if !life.paused {
            return;
        }
        life.paused = false;
        let backlog = std::mem::take(&mut life.backlog);
        let timers_first = match self.plan.scenario {
            Some(scenario) => scenario == Scenario::LeaderStopped,
            None => self.random.chance(500),
        };
        let (timers, arrivals): (Vec<_>, Vec<_>) = backlog.into_iter().partition(is_timer);
        let (first, second) = if timers_first { (timers, arrivals) } else { (arrivals, timers) };
        for event in first.into_iter().chain(second) {
            self.after(0, event);
        }
    }

    /// Ends a process. A dark machine answers nothing; one that lost only the process refuses connections.
    pub(crate) fn crash(&mut self, process: Process, dark: bool) {
        let Some(life) = self.life(process) else { return };
        if !life.up {
            return;
        }
        life.up = false;
        life.dark = dark;
        life.paused = false;
        life.backlog.clear();
        match process {
            Process::Coordinator(node) => self.coordinator_crashed(node),
            Process::TaskManager(place) => self.task_manager_crashed(place),
            Process::Client(_) => {}
        }
        self.drop_connections_of(process, dark);
    }

    pub(crate) fn restart(&mut self, process: Process) {
        let Some(life) = self.life(process) else { return };
        if life.up {
            return;
        }
        life.up = true;
        life.dark = false;
        life.boot += 1;
        match process {
            Process::Coordinator(node) => {
                let now = self.now;
                self.coordinators[node].restart(now);
                self.start_coordinator(node);
            }
            Process::TaskManager(place) => {
                let (now, plan) = (self.now, &self.plan);
                self.places[place].restart(now, plan);
                self.start_task_manager(place);
            }
            Process::Client(_) => {}
        }
    }

    /// Whether a datagram or the opening of a connection would find the process at all.
    pub(crate) fn answers(&self, from: Process, to: Process) -> bool {
        let dark = match to {
            Process::Coordinator(node) => self.coordinators[node].life.dark,
            Process::TaskManager(place) => self.places[place].life.dark,
            Process::Client(_) => false,
        };
        !dark && self.network.reaches(from, to) && self.network.reaches(to, from)
    }

    pub(crate) fn note(&mut self, fact: &Fact<'_>) {
        self.watch.observe(fact);
    }

    /// Work inside a process takes this long.
    pub(crate) fn moment(&mut self) -> Time {
        if self.random.chance(10) { self.random.between(1, 30) * MILLISECOND } else { self.random.between(5, 300) }
    }
}

/// The replica's id, as the product counts: from 1.
pub(crate) fn node_id(node: Node) -> NodeId {
    NodeId(node as u64 + 1)
}

fn is_timer(event: &Event) -> bool {
    matches!(event, Event::RaftTick { .. } | Event::ActorTick { .. } | Event::AgentTick { .. } | Event::Session { .. })
}
