//! One job's life under one leadership: slots, schedule, attempts, failover, the end.
//!
//! An event changes what is observed; then [`JobMaster::drive`] compares the replicated status with the
//! observations and wants the next step. Nothing follows from a decision before it is applied.

mod attempts;
mod ending;
mod event;
mod reconciliation;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_model::execution::{
    AttemptReport, ExecutionState, Failure, FailureKind, JobDeployment, TaskManagerLocation,
};
use tidemill_model::id::{ExecutionAttemptId, ExecutionVertexId, TaskManagerId, TaskManagerName};
use tidemill_model::job::JobStatus;
use tidemill_model::mutant::{self, Mutant};
use tidemill_model::restart::RestartStrategy;
use tidemill_model::slot::SlotId;
use tidemill_model::time::{Instant, Timestamp};

pub use event::{AttemptObservation, JobMasterAction, JobMasterEvent, JobMasterSettings};

use self::ending::Finalizing;
use self::reconciliation::Reconciliation;
use super::message::TaskManagerCommand;
use super::placement::place;
use crate::engine::replicated::{CommandBody, JobState, Response};

/// Where the job's request for slots stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Slots {
    NotAsked,
    Requested,
    Granted { slots: Vec<SlotId>, locations: BTreeMap<TaskManagerId, TaskManagerLocation> },
}

/// The engine of one job.
#[derive(Debug)]
pub struct JobMaster {
    settings: JobMasterSettings,
    /// This leader's copy, advanced by the same `apply` as the replicas'.
    job: JobState,
    registered: BTreeMap<TaskManagerId, TaskManagerLocation>,
    /// The scheduled attempts as last reported. Invariant: the sub-tasks of the replicated schedule.
    executions: BTreeMap<ExecutionVertexId, ExecutionState>,
    process_ids: BTreeMap<TaskManagerId, u32>,
    progress: BTreeMap<TaskManagerId, (u64, u64)>,
    /// A command that changes the status is under way: nothing else is decided until it is applied.
    deciding: bool,
    slots: Slots,
    /// The restart delay ends here.
    start_at: Option<Instant>,
    reconciliation: Option<Reconciliation>,
    /// The first failure of the scheduled attempts that nothing has been decided about.
    failure: Option<Failure>,
    finalizing: Finalizing,
    released: bool,
}

impl JobMaster {
    /// The master of a job as the replicated state has it: new, or inherited from an earlier leadership.
    #[must_use]
    pub fn new(settings: JobMasterSettings, job: JobState, now: Instant) -> Self {
        let inherited = |vertex: ExecutionVertexId| match job.terminal.get(&vertex) {
            Some(state) => ExecutionState::Terminal(state.clone()),
            None => ExecutionState::Reconciling,
        };
        // Between two schedules nothing of the old one is wanted any more.
        let current = job.schedule.iter().filter(|_| job.status != JobStatus::Restarting);
        let scheduled = current.flat_map(|schedule| schedule.attempts.keys());
        let executions: BTreeMap<_, _> = scheduled.map(|&vertex| (vertex, inherited(vertex))).collect();
        let inherits = executions.values().any(|state| *state == ExecutionState::Reconciling);
        let reconciliation = inherits.then(|| Reconciliation::new(now + settings.reconcile_timeout));
        let mut master = Self {
            settings,
            job,
            registered: BTreeMap::new(),
            executions,
            process_ids: BTreeMap::new(),
            progress: BTreeMap::new(),
            deciding: false,
            slots: Slots::NotAsked,
            start_at: None,
            reconciliation,
            failure: None,
            finalizing: Finalizing::default(),
            released: false,
        };
        master.inherit_failure();
        if inherits && mutant::active(Mutant::RestartsAtTakeover) {
            let message = "the leader has changed".to_owned();
            let kind = FailureKind::TaskManagerLost;
            master.failure = Some(Failure { kind, vertex: None, operator: None, message });
        }
        master
    }

