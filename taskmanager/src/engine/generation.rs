//! All of a job's attempts of one number as this task manager hosts them: their executor's phase, themselves, the
//! job's finalization.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemill_model::checkpoint::SubtaskState;
use tidemill_model::execution::{
    AttemptReport, CollectedPart, ExecutionState, Failure, Finalization, JobDeployment, TerminalState,
};
use tidemill_model::id::{AttemptNumber, CheckpointId, ExecutionAttemptId, ExecutionVertexId, JobId};
use tidemill_model::job::JobSpec;
use tidemill_model::time::Instant;

use super::action::{Action, ExecutorCommand, FinalizationOutcome, Outbound};
use super::event::{AttemptChange, Collected, FinalizationStep, Progress};
use super::executor_lifecycle::{ExecutorId, ExecutorPhase, GenerationId};
use super::hosted_attempt::{AttemptState, HostedAttempt};
use super::memory_limit::MemoryLimit;
use super::outbox::Outbox;

#[derive(Debug)]
enum HostedFinalization {
    /// Waits for an executor.
    Wanted(Finalization),
    /// An executor is at it.
    Sent(Finalization),
    /// Published: kept until the job is released.
    Done(FinalizationOutcome),
}

/// What became of a wish to finalize.
pub(crate) enum FinalizationWish {
    /// Nothing is left to do: it is under way, or its outcome was told again.
    Settled,
    /// An executor must do it.
    NeedsExecutor,
}

/// A generation with an executor, or in need of one.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) spec: Arc<JobSpec>,
    pub(crate) attempt: AttemptNumber,
    pub(crate) phase: ExecutorPhase,
    pub(crate) progress: Progress,
    /// What its executor may use.
    pub(crate) memory_limit: Option<MemoryLimit>,
    /// When an executor that is started only to remove staged output must be ready.
    ready_by: Instant,
    /// Invariant: an attempt that is live implies a phase other than `Exited`.
    attempts: BTreeMap<ExecutionVertexId, HostedAttempt>,
    /// What to tell the executor when it is ready; `start` holds what it has not been told.
    deployment: Option<JobDeployment>,
    finalization: Option<HostedFinalization>,
    /// Acknowledged checkpoints of which no leader has said what became of them.
    pub(super) acknowledged: BTreeMap<(ExecutionVertexId, CheckpointId), SubtaskState>,
}

impl Generation {
    pub(crate) fn new(spec: Arc<JobSpec>, attempt: AttemptNumber) -> Self {
        Self {
            spec,
            attempt,
            phase: ExecutorPhase::Exited,
            progress: Progress::default(),
            memory_limit: None,
            ready_by: Instant::default(),
            attempts: BTreeMap::new(),
            deployment: None,
            finalization: None,
            acknowledged: BTreeMap::new(),
        }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> GenerationId {
        GenerationId { job: self.job(), attempt: self.attempt }
    }

    fn job(&self) -> JobId {
        self.spec.id
    }

    pub(super) fn id(&self, vertex: ExecutionVertexId) -> ExecutionAttemptId {
        ExecutionAttemptId { job: self.job(), vertex, attempt: self.attempt }
    }

    /// Whether anything here waits for an executor.
    pub(crate) fn needs_executor(&self) -> bool {
        let unfinished = matches!(self.finalization, Some(HostedFinalization::Wanted(_) | HostedFinalization::Sent(_)));
        unfinished || self.attempts.values().any(HostedAttempt::is_live)
    }

    /// Whether nothing of it will ever be asked for again, once a newer generation can finalize the job.
    pub(crate) fn is_settled(&self) -> bool {
        let settled = |attempt: &HostedAttempt| attempt.state == AttemptState::Acknowledged;
        self.finalization.is_none() && self.attempts.values().all(settled)
    }

    /// Whether an attempt is of this generation and has not ended.
    pub(super) fn runs(&self, id: &ExecutionAttemptId) -> bool {
        *id == self.id(id.vertex) && self.attempts.get(&id.vertex).is_some_and(HostedAttempt::is_live)
    }

    /// The slots whose attempts have not ended.
    pub(crate) fn slots(&self) -> BTreeSet<u32> {
        self.attempts.values().filter(|attempt| attempt.is_live()).map(|attempt| attempt.slot).collect()
    }

    /// The attempts whose gathered records are being stored.
    pub(crate) fn storing(&self) -> Vec<ExecutionAttemptId> {
        let storing = |(&vertex, attempt): (&ExecutionVertexId, &HostedAttempt)| match attempt.state {
            AttemptState::Storing { .. } => Some(self.id(vertex)),
            AttemptState::Live(_)
            | AttemptState::Canceling { .. }
            | AttemptState::Ended(_)
            | AttemptState::Acknowledged => None,
        };
        self.attempts.iter().filter_map(storing).collect()
    }

    /// Every attempt that a leader has to know of.
    pub(crate) fn attempt_reports(&self) -> impl Iterator<Item = AttemptReport> + '_ {
        self.attempts.iter().filter_map(|(&vertex, attempt)| {
            attempt.reported().map(|state| AttemptReport { attempt: self.id(vertex), state })
        })
    }

