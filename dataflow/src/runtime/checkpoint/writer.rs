//! The thread that writes the snapshots of all sub-tasks of this process, while they go on.
//!
//! It hears of all that has come before it writes on: a snapshot that nobody waits for is not written.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tidemill_failpoint::FailPoint;
use tidemill_model::checkpoint::{CheckpointKind, CheckpointOutcome, CheckpointReport, SubtaskState};
use tidemill_model::id::{CheckpointId, ExecutionAttemptId};

use super::file::CheckpointFile;
use super::local::LocalCopies;
use super::subtask::{self, Base, Occasion};
use super::{Checkpointing, Error, StatePart, waiting_runtime};
use crate::engine::awaited::Awaited;
use crate::runtime::executor::ExecutorEvent;
use crate::runtime::spawn::{TaskKind, spawn};

/// How many messages may wait to be heard, and as many to be obeyed: some for each sub-task of a large process, whose
/// frozen states they hold.
const MESSAGES: usize = 1024;

/// By how much the thread is nicer than tasks.
const NICER: i32 = 5;

/// What the writer is told.
pub(crate) enum Message {
    /// These attempts of this process take part in a checkpoint.
    Trigger { checkpoint: CheckpointId, kind: CheckpointKind, attempts: Vec<ExecutionAttemptId> },
    /// An attempt's state at a checkpoint's barrier.
    Snapshot { attempt: ExecutionAttemptId, checkpoint: CheckpointId, parts: Vec<StatePart> },
    /// What an attempt leaves at the end of its input; it adds nothing more to any checkpoint.
    Last { attempt: ExecutionAttemptId, parts: Vec<StatePart>, reply: Sender<Result<SubtaskState, Error>> },
    /// An attempt has ended otherwise.
    Ended(ExecutionAttemptId),
    /// A checkpoint is committed: later ones may build on it, and on none before it.
    Completed(CheckpointId),
    /// A checkpoint came to nothing.
    Aborted(CheckpointId),
}

/// Sends to the writer's thread, which ends with the last sender.
#[derive(Clone)]
pub(crate) struct SnapshotWriter {
    messages: Sender<Message>,
}

impl SnapshotWriter {
    /// Starts the thread. `process` tells this process from every other one that takes part in the job's checkpoints.
    ///
    /// # Errors
    /// There is no thread left, or the like.
    pub(crate) fn start(
        checkpointing: Checkpointing,
        process: String,
        events: Sender<ExecutorEvent>,
    ) -> Result<Self, Error> {
        let (sender, messages) = bounded(MESSAGES);
        let runtime = waiting_runtime()?;
        let writer = Writer::new(checkpointing, process, events);
        spawn(TaskKind::Control, "snapshot writer", move || runtime.block_on(writer.run(&messages)))
            .map_err(Error::Start)?;
        Ok(Self { messages: sender })
    }

    /// Tells the writer something, if there is room.
    ///
    /// # Errors
    /// The writer is far behind: the message comes back.
    pub(crate) fn tell(&self, message: Message) -> Result<(), Message> {
        match self.messages.try_send(message) {
            // Disconnected: the process is being torn down.
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
            Err(TrySendError::Full(message)) => Err(message),
        }
    }

    /// Tells the writer something, and waits for room; the caller is no task.
    pub(crate) fn tell_waiting(&self, message: Message) {
        // Disconnected: the process is being torn down.
        let _ = self.messages.send(message);
    }
}

/// A checkpoint that is being written.
struct Pending {
    file: CheckpointFile,
    /// What is wanted, and who takes part here; unknown until the trigger has come, which a barrier from another process
    /// may overtake.
    wanted: Option<(CheckpointKind, BTreeSet<ExecutionAttemptId>)>,
    /// Snapshots that came before the trigger: its kind says how they are written.
    early: Vec<(ExecutionAttemptId, Vec<StatePart>)>,
    /// What was written and is not acknowledged.
    states: BTreeMap<ExecutionAttemptId, SubtaskState>,
    acknowledged: BTreeSet<ExecutionAttemptId>,
}

struct Writer {
    checkpointing: Checkpointing,
    copies: LocalCopies,
    process: String,
    events: Sender<ExecutorEvent>,
    /// Those that were heard of.
    awaited: Awaited,
    pending: BTreeMap<CheckpointId, Pending>,
    /// The newest that is committed; older ones are done with.
    completed: CheckpointId,
    /// Newer ones that are done with: a snapshot of them may still come.
    closed: BTreeSet<CheckpointId>,
    /// Attempts that add nothing more.
    ended: BTreeSet<ExecutionAttemptId>,
    /// For each attempt, what its next snapshot may build on. Invariant: of the newest checkpoint that the attempt was
    /// told is committed, since the files of older ones are deleted.
    bases: BTreeMap<ExecutionAttemptId, Base>,
    /// What each attempt wrote for checkpoints that are not known to be committed.
    written: BTreeMap<CheckpointId, BTreeMap<ExecutionAttemptId, Base>>,
}

