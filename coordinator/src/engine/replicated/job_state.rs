//! One job's replicated state and the edges between its statuses.

mod checkpointing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill_model::execution::{Failure, FailureKind, Schedule, TerminalState};
use tidemill_model::id::{AttemptNumber, CheckpointId, ExecutionAttemptId, ExecutionVertexId};
use tidemill_model::job::{HistoryEntry, JobResult, JobSpec, JobStatus, StopMode};
use tidemill_model::mutant::{self, Mutant};
use tidemill_model::restart::{FailureHistory, RestartDecision};
use tidemill_model::time::Timestamp;

use super::checkpoints::Checkpoints;
use super::command::{CommandBody, Ending, Response};

/// The most history entries that a job keeps; the first (its submission) stays, the oldest others go.
const HISTORY_ENTRIES: usize = 64;

/// What every replica knows of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobState {
    /// What was submitted.
    pub spec: JobSpec,
    /// When it was accepted.
    pub submitted: Timestamp,
    /// How it stands.
    pub status: JobStatus,
    /// How it came to that.
    pub history: Vec<HistoryEntry>,
    /// Where its attempts run or last ran; none: it never had slots.
    pub schedule: Option<Schedule>,
    /// Sub-tasks without an attempt: not yet scheduled, or failed and about to be replaced. Invariant: each sub-task is
    /// either among these or scheduled.
    pub awaiting: BTreeSet<ExecutionVertexId>,
    /// The highest attempt number ever used. Invariant: never goes back (`no-zombie`).
    pub last_attempt: Option<AttemptNumber>,
    /// What the present attempt of a sub-task, or its next one, starts from; not listed: from nothing.
    pub restore_from: BTreeMap<ExecutionVertexId, CheckpointId>,
    /// Invariant: only attempts that `schedule` wants, and none of them ever changes.
    pub terminal: BTreeMap<ExecutionVertexId, TerminalState>,
    /// How often any part of it was started again.
    pub restarts: u32,
    /// The failures that count for its restart strategy.
    pub failures: FailureHistory,
    /// How long what is awaiting waits before it is started again.
    pub pause: Duration,
    /// When it was first scheduled.
    pub first_scheduled: Option<Timestamp>,
    /// Its checkpoints.
    pub checkpoints: Checkpoints,
    /// How a client wants it stopped; it goes on until that can be done.
    pub stop: Option<StopMode>,
    /// The checkpoint at which it was suspended. Invariant: it is retained.
    pub suspended_at: Option<CheckpointId>,
}

impl JobState {
    /// A job that has just been accepted.
    #[must_use]
    pub fn new(spec: JobSpec, now: Timestamp) -> Self {
        let awaiting = spec.graph.execution_vertices().collect();
        let mut state = Self {
            spec,
            submitted: now,
            status: JobStatus::Created,
            history: Vec::new(),
            schedule: None,
            awaiting,
            last_attempt: None,
            restore_from: BTreeMap::new(),
            terminal: BTreeMap::new(),
            restarts: 0,
            failures: FailureHistory::default(),
            pause: Duration::ZERO,
            first_scheduled: None,
            checkpoints: Checkpoints::default(),
            stop: None,
            suspended_at: None,
        };
        state.enter(JobStatus::Created, None, now);
        state
    }

    /// The number for the attempts of the next schedule.
    #[must_use]
    pub fn next_attempt(&self) -> AttemptNumber {
        self.last_attempt.map_or_else(AttemptNumber::default, AttemptNumber::next)
    }

    /// Whether every sub-task has finished.
    #[must_use]
    pub fn all_finished(&self) -> bool {
        self.spec
            .graph
            .execution_vertices()
            .all(|vertex| matches!(self.terminal.get(&vertex), Some(TerminalState::Finished { .. })))
    }

    /// Whether a leader has to look after it: until it has ended and nothing of it is left to delete.
    #[must_use]
    pub fn needs_master(&self) -> bool {
        !self.status.is_terminal() || self.checkpoints.has_garbage()
    }

