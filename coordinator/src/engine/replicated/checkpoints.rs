//! One job's replicated checkpoint metadata: reserved ids, completed checkpoints, files that nothing needs any more.
//!
//! Only apply orders "attempt replaced" against "checkpoint completed": whichever entry comes first wins.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill_model::checkpoint::{CheckpointKind, CompletedCheckpoint, SubtaskState};
use tidemill_model::id::{CheckpointId, ExecutionVertexId};
use tidemill_model::mutant::{self, Mutant};
use tidemill_model::time::Timestamp;

/// What every replica knows of a job's checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Checkpoints {
    /// Ids up to this one may have been used by some leadership. Invariant: never goes back, so that no id is used twice.
    pub reserved: CheckpointId,
    /// Ids below this one are void: attempts that took part in them were replaced. Invariant: never goes back.
    pub min_completable: CheckpointId,
    /// The retained ones. Invariant: ids of at most `reserved`, each with a state for every sub-task.
    pub completed: BTreeMap<CheckpointId, CompletedCheckpoint>,
    /// How many were ever completed.
    pub completed_count: u64,
    /// Every attempt that took part has confirmed that it heard of the completion of this one.
    pub notified: CheckpointId,
    /// The one whose transactions the sinks of a job that has finished its work commit.
    pub final_checkpoint: Option<CheckpointId>,
    /// Files to delete, and the completed checkpoint without which they were still needed. Invariant: no retained
    /// checkpoint needs one of them.
    pub garbage: BTreeMap<String, CheckpointId>,
    /// The job has ended and keeps nothing: its whole folder is to go. Invariant: nothing else is listed then.
    pub folder_is_garbage: bool,
}

/// What is to be deleted in a job's folder of the checkpoint storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Garbage {
    /// These files, by their paths in the folder.
    Files(Vec<String>),
    /// Everything.
    Folder,
}

impl fmt::Display for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(paths) => f.write_str(&paths.join(" ")),
            Self::Folder => f.write_str("the folder"),
        }
    }
}

/// A checkpoint that is about to be completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Completion {
    pub(super) id: CheckpointId,
    pub(super) kind: CheckpointKind,
    pub(super) states: BTreeMap<ExecutionVertexId, SubtaskState>,
    /// From its trigger until it was complete.
    pub(super) duration: Duration,
    /// How many are kept.
    pub(super) retained: u32,
}

impl Checkpoints {
    /// The newest completed one; promise `last-completed`: what a restore uses.
    #[must_use]
    pub fn latest(&self) -> Option<CheckpointId> {
        self.completed.last_key_value().map(|(&id, _)| id)
    }

    /// The newest one that was taken as a savepoint. It stays until there is another, since somebody copies it.
    #[must_use]
    pub fn savepoint(&self) -> Option<&CompletedCheckpoint> {
        self.completed.values().rev().find(|checkpoint| checkpoint.kind == CheckpointKind::Savepoint)
    }

    /// Whether a checkpoint of this id could still be completed, as far as ids go.
    #[must_use]
    pub fn completable(&self, id: CheckpointId) -> bool {
        let valid = id >= self.min_completable || mutant::active(Mutant::CompletionAfterFailover);
        let reserved = id <= self.reserved || mutant::active(Mutant::CheckpointCounterInMemory);
        valid && reserved && self.latest().is_none_or(|latest| id > latest)
    }

    /// Takes ids up to `upto` into use; false when they are already.
    pub(super) fn reserve(&mut self, upto: CheckpointId) -> bool {
        let fresh = upto > self.reserved;
        self.reserved = self.reserved.max(upto);
        fresh
    }

    /// Attempts are being replaced: whatever they acknowledged may not be completed any more, in any order of messages.
    pub(super) fn void_pending(&mut self) {
        self.min_completable = self.reserved.next();
    }

    /// Completes a checkpoint whose id is [`completable`](Self::completable).
    pub(super) fn complete(&mut self, completion: Completion, now: Timestamp) {
        let Completion { id, kind, states, duration, retained } = completion;
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let triggered = Timestamp(now.0.saturating_sub(millis));
        self.completed.insert(id, CompletedCheckpoint { id, kind, triggered, completed: now, states });
        self.completed_count += 1;
        let retained = usize::try_from(retained.max(1)).unwrap_or(usize::MAX);
        let savepoint = self.savepoint().map(|savepoint| savepoint.id);
        let subsumed: Vec<CheckpointId> = self.completed.keys().rev().skip(retained).copied().collect();
        for older in subsumed.into_iter().filter(|older| Some(*older) != savepoint) {
            if let Some(subsumed) = self.completed.remove(&older) {
                self.discard(&subsumed, id);
            }
        }
        let needed = self.needed();
        self.garbage.retain(|path, _| !needed.contains(path));
    }

    /// The job has ended and its retained checkpoints stay: nothing builds on any other one.
    pub(super) fn keep_completed(&mut self) {
        self.notified = self.reserved;
    }

    /// The job has ended and its checkpoints go with it, those that were never completed among them.
    pub(super) fn discard_all(&mut self) {
        self.completed.clear();
        self.garbage.clear();
        self.notified = self.reserved;
        self.folder_is_garbage = true;
    }

    pub(super) fn deleted(&mut self, garbage: &Garbage) {
        match garbage {
            Garbage::Files(paths) => self.garbage.retain(|path, _| !paths.contains(path)),
            Garbage::Folder => self.folder_is_garbage = false,
        }
    }

    /// Whether something is left to delete.
    #[must_use]
    pub fn has_garbage(&self) -> bool {
        self.folder_is_garbage || !self.garbage.is_empty()
    }

    /// Whether a retained checkpoint needs a file, or it is to be deleted at its own time.
    #[must_use]
    pub fn knows(&self, path: &str) -> bool {
        self.garbage.contains_key(path)
            || self.completed.values().any(|checkpoint| checkpoint.paths().any(|needed| needed == path))
    }

    fn discard(&mut self, checkpoint: &CompletedCheckpoint, since: CheckpointId) {
        for path in checkpoint.paths() {
            self.garbage.insert(path.to_owned(), since);
        }
    }

    fn needed(&self) -> BTreeSet<String> {
        self.completed.values().flat_map(CompletedCheckpoint::paths).map(str::to_owned).collect()
    }

    pub(super) fn check_invariants(&self) -> Result<(), String> {
        if self.latest().is_some_and(|latest| latest > self.reserved) {
            return Err(format!("checkpoint {:?} was completed but not reserved", self.latest()));
        }
        if self.folder_is_garbage && !(self.completed.is_empty() && self.garbage.is_empty()) {
            return Err("the folder is garbage, and yet something in it is listed".to_owned());
        }
        let needed = self.needed();
        match self.garbage.keys().find(|path| needed.contains(*path)) {
            Some(path) => Err(format!("file {path} is garbage, but a retained checkpoint needs it")),
            None => Ok(()),
        }
    }
}
