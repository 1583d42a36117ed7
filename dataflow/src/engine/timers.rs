//! The timers of one sub-task's keys: each is set for a key and a time, once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_model::key::KeyHash;

use super::copy_on_write::CopyOnWrite;

/// Which time a timer goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TimeDomain {
    /// Watermarks.
    Event,
    /// The clock.
    Processing,
}

/// The most timers of a run, unless more are for one time and hash: to insert one or to copy all takes no longer than
/// finding the run does.
const RUN_TIMERS_MAX: usize = 128;

/// A timer that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetTimer<K> {
    /// When it is due.
    pub time: i64,
    /// The hash of its key.
    pub hash: KeyHash,
    /// Its key.
    pub key: K,
}

impl<K> SetTimer<K> {
    fn place(&self) -> Place {
        (self.time, self.hash.0)
    }
}

/// By time, then by the key's hash; keys with one hash are rare.
type Place = (i64, u64);

/// Timers in the order of their places.
type Run<K> = VecDeque<SetTimer<K>>;

/// Timers of one domain, in the order of their times.
///
/// They are kept in short runs, which a snapshot shares with the queue: the first change of a run after it copies that run.
///
/// Invariants: no run is empty; its timers are not before the place by which it is found, and before that of the next
/// one; all timers of one place are in one run; no key occurs twice at one time.
#[derive(Debug, Clone)]
pub struct TimerQueue<K> {
    runs: BTreeMap<Place, CopyOnWrite<Run<K>>>,
    len: usize,
}

impl<K> Default for TimerQueue<K> {
    fn default() -> Self {
        Self { runs: BTreeMap::new(), len: 0 }
    }
}

