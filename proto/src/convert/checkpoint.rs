//! Checkpoints on the wire: states, commands and what attempts say of them.

use std::collections::BTreeMap;

use tidemill_model::checkpoint::{
    CheckpointAction, CheckpointCommand, CheckpointKind, CheckpointOutcome, CheckpointReport, RestoreFrom, StateHandle,
    SubtaskState,
};
use tidemill_model::id::{CheckpointId, ExecutionVertexId};

use super::{Error, list, required};
use crate::pb;
use crate::pb::checkpoint_command::Action;
use crate::pb::checkpoint_report::Outcome;
use crate::pb::state_handle::Handle;

impl From<StateHandle> for pb::StateHandle {
    fn from(handle: StateHandle) -> Self {
        let handle = match handle {
            StateHandle::Inline(bytes) => Handle::Inline(bytes.into()),
            StateHandle::File { path, offset, length, checksum } => {
                Handle::File(pb::StateFile { path, offset, length, checksum })
            }
        };
        Self { handle: Some(handle) }
    }
}

impl TryFrom<pb::StateHandle> for StateHandle {
    type Error = Error;

    fn try_from(handle: pb::StateHandle) -> Result<Self, Error> {
        Ok(match required(handle.handle, "StateHandle.handle")? {
            Handle::Inline(bytes) => Self::Inline(bytes.into()),
            Handle::File(pb::StateFile { path, .. }) if path.is_empty() => {
                return Err(Error::Empty { field: "StateFile.path" });
            }
            Handle::File(pb::StateFile { path, offset, length, checksum }) => {
                Self::File { path, offset, length, checksum }
            }
        })
    }
}

impl From<SubtaskState> for pb::SubtaskState {
    fn from(state: SubtaskState) -> Self {
        Self { handles: state.0.into_iter().map(Into::into).collect() }
    }
}

impl TryFrom<pb::SubtaskState> for SubtaskState {
    type Error = Error;

    fn try_from(state: pb::SubtaskState) -> Result<Self, Error> {
        list(state.handles).map(Self)
    }
}

impl From<RestoreFrom> for pb::RestoreFrom {
    fn from(restore: RestoreFrom) -> Self {
        let state = |(vertex, state): (ExecutionVertexId, SubtaskState)| pb::VertexState {
            vertex: Some(vertex.into()),
            state: Some(state.into()),
        };
        Self { checkpoint: restore.checkpoint.0, states: restore.states.into_iter().map(state).collect() }
    }
}

impl TryFrom<pb::RestoreFrom> for RestoreFrom {
    type Error = Error;

    fn try_from(restore: pb::RestoreFrom) -> Result<Self, Error> {
        let mut states = BTreeMap::new();
        for entry in restore.states {
            let vertex: ExecutionVertexId = required(entry.vertex, "VertexState.vertex")?.try_into()?;
            let state = required(entry.state, "VertexState.state")?.try_into()?;
            if states.insert(vertex, state).is_some() {
                return Err(Error::Duplicate { field: "RestoreFrom.states", key: vertex.to_string() });
            }
        }
        Ok(Self { checkpoint: CheckpointId(restore.checkpoint), states })
    }
}

impl From<CheckpointCommand> for pb::CheckpointCommand {
    fn from(command: CheckpointCommand) -> Self {
        let action = match command.action {
            CheckpointAction::Trigger(CheckpointKind::Periodic) => Action::Trigger,
            CheckpointAction::Trigger(CheckpointKind::Savepoint) => Action::TriggerSavepoint,
            CheckpointAction::NotifyComplete => Action::NotifyComplete,
            CheckpointAction::Abort => Action::Abort,
            CheckpointAction::Drain => Action::Drain,
        };
        let attempts = command.attempts.into_iter().map(Into::into).collect();
        Self { action: action.into(), checkpoint: command.checkpoint.0, attempts }
    }
}

impl TryFrom<pb::CheckpointCommand> for CheckpointCommand {
    type Error = Error;

    fn try_from(command: pb::CheckpointCommand) -> Result<Self, Error> {
        let action = match Action::try_from(command.action) {
            Ok(Action::Trigger) => CheckpointAction::Trigger(CheckpointKind::Periodic),
            Ok(Action::TriggerSavepoint) => CheckpointAction::Trigger(CheckpointKind::Savepoint),
            Ok(Action::NotifyComplete) => CheckpointAction::NotifyComplete,
            Ok(Action::Abort) => CheckpointAction::Abort,
            Ok(Action::Drain) => CheckpointAction::Drain,
            Ok(Action::Unspecified) | Err(_) => {
                return Err(Error::UnknownEnum { field: "CheckpointCommand.action", value: command.action });
            }
        };
        Ok(Self { action, checkpoint: CheckpointId(command.checkpoint), attempts: list(command.attempts)? })
    }
}

