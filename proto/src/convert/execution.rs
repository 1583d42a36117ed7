//! Attempts, schedules and deployments on the wire.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_model::execution::{
    AttemptReport, CollectedPart, ExecutionState, Failure, FailureKind, Finalization, JobDeployment, Schedule,
    ScheduledAttempt, TaskManagerLocation, TerminalState,
};
use tidemill_model::id::{
    AttemptNumber, ExecutionAttemptId, ExecutionVertexId, JobVertexId, SubtaskIndex, TaskManagerName,
};
use tidemill_model::slot::SlotId;

use super::{Error, blob_bytes, blob_id, job_id, list, required, task_manager_id, uuid_bytes};
use crate::pb;
use crate::pb::execution_state::State;

impl From<ExecutionVertexId> for pb::ExecutionVertexId {
    fn from(id: ExecutionVertexId) -> Self {
        Self { vertex: id.vertex.0, subtask: id.subtask.0 }
    }
}

impl TryFrom<pb::ExecutionVertexId> for ExecutionVertexId {
    type Error = Error;

    fn try_from(id: pb::ExecutionVertexId) -> Result<Self, Error> {
        Ok(Self { vertex: JobVertexId(id.vertex), subtask: SubtaskIndex(id.subtask) })
    }
}

impl From<ExecutionAttemptId> for pb::ExecutionAttemptId {
    fn from(id: ExecutionAttemptId) -> Self {
        Self { job: uuid_bytes(id.job.0), vertex: Some(id.vertex.into()), attempt: id.attempt.0 }
    }
}

impl TryFrom<pb::ExecutionAttemptId> for ExecutionAttemptId {
    type Error = Error;

    fn try_from(id: pb::ExecutionAttemptId) -> Result<Self, Error> {
        Ok(Self {
            job: job_id(&id.job, "ExecutionAttemptId.job")?,
            vertex: required(id.vertex, "ExecutionAttemptId.vertex")?.try_into()?,
            attempt: AttemptNumber(id.attempt),
        })
    }
}

impl From<FailureKind> for pb::FailureKind {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Panic => Self::Panic,
            FailureKind::InvalidInput => Self::InvalidInput,
            FailureKind::InvalidArtifact => Self::InvalidArtifact,
            FailureKind::GraphMismatch => Self::GraphMismatch,
            FailureKind::ExecutorLost => Self::ExecutorLost,
            FailureKind::TaskManagerLost => Self::TaskManagerLost,
            FailureKind::ConnectionLost => Self::ConnectionLost,
            FailureKind::Io => Self::Io,
            FailureKind::Checkpoint => Self::Checkpoint,
            FailureKind::Drained => Self::Drained,
            FailureKind::Restore => Self::Restore,
        }
    }
}

fn failure_kind(value: i32) -> Result<FailureKind, Error> {
    match pb::FailureKind::try_from(value) {
        Ok(pb::FailureKind::Panic) => Ok(FailureKind::Panic),
        Ok(pb::FailureKind::InvalidInput) => Ok(FailureKind::InvalidInput),
        Ok(pb::FailureKind::InvalidArtifact) => Ok(FailureKind::InvalidArtifact),
        Ok(pb::FailureKind::GraphMismatch) => Ok(FailureKind::GraphMismatch),
        Ok(pb::FailureKind::ExecutorLost) => Ok(FailureKind::ExecutorLost),
        Ok(pb::FailureKind::TaskManagerLost) => Ok(FailureKind::TaskManagerLost),
        Ok(pb::FailureKind::ConnectionLost) => Ok(FailureKind::ConnectionLost),
        Ok(pb::FailureKind::Io) => Ok(FailureKind::Io),
        Ok(pb::FailureKind::Checkpoint) => Ok(FailureKind::Checkpoint),
        Ok(pb::FailureKind::Drained) => Ok(FailureKind::Drained),
        Ok(pb::FailureKind::Restore) => Ok(FailureKind::Restore),
        Ok(pb::FailureKind::Unspecified) | Err(_) => Err(Error::UnknownEnum { field: "Failure.kind", value }),
    }
}

impl From<Failure> for pb::Failure {
    fn from(failure: Failure) -> Self {
        Self {
            kind: pb::FailureKind::from(failure.kind).into(),
            vertex: failure.vertex.map(Into::into),
            operator: failure.operator,
            message: failure.message,
        }
    }
}

impl TryFrom<pb::Failure> for Failure {
    type Error = Error;

    fn try_from(failure: pb::Failure) -> Result<Self, Error> {
        Ok(Self {
            kind: failure_kind(failure.kind)?,
            vertex: failure.vertex.map(TryInto::try_into).transpose()?,
            operator: failure.operator,
            message: failure.message,
        })
    }
}

impl From<CollectedPart> for pb::CollectedPart {
    fn from(part: CollectedPart) -> Self {
        Self { collect_index: part.collect_index, subtask: part.subtask.0, blob: blob_bytes(part.blob) }
    }
}

