//! What is in use of a state that is on disk: its entries are in the tables of [`Groups`], and this says which.
//!
//! Entries come into memory all of a hash together, a batch of hashes at a time. Changed ones are written back when room is
//! needed, or handed to the writer of a snapshot: their tables are shared with it. What was not used for the longest time,
//! about, goes first (second chance).

use std::rc::Rc;

use tidemill_model::key::{Key, KeyHash};

use self::residency::Residency;
use super::FrozenState;
use super::groups::Groups;
use super::handed_over::{HandedOver, Sizes};
use super::table::{Place, Table};
use crate::record::Data;
use crate::runtime::sink::UserError;

mod disk;
mod memory;
mod residency;

pub(crate) use self::disk::Disk;
pub(crate) use self::memory::CacheMemory;

/// By how many bytes a value that points to memory is taken to grow when it is lent for change, until it is written back
/// and its size is known.
const GROWTH_BYTES: u32 = 64;

/// How many hashes are read from disk at a time when all are gone through.
const SCANNED_AT_ONCE: usize = 4096;

/// How many sizes that the writer of a snapshot has found are taken note of in a batch.
const SIZES_AT_ONCE: usize = 256;

/// By which part memory may overflow while the writer of a snapshot keeps the disk as it was.
const OVERFLOW_PART: usize = 4;

/// How many slots of memory cost as much to look at as one hash on disk.
const SLOTS_PER_SCAN: usize = 16;

/// Which entries of a state are in memory, and the disk that all others are on.
pub(crate) struct Cache<K, V> {
    disk: Box<dyn Disk<K, V>>,
    resident: Table<KeyHash, Residency>,
    /// How many snapshots have been taken, and one more. Invariant: what was changed in an earlier epoch is written back,
    /// or handed over.
    epoch: u32,
    /// The hashes that have been changed in this epoch. Invariant: each as often as in `evicted`, and once more if it is
    /// changed and not written back.
    changed: Vec<KeyHash>,
    /// Those of them that were written back when they left memory.
    evicted: Vec<KeyHash>,
    /// The sizes of what was handed over, once they are known.
    sizes: Sizes,
    /// About how much memory the resident hashes take.
    bytes: usize,
    memory: Rc<CacheMemory>,
    /// Where eviction goes on.
    hand: usize,
    /// Where [`retain_some`](Self::retain_some) goes on.
    scanned_to: KeyHash,
    missing: Vec<KeyHash>,
}

/// As tables keep hashes.
#[inline(always)]
fn kept(hash: KeyHash) -> KeyHash {
    KeyHash(hash.0.max(1))
}

impl<K: Key, V: Data> Cache<K, V> {
    /// Nothing of a disk is in memory yet; at most about its share of `memory` will be.
    #[cfg_attr(not(feature = "rocksdb"), expect(dead_code, reason = "only back-ends on disk do this"))]
    pub(crate) fn new(disk: Box<dyn Disk<K, V>>, memory: &Rc<CacheMemory>) -> Self {
        memory.caches.set(memory.caches.get() + 1);
        Self {
            disk,
            resident: Table::with_slots(64),
            epoch: Residency::UNCHANGED + 1,
            changed: Vec::new(),
            evicted: Vec::new(),
            sizes: Sizes::default(),
            bytes: 0,
            memory: Rc::clone(memory),
            hand: 0,
            scanned_to: KeyHash(0),
            missing: Vec::new(),
        }
    }

    /// Whether entries point to memory of their own.
    const ON_HEAP: bool = std::mem::needs_drop::<(K, V)>();

    /// Which part of the memory is made free when it is full: little, so that nobody waits for long, or more, where all
    /// that was changed is written for it.
    const EVICTED_PART: usize = if Self::ON_HEAP { 8 } else { 32 };

    /// The slots of a hash, of which tables have up to twice as many as entries.
    const SLOT_BYTES: usize = 2 * (Table::<K, V>::slot_bytes() + Table::<KeyHash, Residency>::slot_bytes());

    fn heap_bytes(encoded: usize) -> u32 {
        if Self::ON_HEAP { u32::try_from(encoded).unwrap_or(u32::MAX) } else { 0 }
    }

    fn residency(&mut self, hash: KeyHash) -> Option<&mut Residency> {
        self.resident.get_mut(hash, |other| *other == hash)
    }

    /// How much memory it takes to know what is in memory.
    #[cfg(all(test, feature = "rocksdb"))]
    pub(super) fn index_bytes(&self) -> usize {
        self.resident.slot_count() * Table::<KeyHash, Residency>::slot_bytes()
    }

    pub(super) fn check(&mut self) -> Result<(), UserError> {
        self.disk.check()
    }
}

