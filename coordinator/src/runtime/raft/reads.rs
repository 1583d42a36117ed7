//! Reads on any replica: the index that a read must have applied, and how old an answer without it may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use serde::{Deserialize, Serialize};
use tidemill_model::id::NodeId;
use tidemill_model::mutant::{self, Mutant};
use tidemill_proto::pb;
use tonic::Request;

use super::network::Frames;
use super::raft_log::RaftLog;
use super::rpc::RpcError;
use crate::runtime::clock::Clock;
use crate::runtime::codec;
use crate::runtime::replicated_log::{Error, Leadership, ReplicatedLog};

/// How long a follower waits for the leader's word, and then until it has applied what the word names.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// How a leader makes sure that it still leads when it names a read index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadIndexPolicy {
    /// It asks its quorum.
    Quorum,
    /// It relies on its lease: right as long as clocks run about equally fast.
    Lease,
}

impl From<ReadIndexPolicy> for ReadPolicy {
    fn from(policy: ReadIndexPolicy) -> Self {
        match policy {
            ReadIndexPolicy::Quorum => Self::ReadIndex,
            ReadIndexPolicy::Lease => Self::LeaseRead,
        }
    }
}

/// When this replica last heard of a leader that is not deposed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    clock: Clock,
    /// Milliseconds of the clock plus one; 0: never.
    at: Arc<AtomicU64>,
}

impl Heard {
    pub(crate) fn note(&self) {
        self.at.fetch_max(self.millis() + 1, Ordering::Relaxed);
    }

    pub(crate) fn age(&self) -> Option<Duration> {
        let at = self.at.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_millis(self.millis().saturating_sub(at)))
    }

    fn millis(&self) -> u64 {
        let since = self.clock.now().since(tidemill_model::time::Instant::from_origin(Duration::ZERO));
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl RaftLog {
    /// The applied index, once it contains everything that was acknowledged anywhere before the call.
    ///
    /// # Errors
    ///
    /// When no leader can be asked, or this replica does not catch up in time.
    pub async fn linearize_read(&self, policy: ReadIndexPolicy) -> Result<u64, Error> {
        if mutant::active(Mutant::ReadsWithoutQuorum) {
            return Ok(*self.state().applied_index().borrow());
        }
        let leadership = *self.leadership().borrow();
        let index = match leadership {
            Leadership::Leader { .. } => self.read_index(policy).await?,
            Leadership::Follower { leader: Some(leader) } => self.ask_read_index(leader, policy).await?,
            Leadership::Follower { leader: None } => return Err(Error::NotLeader { leader: None }),
        };
        let mut applied = self.state().applied_index();
        let reached = tokio::time::timeout(READ_TIMEOUT, applied.wait_for(|applied| *applied >= index)).await;
        match reached {
            Ok(Ok(applied)) => Ok(*applied),
            Ok(Err(_)) => Err(Error::Stopped { reason: "the state machine has ended".to_owned() }),
            // It lags: somebody else can answer sooner.
            Err(_) => Err(Error::NotLeader { leader: None }),
        }
    }

    /// How old what is applied here may be: the time since this replica heard of a leader, or as a leader of its
    /// quorum; none when it has not since its start.
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        let leads = self.leads();
        self.status().since_quorum_ack.filter(|_| leads).or_else(|| self.heard().age())
    }

    /// The index that a read must have applied, as only a leader can tell.
    async fn read_index(&self, policy: ReadIndexPolicy) -> Result<u64, Error> {
        let term = self.leading()?;
        let read = tokio::select! {
            biased;
            read = self.raft().get_read_log_id(ReadPolicy::from(policy)) => read,
            () = self.leadership_ended(term) => return Err(Error::NotLeader { leader: None }),
        };
        match read {
            Ok((read, _)) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(Error::NotLeader { leader: forward.leader_id.map(NodeId) })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(Error::NotLeader { leader: None })
            }
            Err(RaftError::Fatal(error)) => Err(Error::Stopped { reason: error.to_string() }),
        }
    }

    async fn ask_read_index(&self, leader: NodeId, policy: ReadIndexPolicy) -> Result<u64, Error> {
        let nobody = || Error::NotLeader { leader: None };
        let member = self.members().remove(&leader).ok_or_else(nobody)?;
        let mut client = self.channels().client(&member.raft_address).ok_or_else(nobody)?;
        let frames = Frames { cluster: self.cluster(), from: self.node_id(), to: leader };
        let asked = client.read_index(Request::new(frames.frame(&policy)));
        let answer = tokio::time::timeout(READ_TIMEOUT, asked).await.map_err(|_| nobody())?;
        let answer = answer.map_err(|status| {
            tracing::debug!(node_id = %leader, reason = status.message(), "ask the leader for a read index");
            nobody()
        })?;
        codec::decode("answer to a read index", &answer.get_ref().payload).map_err(|_| nobody())
    }

    /// A follower asks which index a read must have applied.
    ///
    /// # Errors
    ///
    /// As [`handle_vote`](Self::handle_vote), or when this replica does not lead.
    pub async fn handle_read_index(&self, frame: pb::RaftFrame) -> Result<pb::RaftFrame, RpcError> {
        let (frames, policy) = self.message::<ReadIndexPolicy>("read index", frame)?;
        let index = self.read_index(policy).await.map_err(|error| match error {
            Error::NotLeader { .. } | Error::Unknown { .. } => RpcError::NotLeading,
            Error::Stopped { reason } => RpcError::Raft(reason),
        })?;
        Ok(frames.frame(&index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_never_heard_of_a_leader_says_so() {
        let heard = Heard::default();
        assert_eq!(heard.age(), None);
        heard.note();
        assert!(heard.age().is_some());
    }
}
