//! The durable bytes of the Raft log: our own envelopes, never a library's types.
//!
//! A value is `crc32 (4 bytes, big-endian) | version | postcard of one of the structs below`. The checksum covers
//! all that follows it. The golden tests pin the bytes: changing one is a change of format.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidemill_model::id::{ClusterId, NodeId};

use super::member::Member;
use super::types::{Committed, Entry, LogId, Membership, SnapshotMeta, StoredMembership, Vote};
use crate::engine::replicated::Command;
use crate::runtime::codec;

/// The length of the checksum in front.
const CHECKSUM_BYTES: usize = 4;

/// Durable bytes that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("decode {what}: its checksum does not match its {length} bytes; they are damaged")]
    Checksum { what: &'static str, length: usize },
    #[error("decode {what}: it is missing, although it was on the disk before")]
    Missing { what: &'static str },
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error("decode {what}: it holds an impossible membership: {reason}")]
    Membership { what: &'static str, reason: String },
}

/// A value in its envelope.
pub(crate) fn seal<T: Serialize>(value: &T) -> Vec<u8> {
    seal_bytes(&codec::encode(value))
}

/// Bytes that already carry their version, with a checksum in front.
pub(crate) fn seal_bytes(body: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(CHECKSUM_BYTES + body.len());
    sealed.extend_from_slice(&crc32fast::hash(body).to_be_bytes());
    sealed.extend_from_slice(body);
    sealed
}

/// A value from its envelope; `what` names it in errors.
pub(crate) fn open<T: DeserializeOwned>(what: &'static str, sealed: &[u8]) -> Result<T, Error> {
    Ok(codec::decode(what, open_bytes(what, sealed)?)?)
}

/// The checked bytes inside an envelope.
pub(crate) fn open_bytes<'a>(what: &'static str, sealed: &'a [u8]) -> Result<&'a [u8], Error> {
    let damaged = || Error::Checksum { what, length: sealed.len() };
    let (checksum, body) = sealed.split_at_checked(CHECKSUM_BYTES).ok_or_else(damaged)?;
    if crc32fast::hash(body).to_be_bytes() == checksum { Ok(body) } else { Err(damaged()) }
}

/// Whose log this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DurableOwner {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
}

/// A vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DurableVote {
    pub(crate) term: u64,
    pub(crate) node: u64,
    pub(crate) committed: bool,
}

impl From<&Vote> for DurableVote {
    fn from(vote: &Vote) -> Self {
        Self { term: vote.leader_id.term, node: vote.leader_id.voted_for, committed: vote.committed }
    }
}

impl From<DurableVote> for Vote {
    fn from(vote: DurableVote) -> Self {
        if vote.committed { Self::new_committed(vote.term, vote.node) } else { Self::new(vote.term, vote.node) }
    }
}

/// An entry's place. With standard leader ids a term has one leader at most, so the term names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DurableLogId {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

impl From<LogId> for DurableLogId {
    fn from(id: LogId) -> Self {
        Self { term: **id.committed_leader_id(), index: id.index() }
    }
}

impl From<DurableLogId> for LogId {
    fn from(id: DurableLogId) -> Self {
        Self::new(Committed::new(id.term), id.index)
    }
}

/// A membership: one set of voters, or two while it changes, and everybody's addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct DurableMembership {
    pub(crate) configs: Vec<BTreeSet<u64>>,
    pub(crate) nodes: BTreeMap<u64, Member>,
}

impl From<&Membership> for DurableMembership {
    fn from(membership: &Membership) -> Self {
        Self {
            configs: membership.get_joint_config().clone(),
            nodes: membership.nodes().map(|(id, member)| (*id, member.clone())).collect(),
        }
    }
}

impl DurableMembership {
    fn restore(self, what: &'static str) -> Result<Membership, Error> {
        if self.configs.is_empty() && self.nodes.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(self.configs, self.nodes).map_err(|error| Error::Membership { what, reason: error.to_string() })
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DurableEntry {
    pub(crate) id: DurableLogId,
    pub(crate) payload: DurablePayload,
}

/// What an entry carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DurablePayload {
    Blank,
    Command(Command),
    Membership(DurableMembership),
}

impl From<&Entry> for DurableEntry {
    fn from(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            EntryPayload::Blank => DurablePayload::Blank,
            EntryPayload::Normal(command) => DurablePayload::Command(command.clone()),
            EntryPayload::Membership(membership) => DurablePayload::Membership(membership.into()),
        };
        Self { id: entry.log_id.into(), payload }
    }
}

impl DurableEntry {
    pub(crate) fn restore(self) -> Result<Entry, Error> {
        let payload = match self.payload {
            DurablePayload::Blank => EntryPayload::Blank,
            DurablePayload::Command(command) => EntryPayload::Normal(command),
            DurablePayload::Membership(membership) => EntryPayload::Membership(membership.restore("log entry")?),
        };
        Ok(Entry::new(self.id.into(), payload))
    }
}

/// What a snapshot contains.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct DurableSnapshotMeta {
    pub(crate) last_log_id: Option<DurableLogId>,
    pub(crate) membership_log_id: Option<DurableLogId>,
    pub(crate) membership: DurableMembership,
}

impl From<&SnapshotMeta> for DurableSnapshotMeta {
    fn from(meta: &SnapshotMeta) -> Self {
        Self {
            last_log_id: meta.last_log_id.map(DurableLogId::from),
            membership_log_id: meta.last_membership.log_id().map(DurableLogId::from),
            membership: meta.last_membership.membership().into(),
        }
    }
}

impl DurableSnapshotMeta {
    pub(crate) fn restore(self) -> Result<SnapshotMeta, Error> {
        let membership = self.membership.restore("snapshot")?;
        Ok(SnapshotMeta {
            last_log_id: self.last_log_id.map(LogId::from),
            last_membership: StoredMembership::new(self.membership_log_id.map(LogId::from), membership),
        })
    }
}

#[cfg(test)]
mod tests;
