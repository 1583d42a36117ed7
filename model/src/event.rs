//! What a process writes down about itself, for whoever checks a cluster's behaviour from outside.
//!
//! A process with `events.dir` writes one JSON object a line, an [`EventRecord`] each. All processes of a machine
//! share its monotonic clock, so that their records have one order.

use serde::{Deserialize, Serialize};

use crate::id::{
    AttemptNumber, ExecutionAttemptId, JobId, JobVertexId, LeaderEpoch, NodeId, SubtaskIndex, TaskManagerId,
};

mod text;

/// A line that is no record.
#[derive(Debug, thiserror::Error)]
#[error("parse event {line:?}: {source}")]
pub struct ParseEventError {
    line: String,
    source: serde_json::Error,
}

/// One line: who, when and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// `CLOCK_MONOTONIC`, in nanoseconds: comparable over all processes since this machine was started.
    pub mono_ns: u64,
    /// The wall clock, in nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// Which process.
    #[serde(flatten)]
    pub process: EventProcess,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl EventRecord {
    /// The record as a line, without its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("records have text keys and no maps")
    }

    /// Reads a line back.
    ///
    /// # Errors
    ///
    /// When it is not a record, such as the last line of a process that was killed.
    pub fn parse(line: &str) -> Result<Self, ParseEventError> {
        serde_json::from_str(line).map_err(|source| ParseEventError { line: line.to_owned(), source })
    }
}

/// The process that writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventProcess {
    /// The machine's name.
    pub host: String,
    /// The process id.
    pub pid: u32,
    /// Which run of the machine: monotonic times of different ones are not comparable.
    pub boot_id: String,
    /// What the process is.
    pub role: EventRole,
    /// The coordinator's or task manager's own name.
    pub name: String,
}

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventRole {
    /// A coordinator.
    Coordinator,
    /// A task manager; it speaks for its executors too.
    TaskManager,
}

impl EventRole {
    /// The role's name in records and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::TaskManager => "task_manager",
        }
    }
}

/// An execution attempt, as four fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventAttempt {
    /// The job.
    #[serde(with = "text")]
    pub job: JobId,
    /// The chain of operators.
    pub vertex: JobVertexId,
    /// Which of its sub-tasks.
    pub subtask: SubtaskIndex,
    /// Which try.
    pub attempt: AttemptNumber,
}

impl From<ExecutionAttemptId> for EventAttempt {
    fn from(id: ExecutionAttemptId) -> Self {
        Self { job: id.job, vertex: id.vertex.vertex, subtask: id.vertex.subtask, attempt: id.attempt }
    }
}

/// A leader's word to a task manager, as it was obeyed or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCall {
    /// What the leader wanted, such as `deploy`.
    pub kind: String,
    /// The epoch that decided it.
    pub term: LeaderEpoch,
    /// The highest epoch that the task manager has seen, this one included if it was obeyed.
    pub max_term: LeaderEpoch,
    /// The incarnation that was spoken to.
    #[serde(with = "text")]
    pub task_manager: TaskManagerId,
    /// The job that it is about.
    #[serde(with = "text::optional", default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// The attempts' number, when they have one in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptNumber>,
    /// The checkpoint that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ckpt: Option<u64>,
}

/// What a command decides of checkpoints and attempts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EventDecision {
    /// The checkpoint that is completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ckpt: Option<u64>,
    /// The hash of what it consists of; not of a job's final one, which the log does not carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_sha: Option<String>,
    /// The number of the attempts that are scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptNumber>,
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventFile {
    /// Where it is in the job's folder of the checkpoint storage.
    pub path: String,
    /// How long it is at least: the end of the last range of it that the checkpoint needs.
    pub bytes: u64,
}

