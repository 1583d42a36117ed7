//! The job's checkpoints, as far as they concern attempts, task managers and the job itself.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_model::checkpoint::{CheckpointAction, CheckpointCommand, CheckpointReport};
use tidemill_model::execution::{ExecutionState, Failure, FailureKind, TerminalState};
use tidemill_model::id::{AttemptNumber, CheckpointId, ExecutionAttemptId, TaskManagerId};
use tidemill_model::job::{JobStatus, StopMode};
use tidemill_model::time::Instant;

use super::{CheckpointNote, JobMaster, JobMasterAction, StorageAnswer};
use crate::engine::leader::checkpoint_coordinator::{CheckpointActivity, Participants, Proposal, Wish};
use crate::engine::leader::message::TaskManagerCommand;
use crate::engine::replicated::{CommandBody, Response};

impl JobMaster {
    pub(super) fn checkpoint_reported(
        &mut self,
        now: Instant,
        report: CheckpointReport,
        actions: &mut Vec<JobMasterAction>,
    ) {
        // `no-zombie`: an attempt that was replaced takes part in nothing.
        let wanted = self.job.schedule.as_ref().is_some_and(|schedule| schedule.wants(&report.attempt));
        let Some(checkpoints) = self.checkpoints.as_mut().filter(|_| wanted) else { return };
        tracing::trace!(job_id = %self.job.spec.id, %report);
        let mut wishes = Vec::new();
        checkpoints.reported(now, report, &mut wishes);
        self.fulfil(wishes, actions);
    }

    pub(super) fn checkpoints_applied(
        &mut self,
        now: Instant,
        body: &CommandBody,
        response: &Response,
        actions: &mut Vec<JobMasterAction>,
    ) {
        let Some(checkpoints) = &mut self.checkpoints else { return };
        let mut wishes = Vec::new();
        checkpoints.applied(now, body, response, &mut wishes);
        if let CommandBody::CompleteCheckpoint { id, .. } | CommandBody::StartCommitting { checkpoint: Some(id), .. } =
            body
            && *response == Response::Done
        {
            actions.push(JobMasterAction::Note(CheckpointNote::Completed(*id)));
        }
        self.fulfil(wishes, actions);
    }

    pub(super) fn checkpoints_superseded(
        &mut self,
        now: Instant,
        replaced: &BTreeSet<ExecutionAttemptId>,
        actions: &mut Vec<JobMasterAction>,
    ) {
        let Some(checkpoints) = &mut self.checkpoints else { return };
        let mut wishes = Vec::new();
        checkpoints.superseded(now, replaced, &mut wishes);
        self.fulfil(wishes, actions);
    }

    /// A task manager's stream is new: what was sent over the former one may be lost.
    pub(super) fn checkpoints_reconnected(
        &mut self,
        now: Instant,
        task_manager: TaskManagerId,
        actions: &mut Vec<JobMasterAction>,
    ) {
        let Some(schedule) = &self.job.schedule else { return };
        let here = schedule.attempt_ids(self.job.spec.id).filter(|(_, slot)| slot.task_manager == task_manager);
        let here = here.map(|(attempt, _)| attempt).collect();
        let Some(checkpoints) = &mut self.checkpoints else { return };
        let mut wishes = Vec::new();
        checkpoints.reconnected(now, &here, &mut wishes);
        self.fulfil(wishes, actions);
    }

    pub(super) fn drive_checkpoints(&mut self, now: Instant, actions: &mut Vec<JobMasterAction>) {
        let participants = self.participants();
        if self.job.stop == Some(StopMode::Suspend) {
            self.savepoint_wanted();
        }
        let Some(checkpoints) = &mut self.checkpoints else { return };
        let mut wishes = Vec::new();
        checkpoints.drive(now, &self.job.checkpoints, &participants, &mut wishes);
        self.fulfil(wishes, actions);
    }

    /// All tasks have finished: what they left is the job's final checkpoint, if it takes any.
    pub(super) fn start_committing(&mut self, actions: &mut Vec<JobMasterAction>) {
        let job = self.job.spec.id;
        let Some(checkpoints) = &mut self.checkpoints else {
            return self.decide(CommandBody::StartCommitting { job, checkpoint: None }, actions);
        };
        let mut wishes = Vec::new();
        let id = checkpoints.next_id(&self.job.checkpoints, &mut wishes);
        self.fulfil(wishes, actions);
        if id.is_some() {
            self.decide(CommandBody::StartCommitting { job, checkpoint: id }, actions);
        }
    }

    /// Files that an ended job has left.
    pub(super) fn drive_garbage(&mut self, now: Instant, actions: &mut Vec<JobMasterAction>) {
        let Some(checkpoints) = &mut self.checkpoints else { return };
        let mut wishes = Vec::new();
        checkpoints.abandon();
        checkpoints.clean(now, &self.job.checkpoints, &mut wishes);
        self.fulfil(wishes, actions);
    }

    pub(super) fn storage_answered(&mut self, now: Instant, answer: StorageAnswer, actions: &mut Vec<JobMasterAction>) {
        let Some(checkpoints) = &mut self.checkpoints else { return };
        let mut wishes = Vec::new();
        match answer {
            StorageAnswer::Deleted(garbage) => checkpoints.deleted(now, &self.job.checkpoints, garbage, &mut wishes),
            StorageAnswer::Listed(paths) => checkpoints.listed(&self.job.checkpoints, paths, &mut wishes),
            StorageAnswer::Failed => checkpoints.cleaning_failed(now),
        }
        self.fulfil(wishes, actions);
    }

