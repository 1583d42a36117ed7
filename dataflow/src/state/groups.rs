//! The tables of the key groups that one sub-task owns, which it shares with snapshots.
//!
//! To copy a table of a large state takes milliseconds, and after a snapshot all groups are changed within moments. So what
//! is changed of a shared table goes into a small one beside it (as in a log-structured tree), entry by entry, and comes
//! back when the snapshot is written. Where there are many changes the tables are copied, too, but one after the other.

use std::sync::Arc;

use tidemill_model::key::KeyHash;
use tidemill_model::key_group::{KeyGroup, KeyGroupRange};

use super::frozen::FrozenTable;
use super::table::Table;

/// The slots of a key group that has no key yet.
const SLOTS_INITIAL: usize = 8;

/// Up to how many slots a shared table is copied at once: it takes as long as some changes beside it.
const COPIED_SLOTS: usize = 512;

/// How many slots of shared tables may be copied for each change beside one, which takes about as long as the change. With
/// few changes a second there are long pauses between two copies; with many all tables are soon the task's own again.
const COPIED_PER_CHANGE: usize = 64;

/// When more than this part of a shared table is changed, it is copied in any case.
const CHANGED_PART: usize = 4;

/// How many changes come back with each further one, when the snapshot is written.
const BROUGHT_BACK_TOGETHER: usize = 16;

/// The table of one key group.
#[derive(Debug)]
struct Group<K, V> {
    /// Which of the states that the group has gone through this is; it grows with the first change after a snapshot.
    version: u64,
    table: Holding<K, V>,
}

#[derive(Debug)]
enum Holding<K, V> {
    /// Nobody else looks at it.
    Own(Table<K, V>),
    /// A snapshot has it, too: it does not change.
    Shared(Arc<Table<K, V>>),
    /// The same, and it was changed since.
    Changed(Box<Changed<K, V>>),
}

/// A table as a snapshot has it, and what was changed since.
#[derive(Debug)]
struct Changed<K, V> {
    before: Arc<Table<K, V>>,
    /// The hashes whose entries are in `now`, and not what they are in `before`.
    hashes: Table<KeyHash, ()>,
    /// Invariant: those of `hashes`, and some that were.
    order: Vec<KeyHash>,
    now: Table<K, V>,
}

impl<K, V> Changed<K, V> {
    fn new(before: Arc<Table<K, V>>) -> Self {
        let (hashes, now) = (Table::with_slots(SLOTS_INITIAL), Table::with_slots(SLOTS_INITIAL));
        Self { before, hashes, order: Vec::new(), now }
    }

    fn is_changed(&self, hash: KeyHash) -> bool {
        self.hashes.get(hash, |_| true).is_some()
    }

    #[cold]
    #[inline(never)]
    fn table(&self, hash: KeyHash) -> &Table<K, V> {
        if self.is_changed(hash) { &self.now } else { &self.before }
    }
}

/// Puts what has been changed of a hash, if anything, back into the table that it was taken from.
fn bring_back<K, V>(
    hash: KeyHash,
    (hashes, now): (&mut Table<KeyHash, ()>, &mut Table<K, V>),
    before: &mut Table<K, V>,
) {
    if hashes.remove(hash, |_| true).is_some() {
        before.retain_hash(hash, &mut |_, _| false);
        while let Some((key, value)) = now.pop_hash(hash) {
            before.add(hash, key, value);
        }
    }
}

impl<K: Clone, V: Clone> Changed<K, V> {
    /// The table in which a hash is changed.
    fn open(&mut self, hash: KeyHash) -> &mut Table<K, V> {
        if let Some(before) = Arc::get_mut(&mut self.before) {
            let changed = (&mut self.hashes, &mut self.now);
            bring_back(hash, changed, before);
            for hash in self.order.drain(self.order.len().saturating_sub(BROUGHT_BACK_TOGETHER)..) {
                bring_back(hash, (&mut self.hashes, &mut self.now), before);
            }
        } else if !self.is_changed(hash) {
            self.hashes.put(hash, hash, ());
            self.order.push(hash);
            for (key, value) in self.before.of_hash(hash) {
                self.now.add(hash, key.clone(), value.clone());
            }
        }
        // Two looks: one could not be given away.
        if self.is_changed(hash) { &mut self.now } else { Arc::make_mut(&mut self.before) }
    }

