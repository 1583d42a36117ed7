//! What coordinators tell about jobs and about themselves, in the model's types.

use std::time::Duration;

use tidemill_model::execution::AttemptReport;
use tidemill_model::id::{CheckpointId, ClusterId, JobId, LeaderEpoch, NodeId, TaskManagerId, TaskManagerName};
use tidemill_model::job::{HistoryEntry, JobStatus};
use tidemill_model::job_graph::JobGraph;
use tidemill_model::time::Timestamp;
use tidemill_proto::{convert, pb};

use super::CheckpointOverview;

/// One line of the list of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSummary {
    /// The job.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub status: JobStatus,
    /// When the leader accepted it.
    pub submitted: Timestamp,
}

/// All that the leader knows of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDetails {
    /// The job.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub status: JobStatus,
    /// When the leader accepted it.
    pub submitted: Timestamp,
    /// Its statuses so far.
    pub history: Vec<HistoryEntry>,
    /// Its sub-tasks' current attempts.
    pub attempts: Vec<AttemptDetails>,
    /// Why it waits, when it does.
    pub waiting_reason: Option<String>,
    /// Its graph.
    pub graph: JobGraph,
    /// Records that sources emitted in this run, as last reported.
    pub records_in: u64,
    /// Records that sinks took in this run, as last reported.
    pub records_out: u64,
    /// How often it was restarted.
    pub restarts: u32,
    /// How many of its checkpoints were completed.
    pub checkpoints_completed: u64,
    /// The newest completed checkpoint that is kept.
    pub latest_checkpoint: Option<CheckpointId>,
    /// The newest checkpoint that sub-tasks were started from.
    pub restored_checkpoint: Option<CheckpointId>,
    /// Its checkpoints; none: it takes none.
    pub checkpoints: Option<CheckpointOverview>,
}

/// One attempt of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptDetails {
    /// Its id and state.
    pub report: AttemptReport,
    /// Where it runs.
    pub task_manager: Option<TaskManagerName>,
    /// Its slot there. Attempts of the same task manager and slot share it.
    pub slot: Option<u32>,
    /// The executor's process id there.
    pub process_id: Option<u32>,
}

/// What one coordinator says of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The cluster.
    pub cluster: ClusterId,
    /// The current leadership, when there is one.
    pub epoch: Option<LeaderEpoch>,
    /// The replicas.
    pub nodes: Vec<NodeStatus>,
    /// The task managers; only the leader knows them.
    pub task_managers: Vec<TaskManagerStatus>,
    /// The inheritances of this leadership; only the leader knows them.
    pub takeovers: Vec<Takeover>,
    /// The node that answered.
    pub node: NodeId,
    /// The last log index that it applied.
    pub applied_index: u64,
    /// A checksum of its state at that index.
    pub state_checksum: u64,
    /// The end of its log.
    pub last_log_index: u64,
    /// Up to where it knows its log to be committed.
    pub committed_index: u64,
    /// What a person must look at there, such as a full disk.
    pub alarms: Vec<String>,
    /// How long ago it last heard of a leader, or as a leader of its quorum; none when it has not since its start.
    pub heard: Option<Duration>,
}

impl ClusterStatus {
    /// The leader, as this coordinator sees it.
    #[must_use]
    pub fn leader(&self) -> Option<&NodeStatus> {
        self.nodes.iter().find(|node| node.leader)
    }

    /// Whether the coordinator that answered is the leader, so that nothing is left out.
    #[must_use]
    pub fn from_leader(&self) -> bool {
        self.leader().is_some_and(|leader| leader.id == self.node)
    }
}

/// One coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its number in the Raft group.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// `host:port` for clients.
    pub client_address: String,
    /// `host:port` for its peers.
    pub raft_address: String,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it votes; else it is a learner, which only receives the log.
    pub voter: bool,
    /// Up to where its log agrees with the leader's; only the leader knows.
    pub matched_index: Option<u64>,
    /// How long ago it last answered the leader; only the leader knows, and not of itself.
    pub answered: Option<Duration>,
}

/// One task manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskManagerStatus {
    /// Its incarnation.
    pub id: TaskManagerId,
    /// Its stable name.
    pub name: TaskManagerName,
    /// `host:port` of its data port.
    pub data_address: String,
    /// How many slots it offers.
    pub slots: u32,
    /// How many of them are free.
    pub free_slots: u32,
    /// Each slot's share of managed memory.
    pub slot_memory_bytes: u64,
    /// How long ago its last heartbeat came.
    pub heartbeat_age: Duration,
    /// Its process id.
    pub process_id: u32,
    /// Whether it gets nothing new, and what runs there moves to others.
    pub draining: bool,
    /// The jobs that hold slots of it.
    pub jobs: Vec<JobId>,
}

/// How one leadership inherited one running job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// The leadership.
    pub epoch: LeaderEpoch,
    /// The job.
    pub job: JobId,
    /// Tasks that went on undisturbed.
    pub tasks_adopted: u32,
    /// Tasks that had to be started again.
    pub tasks_restarted: u32,
}

