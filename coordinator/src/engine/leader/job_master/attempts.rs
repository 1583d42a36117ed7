//! What is observed of single attempts: states as reported, task managers that are gone, acknowledgements.

use std::collections::BTreeMap;

use tidemill_model::execution::{AttemptReport, ExecutionState, Failure, FailureKind, TerminalState};
use tidemill_model::id::{ExecutionAttemptId, ExecutionVertexId, TaskManagerId};
use tidemill_model::job::JobStatus;
use tidemill_model::mutant::{self, Mutant};

use super::{JobMaster, JobMasterAction};
use crate::engine::leader::message::TaskManagerCommand;
use crate::engine::replicated::CommandBody;

impl JobMaster {
    pub(super) fn attempt_changed(
        &mut self,
        task_manager: TaskManagerId,
        report: AttemptReport,
        actions: &mut Vec<JobMasterAction>,
    ) {
        if !self.wants(&report.attempt) {
            // `no-zombie`: a superseded attempt changes nothing; its task manager may forget it.
            if report.state.is_terminal() {
                self.superseded_ended(task_manager, report.attempt, actions);
            }
            return;
        }
        let Some(known) = self.executions.get_mut(&report.attempt.vertex) else { return };
        // One that was only presumed dead, with its task manager, which is back: what has been decided about it must stop
        // it. What was replicated, or said by the attempt itself, never changes.
        let presumed = !self.job.terminal.contains_key(&report.attempt.vertex) && !report.state.is_terminal();
        if let (ExecutionState::Terminal(_), false) = (&*known, presumed) {
            if self.job.terminal.contains_key(&report.attempt.vertex) && report.state.is_terminal() {
                self.acknowledge([report.attempt], actions);
            }
            return;
        }
        known.clone_from(&report.state);
        if let ExecutionState::Terminal(state) = report.state {
            self.observe_end(report.attempt, &state);
            if mutant::active(Mutant::ForgottenBeforeApply) {
                self.acknowledge([report.attempt], actions);
            }
            let (job, ended) = (self.job.spec.id, vec![(report.attempt, state)]);
            actions.push(JobMasterAction::Propose(CommandBody::RecordTerminal { job, ended }));
        }
    }

    fn observe_end(&mut self, attempt: ExecutionAttemptId, state: &TerminalState) {
        let failure = match state {
            TerminalState::Finished { .. } => return,
            TerminalState::Failed(failure) => failure.clone(),
            TerminalState::Canceled => Failure {
                kind: FailureKind::ExecutorLost,
                vertex: Some(attempt.vertex),
                operator: None,
                message: "the task was cancelled by its task manager".to_owned(),
            },
        };
        if matches!(self.job.status, JobStatus::Running | JobStatus::Restarting) {
            tracing::info!(job_id = %attempt.job, attempt_id = %attempt, %failure, "attempt failed");
            self.failing.note(attempt.vertex, failure);
        }
    }

    /// A failure that was replicated, but not yet what follows from it: it is still to be decided about.
    pub(super) fn inherit_failure(&mut self) {
        let Some(schedule) = &self.job.schedule else { return };
        let attempts: Vec<ExecutionAttemptId> =
            schedule.attempt_ids(self.job.spec.id).map(|(attempt, _)| attempt).collect();
        for attempt in attempts {
            if let Some(state) = self.job.terminal.get(&attempt.vertex).cloned() {
                self.observe_end(attempt, &state);
            }
        }
    }

    pub(super) fn lost(&mut self, task_manager: TaskManagerId, reason: &str) {
        self.registered.remove(&task_manager);
        self.process_ids.retain(|(host, _), _| *host != task_manager);
        self.progress.remove(&task_manager);
        self.hosts.remove(&task_manager);
        self.stopping.retain(|_, host| *host != task_manager);
        self.slots.lose(task_manager);
        self.finalizing.lost(task_manager);
        for vertex in self.live_on(task_manager) {
            let kind = FailureKind::TaskManagerLost;
            let failure = Failure { kind, vertex: Some(vertex), operator: None, message: reason.to_owned() };
            self.attempt_lost(vertex, failure);
        }
    }

    /// The scheduled sub-tasks of a task manager that have not ended.
    pub(super) fn live_on(&self, task_manager: TaskManagerId) -> Vec<ExecutionVertexId> {
        let Some(schedule) = &self.job.schedule else { return Vec::new() };
        let live = |vertex: &ExecutionVertexId| self.executions.get(vertex).is_some_and(|state| !state.is_terminal());
        let here = schedule.attempts.iter().filter(|(_, scheduled)| scheduled.slot.task_manager == task_manager);
        here.map(|(&vertex, _)| vertex).filter(live).collect()
    }

    pub(super) fn acknowledge(
        &self,
        attempts: impl IntoIterator<Item = ExecutionAttemptId>,
        actions: &mut Vec<JobMasterAction>,
    ) {
        let Some(schedule) = &self.job.schedule else { return };
        let mut by_task_manager: BTreeMap<TaskManagerId, Vec<ExecutionAttemptId>> = BTreeMap::new();
        for attempt in attempts.into_iter().filter(|attempt| schedule.wants(attempt)) {
            let task_manager = schedule.attempts[&attempt.vertex].slot.task_manager;
            by_task_manager.entry(task_manager).or_default().push(attempt);
        }
        for (task_manager, attempts) in by_task_manager {
            self.send(task_manager, TaskManagerCommand::Acknowledge { attempts }, actions);
        }
    }
}
