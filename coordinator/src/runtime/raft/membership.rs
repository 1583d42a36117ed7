//! Who the replicas are, and changes of it: a new one is a learner first, voters change by joint consensus.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::errors::{ClientWriteError, RaftError};
use tidemill_model::id::NodeId;

use super::member::Member;
use super::raft_log::RaftLog;
use super::types::{Metrics, TypeConfig};
use crate::runtime::replicated_log::Leadership;

/// Ids of nodes that are added later are this plus the index of the entry that allots them: greater than all that
/// the first membership has, and never the same twice.
const ALLOTTED_FROM: u64 = 1000;

/// How long a successor may take to be elected.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the successor may take when the old leader stops in any case.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the membership did not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Only a leader changes it.
    #[error("change membership: this coordinator does not lead")]
    NotLeading,
    /// Another change is under way.
    #[error("change membership: another change is under way; wait for its end, then repeat")]
    InProgress,
    /// The leadership ended, or a newer membership came first.
    #[error("change membership: the outcome is unknown: {reason}; see `tidemill cluster members`, then repeat")]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// Openraft refuses.
    #[error("change membership: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// Nobody took over.
    #[error(
        "hand leadership over: node {successor} was not elected within {TRANSFER_TIMEOUT:?}; see its log, then repeat"
    )]
    NotElected {
        /// Who should have been.
        successor: NodeId,
    },
    /// There is nobody.
    #[error("hand leadership over: there is no other voter that answers; start one or add one first")]
    NoSuccessor,
}

/// One replica as another one sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// Its name and addresses.
    pub member: Member,
    /// Whether it votes; else it is a learner.
    pub voter: bool,
    /// Up to where its log agrees with this leader's; none when this is no leader or it is not known.
    pub matched_index: Option<u64>,
    /// How long ago it answered this leader; none when this is no leader, it never did, or it is this one.
    pub answered: Option<Duration>,
}

impl RaftLog {
    /// The replicas, with what this leader knows of their progress.
    #[must_use]
    pub fn member_views(&self) -> BTreeMap<NodeId, MemberView> {
        self.with_metrics(|metrics| {
            let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
            let view = |(&id, member): (&u64, &Member)| {
                let view = MemberView {
                    member: member.clone(),
                    voter: voters.contains(&id),
                    matched_index: matched(metrics, id),
                    answered: answered(metrics, id).filter(|_| id != metrics.id),
                };
                (NodeId(id), view)
            };
            metrics.membership_config.nodes().map(view).collect()
        })
    }

