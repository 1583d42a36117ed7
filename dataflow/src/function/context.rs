//! What a function sees beside its record: the key, time, timers, state and side outputs.

use tidemill_model::execution::Failure;
use tidemill_model::key::{Key, KeyHash};

use super::{OutputTag, SideOutputs};
use crate::engine::snapshot::StateId;
use crate::engine::timers::{TimeDomain, TimerQueue};
use crate::flow::OperatorIndex;
use crate::push::Stopped;
use crate::record::{Control, Data, END_OF_TIME, NO_TIME, Timestamp};
use crate::runtime::task::{OperatorUid, TaskContext};
use crate::state::{FrozenTimers, StateStore, decode_entries};

/// What an un-keyed function sees.
pub struct ProcessContext<'a> {
    pub(crate) time: Timestamp,
    pub(crate) watermark: Timestamp,
    pub(crate) sides: &'a mut SideOutputs,
    pub(crate) task: &'a TaskContext,
}

impl ProcessContext<'_> {
    /// The record's event time, if it was given one.
    #[must_use]
    pub fn timestamp(&self) -> Option<Timestamp> {
        (self.time != NO_TIME).then_some(self.time)
    }

    /// The event time up to which all records have come; `i64::MIN` before the first watermark.
    #[must_use]
    pub fn watermark(&self) -> Timestamp {
        self.watermark
    }

    /// Milliseconds since the epoch by the clock.
    #[must_use]
    pub fn processing_time(&self) -> Timestamp {
        self.task.processing_time()
    }

    /// Emits a record to a side output, with the event time of the record that caused it.
    pub fn output<S: Data>(&mut self, tag: &OutputTag<S>, record: S) {
        self.sides.emit(tag, record, self.time);
    }
}

/// A timer that has come due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    /// The time that it was set for.
    pub time: Timestamp,
    /// Which time it goes by.
    pub domain: TimeDomain,
}

/// What a keyed function sees.
pub struct KeyedContext<'a, K> {
    pub(crate) hash: KeyHash,
    pub(crate) key: &'a K,
    pub(crate) time: Timestamp,
    pub(crate) runtime: &'a mut KeyedRuntime<K>,
}

impl<K: Key> KeyedContext<'_, K> {
    /// The key of the record or timer.
    #[must_use]
    pub fn key(&self) -> &K {
        self.key
    }

    /// The record's event time, if it was given one; the time of an event-time timer.
    #[must_use]
    pub fn timestamp(&self) -> Option<Timestamp> {
        (self.time != NO_TIME).then_some(self.time)
    }

    /// The event time up to which all records have come; `i64::MIN` before the first watermark.
    #[must_use]
    pub fn watermark(&self) -> Timestamp {
        self.runtime.watermark
    }

    /// Milliseconds since the epoch by the clock.
    #[must_use]
    pub fn processing_time(&self) -> Timestamp {
        self.runtime.task.processing_time()
    }

    /// Calls back when the watermark has passed `time`: with the next one, if it has already. Setting a timer twice
    /// sets it once; after the last watermark none can be set any more.
    pub fn set_event_timer(&mut self, time: Timestamp) {
        if self.runtime.watermark == END_OF_TIME {
            return;
        }
        self.runtime.event_timers.set(time, self.hash, self.key.clone());
    }

    /// Takes back what [`set_event_timer`](Self::set_event_timer) set.
    pub fn delete_event_timer(&mut self, time: Timestamp) {
        self.runtime.event_timers.delete(time, self.hash, self.key);
    }

    /// Calls back when the clock has reached `time`, or at the end of input, by which none can be set any more.
    /// Setting a timer twice sets it once.
    pub fn set_processing_timer(&mut self, time: Timestamp) {
        if self.runtime.ended {
            return;
        }
        self.runtime.processing_timers.set(time, self.hash, self.key.clone());
        self.runtime.task.wake_at(time);
    }

    /// Takes back what [`set_processing_timer`](Self::set_processing_timer) set.
    pub fn delete_processing_timer(&mut self, time: Timestamp) {
        self.runtime.processing_timers.delete(time, self.hash, self.key);
    }

    /// Emits a record to a side output, with the event time of what caused it.
    pub fn output<S: Data>(&mut self, tag: &OutputTag<S>, record: S) {
        self.runtime.sides.emit(tag, record, self.time);
    }
}

/// The names of the states that timers are in; the user's states cannot have them.
const EVENT_TIMERS: &str = "$event-timers";
const PROCESSING_TIMERS: &str = "$processing-timers";

fn timer_types<K>() -> [&'static str; 1] {
    [std::any::type_name::<K>()]
}

