//! What a sub-task keeps in checkpoints and starts from, and what it is told of them.

use std::cell::{Cell, RefCell};

use crossbeam_channel::bounded;
use tidemill_failpoint::FailPoint;
use tidemill_model::checkpoint::{CheckpointOutcome, CheckpointReport, CheckpointingMode, SubtaskState};
use tidemill_model::execution::Failure;
use tidemill_model::id::CheckpointId;
use tidemill_storage::JobStorage;

use super::TaskContext;
use crate::engine::snapshot::StateId;
use crate::flow::OperatorIndex;
use crate::record::{Data, Timestamp};
use crate::runtime::checkpoint::{
    Content, Earlier, Error, Message, Notices, Restored, StateName, StatePart, TaskCheckpoints,
};
use crate::state::{Frozen, FrozenState, KeptValue, Section};

/// By what an operator's state is found again: its uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OperatorUid(String);

impl OperatorUid {
    pub(crate) fn state(&self, name: &str) -> StateId {
        StateId { operator: self.0.clone(), name: name.to_owned() }
    }
}

/// What a sub-task starts from, and where its files are.
pub(crate) struct RestoreSource {
    pub(crate) earlier: Earlier,
    pub(crate) storage: JobStorage,
}

/// How far a sub-task is with the checkpoints that it has been told of.
#[derive(Default)]
pub(super) struct Progress {
    /// Whether there may be something new.
    looked_for: Cell<bool>,
    /// The newest whose barrier went through the chain.
    passed: Cell<u64>,
    /// The newest whose completion was acted upon.
    confirmed: Cell<u64>,
    /// Whether the sub-task had finished before the checkpoint that it starts from.
    had_finished: Cell<bool>,
    /// What operators have left since the last barrier.
    parts: RefCell<Vec<StatePart>>,
}

impl Progress {
    /// There may be something new.
    pub(super) fn look(&self) {
        self.looked_for.set(true);
    }
}

impl TaskContext {
    fn checkpoints(&self) -> Option<&TaskCheckpoints> {
        self.inner.environment.checkpoints.as_ref()
    }

    fn notices(&self) -> &Notices {
        &self.inner.environment.notices
    }

    /// Whether sources are to end as if they had no more input.
    pub(crate) fn is_draining(&self) -> bool {
        self.notices().draining()
    }

    /// Whether operators are to leave their state at barriers.
    pub(crate) fn takes_checkpoints(&self) -> bool {
        self.checkpoints().is_some()
    }

    /// How often records are reflected in state; marks of tests are aligned, too.
    pub(crate) fn checkpointing_mode(&self) -> CheckpointingMode {
        self.checkpoints().map_or(CheckpointingMode::ExactlyOnce, |checkpoints| checkpoints.checkpointing.settings.mode)
    }

    /// The uid of an operator.
    pub(crate) fn operator_uid(&self, operator: OperatorIndex) -> OperatorUid {
        OperatorUid(self.flow().operator_uid(operator).to_owned())
    }

    /// The uid of the operator that begins this sub-task's chain.
    pub(crate) fn first_uid(&self) -> OperatorUid {
        let vertex = self.flow().graph().vertex(self.attempt().vertex.vertex);
        let first = vertex.and_then(|vertex| vertex.operators.first());
        OperatorUid(first.map(|operator| operator.uid.clone()).unwrap_or_default())
    }

    /// Whether there may be news of checkpoints; asks once.
    #[inline]
    pub(crate) fn has_checkpoint_news(&self) -> bool {
        self.inner.checkpoints.looked_for.replace(false)
    }

    /// A checkpoint whose barrier this task, which begins the flow, is to send now.
    pub(crate) fn wanted_trigger(&self) -> Option<u64> {
        let wanted = self.notices().wanted();
        (wanted > self.inner.checkpoints.passed.get()).then_some(wanted)
    }

    /// Whether snapshots may overtake barriers.
    pub(crate) fn takes_unaligned_checkpoints(&self) -> bool {
        self.checkpoints().is_some_and(|checkpoints| checkpoints.checkpointing.settings.unaligned_after.is_some())
    }