    /// The one door: what happened, and what is to be done.
    pub fn step(&mut self, now: Instant, event: JobMasterEvent) -> Vec<JobMasterAction> {
        let mut actions = Vec::new();
        match event {
            JobMasterEvent::Started | JobMasterEvent::Tick => {}
            JobMasterEvent::TaskManagerRegistered { location, report } => {
                self.registered(location, report, &mut actions);
            }
            JobMasterEvent::TaskManagerLost { task_manager, reason } => self.lost(task_manager, &reason),
            JobMasterEvent::SlotsGranted { slots, locations } => {
                self.slots = Slots::Granted { slots, locations };
            }
            JobMasterEvent::AttemptChanged { task_manager, report } => {
                self.attempt_changed(task_manager, report, &mut actions);
            }
            // Nothing triggers checkpoints yet, so that there is none to report about.
            JobMasterEvent::CheckpointReported { .. } => {}
            JobMasterEvent::Finalized { task_manager, report } => self.finalized(task_manager, &report),
            JobMasterEvent::ExecutorStarted { task_manager, process_id } => {
                self.process_ids.insert(task_manager, process_id);
            }
            JobMasterEvent::Progressed { task_manager, records_in, records_out } => {
                self.progress.insert(task_manager, (records_in, records_out));
            }
            JobMasterEvent::Applied { body, stamp, response } => {
                self.applied(now, &body, stamp, &response, &mut actions);
            }
        }
        self.drive(now, &mut actions);
        actions
    }

