//! The fused window operator: finds each record's key, asks the engine, and fires what timers say.

use std::borrow::Borrow;
use std::rc::Rc;

use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::key::{Key, KeyHash};

use super::host::{KeyHost, Works};
use super::{LATE_RECORDS_DROPPED, SessionGap, Window, WindowFunction};
use crate::engine::snapshot::StateId;
use crate::engine::window::{Added, KeyWindows, Now, TimeDomain, Windowing};
use crate::function::{Collector, KeyedRuntime, OutputTag};
use crate::key_selector::KeySelector;
use crate::operator::process::user_failure;
use crate::push::{Push, Stopped, blame};
use crate::record::{Batch, Control, Data, END_OF_TIME, NO_TIME, Timestamp};
use crate::runtime::counter::Counter;
use crate::runtime::sink::Subtask;
use crate::runtime::task::TaskContext;
use crate::state::{KeyedTable, Place};

/// The name of the state in which each key's windows are.
const WINDOWS: &str = "windows";

fn window_types<K, A>() -> [&'static str; 2] {
    [std::any::type_name::<K>(), std::any::type_name::<A>()]
}

/// Sets the timers that restored windows wait for.
fn restore_timers<K: Key, T: Data, A: Data>(
    table: &mut KeyedTable<K, KeyWindows<A>>,
    windowing: &Windowing<T>,
    runtime: &mut KeyedRuntime<K>,
) -> Result<(), String> {
    table.try_for_each(|hash, key, windows| {
        if !windowing.fits(windows) {
            return Err(
                "restore windows: they were kept in another way; a trigger or an evictor was added or removed, so \
                        give the operator another uid"
                    .to_owned(),
            );
        }
        for (domain, time) in windowing.armed(windows) {
            runtime.queue(domain).set(time, hash, key.clone());
        }
        Ok(())
    })?;
    table.settle().map_err(|error| format!("restore windows: {error}"))?;
    if let Some(time) = runtime.queue(TimeDomain::Processing).next_time() {
        runtime.task.wake_at(time);
    }
    Ok(())
}

pub(super) struct WindowOperator<T, S: KeySelector<T>, G, F: WindowFunction<S::Key, T>, N> {
    table: KeyedTable<S::Key, KeyWindows<F::Contents>>,
    state: StateId,
    windowing: Windowing<T>,
    selector: S,
    gap: G,
    late: Option<OutputTag<T>>,
    /// Made when the first record is dropped.
    dropped: Option<Counter>,
    hashes: Vec<KeyHash>,
    operator: Rc<str>,
    works: Works<S::Key, T, F>,
    next: N,
}

