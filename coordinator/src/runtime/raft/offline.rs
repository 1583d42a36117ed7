//! A replica's database while no coordinator runs on it: what it holds, and the beginning of a new cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use openraft::EntryPayload;
use openraft::storage::{RaftLogReader, RaftLogStorage};
use tidemill_event_log::EventLog;
use tidemill_model::id::{ClusterId, NodeId};

use super::format;
use super::format::Error as FormatError;
use super::log_store::LogStore;
use super::member::Member;
use super::state_machine::{StateMachine, Witness, write_snapshot};
use super::storage::{Error, Storage};
use super::types::{Committed, LogId, Membership, SnapshotMeta, StoredMembership, Vote};
use crate::engine::replicated::ClusterState;
use crate::runtime::codec;
use crate::runtime::replicated_log::SharedState;

/// A new cluster's log begins so far beyond the old one's end that no epoch comes twice: the lost coordinators would
/// have had to decide this much that nobody else has seen.
const INDEX_JUMP: u64 = 1_000_000_000;

/// How many entries are read at a time.
const BATCH: u64 = 1000;

/// Everything that one replica has, the undecided end of its log taken as decided.
#[derive(Debug)]
pub struct Survivor {
    /// The state after all of it.
    pub state: ClusterState,
    /// The newest term that it knows of.
    pub term: u64,
    /// The end of its log.
    pub last_index: u64,
    /// Up to where it knew the log to be committed.
    pub committed_index: u64,
    /// Who the coordinators were.
    pub members: BTreeMap<NodeId, Member>,
    /// Which of them voted.
    pub voters: BTreeSet<NodeId>,
}

impl Survivor {
    /// Reads the database of `node` of `cluster`.
    ///
    /// # Errors
    ///
    /// When it is missing, damaged, in use or somebody else's.
    pub async fn read(path: &Path, cluster: ClusterId, node: NodeId) -> Result<Self, Error> {
        let storage = Storage::open(path, cluster, node)?;
        let shared = SharedState::default();
        let witness = Witness { node, events: EventLog::off() };
        let machine = StateMachine::load(storage.clone(), shared.clone(), witness)?;
        let mut log = LogStore::new(storage);
        log.verify(machine.snapshot_index())?;
        let (mut last, mut membership) = (machine.snapshot_log_id(), machine.snapshot_membership());
        let committed = log.read_committed().await?.map_or(0, |id| id.index());
        let vote = log.read_vote().await?;
        let mut state = shared.read(ClusterState::clone);
        loop {
            let next = last.map_or(0, |id| id.index() + 1);
            let entries = log.try_get_log_entries(next..next + BATCH).await?;
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                let (index, term) = (entry.log_id.index(), **entry.log_id.committed_leader_id());
                last = Some(entry.log_id);
                match entry.payload {
                    EntryPayload::Blank => {}
                    EntryPayload::Normal(command) => drop(state.apply(index, term, &command)),
                    EntryPayload::Membership(changed) => membership = changed,
                }
            }
        }
        let (last_index, last_term) = last.map_or((0, 0), |id| (id.index(), **id.committed_leader_id()));
        Ok(Self {
            state,
            term: last_term.max(vote.map_or(0, |vote| vote.leader_id.term)),
            last_index,
            committed_index: committed.max(machine.snapshot_index().unwrap_or(0)),
            members: membership.nodes().map(|(id, member)| (NodeId(*id), member.clone())).collect(),
            voters: membership.voter_ids().map(NodeId).collect(),
        })
    }
}

/// Where a new cluster's log begins that goes on from the end of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// The first term.
    pub term: u64,
    /// The index of its first snapshot; every epoch is greater.
    pub index: u64,
}

impl Beginning {
    /// Beyond everything that the old cluster can have decided.
    #[must_use]
    pub fn after(term: u64, last_index: u64) -> Self {
        Self { term: term + 1, index: last_index + INDEX_JUMP }
    }
}

/// Writes the database of a cluster's only member, whose log begins with this state.
///
/// # Errors
///
/// When it exists or cannot be written.
pub async fn begin_cluster(
    path: &Path,
    (cluster, node): (ClusterId, NodeId),
    member: Member,
    state: &ClusterState,
    beginning: Beginning,
) -> Result<(), Error> {
    let storage = Storage::create(path, cluster, node)?;
    let mut log = LogStore::new(storage.clone());
    let last = LogId::new(Committed::new(beginning.term), beginning.index);
    let membership = Membership::new(vec![BTreeSet::from([node.0])], BTreeMap::from([(node.0, member)]));
    let unsound = |reason: String| FormatError::Membership { what: "first membership", reason };
    let membership = membership.map_err(|error| storage.damaged("snapshot", "state", &unsound(error.to_string())))?;
    let meta = SnapshotMeta { last_log_id: Some(last), last_membership: StoredMembership::new(Some(last), membership) };
    write_snapshot(&storage, &meta, &format::seal_bytes(&codec::encode(state)))?;
    log.purge(last).await?;
    log.save_committed(Some(last)).await?;
    // Whoever is elected next has a later term than every entry.
    log.save_vote(&Vote::new(beginning.term, node.0)).await?;
    let mut closed = storage.closed();
    drop((log, storage));
    while closed.changed().await.is_ok() {}
    Ok(())
}
