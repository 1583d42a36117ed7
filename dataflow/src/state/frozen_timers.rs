//! The timers of one sub-task at one moment, by key group.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use tidemill_model::key::Key;
use tidemill_model::key_group::KeyGroup;

use super::frozen::{FrozenState, encode_entries};
use crate::engine::snapshot::Form;
use crate::engine::timers::{SetTimer, TimerQueue};
use crate::record;
use crate::runtime::task::TaskContext;

/// Keys with the times of their timers, shared with the queue until it changes them.
///
/// Whoever writes them sorts them by key group: the queue has them in the order of their times. Windows set at most two a
/// key and leave none, as their state tells them.
pub(crate) struct FrozenTimers<K> {
    range: Range<u32>,
    max_parallelism: u32,
    version: u64,
    runs: Vec<Arc<VecDeque<SetTimer<K>>>>,
    /// For each group, the run and place of its timers.
    by_group: OnceCell<Vec<Vec<(usize, usize)>>>,
}

impl<K: Key> FrozenTimers<K> {
    /// The timers of a queue; no other snapshot of it may have this version.
    pub(crate) fn new(queue: &mut TimerQueue<K>, version: u64, task: &TaskContext) -> Self {
        let (range, max_parallelism) = (task.key_groups().0, task.max_parallelism());
        Self { range, max_parallelism, version, runs: queue.share(), by_group: OnceCell::new() }
    }

    fn by_group(&self) -> &[Vec<(usize, usize)>] {
        self.by_group.get_or_init(|| {
            let mut groups: Vec<Vec<(usize, usize)>> = self.range.clone().map(|_| Vec::new()).collect();
            for (run, timers) in self.runs.iter().enumerate() {
                for (place, timer) in timers.iter().enumerate() {
                    let group = KeyGroup::of(timer.hash, self.max_parallelism).0.checked_sub(self.range.start);
                    if let Some(group) = group.and_then(|index| groups.get_mut(usize::try_from(index).ok()?)) {
                        group.push((run, place));
                    }
                }
            }
            groups
        })
    }
}

impl<K: Key> FrozenState for FrozenTimers<K> {
    fn groups(&self) -> Vec<(KeyGroup, u64)> {
        self.range.clone().map(|group| (KeyGroup(group), self.version)).collect()
    }

    fn encode(&self, index: usize, form: Form, section: &mut Vec<u8>) -> Result<u64, record::Error> {
        let timers = self.by_group()[index].iter().map(|&(run, place)| &self.runs[run][place]);
        encode_entries(timers.map(|timer| (&timer.key, &timer.time)), form, section)
    }
}
