//! A job that is to end as if its sources had no more input: whoever runs is told until it has finished.

use std::collections::BTreeSet;

use tidemill_model::checkpoint::CheckpointAction;
use tidemill_model::execution::ExecutionState;
use tidemill_model::id::{CheckpointId, ExecutionVertexId, TaskManagerId};
use tidemill_model::job::StopMode;

use super::{JobMaster, JobMasterAction};

impl JobMaster {
    /// Tells every attempt that runs and has not been told. One that replaces it is told, too, and drains from where the
    /// checkpoint left it.
    pub(super) fn drive_drain(&mut self, actions: &mut Vec<JobMasterAction>) {
        if self.job.stop != Some(StopMode::Drain) {
            return;
        }
        let Some(schedule) = &self.job.schedule else { return };
        let runs = |vertex: &ExecutionVertexId| self.executions.get(vertex) == Some(&ExecutionState::Running);
        let untold: BTreeSet<_> = schedule
            .attempt_ids(self.job.spec.id)
            .filter(|(attempt, slot)| {
                runs(&attempt.vertex)
                    && self.registered.contains_key(&slot.task_manager)
                    && !self.drained.contains(attempt)
            })
            .map(|(attempt, _)| attempt)
            .collect();
        if untold.is_empty() {
            return;
        }
        self.tell_attempts(CheckpointAction::Drain, CheckpointId(0), |attempt| untold.contains(attempt), actions);
        self.drained.extend(untold);
    }

    /// A task manager's stream is new: what was sent over the former one may be lost.
    pub(super) fn drain_again(&mut self, task_manager: TaskManagerId) {
        let Some(schedule) = &self.job.schedule else { return };
        let there = schedule.attempt_ids(self.job.spec.id).filter(|(_, slot)| slot.task_manager == task_manager);
        for (attempt, _) in there {
            self.drained.remove(&attempt);
        }
    }
}
