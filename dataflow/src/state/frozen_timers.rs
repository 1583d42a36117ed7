//! The timers of one sub-task at one moment, by key group.

use tidemill_model::key::Key;
use tidemill_model::key_group::KeyGroup;

use super::frozen::{FrozenState, encode_entries};
use crate::engine::snapshot::Form;
use crate::engine::timers::TimerQueue;
use crate::record;
use crate::runtime::task::TaskContext;

/// Keys with the times of their timers.
///
/// Timers are copied, since they are kept in the order of their times and not by key group; windows set at most two a key
/// and need no copy, as their state tells them.
pub(crate) struct FrozenTimers<K> {
    first: u32,
    groups: Vec<Vec<(K, i64)>>,
    version: u64,
}

impl<K: Key> FrozenTimers<K> {
    /// The timers of a queue; no other snapshot of it may have this version.
    pub(crate) fn new(queue: &TimerQueue<K>, version: u64, task: &TaskContext) -> Self {
        let (range, max_parallelism) = (task.key_groups().0, task.max_parallelism());
        let mut groups: Vec<Vec<(K, i64)>> = range.clone().map(|_| Vec::new()).collect();
        for (time, hash, key) in queue.iter() {
            let group = KeyGroup::of(hash, max_parallelism).0.checked_sub(range.start);
            if let Some(timers) = group.and_then(|index| groups.get_mut(usize::try_from(index).ok()?)) {
                timers.push((key.clone(), time));
            }
        }
        Self { first: range.start, groups, version }
    }
}

impl<K: Key> FrozenState for FrozenTimers<K> {
    fn groups(&self) -> Vec<(KeyGroup, u64)> {
        (self.first..).map(KeyGroup).zip(self.groups.iter().map(|_| self.version)).collect()
    }

    fn encode(&self, index: usize, form: Form, section: &mut Vec<u8>) -> Result<u64, record::Error> {
        encode_entries(self.groups[index].iter().map(|(key, time)| (key, time)), form, section)
    }
}