    /// Whether nothing is left to bring back, or so much is changed that a copy is better.
    fn is_over(&self) -> bool {
        let is_shared = Arc::strong_count(&self.before) > 1;
        self.order.is_empty() || is_shared && self.hashes.len() > self.before.len() / CHANGED_PART
    }

    /// Everything in one table.
    fn whole(mut self) -> Table<K, V> {
        // A snapshot that is written by now has let go of it.
        let mut table = Arc::try_unwrap(self.before).unwrap_or_else(|before| (*before).clone());
        for hash in self.order {
            bring_back(hash, (&mut self.hashes, &mut self.now), &mut table);
        }
        table
    }
}

impl<K, V> Group<K, V> {
    #[inline(always)]
    fn table(&self, hash: KeyHash) -> &Table<K, V> {
        match &self.table {
            Holding::Own(table) => table,
            Holding::Shared(table) => table,
            Holding::Changed(changed) => changed.table(hash),
        }
    }

    fn take(&mut self) -> Holding<K, V> {
        std::mem::replace(&mut self.table, Holding::Own(Table::with_slots(1)))
    }
}

impl<K: Clone, V: Clone> Group<K, V> {
    /// The slots of the table, if a snapshot looks at it.
    fn shared_slots(&self) -> Option<usize> {
        let shared = match &self.table {
            Holding::Own(_) => return None,
            Holding::Shared(shared) => shared,
            Holding::Changed(changed) => &changed.before,
        };
        (Arc::strong_count(shared) > 1).then(|| shared.slot_count())
    }

    /// The table of a hash, to be changed, when it is not simply the group's own.
    fn open(&mut self, hash: KeyHash) -> &mut Table<K, V> {
        self.table = match self.take() {
            Holding::Own(table) => Holding::Own(table),
            Holding::Shared(shared) => {
                self.version += 1;
                match Arc::try_unwrap(shared) {
                    // A snapshot that is written by now has let go of it.
                    Ok(table) => Holding::Own(table),
                    Err(shared) if shared.slot_count() <= COPIED_SLOTS => Holding::Own((*shared).clone()),
                    Err(shared) => Holding::Changed(Box::new(Changed::new(shared))),
                }
            }
            Holding::Changed(changed) if changed.is_over() => Holding::Own(changed.whole()),
            Holding::Changed(changed) => Holding::Changed(changed),
        };
        match &mut self.table {
            Holding::Own(table) => table,
            Holding::Changed(changed) => changed.open(hash),
            Holding::Shared(_) => unreachable!("it was made the group's own, or has changes beside it"),
        }
    }

    /// The table with all changes, the group's own.
    fn whole(&mut self) -> &mut Table<K, V> {
        self.table = Holding::Own(match self.take() {
            Holding::Own(table) => table,
            Holding::Shared(shared) => {
                self.version += 1;
                Arc::try_unwrap(shared).unwrap_or_else(|shared| (*shared).clone())
            }
            Holding::Changed(changed) => changed.whole(),
        });
        match &mut self.table {
            Holding::Own(table) => table,
            Holding::Shared(_) | Holding::Changed(_) => unreachable!("it was made the group's own"),
        }
    }

    /// The table with all changes, to be looked at.
    fn one(&mut self) -> &Table<K, V> {
        if let Holding::Changed(_) = self.table {
            self.whole();
        }
        match &self.table {
            Holding::Own(table) => table,
            Holding::Shared(table) => table,
            Holding::Changed(_) => unreachable!("it was made the group's own"),
        }
    }

    /// The table, if it can be changed without a copy.
    fn free(&mut self) -> Option<&mut Table<K, V>> {
        self.shared_slots().is_none().then(|| self.whole())
    }

    /// The table as it is now, and the version that it will keep.
    fn share(&mut self) -> (u64, Arc<Table<K, V>>) {
        let shared = match self.take() {
            Holding::Own(table) => Arc::new(table),
            Holding::Shared(shared) => shared,
            Holding::Changed(changed) => Arc::new(changed.whole()),
        };
        self.table = Holding::Shared(Arc::clone(&shared));
        (self.version, shared)
    }
}

/// The tables of the key groups that one sub-task owns.
#[derive(Debug)]
pub(super) struct Groups<K, V> {
    groups: Vec<Group<K, V>>,
    first: u32,
    max_parallelism: u32,
    /// How many slots of shared tables may be copied now.
    copyable: usize,
}