/// Everything that is written down. `term` is always a [`LeaderEpoch`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ev", rename_all = "snake_case")]
pub enum Event {
    /// The process writes from here on.
    ProcessStart {
        /// Its release.
        version: String,
    },
    /// Records are missing here: they came faster than they could be written.
    EventsLost {
        /// How many.
        count: u64,
    },
    /// A leadership has begun: its entry is applied.
    LeaderStart {
        /// Its epoch.
        term: LeaderEpoch,
        /// The Raft term of its election.
        raft_term: u64,
        /// Who leads.
        node: NodeId,
    },
    /// A leadership decides nothing any more.
    LeaderStop {
        /// Its epoch.
        term: LeaderEpoch,
        /// The Raft term of its election.
        raft_term: u64,
        /// Who led.
        node: NodeId,
    },
    /// A replica has applied a command. Each replica writes each command, unless a snapshot spares it.
    ProposalApplied {
        /// The replica.
        node: NodeId,
        /// The epoch that decided it.
        term: LeaderEpoch,
        /// Its place in the log.
        index: u64,
        /// The command's name.
        kind: String,
        /// The job that it is about.
        #[serde(with = "text::optional", default, skip_serializing_if = "Option::is_none")]
        job: Option<JobId>,
        /// What it decides of checkpoints and attempts.
        #[serde(flatten)]
        decided: EventDecision,
        /// What applying it answered.
        response: String,
        /// Whether it was lawful: false for one of an older epoch, which has no effect.
        effective: bool,
    },
    /// A task manager has greeted a leader and raised its fence.
    TmRegister {
        /// The leader's epoch.
        leader_term: LeaderEpoch,
        /// The incarnation.
        #[serde(with = "text")]
        task_manager: TaskManagerId,
    },
    /// A task manager does what a leader wants.
    RpcAccept {
        /// What.
        #[serde(flatten)]
        call: EventCall,
    },
    /// A task manager refuses what a leader wants.
    RpcReject {
        /// What.
        #[serde(flatten)]
        call: EventCall,
        /// Why.
        reason: String,
    },
    /// A sub-task has its thread.
    TaskStart {
        /// Which.
        #[serde(flatten)]
        attempt: EventAttempt,
        /// The incarnation that hosts it.
        #[serde(with = "text")]
        task_manager: TaskManagerId,
    },
    /// A sub-task has ended.
    TaskStop {
        /// Which.
        #[serde(flatten)]
        attempt: EventAttempt,
        /// The incarnation that hosted it.
        #[serde(with = "text")]
        task_manager: TaskManagerId,
        /// How and why.
        reason: String,
    },
    /// A leader has asked for a checkpoint.
    CkptTrigger {
        /// The job.
        #[serde(with = "text")]
        job: JobId,
        /// The checkpoint.
        id: u64,
        /// The leader's epoch.
        term: LeaderEpoch,
    },
    /// A sub-task's part of a checkpoint is durable.
    CkptAck {
        /// Whose.
        #[serde(flatten)]
        attempt: EventAttempt,
        /// The checkpoint.
        id: u64,
        /// The hash of what the part consists of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state_sha: Option<String>,
    },
    /// A checkpoint is completed: committed and applied.
    CkptComplete {
        /// The job.
        #[serde(with = "text")]
        job: JobId,
        /// The checkpoint.
        id: u64,
        /// The leader's epoch.
        term: LeaderEpoch,
        /// The hash of what it consists of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        manifest_sha: Option<String>,
        /// The files that it needs.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<EventFile>,
    },
    /// A checkpoint will not be completed.
    CkptAbort {
        /// The job.
        #[serde(with = "text")]
        job: JobId,
        /// The checkpoint.
        id: u64,
        /// The leader's epoch.
        term: LeaderEpoch,
        /// Why.
        reason: String,
    },
    /// A sub-task starts from a checkpoint.
    Restore {
        /// Which.
        #[serde(flatten)]
        attempt: EventAttempt,
        /// The checkpoint.
        ckpt: u64,
        /// The hash of what its part consists of: that of the acknowledgement.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state_sha: Option<String>,
    },
    /// Output is published: a whole sink's at the job's end, or what one sub-task had prepared up to a checkpoint.
    SinkCommit {
        /// The job.
        #[serde(with = "text")]
        job: JobId,
        /// The sub-task, when a single one committed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subtask: Option<SubtaskIndex>,
        /// With which checkpoint, if with one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ckpt: Option<u64>,
        /// The files that appeared.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<String>,
    },
    /// A file that nothing refers to has been deleted.
    GcDelete {
        /// Its path.
        path: String,
    },
}

#[cfg(test)]
mod tests;
