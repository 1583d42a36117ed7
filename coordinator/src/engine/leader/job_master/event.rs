//! What can happen to a job's master, and what it can want.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_model::checkpoint::{AbortReason, CheckpointReport};
use tidemill_model::execution::{AttemptReport, TaskManagerLocation};
use tidemill_model::id::{CheckpointId, TaskManagerId, TaskManagerName};
use tidemill_model::job_graph::SlotRequirements;
use tidemill_model::slot::SlotId;
use tidemill_model::time::Timestamp;

use crate::engine::leader::message::{ExecutorProcess, FinalizationReport, JobReport, TaskManagerCommand};
use crate::engine::leader::slot_pool::SlotRequestId;
use crate::engine::replicated::{CommandBody, Garbage, Response};

/// Limits of a job's master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobMasterSettings {
    /// How long a new leader waits for a silent task manager before it replaces what ran there.
    pub reconcile_timeout: Duration,
    /// How many ended jobs the cluster remembers.
    pub history_size: u32,
    /// How long after a job's end a process of it that is being stopped may still write to the checkpoint storage.
    pub late_writes: Duration,
}

/// Everything that can happen to a job's master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobMasterEvent {
    /// It has been started: the first event.
    Started,
    /// A task manager is here, and this is all that it runs of the job.
    TaskManagerRegistered {
        /// Who and where.
        location: TaskManagerLocation,
        /// Its share of the job.
        report: JobReport,
    },
    /// A task manager is gone.
    TaskManagerLost {
        /// Which.
        task_manager: TaskManagerId,
        /// Why.
        reason: String,
    },
    /// A task manager is to be left, or may be used again.
    DrainingChanged {
        /// Which.
        task_manager: TaskManagerId,
        /// Whether it drains now.
        draining: bool,
    },
    /// The slots that were asked for.
    SlotsGranted {
        /// Which request this answers.
        request: SlotRequestId,
        /// Which.
        slots: Vec<SlotId>,
        /// Where they are.
        locations: BTreeMap<TaskManagerId, TaskManagerLocation>,
    },
    /// Its former self has panicked: these slots are the job's, whatever that one knew of them.
    SlotsHeld {
        /// Which, each with the request that brought it.
        slots: BTreeMap<SlotId, SlotRequestId>,
        /// The last request that its former self made, as far as it is known.
        last_request: SlotRequestId,
    },
    /// An attempt changed its state.
    AttemptChanged {
        /// Where.
        task_manager: TaskManagerId,
        /// How.
        report: AttemptReport,
    },
    /// A finalization has ended.
    Finalized {
        /// Where.
        task_manager: TaskManagerId,
        /// How.
        report: FinalizationReport,
    },
    /// An attempt says what became of a checkpoint.
    CheckpointReported {
        /// What.
        report: CheckpointReport,
    },
    /// An executor process of the job runs.
    ExecutorStarted {
        /// Where.
        task_manager: TaskManagerId,
        /// Which.
        executor: ExecutorProcess,
    },
    /// Records have flowed.
    Progressed {
        /// Where.
        task_manager: TaskManagerId,
        /// Emitted by sources so far.
        records_in: u64,
        /// Taken by sinks so far.
        records_out: u64,
    },
    /// A command about this job has been applied: one that this master proposed, or a client's cancellation.
    Applied {
        /// The command.
        body: CommandBody,
        /// Its stamp.
        stamp: Timestamp,
        /// The answer.
        response: Response,
    },
    /// Somebody wants a savepoint of the job.
    SavepointWanted,
    /// The checkpoint storage was asked for something.
    StorageAnswered(StorageAnswer),
    /// Time has passed.
    Tick,
}

/// A turn in a checkpoint's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointNote {
    /// Its attempts are about to be asked for their snapshots.
    Triggered(CheckpointId),
    /// It is committed and applied.
    Completed(CheckpointId),
    /// It has come to nothing.
    Aborted(CheckpointId, AbortReason),
}

/// What came of a request to the checkpoint storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageAnswer {
    /// This is gone.
    Deleted(Garbage),
    /// These files are in the job's folder.
    Listed(Vec<String>),
    /// The storage is out of order.
    Failed,
}

/// Everything that a job's master can want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobMasterAction {
    /// Have this decided by Raft; the answer comes as [`JobMasterEvent::Applied`].
    Propose(CommandBody),
    /// Ask the resource manager for these slots, all at once, beside those that the job holds.
    RequestSlots {
        /// Replaces the one before, unless that has been granted already.
        request: SlotRequestId,
        /// How many for which slot sharing group; none withdraws the one before.
        requirements: SlotRequirements,
        /// Where the sub-tasks of each slot last were, in the order of the grant.
        former: Vec<Option<TaskManagerId>>,
    },
    /// Give back slots that the job has no use for.
    ReturnSlots {
        /// Which, each with the request that brought it.
        slots: BTreeMap<SlotId, SlotRequestId>,
    },
    /// Delete what nothing needs any more in the job's folder of the checkpoint storage.
    DeleteFiles(Garbage),
    /// Write down where a checkpoint stands, before anybody else hears of it.
    Note(CheckpointNote),
    /// List the files in the job's folder of the checkpoint storage, unfinished ones among them.
    ListFiles,
    /// Give back whatever slots the job holds.
    ReleaseSlots,
    /// Send to a task manager.
    Send {
        /// Whom it is for.
        task_manager: TaskManagerId,
        /// What.
        command: TaskManagerCommand,
    },
    /// The job has ended and nothing of it is left: this master may go.
    Ended,
}

/// One scheduled attempt, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptObservation {
    /// The attempt and its state.
    pub report: AttemptReport,
    /// Where it runs.
    pub task_manager: Option<TaskManagerName>,
    /// In which of its slots.
    pub slot: u32,
    /// In which process there.
    pub process_id: Option<u32>,
}
