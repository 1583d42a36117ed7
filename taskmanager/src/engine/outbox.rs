//! The actions of one step, in order.

use tidemill_model::execution::{AttemptReport, ExecutionState};
use tidemill_model::id::ExecutionAttemptId;

use super::action::{Action, Outbound};

/// Collects actions; what is meant for a leader is left out while there is none, since the next report says it all.
#[derive(Debug)]
pub(crate) struct Outbox {
    connected: bool,
    actions: Vec<Action>,
}

impl Outbox {
    pub(crate) fn new(connected: bool) -> Self {
        Self { connected, actions: Vec::new() }
    }

    pub(crate) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(crate) fn tell(&mut self, outbound: Outbound) {
        if self.connected {
            self.actions.push(Action::SendToCoordinator(outbound));
        }
    }

    pub(crate) fn report(&mut self, attempt: ExecutionAttemptId, state: ExecutionState) {
        self.tell(Outbound::Attempt(AttemptReport { attempt, state }));
    }

    pub(crate) fn refuse(&mut self, reason: String) {
        self.actions.push(Action::Refuse { reason });
    }

    pub(crate) fn connect(&mut self) {
        self.connected = true;
    }

    pub(crate) fn into_actions(self) -> Vec<Action> {
        self.actions
    }
}
