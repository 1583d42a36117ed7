//! One job's life under one leadership: slots, schedule, attempts, checkpoints, failover, the end.
//!
//! An event changes what is observed; then [`JobMaster::drive`] compares the replicated status with the
//! observations and wants the next step. Nothing follows from a decision before it is applied.

mod attempts;
mod checkpoints;
mod drain;
mod ending;
mod event;
mod failover;
mod reconciliation;
mod relocation;
mod scheduling;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use tidemill_model::execution::{AttemptReport, ExecutionState, Failure, FailureKind, TaskManagerLocation};
use tidemill_model::id::{AttemptNumber, ExecutionAttemptId, ExecutionVertexId, TaskManagerId, TaskManagerName};
use tidemill_model::job::JobStatus;
use tidemill_model::mutant::{self, Mutant};
use tidemill_model::slot::SlotId;
use tidemill_model::time::{Instant, Timestamp};

pub use event::{
    AttemptObservation, CheckpointNote, JobMasterAction, JobMasterEvent, JobMasterSettings, StorageAnswer,
};

use self::ending::{Finalizing, Released};
use self::failover::Failing;
use self::reconciliation::Reconciliation;
use self::scheduling::Slots;
use super::checkpoint_coordinator::CheckpointCoordinator;
use super::message::TaskManagerCommand;
use crate::engine::replicated::{CommandBody, JobState, Response};

/// The engine of one job.
#[derive(Debug)]
pub struct JobMaster {
    settings: JobMasterSettings,
    /// This leader's copy, advanced by the same `apply` as the replicas'.
    job: JobState,
    registered: BTreeMap<TaskManagerId, TaskManagerLocation>,
    /// Task managers that are to be left, whether they are here or not.
    draining: BTreeSet<TaskManagerId>,
    /// The scheduled attempts as last reported. Invariant: the sub-tasks of the replicated schedule.
    executions: BTreeMap<ExecutionVertexId, ExecutionState>,
    /// Replaced attempts that were told to stop: what replaces them waits, as long as their task manager is here.
    stopping: BTreeMap<ExecutionAttemptId, TaskManagerId>,
    /// Task managers that may have something of the job; those without a scheduled attempt are to drop it.
    hosts: BTreeSet<TaskManagerId>,
    process_ids: BTreeMap<(TaskManagerId, AttemptNumber), u32>,
    progress: BTreeMap<TaskManagerId, (u64, u64)>,
    /// A command that changes the status is under way: nothing else is decided until it is applied.
    deciding: bool,
    slots: Slots,
    /// The restart delay ends here.
    start_at: Option<Instant>,
    reconciliation: Option<Reconciliation>,
    failing: Failing,
    /// Attempts that were told to drain. Invariant: only while the job is to.
    drained: BTreeSet<ExecutionAttemptId>,
    /// None: the job takes no checkpoints.
    checkpoints: Option<CheckpointCoordinator>,
    finalizing: Finalizing,
    released: Released,
    /// A task manager came back with attempts although the job has ended: they may have written into the storage since.
    straggled: bool,
}

impl JobMaster {
    /// The master of a job as the replicated state has it: new, or inherited from an earlier leadership.
    #[must_use]
    pub fn new(settings: JobMasterSettings, job: JobState, now: Instant) -> Self {
        let inherited = |vertex: ExecutionVertexId| match job.terminal.get(&vertex) {
            Some(state) => ExecutionState::Terminal(state.clone()),
            None => ExecutionState::Reconciling,
        };
        let scheduled = job.schedule.iter().flat_map(|schedule| schedule.attempts.keys());
        let executions: BTreeMap<_, _> = scheduled.map(|&vertex| (vertex, inherited(vertex))).collect();
        let inherits = executions.values().any(|state| *state == ExecutionState::Reconciling);
        let reconciliation = inherits.then(|| Reconciliation::new(now + settings.reconcile_timeout));
        let checkpoints = job.spec.settings.checkpointing.clone();
        let mut master = Self {
            settings,
            registered: BTreeMap::new(),
            draining: BTreeSet::new(),
            executions,
            stopping: BTreeMap::new(),
            hosts: job.schedule.iter().flat_map(|schedule| schedule.task_managers.keys().copied()).collect(),
            process_ids: BTreeMap::new(),
            progress: BTreeMap::new(),
            deciding: false,
            slots: Slots::inherit(&job),
            start_at: None,
            reconciliation,
            failing: Failing::default(),
            drained: BTreeSet::new(),
            checkpoints: checkpoints.map(|wanted| CheckpointCoordinator::new(wanted, settings.late_writes)),
            finalizing: Finalizing::default(),
            released: Released::Nothing,
            straggled: false,
            job,
        };
        master.inherit_failure();
        if inherits && mutant::active(Mutant::RestartsAtTakeover) {
            for vertex in master.executions.keys().copied().collect::<Vec<_>>() {
                let (kind, message) = (FailureKind::TaskManagerLost, "the leader has changed".to_owned());
                master.failing.note(vertex, Failure { kind, vertex: None, operator: None, message });
            }
        }
        master
    }