impl<K: Eq + Clone> TimerQueue<K> {
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
        let timer = SetTimer { time, hash, key };
        let place = timer.place();
        let Some((&from, run)) = self.runs.range_mut(..=place).next_back() else { return self.set_first(timer) };
        let begin = run.get().partition_point(|other| other.place() < place);
        let mut index = begin;
        while let Some(other) = run.get().get(index).filter(|other| other.place() == place) {
            if other.key == timer.key {
                return;
            }
            index += 1;
        }
        self.len += 1;
        let run = run.get_mut();
        run.insert(index, timer);
        self.split_if_long(from);
    }

    /// Sets a timer that is before all others.
    fn set_first(&mut self, timer: SetTimer<K>) {
        let mut run = self.runs.pop_first().map(|(_, run)| run).unwrap_or_default();
        let place = timer.place();
        run.get_mut().push_front(timer);
        self.len += 1;
        self.runs.insert(place, run);
        self.split_if_long(place);
    }

    /// Splits a run that has grown too long: between two places next to the middle, or, if it was the last run and has
    /// grown at its end, there, since most timers are set for later than all others.
    fn split_if_long(&mut self, from: Place) {
        let last = self.runs.last_key_value().is_some_and(|(place, _)| *place == from);
        let Some(run) = self.runs.get_mut(&from).filter(|run| run.get().len() > RUN_TIMERS_MAX) else { return };
        let run = run.get_mut();
        let middle = if last { run.len() - 1 } else { run.len() / 2 };
        let middle = run[middle].place();
        let before = run.partition_point(|timer| timer.place() < middle);
        let at = if before > 0 { before } else { run.partition_point(|timer| timer.place() == middle) };
        if at < run.len() {
            let rest = run.split_off(at);
            self.runs.insert(rest[0].place(), CopyOnWrite::Own(rest));
        }
    }

    /// Takes a timer back, if it is set.
    pub fn delete(&mut self, time: i64, hash: KeyHash, key: &K) {
        let place = (time, hash.0);
        let Some((&from, run)) = self.runs.range_mut(..=place).next_back() else { return };
        let begin = run.get().partition_point(|other| other.place() < place);
        let mut same = run.get().range(begin..).take_while(|other| other.place() == place);
        let Some(index) = same.position(|other| other.key == *key) else { return };
        run.get_mut().remove(begin + index);
        self.len -= 1;
        if run.get().is_empty() {
            self.runs.remove(&from);
        }
    }

    /// All timers as they are now, in the order of their times; later changes do not show in them.
    pub fn share(&mut self) -> Vec<Arc<VecDeque<SetTimer<K>>>> {
        self.runs.values_mut().map(CopyOnWrite::share).collect()
    }

    /// The time of the next timer.
    #[must_use]
    pub fn next_time(&self) -> Option<i64> {
        let (_, run) = self.runs.first_key_value()?;
        run.get().front().map(|timer| timer.time)
    }

    /// Takes the next timer whose time is not after `now`.
    pub fn pop_due(&mut self, now: i64) -> Option<(i64, KeyHash, K)> {
        if self.next_time()? > now {
            return None;
        }
        let mut first = self.runs.first_entry()?;
        let run = first.get_mut().get_mut();
        let popped = run.pop_front();
        if run.is_empty() {
            first.remove();
        }
        self.len -= 1;
        popped.map(|SetTimer { time, hash, key }| (time, hash, key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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

    type Oracle = BTreeSet<(i64, u64, u64)>;

    fn contents(shared: &[Arc<VecDeque<SetTimer<u64>>>]) -> Vec<(i64, u64, u64)> {
        shared.iter().flat_map(|run| run.iter()).map(|timer| (timer.time, timer.hash.0, timer.key)).collect()
    }

    /// In the order of times and hashes; keys of one hash may come in any.
    fn sorted(mut timers: Vec<(i64, u64, u64)>) -> Vec<(i64, u64, u64)> {
        assert!(timers.is_sorted_by_key(|(time, hash, _)| (*time, *hash)));
        timers.sort_unstable();
        timers
    }

    #[test]
    fn timers_agree_with_an_ordered_set_and_a_snapshot_shows_what_was_set() {
        let (mut timers, mut oracle, mut taken) = (TimerQueue::default(), Oracle::new(), Vec::new());
        for step in 0..40_000u64 {
            let random = (step + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
            // Some times are near, some far, some before all others; few hashes, so that keys share them.
            let time = (random % 500).cast_signed()
                + [step.cast_signed() / 4, 20_000, -step.cast_signed()][(random / 500 % 3) as usize];
            let key = random / 7_919 % 50;
            let hash = KeyHash(key % 5);
            match random / 400_000 % 6 {
                0 => {
                    let due = timers.pop_due(time / 4);
                    let next = oracle.first().filter(|first| first.0 <= time / 4).copied();
                    assert_eq!(due.as_ref().map(|due| (due.0, due.1.0)), next.map(|next| (next.0, next.1)));
                    if let Some((time, hash, key)) = due {
                        assert!(oracle.remove(&(time, hash.0, key)));
                    }
                }
                1 => {
                    timers.delete(time, hash, &key);
                    oracle.remove(&(time, hash.0, key));
                }
                _ => {
                    timers.set(time, hash, key);
                    oracle.insert((time, hash.0, key));
                }
            }
            assert_eq!((timers.len(), timers.next_time()), (oracle.len(), oracle.first().map(|first| first.0)));
            if step % 1_999 == 0 {
                taken.push((timers.share(), oracle.clone()));
            }
        }
        for (shared, oracle) in taken {
            assert_eq!(sorted(contents(&shared)), oracle.into_iter().collect::<Vec<_>>());
        }
        let longest = timers.runs.values().map(|run| run.get().len()).max();
        assert!(timers.len() > 1_000 && longest <= Some(RUN_TIMERS_MAX), "{longest:?}");
    }

    #[test]
    fn a_change_after_a_snapshot_copies_one_run() {
        let mut timers = TimerQueue::default();
        for time in 0..100_000 {
            timers.set(time, KeyHash(1), "key");
        }
        assert!(timers.runs.len() < 1_000, "runs of timers that come in order are full");
        let snapshot = timers.share();
        timers.set(50_000, KeyHash(2), "key");
        timers.delete(70_000, KeyHash(1), &"key");
        assert!(timers.pop_due(0).is_some());
        let shared = timers.runs.values().filter(|run| matches!(run, CopyOnWrite::Shared(_))).count();
        assert!(snapshot.len() - shared <= 3, "{shared} of {} are shared", snapshot.len());
    }

    #[test]
    fn many_keys_of_one_place_stay_together() {
        let mut timers = TimerQueue::default();
        for key in 0..1_000 {
            timers.set(7, KeyHash(7), key);
            timers.set(7, KeyHash(7), key);
        }
        timers.set(6, KeyHash(7), 1);
        timers.delete(7, KeyHash(7), &500);
        timers.delete(7, KeyHash(7), &500);
        assert_eq!(timers.len(), 1_000);
        assert_eq!(timers.pop_due(7), Some((6, KeyHash(7), 1)));
        assert_eq!(std::iter::from_fn(|| timers.pop_due(7)).count(), 999);
    }
}
