//! The log and its replica as an observer sees them: for the admin port, and for checks from outside.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use openraft::EntryPayload;
use openraft::storage::RaftLogReader;
use tidemill_model::id::{JobId, NodeId};

use super::leadership::since_quorum_ack;
use super::log_store::LogStore;
use super::raft_log::RaftLog;
use super::types::{Entry, LogId};
use crate::runtime::replicated_log::{Leadership, ReplicatedLog};

/// Numbers about the log, for `/metrics` and `/ready`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftStatus {
    /// The newest term seen.
    pub term: u64,
    /// Who leads, as far as is known here.
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

/// What openraft says of this replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Leader, Follower, Candidate, Learner or Shutdown.
    pub state: String,
    /// The vote that is on the disk: its term, whom it names, and whether that one leads.
    pub vote: (u64, NodeId, bool),
    /// Up to where the log has been dropped after a snapshot.
    pub purged_index: u64,
    /// Where the membership in effect stands in the log, and whether it is committed.
    pub membership_index: u64,
    /// Whether that entry is committed.
    pub membership_committed: bool,
    /// The sets of voters: one, or two while they change.
    pub voters: Vec<BTreeSet<NodeId>>,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEntry {
    /// Its place.
    pub index: u64,
    /// The term in which it was appended.
    pub term: u64,
    /// A command's name, `Membership` or `Blank`.
    pub kind: String,
    /// The epoch that decided it, of a command.
    pub epoch: Option<u64>,
    /// The job that it is about, if it is about one.
    pub job: Option<JobId>,
    /// The rest, in words.
    pub text: String,
}

impl RaftLog {
    /// Numbers about the log.
    #[must_use]
    pub fn status(&self) -> RaftStatus {
        let leader = match *self.leadership().borrow() {
            Leadership::Leader { .. } => Some(self.node_id()),
            Leadership::Follower { leader } => leader,
        };
        let index = |id: &Option<LogId>| id.as_ref().map_or(0, |id| id.index());
        let (proposals, stale) = self.proposed();
        self.with_metrics(|metrics| RaftStatus {
            term: metrics.current_term,
            leader,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            committed_index: index(&metrics.local_committed),
            applied_index: index(&metrics.last_applied),
            snapshot_index: index(&metrics.snapshot),
            since_quorum_ack: since_quorum_ack(metrics).filter(|_| metrics.current_leader == Some(metrics.id)),
            proposals,
            stale,
        })
    }

    /// What openraft says of this replica.
    #[must_use]
    pub fn inspect(&self) -> Inspection {
        self.with_metrics(|metrics| {
            let membership = &metrics.membership_config;
            let configs = membership.membership().get_joint_config().iter();
            Inspection {
                state: format!("{:?}", metrics.state),
                vote: (metrics.vote.leader_id.term, NodeId(metrics.vote.leader_id.voted_for), metrics.vote.committed),
                purged_index: metrics.purged.as_ref().map_or(0, |id| id.index()),
                membership_index: membership.log_id().as_ref().map_or(0, |id| id.index()),
                membership_committed: metrics.committed_membership_config.log_id() == membership.log_id(),
                voters: configs.map(|voters| voters.iter().copied().map(NodeId).collect()).collect(),
            }
        })
    }

    /// The entries from `from` on that are still in the log, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the log is closed or damaged.
    pub async fn entries(&self, from: u64, limit: u64) -> io::Result<Vec<LoggedEntry>> {
        let closed = || io::Error::other("read log: it is closed; the coordinator is stopping");
        let mut log = LogStore::new(self.storage().upgrade().ok_or_else(closed)?);
        let entries = log.try_get_log_entries(from..from.saturating_add(limit)).await?;
        Ok(entries.into_iter().map(logged).collect())
    }
}

fn logged(entry: Entry) -> LoggedEntry {
    let (index, term) = (entry.log_id.index(), **entry.log_id.committed_leader_id());
    match entry.payload {
        EntryPayload::Blank => {
            LoggedEntry { index, term, kind: "Blank".to_owned(), epoch: None, job: None, text: String::new() }
        }
        EntryPayload::Membership(membership) => LoggedEntry {
            index,
            term,
            kind: "Membership".to_owned(),
            epoch: None,
            job: None,
            text: membership.to_string(),
        },
        EntryPayload::Normal(command) => LoggedEntry {
            index,
            term,
            kind: command.body.name().to_owned(),
            epoch: Some(command.epoch.0),
            job: command.body.job(),
            text: command.to_string(),
        },
    }
}