    /// Applies a decision about this job. Deterministic; never fails.
    pub fn apply(&mut self, body: &CommandBody, now: Timestamp) -> Response {
        match body {
            CommandBody::CancelJob { .. } => self.cancel(now),
            CommandBody::StopJob { how, .. } => self.want_stop(*how),
            CommandBody::RecordSchedule { schedule, .. } => self.record_schedule(schedule, now),
            CommandBody::RecordTerminal { ended, .. } => self.record_terminal(ended),
            CommandBody::FailOver { failed, cause, .. } => self.fail_over(failed, cause, now),
            CommandBody::Relocate { leaving, reason, .. } => self.relocate(leaving, reason, now),
            CommandBody::FailJob { cause, .. } => self.fail(cause, now),
            CommandBody::StartCommitting { checkpoint, .. } => self.start_committing(*checkpoint, now),
            CommandBody::EndJob { ending, .. } => self.end(*ending, now),
            CommandBody::ReserveCheckpoints { upto, .. } => self.reserve_checkpoints(*upto),
            CommandBody::CompleteCheckpoint { id, kind, attempts, states, duration, .. } => {
                self.complete_checkpoint((*id, *kind), attempts, states, *duration, now)
            }
            CommandBody::RecordNotified { checkpoint, .. } => self.record_notified(*checkpoint),
            CommandBody::RecordGarbageDeleted { garbage, .. } => self.record_garbage_deleted(garbage),
            CommandBody::RecordStraggler { .. } => self.record_straggler(),
            CommandBody::RecordTakeover { .. } => Response::Done,
            CommandBody::LeaderStarted { .. }
            | CommandBody::RegisterBlob { .. }
            | CommandBody::SubmitJob { .. }
            | CommandBody::SetDraining { .. }
            | CommandBody::Chaos(_) => self.refused(),
        }
    }

    fn cancel(&mut self, now: Timestamp) -> Response {
        match self.status {
            JobStatus::Created | JobStatus::Running | JobStatus::Restarting => {
                self.enter(JobStatus::Cancelling, None, now);
                Response::Done
            }
            JobStatus::Cancelling | JobStatus::Canceled => Response::Done,
            JobStatus::Failing(_) | JobStatus::Committing | JobStatus::Finished(_) | JobStatus::Failed(_) => {
                self.refused()
            }
        }
    }

    /// A wish that outlives leaders and failures: whoever leads when the job runs carries it out.
    fn want_stop(&mut self, how: StopMode) -> Response {
        match self.status {
            JobStatus::Created | JobStatus::Running | JobStatus::Restarting
                if how == StopMode::Drain || self.spec.settings.checkpointing.is_some() =>
            {
                self.stop = Some(how);
                Response::Done
            }
            // Repeated, after it was carried out.
            JobStatus::Cancelling | JobStatus::Canceled if self.suspended_at.is_some() && self.stop == Some(how) => {
                Response::Done
            }
            JobStatus::Created
            | JobStatus::Running
            | JobStatus::Restarting
            | JobStatus::Cancelling
            | JobStatus::Canceled
            | JobStatus::Failing(_)
            | JobStatus::Committing
            | JobStatus::Finished(_)
            | JobStatus::Failed(_) => self.refused(),
        }
    }

    /// Exactly the sub-tasks that await an attempt get one, all with the next number: one that was never used.
    fn record_schedule(&mut self, schedule: &Schedule, now: Timestamp) -> Response {
        let next = self.next_attempt();
        let fresh = schedule.attempts.values().all(|scheduled| scheduled.attempt == next);
        let complete = schedule.attempts.keys().eq(self.awaiting.iter());
        match self.status {
            JobStatus::Created | JobStatus::Restarting if fresh && complete => {
                let whole = self.schedule.get_or_insert_default();
                whole.attempts.extend(schedule.attempts.iter().map(|(vertex, scheduled)| (*vertex, *scheduled)));
                whole.task_managers.extend(schedule.task_managers.iter().map(|(id, at)| (*id, at.clone())));
                self.last_attempt = Some(next);
                self.awaiting.clear();
                self.first_scheduled.get_or_insert(now);
                self.enter(JobStatus::Running, None, now);
                Response::Done
            }
            JobStatus::Created
            | JobStatus::Restarting
            | JobStatus::Running
            | JobStatus::Cancelling
            | JobStatus::Failing(_)
            | JobStatus::Committing
            | JobStatus::Finished(_)
            | JobStatus::Canceled
            | JobStatus::Failed(_) => self.refused(),
        }
    }

