//! Checkpoints as tasks see them: triggers, snapshots, transactions that wait for their checkpoint, and restores.
//!
//! This is what the real sources and sinks have to do: a sink's transaction ends with its snapshot and is committed
//! when that checkpoint, or a later one, is known to be committed. An aborted checkpoint aborts no transaction. Only a
//! restore does: of those that the restored snapshot does not list.

use tidemill_model::checkpoint::{
    CheckpointAction, CheckpointCommand, CheckpointOutcome, CheckpointReport, RestoreFrom, SubtaskState,
};
use tidemill_model::execution::Failure;
use tidemill_model::id::{CheckpointId, ExecutionAttemptId};
use tidemill_model::mutant::{self, Mutant};
use tidemill_taskmanager::engine::{Event as AgentEvent, ExecutorId};

use super::executor::io_failure;
use super::fact::Fact;
use super::plan::Profile;
use super::storage::{Snapshot, Transaction};
use super::task::{At, Task, Work};
use super::world::World;
use crate::invariants::{Violation, restores};

/// Commits everything, whatever its number: what the last snapshot of a sink leaves behind.
const LAST: CheckpointId = CheckpointId(u64::MAX);

impl World {
    /// An executor is told something about a checkpoint.
    pub(crate) fn checkpoint_command(&mut self, place: usize, executor: ExecutorId, command: &CheckpointCommand) {
        for &attempt in &command.attempts {
            let Some(process) = self.places[place].executors.get_mut(&executor) else { return };
            let Some(mut task) = process.tasks.remove(&attempt.vertex) else { continue };
            if task.attempt == attempt {
                self.task_command((place, executor), &mut task, command);
            }
            if let Some(process) = self.places[place].executors.get_mut(&executor) {
                process.tasks.insert(attempt.vertex, task);
            }
        }
    }

    fn task_command(&mut self, at: At, task: &mut Task, command: &CheckpointCommand) {
        let checkpoint = command.checkpoint;
        match command.action {
            CheckpointAction::Trigger(_) => self.trigger(at, task, checkpoint),
            CheckpointAction::NotifyComplete => {
                self.notified(task, checkpoint);
                self.report(at, task.attempt, checkpoint, CheckpointOutcome::Notified);
            }
            CheckpointAction::Abort => self.aborted(task, checkpoint),
            // No simulated client wishes for it.
            CheckpointAction::Drain => {}
        }
    }

    fn report(
        &mut self,
        (place, executor): At,
        attempt: ExecutionAttemptId,
        checkpoint: CheckpointId,
        outcome: CheckpointOutcome,
    ) {
        let report = CheckpointReport { attempt, checkpoint, outcome };
        self.say(place, executor, AgentEvent::CheckpointReported { executor, report });
    }

    /// Sources take their snapshot at once; sinks when the barriers come.
    fn trigger(&mut self, at: At, task: &mut Task, checkpoint: CheckpointId) {
        let Work::Source { next, .. } = task.work else { return };
        let faulty = self.nemesis.active && self.plan.profile == Profile::Everything && self.random.chance(25);
        if !task.running || faulty {
            let reason = if task.running { "the storage is full" } else { "it does not run yet" };
            let outcome = CheckpointOutcome::Declined(reason.to_owned());
            return self.report(at, task.attempt, checkpoint, outcome);
        }
        self.inject(task, checkpoint);
        let state = self.snapshot(task, checkpoint, Snapshot::Source { next });
        self.report(at, task.attempt, checkpoint, CheckpointOutcome::Acknowledged(state));
    }

    /// Takes a sink's snapshot once the barrier has come on all its channels.
    pub(super) fn snapshot_if_aligned(&mut self, at: At, task: &mut Task) {
        let Work::Sink(sink) = &mut task.work else { return };
        let Some(checkpoint) = sink.aligned(&task.peers) else { return };
        sink.aligning = None;
        sink.aborted = checkpoint;
        sink.open.push((Transaction { sink: task.attempt, number: sink.current }, checkpoint));
        sink.current += 1;
        let snapshot = Snapshot::Sink { counts: sink.counts.clone(), open: sink.open.clone() };
        self.storage.begin(Transaction { sink: task.attempt, number: sink.current });
        let state = self.snapshot(task, checkpoint, snapshot);
        self.report(at, task.attempt, checkpoint, CheckpointOutcome::Acknowledged(state));
    }

    /// The last snapshot of a task that has finished: its part of every later checkpoint, the final one included.
    pub(super) fn last_snapshot(&mut self, task: &mut Task) -> SubtaskState {
        let snapshot = match &mut task.work {
            Work::Source { next, .. } => Snapshot::Source { next: *next },
            Work::Sink(sink) => {
                sink.open.push((Transaction { sink: task.attempt, number: sink.current }, LAST));
                Snapshot::Sink { counts: sink.counts.clone(), open: sink.open.clone() }
            }
        };
        self.snapshot(task, LAST, snapshot)
    }