    /// The outcome of the finalization, once there is one.
    pub(crate) fn outcome(&self) -> Option<&FinalizationOutcome> {
        match &self.finalization {
            Some(HostedFinalization::Done(outcome)) => Some(outcome),
            Some(HostedFinalization::Wanted(_) | HostedFinalization::Sent(_)) | None => None,
        }
    }

    /// Takes in attempts to start; one that is known is only reported again.
    pub(crate) fn deploy(&mut self, deployment: JobDeployment, outbox: &mut Outbox) {
        let mut fresh = Vec::new();
        for &id in &deployment.start {
            let Some(scheduled) = deployment.schedule.attempts.get(&id.vertex) else { continue };
            match self.attempts.get(&id.vertex) {
                Some(known) => {
                    if let Some(state) = known.reported() {
                        outbox.report(id, state);
                    }
                }
                None => {
                    let state = AttemptState::Live(ExecutionState::Deploying);
                    self.attempts.insert(id.vertex, HostedAttempt { slot: scheduled.slot.index, state });
                    outbox.report(id, ExecutionState::Deploying);
                    fresh.push(id);
                }
            }
        }
        if fresh.is_empty() {
            return;
        }
        let waiting = self.deployment.take().map(|waiting| waiting.start).unwrap_or_default();
        let start = waiting.into_iter().chain(fresh).collect();
        self.deployment = Some(JobDeployment { start, ..deployment });
        self.flush(outbox);
    }

    /// Tells a ready executor what has waited for it.
    fn flush(&mut self, outbox: &mut Outbox) {
        let Some(executor) = self.phase.ready() else { return };
        if let Some(mut deployment) = self.deployment.take() {
            deployment.start.retain(|id| self.attempts.get(&id.vertex).is_some_and(HostedAttempt::is_live));
            if !deployment.start.is_empty() {
                outbox.push(Action::SendToExecutor { executor, command: ExecutorCommand::Deploy(deployment) });
            }
        }
        if let Some(HostedFinalization::Wanted(finalization)) = &self.finalization {
            let finalization = finalization.clone();
            let command = ExecutorCommand::Finalize(finalization.clone());
            outbox.push(Action::SendToExecutor { executor, command });
            self.finalization = Some(HostedFinalization::Sent(finalization));
        }
    }

    /// The executor has proved its graph.
    pub(crate) fn ready(&mut self, executor: ExecutorId, process_id: u32, outbox: &mut Outbox) {
        self.phase = ExecutorPhase::Ready { executor, process_id };
        self.flush(outbox);
    }

    /// Stops these attempts, through the executor when it takes commands.
    pub(crate) fn cancel(&mut self, attempts: &[ExecutionAttemptId], deadline: Instant, outbox: &mut Outbox) {
        let ready = self.phase.ready();
        let mut told = Vec::new();
        for &id in attempts {
            let Some(attempt) = self.attempts.get_mut(&id.vertex) else {
                outbox.report(id, ExecutionState::Terminal(TerminalState::Canceled));
                continue;
            };
            match &attempt.state {
                AttemptState::Live(_) if ready.is_some() => {
                    attempt.state = AttemptState::Canceling { deadline };
                    told.push(id);
                }
                AttemptState::Live(_) => attempt.state = AttemptState::Ended(TerminalState::Canceled),
                AttemptState::Storing { .. } => {
                    outbox.push(Action::AbandonCollected { attempt: id });
                    attempt.state = AttemptState::Ended(TerminalState::Canceled);
                }
                // A repeated cancel keeps the first deadline: it must not put off the end for ever.
                AttemptState::Canceling { .. } => told.push(id),
                AttemptState::Ended(_) | AttemptState::Acknowledged => {}
            }
            if let Some(state) = attempt.reported() {
                outbox.report(id, state);
            }
        }
        if let Some(executor) = ready.filter(|_| !told.is_empty()) {
            outbox.push(Action::SendToExecutor { executor, command: ExecutorCommand::Cancel(told) });
        }
    }