impl TryFrom<pb::JobSummary> for JobSummary {
    type Error = convert::Error;

    fn try_from(summary: pb::JobSummary) -> Result<Self, convert::Error> {
        Ok(Self {
            id: convert::job_id(&summary.id, "JobSummary.id")?,
            name: summary.name,
            status: summary.status.unwrap_or_default().try_into()?,
            submitted: Timestamp(summary.submitted_ms),
        })
    }
}

impl TryFrom<pb::JobDetails> for JobDetails {
    type Error = convert::Error;

    fn try_from(details: pb::JobDetails) -> Result<Self, convert::Error> {
        Ok(Self {
            id: convert::job_id(&details.id, "JobDetails.id")?,
            name: details.name,
            status: details.status.unwrap_or_default().try_into()?,
            submitted: Timestamp(details.submitted_ms),
            history: details.history.into_iter().map(HistoryEntry::try_from).collect::<Result<_, _>>()?,
            attempts: details.attempts.into_iter().map(AttemptDetails::try_from).collect::<Result<_, _>>()?,
            waiting_reason: details.waiting_reason,
            graph: details.graph.unwrap_or_default().try_into()?,
            records_in: details.records_in,
            records_out: details.records_out,
            restarts: details.restarts,
            checkpoints_completed: details.checkpoints_completed,
            latest_checkpoint: details.latest_checkpoint.map(CheckpointId),
            restored_checkpoint: details.restored_checkpoint.map(CheckpointId),
            checkpoints: details.checkpoints.map(CheckpointOverview::try_from).transpose()?,
        })
    }
}

impl TryFrom<pb::AttemptDetails> for AttemptDetails {
    type Error = convert::Error;

    fn try_from(details: pb::AttemptDetails) -> Result<Self, convert::Error> {
        Ok(Self {
            report: details.report.unwrap_or_default().try_into()?,
            task_manager: Some(details.task_manager).filter(|name| !name.is_empty()).map(TaskManagerName),
            slot: details.slot,
            process_id: Some(details.process_id).filter(|&id| id != 0),
        })
    }
}

impl TryFrom<pb::ClusterStatusResponse> for ClusterStatus {
    type Error = convert::Error;

    fn try_from(status: pb::ClusterStatusResponse) -> Result<Self, convert::Error> {
        Ok(Self {
            cluster: convert::cluster_id(&status.cluster_id, "ClusterStatusResponse.cluster_id")?,
            epoch: Some(LeaderEpoch(status.epoch)).filter(|epoch| epoch.0 != 0),
            nodes: status.nodes.into_iter().map(NodeStatus::from).collect(),
            task_managers: status
                .task_managers
                .into_iter()
                .map(TaskManagerStatus::try_from)
                .collect::<Result<_, _>>()?,
            takeovers: status.takeovers.into_iter().map(Takeover::try_from).collect::<Result<_, _>>()?,
            node: NodeId(status.node_id),
            applied_index: status.applied_index,
            state_checksum: status.state_checksum,
            last_log_index: status.last_log_index,
            committed_index: status.committed_index,
            alarms: status.alarms,
            heard: status.read.and_then(|read| read.age_ms).map(Duration::from_millis),
        })
    }
}

impl From<pb::NodeStatus> for NodeStatus {
    fn from(node: pb::NodeStatus) -> Self {
        Self {
            id: NodeId(node.node_id),
            name: node.name,
            client_address: node.client_address,
            raft_address: node.raft_address,
            leader: node.leader,
            voter: node.voter,
            matched_index: node.matched_index,
            answered: node.answered_ms.map(Duration::from_millis),
        }
    }
}

impl TryFrom<pb::TaskManagerStatus> for TaskManagerStatus {
    type Error = convert::Error;

    fn try_from(status: pb::TaskManagerStatus) -> Result<Self, convert::Error> {
        let jobs = status.jobs.iter().map(|job| convert::job_id(job, "TaskManagerStatus.jobs"));
        Ok(Self {
            id: convert::task_manager_id(&status.id, "TaskManagerStatus.id")?,
            name: TaskManagerName(status.name),
            data_address: status.data_address,
            slots: status.slots,
            free_slots: status.free_slots,
            slot_memory_bytes: status.slot_memory_bytes,
            heartbeat_age: Duration::from_millis(status.heartbeat_age_ms),
            process_id: status.process_id,
            draining: status.draining,
            jobs: jobs.collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<pb::Takeover> for Takeover {
    type Error = convert::Error;

    fn try_from(takeover: pb::Takeover) -> Result<Self, convert::Error> {
        Ok(Self {
            epoch: LeaderEpoch(takeover.epoch),
            job: convert::job_id(&takeover.job, "Takeover.job")?,
            tasks_adopted: takeover.tasks_adopted,
            tasks_restarted: takeover.tasks_restarted,
        })
    }
}