/// What keyed operators keep for their functions: timers, state, side outputs and the watermark.
pub(crate) struct KeyedRuntime<K> {
    pub(crate) event_timers: TimerQueue<K>,
    pub(crate) processing_timers: TimerQueue<K>,
    pub(crate) states: StateStore<K>,
    pub(crate) sides: SideOutputs,
    pub(crate) watermark: Timestamp,
    /// Whether the end of input has come.
    ended: bool,
    uid: OperatorUid,
    /// How often the timers were left for a snapshot.
    timers_kept: u64,
    pub(crate) task: TaskContext,
}

impl<K: Key> KeyedRuntime<K> {
    pub(crate) fn new(operator: OperatorIndex, task: &TaskContext) -> Result<Self, Failure> {
        let uid = task.operator_uid(operator);
        Ok(Self {
            event_timers: TimerQueue::default(),
            processing_timers: TimerQueue::default(),
            states: StateStore::new(task, &uid),
            sides: SideOutputs::open(operator, task)?,
            watermark: Timestamp::MIN,
            ended: false,
            uid,
            timers_kept: 0,
            task: task.clone(),
        })
    }

    /// The timers that this control makes due, to be fired before it is passed on.
    ///
    /// At the end of time and of input only what was set before is due: a function that always sets another timer
    /// would go on for ever.
    pub(crate) fn due(&mut self, control: Control) -> DueTimers<K> {
        let (domain, now) = match control {
            Control::Watermark(time) => {
                self.watermark = time;
                (TimeDomain::Event, time)
            }
            Control::ProcessingTime(time) => (TimeDomain::Processing, time),
            Control::EndOfInput => {
                self.ended = true;
                (TimeDomain::Processing, END_OF_TIME)
            }
            Control::Barrier(_) | Control::Idle | Control::Active | Control::Completed(_) | Control::FinishedBefore => {
                return DueTimers::none();
            }
        };
        let left = if now == END_OF_TIME { Some(self.queue(domain).len()) } else { None };
        DueTimers { domain, now, left, key: std::marker::PhantomData }
    }

    /// The name of a state of the operator, among those that the user names.
    pub(crate) fn state(&self, name: &str) -> StateId {
        self.uid.state(name)
    }

    /// Leaves timers and states for the snapshot of a barrier that passes.
    pub(crate) fn keep(&mut self) {
        if !self.task.takes_checkpoints() {
            return;
        }
        self.timers_kept += 1;
        for (name, queue) in [(EVENT_TIMERS, &mut self.event_timers), (PROCESSING_TIMERS, &mut self.processing_timers)]
        {
            let frozen = FrozenTimers::new(queue, self.timers_kept, &self.task);
            self.task.keep_keyed(self.uid.state(name), &timer_types::<K>(), Box::new(frozen));
        }
        self.states.keep(&self.uid, &self.task);
    }

    /// Takes in timers and states of the checkpoint that the task starts from.
    pub(crate) fn restore(&mut self) -> Result<(), Failure> {
        for (name, queue) in [(EVENT_TIMERS, &mut self.event_timers), (PROCESSING_TIMERS, &mut self.processing_timers)]
        {
            self.task.restore_keyed(&self.uid.state(name), &timer_types::<K>(), |section| {
                decode_entries(section, |key: K, time| queue.set(time, key.key_hash(), key))
            })?;
        }
        if let Some(time) = self.processing_timers.next_time() {
            self.task.wake_at(time);
        }
        self.states.restore(&self.uid, &self.task)
    }

    pub(crate) fn queue(&mut self, domain: TimeDomain) -> &mut TimerQueue<K> {
        match domain {
            TimeDomain::Event => &mut self.event_timers,
            TimeDomain::Processing => &mut self.processing_timers,
        }
    }

    /// Passes control to the side outputs, and asks to be called for the next processing-time timer.
    pub(crate) fn control(&mut self, control: Control) -> Result<(), Stopped> {
        if let Some(time) = self.processing_timers.next_time() {
            self.task.wake_at(time);
        }
        self.sides.control(control)
    }
}

/// Timers to be fired, one after the other.
pub(crate) struct DueTimers<K> {
    domain: TimeDomain,
    now: Timestamp,
    /// How many more, when there is a bound.
    left: Option<usize>,
    key: std::marker::PhantomData<K>,
}

impl<K: Key> DueTimers<K> {
    fn none() -> Self {
        Self { domain: TimeDomain::Event, now: Timestamp::MIN, left: Some(0), key: std::marker::PhantomData }
    }

    /// The next one; timers that are set meanwhile and due at once come, too.
    pub(crate) fn next(&mut self, runtime: &mut KeyedRuntime<K>) -> Option<(Timer, KeyHash, K)> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        let (time, hash, key) = runtime.queue(self.domain).pop_due(self.now)?;
        Some((Timer { time, domain: self.domain }, hash, key))
    }
}
