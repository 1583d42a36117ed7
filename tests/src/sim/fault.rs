//! What goes wrong, and when: crashes, stops, cuts, slow disks, a lossy network, broken streams, dying executors.

use super::clock::{MILLISECOND, SECOND, Time};
use super::event::{ConnectionId, Event};
use super::executor::io_failure;
use super::fact::Fact;
use super::network::Process;
use super::plan::{Plan, Profile};
use super::raft::Node;
use super::random::Random;
use super::session::Session;
use super::world::World;

/// One fault that lasts until it is healed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// These directions are cut.
    Cut(Vec<(Process, Process)>),
    /// This coordinator's disk is slow.
    SlowDisk(Node),
    /// Datagrams are lost, doubled and late.
    Lossy,
}

/// What can be done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    CrashCoordinator,
    CrashLeader,
    CrashAllCoordinators,
    PauseCoordinator,
    PauseLeader,
    PauseAllCoordinators,
    PauseFollowers,
    IsolateCoordinator,
    IsolateLeader,
    OneWayCut,
    SlowDisk,
    Lossy,
    ResetStream,
    JumpWallClock,
    /// A job's master begins again.
    PanicMaster,
    OfWorker(WorkerKind),
}

/// What can be done to task managers, executors and tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkerKind {
    CrashTaskManager,
    PauseTaskManager,
    CutTaskManager,
    CutTaskManagerFromOne,
    KillExecutor,
    FailTask,
}

const COORDINATOR_FAULTS: [(Kind, u64); 15] = [
    (Kind::CrashCoordinator, 10),
    (Kind::CrashLeader, 16),
    (Kind::CrashAllCoordinators, 3),
    (Kind::PauseCoordinator, 6),
    (Kind::PauseLeader, 12),
    (Kind::PauseAllCoordinators, 4),
    (Kind::PauseFollowers, 20),
    (Kind::IsolateCoordinator, 6),
    (Kind::IsolateLeader, 12),
    (Kind::OneWayCut, 8),
    (Kind::SlowDisk, 14),
    (Kind::Lossy, 8),
    (Kind::ResetStream, 12),
    (Kind::JumpWallClock, 4),
    (Kind::PanicMaster, 8),
];

const WORKER_FAULTS: [(WorkerKind, u64); 6] = [
    (WorkerKind::CrashTaskManager, 22),
    (WorkerKind::PauseTaskManager, 12),
    (WorkerKind::CutTaskManager, 12),
    (WorkerKind::CutTaskManagerFromOne, 10),
    (WorkerKind::KillExecutor, 18),
    (WorkerKind::FailTask, 14),
];

/// Chooses the faults.
#[derive(Debug)]
pub(crate) struct Nemesis {
    random: Random,
    until: Time,
    /// Faults may still come.
    pub(crate) active: bool,
    /// What has to be healed at the end.
    open: Vec<Fault>,
}

impl Nemesis {
    pub(crate) fn new(plan: &Plan, random: Random) -> Self {
        Self { random, until: plan.duration, active: true, open: Vec::new() }
    }

    fn choose(&mut self, profile: Profile) -> Kind {
        let mut kinds = COORDINATOR_FAULTS.to_vec();
        if profile == Profile::Everything {
            kinds.extend(WORKER_FAULTS.map(|(kind, weight)| (Kind::OfWorker(kind), weight)));
        }
        let total = kinds.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.random.below(total);
        for (kind, weight) in kinds {
            if drawn < weight {
                return kind;
            }
            drawn -= weight;
        }
        unreachable!("a number below the sum of all weights falls on one of them")
    }

    /// How long a fault lasts: mostly short, sometimes longer than every timer of the leader.
    fn length(&mut self) -> Time {
        match self.random.below(10) {
            0..=5 => self.random.between(30, 1500) * MILLISECOND,
            6..=8 => self.random.between(1500, 4500) * MILLISECOND,
            _ => self.random.between(4500, 9000) * MILLISECOND,
        }
    }
}

impl World {
    pub(crate) fn next_fault(&mut self) {
        self.sweep_connections();
        if let Some(scenario) = self.plan.scenario {
            return self.enact(scenario);
        }
        if self.now >= self.nemesis.until {
            return;
        }
        let kind = self.nemesis.choose(self.plan.profile);
        self.watch.fault(self.now, &format!("{kind:?}"));
        self.inflict(kind);
        let gap = match self.nemesis.random.below(4) {
            // Another one at once: faults that overlap.
            0 => self.nemesis.random.between(1, 120),
            _ => self.nemesis.random.between(200, 3000),
        };
        self.after(gap * MILLISECOND, Event::Fault);
    }

