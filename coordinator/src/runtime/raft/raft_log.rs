//! The replicated log of one coordinator: openraft, its storage and its network behind [`ReplicatedLog`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, InitializeError, LinearizableReadError, RaftError};
use openraft::{Config, ReadPolicy, SnapshotPolicy};
use tidemill_event_log::EventLog;
use tidemill_model::id::{ClusterId, NodeId};
use tokio::sync::watch;

use super::leadership::{Announcements, since_quorum_ack, watch_leadership};
use super::log_store::LogStore;
use super::member::Member;
use super::network::{Network, Refusals};
use super::state_machine::{StateMachine, Witness};
use super::storage::Storage;
use super::types::{Metrics, TypeConfig};
use crate::engine::replicated::{Command, Response};
use crate::runtime::replicated_log::{self, Applied, Leadership, ReplicatedLog, SharedState};
use crate::runtime::spawn::spawn;

/// The most log entries kept behind a snapshot, so that a replica that is a little late needs no snapshot.
const ENTRIES_BEHIND_SNAPSHOT: u64 = 1000;

/// The most entries of one message: with entries as large as a request may be, it stays below the limit.
const ENTRIES_PER_MESSAGE: u64 = 128;

/// How long the successor may take to be elected before the old leader stops anyway.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the log does not start or is not initialised.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings contradict each other.
    #[error("start Raft: {0}; correct coordinator.raft.*")]
    Settings(String),
    /// The database cannot be used.
    #[error(transparent)]
    Storage(#[from] super::storage::Error),
    /// Openraft stopped.
    #[error("run Raft: {0}; see this coordinator's log")]
    Fatal(String),
    /// The first membership is refused.
    #[error("initialise Raft: {0}")]
    Initialize(String),
}

/// What `coordinator.raft.*` says.
#[derive(Debug, Clone, Copy)]
pub struct RaftSettings {
    /// How often the leader shows that it lives.
    pub heartbeat_interval: Duration,
    /// A replica waits at least this long without a leader before it wants to be one.
    pub election_timeout_min: Duration,
    /// And at most this long.
    pub election_timeout_max: Duration,
    /// A snapshot is taken after so many entries.
    pub snapshot_every: u64,
}

impl RaftSettings {
    fn config(&self, cluster: ClusterId) -> Result<Config, Error> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let config = Config {
            cluster_name: cluster.to_string(),
            heartbeat_interval: millis(self.heartbeat_interval),
            election_timeout_min: millis(self.election_timeout_min),
            election_timeout_max: millis(self.election_timeout_max),
            enable_pre_vote: Some(true),
            // A restarted leader must win an election again: its epoch is the index of a fresh entry.
            enable_leader_restore: Some(false),
            backoff: "20ms,50ms,100ms".into(),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            max_in_snapshot_log_to_keep: ENTRIES_BEHIND_SNAPSHOT.min(self.snapshot_every),
            replication_lag_threshold: self.snapshot_every.max(ENTRIES_BEHIND_SNAPSHOT),
            max_payload_entries: ENTRIES_PER_MESSAGE,
            ..Default::default()
        };
        config.validate().map_err(|error| Error::Settings(error.to_string()))
    }

    /// How long a leader may decide after its quorum's last answer. Others elect a leader at the earliest one
    /// election time-out after *their* last contact has aged by the leader lease (`election_timeout_max`).
    fn lease(&self) -> Duration {
        self.election_timeout_max + self.election_timeout_min
    }
}

/// Numbers about the log, for `/metrics` and `/ready`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftStatus {
    /// The newest term seen.
    pub term: u64,
    /// Who leads, as openraft sees it.
    pub leader: Option<NodeId>,
    /// The end of the log.
    pub last_log_index: u64,
    /// Up to where a quorum has it.
    pub committed_index: u64,
    /// Up to where it is applied here.
    pub applied_index: u64,
    /// Up to where the newest snapshot goes.
    pub snapshot_index: u64,
    /// How long ago a quorum answered this leader; none when this is no leader.
    pub since_quorum_ack: Option<Duration>,
    /// How many commands have been proposed here.
    pub proposals: u64,
    /// How many of them a later leadership made stale.
    pub stale: u64,
}

