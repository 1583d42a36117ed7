//! Who leads, from openraft's metrics: a leader without a quorum that answers does not lead here.

use std::time::Duration;

use openraft::ServerState;
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use tidemill_model::id::NodeId;
use tokio::sync::watch;

use super::reads::Heard;
use super::types::{Metrics, ServerMetrics, TypeConfig};
use crate::runtime::replicated_log::Leadership;

/// A leader that has been silent for so many leases is none: this replica is cut off, or nobody leads.
const LEASES_OF_SILENCE: u32 = 4;

/// What the watcher tells the rest of the process.
#[derive(Debug)]
pub(crate) struct Announcements {
    pub(crate) leadership: watch::Sender<Leadership>,
    /// Why the log has stopped for good, once it has.
    pub(crate) failure: watch::Sender<Option<Failure>>,
}

/// Why a replica has stopped for good, until its process is started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No room for what it must write. Everything that it acknowledged is on the disk.
    DiskFull {
        /// The system's words.
        reason: String,
    },
    /// The disk fails, or holds what cannot be read; or a defect.
    Broken {
        /// What happened.
        reason: String,
    },
}

impl Failure {
    fn new(reason: String) -> Self {
        // RocksDB hands the system's words on, but not its number.
        let full = ["No space left on device", "Disk quota exceeded", "File too large"];
        if full.iter().any(|words| reason.contains(words)) {
            Self::DiskFull { reason }
        } else {
            Self::Broken { reason }
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::DiskFull { reason } => {
                write!(f, "the disk is full: {reason}; make room, then start this coordinator again")
            }
            Self::Broken { reason } => f.write_str(reason),
        }
    }
}

/// What openraft says of this replica.
pub(crate) struct Observed {
    /// Everything, sent at each turn of openraft's loop: several times an entry, whether or not anything has changed.
    pub(crate) metrics: WatchReceiverOf<TypeConfig, Metrics>,
    /// Of that, what an election or a membership changes.
    pub(crate) server: WatchReceiverOf<TypeConfig, ServerMetrics>,
}

impl Observed {
    /// Waits until there may be something else to announce, but not longer than `tick`, since a lease lapses without an
    /// event; false: openraft has ended. Only who is elected and waits for its first quorum looks at each turn.
    async fn changed(&mut self, announced: Leadership, tick: Duration) -> bool {
        let leads = matches!(announced, Leadership::Leader { .. });
        let every_turn = {
            let (metrics, server) = (self.metrics.borrow_watched(), self.server.borrow_watched());
            let elected = metrics.state == ServerState::Leader;
            // Openraft sends the part before the whole.
            let place = (server.state, server.current_leader, server.vote);
            (elected && !leads) || place != (metrics.state, metrics.current_leader, metrics.vote)
        };
        let changed = if every_turn {
            tokio::time::timeout(tick, self.metrics.changed()).await
        } else {
            tokio::time::timeout(tick, self.server.changed()).await
        };
        !matches!(changed, Ok(Err(_)))
    }
}

/// Announces leadership until Raft stops.
pub(crate) async fn watch_leadership(
    mut observed: Observed,
    heard: Heard,
    lease: Duration,
    tick: Duration,
    announcements: Announcements,
) {
    let mut running = true;
    loop {
        let (leadership, failure) = {
            let metrics = observed.metrics.borrow_watched();
            let known = heard.age().is_some_and(|age| age <= lease * LEASES_OF_SILENCE);
            (judge(&metrics, since_quorum_ack(&metrics), lease, known), failure(&metrics))
        };
        announcements.leadership.send_if_modified(|current| {
            let changed = *current != leadership;
            *current = leadership;
            changed
        });
        if let Some(failure) = failure {
            announcements.leadership.send_replace(Leadership::Follower { leader: None });
            announcements.failure.send_replace(failure);
            return;
        }
        if !running {
            announcements.leadership.send_replace(Leadership::Follower { leader: None });
            return;
        }
        // What it said last is looked at once more.
        running = observed.changed(leadership, tick).await;
    }
}

