//! Promise `no-zombie`, for failures: a job is restarted or fails because of an attempt that is scheduled, never because
//! of one that is superseded.

use std::collections::BTreeSet;

use tidemill_coordinator::engine::replicated::{CommandBody, Response};
use tidemill_model::execution::{ExecutionState, FailureKind, TerminalState};
use tidemill_model::id::{ExecutionAttemptId, JobId};
use tidemill_model::job::JobStatus;

use crate::sim::fact::Fact;

/// How it was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// No scheduled attempt had failed.
    #[error("job {job} was disturbed although none of its scheduled attempts had failed: {cause}")]
    Baseless {
        /// Which.
        job: JobId,
        /// The reason that the leader gave.
        cause: String,
    },
}

/// Keeps which attempts task managers said had ended without finishing.
#[derive(Debug, Default)]
pub(crate) struct NoZombie {
    failed: BTreeSet<ExecutionAttemptId>,
}

impl NoZombie {
    pub(super) fn observe(&mut self, fact: &Fact<'_>) {
        if let Fact::Told {
            attempt,
            state: ExecutionState::Terminal(TerminalState::Failed(_) | TerminalState::Canceled),
        } = fact
        {
            self.failed.insert(*attempt);
        }
    }

    /// An entry that nobody had applied before.
    pub(super) fn decided(&self, fact: &Fact<'_>) -> Result<(), Violation> {
        let Fact::Applied { command, response: Response::Done, before, .. } = fact else { return Ok(()) };
        let (CommandBody::FailOver { job, cause, .. } | CommandBody::FailJob { job, cause }) = &command.body else {
            return Ok(());
        };
        let Some(state) = before.jobs.get(job) else { return Ok(()) };
        let by_attempt = match cause.kind {
            // The leader's own observations.
            FailureKind::TaskManagerLost | FailureKind::Checkpoint | FailureKind::Drained => false,
            // The job's own master's.
            FailureKind::Panic if cause.vertex.is_none() => false,
            FailureKind::Panic
            | FailureKind::InvalidInput
            | FailureKind::InvalidArtifact
            | FailureKind::GraphMismatch
            | FailureKind::ExecutorLost
            | FailureKind::ConnectionLost
            | FailureKind::Io
            | FailureKind::Restore => matches!(state.status, JobStatus::Running | JobStatus::Restarting),
        };
        let mut scheduled = state.schedule.iter().flat_map(|schedule| schedule.attempt_ids(*job));
        if by_attempt && !scheduled.any(|(attempt, _)| self.failed.contains(&attempt)) {
            return Err(Violation::Baseless { job: *job, cause: cause.to_string() });
        }
        Ok(())
    }
}