impl From<CheckpointReport> for pb::CheckpointReport {
    fn from(report: CheckpointReport) -> Self {
        let outcome = match report.outcome {
            CheckpointOutcome::Acknowledged(state) => Outcome::Acknowledged(state.into()),
            CheckpointOutcome::Declined(reason) => Outcome::Declined(reason),
            CheckpointOutcome::Notified => Outcome::Notified(pb::Empty {}),
        };
        Self { attempt: Some(report.attempt.into()), checkpoint: report.checkpoint.0, outcome: Some(outcome) }
    }
}

impl TryFrom<pb::CheckpointReport> for CheckpointReport {
    type Error = Error;

    fn try_from(report: pb::CheckpointReport) -> Result<Self, Error> {
        let outcome = match required(report.outcome, "CheckpointReport.outcome")? {
            Outcome::Acknowledged(state) => CheckpointOutcome::Acknowledged(state.try_into()?),
            Outcome::Declined(reason) => CheckpointOutcome::Declined(reason),
            Outcome::Notified(pb::Empty {}) => CheckpointOutcome::Notified,
        };
        let attempt = required(report.attempt, "CheckpointReport.attempt")?.try_into()?;
        Ok(Self { attempt, checkpoint: CheckpointId(report.checkpoint), outcome })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::execution::tests::attempt;

    fn state() -> SubtaskState {
        let file = StateHandle::File { path: "chk-7/tm-1".into(), offset: 1 << 40, length: 9, checksum: u32::MAX };
        SubtaskState(vec![StateHandle::Inline(vec![]), StateHandle::Inline(vec![1, 2]), file])
    }

    #[test]
    fn every_report_round_trips() {
        for outcome in [
            CheckpointOutcome::Acknowledged(state()),
            CheckpointOutcome::Acknowledged(SubtaskState::default()),
            CheckpointOutcome::Declined("the disk is full".into()),
            CheckpointOutcome::Notified,
        ] {
            let report = CheckpointReport { attempt: attempt(3), checkpoint: CheckpointId(u64::MAX), outcome };
            assert_eq!(CheckpointReport::try_from(pb::CheckpointReport::from(report.clone())), Ok(report));
        }
        let empty = CheckpointReport::try_from(pb::CheckpointReport::default());
        assert_eq!(empty, Err(Error::Missing { field: "CheckpointReport.outcome" }));
    }

    #[test]
    fn every_command_round_trips_and_an_unknown_action_is_refused() {
        let triggers = [CheckpointKind::Periodic, CheckpointKind::Savepoint].map(CheckpointAction::Trigger);
        let others = [CheckpointAction::NotifyComplete, CheckpointAction::Abort, CheckpointAction::Drain];
        for action in triggers.into_iter().chain(others) {
            let attempts = vec![attempt(0), attempt(1)];
            let command = CheckpointCommand { action, checkpoint: CheckpointId(7), attempts };
            assert_eq!(CheckpointCommand::try_from(pb::CheckpointCommand::from(command.clone())), Ok(command));
        }
        let unknown = CheckpointCommand::try_from(pb::CheckpointCommand { action: 9, ..Default::default() });
        assert_eq!(unknown, Err(Error::UnknownEnum { field: "CheckpointCommand.action", value: 9 }));
    }

    #[test]
    fn what_attempts_start_from_round_trips_and_names_no_sub_task_twice() {
        let states = BTreeMap::from([(attempt(0).vertex, state())]);
        let restore = RestoreFrom { checkpoint: CheckpointId(4), states };
        let mut message = pb::RestoreFrom::from(restore.clone());
        assert_eq!(RestoreFrom::try_from(message.clone()), Ok(restore));
        message.states.push(message.states[0].clone());
        let error = RestoreFrom::try_from(message).expect_err("twice");
        assert!(matches!(error, Error::Duplicate { field: "RestoreFrom.states", .. }), "{error}");
    }

    #[test]
    fn a_state_file_has_a_name() {
        let handle = pb::StateHandle { handle: Some(Handle::File(pb::StateFile::default())) };
        assert_eq!(StateHandle::try_from(handle), Err(Error::Empty { field: "StateFile.path" }));
    }
}
