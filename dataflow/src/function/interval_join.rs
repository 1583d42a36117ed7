//! Joins records of two streams whose event times lie close to each other.

use std::collections::VecDeque;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use tidemill_model::key::Key;

use super::{Collector, KeyedCoProcessFunction, KeyedContext, OutputTag, Timer};
use crate::operator::window::LATE_RECORDS_DROPPED;
use crate::record::{Data, NO_TIME, Timestamp};
use crate::runtime::sink::UserError;
use crate::state::{StateRegistry, ValueState};

/// Records in the order of their times.
type Buffer<T> = VecDeque<(Timestamp, T)>;

/// What one key keeps of both streams.
#[derive(Clone, Serialize, Deserialize)]
struct Buffers<L, R> {
    left: Buffer<L>,
    right: Buffer<R>,
    /// The timer that counts: the earliest at which something is forgotten.
    timer: Option<Timestamp>,
}

impl<L, R> Default for Buffers<L, R> {
    fn default() -> Self {
        Self { left: VecDeque::new(), right: VecDeque::new(), timer: None }
    }
}

impl<L, R> Buffers<L, R> {
    /// Waits for a time, unless something earlier is waited for; answers a timer to be set.
    fn wait_for(&mut self, time: Timestamp) -> Option<Timestamp> {
        let earlier = self.timer.is_none_or(|timer| time < timer);
        earlier.then(|| *self.timer.insert(time))
    }
}

/// Joins each left record with the right ones whose times are from `lower` to `upper` milliseconds after its own, both
/// included.
///
/// A record whose time is before the watermark is late: it joins nothing. Others are kept for as long as a record that
/// is not late may come to join them.
pub struct IntervalJoin<L, R, F, O> {
    lower: i64,
    upper: i64,
    function: F,
    late_left: Option<OutputTag<L>>,
    late_right: Option<OutputTag<R>>,
    buffers: ValueState<Buffers<L, R>>,
    out: PhantomData<fn() -> O>,
}

impl<L, R, F, O> IntervalJoin<L, R, F, O> {
    /// Calls `function` with each pair; late records go to these side outputs, or are dropped and counted.
    pub fn new(
        (lower, upper): (i64, i64),
        function: F,
        (late_left, late_right): (Option<OutputTag<L>>, Option<OutputTag<R>>),
    ) -> Self {
        Self { lower, upper, function, late_left, late_right, buffers: ValueState::default(), out: PhantomData }
    }

    /// When a left record can be forgotten: the watermark has passed all that may join it.
    fn left_expires(&self, time: Timestamp) -> Timestamp {
        time.saturating_add(self.upper).saturating_add(1)
    }

    /// When a right record can be forgotten.
    fn right_expires(&self, time: Timestamp) -> Timestamp {
        time.saturating_sub(self.lower).saturating_add(1)
    }
}

impl<L, R, F: Clone, O> Clone for IntervalJoin<L, R, F, O> {
    fn clone(&self) -> Self {
        let late = (self.late_left.clone(), self.late_right.clone());
        Self { buffers: self.buffers, ..Self::new((self.lower, self.upper), self.function.clone(), late) }
    }
}

