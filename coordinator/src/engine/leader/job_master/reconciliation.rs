//! A new leadership meets what still runs: adopt what fits the schedule, deploy what never arrived, replace the rest.

use tidemill_model::execution::{AttemptReport, ExecutionState, TaskManagerLocation, TerminalState};
use tidemill_model::id::{ExecutionAttemptId, TaskManagerId};
use tidemill_model::job::JobStatus;
use tidemill_model::mutant::{self, Mutant};
use tidemill_model::time::Instant;

use super::{JobMaster, JobMasterAction};
use crate::engine::leader::message::{JobReport, TaskManagerCommand};
use crate::engine::replicated::CommandBody;

/// What an inherited job still waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reconciliation {
    /// Task managers that are silent until then are given up.
    deadline: Instant,
    /// Attempts found running as scheduled.
    adopted: u32,
    /// Attempts that a restart replaced.
    restarted: u32,
}

impl Reconciliation {
    pub(super) fn new(deadline: Instant) -> Self {
        Self { deadline, adopted: 0, restarted: 0 }
    }

    /// A part of the job was restarted before the takeover was complete: so many attempts, some of which had been
    /// adopted.
    pub(super) fn replaced(&mut self, attempts: usize, adopted: usize) {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.adopted = self.adopted.saturating_sub(count(adopted));
        self.restarted = self.restarted.saturating_add(count(attempts));
    }
}

impl JobMaster {
    pub(super) fn registered(
        &mut self,
        now: Instant,
        location: TaskManagerLocation,
        mut report: JobReport,
        actions: &mut Vec<JobMasterAction>,
    ) {
        let id = location.id;
        let acknowledged = std::mem::take(&mut report.checkpoints);
        self.lose_former_incarnation(&location);
        self.registered.insert(id, location);
        if let Some(finalized) = &report.finalized {
            self.finalized(id, finalized);
        }
        self.repeat_finalization(id, actions);
        match self.job.status {
            JobStatus::Running | JobStatus::Restarting => {
                self.reconcile(id, report, actions);
                for report in acknowledged {
                    self.checkpoint_reported(now, report, actions);
                }
                self.checkpoints_reconnected(now, id, actions);
                self.drain_again(id);
            }
            JobStatus::Cancelling | JobStatus::Failing(_) => {
                self.settle(id, report, actions);
                self.cancel_live(Some(id), actions);
            }
            JobStatus::Committing => {}
            JobStatus::Created => {
                if !report.attempts.is_empty() {
                    self.send(id, TaskManagerCommand::Release { job: self.job.spec.id }, actions);
                }
            }
            JobStatus::Finished(_) | JobStatus::Canceled | JobStatus::Failed(_) => {
                self.straggled |= !report.attempts.is_empty();
                self.send(id, TaskManagerCommand::Release { job: self.job.spec.id }, actions);
            }
        }
    }

    /// Another incarnation at the same place: what the schedule wants of the former one is gone.
    fn lose_former_incarnation(&mut self, location: &TaskManagerLocation) {
        if mutant::active(Mutant::ComparedByName) {
            return;
        }
        let scheduled = self.job.schedule.iter().flat_map(|schedule| schedule.task_managers.values());
        let former: Vec<TaskManagerId> = scheduled
            .filter(|other| other.name == location.name && other.id != location.id)
            .map(|other| other.id)
            .collect();
        for id in former {
            self.lost(id, &format!("task manager {} was restarted", location.name));
        }
    }

    /// The same incarnation reports: attempts are compared by id.
    fn reconcile(&mut self, id: TaskManagerId, report: JobReport, actions: &mut Vec<JobMasterAction>) {
        let reported: Vec<ExecutionAttemptId> = report.attempts.iter().map(|report| report.attempt).collect();
        let (wanted, unwanted): (Vec<_>, Vec<_>) =
            report.attempts.into_iter().partition(|report| self.wants(&report.attempt));
        self.stopping.retain(|attempt, host| *host != id || reported.contains(attempt));
        if self.job.schedule.iter().any(|schedule| schedule.task_managers.contains_key(&id)) {
            self.hosts.insert(id);
            self.stop_superseded(id, unwanted, actions);
        } else if !unwanted.is_empty() {
            // All of it belongs to superseded attempts. Where attempts are scheduled it would end these, too.
            self.stopping.retain(|_, host| *host != id);
            self.send(id, TaskManagerCommand::Release { job: self.job.spec.id }, actions);
        }
        for report in wanted {
            let inherited = self.executions.get(&report.attempt.vertex) == Some(&ExecutionState::Reconciling);
            if let Some(reconciliation) =
                self.reconciliation.as_mut().filter(|_| inherited && !report.state.is_terminal())
            {
                reconciliation.adopted += 1;
            }
            self.attempt_changed(id, report, actions);
        }
        // Never arrived: sent by a leader that died first, or lost with it. The same id is still the scheduled one.
        let live = self.live_on(id);
        let missing = |attempt: &ExecutionAttemptId| !reported.contains(attempt) && live.contains(&attempt.vertex);
        self.deploy_on(id, missing, actions);
        for vertex in live {
            let state = self.executions.entry(vertex).or_insert(ExecutionState::Scheduled);
            if *state == ExecutionState::Reconciling {
                *state = ExecutionState::Scheduled;
            }
        }
    }