impl<T, S, G, F, N> WindowOperator<T, S, G, F, N>
where
    T: Data,
    S: KeySelector<T>,
    G: SessionGap<T>,
    F: WindowFunction<S::Key, T>,
    N: Push<F::Out>,
{
    pub(super) fn new(window: &Window<T, S, G, F>, next: N, context: &TaskContext) -> Result<Self, Failure> {
        let (mut function, operator) = (window.function.clone(), context.operator_name(window.operator));
        let subtask = Subtask { index: context.subtask().0, parallelism: context.parallelism() };
        blame(&operator, || function.open(subtask)).map_err(|error| user_failure(context, &operator, &error))?;
        let mut runtime = KeyedRuntime::new(window.operator, context)?;
        let state = runtime.state(WINDOWS);
        let mut table = KeyedTable::open(context, &state, &window_types::<S::Key, F::Contents>())?;
        restore_timers(&mut table, &window.windowing, &mut runtime)
            .map_err(|message| context.failure(FailureKind::InvalidInput, Some(&operator), message))?;
        Ok(Self {
            table,
            state,
            windowing: window.windowing.clone(),
            selector: window.selector.clone(),
            gap: window.gap.clone(),
            late: window.late.clone(),
            dropped: None,
            hashes: Vec::new(),
            operator,
            works: Works { function, runtime, out: Collector::default(), fired: false, error: None },
            next,
        })
    }

    #[inline(always)]
    fn hash(&mut self, record: &T) -> KeyHash {
        let selector = &mut self.selector;
        blame(&self.operator, || Borrow::<S::Key>::borrow(&selector.select(record)).key_hash())
    }

    /// Takes a record with its event time; `clock` is the processing time.
    #[inline(always)]
    fn push_hashed(&mut self, hash: KeyHash, record: T, time: Timestamp, clock: Timestamp) -> Result<(), Stopped> {
        let (selector, gap, works) = (&mut self.selector, &mut self.gap, &mut self.works);
        let now = Now { watermark: works.runtime.watermark, processing_time: clock };
        let (group, windowing) = (self.table.group(hash), &self.windowing);
        let added = blame(&self.operator, || {
            let gap = gap.gap(&record);
            let found = selector.select(&record);
            let (key, windows) = match group.probe(hash, |key| key == Borrow::<S::Key>::borrow(&found)) {
                Place::Taken(slot) => {
                    drop(found);
                    group.entry(slot)
                }
                Place::Free(slot) => group.fill(slot, hash, S::into_key(found), KeyWindows::default()),
            };
            let added =
                windowing.add_with_gap(windows, record, time, gap, now, &mut KeyHost { hash, key, time, works });
            if windows.is_empty() {
                let key = key.clone();
                group.remove(hash, |other| *other == key);
            }
            added
        });
        if self.works.fired {
            self.send_results()?;
        }
        match added {
            Added::Kept | Added::NoWindow(_) => Ok(()),
            Added::Late(record) => self.on_late(record, time),
            Added::NoTimestamp(_) => Err(self.refuse(
                "put a record into a window of event time: it has no event time; call \
                 assign_timestamps_and_watermarks before, or use windows in processing time",
            )),
            Added::BadGap(_) => Err(self.refuse(
                "put a record into a session: the gap that was computed from it is shorter than a millisecond; make it \
                 longer",
            )),
            Added::Foreign(_) => {
                Err(self.refuse("put a record into a window: the key's state was made by windows of another kind"))
            }
        }
    }

    /// Sends on what windows emitted.
    #[inline(never)]
    fn send_results(&mut self) -> Result<(), Stopped> {
        self.works.fired = false;
        if let Some(error) = self.works.error.take() {
            let task = &self.works.runtime.task;
            return Err(task.fail(user_failure(task, &self.operator, &error)));
        }
        self.works.runtime.sides.check()?;
        self.works.out.drain_into(&mut self.next)
    }

    #[cold]
    #[inline(never)]
    fn on_late(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        let runtime = &mut self.works.runtime;
        if let Some(tag) = &self.late {
            runtime.sides.emit(tag, record, time);
            return runtime.sides.check();
        }
        let counter = || runtime.task.flow().counters().counter(LATE_RECORDS_DROPPED);
        self.dropped.get_or_insert_with(counter).add(1);
        Ok(())
    }

    #[cold]
    fn refuse(&self, message: &str) -> Stopped {
        let task = &self.works.runtime.task;
        task.fail(task.failure(FailureKind::InvalidInput, Some(&self.operator), message.to_owned()))
    }

    /// Whether all of the state that was used since the last time could be read and written.
    #[inline]
    fn settle(&mut self) -> Result<(), Stopped> {
        let task = &self.works.runtime.task;
        self.table.settle().map_err(|error| task.fail(user_failure(task, &self.operator, &error)))
    }

    /// Fires the timers of a domain up to this time.
    fn fire_timers(&mut self, domain: TimeDomain, until: Timestamp) -> Result<(), Stopped> {
        let clock = self.works.runtime.task.processing_time();
        if until == END_OF_TIME && self.ends_at_once(domain) {
            let queue = self.works.runtime.queue(domain);
            let due: Vec<_> = std::iter::from_fn(|| queue.pop_due(until)).collect();
            return due.iter().try_for_each(|(_, hash, key)| self.on_timer((domain, until), (*hash, key), clock));
        }
        while let Some((time, hash, key)) = self.works.runtime.queue(domain).pop_due(until) {
            self.on_timer((domain, time), (hash, &key), clock)?;
        }
        Ok(())
    }

    /// Whether at the end of a domain's time each key is asked once, as there might be no end of asking.
    ///
    /// In a window without end, a trigger may always wait for a later time. And a window that goes by the clock would
    /// fire at each interval of a time that never comes; but the user's own triggers are shown each time they wait for.
    fn ends_at_once(&self, domain: TimeDomain) -> bool {
        let windowing = &self.windowing;
        windowing.is_endless() || (domain == TimeDomain::Processing && !windowing.has_custom_trigger())
    }

    fn on_timer(
        &mut self,
        (domain, time): (TimeDomain, Timestamp),
        (hash, key): (KeyHash, &S::Key),
        clock: Timestamp,
    ) -> Result<(), Stopped> {
        self.works.runtime.task.poll()?;
        let (group, works, windowing) = (self.table.group(hash), &mut self.works, &self.windowing);
        let Some(windows) = group.get_mut(hash, |other| other == key) else { return Ok(()) };
        let now = Now { watermark: works.runtime.watermark, processing_time: clock };
        blame(&self.operator, || {
            windowing.on_timer(windows, domain, time, now, &mut KeyHost { hash, key, time: NO_TIME, works });
        });
        if windows.is_empty() {
            group.remove(hash, |other| other == key);
        }
        if self.works.fired { self.send_results() } else { Ok(()) }
    }
}