/// Nobody waits for a snapshot, and everybody for the tasks: this thread takes what they leave of the processor.
fn yield_to_tasks() {
    let thread = rustix::thread::gettid();
    let lowered = rustix::process::getpriority_process(Some(thread))
        .and_then(|priority| rustix::process::setpriority_process(Some(thread), priority + NICER));
    if let Err(error) = lowered {
        tracing::debug!(%error, "the writer of snapshots keeps the priority of tasks");
    }
}

impl Writer {
    fn new(checkpointing: Checkpointing, process: String, events: Sender<ExecutorEvent>) -> Self {
        Self {
            copies: LocalCopies::new(checkpointing.storage.local_copy().cloned(), process.clone()),
            awaited: Awaited::new(checkpointing.settings.concurrent_max),
            checkpointing,
            process,
            events,
            pending: BTreeMap::new(),
            completed: CheckpointId(0),
            closed: BTreeSet::new(),
            ended: BTreeSet::new(),
            bases: BTreeMap::new(),
            written: BTreeMap::new(),
        }
    }

    async fn run(mut self, messages: &Receiver<Message>) {
        yield_to_tasks();
        // In their order, and each of them heard once.
        let mut heard = VecDeque::new();
        loop {
            let first = if heard.is_empty() { messages.recv().ok() } else { None };
            let room = MESSAGES.saturating_sub(heard.len());
            for message in first.into_iter().chain(messages.try_iter().take(room)) {
                self.hear(&message);
                heard.push_back(message);
            }
            match heard.pop_front() {
                Some(message) => self.obey(message).await,
                None => return,
            }
        }
    }

    /// Takes note of what a message says of checkpoints as a whole, before those that came earlier are obeyed.
    fn hear(&mut self, message: &Message) {
        match message {
            Message::Trigger { checkpoint, .. } => {
                for superseded in self.awaited.triggered(*checkpoint) {
                    // One that was acknowledged may be committed yet, and built on then.
                    if superseded > self.completed && !self.closed.contains(&superseded) {
                        self.give_up(superseded);
                    }
                }
            }
            Message::Aborted(checkpoint) => {
                self.awaited.aborted(*checkpoint);
                self.give_up(*checkpoint);
            }
            Message::Completed(checkpoint) => self.awaited.completed(*checkpoint),
            Message::Snapshot { .. } | Message::Last { .. } | Message::Ended(_) => {}
        }
    }

    fn give_up(&mut self, checkpoint: CheckpointId) {
        self.pending.remove(&checkpoint);
        self.written.remove(&checkpoint);
        self.closed.insert(checkpoint);
        self.copies.aborted(checkpoint);
    }

    async fn obey(&mut self, message: Message) {
        match message {
            Message::Trigger { checkpoint, kind, attempts } => self.trigger(checkpoint, kind, attempts).await,
            Message::Snapshot { attempt, checkpoint, parts } => {
                let Some(pending) = self.pending(checkpoint) else { return };
                match pending.wanted {
                    Some((kind, _)) => self.snapshot(attempt, (checkpoint, kind), &parts).await,
                    None => pending.early.push((attempt, parts)),
                }
            }
            Message::Last { attempt, parts, reply } => {
                self.acknowledge_first(attempt).await;
                let state = self.last(attempt, &parts).await;
                self.leave(attempt).await;
                // Nobody waits any more: the task was dropped.
                let _ = reply.send(state);
            }
            Message::Ended(attempt) => self.leave(attempt).await,
            Message::Completed(checkpoint) => {
                if let Some(written) = self.written.remove(&checkpoint) {
                    self.bases.extend(written);
                }
                self.written.retain(|id, _| *id > checkpoint);
                self.pending.retain(|id, _| *id > checkpoint);
                self.closed.retain(|id| *id > checkpoint);
                self.completed = self.completed.max(checkpoint);
                self.copies.completed(self.completed);
            }
            Message::Aborted(checkpoint) => self.give_up(checkpoint),
        }
    }

    /// A checkpoint that snapshots may be added to.
    fn pending(&mut self, checkpoint: CheckpointId) -> Option<&mut Pending> {
        if checkpoint <= self.completed || self.closed.contains(&checkpoint) {
            return None;
        }
        let (storage, process) = (&self.checkpointing.storage, &self.process);
        Some(self.pending.entry(checkpoint).or_insert_with(|| Pending {
            file: CheckpointFile::new(storage.clone(), checkpoint, process),
            wanted: None,
            early: Vec::new(),
            states: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
        }))
    }

    async fn trigger(&mut self, checkpoint: CheckpointId, kind: CheckpointKind, attempts: Vec<ExecutionAttemptId>) {
        let Some(pending) = self.pending(checkpoint) else { return };
        pending.wanted.get_or_insert_with(|| (kind, BTreeSet::new())).1.extend(attempts);
        for (attempt, parts) in std::mem::take(&mut pending.early) {
            self.snapshot(attempt, (checkpoint, kind), &parts).await;
        }
        self.finish_if_whole(checkpoint).await;
    }