impl<K, V> Groups<K, V> {
    /// The groups of a range, empty.
    pub(super) fn of(KeyGroupRange(range): &KeyGroupRange, max_parallelism: u32) -> Self {
        let group = |_| Group { version: 0, table: Holding::Own(Table::with_slots(SLOTS_INITIAL)) };
        Self { groups: range.clone().map(group).collect(), first: range.start, max_parallelism, copyable: 0 }
    }

    /// The place of the group that a hash belongs to.
    ///
    /// # Panics
    /// The group is another sub-task's: the exchange has sent the record astray.
    #[inline(always)]
    fn index(&self, hash: KeyHash) -> usize {
        (KeyGroup::of(hash, self.max_parallelism).0 - self.first) as usize
    }

    /// The table of a hash.
    #[inline(always)]
    pub(super) fn table(&self, hash: KeyHash) -> &Table<K, V> {
        self.groups[self.index(hash)].table(hash)
    }

    /// All tables: what they take, and not what they mean together.
    #[cfg(all(test, feature = "rocksdb"))]
    pub(super) fn tables(&self) -> impl Iterator<Item = &Table<K, V>> {
        self.groups.iter().flat_map(|group| match &group.table {
            Holding::Own(table) => vec![table],
            Holding::Shared(table) => vec![&**table],
            Holding::Changed(changed) => vec![&*changed.before, &changed.now],
        })
    }
}

impl<K: Clone, V: Clone> Groups<K, V> {
    /// The table in which the entries of a hash are, all of them, to be changed.
    #[inline(always)]
    pub(super) fn table_mut(&mut self, hash: KeyHash) -> &mut Table<K, V> {
        let index = self.index(hash);
        if !matches!(self.groups[index].table, Holding::Own(_)) {
            return self.open(index, hash);
        }
        match &mut self.groups[index].table {
            Holding::Own(table) => table,
            Holding::Shared(_) | Holding::Changed(_) => unreachable!("it was looked at"),
        }
    }

    #[cold]
    #[inline(never)]
    fn open(&mut self, index: usize, hash: KeyHash) -> &mut Table<K, V> {
        self.copyable += COPIED_PER_CHANGE;
        let group = &mut self.groups[index];
        match group.shared_slots().and_then(|slots| self.copyable.checked_sub(slots)) {
            Some(left) => {
                self.copyable = left;
                group.whole()
            }
            None => group.open(hash),
        }
    }

    /// Everything as it is now.
    pub(super) fn share(&mut self) -> FrozenTable<K, V> {
        self.copyable = 0;
        let groups = self.groups.iter_mut().map(Group::share).collect();
        FrozenTable::new((self.first, self.max_parallelism), groups)
    }

    /// Looks at the slots from a group and slot on, as many as `budget` has left, and takes out what `keep` refuses;
    /// answers where to go on. Groups that a snapshot looks at are left for later.
    pub(super) fn retain_from(
        &mut self,
        (mut index, mut slot): (usize, usize),
        budget: usize,
        keep: &mut dyn FnMut(&K, &mut V) -> bool,
    ) -> (usize, usize) {
        let (mut left, count) = (budget, self.groups.len());
        // Small tables are not gone through twice.
        for _ in 0..=count {
            let Some(group) = self.groups.get_mut(index).filter(|_| left > 0) else { break };
            let next = group.free().and_then(|table| table.retain_from(slot, &mut left, keep));
            (index, slot) = next.map_or(((index + 1) % count, 0), |slot| (index, slot));
        }
        (index, slot)
    }

    /// Shows each key with its value, group by group.
    pub(super) fn try_for_each<E>(&mut self, each: &mut dyn FnMut(KeyHash, &K, &V) -> Result<(), E>) -> Result<(), E> {
        let mut tables = self.groups.iter_mut().map(Group::one);
        tables.try_for_each(|table| table.iter().try_for_each(|(hash, key, value)| each(hash, key, value)))
    }

    /// Empties all groups, in their order, and shows what was in them.
    pub(super) fn drain<E>(&mut self, each: &mut dyn FnMut(KeyHash, K, V) -> Result<(), E>) -> Result<(), E> {
        let mut entries = self.groups.iter_mut().flat_map(|group| group.whole().drain());
        entries.try_for_each(|(hash, key, value)| each(hash, key, value))
    }
}

#[cfg(test)]
mod tests;
