//! The newest entries of the log as they were appended, so that sending and applying them reads and decodes nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::entry::RaftEntry;

use super::types::Entry;

/// What is kept: several times what is under way to a follower that keeps up.
const BYTES_MAX: usize = 4 << 20;

/// The newest entries. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecentEntries(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    /// With their lengths in the log. Invariant: without a gap, and the last one is the last of the log.
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl RecentEntries {
    /// Holds what has been appended to the log.
    pub(crate) fn append(&self, appended: Vec<(Entry, usize)>) {
        let mut held = self.held();
        for (entry, bytes) in appended {
            if held.entries.back().is_some_and(|(last, _)| last.index() + 1 != entry.index()) {
                *held = Held::default();
            }
            held.entries.push_back((entry, bytes));
            held.bytes += bytes;
        }
        while held.bytes > BYTES_MAX {
            held.drop_first();
        }
    }

    /// The entries from `start` on, as long as they are `wanted` or the log has any; none when the first of them is not
    /// held.
    pub(crate) fn read(&self, start: u64, wanted: impl Fn(u64) -> bool) -> Option<Vec<Entry>> {
        let held = self.held();
        let (first, _) = held.entries.front()?;
        let skipped = usize::try_from(start.checked_sub(first.index())?).ok()?;
        let later = held.entries.iter().skip(skipped).map(|(entry, _)| entry);
        Some(later.take_while(|entry| wanted(entry.index())).cloned().collect())
    }

    /// Forgets everything from the index on.
    pub(crate) fn truncate(&self, from: u64) {
        let mut held = self.held();
        while held.entries.back().is_some_and(|(last, _)| last.index() >= from) {
            let bytes = held.entries.pop_back().map_or(0, |(_, bytes)| bytes);
            held.bytes -= bytes;
        }
    }

    /// Forgets everything up to the index.
    pub(crate) fn purge(&self, upto: u64) {
        let mut held = self.held();
        while held.entries.front().is_some_and(|(first, _)| first.index() <= upto) {
            held.drop_first();
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn drop_first(&mut self) {
        let bytes = self.entries.pop_front().map_or(0, |(_, bytes)| bytes);
        self.bytes -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;

    use super::super::types::{Committed, LogId};
    use super::*;

    fn entries(indices: std::ops::Range<u64>, term: u64, bytes: usize) -> Vec<(Entry, usize)> {
        let entry = |index| Entry::new(LogId::new(Committed::new(term), index), EntryPayload::Blank);
        indices.map(|index| (entry(index), bytes)).collect()
    }

    fn read(recent: &RecentEntries, range: std::ops::Range<u64>) -> Option<Vec<(u64, u64)>> {
        let read = recent.read(range.start, |index| range.contains(&index))?;
        Some(read.iter().map(|entry| (**entry.log_id.committed_leader_id(), entry.log_id.index())).collect())
    }

    #[test]
    fn what_was_appended_is_read_as_it_stands_in_the_log() {
        let recent = RecentEntries::default();
        assert_eq!(read(&recent, 0..9), None, "the log may have entries that were appended before");
        recent.append(entries(3..6, 1, 10));
        assert_eq!(read(&recent, 3..5), Some(vec![(1, 3), (1, 4)]));
        assert_eq!(read(&recent, 5..9), Some(vec![(1, 5)]));
        assert_eq!(read(&recent, 6..9), Some(vec![]), "the log ends there");
        assert_eq!(read(&recent, 2..9), None, "the first of them is in the database only");
    }

    #[test]
    fn what_was_truncated_or_purged_is_not_read() {
        let recent = RecentEntries::default();
        recent.append(entries(1..9, 1, 10));
        recent.truncate(6);
        recent.append(entries(6..8, 2, 10));
        recent.purge(3);
        assert_eq!(read(&recent, 4..9), Some(vec![(1, 4), (1, 5), (2, 6), (2, 7)]));
        assert_eq!(read(&recent, 3..9), None);
        recent.truncate(0);
        assert_eq!(read(&recent, 4..9), None);
    }

    #[test]
    fn an_entry_behind_a_gap_stands_alone() {
        let recent = RecentEntries::default();
        recent.append(entries(1..4, 1, 10));
        recent.append(entries(7..8, 1, 10));
        assert_eq!(read(&recent, 1..9), None);
        assert_eq!(read(&recent, 7..9), Some(vec![(1, 7)]));
    }

    #[test]
    fn the_oldest_make_room() {
        let recent = RecentEntries::default();
        recent.append(entries(1..6, 1, BYTES_MAX / 4));
        assert_eq!(read(&recent, 1..6), None);
        assert_eq!(read(&recent, 2..6).map(|read| read.len()), Some(4));
        recent.append(entries(6..7, 1, BYTES_MAX + 1));
        assert_eq!(read(&recent, 6..7), None, "larger than all that is kept");
    }
}