    async fn snapshot(
        &mut self,
        attempt: ExecutionAttemptId,
        (checkpoint, kind): (CheckpointId, CheckpointKind),
        parts: &[StatePart],
    ) {
        let base = self.bases.get(&attempt).cloned();
        let Some(pending) = self.pending(checkpoint) else { return };
        match subtask::write(attempt.vertex, parts, Occasion::Barrier(kind), base.as_ref(), &mut pending.file).await {
            Ok((state, base)) => {
                pending.states.insert(attempt, state);
                self.written.entry(checkpoint).or_default().insert(attempt, base);
                self.finish_if_whole(checkpoint).await;
            }
            Err(error) => self.decline(checkpoint, attempt, &error),
        }
    }

    /// Before an attempt is known to have finished, everything that it left for checkpoints is acknowledged: the leader
    /// would take what it leaves in the end for its state at their barriers, and records between would be lost.
    async fn acknowledge_first(&mut self, attempt: ExecutionAttemptId) {
        for checkpoint in self.pending.keys().copied().collect::<Vec<_>>() {
            self.write_early(attempt, checkpoint).await;
            let with_it = |pending: &&mut Pending| pending.states.contains_key(&attempt);
            let Some(pending) = self.pending.get_mut(&checkpoint).filter(with_it) else { continue };
            let next = pending.file.next();
            let file = std::mem::replace(&mut pending.file, next);
            let states = std::mem::take(&mut pending.states);
            pending.acknowledged.extend(states.keys().copied());
            self.close(checkpoint, file, states).await;
        }
    }

    /// Writes what an attempt left for a checkpoint that this process has not heard of, in the form that suits any kind.
    async fn write_early(&mut self, attempt: ExecutionAttemptId, checkpoint: CheckpointId) {
        let Some(pending) = self.pending.get_mut(&checkpoint) else { return };
        let Some(index) = pending.early.iter().position(|(other, _)| *other == attempt) else { return };
        let (_, parts) = pending.early.remove(index);
        self.snapshot(attempt, (checkpoint, CheckpointKind::Savepoint), &parts).await;
    }

    /// The last snapshot of an attempt has a file of its own: no checkpoint may wait for its end.
    async fn last(&self, attempt: ExecutionAttemptId, parts: &[StatePart]) -> Result<SubtaskState, Error> {
        let name = format!("{}-{}-{}", self.process, attempt.vertex.vertex, attempt.vertex.subtask);
        let mut file = CheckpointFile::last(self.checkpointing.storage.clone(), &name);
        let (state, _) = subtask::write(attempt.vertex, parts, Occasion::End, None, &mut file).await?;
        file.finish().await?;
        Ok(state)
    }

    /// An attempt adds nothing more: nobody waits for it.
    async fn leave(&mut self, attempt: ExecutionAttemptId) {
        self.ended.insert(attempt);
        self.bases.remove(&attempt);
        for checkpoint in self.pending.keys().copied().collect::<Vec<_>>() {
            self.finish_if_whole(checkpoint).await;
        }
    }

    /// Closes the file when all who take part here have added theirs, and tells the leader: what is acknowledged is
    /// durable.
    async fn finish_if_whole(&mut self, checkpoint: CheckpointId) {
        let Some(Pending { wanted: Some((_, expected)), states, acknowledged, .. }) = self.pending.get(&checkpoint)
        else {
            return;
        };
        let done = |attempt: &ExecutionAttemptId| {
            states.contains_key(attempt) || acknowledged.contains(attempt) || self.ended.contains(attempt)
        };
        if !expected.iter().all(done) {
            return;
        }
        let Some(Pending { file, states, .. }) = self.pending.remove(&checkpoint) else { return };
        self.closed.insert(checkpoint);
        self.close(checkpoint, file, states).await;
    }

    async fn close(
        &mut self,
        checkpoint: CheckpointId,
        file: CheckpointFile,
        states: BTreeMap<ExecutionAttemptId, SubtaskState>,
    ) {
        let finished = file.finish().await;
        FailPoint::CheckpointAck.hit();
        match finished {
            Ok(()) => {
                for (attempt, state) in states {
                    self.copies.acknowledged(checkpoint, &state);
                    self.report(attempt, checkpoint, CheckpointOutcome::Acknowledged(state));
                }
            }
            Err(error) => states.keys().for_each(|attempt| self.report_declined(checkpoint, *attempt, &error)),
        }
    }

    /// A snapshot could not be written: one attempt says so, and the leader gives the checkpoint up.
    fn decline(&mut self, checkpoint: CheckpointId, attempt: ExecutionAttemptId, error: &Error) {
        self.pending.remove(&checkpoint);
        self.written.remove(&checkpoint);
        self.closed.insert(checkpoint);
        self.report_declined(checkpoint, attempt, error);
    }

    fn report_declined(&self, checkpoint: CheckpointId, attempt: ExecutionAttemptId, error: &Error) {
        self.report(attempt, checkpoint, CheckpointOutcome::Declined(error.to_string()));
    }

    fn report(&self, attempt: ExecutionAttemptId, checkpoint: CheckpointId, outcome: CheckpointOutcome) {
        // Nobody listens any more: the executor is being dropped.
        let _ = self.events.send(ExecutorEvent::Checkpoint(CheckpointReport { attempt, checkpoint, outcome }));
    }
}

#[cfg(test)]
mod tests;