impl<K: Key, V: Data> Cache<K, V> {
    /// These hashes are used next: what is missing of them is read together.
    pub(super) fn prepare(&mut self, hashes: impl Iterator<Item = KeyHash>, groups: &mut Groups<K, V>) {
        self.take_sizes();
        self.make_room(groups);
        for hash in hashes.map(kept) {
            match self.resident.probe(hash, |other| *other == hash) {
                Place::Taken(slot) => self.resident.entry(slot).1.set_used(),
                Place::Free(slot) => {
                    self.resident.fill(slot, hash, hash, Residency::new());
                    self.missing.push(hash);
                }
            }
        }
        self.read_missing(groups);
    }

    fn read_missing(&mut self, groups: &mut Groups<K, V>) {
        if self.missing.is_empty() {
            return;
        }
        self.missing.sort_unstable();
        self.bytes += self.missing.len() * Self::SLOT_BYTES;
        let (resident, bytes) = (&mut self.resident, &mut self.bytes);
        self.disk.read(&self.missing, &mut |hash, entries, encoded| {
            let table = groups.table_mut(hash);
            entries.into_iter().for_each(|(key, value)| table.put(hash, key, value));
            let heap_bytes = Self::heap_bytes(encoded);
            if let Some(residency) = resident.get_mut(hash, |other| *other == hash) {
                residency.heap_bytes = heap_bytes;
                *bytes += usize::try_from(heap_bytes).unwrap_or(usize::MAX);
            }
        });
        self.missing.clear();
    }

    /// Has the entries of a hash in memory.
    #[inline]
    pub(super) fn look(&mut self, hash: KeyHash, groups: &mut Groups<K, V>) {
        match self.residency(kept(hash)) {
            Some(residency) => residency.set_used(),
            None => self.prepare([hash].into_iter(), groups),
        }
    }

    /// Has the entries of a hash in memory, to be changed.
    #[inline]
    pub(super) fn change(&mut self, hash: KeyHash, groups: &mut Groups<K, V>) {
        self.look(hash, groups);
        let hash = kept(hash);
        let Some(residency) = self.resident.get_mut(hash, |other| *other == hash) else { return };
        if Self::ON_HEAP {
            residency.heap_bytes = residency.heap_bytes.saturating_add(GROWTH_BYTES);
            self.bytes += GROWTH_BYTES as usize;
        }
        if residency.changed_in() != self.epoch {
            residency.set_changed_in(self.epoch);
            self.changed.push(hash);
        }
    }

    /// Writes what was changed.
    fn write_back(&mut self, groups: &Groups<K, V>) {
        self.disk.settle();
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        let mut entries: Vec<(&K, &V)> = Vec::new();
        for hash in changed.drain(..) {
            let residency = self.resident.get_mut(hash, |other| *other == hash);
            let Some(residency) = residency.filter(|residency| residency.changed_in() == self.epoch) else { continue };
            entries.clear();
            entries.extend(groups.table(hash).of_hash(hash));
            let heap_bytes = Self::heap_bytes(self.disk.write(hash, &entries));
            let before = std::mem::replace(&mut residency.heap_bytes, heap_bytes);
            residency.set_changed_in(Residency::UNCHANGED);
            self.bytes = (self.bytes + heap_bytes as usize).saturating_sub(before as usize);
        }
        self.disk.commit();
        self.changed = changed;
        self.evicted.clear();
    }

    /// Takes note of how much some of what was handed over really takes.
    #[inline]
    fn take_sizes(&mut self) {
        if Self::ON_HEAP {
            self.sizes.take(SIZES_AT_ONCE, |hash, encoded| {
                let residency = self.resident.get_mut(hash, |other| *other == hash);
                let Some(residency) = residency.filter(|residency| residency.changed_in() != self.epoch) else {
                    return;
                };
                let heap_bytes = Self::heap_bytes(encoded);
                let before = std::mem::replace(&mut residency.heap_bytes, heap_bytes);
                self.bytes = (self.bytes + heap_bytes as usize).saturating_sub(before as usize);
            });
        }
    }

    /// Lets go of what was not used for long, if memory is short.
    #[inline]
    fn make_room(&mut self, groups: &mut Groups<K, V>) {
        let share = self.memory.share();
        if self.bytes > share && (self.bytes > share + share / OVERFLOW_PART || self.disk.is_settled()) {
            self.evict(groups);
        }
    }