    /// `no-zombie`: what was superseded is told to stop, and forgotten once it has ended.
    fn stop_superseded(
        &mut self,
        id: TaskManagerId,
        superseded: Vec<AttemptReport>,
        actions: &mut Vec<JobMasterAction>,
    ) {
        let (ended, live): (Vec<_>, Vec<_>) = superseded.into_iter().partition(|report| report.state.is_terminal());
        for report in ended {
            self.superseded_ended(id, report.attempt, actions);
        }
        let live: Vec<ExecutionAttemptId> = live.into_iter().map(|report| report.attempt).collect();
        if !live.is_empty() {
            self.stopping.extend(live.iter().map(|&attempt| (attempt, id)));
            self.send(id, TaskManagerCommand::Cancel { attempts: live }, actions);
        }
    }

    /// A stopping job: take over what is reported; what is not reported is not there.
    fn settle(&mut self, id: TaskManagerId, report: JobReport, actions: &mut Vec<JobMasterAction>) {
        let all: Vec<ExecutionAttemptId> = report.attempts.iter().map(|report| report.attempt).collect();
        let (wanted, unwanted): (Vec<_>, Vec<_>) =
            report.attempts.into_iter().partition(|report| self.wants(&report.attempt));
        // Replaced just before the job was to stop: the end of it waits for them, and the order to stop may be lost.
        self.stopping.retain(|attempt, host| *host != id || all.contains(attempt));
        self.stop_superseded(id, unwanted, actions);
        if wanted.iter().any(|report| !report.state.is_terminal()) {
            self.finalizing.overtake();
        }
        let reported: Vec<_> = wanted.iter().map(|report| report.attempt.vertex).collect();
        for report in wanted {
            self.attempt_changed(id, report, actions);
        }
        for vertex in self.live_on(id) {
            if !reported.contains(&vertex) {
                self.executions.insert(vertex, ExecutionState::Terminal(TerminalState::Canceled));
            }
        }
    }

    /// `coordinator.reconcile-timeout` is only for task managers that stay silent.
    pub(super) fn give_up_silent(&mut self, now: Instant) {
        let Some(reconciliation) = &self.reconciliation else { return };
        if now < reconciliation.deadline {
            return;
        }
        let scheduled = self.job.schedule.iter().flat_map(|schedule| schedule.task_managers.keys());
        let silent: Vec<TaskManagerId> = scheduled.copied().filter(|id| !self.registered.contains_key(id)).collect();
        for id in silent {
            let name = self.name_of(id).map_or_else(|| id.to_string(), ToString::to_string);
            self.lost(id, &format!("task manager {name} did not report to the new leader"));
        }
    }

    /// Once nothing is left to wait for, the takeover's figures are replicated.
    pub(super) fn report_takeover(&mut self, actions: &mut Vec<JobMasterAction>) {
        let Some(reconciliation) = self.reconciliation else { return };
        let open = self.executions.values().any(|state| *state == ExecutionState::Reconciling);
        if open || !self.failing.is_none() || self.deciding {
            return;
        }
        self.reconciliation = None;
        if !matches!(self.job.status, JobStatus::Running | JobStatus::Restarting) {
            return;
        }
        let (adopted, restarted) = (reconciliation.adopted, reconciliation.restarted);
        let job = self.job.spec.id;
        tracing::info!(job_id = %job, tasks_adopted = adopted, tasks_restarted = restarted, "job taken over");
        actions.push(JobMasterAction::Propose(CommandBody::RecordTakeover { job, adopted, restarted }));
    }
}
