//! The parallel form of a job at run time: attempts, their states, and the schedule that places them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{RestoreFrom, SubtaskState};
use crate::id::{
    AttemptNumber, BlobId, ExecutionAttemptId, ExecutionVertexId, JobId, SubtaskIndex, TaskManagerId, TaskManagerName,
};
use crate::slot::SlotId;

/// Why an attempt, and perhaps its job, failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What sort of failure; decides whether trying again can help.
    pub kind: FailureKind,
    /// The sub-task that failed, unless a whole process did.
    pub vertex: Option<ExecutionVertexId>,
    /// The name of the operator that failed, where it is known.
    pub operator: Option<String>,
    /// What happened, in words for the user.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(operator) = &self.operator {
            write!(f, " in operator {operator:?}")?;
        }
        if let Some(vertex) = self.vertex {
            write!(f, " (vertex {}, sub-task {})", vertex.vertex, vertex.subtask)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// What sort of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailureKind {
    /// The user's code panicked: it would do so again on the same records. Or the job's master did, again and again.
    Panic,
    /// An input or output of the job is not usable, such as a missing file or an output that exists.
    InvalidInput,
    /// The artifact is no executable for this machine, or its hash differs.
    InvalidArtifact,
    /// The executor built another graph than the one that was submitted.
    GraphMismatch,
    /// An executor process ended although it had tasks.
    ExecutorLost,
    /// A task manager was lost.
    TaskManagerLost,
    /// A data connection broke: batches in flight are gone.
    ConnectionLost,
    /// Reading or writing failed for another reason, such as a full disk.
    Io,
    /// More checkpoints in a row failed than the job tolerates.
    Checkpoint,
    /// No failure: a task manager drains, and what ran there was moved.
    Drained,
    /// What the job was to start from cannot be read: files of the checkpoint are missing or damaged.
    Restore,
}

impl FailureKind {
    /// Whether the same work may succeed when it is tried again, perhaps elsewhere.
    #[must_use]
    pub fn recoverable(self) -> bool {
        match self {
            Self::Panic | Self::InvalidInput | Self::InvalidArtifact | Self::GraphMismatch | Self::Restore => false,
            Self::ExecutorLost
            | Self::TaskManagerLost
            | Self::ConnectionLost
            | Self::Io
            | Self::Checkpoint
            | Self::Drained => true,
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panic => "panic",
            Self::InvalidInput => "invalid input",
            Self::InvalidArtifact => "invalid artifact",
            Self::GraphMismatch => "graph mismatch",
            Self::ExecutorLost => "executor lost",
            Self::TaskManagerLost => "task manager lost",
            Self::ConnectionLost => "data connection lost",
            Self::Io => "input/output error",
            Self::Checkpoint => "checkpoints failed",
            Self::Drained => "drained",
            Self::Restore => "restore failed",
        })
    }
}

/// User counters, summed over all sub-tasks.
pub type Accumulators = BTreeMap<String, i64>;

/// What one sub-task of a `collect()` sink gathered, kept as a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectedPart {
    /// Which of the program's `collect()` calls, from 0.
    pub collect_index: u32,
    /// Which sub-task of the sink.
    pub subtask: SubtaskIndex,
    /// The encoded records.
    pub blob: BlobId,
}

/// How an attempt ended. Terminal states absorb: none is ever followed by another state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TerminalState {
    /// It reached the end of its input.
    Finished {
        /// What it added to the job's accumulators.
        accumulators: Accumulators,
        /// What its `collect()` sinks gathered.
        collected: Vec<CollectedPart>,
        /// Its last snapshot: its part of every later checkpoint of the job, the final one included.
        state: SubtaskState,
    },
    /// It stopped because it was told to.
    Canceled,
    /// It failed.
    Failed(Failure),
}

/// The life of an attempt, with Flink's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecutionState {
    /// Known, without a slot.
    Created,
    /// Has a slot.
    Scheduled,
    /// Sent to its task manager; the executor starts and proves its graph.
    Deploying,
    /// The task has its thread and connects its inputs and outputs.
    Initializing,
    /// Records flow.
    Running,
    /// Told to stop, not yet stopped.
    Canceling,
    /// Scheduled by an earlier leader; its task manager has not yet reported to this one.
    Reconciling,
    /// Ended.
    Terminal(TerminalState),
}

