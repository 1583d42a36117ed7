//! What a sub-task is told of checkpoints. The newest of each kind says all: a task that is behind does not catch up on
//! older ones, and nothing waits for room.

use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_model::id::CheckpointId;

/// The newest checkpoint of each kind; 0: none yet.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    triggered: AtomicU64,
    completed: AtomicU64,
    aborted: AtomicU64,
}

impl Notices {
    /// A snapshot is wanted.
    pub(crate) fn trigger(&self, checkpoint: CheckpointId) {
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

    /// The newest that is wanted and was not given up.
    pub(crate) fn wanted(&self) -> u64 {
        let triggered = self.triggered.load(Ordering::Acquire);
        if triggered > self.aborted.load(Ordering::Acquire) { triggered } else { 0 }
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