impl TryFrom<pb::CollectedPart> for CollectedPart {
    type Error = Error;

    fn try_from(part: pb::CollectedPart) -> Result<Self, Error> {
        Ok(Self {
            collect_index: part.collect_index,
            subtask: SubtaskIndex(part.subtask),
            blob: blob_id(&part.blob, "CollectedPart.blob")?,
        })
    }
}

impl From<ExecutionState> for pb::ExecutionState {
    fn from(state: ExecutionState) -> Self {
        let state = match state {
            ExecutionState::Created => State::Created(pb::Empty {}),
            ExecutionState::Scheduled => State::Scheduled(pb::Empty {}),
            ExecutionState::Deploying => State::Deploying(pb::Empty {}),
            ExecutionState::Initializing => State::Initializing(pb::Empty {}),
            ExecutionState::Running => State::Running(pb::Empty {}),
            ExecutionState::Canceling => State::Canceling(pb::Empty {}),
            ExecutionState::Reconciling => State::Reconciling(pb::Empty {}),
            ExecutionState::Terminal(TerminalState::Finished { accumulators, collected, state }) => {
                let collected = collected.into_iter().map(Into::into).collect();
                State::Finished(pb::FinishedAttempt { accumulators, collected, state: Some(state.into()) })
            }
            ExecutionState::Terminal(TerminalState::Canceled) => State::Canceled(pb::Empty {}),
            ExecutionState::Terminal(TerminalState::Failed(failure)) => State::Failed(failure.into()),
        };
        Self { state: Some(state) }
    }
}

impl TryFrom<pb::ExecutionState> for ExecutionState {
    type Error = Error;

    fn try_from(state: pb::ExecutionState) -> Result<Self, Error> {
        Ok(match required(state.state, "ExecutionState.state")? {
            State::Created(pb::Empty {}) => Self::Created,
            State::Scheduled(pb::Empty {}) => Self::Scheduled,
            State::Deploying(pb::Empty {}) => Self::Deploying,
            State::Initializing(pb::Empty {}) => Self::Initializing,
            State::Running(pb::Empty {}) => Self::Running,
            State::Canceling(pb::Empty {}) => Self::Canceling,
            State::Reconciling(pb::Empty {}) => Self::Reconciling,
            State::Finished(pb::FinishedAttempt { accumulators, collected, state }) => {
                // Absent and empty are the same: no state.
                let state = state.unwrap_or_default().try_into()?;
                Self::Terminal(TerminalState::Finished { accumulators, collected: list(collected)?, state })
            }
            State::Canceled(pb::Empty {}) => Self::Terminal(TerminalState::Canceled),
            State::Failed(failure) => Self::Terminal(TerminalState::Failed(failure.try_into()?)),
        })
    }
}

impl From<AttemptReport> for pb::AttemptReport {
    fn from(report: AttemptReport) -> Self {
        Self { attempt: Some(report.attempt.into()), state: Some(report.state.into()) }
    }
}

impl TryFrom<pb::AttemptReport> for AttemptReport {
    type Error = Error;

    fn try_from(report: pb::AttemptReport) -> Result<Self, Error> {
        Ok(Self {
            attempt: required(report.attempt, "AttemptReport.attempt")?.try_into()?,
            state: required(report.state, "AttemptReport.state")?.try_into()?,
        })
    }
}

impl From<SlotId> for pb::SlotId {
    fn from(slot: SlotId) -> Self {
        Self { task_manager: uuid_bytes(slot.task_manager.0), index: slot.index }
    }
}

impl TryFrom<pb::SlotId> for SlotId {
    type Error = Error;

    fn try_from(slot: pb::SlotId) -> Result<Self, Error> {
        Ok(Self { task_manager: task_manager_id(&slot.task_manager, "SlotId.task_manager")?, index: slot.index })
    }
}

impl From<TaskManagerLocation> for pb::TaskManagerLocation {
    fn from(location: TaskManagerLocation) -> Self {
        Self { id: uuid_bytes(location.id.0), name: location.name.0, data_address: location.data_address }
    }
}

impl TryFrom<pb::TaskManagerLocation> for TaskManagerLocation {
    type Error = Error;

    fn try_from(location: pb::TaskManagerLocation) -> Result<Self, Error> {
        Ok(Self {
            id: task_manager_id(&location.id, "TaskManagerLocation.id")?,
            name: TaskManagerName(location.name),
            data_address: location.data_address,
        })
    }
}