    /// `no-zombie`: states of attempts that the schedule no longer wants are dropped.
    fn record_terminal(&mut self, ended: &[(ExecutionAttemptId, TerminalState)]) -> Response {
        let Some(schedule) = &self.schedule else { return self.refused() };
        for (attempt, state) in ended {
            if schedule.wants(attempt) {
                self.terminal.entry(attempt.vertex).or_insert_with(|| state.clone());
            }
        }
        Response::Done
    }

    /// Replaces the regions of what has failed, or fails the job.
    fn fail_over(&mut self, failed: &BTreeSet<ExecutionVertexId>, cause: &Failure, now: Timestamp) -> Response {
        if !matches!(self.status, JobStatus::Running | JobStatus::Restarting) {
            return self.refused();
        }
        if !cause.kind.recoverable() {
            return self.fail(cause, now);
        }
        let seed = u64::try_from(self.spec.id.0.as_u128() >> 64).unwrap_or_default();
        match self.spec.settings.restart.decide(&self.failures, now, seed) {
            // Of a job that was never started again its strategy says nothing that its user does not know.
            RestartDecision::GiveUp(_) if self.restarts == 0 => return self.fail(cause, now),
            RestartDecision::GiveUp(reason) => {
                let message = format!("{}; it is not started again: {reason}", cause.message);
                return self.fail(&Failure { message, ..cause.clone() }, now);
            }
            RestartDecision::After(pause) => self.pause = pause,
        }
        self.failures.record(&self.spec.settings.restart, now);
        self.restarts += 1;
        self.replace(&self.spec.graph.regions_of(failed));
        self.enter(JobStatus::Restarting, Some(cause.clone()), now);
        Response::Done
    }

    /// Replaces the regions of what has to leave its task managers. The restart strategy has no say in it.
    fn relocate(&mut self, leaving: &BTreeSet<ExecutionVertexId>, reason: &str, now: Timestamp) -> Response {
        if self.status != JobStatus::Running {
            return self.refused();
        }
        self.pause = Duration::ZERO;
        self.restarts += 1;
        self.replace(&self.spec.graph.regions_of(leaving));
        let cause = Failure { kind: FailureKind::Drained, vertex: None, operator: None, message: reason.to_owned() };
        self.enter(JobStatus::Restarting, Some(cause), now);
        Response::Done
    }

    /// Promise `last-completed`: what the next attempts start from is computed here, and whatever the replaced ones have
    /// acknowledged becomes void in the same entry.
    fn replace(&mut self, region: &BTreeSet<ExecutionVertexId>) {
        let mut latest = self.checkpoints.latest();
        if mutant::active(Mutant::RestoresSecondNewest) {
            latest = self.checkpoints.completed.keys().rev().nth(1).copied().or(latest);
        }
        for &vertex in region {
            self.terminal.remove(&vertex);
            match latest {
                Some(latest) => self.restore_from.insert(vertex, latest),
                None => self.restore_from.remove(&vertex),
            };
        }
        if let Some(schedule) = &mut self.schedule {
            schedule.attempts.retain(|vertex, _| !region.contains(vertex));
            let used: BTreeSet<_> = schedule.attempts.values().map(|scheduled| scheduled.slot.task_manager).collect();
            schedule.task_managers.retain(|id, _| used.contains(id));
        }
        self.awaiting.extend(region);
        self.checkpoints.void_pending();
    }

    fn fail(&mut self, cause: &Failure, now: Timestamp) -> Response {
        match self.status {
            JobStatus::Created | JobStatus::Running | JobStatus::Restarting | JobStatus::Committing => {
                self.enter(JobStatus::Failing(cause.clone()), Some(cause.clone()), now);
                Response::Done
            }
            JobStatus::Cancelling
            | JobStatus::Failing(_)
            | JobStatus::Finished(_)
            | JobStatus::Canceled
            | JobStatus::Failed(_) => self.refused(),
        }
    }