    fn leader(&self) -> Option<Node> {
        self.coordinators.iter().position(|coordinator| coordinator.life.up && coordinator.leads().is_some())
    }

    fn some_coordinator(&mut self) -> Node {
        self.nemesis.random.index(self.coordinators.len())
    }

    fn some_leader(&mut self) -> Node {
        self.leader().unwrap_or_else(|| self.some_coordinator())
    }

    fn inflict(&mut self, kind: Kind) {
        let length = self.nemesis.length();
        match kind {
            Kind::CrashCoordinator => {
                let node = self.some_coordinator();
                self.crash_for(Process::Coordinator(node), length);
            }
            Kind::CrashLeader => {
                let node = self.some_leader();
                self.crash_for(Process::Coordinator(node), length);
            }
            Kind::CrashAllCoordinators => {
                for node in 0..self.coordinators.len() {
                    self.crash_for(Process::Coordinator(node), length);
                }
            }
            Kind::PauseCoordinator => {
                let node = self.some_coordinator();
                self.pause_for(Process::Coordinator(node), length);
            }
            Kind::PauseLeader => {
                let node = self.some_leader();
                self.pause_for(Process::Coordinator(node), length);
            }
            Kind::PauseAllCoordinators => {
                for node in 0..self.coordinators.len() {
                    self.pause_for(Process::Coordinator(node), length);
                }
            }
            // The lease lapses, and nobody else stands for election: the leader begins again, while what it proposed
            // before lingers on its slow disk.
            Kind::PauseFollowers => {
                let leader = self.some_leader();
                self.coordinators[leader].slow = true;
                self.open_fault(Fault::SlowDisk(leader), length + 2 * SECOND);
                let length = self.nemesis.random.between(700, 1600) * MILLISECOND;
                for node in (0..self.coordinators.len()).filter(|node| *node != leader) {
                    self.pause_for(Process::Coordinator(node), length);
                }
            }
            Kind::IsolateCoordinator => {
                let node = self.some_coordinator();
                self.isolate(node, length);
            }
            Kind::IsolateLeader => {
                let node = self.some_leader();
                self.isolate(node, length);
            }
            Kind::OneWayCut => {
                let (from, to) = (self.some_coordinator(), self.some_coordinator());
                self.open_fault(Fault::Cut(vec![(Process::Coordinator(from), Process::Coordinator(to))]), length);
            }
            Kind::SlowDisk => {
                let node = self.some_leader();
                self.coordinators[node].slow = true;
                self.open_fault(Fault::SlowDisk(node), length);
            }
            Kind::Lossy => {
                self.network.lossy = true;
                self.open_fault(Fault::Lossy, length);
            }
            Kind::ResetStream => self.reset_some_stream(),
            Kind::JumpWallClock => {
                let node = self.some_coordinator();
                self.coordinators[node].life.clock.behind_ms = self.nemesis.random.below(60_000);
            }
            Kind::PanicMaster => {
                let (node, chance) = (self.some_leader(), self.nemesis.random.below(u64::MAX));
                let again = if self.nemesis.random.chance(150) { 8 } else { 0 };
                self.panic_some_master(node, chance, again);
            }
            Kind::OfWorker(kind) => self.disturb_workers(kind, length),
        }
    }

    fn disturb_workers(&mut self, kind: WorkerKind, length: Time) {
        self.note(&Fact::WorkersDisturbed { job: None });
        let place = self.nemesis.random.index(self.places.len());
        match kind {
            WorkerKind::CrashTaskManager => self.crash_for(Process::TaskManager(place), length),
            WorkerKind::PauseTaskManager => self.pause_for(Process::TaskManager(place), length),
            WorkerKind::CutTaskManagerFromOne => {
                let node = self.some_leader();
                let cut = both_ways(Process::TaskManager(place), Process::Coordinator(node));
                self.open_fault(Fault::Cut(cut), length);
            }
            WorkerKind::KillExecutor => {
                let executors: Vec<_> = self.places[place].executors.keys().copied().collect();
                if let Some(executor) = self.nemesis.random.pick(&executors) {
                    let signal = if self.nemesis.random.chance(500) { 9 } else { 6 };
                    self.kill_executor(place, executor, signal);
                }
            }
            WorkerKind::FailTask => self.fail_some_task(place),
            WorkerKind::CutTaskManager => {
                let nodes = 0..self.coordinators.len();
                let cut = nodes.flat_map(|node| both_ways(Process::TaskManager(place), Process::Coordinator(node)));
                let cut = cut.collect();
                self.open_fault(Fault::Cut(cut), length);
            }
        }
    }

