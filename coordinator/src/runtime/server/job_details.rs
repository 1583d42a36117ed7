//! A job as clients see it: its replicated state, and what the leader observes of it.

use tidemill_model::checkpoint::{CompletedCheckpoint, RestoreFrom};
use tidemill_model::execution::{AttemptReport, ExecutionState, TerminalState};
use tidemill_model::id::JobId;
use tidemill_proto::{convert, pb};

use super::checkpoint_overview::checkpoint_overview;
use crate::engine::leader::AttemptObservation;
use crate::engine::replicated::JobState;
use crate::runtime::leader::JobObservation;

/// Everything about one job.
pub(super) fn details(job: JobId, state: &JobState, observation: Option<JobObservation>) -> pb::JobDetails {
    let observation = observation.unwrap_or_default();
    let attempts = if observation.attempts.is_empty() { recorded(job, state) } else { observation.attempts };
    pb::JobDetails {
        id: convert::uuid_bytes(job.0),
        name: state.spec.name.clone(),
        status: Some(state.status.clone().into()),
        submitted_ms: state.submitted.0,
        history: state.history.iter().cloned().map(Into::into).collect(),
        attempts: attempts.into_iter().map(attempt).collect(),
        waiting_reason: observation.waiting_reason,
        graph: Some(state.spec.graph.clone().into()),
        records_in: observation.records_in,
        records_out: observation.records_out,
        restarts: state.restarts,
        checkpoints_completed: state.checkpoints.completed_count,
        latest_checkpoint: state.checkpoints.latest().map(|id| id.0),
        restored_checkpoint: state.restore_from.values().max().map(|id| id.0),
        checkpoints: checkpoint_overview(state, observation.checkpoints),
        read: None,
    }
}

/// Everything about one of its completed checkpoints.
pub(super) fn savepoint(job: JobId, state: &JobState, chosen: Option<&CompletedCheckpoint>) -> pb::SavepointDetails {
    let restore =
        |checkpoint: &CompletedCheckpoint| RestoreFrom { checkpoint: checkpoint.id, states: checkpoint.states.clone() };
    let settings = state.spec.settings.checkpointing.as_ref();
    pb::SavepointDetails {
        job_id: convert::uuid_bytes(job.0),
        name: state.spec.name.clone(),
        graph: Some(state.spec.graph.clone().into()),
        directory: settings.map(|settings| settings.directory.clone()).unwrap_or_default(),
        checkpoint: chosen.map(restore).map(Into::into),
        completed_ms: chosen.map_or(0, |checkpoint| checkpoint.completed.0),
        suspended_at: state.suspended_at.map(|checkpoint| checkpoint.0),
    }
}

/// One line about it.
pub(super) fn summary(state: &JobState) -> pb::JobSummary {
    pb::JobSummary {
        id: convert::uuid_bytes(state.spec.id.0),
        name: state.spec.name.clone(),
        status: Some(state.status.clone().into()),
        submitted_ms: state.submitted.0,
    }
}

/// The last schedule's attempts, of a job that nobody observes any more. Those whose end was not recorded were
/// stopped with the job.
fn recorded(job: JobId, state: &JobState) -> Vec<AttemptObservation> {
    let Some(schedule) = &state.schedule else { return Vec::new() };
    let attempts = schedule.attempt_ids(job).map(|(attempt, slot)| {
        let ended = state.terminal.get(&attempt.vertex).cloned();
        let state = match ended {
            Some(ended) => ExecutionState::Terminal(ended),
            None if state.status.is_terminal() => ExecutionState::Terminal(TerminalState::Canceled),
            None => ExecutionState::Scheduled,
        };
        let location = schedule.task_managers.get(&slot.task_manager);
        AttemptObservation {
            report: AttemptReport { attempt, state },
            task_manager: location.map(|location| location.name.clone()),
            slot: slot.index,
            process_id: None,
        }
    });
    attempts.collect()
}

fn attempt(observation: AttemptObservation) -> pb::AttemptDetails {
    pb::AttemptDetails {
        report: Some(observation.report.into()),
        task_manager: observation.task_manager.map(|name| name.0).unwrap_or_default(),
        process_id: observation.process_id.unwrap_or(0),
        slot: Some(observation.slot),
    }
}