    /// A checkpoint that has not gone through this task's chain yet, and when its snapshot is to overtake barriers that
    /// are missing then.
    pub(crate) fn wanted_overtaking(&self) -> Option<(u64, Timestamp)> {
        let after = self.checkpoints()?.checkpointing.settings.unaligned_after?;
        let after = Timestamp::try_from(after.as_millis()).unwrap_or(Timestamp::MAX);
        // What is in flight belongs to channels, and another job may have others: savepoints have none.
        let wanted = self.wanted_trigger().filter(|wanted| !self.notices().is_savepoint(*wanted))?;
        Some((wanted, self.processing_time().saturating_add(after)))
    }

    /// The newest checkpoint that was completed since this was last asked: sinks are to commit.
    pub(crate) fn take_completed(&self) -> Option<u64> {
        let completed = self.notices().completed();
        (completed > self.inner.checkpoints.confirmed.replace(completed)).then_some(completed)
    }

    /// The newest checkpoint that came to nothing; 0: none.
    pub(crate) fn aborted(&self) -> u64 {
        self.notices().aborted()
    }

    /// Every operator of the chain has acted upon the completion.
    pub(crate) fn confirm(&self, checkpoint: u64) {
        if let Some(checkpoints) = self.checkpoints() {
            checkpoints.report(CheckpointReport {
                attempt: self.attempt(),
                checkpoint: CheckpointId(checkpoint),
                outcome: CheckpointOutcome::Notified,
            });
        }
    }

    /// Leaves a state by key for the snapshot of the barrier that is passing.
    pub(crate) fn keep_keyed(&self, id: StateId, types: &[&str], frozen: Box<dyn FrozenState>) {
        self.keep(StatePart { id, types: owned(types), content: Content::Keyed(frozen) });
    }

    /// Leaves a value of the whole sub-task for the snapshot of the barrier that is passing, or for its last one.
    pub(crate) fn keep_value<T: Data>(&self, id: StateId, value: T) {
        let content = Content::Value(Box::new(Frozen(value)));
        self.keep(StatePart { id, types: owned(&[std::any::type_name::<T>()]), content });
    }

    fn keep(&self, part: StatePart) {
        if self.takes_checkpoints() {
            self.inner.checkpoints.parts.borrow_mut().push(part);
        }
    }

    /// The barrier went through the whole chain: what the operators left is written beside the task.
    pub(crate) fn barrier_passed(&self, checkpoint: u64) {
        let parts = self.begin_snapshot(checkpoint);
        self.leave_snapshot(checkpoint, parts);
    }

    /// The barrier went through the whole chain: what the operators left, for [`leave_snapshot`](Self::leave_snapshot).
    pub(crate) fn begin_snapshot(&self, checkpoint: u64) -> Vec<StatePart> {
        self.inner.checkpoints.passed.set(checkpoint);
        self.set_store_aside();
        self.inner.checkpoints.parts.take()
    }

    /// Has a snapshot written beside the task.
    pub(crate) fn leave_snapshot(&self, checkpoint: u64, parts: Vec<StatePart>) {
        let Some(checkpoints) = self.checkpoints() else { return };
        let message = Message::Snapshot { attempt: self.attempt(), checkpoint: CheckpointId(checkpoint), parts };
        if checkpoints.writer.tell(message).is_err() {
            self.decline(checkpoint, "the writer of snapshots is far behind; take checkpoints less often".to_owned());
        }
    }

    /// There is no snapshot for this checkpoint.
    pub(crate) fn decline(&self, checkpoint: u64, reason: String) {
        if let Some(checkpoints) = self.checkpoints() {
            checkpoints.report(CheckpointReport {
                attempt: self.attempt(),
                checkpoint: CheckpointId(checkpoint),
                outcome: CheckpointOutcome::Declined(reason),
            });
        }
    }

    /// What the operators left at the end of input, durable: it is the sub-task's part of every later checkpoint.
    pub(crate) fn last_snapshot(&self) -> Result<SubtaskState, Failure> {
        let Some(checkpoints) = self.checkpoints() else { return Ok(SubtaskState::default()) };
        let (reply, answer) = bounded(1);
        let (attempt, parts) = (self.attempt(), self.inner.checkpoints.parts.take());
        checkpoints.writer.tell_waiting(Message::Last { attempt, parts, reply });
        let state = answer.recv().map_err(|_| Error::Start(std::io::ErrorKind::BrokenPipe.into())).flatten();
        state.map_err(|error| self.failure(error.kind(), None, format!("leave the last snapshot: {error}")))
    }

