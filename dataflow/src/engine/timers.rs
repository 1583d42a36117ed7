//! The timers of one sub-task's keys: each is set for a key and a time, once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill_model::key::KeyHash;

/// Which time a timer goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TimeDomain {
    /// Watermarks.
    Event,
    /// The clock.
    Processing,
}

/// Timers of one domain, in the order of their times.
///
/// Invariant: no list of keys is empty, and no key occurs twice at one time.
#[derive(Debug, Clone)]
pub struct TimerQueue<K> {
    /// By time, then by the key's hash; keys with one hash are rare.
    timers: BTreeMap<(i64, u64), Vec<K>>,
    len: usize,
}

impl<K> Default for TimerQueue<K> {
    fn default() -> Self {
        Self { timers: BTreeMap::new(), len: 0 }
    }
}

impl<K: Eq> TimerQueue<K> {
    /// How many timers are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets a timer; one that is set already stays one.
    pub fn set(&mut self, time: i64, hash: KeyHash, key: K) {
        let keys = self.timers.entry((time, hash.0)).or_default();
        if !keys.contains(&key) {
            keys.push(key);
            self.len += 1;
        }
    }

    /// Takes a timer back, if it is set.
    pub fn delete(&mut self, time: i64, hash: KeyHash, key: &K) {
        let Some(keys) = self.timers.get_mut(&(time, hash.0)) else { return };
        let Some(place) = keys.iter().position(|other| other == key) else { return };
        keys.remove(place);
        self.len -= 1;
        if keys.is_empty() {
            self.timers.remove(&(time, hash.0));
        }
    }

    /// All timers, in the order of their times.
    pub fn iter(&self) -> impl Iterator<Item = (i64, KeyHash, &K)> {
        self.timers.iter().flat_map(|(&(time, hash), keys)| keys.iter().map(move |key| (time, KeyHash(hash), key)))
    }

    /// The time of the next timer.
    #[must_use]
    pub fn next_time(&self) -> Option<i64> {
        self.timers.first_key_value().map(|(&(time, _), _)| time)
    }

    /// Takes the next timer whose time is not after `now`.
    pub fn pop_due(&mut self, now: i64) -> Option<(i64, KeyHash, K)> {
        let mut first = self.timers.first_entry()?;
        let (time, hash) = *first.key();
        if time > now {
            return None;
        }
        let key = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        self.len -= 1;
        key.map(|key| (time, KeyHash(hash), key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_are_due_in_the_order_of_their_times_and_each_once() {
        let mut timers = TimerQueue::default();
        for (time, key) in [(5, "a"), (-3, "b"), (5, "a"), (5, "c"), (i64::MAX, "d")] {
            timers.set(time, KeyHash(7), key);
        }
        timers.set(5, KeyHash(6), "e");
        assert_eq!((timers.len(), timers.next_time()), (5, Some(-3)));
        timers.delete(5, KeyHash(7), &"c");
        timers.delete(5, KeyHash(7), &"c");
        timers.delete(5, KeyHash(9), &"a");
        assert_eq!(timers.pop_due(-4), None);
        assert_eq!(timers.pop_due(5), Some((-3, KeyHash(7), "b")));
        assert_eq!(timers.pop_due(5), Some((5, KeyHash(6), "e")));
        assert_eq!(timers.pop_due(5), Some((5, KeyHash(7), "a")));
        assert_eq!(timers.pop_due(5), None);
        assert_eq!(timers.pop_due(i64::MAX), Some((i64::MAX, KeyHash(7), "d")));
        assert!(timers.is_empty());
    }
}
