//! What a sub-task is told of checkpoints, and of its end. The newest of each kind says all: a task that is behind does
//! not catch up on older ones, and nothing waits for room.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidemill_model::checkpoint::CheckpointKind;
use tidemill_model::id::CheckpointId;

/// The newest checkpoint of each kind; 0: none yet.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    triggered: AtomicU64,
    /// The newest of those that are savepoints.
    savepoint: AtomicU64,
    completed: AtomicU64,
    aborted: AtomicU64,
    draining: AtomicBool,
}

impl Notices {
    /// A snapshot is wanted.
    pub(crate) fn trigger(&self, checkpoint: CheckpointId, kind: CheckpointKind) {
        if kind == CheckpointKind::Savepoint {
            self.savepoint.fetch_max(checkpoint.0, Ordering::AcqRel);
        }
        self.triggered.fetch_max(checkpoint.0, Ordering::AcqRel);
    }

    /// A checkpoint is committed, and with it all before it.
    pub(crate) fn complete(&self, checkpoint: CheckpointId) {
        self.completed.fetch_max(checkpoint.0, Ordering::AcqRel);
    }

    /// A checkpoint came to nothing.
    pub(crate) fn abort(&self, checkpoint: CheckpointId) {
        self.aborted.fetch_max(checkpoint.0, Ordering::AcqRel);
    }

    /// Sources are to end as if they had no more input.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether sources are to end.
    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// The newest that is wanted and was not given up.
    pub(crate) fn wanted(&self) -> u64 {
        let triggered = self.triggered.load(Ordering::Acquire);
        if triggered > self.aborted.load(Ordering::Acquire) { triggered } else { 0 }
    }

    /// Whether a checkpoint that is wanted is a savepoint.
    pub(crate) fn is_savepoint(&self, checkpoint: u64) -> bool {
        self.savepoint.load(Ordering::Acquire) == checkpoint
    }

    /// The newest that is committed.
    pub(crate) fn completed(&self) -> u64 {
        self.completed.load(Ordering::Acquire)
    }

    /// The newest that came to nothing.
    pub(crate) fn aborted(&self) -> u64 {
        self.aborted.load(Ordering::Acquire)
    }
}
