//! Checkpoints on their way through: what a leader wants of attempts here, and what they have acknowledged.

use tidemill_model::checkpoint::{CheckpointAction, CheckpointCommand, CheckpointOutcome, CheckpointReport};
use tidemill_model::id::{CheckpointId, ExecutionAttemptId};

use super::action::{Action, ExecutorCommand, Outbound};
use super::agent::Agent;
use super::directives::by_generation;
use super::generation::Generation;
use super::outbox::Outbox;

/// How many unconfirmed acknowledgements of one attempt are kept: more than a leader has checkpoints under way. One
/// that is dropped costs a new leader that checkpoint and nothing else.
const UNCONFIRMED_LIMIT: usize = 16;

impl Agent {
    /// Passed on to the executors that run these attempts; where none does, a trigger is declined, so that the leader
    /// need not wait for an answer that cannot come.
    pub(super) fn checkpoint(&mut self, command: &CheckpointCommand, outbox: &mut Outbox) {
        for (name, attempts) in by_generation(&command.attempts) {
            let part = |attempts| CheckpointCommand { attempts, ..command.clone() };
            let Some(generation) = self.generation(name) else {
                decline(&part(attempts), "no such attempt is here", outbox);
                continue;
            };
            generation.confirm(command.action, command.checkpoint, &attempts);
            let Some(executor) = generation.phase.ready() else {
                decline(&part(attempts), "its executor is not ready", outbox);
                continue;
            };
            // `no-zombie`: only what runs here under this very number is asked for a snapshot.
            let (live, ended): (Vec<_>, Vec<_>) = attempts
                .into_iter()
                .partition(|id| !matches!(command.action, CheckpointAction::Trigger(_)) || generation.runs(id));
            decline(&part(ended), "the attempt has ended", outbox);
            if !live.is_empty() {
                let command = ExecutorCommand::Checkpoint(part(live));
                outbox.push(Action::SendToExecutor { executor, command });
            }
        }
    }
}

fn decline(command: &CheckpointCommand, reason: &str, outbox: &mut Outbox) {
    for report in command.declined(reason) {
        outbox.tell(Outbound::Checkpoint(report));
    }
}

impl Generation {
    /// An executor says what became of a checkpoint at one of its attempts. An acknowledgement is kept until a leader
    /// says what became of the checkpoint: a new one must learn of it.
    pub(super) fn checkpoint_reported(&mut self, report: CheckpointReport, outbox: &mut Outbox) {
        let vertex = report.attempt.vertex;
        if report.attempt != self.id(vertex) {
            return;
        }
        if let CheckpointOutcome::Acknowledged(state) = &report.outcome {
            self.acknowledged.insert((vertex, report.checkpoint), state.clone());
            let own: Vec<_> = self.acknowledged.keys().filter(|(of, _)| *of == vertex).copied().collect();
            for oldest in own.iter().take(own.len().saturating_sub(UNCONFIRMED_LIMIT)) {
                self.acknowledged.remove(oldest);
            }
        }
        outbox.tell(Outbound::Checkpoint(report));
    }

    /// A leader knows of these acknowledgements: it has completed or aborted that checkpoint, or a later one.
    fn confirm(&mut self, action: CheckpointAction, checkpoint: CheckpointId, attempts: &[ExecutionAttemptId]) {
        match action {
            CheckpointAction::Trigger(_) | CheckpointAction::Drain => {}
            CheckpointAction::NotifyComplete | CheckpointAction::Abort => {
                let named = |vertex| attempts.iter().any(|id| id.vertex == vertex);
                self.acknowledged.retain(|(vertex, id), _| *id > checkpoint || !named(*vertex));
            }
        }
    }

    /// The acknowledgements that a new leader has to know of.
    pub(super) fn unconfirmed(&self) -> impl Iterator<Item = CheckpointReport> + '_ {
        self.acknowledged.iter().map(|(&(vertex, checkpoint), state)| CheckpointReport {
            attempt: self.id(vertex),
            checkpoint,
            outcome: CheckpointOutcome::Acknowledged(state.clone()),
        })
    }
}
