//! How a job ends: its sinks publish or drop their output, the end is replicated, everything is released.

use std::collections::BTreeSet;

use tidemill_model::execution::{ExecutionState, Failure, Finalization, Schedule};
use tidemill_model::id::{ExecutionAttemptId, TaskManagerId};
use tidemill_model::job::JobStatus;
use tidemill_model::mutant::{self, Mutant};
use tidemill_model::time::Instant;

use super::{JobMaster, JobMasterAction};
use crate::engine::leader::message::{FinalizationKind, FinalizationReport, TaskManagerCommand};
use crate::engine::replicated::{CommandBody, Ending};

/// How often publishing is tried, each time elsewhere if there is an elsewhere. Removing is tried once everywhere.
const COMMIT_TRIES: usize = 5;

/// Where the publishing or dropping of staged output stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Finalizing {
    /// Who is at it.
    running_on: Option<TaskManagerId>,
    /// Who failed at it.
    failed_on: Vec<TaskManagerId>,
    outcome: Option<Outcome>,
    /// Nobody is there to do it: give up dropping output at this time.
    give_up_at: Option<Instant>,
    /// An attempt has lived since somebody was asked last: what came of that, or will, says nothing of what it stages.
    overtaken: bool,
}

/// What an ended job has given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Released {
    /// Nothing yet.
    Nothing,
    /// Slots and executors; files of its checkpoints may be left.
    TaskManagers,
    /// Everything: its master may go.
    Everything,
}

#[derive(Debug, Clone)]
enum Outcome {
    Done,
    Failed(Failure),
}

impl Finalizing {
    pub(super) fn lost(&mut self, task_manager: TaskManagerId) {
        if self.running_on == Some(task_manager) {
            self.running_on = None;
        }
    }

    /// An attempt has not stopped after all, and may stage output: whatever was removed, more is to be.
    pub(super) fn overtake(&mut self) {
        *self = Self { running_on: self.running_on, overtaken: true, ..Self::default() };
    }
}

impl JobMaster {
    /// What this status wants of the sinks.
    fn wanted_finalization(&self) -> Option<FinalizationKind> {
        match self.job.status {
            JobStatus::Committing => Some(FinalizationKind::Commit),
            JobStatus::Cancelling | JobStatus::Failing(_) => Some(FinalizationKind::Abort),
            // What was staged while the end was being decided.
            JobStatus::Canceled | JobStatus::Failed(_) if self.released == Released::Nothing => {
                Some(FinalizationKind::Abort)
            }
            JobStatus::Created
            | JobStatus::Running
            | JobStatus::Restarting
            | JobStatus::Finished(_)
            | JobStatus::Canceled
            | JobStatus::Failed(_) => None,
        }
    }

    pub(super) fn finalized(&mut self, task_manager: TaskManagerId, report: &FinalizationReport) {
        if self.wanted_finalization() != Some(report.kind) {
            return;
        }
        let asked = self.finalizing.running_on == Some(task_manager);
        if report.kind == FinalizationKind::Abort && (!asked || self.finalizing.overtaken) {
            // Of an earlier time: it will be asked again.
            if asked {
                self.finalizing.lost(task_manager);
            }
            return;
        }
        match &report.failure {
            None => (self.finalizing.running_on, self.finalizing.outcome) = (None, Some(Outcome::Done)),
            // What keeps one machine from removing, such as an artifact that it cannot run, need not keep another.
            Some(failure) if asked && (failure.kind.recoverable() || report.kind == FinalizationKind::Abort) => {
                tracing::warn!(job_id = %self.job.spec.id, task_manager_id = %task_manager, %failure, "finalization failed");
                self.finalizing.running_on = None;
                self.finalizing.failed_on.push(task_manager);
                let failed_on = &self.finalizing.failed_on;
                let enough = match report.kind {
                    FinalizationKind::Commit => failed_on.len() >= COMMIT_TRIES,
                    FinalizationKind::Abort => self.registered.keys().all(|id| failed_on.contains(id)),
                };
                if enough {
                    self.finalizing.outcome = Some(Outcome::Failed(failure.clone()));
                }
            }
            // An outcome of before this leadership asked: it will ask again.
            Some(_) if !asked => {}
            Some(failure) => {
                (self.finalizing.running_on, self.finalizing.outcome) = (None, Some(Outcome::Failed(failure.clone())));
            }
        }
    }

    /// `Finished` only once the sinks have committed.
    pub(super) fn drive_committing(&mut self, actions: &mut Vec<JobMasterAction>) {
        let job = self.job.spec.id;
        if mutant::active(Mutant::FinishedBeforeCommit) {
            return self.end(Ending::Finished, actions);
        }
        match self.finalizing.outcome.take() {
            Some(Outcome::Done) => self.end(Ending::Finished, actions),
            Some(Outcome::Failed(cause)) => self.decide(CommandBody::FailJob { job, cause }, actions),
            None => self.finalize(FinalizationKind::Commit, actions),
        }
    }

