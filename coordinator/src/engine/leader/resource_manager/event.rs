//! What can happen to the resource manager, and what it can want.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidemill_model::execution::TaskManagerLocation;
use tidemill_model::id::{JobId, TaskManagerId};
use tidemill_model::job_graph::SlotRequirements;
use tidemill_model::slot::{SlotId, SlotOffer};

use crate::engine::leader::message::{JobReport, SessionId, TaskManagerCommand, TaskManagerHello, TaskManagerMessage};
use crate::engine::leader::slot_pool::{Grant, SlotRequestId};

/// When a silent task manager is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DetectorSettings {
    /// Silence for this long is loss.
    pub timeout: Duration,
    /// A closed stream is loss after this long, if the task manager's port refuses.
    pub grace: Duration,
    /// How often [`ResourceManagerEvent::Tick`] comes.
    pub tick: Duration,
}

impl Default for DetectorSettings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(3), grace: Duration::from_millis(300), tick: Duration::from_millis(100) }
    }
}

/// Everything that can happen to the resource manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceManagerEvent {
    /// A task manager opened a session.
    Hello {
        /// The session.
        session: SessionId,
        /// Who it is.
        hello: TaskManagerHello,
    },
    /// It says something. Messages of superseded sessions are ignored.
    Message {
        /// The session.
        session: SessionId,
        /// What.
        message: TaskManagerMessage,
    },
    /// A session's stream ended.
    SessionClosed {
        /// The session.
        session: SessionId,
    },
    /// What came of [`ResourceManagerAction::ProbePort`].
    PortProbed {
        /// Whose port.
        task_manager: TaskManagerId,
        /// Whether the machine answered that nobody listens.
        refused: bool,
    },
    /// A job needs slots.
    SlotsRequested {
        /// Which job.
        job: JobId,
        /// Which of its requests; a later one replaces it.
        request: SlotRequestId,
        /// How many for which slot sharing group; none withdraws what it had asked for.
        requirements: SlotRequirements,
        /// Where the sub-tasks of each slot last were, in the order of the grant.
        former: Vec<Option<TaskManagerId>>,
    },
    /// A job has no use for some of its slots.
    SlotsReturned {
        /// Which job.
        job: JobId,
        /// Which slots, each with the request that brought it.
        slots: BTreeMap<SlotId, SlotRequestId>,
    },
    /// A job needs no slots any more.
    SlotsReleased {
        /// Which job.
        job: JobId,
    },
    /// A task manager is to be left and to get nothing new, or may be used again.
    DrainingSet {
        /// Which.
        task_manager: TaskManagerId,
        /// Whether it drains.
        draining: bool,
    },
    /// A job master runs from now on; it is told of every registered task manager.
    JobStarted {
        /// Which job.
        job: JobId,
    },
    /// A job has ended.
    JobEnded {
        /// Which job.
        job: JobId,
    },
    /// Time has passed.
    Tick,
}

/// Everything that the resource manager can want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceManagerAction {
    /// Send to a task manager over its session.
    Send {
        /// The session.
        session: SessionId,
        /// Whom it is for.
        task_manager: TaskManagerId,
        /// What.
        command: TaskManagerCommand,
    },
    /// End a session's stream.
    Close {
        /// The session.
        session: SessionId,
    },
    /// Tell one job's master that a task manager is here, and what it runs of the job.
    Registered {
        /// The job.
        job: JobId,
        /// The task manager.
        location: TaskManagerLocation,
        /// What it says of the job.
        report: JobReport,
    },
    /// Tell one job's master that a task manager is to be left, or may be used again.
    DrainingChanged {
        /// The job.
        job: JobId,
        /// The task manager.
        task_manager: TaskManagerId,
        /// Whether it drains.
        draining: bool,
    },
    /// Tell every job master that a task manager is gone.
    Lost {
        /// Which.
        task_manager: TaskManagerId,
        /// Why, in words.
        reason: String,
    },
    /// Pass a message on to a job's master.
    Forward {
        /// The job.
        job: JobId,
        /// From whom.
        task_manager: TaskManagerId,
        /// What.
        message: TaskManagerMessage,
    },
    /// Give a job its slots.
    Granted {
        /// The slots.
        grant: Grant,
        /// Where they are.
        locations: BTreeMap<TaskManagerId, TaskManagerLocation>,
    },
    /// Tell a job's master that has begun anew what the job holds: its former self may have been given slots in which
    /// nothing is scheduled.
    SlotsHeld {
        /// The job.
        job: JobId,
        /// Its slots, each with the request that brought it.
        slots: BTreeMap<SlotId, SlotRequestId>,
        /// The last request that its former self made, as far as it is known.
        last_request: SlotRequestId,
    },
    /// A task manager has something of a job that nobody looks after any more: if it has ended and keeps no checkpoint,
    /// its folder is to be emptied once more.
    Straggled {
        /// The job.
        job: JobId,
    },
    /// Try to connect to a task manager's data port and report back.
    ProbePort {
        /// Whose.
        task_manager: TaskManagerId,
        /// Where.
        data_address: String,
    },
}

/// One task manager, for `status` and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskManagerObservation {
    /// Who and where.
    pub location: TaskManagerLocation,
    /// What it offers.
    pub slots: SlotOffer,
    /// How many of its slots nobody holds.
    pub free_slots: u32,
    /// How long it has been silent.
    pub heartbeat_age: Duration,
    /// The agent's process id.
    pub process_id: u32,
    /// Whether it is to be left and gets nothing new.
    pub draining: bool,
    /// The jobs that hold slots of it.
    pub jobs: BTreeSet<JobId>,
}
