//! What can be observed of a simulated cluster: the invariants and the totals see this and nothing else.

use tidemill_coordinator::engine::leader::TaskManagerCommand;
use tidemill_coordinator::engine::replicated::{ClusterState, Command, Response};
use tidemill_model::execution::ExecutionState;
use tidemill_model::id::{ExecutionAttemptId, JobId, LeaderEpoch, NodeId, TaskManagerId};
use tidemill_model::job::JobStatus;
use tidemill_taskmanager::engine::Directive;

/// One observation.
#[derive(Debug)]
pub enum Fact<'a> {
    /// A replica has applied an entry.
    Applied {
        /// Which replica.
        node: NodeId,
        /// The entry's place.
        index: u64,
        /// The term in which it was appended.
        term: u64,
        /// What was decided.
        command: &'a Command,
        /// What applying it answered.
        response: &'a Response,
        /// The replica's state before.
        before: &'a ClusterState,
        /// And after.
        after: &'a ClusterState,
    },
    /// A leader's engines have been built.
    LeadershipBegan {
        /// Where.
        node: NodeId,
        /// Its fencing token.
        epoch: LeaderEpoch,
    },
    /// A leader sends a command to a task manager.
    Sent {
        /// The leader's epoch.
        epoch: LeaderEpoch,
        /// To whom.
        task_manager: TaskManagerId,
        /// What.
        command: &'a TaskManagerCommand,
        /// What the leader's replica has applied.
        state: &'a ClusterState,
    },
    /// A welcome or directive has reached an agent.
    Directed {
        /// Who got it.
        task_manager: TaskManagerId,
        /// For whom it was meant.
        addressee: TaskManagerId,
        /// Who decided it.
        epoch: LeaderEpoch,
        /// The agent's fence before.
        before: LeaderEpoch,
        /// And after.
        after: LeaderEpoch,
        /// What it was; none: a welcome.
        directive: Option<&'a Directive>,
        /// Whether the agent refused it.
        refused: bool,
    },
    /// An agent has made its report to a leader.
    Reported {
        /// Who.
        task_manager: TaskManagerId,
        /// To the leader of this epoch.
        epoch: LeaderEpoch,
        /// The agent's fence now.
        fence: LeaderEpoch,
    },
    /// An executor has started a task.
    TaskStarted {
        /// Which.
        attempt: ExecutionAttemptId,
        /// Where.
        task_manager: TaskManagerId,
    },
    /// A task runs no more.
    TaskStopped {
        /// Which.
        attempt: ExecutionAttemptId,
        /// Where it ran.
        task_manager: TaskManagerId,
    },
    /// A task manager says how an attempt stands.
    Told {
        /// Which.
        attempt: ExecutionAttemptId,
        /// How.
        state: &'a ExecutionState,
    },
    /// Staged output has become visible.
    Published {
        /// Whose.
        job: JobId,
        /// The attempts whose output it is.
        attempts: &'a [ExecutionAttemptId],
        /// What became visible, sorted.
        content: &'a [Written],
        /// What a run without failures makes visible, sorted.
        expected: &'a [Written],
    },
    /// A sink's transaction has become visible.
    Committed {
        /// The attempt that wrote it.
        sink: ExecutionAttemptId,
        /// What is in it, in its order.
        records: &'a [Written],
    },
    /// Files of a job's checkpoints have been deleted.
    Deleted {
        /// Whose.
        job: JobId,
        /// Which.
        paths: &'a [String],
    },
    /// A client has been told that its submission is accepted.
    SubmissionAcknowledged {
        /// Which job.
        job: JobId,
    },
    /// A client has been told that its cancellation is accepted.
    CancellationAcknowledged {
        /// Which job.
        job: JobId,
    },
    /// A client has read a job's status.
    StatusRead {
        /// Which job.
        job: JobId,
        /// How it stands; none: no such job.
        status: Option<&'a JobStatus>,
    },
    /// Something has happened to a process or connection that tasks need, or to a task, so that restarts are due.
    WorkersDisturbed {
        /// Of which job; none: of any.
        job: Option<JobId>,
    },
}

/// One record as a sink writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written {
    /// Which source emitted it.
    pub source: u32,
    /// Which of that source's records.
    pub offset: u64,
    /// How many of that source's records this sink had counted with it: its state.
    pub count: u64,
}
