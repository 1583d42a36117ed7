//! Everything that can happen in a simulated cluster, each at its time.

use std::cmp::Ordering;
use std::rc::Rc;

use tidemill_coordinator::engine::leader::{
    AddressedCommand, JobMasterEvent, ResourceManagerEvent, TaskManagerCommand, TaskManagerHello, TaskManagerMessage,
};
use tidemill_coordinator::engine::replicated::{Command, Garbage};
use tidemill_model::id::{JobId, LeaderEpoch, TaskManagerId};
use tidemill_taskmanager::engine::{self as agent, ExecutorId};

use super::client::{Reply, Request};
use super::clock::Time;
use super::fault::Fault;
use super::network::{Direction, Process};
use super::raft::{self, Node, ProposalId};

/// One connection between a task manager and a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// What a task manager sends over its stream.
#[derive(Debug, Clone)]
pub(crate) enum Upward {
    Hello(Box<TaskManagerHello>),
    Message(TaskManagerMessage),
    End,
}

/// What a coordinator sends over it.
#[derive(Debug, Clone)]
pub(crate) enum Downward {
    Command(AddressedCommand),
    /// It does not lead; who does, if it knows.
    Refused(Option<Node>),
    End,
}

/// The actors of one leadership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Actor {
    Dispatcher,
    ResourceManager,
    Master(JobId),
}

/// What waits in an actor's mailbox.
#[derive(Debug, Clone)]
pub(crate) enum Mail {
    /// Stands for what the actor is at.
    UnderWay,
    Synchronize,
    /// A command of this leadership has been applied, at this index.
    Applied {
        index: u64,
        event: JobMasterEvent,
    },
    Ended(JobId),
    Open {
        connection: ConnectionId,
        hello: Box<TaskManagerHello>,
    },
    Closed(ConnectionId),
    Inbound {
        connection: ConnectionId,
        message: TaskManagerMessage,
    },
    Send {
        task_manager: TaskManagerId,
        command: TaskManagerCommand,
    },
    Resources(ResourceManagerEvent),
    Master(JobMasterEvent),
}

/// What a session's task waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SessionTimer {
    /// The pause before the next try is over.
    Resume,
    /// A coordinator had time enough to welcome.
    NoWelcome,
    /// A heartbeat is due.
    Beat,
}

/// What an executor waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ExecutorTimer {
    /// Its process has started.
    Started,
    /// It has built its graph.
    Ready,
    /// Its tasks go on.
    Step,
    /// It has obeyed the command that has waited longest.
    Obey,
    /// Its process has gone.
    Exited,
}

/// What a job's master asks of the checkpoint storage.
#[derive(Debug, Clone)]
pub(crate) enum StorageRequest {
    Delete(Garbage),
    List,
}

/// One event.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Raft {
        to: Node,
        from: Node,
        message: Box<raft::Message>,
    },
    RaftTick {
        node: Node,
        boot: u64,
    },
    /// A proposal has come to the head of the log's queue.
    Append {
        node: Node,
        boot: u64,
        proposal: ProposalId,
        command: Rc<Command>,
    },
    Mail {
        node: Node,
        boot: u64,
        epoch: LeaderEpoch,
        actor: Actor,
        mail: Box<Mail>,
    },
    ActorWakes {
        node: Node,
        boot: u64,
        epoch: LeaderEpoch,
        actor: Actor,
    },
    ActorTick {
        node: Node,
        boot: u64,
        epoch: LeaderEpoch,
        actor: Actor,
    },
    MasterPanics {
        node: Node,
        boot: u64,
        epoch: LeaderEpoch,
        job: JobId,
        /// How often again.
        again: u64,
    },
    /// The pause is over after which a job that was given up gets another master.
    MasterBeginsAgain {
        node: Node,
        boot: u64,
        epoch: LeaderEpoch,
        job: JobId,
    },
    /// A spawned task asks the storage, whatever has become of the leadership meanwhile.
    AskStorage {
        node: Node,
        boot: u64,
        epoch: LeaderEpoch,
        job: JobId,
        request: StorageRequest,
    },
    PortProbed {
        node: Node,
        boot: u64,
        epoch: LeaderEpoch,
        task_manager: TaskManagerId,
        place: usize,
    },
    Pump {
        connection: ConnectionId,
        direction: Direction,
    },
    /// One side notices that a connection is no more.
    Gone {
        connection: ConnectionId,
        direction: Direction,
    },
    AgentTick {
        place: usize,
        boot: u64,
    },
    Agent {
        place: usize,
        boot: u64,
        event: Box<agent::Event>,
    },
    Session {
        place: usize,
        boot: u64,
        generation: u64,
        timer: SessionTimer,
    },
    Executor {
        place: usize,
        boot: u64,
        executor: ExecutorId,
        timer: ExecutorTimer,
    },
    /// What was sent over a stream that has been closed since.
    Late {
        place: usize,
        command: Box<AddressedCommand>,
    },
    Request {
        to: Node,
        request: Box<Request>,
    },
    Reply {
        client: usize,
        number: u64,
        reply: Box<Reply>,
    },
    ClientTimer {
        client: usize,
        number: u64,
    },
    ClientCancels {
        client: usize,
    },
    /// Somebody drains a task manager, or takes that back.
    Operator,
    Fault,
    Heal(Fault),
    /// A process starts again.
    Restart(Process),
    /// A process that was stopped goes on.
    Resume(Process),
    /// Whether all is well is looked at again.
    Look,
}

/// An event at its time; of equal times the one that was scheduled first is first.
#[derive(Debug)]
pub(crate) struct Scheduled {
    pub(crate) at: Time,
    pub(crate) sequence: u64,
    pub(crate) event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest, since a heap gives its greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}
