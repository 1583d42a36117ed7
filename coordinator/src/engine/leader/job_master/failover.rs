//! What has failed, and how the regions that it is in are replaced.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_model::execution::{ExecutionState, Failure, TerminalState};
use tidemill_model::id::{ExecutionAttemptId, ExecutionVertexId, TaskManagerId};
use tidemill_model::job::JobStatus;
use tidemill_model::time::Instant;

use super::{JobMaster, JobMasterAction};
use crate::engine::leader::message::TaskManagerCommand;
use crate::engine::replicated::JobState;

/// Failures of scheduled attempts that nothing has been decided about, in the order in which they were observed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Failing(Vec<(ExecutionVertexId, Failure)>);

impl Failing {
    pub(super) fn note(&mut self, vertex: ExecutionVertexId, failure: Failure) {
        self.0.push((vertex, failure));
    }

    /// What has failed, and why: the first failure that cannot pass, which outranks the lost connections that it caused
    /// elsewhere, or else the first one.
    pub(super) fn take(&mut self) -> Option<(BTreeSet<ExecutionVertexId>, Failure)> {
        let failures = std::mem::take(&mut self.0);
        let lasting = failures.iter().find(|(_, failure)| !failure.kind.recoverable());
        let cause = lasting.or(failures.first())?.1.clone();
        Some((failures.into_iter().map(|(vertex, _)| vertex).collect(), cause))
    }

    pub(super) fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// `no-zombie`: what had failed meanwhile of attempts that are replaced needs no other replacement.
    fn forget(&mut self, replaced: &BTreeSet<ExecutionVertexId>) {
        self.0.retain(|(vertex, _)| !replaced.contains(vertex));
    }
}

impl JobMaster {
    /// An attempt is gone without having said so.
    pub(super) fn attempt_lost(&mut self, vertex: ExecutionVertexId, failure: Failure) {
        self.executions.insert(vertex, ExecutionState::Terminal(TerminalState::Canceled));
        if matches!(self.job.status, JobStatus::Running | JobStatus::Restarting) {
            self.failing.note(vertex, failure);
        }
    }

    /// The region's attempts are void: those that still run are told to stop, and the others may be forgotten.
    pub(super) fn failed_over(&mut self, now: Instant, before: &JobState, actions: &mut Vec<JobMasterAction>) {
        let Some(schedule) = &before.schedule else { return };
        let replaced: Vec<(ExecutionAttemptId, TaskManagerId)> = schedule
            .attempt_ids(before.spec.id)
            .filter(|(attempt, _)| self.job.awaiting.contains(&attempt.vertex))
            .map(|(attempt, slot)| (attempt, slot.task_manager))
            .collect();
        self.failing.forget(&self.job.awaiting);
        if let Some(reconciliation) = &mut self.reconciliation {
            let adopted = replaced.iter().filter(|(attempt, _)| {
                self.executions.get(&attempt.vertex).is_some_and(|state| *state != ExecutionState::Reconciling)
            });
            reconciliation.replaced(replaced.len(), adopted.count());
        }
        let mut stop: BTreeMap<TaskManagerId, Vec<ExecutionAttemptId>> = BTreeMap::new();
        let mut forget: BTreeMap<TaskManagerId, Vec<ExecutionAttemptId>> = BTreeMap::new();
        for &(attempt, task_manager) in &replaced {
            let ended = self.executions.remove(&attempt.vertex).is_none_or(|state| state.is_terminal());
            if !self.registered.contains_key(&task_manager) {
                continue;
            }
            if ended {
                forget.entry(task_manager).or_default().push(attempt);
            } else {
                self.stopping.insert(attempt, task_manager);
                stop.entry(task_manager).or_default().push(attempt);
            }
        }
        for (task_manager, attempts) in stop {
            self.send(task_manager, TaskManagerCommand::Cancel { attempts }, actions);
        }
        for (task_manager, attempts) in forget {
            self.send(task_manager, TaskManagerCommand::Acknowledge { attempts }, actions);
        }
        self.start_at = Some(now + self.job.pause);
        self.return_surplus(actions);
        let replaced = replaced.into_iter().map(|(attempt, _)| attempt).collect();
        self.checkpoints_superseded(now, &replaced, actions);
    }

    /// A replaced attempt has ended, or was never there.
    pub(super) fn superseded_ended(
        &mut self,
        task_manager: TaskManagerId,
        attempt: ExecutionAttemptId,
        actions: &mut Vec<JobMasterAction>,
    ) {
        self.stopping.remove(&attempt);
        self.send(task_manager, TaskManagerCommand::Acknowledge { attempts: vec![attempt] }, actions);
    }
}