type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// One replica of the log, while it runs.
pub struct RaftLog {
    raft: Raft,
    cluster: ClusterId,
    node: NodeId,
    shared: SharedState,
    refusals: Refusals,
    leadership: watch::Receiver<Leadership>,
    failure: watch::Receiver<Option<String>>,
    /// Closes when the database does. Nothing else in here may hold the database open.
    closed: watch::Receiver<()>,
    proposals: AtomicU64,
    stale: AtomicU64,
}

impl std::fmt::Debug for RaftLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftLog").field("node", &self.node).field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl RaftLog {
    /// Starts the replica `node` of `cluster` over its database.
    ///
    /// # Errors
    ///
    /// When the settings contradict each other or the database cannot be read.
    pub async fn start(
        storage: Storage,
        cluster: ClusterId,
        node: NodeId,
        settings: RaftSettings,
        events: EventLog,
    ) -> Result<Arc<Self>, Error> {
        let config = Arc::new(settings.config(cluster)?);
        let closed = storage.closed();
        let refusals = Refusals::default();
        let shared = SharedState::default();
        let witness = Witness { node, events };
        let machine = StateMachine::load(storage.clone(), shared.clone(), witness);
        let machine = machine.map_err(super::storage::Error::from)?;
        let network = Network::new(cluster, node, refusals.clone());
        let raft = Raft::new(node.0, config, network, LogStore::new(storage), machine).await;
        let raft = raft.map_err(|error| Error::Fatal(error.to_string()))?;
        let (leader, leadership) = watch::channel(Leadership::Follower { leader: None });
        let (failed, failure) = watch::channel(None);
        let announcements = Announcements { leadership: leader, failure: failed };
        let watching = watch_leadership(raft.metrics(), settings.lease(), settings.heartbeat_interval, announcements);
        spawn("raft-leadership", watching);
        let (proposals, stale) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Arc::new(Self { raft, cluster, node, shared, refusals, leadership, failure, closed, proposals, stale }))
    }

    /// The cluster that this log belongs to.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Peers that refuse this replica.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Why the log has stopped for good, once it has.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }

    pub(crate) fn node_id(&self) -> NodeId {
        self.node
    }

    /// Whether the log has its first entry, here.
    ///
    /// # Errors
    ///
    /// When Raft has stopped.
    pub async fn is_initialized(&self) -> Result<bool, Error> {
        self.raft.is_initialized().await.map_err(|error| Error::Fatal(error.to_string()))
    }

    /// Writes the first membership; without effect when there is one.
    ///
    /// # Errors
    ///
    /// When this node is not among the members, or Raft has stopped.
    pub async fn initialize(&self, members: BTreeMap<NodeId, Member>) -> Result<(), Error> {
        let members: BTreeMap<u64, Member> = members.into_iter().map(|(id, member)| (id.0, member)).collect();
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(error @ InitializeError::NotInMembers(_))) => {
                Err(Error::Initialize(error.to_string()))
            }
            Err(RaftError::Fatal(error)) => Err(Error::Fatal(error.to_string())),
        }
    }

    /// The membership in effect.
    #[must_use]
    pub fn members(&self) -> BTreeMap<NodeId, Member> {
        self.with_metrics(|metrics| {
            let nodes = metrics.membership_config.nodes();
            nodes.map(|(id, member)| (NodeId(*id), member.clone())).collect()
        })
    }

    /// Numbers about the log.
    #[must_use]
    pub fn status(&self) -> RaftStatus {
        let index = |id: &Option<super::types::LogId>| id.as_ref().map_or(0, |id| id.index());
        self.with_metrics(|metrics| RaftStatus {
            term: metrics.current_term,
            leader: metrics.current_leader.map(NodeId),
            last_log_index: metrics.last_log_index.unwrap_or(0),
            committed_index: index(&metrics.local_committed),
            applied_index: index(&metrics.last_applied),
            snapshot_index: index(&metrics.snapshot),
            since_quorum_ack: since_quorum_ack(metrics).filter(|_| metrics.current_leader == Some(metrics.id)),
            proposals: self.proposals.load(Ordering::Relaxed),
            stale: self.stale.load(Ordering::Relaxed),
        })
    }

    fn with_metrics<T>(&self, read: impl FnOnce(&Metrics) -> T) -> T {
        read(&self.raft.metrics().borrow_watched())
    }

    /// Hands leadership, if it is here, to the voter that is furthest; best effort, and bounded.
    pub async fn transfer_leadership(&self) {
        let mut leadership = self.leadership.clone();
        let leads = |leadership: &Leadership| matches!(leadership, Leadership::Leader { .. });
        if !leads(&leadership.borrow()) {
            return;
        }
        let successor = self.with_metrics(|metrics| {
            let replication = metrics.replication.as_ref()?;
            let others = metrics.membership_config.voter_ids().filter(|&voter| voter != metrics.id);
            others.max_by_key(|voter| replication.get(voter).cloned().flatten().map(|id| id.index()))
        });
        let Some(successor) = successor else { return };
        tracing::info!(node_id = successor, "hand leadership over");
        if self.raft.trigger().transfer_leader(successor).await.is_ok() {
            let handed_over = leadership.wait_for(|leadership| !leads(leadership));
            drop(tokio::time::timeout(TRANSFER_TIMEOUT, handed_over).await);
        }
    }

    /// Stops the replica and waits until its database is closed.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "stop Raft");
        }
        let mut closed = self.closed.clone();
        while closed.changed().await.is_ok() {}
    }

    async fn leadership_ended(&self, term: u64) {
        let mut leadership = self.leadership.clone();
        // An error means that the watcher has ended, and leadership with it.
        drop(leadership.wait_for(|now| *now != Leadership::Leader { term }).await);
    }

    /// The term in which this replica leads.
    fn leading(&self) -> Result<u64, replicated_log::Error> {
        match *self.leadership.borrow() {
            Leadership::Leader { term } => Ok(term),
            Leadership::Follower { leader } => Err(replicated_log::Error::NotLeader { leader }),
        }
    }

    async fn propose_leading(&self, command: Command) -> Result<Applied, replicated_log::Error> {
        let term = self.leading()?;
        self.proposals.fetch_add(1, Ordering::Relaxed);
        let written = tokio::select! {
            biased;
            written = self.raft.client_write(command) => written,
            () = self.leadership_ended(term) => {
                let reason = "leadership ended before the answer".to_owned();
                return Err(replicated_log::Error::Unknown { reason });
            }
        };
        match written {
            Ok(written) => {
                if matches!(written.data, Response::Stale { .. }) {
                    self.stale.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Applied { index: written.log_id.index(), response: written.data })
            }
            Err(RaftError::APIError(error)) => Err(refused(&error)),
            Err(RaftError::Fatal(error)) => Err(replicated_log::Error::Stopped { reason: error.to_string() }),
        }
    }

    async fn linearize_leading(&self) -> Result<(), replicated_log::Error> {
        let term = self.leading()?;
        let read = tokio::select! {
            biased;
            read = self.raft.ensure_linearizable(ReadPolicy::ReadIndex) => read,
            () = self.leadership_ended(term) => return Err(replicated_log::Error::NotLeader { leader: None }),
        };
        match read {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(replicated_log::Error::NotLeader { leader: forward.leader_id.map(NodeId) })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(replicated_log::Error::NotLeader { leader: None })
            }
            Err(RaftError::Fatal(error)) => Err(replicated_log::Error::Stopped { reason: error.to_string() }),
        }
    }
}

fn refused(error: &ClientWriteError<TypeConfig>) -> replicated_log::Error {
    match error {
        ClientWriteError::ForwardToLeader(forward) => {
            replicated_log::Error::NotLeader { leader: forward.leader_id.map(NodeId) }
        }
        ClientWriteError::LogEntryDiscarded(_)
        | ClientWriteError::ChangeMembershipError(_)
        | ClientWriteError::PreconditionFailed(_) => replicated_log::Error::Unknown { reason: error.to_string() },
    }
}

impl ReplicatedLog for RaftLog {
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Applied, replicated_log::Error>> {
        self.propose_leading(command).boxed()
    }

    fn linearize(&self) -> BoxFuture<'_, Result<(), replicated_log::Error>> {
        self.linearize_leading().boxed()
    }

    fn state(&self) -> &SharedState {
        &self.shared
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    fn node(&self) -> NodeId {
        self.node
    }
}
