//! What has been decided: the replicated state as the first replica that applied an entry has it.

use tidemill_coordinator::engine::replicated::{ClusterState, JobState};
use tidemill_model::id::JobId;

use crate::sim::fact::Fact;

/// The newest state that anybody has applied.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) index: u64,
    pub(crate) state: ClusterState,
}

impl Truth {
    /// Takes note; whether this is an entry that nobody had applied before.
    pub(super) fn observe(&mut self, fact: &Fact<'_>) -> bool {
        if let Fact::Applied { index, after, .. } = fact
            && *index > self.index
        {
            self.index = *index;
            self.state.clone_from(after);
            return true;
        }
        false
    }

    pub(crate) fn job(&self, job: JobId) -> Option<&JobState> {
        self.state.jobs.get(&job)
    }
}
