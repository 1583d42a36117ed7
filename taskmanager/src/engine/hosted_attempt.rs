//! One attempt as this task manager hosts it.

use tidemill_model::checkpoint::SubtaskState;
use tidemill_model::execution::{Accumulators, ExecutionState, TerminalState};
use tidemill_model::time::Instant;

/// How an attempt stands here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AttemptState {
    /// Deploying, initializing or running.
    Live(ExecutionState),
    /// Told to stop; killed with its executor when it has not by `deadline`.
    Canceling { deadline: Instant },
    /// Finished, but what it gathered is not yet stored: the leader still sees it running.
    Storing { accumulators: Accumulators, state: SubtaskState },
    /// Ended, and kept until a leader has acknowledged it.
    Ended(TerminalState),
    /// Ended and acknowledged: kept only so that a repeated deployment does not run it again.
    Acknowledged,
}

/// An attempt, and the slot that it has.
#[derive(Debug)]
pub(crate) struct HostedAttempt {
    pub(crate) slot: u32,
    pub(crate) state: AttemptState,
}

impl HostedAttempt {
    /// What a report says of it; nothing once it was acknowledged.
    pub(crate) fn reported(&self) -> Option<ExecutionState> {
        match &self.state {
            AttemptState::Live(state) => Some(state.clone()),
            AttemptState::Canceling { .. } => Some(ExecutionState::Canceling),
            AttemptState::Storing { .. } => Some(ExecutionState::Running),
            AttemptState::Ended(terminal) => Some(ExecutionState::Terminal(terminal.clone())),
            AttemptState::Acknowledged => None,
        }
    }

    /// Whether it needs its executor.
    pub(crate) fn is_live(&self) -> bool {
        match self.state {
            AttemptState::Live(_) | AttemptState::Canceling { .. } => true,
            AttemptState::Storing { .. } | AttemptState::Ended(_) | AttemptState::Acknowledged => false,
        }
    }
}