    /// Whether time alone may change something. Not while the job only waits for slots: somebody must say something
    /// first, and a tick is lost on it.
    #[must_use]
    pub fn depends_on_time(&self) -> bool {
        let waits = matches!(self.job.status, JobStatus::Created | JobStatus::Restarting);
        !(waits && self.slots == Slots::Requested && self.reconciliation.is_none())
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
                process_id: self.process_ids.get(&slot.task_manager).copied(),
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
            JobStatus::Created | JobStatus::Restarting => self.drive_scheduling(now, actions),
            JobStatus::Running => self.drive_running(actions),
            JobStatus::Committing => self.drive_committing(actions),
            JobStatus::Cancelling | JobStatus::Failing(_) => self.drive_stopping(now, actions),
            JobStatus::Finished(_) | JobStatus::Canceled | JobStatus::Failed(_) => self.release(actions),
        }
        self.report_takeover(actions);
    }

    fn drive_scheduling(&mut self, now: Instant, actions: &mut Vec<JobMasterAction>) {
        if self.start_at.is_some_and(|start_at| now < start_at) {
            return;
        }
        match &self.slots {
            Slots::Requested => {}
            Slots::NotAsked => {
                self.slots = Slots::Requested;
                actions.push(JobMasterAction::RequestSlots { requirements: self.job.spec.graph.slot_requirements() });
            }
            Slots::Granted { slots, locations } => {
                if slots.iter().any(|slot| !self.registered.contains_key(&slot.task_manager)) {
                    self.slots = Slots::NotAsked;
                    return self.drive_scheduling(now, actions);
                }
                let schedule = place(&self.job.spec.graph, self.job.next_attempt(), slots, locations);
                tracing::debug!(job_id = %self.job.spec.id, plan = %schedule, "schedule");
                self.decide(CommandBody::RecordSchedule { job: self.job.spec.id, schedule }, actions);
            }
        }
    }

    fn drive_running(&mut self, actions: &mut Vec<JobMasterAction>) {
        let job = self.job.spec.id;
        let attempts = match self.job.spec.settings.restart {
            RestartStrategy::None => 0,
            RestartStrategy::FixedDelay { attempts, .. } => attempts,
            RestartStrategy::FailureRate { .. } | RestartStrategy::ExponentialDelay { .. } => u32::MAX,
        };
        if let Some(cause) = self.failure.take() {
            if cause.kind.recoverable() && self.job.restarts < attempts {
                self.decide(CommandBody::RestartJob { job, cause }, actions);
            } else {
                self.decide(CommandBody::FailJob { job, cause: exhausted(cause, self.job.restarts) }, actions);
            }
        } else if self.job.all_finished() {
            self.decide(CommandBody::StartCommitting { job }, actions);
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
        if *response != Response::Done {
            // Stale: this leadership is over and its actors are about to stop. Refused: a cancellation came first, and
            // the news of it is on its way; until then there is nothing to decide.
            tracing::debug!(job_id = %self.job.spec.id, command = body.name(), %response, "not applied");
            return;
        }
        if !matches!(body, CommandBody::RecordTerminal { .. } | CommandBody::RecordTakeover { .. }) {
            self.deciding = false;
        }
        let (old_schedule, old_status) = (self.job.schedule.clone(), self.job.status.name());
        self.job.apply(body, stamp);
        if self.job.status.name() != old_status {
            tracing::info!(job_id = %self.job.spec.id, from = old_status, to = %self.job.status, "job status");
        }
        match body {
            CommandBody::RecordSchedule { .. } => self.deploy_all(actions),
            CommandBody::RecordTerminal { ended, .. } => {
                self.acknowledge(ended.iter().map(|(attempt, _)| *attempt), actions);
            }
            CommandBody::RestartJob { .. } => {
                self.reset_attempts(now);
                for task_manager in old_schedule.iter().flat_map(|schedule| schedule.task_managers.keys()) {
                    let command = TaskManagerCommand::Release { job: self.job.spec.id };
                    self.send(*task_manager, command, actions);
                }
                actions.push(JobMasterAction::ReleaseSlots);
            }
            CommandBody::FailJob { .. } | CommandBody::CancelJob { .. } => {
                self.finalizing = Finalizing::default();
                self.cancel_live(None, actions);
            }
            CommandBody::StartCommitting { .. }
            | CommandBody::EndJob { .. }
            | CommandBody::RecordTakeover { .. }
            | CommandBody::LeaderStarted { .. }
            | CommandBody::RegisterBlob { .. }
            | CommandBody::SubmitJob { .. }
            | CommandBody::Chaos(_) => {}
        }
    }

    fn reset_attempts(&mut self, now: Instant) {
        if let Some(reconciliation) = &mut self.reconciliation {
            reconciliation.replaced(u32::try_from(self.executions.len()).unwrap_or(u32::MAX));
        }
        self.executions.clear();
        self.process_ids.clear();
        self.progress.clear();
        self.failure = None;
        self.slots = Slots::NotAsked;
        let delay = match self.job.spec.settings.restart {
            RestartStrategy::None => Duration::ZERO,
            RestartStrategy::FixedDelay { delay, .. } | RestartStrategy::FailureRate { delay, .. } => delay,
            RestartStrategy::ExponentialDelay { initial, .. } => initial,
        };
        self.start_at = Some(now + delay);
    }

    /// Persist, then act: the schedule is applied, so its attempts may start.
    fn deploy_all(&mut self, actions: &mut Vec<JobMasterAction>) {
        let Some(schedule) = self.job.schedule.clone() else { return };
        self.slots = Slots::NotAsked;
        self.executions = schedule.attempts.keys().map(|&vertex| (vertex, ExecutionState::Scheduled)).collect();
        for (&task_manager, location) in &schedule.task_managers {
            if self.registered.contains_key(&task_manager) {
                self.deploy_on(task_manager, |_| true, actions);
            } else {
                self.lost(task_manager, &format!("task manager {} left before the deployment", location.name));
            }
        }
    }

    /// Sends a task manager those of its scheduled attempts that pass the filter.
    fn deploy_on(
        &self,
        task_manager: TaskManagerId,
        wanted: impl Fn(&ExecutionAttemptId) -> bool,
        actions: &mut Vec<JobMasterAction>,
    ) {
        let Some(schedule) = &self.job.schedule else { return };
        let job = self.job.spec.id;
        let here = schedule.attempt_ids(job).filter(|(_, slot)| slot.task_manager == task_manager);
        let start: Vec<ExecutionAttemptId> =
            here.map(|(attempt, _)| attempt).filter(|attempt| wanted(attempt)).collect();
        if start.is_empty() {
            return;
        }
        let deployment = JobDeployment { job, schedule: schedule.clone(), start, restore: None };
        let command = TaskManagerCommand::Deploy { spec: Box::new(self.job.spec.clone()), deployment };
        self.send(task_manager, command, actions);
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

fn exhausted(mut cause: Failure, restarts: u32) -> Failure {
    if restarts > 0 && cause.kind.recoverable() {
        cause.message = format!("{} (after {restarts} restarts)", cause.message);
    }
    cause
}
