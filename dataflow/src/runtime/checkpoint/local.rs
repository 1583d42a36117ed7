//! The copies of state that this process leaves on its machine, for the one that is started again here: kept as long as the
//! checkpoints that they are of, or as a later one builds on them.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_model::checkpoint::{StateHandle, SubtaskState};
use tidemill_model::id::CheckpointId;
use tidemill_storage::LocalCopy;

/// What is kept on this machine, if anything is.
pub(super) struct LocalCopies {
    copy: Option<LocalCopy>,
    process: String,
    /// What each acknowledged checkpoint consists of, from the newest completed one on.
    paths: BTreeMap<CheckpointId, BTreeSet<String>>,
}

impl LocalCopies {
    pub(super) fn new(copy: Option<LocalCopy>, process: String) -> Self {
        Self { copy, process, paths: BTreeMap::new() }
    }

    pub(super) fn acknowledged(&mut self, checkpoint: CheckpointId, state: &SubtaskState) {
        if self.copy.is_some() {
            let paths = state.0.iter().filter_map(StateHandle::path).map(str::to_owned);
            self.paths.entry(checkpoint).or_default().extend(paths);
        }
    }

    /// Older checkpoints are of no use any more, whichever process they are of.
    pub(super) fn completed(&mut self, checkpoint: CheckpointId) {
        let Some(copy) = &self.copy else { return };
        self.paths.retain(|id, _| *id >= checkpoint);
        let keep = self.paths.values().flatten().cloned().collect();
        copy.prune(checkpoint, &keep);
    }

    pub(super) fn aborted(&mut self, checkpoint: CheckpointId) {
        let Some(copy) = &self.copy else { return };
        self.paths.remove(&checkpoint);
        copy.forget(checkpoint, &self.process);
    }
}
