//! The checkpoints of an executor's tasks: who is told what, and who declines.

use std::collections::BTreeSet;

use tidemill_failpoint::FailPoint;
use tidemill_model::checkpoint::{CheckpointAction, CheckpointCommand, CheckpointOutcome, CheckpointReport};
use tidemill_model::execution::{Failure, JobDeployment};
use tidemill_model::id::{AttemptNumber, ExecutionAttemptId};
use tidemill_model::job_graph::JobVertex;

use super::{Executor, ExecutorEvent, checkpoint_failure};
use crate::runtime::checkpoint::{Earlier, EarlierState, Message, SavepointSource, SnapshotWriter, TaskCheckpoints};
use crate::runtime::task::RestoreSource;

impl Executor {
    /// What an attempt that is being deployed starts from: the job's checkpoint, while it has none the savepoint that it
    /// was submitted with, or nothing.
    pub(super) fn restore_source(
        &mut self,
        attempt: ExecutionAttemptId,
        vertex: &JobVertex,
        deployment: &JobDeployment,
    ) -> Result<Option<RestoreSource>, Failure> {
        if let Some(restore) = &deployment.restore {
            let Some(checkpointing) = self.checkpointing.as_ref().map_err(Failure::clone)? else { return Ok(None) };
            let Some(state) = restore.states.get(&attempt.vertex).cloned() else { return Ok(None) };
            let states = vec![EarlierState { subtask: attempt.vertex.subtask.0, state }];
            let earlier = Earlier { states, parallelism: vertex.parallelism };
            return Ok(Some(RestoreSource { earlier, storage: checkpointing.storage.clone() }));
        }
        let Some(restore) = &self.savepoint else { return Ok(None) };
        let source = match &self.savepoint_source {
            Some(source) => source,
            None => {
                let opened = SavepointSource::open(restore).map_err(|error| checkpoint_failure(&error))?;
                self.savepoint_source.insert(opened)
            }
        };
        let earlier = source.of(vertex).map_err(|error| checkpoint_failure(&error))?;
        Ok(Some(RestoreSource { earlier, storage: source.storage.clone() }))
    }

    /// The checkpoints of a sub-task that is being started.
    pub(super) fn checkpoints(&mut self, attempt: AttemptNumber) -> Result<Option<TaskCheckpoints>, Failure> {
        let Some(checkpointing) = self.checkpointing.as_ref().map_err(Failure::clone)? else { return Ok(None) };
        let writer = match self.writers.get(&attempt) {
            Some(writer) => writer.clone(),
            None => {
                let process = format!("{}-{attempt}", self.task_manager);
                let started = SnapshotWriter::start(checkpointing.clone(), process, self.events.clone());
                let writer = started.map_err(|error| checkpoint_failure(&error))?;
                self.writers.insert(attempt, writer.clone());
                writer
            }
        };
        let (checkpointing, events) = (checkpointing.clone(), self.events.clone());
        Ok(Some(TaskCheckpoints { checkpointing, writer, events }))
    }

    /// Has attempts take a snapshot, or tells them what became of it.
    pub fn checkpoint(&mut self, command: &CheckpointCommand) {
        let checkpoint = command.checkpoint;
        if command.action == CheckpointAction::NotifyComplete {
            FailPoint::CheckpointNotify.hit();
        }
        let message = || match command.action {
            CheckpointAction::Trigger(kind) => {
                Some(Message::Trigger { checkpoint, kind, attempts: command.attempts.clone() })
            }
            CheckpointAction::NotifyComplete => Some(Message::Completed(checkpoint)),
            CheckpointAction::Abort => Some(Message::Aborted(checkpoint)),
            CheckpointAction::Drain => None,
        };
        let numbers: BTreeSet<AttemptNumber> = command.attempts.iter().map(|attempt| attempt.attempt).collect();
        // First the writer: what a task does after it was told must not be built on what was committed before.
        for writer in numbers.iter().filter_map(|number| self.writers.get(number)) {
            message().into_iter().for_each(|message| writer.tell_waiting(message));
        }
        let takes_part = command.action == CheckpointAction::Drain || matches!(self.checkpointing, Ok(Some(_)));
        for attempt in &command.attempts {
            let Some(task) = self.tasks.get(attempt).filter(|_| takes_part) else {
                self.decline(command, *attempt, "the attempt does not run here, or takes no checkpoints");
                continue;
            };
            match command.action {
                CheckpointAction::Trigger(kind) => task.notices.trigger(checkpoint, kind),
                CheckpointAction::NotifyComplete => task.notices.complete(checkpoint),
                CheckpointAction::Abort => task.notices.abort(checkpoint),
                CheckpointAction::Drain => task.notices.drain(),
            }
            task.waker.wake();
        }
    }

    fn decline(&self, command: &CheckpointCommand, attempt: ExecutionAttemptId, reason: &str) {
        if matches!(command.action, CheckpointAction::Trigger(_)) {
            let (checkpoint, outcome) = (command.checkpoint, CheckpointOutcome::Declined(reason.to_owned()));
            // Nobody listens any more: the executor is being dropped.
            let _ = self.events.send(ExecutorEvent::Checkpoint(CheckpointReport { attempt, checkpoint, outcome }));
        }
    }
}
