//! Refusals of services: who must react, and whom to ask instead.

use tidemill_proto::convert;
use tidemill_proto::pb::ErrorKind;
use tonic::Status;

use super::membership;
use super::node::{Node, Replica};
use crate::runtime::leader::{self, LeaderHandle};
use crate::runtime::raft::MembershipError;
use crate::runtime::replicated_log::{self, Leadership, ReplicatedLog};

/// A defect or an external fault here.
pub(super) fn internal(message: impl Into<String>) -> Status {
    convert::status(ErrorKind::Internal, message, None)
}

/// The caller's fault.
pub(super) fn user(message: impl Into<String>) -> Status {
    convert::status(ErrorKind::User, message, None)
}

impl Node {
    /// This coordinator's replica of an initialised cluster.
    pub(super) fn initialized(&self) -> Result<Replica, Status> {
        self.replica().filter(|replica| !replica.log.members().is_empty()).ok_or_else(|| {
            let message = "ask coordinator: it is not part of a cluster yet; run `tidemill cluster init` once";
            convert::status(ErrorKind::NotInitialized, message, None)
        })
    }

    /// The leader, if it is here.
    pub(super) fn leading(&self) -> Result<(Replica, LeaderHandle), Status> {
        let replica = self.initialized()?;
        let handle = replica.leader.borrow().clone();
        handle.map(|handle| (replica.clone(), handle)).ok_or_else(|| self.not_leading())
    }

    /// Who is to be asked instead of this coordinator.
    pub(super) fn not_leading(&self) -> Status {
        let replica = match self.initialized() {
            Ok(replica) => replica,
            Err(status) => return status,
        };
        let leader = match *replica.log.leadership().borrow() {
            Leadership::Follower { leader } => leader,
            Leadership::Leader { .. } => None,
        };
        let address = leader.and_then(|leader| replica.log.members().remove(&leader));
        match address.map(|member| member.client_address) {
            Some(address) => {
                let message = format!("ask coordinator: it does not lead; ask {address}");
                convert::status(ErrorKind::NotLeader, message, Some(address))
            }
            None => {
                let message = "ask coordinator: the cluster has no leader at the moment; try again";
                convert::status(ErrorKind::NoLeader, message, None)
            }
        }
    }

    pub(super) fn refused_by_leader(&self, error: &leader::Error) -> Status {
        match error {
            leader::Error::NotLeader => self.not_leading(),
            leader::Error::Refused { .. } => user(error.to_string()),
            leader::Error::UnknownJob(_) => convert::status(ErrorKind::NotFound, error.to_string(), None),
            // Every request is idempotent, so that trying again is right in both cases.
            leader::Error::Unknown { .. } | leader::Error::Stopped { .. } => {
                convert::status(ErrorKind::UnknownOutcome, error.to_string(), None)
            }
        }
    }

    pub(super) fn refused_by_membership(&self, error: &membership::Error) -> Status {
        let message = error.to_string();
        match error {
            membership::Error::NotLeading
            | membership::Error::Log(MembershipError::NotLeading | MembershipError::Unknown { .. }) => {
                self.not_leading()
            }
            membership::Error::Adoption(_) | membership::Error::Stalled { .. } => internal(message),
            membership::Error::Busy
            | membership::Error::Unknown { .. }
            | membership::Error::Silent { .. }
            | membership::Error::OtherCluster { .. }
            | membership::Error::SameName { .. }
            | membership::Error::SameAddress { .. }
            | membership::Error::Itself { .. }
            | membership::Error::LastVoter { .. }
            | membership::Error::NoQuorumLeft { .. }
            | membership::Error::Learner { .. }
            | membership::Error::Log(
                MembershipError::InProgress
                | MembershipError::Refused { .. }
                | MembershipError::NotElected { .. }
                | MembershipError::NoSuccessor,
            ) => user(message),
        }
    }

    pub(super) fn refused_by_log(&self, error: &replicated_log::Error) -> Status {
        match error {
            replicated_log::Error::NotLeader { .. } => self.not_leading(),
            replicated_log::Error::Unknown { .. } | replicated_log::Error::Stopped { .. } => {
                convert::status(ErrorKind::UnknownOutcome, error.to_string(), None)
            }
        }
    }
}
