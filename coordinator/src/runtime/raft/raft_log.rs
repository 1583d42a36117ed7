//! The replicated log of one coordinator: openraft, its storage and its network behind [`ReplicatedLog`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, InitializeError, RaftError};
use openraft::{Config, SnapshotPolicy};
use tidemill_event_log::EventLog;
use tidemill_model::id::{ClusterId, NodeId};
use tokio::sync::watch;

use super::leadership::{Announcements, Failure, Observed, watch_leadership};
use super::log_store::LogStore;
use super::member::Member;
use super::network::{Channels, Network, Refusals};
use super::reads::{Heard, ReadIndexPolicy};
use super::state_machine::{StateMachine, Witness};
use super::storage::{Storage, WeakStorage};
use super::types::{Metrics, TypeConfig};
use crate::engine::replicated::{Command, Response};
use crate::runtime::replicated_log::{self, Applied, Leadership, ReplicatedLog, SharedState};
use crate::runtime::spawn::spawn;

/// The most log entries kept behind a snapshot, so that a replica that is a little late needs no snapshot.
const ENTRIES_BEHIND_SNAPSHOT: u64 = 1000;

/// The most entries of one message: with entries as large as a request may be, it stays below the limit.
const ENTRIES_PER_MESSAGE: u64 = 128;

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

type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// One replica of the log, while it runs.
pub struct RaftLog {
    raft: Raft,
    cluster: ClusterId,
    node: NodeId,
    shared: SharedState,
    refusals: Refusals,
    channels: Channels,
    /// For observers only.
    storage: WeakStorage,
    heard: Heard,
    lease: Duration,
    leadership: watch::Receiver<Leadership>,
    failure: watch::Receiver<Option<Failure>>,
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
        let (closed, weak_storage) = (storage.closed(), storage.downgrade());
        let refusals = Refusals::default();
        let shared = SharedState::default();
        let witness = Witness { node, events };
        let machine = StateMachine::load(storage.clone(), shared.clone(), witness);
        let machine = machine.map_err(super::storage::Error::from)?;
        let channels = Channels::default();
        let network = Network::new(cluster, node, refusals.clone(), channels.clone());
        let log = LogStore::new(storage);
        log.verify(machine.snapshot_index()).map_err(super::storage::Error::from)?;
        let raft = Raft::new(node.0, config, network, log, machine).await;
        let raft = raft.map_err(|error| Error::Fatal(error.to_string()))?;
        let (leader, leadership) = watch::channel(Leadership::Follower { leader: None });
        let (failed, failure) = watch::channel(None);
        let heard = Heard::default();
        let announcements = Announcements { leadership: leader, failure: failed };
        let watching = watch_leadership(
            Observed { metrics: raft.metrics(), server: raft.server_metrics() },
            heard.clone(),
            settings.lease(),
            settings.heartbeat_interval,
            announcements,
        );
        spawn("raft-leadership", watching);
        Ok(Arc::new(Self {
            raft,
            cluster,
            node,
            shared,
            refusals,
            channels,
            storage: weak_storage,
            heard,
            lease: settings.lease(),
            leadership,
            failure,
            closed,
            proposals: AtomicU64::new(0),
            stale: AtomicU64::new(0),
        }))
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
    pub fn failure(&self) -> watch::Receiver<Option<Failure>> {
        self.failure.clone()
    }

    /// What a person must look at on this coordinator.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        let failure = self.failure.borrow().as_ref().map(|failure| format!("the replica has stopped: {failure}"));
        let refusals = self.refusals.list();
        let refusals = refusals.iter().map(|(node, reason)| format!("it and node {node} refuse each other: {reason}"));
        failure.into_iter().chain(refusals).collect()
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }

    pub(crate) fn node_id(&self) -> NodeId {
        self.node
    }

    pub(super) fn channels(&self) -> &Channels {
        &self.channels
    }

    pub(super) fn storage(&self) -> &WeakStorage {
        &self.storage
    }

    pub(super) fn heard(&self) -> &Heard {
        &self.heard
    }

    /// How long a leader leads without an answer of its quorum.
    pub(super) fn lease(&self) -> Duration {
        self.lease
    }

    pub(super) fn leadership_changes(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Whether this replica leads, with a quorum that answers.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leading().is_ok()
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

    pub(super) fn with_metrics<T>(&self, read: impl FnOnce(&Metrics) -> T) -> T {
        read(&self.raft.metrics().borrow_watched())
    }

    /// Stops the replica and waits until its database is closed.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "stop Raft");
        }
        let mut closed = self.closed.clone();
        while closed.changed().await.is_ok() {}
    }

    pub(super) async fn leadership_ended(&self, term: u64) {
        let mut leadership = self.leadership.clone();
        // An error means that the watcher has ended, and leadership with it.
        drop(leadership.wait_for(|now| *now != Leadership::Leader { term }).await);
    }

    /// The term in which this replica leads.
    pub(super) fn leading(&self) -> Result<u64, replicated_log::Error> {
        match *self.leadership.borrow() {
            Leadership::Leader { term } => Ok(term),
            Leadership::Follower { leader } => Err(replicated_log::Error::NotLeader { leader }),
        }
    }

    /// How many commands were proposed here, and how many of them a later leadership made stale.
    pub(super) fn proposed(&self) -> (u64, u64) {
        (self.proposals.load(Ordering::Relaxed), self.stale.load(Ordering::Relaxed))
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
        async {
            self.leading()?;
            self.linearize_read(ReadIndexPolicy::Quorum).await.map(drop)
        }
        .boxed()
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