    /// The voters, those that come and those that go included while they change.
    #[must_use]
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.with_metrics(|metrics| metrics.membership_config.voter_ids().map(NodeId).collect())
    }

    /// A node id that no other node has, had or will have.
    ///
    /// # Errors
    ///
    /// When this replica does not lead, or its leadership ends.
    pub async fn allot_node(&self) -> Result<NodeId, Error> {
        let term = self.leading().map_err(|_| Error::NotLeading)?;
        let written = tokio::select! {
            biased;
            written = self.raft().write_blank() => written,
            () = self.leadership_ended(term) => return Err(ended()),
        };
        Ok(NodeId(ALLOTTED_FROM + written.map_err(|error| refused(&error))?.log_id.index()))
    }

    /// Makes a node a learner: it gets the log and votes for nobody.
    ///
    /// # Errors
    ///
    /// When the change is refused, or this leadership ends.
    pub async fn add_learner(&self, node: NodeId, member: Member) -> Result<(), Error> {
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(node.0, member)]))).await
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    ///
    /// As [`add_learner`](Self::add_learner).
    pub async fn promote(&self, node: NodeId) -> Result<(), Error> {
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([node.0]))).await
    }

    /// Makes a learner a voter in the place of another member, in one step.
    ///
    /// # Errors
    ///
    /// As [`add_learner`](Self::add_learner).
    pub async fn promote_replacing(&self, node: NodeId, replaced: NodeId) -> Result<(), Error> {
        let change = vec![
            ChangeMembers::AddVoterIds(BTreeSet::from([node.0])),
            ChangeMembers::RemoveVoters(BTreeSet::from([replaced.0])),
        ];
        self.change(ChangeMembers::Batch(change)).await?;
        self.forget_learner(replaced).await
    }

    /// Removes a member.
    ///
    /// # Errors
    ///
    /// As [`add_learner`](Self::add_learner).
    pub async fn remove_member(&self, node: NodeId) -> Result<(), Error> {
        if self.voters().contains(&node) {
            self.change(ChangeMembers::RemoveVoters(BTreeSet::from([node.0]))).await?;
        }
        self.forget_learner(node).await
    }

    /// Finishes a change that an earlier leader had begun.
    ///
    /// # Errors
    ///
    /// As [`add_learner`](Self::add_learner).
    pub async fn settle_membership(&self) -> Result<(), Error> {
        let target = self.with_metrics(|metrics| {
            let configs = metrics.membership_config.membership().get_joint_config();
            (configs.len() > 1).then(|| configs.last().cloned()).flatten()
        });
        match target {
            Some(voters) => self.change_at_once(ChangeMembers::ReplaceAllVoters(voters)).await,
            None => Ok(()),
        }
    }

    async fn forget_learner(&self, node: NodeId) -> Result<(), Error> {
        if self.members().contains_key(&node) {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node.0]))).await?;
        }
        Ok(())
    }

    async fn change(&self, change: ChangeMembers<u64, Member>) -> Result<(), Error> {
        self.settle_membership().await?;
        self.change_at_once(change).await
    }

    async fn change_at_once(&self, change: ChangeMembers<u64, Member>) -> Result<(), Error> {
        let term = self.leading().map_err(|_| Error::NotLeading)?;
        let changed = tokio::select! {
            biased;
            changed = self.raft().change_membership(change, false) => changed,
            () = self.leadership_ended(term) => return Err(ended()),
        };
        changed.map(drop).map_err(|error| refused(&error))
    }

    /// Hands leadership to `successor`, or to the voter that is furthest, and waits until it leads.
    ///
    /// # Errors
    ///
    /// When this replica does not lead, there is no successor, or it is not elected.
    pub async fn transfer_leadership_to(&self, successor: Option<NodeId>) -> Result<NodeId, Error> {
        if !self.leads() {
            return Err(Error::NotLeading);
        }
        let successor = successor.or_else(|| self.successor()).ok_or(Error::NoSuccessor)?;
        tracing::info!(node_id = %successor, "hand leadership over");
        let stopped = |error: openraft::errors::Fatal<TypeConfig>| Error::Refused { reason: error.to_string() };
        self.raft().trigger().transfer_leader(successor.0).await.map_err(stopped)?;
        let mut leadership = self.leadership_changes();
        let elected = leadership.wait_for(|now| *now == Leadership::Follower { leader: Some(successor) });
        match tokio::time::timeout(TRANSFER_TIMEOUT, elected).await {
            Ok(Ok(_)) => Ok(successor),
            Ok(Err(_)) | Err(_) => Err(Error::NotElected { successor }),
        }
    }

    /// Hands leadership, if it is here, to the voter that is furthest; best effort, and bounded.
    pub async fn transfer_leadership(&self) {
        let handed_over = tokio::time::timeout(FAREWELL_TIMEOUT, self.transfer_leadership_to(None)).await;
        match handed_over {
            Ok(Ok(_) | Err(Error::NotLeading | Error::NoSuccessor)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "leadership was not handed over"),
            Err(_) => tracing::warn!("leadership was not handed over within {FAREWELL_TIMEOUT:?}"),
        }
    }

    /// The voter that is furthest, of those that answer.
    fn successor(&self) -> Option<NodeId> {
        let lease = self.lease();
        self.with_metrics(|metrics| {
            let others = metrics.membership_config.voter_ids().filter(|&voter| voter != metrics.id);
            let live = others.filter(|&voter| answered(metrics, voter).is_some_and(|ago| ago <= lease));
            live.max_by_key(|&voter| matched(metrics, voter)).map(NodeId)
        })
    }
}

fn matched(metrics: &Metrics, node: u64) -> Option<u64> {
    Some(metrics.replication.as_ref()?.get(&node)?.as_ref()?.index())
}

fn answered(metrics: &Metrics, node: u64) -> Option<Duration> {
    let at = (*metrics.heartbeat.as_ref()?.get(&node)?)?;
    Some(openraft::Instant::elapsed(&at.into_inner()))
}

fn ended() -> Error {
    Error::Unknown { reason: "leadership ended before the answer".to_owned() }
}

fn refused(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
    use openraft::errors::ChangeMembershipError as Change;
    let reason = error.to_string();
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => Error::NotLeading,
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_) | ClientWriteError::PreconditionFailed(_))
        | RaftError::Fatal(_) => Error::Unknown { reason },
        RaftError::APIError(ClientWriteError::ChangeMembershipError(change)) => match change {
            Change::InProgress(_) | Change::UncommittedLeaderLog(_) => Error::InProgress,
            Change::EmptyMembership(_)
            | Change::LearnerNotFound(_)
            | Change::UnsupportedMembershipTransition(_)
            | Change::NodeMetadataChanged(_) => Error::Refused { reason },
        },
    }
}
