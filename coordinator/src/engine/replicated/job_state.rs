//! One job's replicated state and the edges between its statuses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill_model::execution::{Failure, Schedule, TerminalState};
use tidemill_model::id::{AttemptNumber, ExecutionAttemptId, ExecutionVertexId};
use tidemill_model::job::{HistoryEntry, JobResult, JobSpec, JobStatus};
use tidemill_model::time::Timestamp;

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
    /// Invariant: only attempts that `schedule` wants, and none of them ever changes.
    pub terminal: BTreeMap<ExecutionVertexId, TerminalState>,
    /// How often it was started again.
    pub restarts: u32,
    /// When it was first scheduled.
    pub first_scheduled: Option<Timestamp>,
}

impl JobState {
    /// A job that has just been accepted.
    #[must_use]
    pub fn new(spec: JobSpec, now: Timestamp) -> Self {
        let mut state = Self {
            spec,
            submitted: now,
            status: JobStatus::Created,
            history: Vec::new(),
            schedule: None,
            terminal: BTreeMap::new(),
            restarts: 0,
            first_scheduled: None,
        };
        state.enter(JobStatus::Created, None, now);
        state
    }

    /// The number for the attempts of the next schedule.
    #[must_use]
    pub fn next_attempt(&self) -> AttemptNumber {
        self.current_attempt().map_or_else(AttemptNumber::default, AttemptNumber::next)
    }

    /// The number of the scheduled attempts. All of a job's attempts are replaced together, so there is one.
    #[must_use]
    pub fn current_attempt(&self) -> Option<AttemptNumber> {
        self.schedule.as_ref()?.attempts.values().map(|scheduled| scheduled.attempt).max()
    }

    /// Whether every sub-task has finished.
    #[must_use]
    pub fn all_finished(&self) -> bool {
        self.spec
            .graph
            .execution_vertices()
            .all(|vertex| matches!(self.terminal.get(&vertex), Some(TerminalState::Finished { .. })))
    }

    /// Applies a decision about this job. Deterministic; never fails.
    pub fn apply(&mut self, body: &CommandBody, now: Timestamp) -> Response {
        match body {
            CommandBody::CancelJob { .. } => self.cancel(now),
            CommandBody::RecordSchedule { schedule, .. } => self.record_schedule(schedule, now),
            CommandBody::RecordTerminal { ended, .. } => self.record_terminal(ended),
            CommandBody::RestartJob { cause, .. } => self.restart(cause, now),
            CommandBody::FailJob { cause, .. } => self.fail(cause, now),
            CommandBody::StartCommitting { .. } => self.start_committing(now),
            CommandBody::EndJob { ending, .. } => self.end(*ending, now),
            CommandBody::RecordTakeover { .. } => Response::Done,
            CommandBody::LeaderStarted { .. }
            | CommandBody::RegisterBlob { .. }
            | CommandBody::SubmitJob { .. }
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

    fn record_schedule(&mut self, schedule: &Schedule, now: Timestamp) -> Response {
        let fresh = schedule.attempts.values().all(|scheduled| scheduled.attempt == self.next_attempt());
        let complete = self.spec.graph.execution_vertices().all(|vertex| schedule.attempts.contains_key(&vertex));
        match self.status {
            JobStatus::Created | JobStatus::Restarting if fresh && complete => {
                self.schedule = Some(schedule.clone());
                self.terminal.clear();
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

    fn restart(&mut self, cause: &Failure, now: Timestamp) -> Response {
        match self.status {
            JobStatus::Running => {
                self.restarts += 1;
                self.terminal.clear();
                self.enter(JobStatus::Restarting, Some(cause.clone()), now);
                Response::Done
            }
            JobStatus::Created
            | JobStatus::Restarting
            | JobStatus::Cancelling
            | JobStatus::Failing(_)
            | JobStatus::Committing
            | JobStatus::Finished(_)
            | JobStatus::Canceled
            | JobStatus::Failed(_) => self.refused(),
        }
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

    fn start_committing(&mut self, now: Timestamp) -> Response {
        if self.status != JobStatus::Running || !self.all_finished() {
            return self.refused();
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
}