/// How long ago a quorum was last known to follow this leader; none when it never was. A cluster of one is its
/// own quorum.
pub(crate) fn since_quorum_ack(metrics: &Metrics) -> Option<Duration> {
    if metrics.membership_config.voter_ids().eq([metrics.id]) {
        return Some(Duration::ZERO);
    }
    let acked = metrics.last_quorum_acked?;
    Some(openraft::Instant::elapsed(&acked.into_inner()))
}

/// `known`: whether this replica has heard of the leader lately. Openraft remembers the last one for ever.
fn judge(metrics: &Metrics, since_quorum_ack: Option<Duration>, lease: Duration, known: bool) -> Leadership {
    let elected = metrics.state == ServerState::Leader && metrics.current_leader == Some(metrics.id);
    if elected && since_quorum_ack.is_some_and(|since| since <= lease) {
        return Leadership::Leader { term: metrics.current_term };
    }
    let leader = metrics.current_leader.filter(|&leader| known && leader != metrics.id);
    Leadership::Follower { leader: leader.map(NodeId) }
}

/// Whether Raft has stopped: `Some(None)` by request, `Some(Some(reason))` by a failure.
fn failure(metrics: &Metrics) -> Option<Option<Failure>> {
    let fatal: &Fatal<TypeConfig> = metrics.running_state.as_ref().err()?;
    Some(match fatal {
        Fatal::StorageError(error) => Some(Failure::new(error.to_string())),
        Fatal::Panicked => Some(Failure::new("Raft panicked; see this coordinator's log".to_owned())),
        Fatal::Stopped => None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::*;
    use crate::runtime::raft::member::Member;
    use crate::runtime::raft::types::{Membership, StoredMembership};

    const LEASE: Duration = Duration::from_millis(300);

    fn elected() -> Metrics {
        let mut metrics = Metrics::new_initial(1);
        metrics.state = ServerState::Leader;
        metrics.current_leader = Some(1);
        metrics.current_term = 4;
        metrics
    }

    #[test]
    fn a_leader_leads_only_while_its_quorum_answers() {
        let metrics = elected();
        let nobody = Leadership::Follower { leader: None };
        assert_eq!(judge(&metrics, Some(LEASE), LEASE, true), Leadership::Leader { term: 4 });
        assert_eq!(judge(&metrics, Some(LEASE + Duration::from_millis(1)), LEASE, true), nobody);
        assert_eq!(judge(&metrics, None, LEASE, true), nobody);
    }

    #[test]
    fn a_follower_names_the_leader() {
        let mut metrics = elected();
        metrics.state = ServerState::Follower;
        metrics.current_leader = Some(2);
        assert_eq!(judge(&metrics, None, LEASE, true), Leadership::Follower { leader: Some(NodeId(2)) });
        assert_eq!(judge(&metrics, None, LEASE, false), Leadership::Follower { leader: None }, "a silent one is none");
        metrics.current_leader = None;
        assert_eq!(judge(&metrics, None, LEASE, true), Leadership::Follower { leader: None });
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let full = Failure::new("IO error: No space left on device: While appending to file: /d/000004.log".to_owned());
        assert!(matches!(full, Failure::DiskFull { .. }), "{full}");
        assert!(matches!(Failure::new("Corruption: block checksum mismatch".to_owned()), Failure::Broken { .. }));
    }

    #[test]
    fn a_cluster_of_one_is_its_own_quorum() {
        let mut metrics = elected();
        assert_eq!(since_quorum_ack(&metrics), None);
        let nodes = BTreeMap::from([(1, Member::default())]);
        let membership = Membership::new(vec![BTreeSet::from([1])], nodes).expect("sound");
        metrics.membership_config = Arc::new(StoredMembership::new(None, membership));
        assert_eq!(since_quorum_ack(&metrics), Some(Duration::ZERO));
    }
}
