//! One coordinator: its directory, and its replica of the log once it is a member.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_event_log::EventLog;
use tidemill_model::id::{ClusterId, DirectoryId, NodeId};
use tokio::sync::{Mutex, watch};

use super::blob_store::BlobStore;
use super::data_directory::{self, DataDirectory, Identity};
use super::membership::settle_regularly;
use super::settings::CoordinatorSettings;
use crate::runtime::clock::Clock;
use crate::runtime::leader::{LeaderHandle, run_leaderships};
use crate::runtime::raft::{self, Channels, Member, RaftLog, Storage, StorageError};
use crate::runtime::replicated_log::{Leadership, ReplicatedLog};
use crate::runtime::spawn::spawn;

/// Why a node does not start or become a member.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory refuses.
    #[error(transparent)]
    Directory(#[from] data_directory::Error),
    /// The log's database refuses.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log does not start.
    #[error(transparent)]
    Raft(#[from] raft::Error),
    /// It is about to end.
    #[error("adopt directory: this coordinator is stopping; start it again, then repeat")]
    Stopping,
    /// The adopting task ended by panic.
    #[error("adopt directory: {reason}; see this coordinator's log, restart it, then repeat")]
    Interrupted {
        /// What happened.
        reason: String,
    },
    /// The caller means another directory.
    #[error("adopt directory {wanted}: this coordinator's directory is {found}; run `tidemill cluster init` again")]
    OtherDirectory {
        /// Which was meant.
        wanted: DirectoryId,
        /// Which this is.
        found: DirectoryId,
    },
}

/// This coordinator's part of the cluster.
#[derive(Clone)]
pub struct Replica {
    /// The log.
    pub log: Arc<RaftLog>,
    /// The leadership, while it is here.
    pub leader: watch::Receiver<Option<LeaderHandle>>,
    /// Who it is.
    pub node: NodeId,
    /// Of which cluster.
    pub cluster: ClusterId,
}

/// What all services of a coordinator share.
pub struct Node {
    settings: CoordinatorSettings,
    own: Member,
    directory: Mutex<DataDirectory>,
    blobs: BlobStore,
    replica: watch::Sender<Option<Replica>>,
    stopping: watch::Receiver<bool>,
    leader_changes: Arc<AtomicU64>,
    events: EventLog,
    /// Held by the one change of membership that is under way.
    membership: Mutex<()>,
    /// To the other coordinators' client ports.
    channels: Channels,
    clock: Clock,
}

impl Node {
    /// A node over its directory; starts its replica when the directory is a member.
    ///
    /// # Errors
    ///
    /// When the replica does not start.
    pub async fn start(
        settings: CoordinatorSettings,
        own: Member,
        directory: DataDirectory,
        blobs: BlobStore,
        stopping: watch::Receiver<bool>,
        events: EventLog,
    ) -> Result<Arc<Self>, Error> {
        let identity = directory.identity();
        let raft_path = directory.raft_path();
        let node = Self {
            settings,
            own,
            directory: Mutex::new(directory),
            blobs,
            replica: watch::Sender::new(None),
            stopping,
            leader_changes: Arc::default(),
            events,
            membership: Mutex::new(()),
            channels: Channels::default(),
            clock: Clock::default(),
        };
        match identity.member {
            Some((cluster, id)) => node.run(Storage::open(&raft_path, cluster, id)?, cluster, id).await?,
            None => tracing::info!(directory_id = %identity.directory, "an empty directory waits to be adopted"),
        }
        Ok(Arc::new(node))
    }

    /// The settings it was started with.
    #[must_use]
    pub fn settings(&self) -> &CoordinatorSettings {
        &self.settings
    }

    /// Its own addresses, as others should know them.
    #[must_use]
    pub fn own(&self) -> &Member {
        &self.own
    }

    /// Its blobs.
    #[must_use]
    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// This process's clocks.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Channels to the other coordinators' client ports.
    pub(super) fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Held by the one change of membership that is under way.
    pub(super) fn membership_lock(&self) -> &Mutex<()> {
        &self.membership
    }

    /// Its replica, once it is a member.
    #[must_use]
    pub fn replica(&self) -> Option<Replica> {
        self.replica.borrow().clone()
    }

    /// Its replica, and when it becomes one.
    #[must_use]
    pub fn replicas(&self) -> watch::Receiver<Option<Replica>> {
        self.replica.subscribe()
    }

    /// True once the process ends: streams end then.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.clone()
    }

    /// How often another leader was seen.
    #[must_use]
    pub fn leader_changes(&self) -> u64 {
        self.leader_changes.load(Ordering::Relaxed)
    }

    /// Who its directory is.
    pub async fn identity(&self) -> Identity {
        self.directory.lock().await.identity()
    }

    /// The cluster that an `InitCluster` here makes: the one it once began to make, or a fresh one.
    ///
    /// # Errors
    ///
    /// When the plan cannot be written.
    pub async fn plan_cluster(&self, fresh: ClusterId) -> Result<ClusterId, Error> {
        let mut directory = self.directory.lock().await;
        let planned = directory.identity().planned.unwrap_or(fresh);
        directory.plan(planned)?;
        Ok(planned)
    }

    /// Makes the directory a member and starts its replica; without effect when it is that member already.
    ///
    /// # Errors
    ///
    /// When another directory is meant, this one is another member, or the replica does not start.
    ///
    /// # Cancel safety
    ///
    /// The work is done in a task of its own: a caller that goes away does not leave a member without a replica.
    pub async fn adopt(self: &Arc<Self>, wanted: DirectoryId, cluster: ClusterId, id: NodeId) -> Result<(), Error> {
        let node = Arc::clone(self);
        let adopting = spawn("adopt", async move { node.become_member(wanted, cluster, id).await });
        adopting.await.map_err(|error| Error::Interrupted { reason: error.to_string() })?
    }

    async fn become_member(&self, wanted: DirectoryId, cluster: ClusterId, id: NodeId) -> Result<(), Error> {
        let mut directory = self.directory.lock().await;
        if *self.stopping.borrow() {
            return Err(Error::Stopping);
        }
        let found = directory.identity().directory;
        if found != wanted {
            return Err(Error::OtherDirectory { wanted, found });
        }
        directory.may_become(cluster, id)?;
        if self.replica.borrow().is_some() {
            return Ok(());
        }
        // The log first: a member whose log is missing is refused at its next start, for it would vote with amnesia.
        let storage = Storage::create(&directory.raft_path(), cluster, id)?;
        directory.adopt(cluster, id)?;
        tracing::info!(cluster_id = %cluster, node_id = %id, "adopted");
        self.run(storage, cluster, id).await
    }

    /// Stops the replica, closes its database and lets go of the directory.
    pub async fn stop(&self) {
        // First, so that nothing is adopted meanwhile.
        let mut directory = self.directory.lock().await;
        if let Some(replica) = self.replica() {
            replica.log.shutdown().await;
        }
        directory.release();
    }

    async fn run(&self, storage: Storage, cluster: ClusterId, node: NodeId) -> Result<(), Error> {
        let log = RaftLog::start(storage, cluster, node, self.settings.raft, self.events.clone()).await?;
        let leader = run_leaderships(log.clone(), self.settings.leader, Clock::default(), self.events.clone());
        spawn("leader-changes", count_leaders(log.leadership(), node, self.leader_changes.clone()));
        let replica = Replica { log, leader, node, cluster };
        spawn("settle-membership", settle_regularly(replica.clone()));
        self.replica.send_replace(Some(replica));
        Ok(())
    }
}

async fn count_leaders(mut leadership: watch::Receiver<Leadership>, own: NodeId, changes: Arc<AtomicU64>) {
    let mut last = None;
    loop {
        let leader = match *leadership.borrow_and_update() {
            Leadership::Leader { .. } => Some(own),
            Leadership::Follower { leader } => leader,
        };
        if leader.is_some() && leader != last {
            changes.fetch_add(1, Ordering::Relaxed);
            last = leader;
        }
        if leadership.changed().await.is_err() {
            return;
        }
    }
}