impl<T, S, G, F, N> Push<T> for WindowOperator<T, S, G, F, N>
where
    T: Data,
    S: KeySelector<T>,
    G: SessionGap<T>,
    F: WindowFunction<S::Key, T>,
    N: Push<F::Out>,
{
    fn push(&mut self, record: T, time: Timestamp) -> Result<(), Stopped> {
        let hash = self.hash(&record);
        self.push_hashed(hash, record, time, self.works.runtime.task.processing_time())
    }

    fn push_batch(&mut self, batch: &mut Batch<T>) -> Result<(), Stopped> {
        // A batch is short: one look at the clock serves for it.
        let clock = self.works.runtime.task.processing_time();
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        hashes.extend(batch.records.iter().map(|record| self.hash(record)));
        let mut records = batch.records.drain(..);
        self.table.prepare(&hashes);
        for (index, record) in (&mut records).enumerate() {
            self.table.prefetch_ahead(&hashes, index);
            let time = batch.times.get(index).copied().unwrap_or(NO_TIME);
            self.push_hashed(hashes[index], record, time, clock)?;
        }
        drop(records);
        batch.clear();
        self.hashes = hashes;
        self.settle()
    }

    fn control(&mut self, control: Control) -> Result<(), Stopped> {
        match control {
            Control::Watermark(time) => {
                self.works.runtime.watermark = time;
                self.fire_timers(TimeDomain::Event, time)?;
            }
            Control::ProcessingTime(time) => self.fire_timers(TimeDomain::Processing, time)?,
            Control::EndOfInput => self.fire_timers(TimeDomain::Processing, END_OF_TIME)?,
            Control::Barrier(_) if self.works.runtime.task.takes_checkpoints() => {
                let frozen = self.table.freeze();
                let types = window_types::<S::Key, F::Contents>();
                self.works.runtime.task.keep_keyed(self.state.clone(), &types, frozen);
            }
            Control::Barrier(_) | Control::Idle | Control::Active | Control::Completed(_) | Control::FinishedBefore => {
            }
        }
        self.settle()?;
        self.works.runtime.control(control)?;
        self.next.control(control)
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.works.runtime.sides.flush()?;
        self.next.flush()
    }
}
