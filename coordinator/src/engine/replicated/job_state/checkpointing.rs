//! The commands about a job's checkpoints.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_model::checkpoint::{CheckpointKind, ExternalizedRetention, RestoreFrom, SubtaskState};
use tidemill_model::execution::{FailureKind, TerminalState};
use tidemill_model::id::{AttemptNumber, CheckpointId, ExecutionVertexId};
use tidemill_model::job::{JobStatus, StopMode};
use tidemill_model::mutant::{self, Mutant};
use tidemill_model::time::Timestamp;

use super::JobState;
use crate::engine::replicated::checkpoints::{Completion, Garbage};
use crate::engine::replicated::command::Response;

impl JobState {
    pub(super) fn reserve_checkpoints(&mut self, upto: CheckpointId) -> Response {
        if self.status.is_terminal() {
            return self.refused();
        }
        if self.checkpoints.reserve(upto) { Response::Done } else { Response::Superseded }
    }

    /// Refused when an attempt that took part is not the scheduled one, or the id was voided: a completion that was
    /// decided before a failover and applied after it must not become what a later restore uses.
    pub(super) fn complete_checkpoint(
        &mut self,
        (id, kind): (CheckpointId, CheckpointKind),
        attempts: &BTreeMap<ExecutionVertexId, AttemptNumber>,
        states: &BTreeMap<ExecutionVertexId, SubtaskState>,
        duration: Duration,
        now: Timestamp,
    ) -> Response {
        let Some(settings) = self.spec.settings.checkpointing.as_ref().filter(|_| self.status == JobStatus::Running)
        else {
            return self.refused();
        };
        let scheduled = self.schedule.iter().flat_map(|schedule| &schedule.attempts);
        let current = scheduled.map(|(vertex, scheduled)| (vertex, &scheduled.attempt)).eq(attempts)
            || mutant::active(Mutant::CompletionAfterFailover);
        let whole = self.spec.graph.execution_vertices().all(|vertex| states.contains_key(&vertex));
        if !current || !whole || !self.checkpoints.completable(id) {
            return Response::Superseded;
        }
        let retained = settings.retained;
        self.checkpoints.complete(Completion { id, kind, states: states.clone(), duration, retained }, now);
        // The same entry completes it and begins the end: no attempt is replaced and goes on from it in between.
        if kind == CheckpointKind::Savepoint && self.stop == Some(StopMode::Suspend) {
            self.suspended_at = Some(id);
            self.enter(JobStatus::Cancelling, None, now);
        }
        Response::Done
    }

    /// The final checkpoint of a job whose tasks have all finished consists of what they left behind. False when the id
    /// cannot be used.
    pub(super) fn complete_final_checkpoint(&mut self, id: CheckpointId, now: Timestamp) -> bool {
        let Some(settings) = &self.spec.settings.checkpointing else { return false };
        if !self.checkpoints.completable(id) {
            return false;
        }
        let last = |(&vertex, state): (&ExecutionVertexId, &TerminalState)| match state {
            TerminalState::Finished { state, .. } => Some((vertex, state.clone())),
            TerminalState::Canceled | TerminalState::Failed(_) => None,
        };
        let states = self.terminal.iter().filter_map(last).collect();
        let (kind, duration, retained) = (CheckpointKind::Periodic, Duration::ZERO, settings.retained);
        self.checkpoints.complete(Completion { id, kind, states, duration, retained }, now);
        self.checkpoints.final_checkpoint = Some(id);
        true
    }

    pub(super) fn record_notified(&mut self, checkpoint: CheckpointId) -> Response {
        self.checkpoints.notified = self.checkpoints.notified.max(checkpoint.min(self.checkpoints.reserved));
        Response::Done
    }

    pub(super) fn record_garbage_deleted(&mut self, garbage: &Garbage) -> Response {
        self.checkpoints.deleted(garbage);
        Response::Done
    }

    /// Whether a task that goes on after the job's end may leave files that nobody would look for: those of a job that
    /// keeps a checkpoint stay in its folder, and that is the user's by then.
    #[must_use]
    pub fn cleans_up_after_stragglers(&self) -> bool {
        let writes = self.spec.settings.checkpointing.is_some() && self.schedule.is_some();
        let forgets = mutant::active(Mutant::StragglersForgotten);
        writes && !forgets && self.status.is_terminal() && self.checkpoints.completed.is_empty()
    }

    pub(super) fn record_straggler(&mut self) -> Response {
        if self.cleans_up_after_stragglers() {
            self.checkpoints.discard_all();
        }
        Response::Done
    }

    /// What becomes of the retained checkpoints at the end: a finished job needs none, another one may want to keep them,
    /// and a suspended one is gone on from.
    pub(super) fn drop_checkpoints(&mut self, end: &JobStatus) {
        let Some(settings) = &self.spec.settings.checkpointing else { return };
        let wanted = settings.externalized == ExternalizedRetention::RetainOnEnd;
        // An older one is all that is left to such a job, and to take it is an operator's decision.
        let damaged = matches!(end, JobStatus::Failed(cause) if cause.kind == FailureKind::Restore);
        // Its sinks could not commit what its last checkpoint has, and nothing else has it.
        let uncommitted = matches!(end, JobStatus::Failed(_)) && self.checkpoints.final_checkpoint.is_some();
        let kept =
            damaged || uncommitted || (wanted || self.suspended_at.is_some()) && !matches!(end, JobStatus::Finished(_));
        if kept {
            self.checkpoints.keep_completed();
        } else if self.schedule.is_some() {
            // What never ran has left nothing.
            self.checkpoints.discard_all();
        }
    }

    /// What every sub-task left, when the job has finished its work: its sinks commit the transactions in it.
    #[must_use]
    pub fn final_checkpoint(&self) -> Option<RestoreFrom> {
        let checkpoint = self.checkpoints.final_checkpoint?;
        let states = self.checkpoints.completed.get(&checkpoint)?.states.clone();
        Some(RestoreFrom { checkpoint, states })
    }

    /// The newest completed checkpoint: what its sinks have prepared is to be visible, however the job ends.
    #[must_use]
    pub fn newest_checkpoint(&self) -> Option<RestoreFrom> {
        let (&checkpoint, completed) = self.checkpoints.completed.last_key_value()?;
        Some(RestoreFrom { checkpoint, states: completed.states.clone() })
    }

    /// What scheduled sub-tasks of one attempt number start from; none: from nothing. All of one number start from one
    /// checkpoint (`last-completed`): between the entry that voids an attempt and the one that replaces it, none can
    /// be completed.
    ///
    /// # Errors
    ///
    /// The checkpoint that they started from, when it is retained no longer. They took part in a later one since, so
    /// they must not be started from it again, and least of all from nothing.
    pub fn restore(&self, vertices: &[ExecutionVertexId]) -> Result<Option<RestoreFrom>, CheckpointId> {
        let Some(&checkpoint) = vertices.iter().find_map(|vertex| self.restore_from.get(vertex)) else {
            return Ok(None);
        };
        let completed = self.checkpoints.completed.get(&checkpoint).ok_or(checkpoint)?;
        let state = |&vertex: &ExecutionVertexId| Some((vertex, completed.states.get(&vertex)?.clone()));
        Ok(Some(RestoreFrom { checkpoint, states: vertices.iter().filter_map(state).collect() }))
    }
}
