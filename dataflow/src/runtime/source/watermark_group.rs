//! A group of sources in one process whose watermarks are kept close to each other: who waits, and who wakes whom.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::watermark_groups::{MemberId, Pace, WatermarkGroup};
use crate::record::Timestamp;
use crate::runtime::task::TaskWaker;

/// A group that the sub-tasks of one executor share.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedGroup(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    group: WatermarkGroup,
    members: BTreeMap<MemberId, Contact>,
}

/// How a member learns that it may go on.
#[derive(Debug, Clone)]
struct Contact {
    paused: Arc<AtomicBool>,
    waker: TaskWaker,
}

impl SharedGroup {
    fn join(&self, drift_max: Timestamp, waker: TaskWaker) -> GroupMember {
        let paused = Arc::default();
        let mut state = self.lock();
        let id = state.group.join();
        state.members.insert(id, Contact { paused: Arc::clone(&paused), waker });
        GroupMember { group: self.clone(), id, drift_max, paused }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn release(&self, released: &[MemberId]) {
        for contact in released.iter().filter_map(|id| self.members.get(id)) {
            contact.paused.store(false, Ordering::Release);
            contact.waker.wake();
        }
    }
}

/// One of a group: a split that is read, or a sub-task that has none yet. Dropping it takes it out of the group.
#[derive(Debug)]
pub(super) struct GroupMember {
    group: SharedGroup,
    id: MemberId,
    drift_max: Timestamp,
    paused: Arc<AtomicBool>,
}

impl GroupMember {
    /// Whether it has to wait; its task is woken when it may go on.
    #[inline]
    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Tells the others how far event time has come here, and learns whether it may go on.
    pub(super) fn report(&self, watermark: Timestamp) {
        let mut state = self.group.lock();
        let released = state.group.advance(self.id, watermark);
        // Who has to wait already is paused already.
        if !self.is_paused() {
            let pause = state.group.pace(self.id, self.drift_max) == Pace::Pause;
            self.paused.store(pause, Ordering::Release);
        }
        state.release(&released);
    }

    /// Whether others need not wait for it.
    pub(super) fn set_idle(&self, idle: bool) {
        let mut state = self.group.lock();
        let released = state.group.set_idle(self.id, idle);
        state.release(&released);
    }
}

impl Drop for GroupMember {
    fn drop(&mut self) {
        let mut state = self.group.lock();
        state.members.remove(&self.id);
        let released = state.group.leave(self.id);
        state.release(&released);
    }
}

/// A sub-task that reads splits of a group's source.
///
/// It is made before any sub-task of the group runs, so that none is far ahead before another has begun.
pub(crate) struct AlignedSubtask {
    group: SharedGroup,
    drift_max: Timestamp,
    waker: TaskWaker,
    /// Stands for the splits that are on their way while none is open.
    awaited: GroupMember,
    awaits_splits: Cell<bool>,
}

impl AlignedSubtask {
    /// A sub-task whose splits are not ahead of the group's lowest watermark by more than `drift_max` milliseconds.
    pub(crate) fn new(group: &SharedGroup, drift_max: Timestamp, waker: TaskWaker) -> Self {
        let awaited = group.join(drift_max, waker.clone());
        Self { group: group.clone(), drift_max, waker, awaited, awaits_splits: Cell::new(true) }
    }

    /// Reading of a split begins.
    pub(super) fn open_split(&self) -> GroupMember {
        self.group.join(self.drift_max, self.waker.clone())
    }

    /// Whether no split is open, but some are on their way.
    pub(super) fn set_awaits_splits(&self, awaits_splits: bool) {
        if self.awaits_splits.replace(awaits_splits) != awaits_splits {
            self.awaited.set_idle(!awaits_splits);
        }
    }
}