    fn snapshot(&mut self, task: &mut Task, checkpoint: CheckpointId, snapshot: Snapshot) -> SubtaskState {
        let attempt = task.attempt;
        // Small state is in the metadata.
        let path = self.random.chance(600).then(|| format!("{checkpoint}/{}/{}", attempt.attempt, attempt.vertex));
        let state = self.storage.store(attempt.job, path, snapshot, task.base.clone());
        if let Some(own) = state.0.first() {
            task.written.push((checkpoint, own.clone()));
        }
        state
    }

    /// A checkpoint is committed: every transaction up to it becomes visible, and its files may be built on.
    fn notified(&mut self, task: &mut Task, checkpoint: CheckpointId) {
        // Never on an older one: its files are garbage once this is confirmed.
        if let Some((_, own)) = task.written.iter().find(|(id, _)| *id == checkpoint) {
            task.base = own.path().map(|_| own.clone()).into_iter().collect();
        }
        task.written.retain(|(id, _)| *id > checkpoint);
        if let Work::Sink(sink) = &mut task.work {
            let (ready, open) = sink.open.iter().partition(|(_, id)| *id <= checkpoint);
            sink.open = open;
            let ready: Vec<(Transaction, CheckpointId)> = ready;
            for (transaction, _) in ready {
                self.commit(transaction);
            }
        }
    }

    /// A checkpoint came to nothing. Its transaction stays: a later checkpoint commits it.
    fn aborted(&mut self, task: &mut Task, checkpoint: CheckpointId) {
        let Work::Sink(sink) = &mut task.work else { return };
        sink.aborted = sink.aborted.max(checkpoint);
        if sink.aligning.as_ref().is_some_and(|(aligned, _)| *aligned <= checkpoint) {
            sink.aligning = None;
        }
        if mutant::active(Mutant::SinkAbortsOnCheckpointAbort) {
            for (transaction, _) in sink.open.iter().filter(|(_, id)| *id == checkpoint) {
                self.storage.abort(*transaction);
            }
        }
    }

    pub(super) fn commit(&mut self, transaction: Transaction) {
        if let Some(records) = self.storage.commit(transaction) {
            self.note(&Fact::Committed { sink: transaction.sink, records: &records });
        }
    }

    /// Starts a task from its part of a checkpoint, or from nothing.
    ///
    /// # Errors
    ///
    /// Of an attempt that was replaced before its deployment came: files that only it needed may be gone.
    pub(super) fn restore(&mut self, task: &mut Task, from: Option<&RestoreFrom>) -> Result<(), Failure> {
        let attempt = task.attempt;
        let named = from.and_then(|from| Some((from.checkpoint, from.states.get(&attempt.vertex)?)));
        let mut loaded = match named {
            None => None,
            Some((checkpoint, state)) => match self.storage.load(attempt.job, state) {
                Ok(loaded) => loaded,
                Err(path) => {
                    let schedule = self.watch.truth().jobs.get(&attempt.job).and_then(|job| job.schedule.as_ref());
                    if schedule.is_some_and(|schedule| schedule.wants(&attempt)) {
                        let missing = restores::Violation::Missing { attempt, checkpoint, path: path.clone() };
                        self.watch.wrong(Violation::Restores(missing));
                    }
                    return Err(io_failure(&format!("{path} is not there")));
                }
            },
        };
        if mutant::active(Mutant::RestoresNewestDirectory) {
            loaded = self.storage.newest(attempt.job, attempt.vertex).or(loaded);
        }
        match (&mut task.work, loaded) {
            (Work::Source { next, .. }, Some(Snapshot::Source { next: restored })) => *next = restored,
            (Work::Sink(sink), Some(Snapshot::Sink { counts, open })) => {
                sink.counts = counts;
                let kept: Vec<Transaction> = open.iter().map(|(transaction, _)| *transaction).collect();
                self.storage.abort_all_but(attempt, &kept);
                // What a completed checkpoint lists is committed, whether or not anybody was told.
                kept.into_iter().for_each(|transaction| self.commit(transaction));
            }
            (Work::Sink(_), None) => self.storage.abort_all_but(attempt, &[]),
            (Work::Source { .. }, None) => {}
            (Work::Source { .. }, Some(Snapshot::Sink { .. })) | (Work::Sink(_), Some(Snapshot::Source { .. })) => {
                self.watch.wrong(Violation::Restores(restores::Violation::Foreign { attempt }));
            }
        }
        if let Work::Sink(sink) = &task.work {
            self.storage.begin(Transaction { sink: attempt, number: sink.current });
        }
        Ok(())
    }
}