    /// Whether an attempt has not stopped although its time is up.
    pub(crate) fn cancellation_overdue(&self, now: Instant) -> bool {
        self.attempts.values().any(|attempt| match attempt.state {
            AttemptState::Canceling { deadline } => deadline <= now,
            AttemptState::Live(_)
            | AttemptState::Storing { .. }
            | AttemptState::Ended(_)
            | AttemptState::Acknowledged => false,
        })
    }

    /// An executor is being started.
    pub(crate) fn starting(&mut self, executor: ExecutorId, ready_by: Instant) {
        self.phase = ExecutorPhase::Starting { executor };
        self.ready_by = ready_by;
    }

    /// Whether the removal of staged output still waits for its executor although the time is up.
    ///
    /// A program that hangs before its `execute` would otherwise keep a job that was cancelled from ever ending.
    pub(crate) fn removal_overdue(&self, now: Instant) -> bool {
        let waits = matches!(self.finalization, Some(HostedFinalization::Wanted(Finalization::Abort { .. })));
        waits && self.phase.executor().is_some() && self.ready_by <= now
    }

    /// Forgets a terminal state that is applied.
    pub(crate) fn acknowledge(&mut self, id: &ExecutionAttemptId) {
        if let Some(attempt) = self.attempts.get_mut(&id.vertex)
            && matches!(attempt.state, AttemptState::Ended(_))
        {
            attempt.state = AttemptState::Acknowledged;
        }
    }

    /// Forgets every end, acknowledged or not: what only a mutant does.
    pub(crate) fn forget_ended(&mut self) {
        for attempt in self.attempts.values_mut().filter(|attempt| matches!(attempt.state, AttemptState::Ended(_))) {
            attempt.state = AttemptState::Acknowledged;
        }
    }

    /// The executor says how an attempt stands.
    pub(crate) fn attempt_changed(&mut self, change: AttemptChange, outbox: &mut Outbox) {
        let AttemptChange { report: AttemptReport { attempt: id, state }, collected } = change;
        if id != self.id(id.vertex) {
            return;
        }
        let Some(attempt) = self.attempts.get_mut(&id.vertex).filter(|attempt| attempt.is_live()) else { return };
        match state {
            ExecutionState::Terminal(TerminalState::Finished { accumulators, collected: stored, state }) => {
                if collected.is_empty() {
                    let terminal = TerminalState::Finished { accumulators, collected: stored, state };
                    attempt.state = AttemptState::Ended(terminal);
                } else {
                    attempt.state = AttemptState::Storing { accumulators, state };
                    Self::store(id, collected, outbox);
                    return;
                }
            }
            ExecutionState::Terminal(terminal) => attempt.state = AttemptState::Ended(terminal),
            ExecutionState::Initializing | ExecutionState::Running => {
                let new = AttemptState::Live(state);
                if matches!(attempt.state, AttemptState::Canceling { .. }) || attempt.state == new {
                    return;
                }
                attempt.state = new;
            }
            // These are this agent's and the leader's to say, not an executor's.
            ExecutionState::Created
            | ExecutionState::Scheduled
            | ExecutionState::Deploying
            | ExecutionState::Canceling
            | ExecutionState::Reconciling => return,
        }
        if let Some(state) = attempt.reported() {
            outbox.report(id, state);
        }
    }

    fn store(attempt: ExecutionAttemptId, collected: Vec<Collected>, outbox: &mut Outbox) {
        outbox.push(Action::StoreCollected { attempt, collected });
    }

    /// What an attempt gathered is stored: now it is finished for the leader too.
    pub(crate) fn collected_stored(&mut self, id: ExecutionAttemptId, parts: Vec<CollectedPart>, outbox: &mut Outbox) {
        let Some(attempt) = self.attempts.get_mut(&id.vertex) else { return };
        if let AttemptState::Storing { accumulators, state } = &mut attempt.state {
            let (accumulators, state) = (std::mem::take(accumulators), std::mem::take(state));
            let terminal = TerminalState::Finished { accumulators, collected: parts, state };
            attempt.state = AttemptState::Ended(terminal.clone());
            outbox.report(id, ExecutionState::Terminal(terminal));
        }
    }