    /// The one door: what happened, and what is to be done.
    pub fn step(&mut self, now: Instant, event: JobMasterEvent) -> Vec<JobMasterAction> {
        let mut actions = Vec::new();
        match event {
            JobMasterEvent::Started | JobMasterEvent::Tick => {}
            JobMasterEvent::TaskManagerRegistered { location, report } => {
                self.registered(now, location, report, &mut actions);
            }
            JobMasterEvent::TaskManagerLost { task_manager, reason } => self.lost(task_manager, &reason),
            JobMasterEvent::DrainingChanged { task_manager, draining } => {
                self.draining_changed(task_manager, draining, &mut actions);
            }
            JobMasterEvent::SlotsGranted { request, slots, locations } => {
                self.slots_granted(request, &slots, locations, &mut actions);
            }
            JobMasterEvent::SlotsHeld { slots, last_request } => self.slots_held(slots, last_request, &mut actions),
            JobMasterEvent::AttemptChanged { task_manager, report } => {
                self.attempt_changed(task_manager, report, &mut actions);
            }
            JobMasterEvent::CheckpointReported { report } => self.checkpoint_reported(now, report, &mut actions),
            JobMasterEvent::Finalized { task_manager, report } => self.finalized(task_manager, &report),
            JobMasterEvent::ExecutorStarted { task_manager, executor } => {
                self.process_ids.insert((task_manager, executor.attempt), executor.process_id);
            }
            JobMasterEvent::Progressed { task_manager, records_in, records_out } => {
                self.progress.insert(task_manager, (records_in, records_out));
            }
            JobMasterEvent::SavepointWanted => self.savepoint_wanted(),
            JobMasterEvent::StorageAnswered(answer) => self.storage_answered(now, answer, &mut actions),
            JobMasterEvent::Applied { body, stamp, response } => {
                self.applied(now, &body, stamp, &response, &mut actions);
            }
        }
        self.drive(now, &mut actions);
        actions
    }

    /// Whether time alone may change something. Not while the job only waits for slots and holds none in vain: somebody must
    /// say something first, and a tick is lost on it.
    #[must_use]
    pub fn depends_on_time(&self) -> bool {
        let waits = matches!(self.job.status, JobStatus::Created | JobStatus::Restarting);
        let lets_go = self.slots.hold_in_vain(self.job.schedule.as_ref());
        !(waits && self.slots.are_awaited() && self.reconciliation.is_none() && !lets_go)
    }

    /// The replicated state as this leader knows it.
    #[must_use]
    pub fn job(&self) -> &JobState {
        &self.job
    }

    /// Each scheduled attempt as last reported.
    #[must_use]
    pub fn observe(&self) -> Vec<AttemptObservation> {
        let Some(schedule) = &self.job.schedule else { return Vec::new() };
        let observe = |(attempt, slot): (ExecutionAttemptId, SlotId)| {
            let state = self.executions.get(&attempt.vertex).cloned().unwrap_or(ExecutionState::Scheduled);
            let location = schedule.task_managers.get(&slot.task_manager);
            AttemptObservation {
                report: AttemptReport { attempt, state },
                task_manager: location.map(|location| location.name.clone()),
                slot: slot.index,
                process_id: self.process_ids.get(&(slot.task_manager, attempt.attempt)).copied(),
            }
        };
        schedule.attempt_ids(self.job.spec.id).map(observe).collect()
    }

    /// Records that sources emitted and sinks took in the executors that run now.
    #[must_use]
    pub fn records(&self) -> (u64, u64) {
        self.progress.values().fold((0, 0), |(all_in, all_out), (one_in, one_out)| (all_in + one_in, all_out + one_out))
    }

    /// Compares the replicated status with what is observed, and wants the next step.
    fn drive(&mut self, now: Instant, actions: &mut Vec<JobMasterAction>) {
        self.give_up_silent(now);
        if self.deciding {
            return;
        }
        match self.job.status.clone() {
            JobStatus::Created => self.drive_scheduling(now, actions),
            JobStatus::Running | JobStatus::Restarting => self.drive_running(now, actions),
            JobStatus::Committing => self.drive_committing(actions),
            JobStatus::Cancelling | JobStatus::Failing(_) => self.drive_stopping(now, actions),
            JobStatus::Finished(_) | JobStatus::Canceled | JobStatus::Failed(_) => self.release(now, actions),
        }
        self.report_takeover(actions);
    }