    /// Wait until every attempt has stopped, drop what is staged, then end. One that was given up may come back.
    pub(super) fn drive_stopping(&mut self, now: Instant, actions: &mut Vec<JobMasterAction>) {
        if self.executions.values().any(|state| !state.is_terminal()) || !self.stopping.is_empty() {
            return self.finalizing.overtake();
        }
        let ending = if self.job.status == JobStatus::Cancelling { Ending::Canceled } else { Ending::Failed };
        if self.job.schedule.is_none() {
            return self.end(ending, actions);
        }
        match self.finalizing.outcome.take() {
            Some(Outcome::Done) => return self.end(ending, actions),
            Some(Outcome::Failed(failure)) => {
                tracing::warn!(job_id = %self.job.spec.id, %failure, "staged output could not be removed");
                return self.end(ending, actions);
            }
            None => self.finalize(FinalizationKind::Abort, actions),
        }
        if self.finalizing.running_on.is_none() {
            let give_up_at = *self.finalizing.give_up_at.get_or_insert(now + self.settings.reconcile_timeout);
            if now >= give_up_at {
                tracing::warn!(job_id = %self.job.spec.id, "no task manager is left to remove staged output");
                self.end(ending, actions);
            }
        }
    }

    /// Asks one task manager: one of the job's own if possible, one that has not failed at it before if possible.
    fn finalize(&mut self, kind: FinalizationKind, actions: &mut Vec<JobMasterAction>) {
        if self.finalizing.running_on.is_some() {
            return;
        }
        let finalization = self.finalization(kind);
        let own: BTreeSet<TaskManagerId> =
            self.job.schedule.iter().flat_map(|schedule| schedule.task_managers.keys().copied()).collect();
        let failures = |id: &TaskManagerId| self.finalizing.failed_on.iter().filter(|failed| *failed == id).count();
        let Some(&chosen) =
            self.registered.keys().min_by_key(|id| (failures(id), !own.contains(id), self.draining.contains(id)))
        else {
            return;
        };
        (self.finalizing.running_on, self.finalizing.overtaken) = (Some(chosen), false);
        let command = TaskManagerCommand::Finalize { spec: Box::new(self.job.spec.clone()), finalization };
        self.send(chosen, command, actions);
    }

    /// The one that is at it has a new stream: the request may have been lost with the former one. It is asked again,
    /// and nobody else is, since it may be at it still.
    pub(super) fn repeat_finalization(&self, task_manager: TaskManagerId, actions: &mut Vec<JobMasterAction>) {
        if self.finalizing.running_on != Some(task_manager) || self.finalizing.outcome.is_some() {
            return;
        }
        let Some(finalization) = self.wanted_finalization().map(|kind| self.finalization(kind)) else { return };
        let command = TaskManagerCommand::Finalize { spec: Box::new(self.job.spec.clone()), finalization };
        self.send(task_manager, command, actions);
    }

    fn finalization(&self, kind: FinalizationKind) -> Finalization {
        match kind {
            FinalizationKind::Commit => {
                let schedule = self.job.schedule.as_ref();
                let attempts = schedule.map(Schedule::attempt_numbers).unwrap_or_default();
                Finalization::Commit { attempts, checkpoint: self.job.final_checkpoint() }
            }
            FinalizationKind::Abort => Finalization::Abort { checkpoint: self.job.newest_checkpoint() },
        }
    }

    fn end(&mut self, ending: Ending, actions: &mut Vec<JobMasterAction>) {
        let (job, history_size) = (self.job.spec.id, self.settings.history_size);
        self.decide(CommandBody::EndJob { job, ending, history_size }, actions);
    }

    /// Tells task managers to stop attempts that still live: of one, or of all.
    pub(super) fn cancel_live(&mut self, only: Option<TaskManagerId>, actions: &mut Vec<JobMasterAction>) {
        let Some(schedule) = self.job.schedule.clone() else { return };
        for &task_manager in schedule.task_managers.keys().filter(|id| only.is_none_or(|only| **id == only)) {
            let live = self.live_on(task_manager);
            let attempts: Vec<ExecutionAttemptId> = schedule
                .attempt_ids(self.job.spec.id)
                .map(|(attempt, _)| attempt)
                .filter(|attempt| live.contains(&attempt.vertex))
                .collect();
            if attempts.is_empty() || !self.registered.contains_key(&task_manager) {
                continue;
            }
            for vertex in live {
                self.executions.insert(vertex, ExecutionState::Canceling);
            }
            self.send(task_manager, TaskManagerCommand::Cancel { attempts }, actions);
        }
    }

    /// A task manager that had been given up may have come back while the end was being decided: what it staged is removed
    /// first. That is tried once: the job has ended, and its slots are wanted.
    fn removes_late(&mut self, actions: &mut Vec<JobMasterAction>) -> bool {
        if self.finalizing.overtaken && self.wanted_finalization() == Some(FinalizationKind::Abort) {
            self.finalize(FinalizationKind::Abort, actions);
        }
        self.finalizing.running_on.is_some()
    }

    /// `nothing-left`: every task manager drops what it has of the job, and its slots are free.
    pub(super) fn release(&mut self, now: Instant, actions: &mut Vec<JobMasterAction>) {
        let job = self.job.spec.id;
        if self.released == Released::Nothing {
            if self.removes_late(actions) {
                return;
            }
            self.released = Released::TaskManagers;
            for &task_manager in self.registered.keys() {
                actions.push(JobMasterAction::Send { task_manager, command: TaskManagerCommand::Release { job } });
            }
            actions.push(JobMasterAction::ReleaseSlots);
        }
        if self.job.needs_master() {
            return self.drive_garbage(now, actions);
        }
        if std::mem::take(&mut self.straggled) && self.job.cleans_up_after_stragglers() {
            return self.decide(CommandBody::RecordStraggler { job }, actions);
        }
        if std::mem::replace(&mut self.released, Released::Everything) != Released::Everything {
            actions.push(JobMasterAction::Ended);
        }
    }
}