    /// What an attempt gathered will never be stored: it has failed after all.
    pub(crate) fn collected_refused(&mut self, id: ExecutionAttemptId, failure: Failure, outbox: &mut Outbox) {
        let Some(attempt) = self.attempts.get_mut(&id.vertex) else { return };
        if matches!(attempt.state, AttemptState::Storing { .. }) {
            let terminal = TerminalState::Failed(Failure { vertex: Some(id.vertex), ..failure });
            attempt.state = AttemptState::Ended(terminal.clone());
            outbox.report(id, ExecutionState::Terminal(terminal));
        }
    }

    /// A leader wants staged output published or dropped.
    pub(crate) fn finalize(&mut self, wanted: Finalization, outbox: &mut Outbox) -> FinalizationWish {
        match &self.finalization {
            Some(HostedFinalization::Wanted(known) | HostedFinalization::Sent(known)) if *known == wanted => {
                return FinalizationWish::Settled;
            }
            // A failure that may pass is tried again: the leader would not ask twice for nothing.
            Some(HostedFinalization::Done(outcome))
                if outcome.finalization == wanted
                    && outcome.failure.as_ref().is_none_or(|failure| !failure.kind.recoverable()) =>
            {
                outbox.tell(Outbound::Finalized(outcome.clone()));
                return FinalizationWish::Settled;
            }
            Some(HostedFinalization::Wanted(_) | HostedFinalization::Sent(_) | HostedFinalization::Done(_)) | None => {}
        }
        self.finalization = Some(HostedFinalization::Wanted(wanted));
        self.flush(outbox);
        FinalizationWish::NeedsExecutor
    }

    /// The executor has published or dropped, or failed to.
    pub(crate) fn finalized(&mut self, step: FinalizationStep, failure: Option<Failure>, outbox: &mut Outbox) {
        if let Some(HostedFinalization::Sent(finalization)) = &self.finalization
            && FinalizationStep::of(finalization) == step
        {
            self.settle(finalization.clone(), failure, outbox);
        }
    }

    fn settle(&mut self, finalization: Finalization, failure: Option<Failure>, outbox: &mut Outbox) {
        let outcome = FinalizationOutcome { job: self.job(), finalization, failure };
        outbox.tell(Outbound::Finalized(outcome.clone()));
        // That output was removed says nothing of what is staged later: when it is wanted again, it is done again.
        let lasts = matches!(outcome.finalization, Finalization::Commit { .. });
        self.finalization = lasts.then_some(HostedFinalization::Done(outcome));
    }

    /// The executor is gone or will never come: what needed it has failed, and what was to stop has stopped.
    pub(crate) fn executor_gone(&mut self, failure: &Failure, outbox: &mut Outbox) {
        self.phase = ExecutorPhase::Exited;
        self.deployment = None;
        let (job, number) = (self.job(), self.attempt);
        for (&vertex, attempt) in self.attempts.iter_mut().filter(|(_, attempt)| attempt.is_live()) {
            let terminal = match attempt.state {
                AttemptState::Canceling { .. } => TerminalState::Canceled,
                AttemptState::Live(_)
                | AttemptState::Storing { .. }
                | AttemptState::Ended(_)
                | AttemptState::Acknowledged => TerminalState::Failed(failure.clone()),
            };
            attempt.state = AttemptState::Ended(terminal.clone());
            let id = ExecutionAttemptId { job, vertex, attempt: number };
            outbox.report(id, ExecutionState::Terminal(terminal));
        }
        if let Some(HostedFinalization::Wanted(finalization) | HostedFinalization::Sent(finalization)) =
            &self.finalization
        {
            self.settle(finalization.clone(), Some(failure.clone()), outbox);
        }
    }

    /// Panics when an invariant is broken.
    pub(crate) fn check_invariants(&self) {
        let live = self.attempts.values().any(HostedAttempt::is_live);
        assert!(!live || self.phase != ExecutorPhase::Exited, "{}: live attempts without an executor", self.name());
        let sent = matches!(self.finalization, Some(HostedFinalization::Sent(_)));
        assert!(!sent || self.phase.ready().is_some(), "{}: finalization sent to no executor", self.name());
    }
}
