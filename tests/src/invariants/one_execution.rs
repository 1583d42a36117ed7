//! An attempt is executed at most once: it is started in one place, and never again.

use std::collections::BTreeMap;

use tidemill_model::id::{ExecutionAttemptId, TaskManagerId};

use crate::sim::fact::Fact;

/// How it was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It was started a second time.
    #[error("attempt {attempt} was started on task manager {second} after it had been on {first}")]
    Again {
        /// Which attempt.
        attempt: ExecutionAttemptId,
        /// Where it was started first.
        first: TaskManagerId,
        /// And then.
        second: TaskManagerId,
    },
}

/// Keeps who has started what.
#[derive(Debug, Default)]
pub(crate) struct OneExecution {
    started: BTreeMap<ExecutionAttemptId, TaskManagerId>,
}

impl OneExecution {
    pub(super) fn observe(&mut self, fact: &Fact<'_>) -> Result<(), Violation> {
        if let Fact::TaskStarted { attempt, task_manager } = fact
            && let Some(first) = self.started.insert(*attempt, *task_manager)
        {
            return Err(Violation::Again { attempt: *attempt, first, second: *task_manager });
        }
        Ok(())
    }
}
