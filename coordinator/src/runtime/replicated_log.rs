//! The one thing that the control plane needs of consensus: an ordered, durable log of commands.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::future::BoxFuture;
use tidemill_model::id::{LeaderEpoch, NodeId};
use tidemill_model::time::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::engine::replicated::{ClusterState, Command, CommandBody, Response};
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

/// An entry as it was applied here, for the leadership that decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedCommand {
    /// Its place in the log.
    pub index: u64,
    /// The leadership that decided it.
    pub epoch: LeaderEpoch,
    /// What was decided.
    pub body: CommandBody,
    /// The replicated clock as it stood then.
    pub now: Timestamp,
    /// What applying it answered.
    pub response: Response,
}

/// The state as applied on this replica, shared between the log (the only writer) and readers.
#[derive(Debug, Clone)]
pub struct SharedState {
    state: Arc<RwLock<ClusterState>>,
    applied: watch::Sender<u64>,
    /// The last one that was asked for, with its index.
    checksum: Arc<Mutex<Option<(u64, u64)>>>,
    follower: Arc<Mutex<Option<mpsc::Sender<AppliedCommand>>>>,
}

impl Default for SharedState {
    fn default() -> Self {
        let applied = watch::Sender::new(0);
        Self { state: Arc::default(), applied, checksum: Arc::default(), follower: Arc::default() }
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

    /// Every command that [is followed](CommandBody::is_followed) and applied from now on, in the order of the log. There
    /// is one follower, the newest: the receiver ends when another one comes, or when more than `capacity` commands wait
    /// for it.
    #[must_use]
    pub fn follow(&self, capacity: usize) -> mpsc::Receiver<AppliedCommand> {
        let (sender, receiver) = mpsc::channel(capacity);
        *self.follower.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Applies the entry at `index`, appended in `term`, and tells who follows.
    pub fn apply(&self, index: u64, term: u64, command: &Command) -> Response {
        self.write(index, |state| {
            let response = state.apply(index, term, command);
            let mut follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(sender) = follower.as_ref().filter(|_| command.body.is_followed()) {
                let (epoch, body, now) = (command.epoch, command.body.clone(), state.now);
                let applied = AppliedCommand { index, epoch, body, now, response: response.clone() };
                // Under the lock, so that the order is the log's. Whoever cannot keep up must not miss one.
                if sender.try_send(applied).is_err() {
                    *follower = None;
                }
            }
            response
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cancel(stamp: u64) -> Command {
        let body = CommandBody::CancelJob { job: crate::engine::fixture::job_id(5) };
        Command { epoch: LeaderEpoch::default(), stamp: Timestamp(stamp), body }
    }

    #[test]
    fn who_follows_hears_of_every_command_in_the_order_of_the_log_with_the_replicated_time() {
        let shared = SharedState::default();
        shared.apply(1, 1, &cancel(9));
        let mut commands = shared.follow(8);
        shared.apply(2, 1, &cancel(3));
        shared.apply(3, 1, &cancel(12));
        let heard: Vec<_> = std::iter::from_fn(|| commands.try_recv().ok()).collect();
        let heard: Vec<_> = heard.into_iter().map(|command| (command.index, command.now, command.response)).collect();
        assert_eq!(heard, [(2, Timestamp(9), Response::UnknownJob), (3, Timestamp(12), Response::UnknownJob)]);
    }

    #[test]
    fn who_cannot_keep_up_misses_nothing_silently() {
        let shared = SharedState::default();
        let mut commands = shared.follow(1);
        for index in 1..=3 {
            shared.apply(index, 1, &cancel(index));
        }
        assert_eq!(commands.blocking_recv().map(|command| command.index), Some(1));
        assert_eq!(commands.blocking_recv(), None, "it has ended");
    }

    #[test]
    fn a_new_follower_ends_the_former_one() {
        let shared = SharedState::default();
        let mut former = shared.follow(1);
        let _new = shared.follow(1);
        assert_eq!(former.blocking_recv(), None);
    }
}
