//! Writes down what this task manager obeys and refuses, and which sub-tasks have a thread here.

use std::collections::BTreeSet;

use tidemill_event_log::EventLog;
use tidemill_model::checkpoint::CheckpointAction;
use tidemill_model::event::{Event as Written, EventCall};
use tidemill_model::execution::{ExecutionState, Finalization, TerminalState};
use tidemill_model::id::{AttemptNumber, ExecutionAttemptId, JobId, LeaderEpoch, TaskManagerId};

use crate::engine::{Action, Agent, Directive, Event, FinalizationOutcome};

/// Sees each event of the agent before and after it.
pub(crate) struct Witness {
    events: EventLog,
    task_manager: TaskManagerId,
    /// Invariant: exactly the attempts whose start was written and whose end was not.
    running: BTreeSet<ExecutionAttemptId>,
    /// The jobs whose published output was written down.
    published: BTreeSet<JobId>,
}

/// An event that may be worth a line, before the agent has seen it.
pub(crate) enum Seen {
    Welcome(EventCall),
    Directive(EventCall),
    /// Something that may start or end attempts.
    Other,
}

impl Witness {
    pub(crate) fn new(events: EventLog, task_manager: TaskManagerId) -> Self {
        Self { events, task_manager, running: BTreeSet::new(), published: BTreeSet::new() }
    }

    /// What an event is, for [`after`](Self::after); none when nothing is to be written of it.
    pub(crate) fn before(&self, event: &Event) -> Option<Seen> {
        if !self.events.is_on() {
            return None;
        }
        match event {
            Event::Welcomed { epoch, task_manager, .. } => {
                Some(Seen::Welcome(self.call("welcome", *epoch, *task_manager, None, None)))
            }
            Event::Directed { epoch, task_manager, directive } => {
                let (kind, job, attempt) = describe(directive);
                let mut call = self.call(kind, *epoch, *task_manager, job, attempt);
                if let Directive::Checkpoint(command) = directive {
                    call.ckpt = Some(command.checkpoint.0);
                }
                Some(Seen::Directive(call))
            }
            Event::AttemptChanged { .. }
            | Event::CollectedStored { .. }
            | Event::CollectedRefused { .. }
            | Event::ExecutorStartFailed { .. }
            | Event::ExecutorRefused { .. }
            | Event::ExecutorExited { .. }
            | Event::ArtifactFailed { .. }
            | Event::ExecutorFinalized { .. }
            | Event::Shutdown
            | Event::Tick => Some(Seen::Other),
            Event::SessionLost
            | Event::ArtifactReady { .. }
            | Event::ExecutorStarted { .. }
            | Event::ExecutorReady { .. }
            | Event::CheckpointReported { .. }
            | Event::Progressed { .. } => None,
        }
    }

    /// Writes down what came of it.
    pub(crate) fn after(&mut self, seen: Seen, actions: &[Action], agent: &Agent) {
        match seen {
            Seen::Welcome(call) => {
                let term = call.term;
                self.judge(call, actions, agent.fence());
                if agent.connected() && agent.fence() == term {
                    let task_manager = self.task_manager;
                    self.events.write(|| Written::TmRegister { leader_term: term, task_manager });
                }
            }
            Seen::Directive(call) => self.judge(call, actions, agent.fence()),
            Seen::Other => {}
        }
        self.compare(agent);
    }

    fn call(
        &self,
        kind: &str,
        term: LeaderEpoch,
        task_manager: TaskManagerId,
        job: Option<JobId>,
        attempt: Option<AttemptNumber>,
    ) -> EventCall {
        EventCall { kind: kind.to_owned(), term, max_term: term, task_manager, job, attempt, ckpt: None }
    }

