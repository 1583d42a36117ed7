//! Writes down what this task manager obeys and refuses, and which sub-tasks have a thread here.

use std::collections::BTreeSet;

use tidemill_event_log::{EventLog, state_sha};
use tidemill_model::checkpoint::{CheckpointAction, CheckpointOutcome, CheckpointReport};
use tidemill_model::event::{Event as Written, EventCall};
use tidemill_model::execution::{ExecutionState, Finalization, TerminalState};
use tidemill_model::id::{
    AttemptNumber, CheckpointId, ExecutionAttemptId, JobId, JobVertexId, LeaderEpoch, TaskManagerId,
};
use tidemill_model::job_graph::JobVertex;

use crate::engine::{Action, Agent, Directive, Event, FinalizationOutcome};

/// Sees each event of the agent before and after it.
pub(crate) struct Witness {
    events: EventLog,
    task_manager: TaskManagerId,
    /// Invariant: exactly the attempts whose start was written and whose end was not.
    running: BTreeSet<ExecutionAttemptId>,
    /// The jobs whose published output was written down.
    published: BTreeSet<JobId>,
    /// The vertices at the ends of the flows of the jobs here.
    sinks: BTreeSet<(JobId, JobVertexId)>,
}

/// An event that may be worth a line, before the agent has seen it.
pub(crate) enum Seen {
    Welcome(EventCall),
    Directive(EventCall, Vec<Written>),
    Checkpoint(CheckpointReport),
    /// Something that may start or end attempts.
    Other,
}

impl Witness {
    pub(crate) fn new(events: EventLog, task_manager: TaskManagerId) -> Self {
        Self { events, task_manager, running: BTreeSet::new(), published: BTreeSet::new(), sinks: BTreeSet::new() }
    }

    /// What an event is, for [`after`](Self::after); none when nothing is to be written of it.
    pub(crate) fn before(&mut self, event: &Event) -> Option<Seen> {
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
                self.learn(directive);
                Some(Seen::Directive(call, restores(directive)))
            }
            Event::CheckpointReported { report, .. } => Some(Seen::Checkpoint(report.clone())),
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
            Seen::Directive(call, restores) => {
                if self.judge(call, actions, agent.fence()) {
                    restores.into_iter().for_each(|restore| self.events.write(|| restore));
                }
            }
            Seen::Checkpoint(report) => self.checkpoint(report),
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

    /// Which vertices of a job end its flow.
    fn learn(&mut self, directive: &Directive) {
        match directive {
            Directive::Deploy { spec, .. } => {
                let graph = &spec.graph;
                let ends = |vertex: &&JobVertex| graph.edges.iter().all(|edge| edge.source != vertex.id);
                let ends = graph.vertices.iter().filter(ends);
                self.sinks.extend(ends.map(|vertex| (spec.id, vertex.id)));
            }
            Directive::Release { job } => self.sinks.retain(|(of, _)| of != job),
            Directive::Cancel { .. }
            | Directive::Acknowledge { .. }
            | Directive::Finalize { .. }
            | Directive::Checkpoint(_) => {}
        }
    }

    fn checkpoint(&self, report: CheckpointReport) {
        let CheckpointReport { attempt, checkpoint: CheckpointId(id), outcome } = report;
        match outcome {
            CheckpointOutcome::Acknowledged(state) => self.events.write(|| {
                let state_sha = Some(state_sha(&state));
                Written::CkptAck { attempt: attempt.into(), id, state_sha }
            }),
            CheckpointOutcome::Notified => {
                if self.sinks.contains(&(attempt.job, attempt.vertex.vertex)) {
                    let (job, subtask) = (attempt.job, Some(attempt.vertex.subtask));
                    self.events.write(|| Written::SinkCommit { job, subtask, ckpt: Some(id), files: Vec::new() });
                }
            }
            CheckpointOutcome::Declined(_) => {}
        }
    }

    /// Whether the task manager does what it was told.
    fn judge(&self, mut call: EventCall, actions: &[Action], fence: LeaderEpoch) -> bool {
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
        refusal.is_none()
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

/// What attempts that are to be deployed start from.
fn restores(directive: &Directive) -> Vec<Written> {
    let Directive::Deploy { deployment, .. } = directive else { return Vec::new() };
    let Some(restore) = &deployment.restore else { return Vec::new() };
    let of = |attempt: &ExecutionAttemptId| {
        let state_sha = restore.states.get(&attempt.vertex).map(state_sha);
        Written::Restore { attempt: (*attempt).into(), ckpt: restore.checkpoint.0, state_sha }
    };
    deployment.start.iter().map(of).collect()
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
                CheckpointAction::Trigger(_) => "trigger checkpoint",
                CheckpointAction::NotifyComplete => "notify checkpoint",
                CheckpointAction::Abort => "abort checkpoint",
                CheckpointAction::Drain => "drain",
            };
            (kind, job, number)
        }
    }
}