impl From<Schedule> for pb::Schedule {
    fn from(schedule: Schedule) -> Self {
        let attempt = |(vertex, scheduled): (ExecutionVertexId, ScheduledAttempt)| pb::ScheduledAttempt {
            vertex: Some(vertex.into()),
            attempt: scheduled.attempt.0,
            slot: Some(scheduled.slot.into()),
        };
        Self {
            attempts: schedule.attempts.into_iter().map(attempt).collect(),
            task_managers: schedule.task_managers.into_values().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::Schedule> for Schedule {
    type Error = Error;

    fn try_from(schedule: pb::Schedule) -> Result<Self, Error> {
        let mut task_managers = BTreeMap::new();
        for location in list::<_, TaskManagerLocation>(schedule.task_managers)? {
            let id = location.id;
            if task_managers.insert(id, location).is_some() {
                return Err(Error::Duplicate { field: "Schedule.task_managers", key: id.to_string() });
            }
        }
        let mut attempts = BTreeMap::new();
        for entry in schedule.attempts {
            let vertex: ExecutionVertexId = required(entry.vertex, "ScheduledAttempt.vertex")?.try_into()?;
            let slot: SlotId = required(entry.slot, "ScheduledAttempt.slot")?.try_into()?;
            if !task_managers.contains_key(&slot.task_manager) {
                let key = format!("task manager {}", slot.task_manager);
                return Err(Error::Unknown { field: "ScheduledAttempt.slot", key });
            }
            let scheduled = ScheduledAttempt { attempt: AttemptNumber(entry.attempt), slot };
            if attempts.insert(vertex, scheduled).is_some() {
                return Err(Error::Duplicate { field: "Schedule.attempts", key: vertex.to_string() });
            }
        }
        Ok(Self { attempts, task_managers })
    }
}

impl From<JobDeployment> for pb::JobDeployment {
    fn from(deployment: JobDeployment) -> Self {
        Self {
            job: uuid_bytes(deployment.job.0),
            schedule: Some(deployment.schedule.into()),
            start: deployment.start.into_iter().map(Into::into).collect(),
            restore: deployment.restore.map(Into::into),
        }
    }
}

impl TryFrom<pb::JobDeployment> for JobDeployment {
    type Error = Error;

    fn try_from(deployment: pb::JobDeployment) -> Result<Self, Error> {
        let job = job_id(&deployment.job, "JobDeployment.job")?;
        let start: Vec<ExecutionAttemptId> = list(deployment.start)?;
        let mut seen = BTreeSet::new();
        for attempt in &start {
            if attempt.job != job {
                let key = format!("job {}", attempt.job);
                return Err(Error::Unknown { field: "JobDeployment.start", key });
            }
            if !seen.insert(attempt) {
                return Err(Error::Duplicate { field: "JobDeployment.start", key: attempt.to_string() });
            }
        }
        let restore = deployment.restore.map(TryInto::try_into).transpose()?;
        let schedule = required(deployment.schedule, "JobDeployment.schedule")?.try_into()?;
        Ok(Self { job, schedule, start, restore })
    }
}

/// The wire form of a finalization: the action, and the attempts (none for an abort).
#[must_use]
pub fn finalization_to_pb(
    finalization: Finalization,
) -> (pb::Finalization, Vec<pb::StagedAttempt>, Option<pb::RestoreFrom>) {
    let staged = |(vertex, attempt): (ExecutionVertexId, AttemptNumber)| pb::StagedAttempt {
        vertex: Some(vertex.into()),
        attempt: attempt.0,
    };
    match finalization {
        Finalization::Commit { attempts, checkpoint } => {
            let attempts = attempts.into_iter().map(staged).collect();
            (pb::Finalization::Commit, attempts, checkpoint.map(Into::into))
        }
        Finalization::Abort { checkpoint } => (pb::Finalization::Abort, Vec::new(), checkpoint.map(Into::into)),
    }
}

/// Reads a finalization; an abort ignores `attempts`.
///
/// # Errors
///
/// When the action is unspecified or unknown, or an attempt names no sub-task.
pub fn finalization_from_pb(
    action: i32,
    attempts: Vec<pb::StagedAttempt>,
    checkpoint: Option<pb::RestoreFrom>,
) -> Result<Finalization, Error> {
    let staged = |staged: pb::StagedAttempt| -> Result<_, Error> {
        let vertex = required(staged.vertex, "StagedAttempt.vertex")?;
        Ok((vertex.try_into()?, AttemptNumber(staged.attempt)))
    };
    match pb::Finalization::try_from(action) {
        Ok(pb::Finalization::Commit) => {
            let attempts = attempts.into_iter().map(staged).collect::<Result<_, _>>()?;
            Ok(Finalization::Commit { attempts, checkpoint: checkpoint.map(TryInto::try_into).transpose()? })
        }
        Ok(pb::Finalization::Abort) => {
            Ok(Finalization::Abort { checkpoint: checkpoint.map(TryInto::try_into).transpose()? })
        }
        Ok(pb::Finalization::Unspecified) | Err(_) => {
            Err(Error::UnknownEnum { field: "Finalization.action", value: action })
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