    fn start_committing(&mut self, checkpoint: Option<CheckpointId>, now: Timestamp) -> Response {
        if self.status != JobStatus::Running || !self.all_finished() {
            return self.refused();
        }
        let complete = match checkpoint {
            Some(id) => self.complete_final_checkpoint(id, now),
            None => self.spec.settings.checkpointing.is_none(),
        };
        if !complete {
            return Response::Superseded;
        }
        self.enter(JobStatus::Committing, None, now);
        Response::Done
    }

    /// Terminal means committed: `Finished` follows only `Committing`, and no edge leads out of an end.
    fn end(&mut self, ending: Ending, now: Timestamp) -> Response {
        let status = match (&self.status, ending) {
            (JobStatus::Committing, Ending::Finished) => JobStatus::Finished(self.result(now)),
            (JobStatus::Cancelling, Ending::Canceled) => JobStatus::Canceled,
            (JobStatus::Failing(cause), Ending::Failed) => JobStatus::Failed(cause.clone()),
            (
                JobStatus::Created
                | JobStatus::Running
                | JobStatus::Restarting
                | JobStatus::Cancelling
                | JobStatus::Failing(_)
                | JobStatus::Committing
                | JobStatus::Finished(_)
                | JobStatus::Canceled
                | JobStatus::Failed(_),
                Ending::Finished | Ending::Canceled | Ending::Failed,
            ) => return self.refused(),
        };
        self.drop_checkpoints(&status);
        self.enter(status, None, now);
        Response::Done
    }

    fn result(&self, now: Timestamp) -> JobResult {
        let mut result = JobResult {
            job: self.spec.id,
            net_runtime: now.since(self.first_scheduled.unwrap_or(now)),
            accumulators: BTreeMap::new(),
            collected: Vec::new(),
        };
        for state in self.terminal.values() {
            let TerminalState::Finished { accumulators, collected, state: _ } = state else { continue };
            for (name, value) in accumulators {
                let total: &mut i64 = result.accumulators.entry(name.clone()).or_default();
                *total = total.wrapping_add(*value);
            }
            result.collected.extend(collected.iter().cloned());
        }
        result.collected.sort_by_key(|part| (part.collect_index, part.subtask));
        result
    }

    fn enter(&mut self, status: JobStatus, cause: Option<Failure>, now: Timestamp) {
        self.history.push(HistoryEntry { at: now, status: status.name().to_owned(), cause });
        if self.history.len() > HISTORY_ENTRIES {
            self.history.remove(1);
        }
        self.status = status;
    }

    fn refused(&self) -> Response {
        Response::Refused { status: self.status.name().to_owned() }
    }

    /// Checks what the fields promise.
    pub(super) fn check_invariants(&self) -> Result<(), String> {
        let empty = BTreeMap::new();
        let scheduled = self.schedule.as_ref().map_or(&empty, |schedule| &schedule.attempts);
        if let Some(vertex) = self.terminal.keys().find(|vertex| !scheduled.contains_key(vertex)) {
            return Err(format!("{vertex} has a terminal state but is not scheduled"));
        }
        let once = |vertex: &ExecutionVertexId| scheduled.contains_key(vertex) != self.awaiting.contains(vertex);
        if let Some(vertex) = self.spec.graph.execution_vertices().find(|vertex| !once(vertex)) {
            return Err(format!("{vertex} is neither scheduled nor awaiting an attempt, or both"));
        }
        if scheduled.values().any(|attempt| Some(attempt.attempt) > self.last_attempt) {
            return Err("an attempt has a number beyond the last one".to_owned());
        }
        if self.status == JobStatus::Running && !self.awaiting.is_empty() {
            return Err("it runs although sub-tasks await their attempts".to_owned());
        }
        if self.suspended_at.is_some_and(|id| !self.checkpoints.completed.contains_key(&id)) {
            return Err("the checkpoint that it was suspended at is not retained".to_owned());
        }
        self.checkpoints.check_invariants()
    }
}