    #[cold]
    #[inline(never)]
    fn evict(&mut self, groups: &mut Groups<K, V>) {
        // What is taken out of memory must be found on disk.
        self.disk.settle();
        if Self::ON_HEAP {
            // How much they really take is known then.
            self.write_back(groups);
        }
        let share = self.memory.share();
        let goal = share - share / Self::EVICTED_PART;
        let (bytes, disk, evicted, epoch) = (&mut self.bytes, &mut self.disk, &mut self.evicted, self.epoch);
        // Once around, everything is unused.
        let mut left = 2 * self.resident.slot_count();
        while *bytes > goal && left > 0 {
            let mut budget = left.min(SCANNED_AT_ONCE);
            left -= budget;
            let next = self.resident.retain_from(self.hand, &mut budget, &mut |hash, residency| {
                if *bytes <= goal || residency.take_used() {
                    return true;
                }
                let table = groups.table_mut(*hash);
                if residency.changed_in() == epoch {
                    disk.write(*hash, &table.of_hash(*hash).collect::<Vec<_>>());
                    evicted.push(*hash);
                }
                table.retain_hash(*hash, &mut |_, _| false);
                *bytes = bytes.saturating_sub(Self::SLOT_BYTES + residency.heap_bytes as usize);
                false
            });
            self.hand = next.unwrap_or(0);
        }
        self.disk.commit();
        if self.evicted.len() > self.changed.len() / 2 {
            let (resident, epoch) = (&self.resident, self.epoch);
            let is_changed = |kept: &Residency| kept.changed_in() == epoch;
            self.changed.retain(|hash| resident.get(*hash, |other| other == hash).is_some_and(is_changed));
            self.changed.sort_unstable();
            self.changed.dedup();
            self.evicted.clear();
        }
    }

    /// Looks at some hashes on disk, each time at others, and takes out what `keep` refuses.
    pub(super) fn retain_some(
        &mut self,
        budget: usize,
        groups: &mut Groups<K, V>,
        keep: &mut dyn FnMut(&K, &mut V) -> bool,
    ) {
        if !self.disk.is_settled() {
            // Some other time.
            return;
        }
        let (resident, mut in_memory, mut rewritten) = (&mut self.resident, Vec::new(), Vec::new());
        let mut left = budget.div_ceil(SLOTS_PER_SCAN);
        // From the beginning again when the end was reached.
        for _ in 0..2 {
            let mut seen = 0;
            let next = self.disk.scan(self.scanned_to, left, &mut |hash, mut entries| {
                seen += 1;
                if resident.get(hash, |other| *other == hash).is_some() {
                    in_memory.push(hash);
                    return;
                }
                let before = entries.len();
                entries.retain_mut(|(key, value)| keep(key, value));
                if entries.len() < before {
                    rewritten.push((hash, entries));
                }
            });
            let from_the_beginning = self.scanned_to == KeyHash(0);
            self.scanned_to = next.unwrap_or(KeyHash(0));
            left = left.saturating_sub(seen);
            if next.is_some() || from_the_beginning || left == 0 {
                break;
            }
        }
        for (hash, entries) in &rewritten {
            let entries: Vec<(&K, &V)> = entries.iter().map(|(key, value)| (key, value)).collect();
            self.disk.write(*hash, &entries);
        }
        self.disk.commit();
        for hash in in_memory {
            if groups.table_mut(hash).retain_hash(hash, keep) > 0 {
                self.change(hash, groups);
            }
        }
    }

    /// Shows each key with its value.
    pub(super) fn try_for_each<E>(
        &mut self,
        groups: &mut Groups<K, V>,
        each: &mut dyn FnMut(KeyHash, K, V) -> Result<(), E>,
    ) -> Result<(), E> {
        self.write_back(groups);
        let mut from = Some(KeyHash(0));
        while let Some(start) = from {
            let mut result = Ok(());
            from = self.disk.scan(start, SCANNED_AT_ONCE, &mut |hash, entries| {
                for (key, value) in entries {
                    if result.is_ok() {
                        result = each(hash, key, value);
                    }
                }
            });
            result?;
        }
        Ok(())
    }

    /// Shows each key with its value, and takes it away.
    pub(super) fn drain<E>(
        &mut self,
        groups: &mut Groups<K, V>,
        each: &mut dyn FnMut(KeyHash, K, V) -> Result<(), E>,
    ) -> Result<(), E> {
        self.try_for_each(groups, each)?;
        for (hash, _, _) in self.resident.drain() {
            groups.table_mut(hash).retain_hash(hash, &mut |_, _| false);
        }
        self.bytes = 0;
        self.disk.clear();
        Ok(())
    }

    /// Takes in entries of a snapshot, whose hashes no entry has yet.
    pub(super) fn take_in(&mut self, mut entries: Vec<(KeyHash, K, V)>) {
        entries.sort_unstable_by_key(|(hash, _, _)| *hash);
        for together in entries.chunk_by(|(one, _, _), (other, _, _)| kept(*one) == kept(*other)) {
            let hash = kept(together[0].0);
            self.disk.write(hash, &together.iter().map(|(_, key, value)| (key, value)).collect::<Vec<_>>());
        }
        self.disk.commit();
    }

    /// Everything as it is now: what is changed is written by whoever writes the snapshot.
    pub(super) fn freeze(&mut self, groups: &mut Groups<K, V>) -> Box<dyn FrozenState> {
        let (changed, evicted) = (std::mem::take(&mut self.changed), std::mem::take(&mut self.evicted));
        self.epoch += 1;
        self.sizes = Sizes::default();
        let sizes = Self::ON_HEAP.then(|| self.sizes.clone());
        self.disk.freeze(HandedOver::new(groups.share(), changed, evicted, sizes))
    }
}