    /// The sub-task has ended otherwise than by finishing.
    pub(crate) fn leave_checkpoints(&self) {
        if let Some(checkpoints) = self.checkpoints() {
            checkpoints.writer.tell_waiting(Message::Ended(self.attempt()));
        }
    }

    /// Opens what the sub-task starts from.
    pub(crate) fn begin_restore(&self, from: RestoreSource) -> Result<(), Failure> {
        let RestoreSource { earlier, storage } = from;
        FailPoint::RestorePre.hit();
        let place = (self.subtask().0, self.parallelism());
        let restored = Restored::open(earlier, &storage, place).map_err(|error| self.restore_failure(&error))?;
        self.check_in_flight(&restored).map_err(|error| self.restore_failure(&error))?;
        self.inner.checkpoints.had_finished.set(restored.finished());
        *self.inner.restored.borrow_mut() = Some(restored);
        Ok(())
    }

    /// How many sub-tasks left what this one starts from, if not as many as there are now.
    pub(crate) fn other_parallelism(&self) -> Option<u32> {
        self.inner.restored.borrow().as_ref().and_then(Restored::other_parallelism)
    }

    /// Every operator has what it wanted of it.
    pub(crate) fn end_restore(&self) {
        self.inner.restored.take();
    }

    /// Whether the sub-task had come to the end of its input in the checkpoint that it starts from.
    pub(crate) fn had_finished(&self) -> bool {
        self.inner.checkpoints.had_finished.get()
    }

    /// Shows each section of a keyed state in this sub-task's key groups, of what it starts from, to what takes it in.
    pub(crate) fn restore_keyed(
        &self,
        id: &StateId,
        types: &[&str],
        mut take: impl FnMut(&Section) -> Result<(), crate::record::Error>,
    ) -> Result<(), Failure> {
        let restored = self.inner.restored.borrow();
        let Some(restored) = restored.as_ref() else { return Ok(()) };
        let place = (&self.key_groups(), self.max_parallelism());
        restored.sections(id, types, place, &mut take).map_err(|error| self.restore_failure(&error))
    }

    /// The values of a state of the whole sub-task, one from each sub-task whose work this one goes on with.
    pub(crate) fn restored_values<T: Data>(&self, id: &StateId) -> Result<Vec<T>, Failure> {
        self.decode_all(id, &self.kept_values::<T>(id)?)
    }

    /// The values that all earlier sub-tasks had, for each of those that there are now.
    pub(crate) fn everybodys_values<T: Data>(&self, id: &StateId) -> Result<Vec<T>, Failure> {
        let restored = self.inner.restored.borrow();
        let Some(restored) = restored.as_ref() else { return Ok(Vec::new()) };
        let values = restored.everybodys_values(id, &[std::any::type_name::<T>()]);
        self.decode_all(id, &values.map_err(|error| self.restore_failure(&error))?)
    }

    fn decode_all<T: Data>(&self, id: &StateId, values: &[KeptValue]) -> Result<Vec<T>, Failure> {
        let types = [std::any::type_name::<T>()];
        values.iter().map(|value| value.decode().map_err(|source| self.unreadable(id, &types, source))).collect()
    }

    /// What was kept of whole sub-tasks that is this one's now, still encoded.
    pub(super) fn kept_values<T>(&self, id: &StateId) -> Result<Vec<KeptValue>, Failure> {
        let restored = self.inner.restored.borrow();
        let Some(restored) = restored.as_ref() else { return Ok(Vec::new()) };
        restored.values(id, &[std::any::type_name::<T>()]).map_err(|error| self.restore_failure(&error))
    }

    #[cold]
    pub(super) fn restore_failure(&self, error: &Error) -> Failure {
        self.failure(error.kind(), None, format!("restore from checkpoint: {error}"))
    }

    #[cold]
    fn unreadable(&self, id: &StateId, types: &[&str], source: crate::record::Error) -> Failure {
        let restored = self.inner.restored.borrow();
        let error = match restored.as_ref() {
            Some(restored) => restored.unreadable(id, types, source),
            None => Error::Record { state: StateName(id.clone()), source },
        };
        self.restore_failure(&error)
    }
}

fn owned(types: &[&str]) -> Vec<String> {
    types.iter().map(|name| (*name).to_owned()).collect()
}
