//! Openraft's state machine: the shared in-memory state, and snapshots of it in RocksDB.
//!
//! The state itself is not written at each apply: after a restart it is the newest snapshot plus the log.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use rocksdb::WriteBatch;
use tidemill_event_log::{EventLog, manifest_sha};
use tidemill_failpoint::FailPoint;
use tidemill_model::event::{Event, EventDecision};
use tidemill_model::id::NodeId;

use super::format::{self, DurableSnapshotMeta};
use super::storage::{META, SNAPSHOT, Storage};
use super::types::{EntryResponder, LogId, Membership, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::engine::replicated::{ClusterState, Command, CommandBody, Response};
use crate::runtime::codec;
use crate::runtime::replicated_log::SharedState;

/// The snapshot's description in `meta`, and its state in `snapshot`; always written together.
const DESCRIPTION: &str = "snapshot";
const STATE: &str = "state";

/// The state half of a replica's storage. Openraft calls it from one task.
#[derive(Debug, Clone)]
pub(crate) struct StateMachine {
    storage: Storage,
    shared: SharedState,
    applied: Arc<Mutex<Applied>>,
    witness: Witness,
}

/// Who applies, and where that is written down.
#[derive(Debug, Clone)]
pub(crate) struct Witness {
    pub(crate) node: NodeId,
    pub(crate) events: EventLog,
}

impl Witness {
    fn applied(&self, index: u64, command: &Command, response: &Response) {
        self.events.write(|| Event::ProposalApplied {
            node: self.node,
            term: command.epoch,
            index,
            kind: command.body.name().to_owned(),
            job: command.body.job(),
            decided: decided(&command.body),
            response: response.to_string(),
            effective: !matches!(response, Response::Stale { .. } | Response::Lingered),
        });
    }
}

/// What is decided of checkpoints and attempts, for who follows a job from outside.
fn decided(body: &CommandBody) -> EventDecision {
    let nothing = EventDecision::default();
    match body {
        CommandBody::CompleteCheckpoint { id, states, .. } => {
            EventDecision { ckpt: Some(id.0), manifest_sha: Some(manifest_sha(states)), ..nothing }
        }
        CommandBody::StartCommitting { checkpoint, .. } => EventDecision { ckpt: checkpoint.map(|id| id.0), ..nothing },
        CommandBody::RecordSchedule { schedule, .. } => {
            // What is scheduled together has one number.
            let attempt = schedule.attempts.values().map(|scheduled| scheduled.attempt).max();
            EventDecision { attempt, ..nothing }
        }
        CommandBody::LeaderStarted { .. }
        | CommandBody::RegisterBlob { .. }
        | CommandBody::SubmitJob { .. }
        | CommandBody::CancelJob { .. }
        | CommandBody::RecordTerminal { .. }
        | CommandBody::FailOver { .. }
        | CommandBody::FailJob { .. }
        | CommandBody::EndJob { .. }
        | CommandBody::ReserveCheckpoints { .. }
        | CommandBody::RecordNotified { .. }
        | CommandBody::RecordGarbageDeleted { .. }
        | CommandBody::RecordTakeover { .. }
        | CommandBody::Chaos(_)
        | CommandBody::SetDraining { .. }
        | CommandBody::Relocate { .. }
        | CommandBody::RecordStraggler { .. }
        | CommandBody::StopJob { .. } => nothing,
    }
}

/// What has been applied to the shared state.
#[derive(Debug, Clone, Default)]
struct Applied {
    last_log_id: Option<LogId>,
    membership: StoredMembership,
}

/// One state, taken at one index, on its way to the disk.
#[derive(Debug)]
pub(crate) struct SnapshotBuilder {
    storage: Storage,
    meta: SnapshotMeta,
    state: ClusterState,
}

impl StateMachine {
    /// Loads the newest snapshot into `shared`.
    pub(crate) fn load(storage: Storage, shared: SharedState, witness: Witness) -> io::Result<Self> {
        let machine = Self { storage, shared, applied: Arc::default(), witness };
        if let Some(snapshot) = read_snapshot(&machine.storage)? {
            let state = decode_state(&machine.storage, &snapshot.snapshot)?;
            machine.replace(&snapshot.meta, state);
        }
        Ok(machine)
    }

    fn replace(&self, meta: &SnapshotMeta, state: ClusterState) {
        let applied = Applied { last_log_id: meta.last_log_id, membership: meta.last_membership.clone() };
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner) = applied;
        self.shared.write(meta.last_log_id.map_or(0, |id| id.index()), |shared| *shared = state);
    }

    /// Up to where the snapshot goes that was loaded.
    pub(crate) fn snapshot_index(&self) -> Option<u64> {
        self.applied().last_log_id.map(|id| id.index())
    }

    pub(super) fn snapshot_log_id(&self) -> Option<LogId> {
        self.applied().last_log_id
    }

    pub(super) fn snapshot_membership(&self) -> Membership {
        self.applied().membership.membership().clone()
    }

    fn applied(&self) -> Applied {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = self.applied();
        Ok((applied.last_log_id, applied.membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            FailPoint::RaftApplyPre.check()?;
            let id = entry.log_id;
            let (index, term) = (id.index(), **id.committed_leader_id());
            let (response, membership) = match entry.payload {
                EntryPayload::Blank => (self.shared.write(index, |_| Response::Done), None),
                EntryPayload::Normal(command) => {
                    let response = self.shared.apply(index, term, &command);
                    self.witness.applied(index, &command, &response);
                    (response, None)
                }
                EntryPayload::Membership(membership) => {
                    let stored = StoredMembership::new(Some(id), membership);
                    (self.shared.write(index, |_| Response::Done), Some(stored))
                }
            };
            {
                let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
                applied.last_log_id = Some(id);
                if let Some(membership) = membership {
                    applied.membership = membership;
                }
            }
            if let Some(responder) = responder {
                responder.send(response);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let applied = self.applied();
        let meta = SnapshotMeta { last_log_id: applied.last_log_id, last_membership: applied.membership };
        SnapshotBuilder { storage: self.storage.clone(), meta, state: self.shared.read(ClusterState::clone) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Bytes) -> Result<(), io::Error> {
        let state = decode_state(&self.storage, &snapshot)?;
        FailPoint::SnapshotInstallPre.check()?;
        write_snapshot(&self.storage, meta, &snapshot)?;
        self.storage.synced().await?;
        FailPoint::SnapshotInstallPost.check()?;
        self.replace(meta, state);
        tracing::info!(last_log_id = ?meta.last_log_id, bytes = snapshot.len(), "installed the leader's snapshot");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        read_snapshot(&self.storage)
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        // A hundred thousand jobs take a while: a worker thread that heartbeats need must not do it.
        let state = std::mem::take(&mut self.state);
        let seal = move || Bytes::from(format::seal_bytes(&codec::encode(&state)));
        let snapshot = tokio::task::spawn_blocking(seal).await.map_err(io::Error::other)?;
        FailPoint::SnapshotBuildPre.check()?;
        write_snapshot(&self.storage, &self.meta, &snapshot)?;
        self.storage.synced().await?;
        FailPoint::SnapshotBuildPost.check()?;
        tracing::info!(last_log_id = ?self.meta.last_log_id, bytes = snapshot.len(), "wrote a snapshot");
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}

fn decode_state(storage: &Storage, sealed: &[u8]) -> io::Result<ClusterState> {
    format::open("replicated state", sealed).map_err(|error| storage.damaged(SNAPSHOT, STATE, &error))
}

pub(super) fn write_snapshot(storage: &Storage, meta: &SnapshotMeta, sealed: &[u8]) -> io::Result<()> {
    let mut batch = WriteBatch::default();
    batch.put_cf(&storage.family(META), DESCRIPTION, format::seal(&DurableSnapshotMeta::from(meta)));
    batch.put_cf(&storage.family(SNAPSHOT), STATE, sealed);
    storage.database().write(batch).map_err(|error| storage.failed("write snapshot", &error))
}

fn read_snapshot(storage: &Storage) -> io::Result<Option<Snapshot>> {
    let Some(meta) = storage.get::<DurableSnapshotMeta>("snapshot", DESCRIPTION)? else { return Ok(None) };
    let meta = meta.restore().map_err(|error| storage.damaged(META, DESCRIPTION, &error))?;
    let sealed = storage.database().get_cf(&storage.family(SNAPSHOT), STATE);
    let sealed = sealed.map_err(|error| storage.failed("read snapshot", &error))?.unwrap_or_default();
    Ok(Some(Snapshot { meta, snapshot: Bytes::from(sealed) }))
}

#[cfg(test)]
mod tests;
