//! The one thing that the control plane needs of consensus: an ordered, durable log of commands.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::future::BoxFuture;
use tidemill_model::id::NodeId;
use tokio::sync::watch;

use crate::engine::replicated::{ClusterState, Command, Response};
use crate::runtime::codec;

/// Why a proposal has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// This replica does not lead; surely not applied.
    #[error("propose command: this coordinator does not lead")]
    NotLeader {
        /// Who does, when known.
        leader: Option<NodeId>,
    },
    /// The answer was lost: the command may or may not be applied.
    #[error("propose command: the outcome is unknown: {reason}; read the state before trying again")]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// The log is broken or has been shut down.
    #[error("propose command: the replicated log has stopped: {reason}; see this coordinator's log")]
    Stopped {
        /// What happened.
        reason: String,
    },
}

impl Error {
    /// Whether the same proposal may be lawful later, perhaps elsewhere.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::NotLeader { .. } | Self::Unknown { .. } => true,
            Self::Stopped { .. } => false,
        }
    }
}

/// A command that has been applied here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its place in the log.
    pub index: u64,
    /// What applying it answered.
    pub response: Response,
}

/// Who leads, as this replica sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leadership {
    /// This replica, elected in `term`, with a quorum that answers.
    Leader {
        /// The Raft term of the election.
        term: u64,
    },
    /// Another one, or nobody that is known.
    Follower {
        /// Who, when known.
        leader: Option<NodeId>,
    },
}

/// The state as applied on this replica, shared between the log (the only writer) and readers.
#[derive(Debug, Clone)]
pub struct SharedState {
    state: Arc<RwLock<ClusterState>>,
    applied: watch::Sender<u64>,
    /// The last one that was asked for, with its index.
    checksum: Arc<Mutex<Option<(u64, u64)>>>,
}

impl Default for SharedState {
    fn default() -> Self {
        Self { state: Arc::default(), applied: watch::Sender::new(0), checksum: Arc::default() }
    }
}

impl SharedState {
    /// Reads the applied state. Short critical sections only: apply waits for them.
    pub fn read<T>(&self, read: impl FnOnce(&ClusterState) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the applied state together with its index.
    pub fn read_with_index<T>(&self, read: impl FnOnce(u64, &ClusterState) -> T) -> T {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let index = *self.applied.borrow();
        read(index, &state)
    }

    /// The applied index and the checksum of the state there. Computed off the lock, and once for each index.
    #[must_use]
    pub fn checksum(&self) -> (u64, u64) {
        let mut last = self.checksum.lock().unwrap_or_else(PoisonError::into_inner);
        let (index, state) = self
            .read_with_index(|index, state| (index, (last.is_none_or(|(of, _)| of != index)).then(|| state.clone())));
        if let Some(state) = state {
            *last = Some((index, codec::checksum(&state)));
        }
        (index, last.map_or(0, |(_, checksum)| checksum))
    }

    /// The applied index; changes after the state does.
    #[must_use]
    pub fn applied_index(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Changes the state and then announces the index up to which it is now applied.
    pub fn write<T>(&self, index: u64, write: impl FnOnce(&mut ClusterState) -> T) -> T {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let result = write(&mut state);
        // Under the lock, so that `read_with_index` finds the two together.
        self.applied.send_replace(index);
        result
    }
}

/// An ordered, durable log of commands, and the state that results.
///
/// # To ensure correctness
///
/// - `propose` answers only after the command is committed (on a majority, fsync'd) *and* applied to
///   [`state`](Self::state) here: promise `durable-before-visible`.
/// - Commands are applied in the same order on every replica, each with the term in which it was appended.
/// - `leadership` says `Leader` only while a quorum has answered within its lease.
pub trait ReplicatedLog: Send + Sync + 'static {
    /// Appends a command and waits until it is applied here.
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Applied, Error>>;

    /// Waits until the state here contains everything that was acknowledged anywhere before the call (`ReadIndex`).
    fn linearize(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// The state as applied here.
    fn state(&self) -> &SharedState;

    /// Who leads, and each change of it.
    fn leadership(&self) -> watch::Receiver<Leadership>;

    /// This replica.
    fn node(&self) -> NodeId;
}