    fn fail_some_task(&mut self, place: usize) {
        let running = self.places[place]
            .executors
            .iter()
            .flat_map(|(&executor, process)| process.tasks.values().map(move |task| (executor, task.attempt)));
        let running: Vec<_> = running.collect();
        let Some((executor, attempt)) = self.nemesis.random.pick(&running) else { return };
        if let Some(process) = self.places[place].executors.get_mut(&executor) {
            process.tasks.remove(&attempt.vertex);
        }
        self.task_stopped(place, attempt);
        self.plane.lose(&[attempt].into());
        let failure = tidemill_model::execution::TerminalState::Failed(io_failure("the disk has failed"));
        let state = tidemill_model::execution::ExecutionState::Terminal(failure);
        self.say_state(place, executor, attempt, state);
    }

    fn crash_for(&mut self, process: Process, length: Time) {
        let dark = self.nemesis.random.chance(300);
        self.crash(process, dark);
        self.after(length, Event::Restart(process));
    }

    fn pause_for(&mut self, process: Process, length: Time) {
        // A coordinator that is the only one leads on afterwards, and has heard nobody for longer than it waits.
        let alone = matches!(process, Process::Coordinator(_)) && self.coordinators.len() == 1;
        let length = if alone && self.nemesis.random.chance(500) { length + 3 * SECOND } else { length };
        self.pause(process);
        self.after(length, Event::Resume(process));
    }

    /// Cuts a coordinator from the others, one way or both; its task managers and clients still reach it.
    fn isolate(&mut self, node: Node, length: Time) {
        let ways = self.nemesis.random.below(4);
        let this = Process::Coordinator(node);
        let others = (0..self.coordinators.len()).filter(|other| *other != node).map(Process::Coordinator);
        let cut = others.flat_map(|other| match ways {
            0 => vec![(this, other)],
            1 => vec![(other, this)],
            _ => both_ways(this, other),
        });
        let cut = cut.collect();
        self.open_fault(Fault::Cut(cut), length);
    }

    fn reset_some_stream(&mut self) {
        let streams: Vec<ConnectionId> = self
            .places
            .iter()
            .filter_map(|place| match place.search.session {
                Session::Serving { connection, .. } => Some(connection),
                Session::Pausing | Session::Opening { .. } => None,
            })
            .collect();
        if let Some(connection) = self.nemesis.random.pick(&streams) {
            self.break_connection(connection, 0);
        }
    }

    fn open_fault(&mut self, fault: Fault, length: Time) {
        if let Fault::Cut(cuts) = &fault {
            for &(from, to) in cuts {
                self.network.cut(from, to);
            }
        }
        self.nemesis.open.push(fault.clone());
        self.after(length, Event::Heal(fault));
    }

    pub(crate) fn heal(&mut self, fault: Fault) {
        let Some(index) = self.nemesis.open.iter().position(|open| *open == fault) else { return };
        self.nemesis.open.swap_remove(index);
        let still = self.nemesis.open.contains(&fault);
        match fault {
            Fault::Cut(cuts) => {
                for (from, to) in cuts {
                    self.network.join(from, to);
                }
            }
            Fault::SlowDisk(node) => self.coordinators[node].slow = still,
            Fault::Lossy => self.network.lossy = still,
        }
    }

    /// Everything works from now on.
    pub(crate) fn heal_everything(&mut self) {
        self.nemesis.active = false;
        for fault in self.nemesis.open.clone() {
            self.heal(fault);
        }
        let coordinators = (0..self.coordinators.len()).map(Process::Coordinator);
        let processes: Vec<Process> = coordinators.chain((0..self.places.len()).map(Process::TaskManager)).collect();
        for process in processes {
            self.after(0, Event::Resume(process));
            self.after(SECOND / 10, Event::Restart(process));
        }
    }
}

fn both_ways(one: Process, other: Process) -> Vec<(Process, Process)> {
    vec![(one, other), (other, one)]
}