    fn drive_running(&mut self, now: Instant, actions: &mut Vec<JobMasterAction>) {
        if let Some((failed, cause)) = self.failing.take() {
            return self.decide(CommandBody::FailOver { job: self.job.spec.id, failed, cause }, actions);
        }
        if !self.job.awaiting.is_empty() {
            self.drive_scheduling(now, actions);
        } else if self.job.all_finished() {
            self.start_committing(actions);
        } else {
            self.drive_checkpoints(now, actions);
            self.drive_drain(actions);
            self.drive_relocation(actions);
        }
    }

    fn decide(&mut self, body: CommandBody, actions: &mut Vec<JobMasterAction>) {
        self.deciding = true;
        if let CommandBody::RecordSchedule { schedule, .. } = &body
            && mutant::active(Mutant::ActsBeforeCommit)
        {
            let decided = self.job.schedule.replace(schedule.clone());
            schedule.task_managers.keys().for_each(|&id| self.deploy_on(id, |_| true, actions));
            self.job.schedule = decided;
        }
        actions.push(JobMasterAction::Propose(body));
    }

    fn applied(
        &mut self,
        now: Instant,
        body: &CommandBody,
        stamp: Timestamp,
        response: &Response,
        actions: &mut Vec<JobMasterAction>,
    ) {
        let before = self.job.clone();
        if *response == Response::Done {
            self.job.apply(body, stamp);
            if self.job.status.name() != before.status.name() {
                let (from, to) = (before.status.name(), &self.job.status);
                tracing::info!(job_id = %self.job.spec.id, from, %to, "job status");
            }
        } else {
            // Stale: this leadership is over and its actors are about to stop. Refused: a cancellation came first, and
            // the news of it is on its way; until then there is nothing to decide. Superseded: other ids are reserved.
            tracing::debug!(job_id = %self.job.spec.id, command = body.name(), %response, "not applied");
        }
        self.checkpoints_applied(now, body, response, actions);
        if !matches!(response, Response::Done | Response::Superseded) {
            return;
        }
        if body.changes_status() {
            self.deciding = false;
        }
        if *response == Response::Superseded {
            return;
        }
        match body {
            CommandBody::RecordSchedule { schedule, .. } => self.deploy_all(schedule, actions),
            CommandBody::RecordTerminal { ended, .. } => {
                self.acknowledge(ended.iter().map(|(attempt, _)| *attempt), actions);
            }
            CommandBody::FailOver { .. } | CommandBody::Relocate { .. } if self.job.status == JobStatus::Restarting => {
                self.failed_over(now, &before, actions);
            }
            CommandBody::FailOver { .. }
            | CommandBody::Relocate { .. }
            | CommandBody::FailJob { .. }
            | CommandBody::CancelJob { .. } => {
                self.finalizing = Finalizing::default();
                self.cancel_live(None, actions);
            }
            // It was the one to stop at: nothing else is decided of the job any more.
            CommandBody::CompleteCheckpoint { .. } if self.job.status == JobStatus::Cancelling => {
                self.deciding = false;
                self.finalizing = Finalizing::default();
                self.cancel_live(None, actions);
            }
            CommandBody::StartCommitting { .. }
            | CommandBody::EndJob { .. }
            | CommandBody::RecordTakeover { .. }
            | CommandBody::ReserveCheckpoints { .. }
            | CommandBody::CompleteCheckpoint { .. }
            | CommandBody::StopJob { .. }
            | CommandBody::RecordNotified { .. }
            | CommandBody::RecordGarbageDeleted { .. }
            | CommandBody::RecordStraggler { .. }
            | CommandBody::LeaderStarted { .. }
            | CommandBody::RegisterBlob { .. }
            | CommandBody::SubmitJob { .. }
            | CommandBody::SetDraining { .. }
            | CommandBody::Chaos(_) => {}
        }
    }

    fn send(&self, task_manager: TaskManagerId, command: TaskManagerCommand, actions: &mut Vec<JobMasterAction>) {
        if self.registered.contains_key(&task_manager) {
            actions.push(JobMasterAction::Send { task_manager, command });
        }
    }

    /// Whether this exact attempt is the scheduled one.
    fn wants(&self, attempt: &ExecutionAttemptId) -> bool {
        let Some(schedule) = &self.job.schedule else { return false };
        if mutant::active(Mutant::AdoptsAnyAttempt) {
            return schedule.attempts.contains_key(&attempt.vertex);
        }
        schedule.wants(attempt)
    }

    /// The stable name of a task manager, for people.
    fn name_of(&self, task_manager: TaskManagerId) -> Option<&TaskManagerName> {
        let scheduled = self.job.schedule.as_ref().and_then(|schedule| schedule.task_managers.get(&task_manager));
        self.registered.get(&task_manager).or(scheduled).map(|location| &location.name)
    }
}
