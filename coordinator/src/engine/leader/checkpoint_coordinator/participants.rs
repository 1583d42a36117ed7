//! Who takes part in a checkpoint.

use std::collections::BTreeMap;

use tidemill_model::checkpoint::SubtaskState;
use tidemill_model::id::{AttemptNumber, ExecutionAttemptId, ExecutionVertexId};

/// The scheduled attempts as the job's master sees them.
#[derive(Debug, Clone, Default)]
pub(in crate::engine::leader) struct Participants {
    /// Those that run, by sub-task.
    pub(in crate::engine::leader) running: BTreeMap<ExecutionVertexId, ExecutionAttemptId>,
    /// Those that have finished, with what they left.
    pub(in crate::engine::leader) finished: BTreeMap<ExecutionVertexId, (ExecutionAttemptId, SubtaskState)>,
    /// Sub-tasks that do neither: no checkpoint can begin.
    pub(in crate::engine::leader) unready: usize,
}

impl Participants {
    /// All of them.
    pub(super) fn attempts(&self) -> BTreeMap<ExecutionVertexId, AttemptNumber> {
        let running = self.running.values();
        let all = running.chain(self.finished.values().map(|(attempt, _)| attempt));
        all.map(|attempt| (attempt.vertex, attempt.attempt)).collect()
    }
}