    /// What happens to the job's checkpoints; none: it takes none.
    #[must_use]
    pub fn observe_checkpoints(&self, now: Instant) -> Option<CheckpointActivity> {
        self.checkpoints.as_ref().map(|checkpoints| checkpoints.observe(now))
    }

    fn participants(&self) -> Participants {
        let mut participants = Participants::default();
        let Some(schedule) = &self.job.schedule else { return participants };
        for (attempt, slot) in schedule.attempt_ids(self.job.spec.id) {
            match self.executions.get(&attempt.vertex) {
                Some(ExecutionState::Running) if self.registered.contains_key(&slot.task_manager) => {
                    participants.running.insert(attempt.vertex, attempt);
                }
                Some(ExecutionState::Terminal(TerminalState::Finished { state, .. })) => {
                    participants.finished.insert(attempt.vertex, (attempt, state.clone()));
                }
                Some(
                    ExecutionState::Created
                    | ExecutionState::Scheduled
                    | ExecutionState::Deploying
                    | ExecutionState::Initializing
                    | ExecutionState::Running
                    | ExecutionState::Canceling
                    | ExecutionState::Reconciling
                    | ExecutionState::Terminal(TerminalState::Canceled | TerminalState::Failed(_)),
                )
                | None => participants.unready += 1,
            }
        }
        participants
    }

    fn fulfil(&mut self, wishes: Vec<Wish>, actions: &mut Vec<JobMasterAction>) {
        let job = self.job.spec.id;
        for wish in wishes {
            match wish {
                Wish::Propose(proposal) => actions.push(JobMasterAction::Propose(match proposal {
                    Proposal::Reserve(upto) => CommandBody::ReserveCheckpoints { job, upto },
                    Proposal::Complete { id, attempts, states, duration, kind } => {
                        CommandBody::CompleteCheckpoint { job, id, attempts, states, duration, kind }
                    }
                    Proposal::Notified(checkpoint) => CommandBody::RecordNotified { job, checkpoint },
                    Proposal::Deleted(garbage) => CommandBody::RecordGarbageDeleted { job, garbage },
                })),
                Wish::Trigger(id, kind) => {
                    actions.push(JobMasterAction::Note(CheckpointNote::Triggered(id)));
                    self.tell_attempts(CheckpointAction::Trigger(kind), id, |_| true, actions);
                }
                Wish::Notify(id, whom) => {
                    tracing::info!(job_id = %job, checkpoint_id = %id, "checkpoint completed");
                    let action = CheckpointAction::NotifyComplete;
                    self.tell_attempts(action, id, |attempt| whom.contains(attempt), actions);
                }
                Wish::Abort(id, reason) => {
                    tracing::info!(job_id = %job, checkpoint_id = %id, %reason, "checkpoint aborted");
                    actions.push(JobMasterAction::Note(CheckpointNote::Aborted(id, reason)));
                    self.tell_attempts(CheckpointAction::Abort, id, |_| true, actions);
                }
                Wish::Delete(garbage) => actions.push(JobMasterAction::DeleteFiles(garbage)),
                Wish::ListFiles => actions.push(JobMasterAction::ListFiles),
                Wish::Fail(message) => self.checkpoints_failed(&message),
            }
        }
    }

    /// Somebody wants a savepoint: of a job that takes none there will be none.
    pub(super) fn savepoint_wanted(&mut self) {
        if let Some(checkpoints) = self.checkpoints.as_mut().filter(|checkpoints| !checkpoints.takes_savepoint()) {
            checkpoints.want_savepoint();
        }
    }

    /// Tells live attempts, grouped by task manager and attempt number: each group is one executor process.
    pub(super) fn tell_attempts(
        &self,
        action: CheckpointAction,
        checkpoint: CheckpointId,
        whom: impl Fn(&ExecutionAttemptId) -> bool,
        actions: &mut Vec<JobMasterAction>,
    ) {
        let Some(schedule) = &self.job.schedule else { return };
        let mut groups: BTreeMap<(TaskManagerId, AttemptNumber), Vec<ExecutionAttemptId>> = BTreeMap::new();
        for (attempt, slot) in schedule.attempt_ids(self.job.spec.id) {
            let live = self.executions.get(&attempt.vertex).is_some_and(|state| !state.is_terminal());
            if live && whom(&attempt) {
                groups.entry((slot.task_manager, attempt.attempt)).or_default().push(attempt);
            }
        }
        for ((task_manager, _), attempts) in groups {
            let command = TaskManagerCommand::Checkpoint(CheckpointCommand { action, checkpoint, attempts });
            self.send(task_manager, command, actions);
        }
    }

    fn checkpoints_failed(&mut self, message: &str) {
        if self.job.status != JobStatus::Running {
            return;
        }
        for vertex in self.job.spec.graph.execution_vertices() {
            let kind = FailureKind::Checkpoint;
            let message = format!("{message}: execution.checkpointing.tolerable-failed-checkpoints allows no more");
            self.failing.note(vertex, Failure { kind, vertex: None, operator: None, message });
        }
    }
}
