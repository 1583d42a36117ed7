//! Values that end by themselves: when, and a table around any other in which they do.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill_model::key::KeyHash;

use super::backend::StateTable;
use super::{FrozenState, Section};
use crate::record::{self, Data, Timestamp};
use crate::runtime::clock::ProcessingClock;
use crate::runtime::sink::UserError;

/// For how long a state keeps a value, by the clock, after it was last written.
///
/// A value whose time is over is never seen again. It is taken out when it is looked for, or, slot by slot, while
/// other records come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeToLive {
    milliseconds: Timestamp,
    reads_count: bool,
}

impl TimeToLive {
    /// So long (whole milliseconds, at least one) after it was made or last written.
    #[must_use]
    pub fn new(duration: Duration) -> Self {
        let milliseconds = Timestamp::try_from(duration.as_millis()).unwrap_or(Timestamp::MAX).max(1);
        Self { milliseconds, reads_count: false }
    }

    /// So long after it was last written or read.
    #[must_use]
    pub fn refreshed_by_reads(self) -> Self {
        Self { reads_count: true, ..self }
    }
}

/// A time to live with the clock that it goes by.
#[derive(Debug, Clone)]
pub(super) struct Expiry {
    time_to_live: TimeToLive,
    clock: ProcessingClock,
}

impl Expiry {
    pub(super) fn new(time_to_live: TimeToLive, clock: ProcessingClock) -> Self {
        Self { time_to_live, clock }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether what was last used at `time` has ended.
    pub(super) fn is_over(&self, time: Timestamp, now: Timestamp) -> bool {
        time.saturating_add(self.time_to_live.milliseconds) <= now
    }

    pub(super) fn reads_count(&self) -> bool {
        self.time_to_live.reads_count
    }
}

/// A value with the time at which it was last used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Timed<V> {
    pub(super) value: V,
    pub(super) time: Timestamp,
}

/// A table whose values end; `B` keeps them, with their times.
pub(super) struct TtlTable<B> {
    table: B,
    expiry: Expiry,
}

impl<B> TtlTable<B> {
    pub(super) fn new(table: B, expiry: Expiry) -> Self {
        Self { table, expiry }
    }

    /// Takes a key out when its time is over; answers the time now, if the key is left.
    fn check<K, V>(&mut self, hash: KeyHash, key: &K) -> Option<Timestamp>
    where
        B: StateTable<K, Timed<V>>,
    {
        let now = self.expiry.now();
        if self.expiry.is_over(self.table.get(hash, key)?.time, now) {
            self.table.remove(hash, key);
            return None;
        }
        Some(now)
    }
}

impl<K: 'static, V: Data, B: StateTable<K, Timed<V>>> StateTable<K, V> for TtlTable<B> {
    fn prepare(&mut self, keys: &[(KeyHash, K)]) {
        self.table.prepare(keys);
    }

    fn get(&mut self, hash: KeyHash, key: &K) -> Option<&V> {
        let now = self.check(hash, key)?;
        if !self.expiry.reads_count() {
            return self.table.get(hash, key).map(|timed| &timed.value);
        }
        let timed = self.table.get_mut(hash, key)?;
        timed.time = now;
        Some(&timed.value)
    }

    fn get_mut(&mut self, hash: KeyHash, key: &K) -> Option<&mut V> {
        let now = self.check(hash, key)?;
        let timed = self.table.get_mut(hash, key)?;
        timed.time = now;
        Some(&mut timed.value)
    }

    fn get_or_insert_with(&mut self, hash: KeyHash, key: &K, make: &mut dyn FnMut() -> V) -> &mut V {
        let now = self.check(hash, key).unwrap_or_else(|| self.expiry.now());
        let timed = self.table.get_or_insert_with(hash, key, &mut || Timed { value: make(), time: now });
        timed.time = now;
        &mut timed.value
    }

    fn put(&mut self, hash: KeyHash, key: &K, value: V) {
        let time = self.expiry.now();
        self.table.put(hash, key, Timed { value, time });
    }

    fn remove(&mut self, hash: KeyHash, key: &K) -> Option<V> {
        let (removed, now) = (self.table.remove(hash, key)?, self.expiry.now());
        (!self.expiry.is_over(removed.time, now)).then_some(removed.value)
    }

    fn retain_some(&mut self, budget: usize, keep: &mut dyn FnMut(&K, &mut V) -> bool) {
        self.table.retain_some(budget, &mut |key, timed| keep(key, &mut timed.value));
    }

    fn sweep(&mut self, budget: usize) {
        let (expiry, now) = (&self.expiry, self.expiry.now());
        self.table.retain_some(budget, &mut |_, timed| !expiry.is_over(timed.time, now));
    }

    fn settle(&mut self) -> Result<(), UserError> {
        self.table.settle()
    }

    fn freeze(&mut self) -> Box<dyn FrozenState> {
        self.table.freeze()
    }

    fn restore(&mut self, section: &Section) -> Result<(), record::Error> {
        self.table.restore(section)
    }
}