impl ExecutionState {
    /// Whether it has ended.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The state's name, as Flink's web page shows it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Scheduled => "SCHEDULED",
            Self::Deploying => "DEPLOYING",
            Self::Initializing => "INITIALIZING",
            Self::Running => "RUNNING",
            Self::Canceling => "CANCELING",
            Self::Reconciling => "RECONCILING",
            Self::Terminal(TerminalState::Finished { .. }) => "FINISHED",
            Self::Terminal(TerminalState::Canceled) => "CANCELED",
            Self::Terminal(TerminalState::Failed(_)) => "FAILED",
        }
    }
}

/// What a task manager says of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptReport {
    /// Which attempt.
    pub attempt: ExecutionAttemptId,
    /// Its state there.
    pub state: ExecutionState,
}

/// What to do with the output that a job's sinks have staged, once per job and on one task manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finalization {
    /// Publish what these attempts staged, and drop what others did.
    Commit {
        /// The attempt of each sub-task that has finished: failover regions may have restarted some and not others.
        attempts: BTreeMap<ExecutionVertexId, AttemptNumber>,
        /// The job's final checkpoint: what each sub-task left when it finished, transactions that are still open
        /// included. None: the job takes no checkpoints.
        checkpoint: Option<RestoreFrom>,
    },
    /// Publish what the newest completed checkpoint commits, and drop whatever else is staged.
    Abort {
        /// That checkpoint: whether its sinks have heard of it must not decide what output there is. None: there is none.
        checkpoint: Option<RestoreFrom>,
    },
}

impl fmt::Display for Finalization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit { attempts, .. } => match (attempts.values().min(), attempts.values().max()) {
                (Some(first), Some(last)) if first < last => write!(f, "commit of attempts {first} to {last}"),
                (Some(only), _) => write!(f, "commit of attempt {only}"),
                (None, _) => f.write_str("commit of no attempt"),
            },
            Self::Abort { .. } => f.write_str("abort"),
        }
    }
}

/// Where a task manager incarnation is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskManagerLocation {
    /// The incarnation.
    pub id: TaskManagerId,
    /// The stable name of its place.
    pub name: TaskManagerName,
    /// `host:port` of its data port.
    pub data_address: String,
}

/// One sub-task's place in a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledAttempt {
    /// The current try.
    pub attempt: AttemptNumber,
    /// Its slot.
    pub slot: SlotId,
}

/// Which attempt of each sub-task runs where.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Schedule {
    /// Every sub-task of the graph.
    pub attempts: BTreeMap<ExecutionVertexId, ScheduledAttempt>,
    /// Invariant: has an entry for each task manager that `attempts` names.
    pub task_managers: BTreeMap<TaskManagerId, TaskManagerLocation>,
}

impl Schedule {
    /// Every attempt's id with its slot, in the order of the graph.
    pub fn attempt_ids(&self, job: JobId) -> impl Iterator<Item = (ExecutionAttemptId, SlotId)> + '_ {
        self.attempts.iter().map(move |(&vertex, scheduled)| {
            (ExecutionAttemptId { job, vertex, attempt: scheduled.attempt }, scheduled.slot)
        })
    }

    /// The current attempt number of each sub-task.
    #[must_use]
    pub fn attempt_numbers(&self) -> BTreeMap<ExecutionVertexId, AttemptNumber> {
        self.attempts.iter().map(|(&vertex, scheduled)| (vertex, scheduled.attempt)).collect()
    }

    /// Whether this exact attempt is the one that the schedule wants.
    #[must_use]
    pub fn wants(&self, attempt: &ExecutionAttemptId) -> bool {
        self.attempts.get(&attempt.vertex).is_some_and(|scheduled| scheduled.attempt == attempt.attempt)
    }
}

impl fmt::Display for Schedule {
    /// `v0[0]#0@tm-1/0 v0[1]#0@tm-2/0`: what the leader logs before it acts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (vertex, scheduled)) in self.attempts.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            let location = self.task_managers.get(&scheduled.slot.task_manager);
            let name = location.map_or("?", |location| location.name.0.as_str());
            write!(f, "{separator}{vertex}#{}@{name}/{}", scheduled.attempt, scheduled.slot.index)?;
        }
        Ok(())
    }
}

/// What a task manager needs to run its share of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDeployment {
    /// The job.
    pub job: JobId,
    /// The whole schedule: an executor derives its own tasks and its peers' addresses from it.
    pub schedule: Schedule,
    /// The attempts to start on the receiving task manager.
    pub start: Vec<ExecutionAttemptId>,
    /// The checkpoint that they start from; none: from nothing.
    pub restore: Option<RestoreFrom>,
}