    fn judge(&self, mut call: EventCall, actions: &[Action], fence: LeaderEpoch) {
        call.max_term = fence;
        let refusal = actions.iter().find_map(|action| match action {
            Action::Refuse { reason } | Action::DropSession { reason } => Some(reason),
            Action::FetchArtifact { .. }
            | Action::StartExecutor(_)
            | Action::SendToExecutor { .. }
            | Action::KillExecutor { .. }
            | Action::SendToCoordinator(_)
            | Action::StoreCollected { .. }
            | Action::AbandonCollected { .. }
            | Action::RemoveGenerationFiles { .. }
            | Action::RemoveJobFiles { .. } => None,
        });
        self.events.write(|| match refusal {
            Some(reason) => Written::RpcReject { call, reason: reason.clone() },
            None => Written::RpcAccept { call },
        });
    }

    /// Writes the starts and ends since the last comparison.
    fn compare(&mut self, agent: &Agent) {
        let report = agent.report();
        let mut gone = std::mem::take(&mut self.running);
        for attempt in report.attempts {
            let (id, task_manager) = (attempt.attempt, self.task_manager);
            match attempt.state {
                ExecutionState::Initializing | ExecutionState::Running => {
                    if !gone.remove(&id) {
                        self.events.write(|| Written::TaskStart { attempt: id.into(), task_manager });
                    }
                    self.running.insert(id);
                }
                ExecutionState::Terminal(state) => {
                    if gone.remove(&id) {
                        let reason = ending(&state);
                        self.events.write(|| Written::TaskStop { attempt: id.into(), task_manager, reason });
                    }
                }
                ExecutionState::Canceling => {
                    if gone.remove(&id) {
                        self.running.insert(id);
                    }
                }
                ExecutionState::Created
                | ExecutionState::Scheduled
                | ExecutionState::Deploying
                | ExecutionState::Reconciling => {}
            }
        }
        for id in gone {
            let (task_manager, reason) = (self.task_manager, "superseded or released".to_owned());
            self.events.write(|| Written::TaskStop { attempt: id.into(), task_manager, reason });
        }
        self.compare_published(&report.finalized);
    }

    fn compare_published(&mut self, finalized: &[FinalizationOutcome]) {
        let published = |outcome: &&FinalizationOutcome| match &outcome.finalization {
            Finalization::Commit { .. } => outcome.failure.is_none(),
            Finalization::Abort { .. } => false,
        };
        let now: BTreeSet<JobId> = finalized.iter().filter(published).map(|outcome| outcome.job).collect();
        for &job in now.difference(&self.published) {
            self.events.write(|| Written::SinkCommit { job, subtask: None, ckpt: None, files: Vec::new() });
        }
        self.published = now;
    }
}

fn ending(state: &TerminalState) -> String {
    match state {
        TerminalState::Finished { .. } => "finished".to_owned(),
        TerminalState::Canceled => "canceled".to_owned(),
        TerminalState::Failed(failure) => format!("failed: {failure}"),
    }
}

fn describe(directive: &Directive) -> (&'static str, Option<JobId>, Option<AttemptNumber>) {
    let common = |attempts: &[ExecutionAttemptId]| {
        let first = attempts.first();
        let number = first.map(|id| id.attempt).filter(|number| attempts.iter().all(|id| id.attempt == *number));
        (first.map(|id| id.job), number)
    };
    match directive {
        Directive::Deploy { spec, deployment } => ("deploy", Some(spec.id), common(&deployment.start).1),
        Directive::Cancel { attempts } => {
            let (job, number) = common(attempts);
            ("cancel", job, number)
        }
        Directive::Acknowledge { attempts } => {
            let (job, number) = common(attempts);
            ("acknowledge", job, number)
        }
        Directive::Finalize { spec, finalization } => match finalization {
            Finalization::Commit { attempts, .. } => ("commit", Some(spec.id), attempts.values().max().copied()),
            Finalization::Abort { .. } => ("abort", Some(spec.id), None),
        },
        Directive::Release { job } => ("release", Some(*job), None),
        Directive::Checkpoint(command) => {
            let (job, number) = common(&command.attempts);
            let kind = match command.action {
                CheckpointAction::Trigger => "trigger checkpoint",
                CheckpointAction::NotifyComplete => "notify checkpoint",
                CheckpointAction::Abort => "abort checkpoint",
            };
            (kind, job, number)
        }
    }
}