impl<K, L, R, F, O> KeyedCoProcessFunction<K, L, R> for IntervalJoin<L, R, F, O>
where
    K: Key,
    L: Data,
    R: Data,
    O: Data,
    F: FnMut(&L, &R) -> O + Clone + Send + Sync + 'static,
{
    type Out = O;

    fn open(&mut self, states: &mut StateRegistry<'_, K>) -> Result<(), UserError> {
        self.buffers = states.value("buffers")?;
        Ok(())
    }

    fn process_left(
        &mut self,
        record: L,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<O>,
    ) -> Result<(), UserError> {
        let Some(record) = in_time(record, self.late_left.as_ref(), context)? else { return Ok(()) };
        let (time, watermark, expires) = (context.time, context.watermark(), self.left_expires(context.time));
        let buffers = self.buffers.get_or_insert_with(context, Buffers::default);
        let (from, to) = (time.saturating_add(self.lower), time.saturating_add(self.upper));
        for (other, right) in between(&buffers.right, from, to) {
            out.emit_at((self.function)(&record, right), time.max(*other));
        }
        if expires > watermark {
            insert(&mut buffers.left, time, record);
            if let Some(timer) = buffers.wait_for(expires) {
                context.set_event_timer(timer);
            }
        } else if buffers.left.is_empty() && buffers.right.is_empty() {
            self.buffers.clear(context);
        }
        Ok(())
    }

    fn process_right(
        &mut self,
        record: R,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<O>,
    ) -> Result<(), UserError> {
        let Some(record) = in_time(record, self.late_right.as_ref(), context)? else { return Ok(()) };
        let (time, watermark, expires) = (context.time, context.watermark(), self.right_expires(context.time));
        let buffers = self.buffers.get_or_insert_with(context, Buffers::default);
        let (from, to) = (time.saturating_sub(self.upper), time.saturating_sub(self.lower));
        for (other, left) in between(&buffers.left, from, to) {
            out.emit_at((self.function)(left, &record), time.max(*other));
        }
        if expires > watermark {
            insert(&mut buffers.right, time, record);
            if let Some(timer) = buffers.wait_for(expires) {
                context.set_event_timer(timer);
            }
        } else if buffers.left.is_empty() && buffers.right.is_empty() {
            self.buffers.clear(context);
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        context: &mut KeyedContext<'_, K>,
        _out: &mut Collector<O>,
    ) -> Result<(), UserError> {
        let Some(buffers) = self.buffers.get_mut(context) else { return Ok(()) };
        if buffers.timer != Some(timer.time) {
            // An earlier one took its place.
            return Ok(());
        }
        let left = buffers.left.partition_point(|(time, _)| self.left_expires(*time) <= timer.time);
        buffers.left.drain(..left);
        let right = buffers.right.partition_point(|(time, _)| self.right_expires(*time) <= timer.time);
        buffers.right.drain(..right);
        let left = buffers.left.front().map(|(time, _)| self.left_expires(*time));
        let right = buffers.right.front().map(|(time, _)| self.right_expires(*time));
        buffers.timer = left.into_iter().chain(right).min();
        match buffers.timer {
            Some(next) => context.set_event_timer(next),
            None => {
                self.buffers.clear(context);
            }
        }
        Ok(())
    }
}

/// The record, unless it is late.
fn in_time<K: Key, T: Data>(
    record: T,
    late: Option<&OutputTag<T>>,
    context: &mut KeyedContext<'_, K>,
) -> Result<Option<T>, UserError> {
    if context.time == NO_TIME {
        return Err("join a record by its event time: it has none; call assign_timestamps_and_watermarks before".into());
    }
    if context.time >= context.watermark() {
        return Ok(Some(record));
    }
    match late {
        Some(tag) => context.output(tag, record),
        None => context.runtime.task.flow().counters().counter(LATE_RECORDS_DROPPED).add(1),
    }
    Ok(None)
}

/// Puts a record behind those of its time.
fn insert<T>(buffer: &mut Buffer<T>, time: Timestamp, record: T) {
    let place = buffer.partition_point(|(other, _)| *other <= time);
    buffer.insert(place, (time, record));
}

/// The records of these times, both included.
fn between<T>(buffer: &Buffer<T>, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &(Timestamp, T)> {
    let first = buffer.partition_point(|(time, _)| *time < from);
    let last = buffer.partition_point(|(time, _)| *time <= to).max(first);
    buffer.range(first..last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_by_their_times_with_both_bounds() {
        let mut buffer = Buffer::new();
        for (time, record) in [(5, 'a'), (1, 'b'), (9, 'c'), (5, 'd'), (i64::MAX, 'e')] {
            insert(&mut buffer, time, record);
        }
        let found = |from, to| between(&buffer, from, to).map(|(_, record)| *record).collect::<String>();
        assert_eq!(found(1, 9), "badc");
        assert_eq!(found(2, 8), "ad");
        assert_eq!(found(6, 4), "");
        assert_eq!(found(10, i64::MAX), "e");
        assert_eq!(found(i64::MIN, 0), "");
    }

    #[test]
    fn only_an_earlier_time_is_waited_for_anew() {
        let mut buffers = Buffers::<(), ()>::default();
        assert_eq!([5, 7, 5, 3].map(|time| buffers.wait_for(time)), [Some(5), None, None, Some(3)]);
    }
}
