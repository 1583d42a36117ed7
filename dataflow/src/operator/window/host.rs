//! What the window engine is given for the key at hand: the function, timers, and where results go.

use tidemill_model::key::{Key, KeyHash};

use super::WindowFunction;
use crate::engine::window::{Contents, Host, TimeDomain, TimeWindow, TimerSink};
use crate::function::{Collector, KeyedRuntime, WindowContext};
use crate::record::Timestamp;
use crate::runtime::sink::UserError;

/// What all keys of a sub-task share.
pub(super) struct Works<K, T, F: WindowFunction<K, T>>
where
    K: Key,
{
    pub(super) function: F,
    pub(super) runtime: KeyedRuntime<K>,
    pub(super) out: Collector<F::Out>,
    /// Whether a window fired since this was last looked at.
    pub(super) fired: bool,
    /// Why the user's function could not go on.
    pub(super) error: Option<UserError>,
}

/// The host of one key.
pub(super) struct KeyHost<'a, K: Key, T, F: WindowFunction<K, T>> {
    pub(super) hash: KeyHash,
    pub(super) key: &'a K,
    /// The event time of the record that is added.
    pub(super) time: Timestamp,
    pub(super) works: &'a mut Works<K, T, F>,
}

impl<K: Key, T, F: WindowFunction<K, T>> TimerSink for KeyHost<'_, K, T, F> {
    fn register(&mut self, domain: TimeDomain, time: i64) {
        let runtime = &mut self.works.runtime;
        match domain {
            TimeDomain::Event => runtime.event_timers.set(time, self.hash, self.key.clone()),
            TimeDomain::Processing => {
                runtime.processing_timers.set(time, self.hash, self.key.clone());
                runtime.task.wake_at(time);
            }
        }
    }

    fn delete(&mut self, domain: TimeDomain, time: i64) {
        let runtime = &mut self.works.runtime;
        match domain {
            TimeDomain::Event => runtime.event_timers.delete(time, self.hash, self.key),
            TimeDomain::Processing => runtime.processing_timers.delete(time, self.hash, self.key),
        }
    }
}

impl<K: Key, T, F: WindowFunction<K, T>> Host<T, F::Contents> for KeyHost<'_, K, T, F> {
    #[inline(always)]
    fn fold(&mut self, contents: &mut Option<F::Contents>, value: T) {
        self.works.function.fold(contents, value, self.time);
    }

    fn merge(&mut self, into: &mut F::Contents, from: F::Contents) {
        self.works.function.merge(into, from);
    }

    fn emit(&mut self, window: TimeWindow, contents: Contents<'_, F::Contents>) {
        let Works { function, runtime, out, fired, error } = &mut *self.works;
        *fired = true;
        if error.is_some() {
            return;
        }
        out.set_time(window.max_timestamp());
        let mut context = WindowContext { key: self.key, window, runtime };
        *error = function.fire(contents, &mut context, out).err();
    }
}
