//! An open-addressing table over the pinned hash: linear probing, one slot (half a cache line or one) a key.

use std::num::NonZeroU64;

use tidemill_model::key::KeyHash;

use super::prefetch::prefetch;

/// A key and its value.
#[derive(Debug, Clone)]
struct Entry<K, V> {
    /// The pinned hash; 0 counts as 1, so that a free slot needs no mark of its own.
    hash: NonZeroU64,
    key: K,
    value: V,
}

/// Where a key is, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The key is in this slot.
    Taken(usize),
    /// The key is not there; this free slot is where it belongs.
    Free(usize),
}

/// A map from keys to values.
///
/// Invariants: the number of slots is a power of two; at most three quarters of them are taken, so every probe ends;
/// between a key's home and its slot no slot is free.
#[derive(Debug, Clone)]
pub(crate) struct Table<K, V> {
    slots: Vec<Option<Entry<K, V>>>,
    len: usize,
}

#[inline(always)]
fn kept(hash: KeyHash) -> NonZeroU64 {
    NonZeroU64::new(hash.0).unwrap_or(NonZeroU64::MIN)
}

fn free_slots<K, V>(count: usize) -> Vec<Option<Entry<K, V>>> {
    std::iter::repeat_with(|| None).take(count).collect()
}

impl<K, V> Table<K, V> {
    /// An empty table with this many slots, a power of two.
    pub(crate) fn with_slots(count: usize) -> Self {
        debug_assert!(count.is_power_of_two());
        Self { slots: free_slots(count), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first slot of a hash: its low half, since the high half is the same for all keys of a key group.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "only the low bits matter")]
    fn home(&self, hash: NonZeroU64) -> usize {
        hash.get() as usize & (self.slots.len() - 1)
    }

    /// Has the slots fetched where a key will be looked for first.
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        prefetch(&self.slots[self.home(kept(hash))]);
    }

    /// Where the key of this hash is for which `is_key` holds; makes room for it, if it is not there.
    #[inline(always)]
    pub(crate) fn probe(&mut self, hash: KeyHash, is_key: impl Fn(&K) -> bool) -> Place {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        self.find(kept(hash), is_key)
    }

    #[inline(always)]
    fn find(&self, hash: NonZeroU64, is_key: impl Fn(&K) -> bool) -> Place {
        let mask = self.slots.len() - 1;
        let mut index = self.home(hash);
        loop {
            match &self.slots[index] {
                None => return Place::Free(index),
                Some(entry) if entry.hash == hash && is_key(&entry.key) => return Place::Taken(index),
                Some(_) => index = (index + 1) & mask,
            }
        }
    }

    /// The key and value in a slot.
    ///
    /// # Panics
    /// The slot is not one that [`probe`](Self::probe) found taken since the last change.
    #[inline(always)]
    pub(crate) fn entry(&mut self, slot: usize) -> (&K, &mut V) {
        let entry = self.slots[slot].as_mut().expect("probe found it taken");
        (&entry.key, &mut entry.value)
    }

    /// Puts a key into the slot that [`probe`](Self::probe) found free for it.
    #[inline(always)]
    pub(crate) fn fill(&mut self, slot: usize, hash: KeyHash, key: K, value: V) -> (&K, &mut V) {
        self.len += 1;
        let entry = self.slots[slot].insert(Entry { hash: kept(hash), key, value });
        (&entry.key, &mut entry.value)
    }

    /// Gives a key this value, whether it had one or not.
    pub(crate) fn put(&mut self, hash: KeyHash, key: K, value: V)
    where
        K: Eq,
    {
        match self.probe(hash, |other| *other == key) {
            Place::Taken(slot) => *self.entry(slot).1 = value,
            Place::Free(slot) => {
                self.fill(slot, hash, key, value);
            }
        }
    }

    /// Adds a key that is not there.
    pub(super) fn add(&mut self, hash: KeyHash, key: K, value: V) {
        // No key is another one, so what is found is free.
        if let Place::Free(slot) = self.probe(hash, |_| false) {
            self.fill(slot, hash, key, value);
        }
    }

    /// The value of the key for which `is_key` holds.
    #[inline(always)]
    pub(crate) fn get(&self, hash: KeyHash, is_key: impl Fn(&K) -> bool) -> Option<&V> {
        match self.find(kept(hash), is_key) {
            Place::Taken(slot) => self.slots[slot].as_ref().map(|entry| &entry.value),
            Place::Free(_) => None,
        }
    }

    /// The value of the key for which `is_key` holds, to be changed.
    #[inline(always)]
    pub(crate) fn get_mut(&mut self, hash: KeyHash, is_key: impl Fn(&K) -> bool) -> Option<&mut V> {
        match self.find(kept(hash), is_key) {
            Place::Taken(slot) => Some(self.entry(slot).1),
            Place::Free(_) => None,
        }
    }

    /// Takes out the key for which `is_key` holds.
    pub(crate) fn remove(&mut self, hash: KeyHash, is_key: impl Fn(&K) -> bool) -> Option<V> {
        let Place::Taken(slot) = self.find(kept(hash), is_key) else { return None };
        self.remove_at(slot).map(|entry| entry.value)
    }

    /// Takes out a key of a hash, if there is any.
    pub(super) fn pop_hash(&mut self, hash: KeyHash) -> Option<(K, V)> {
        let Place::Taken(slot) = self.find(kept(hash), |_| true) else { return None };
        self.remove_at(slot).map(|entry| (entry.key, entry.value))
    }

    /// The keys of a hash with their values.
    pub(crate) fn of_hash(&self, hash: KeyHash) -> impl Iterator<Item = (&K, &V)> {
        let (hash, mask) = (kept(hash), self.slots.len() - 1);
        let home = self.home(hash);
        let slots = (0..self.slots.len()).map_while(move |step| self.slots[(home + step) & mask].as_ref());
        slots.filter(move |entry| entry.hash == hash).map(|entry| (&entry.key, &entry.value))
    }

    /// Takes out the keys of a hash that `keep` refuses; answers how many.
    pub(crate) fn retain_hash(&mut self, hash: KeyHash, keep: &mut dyn FnMut(&K, &mut V) -> bool) -> usize {
        let (hash, mask) = (kept(hash), self.slots.len() - 1);
        let (mut index, mut refused) = (self.home(hash), 0);
        while let Some(entry) = &mut self.slots[index] {
            if entry.hash == hash && !keep(&entry.key, &mut entry.value) {
                // What moves into the slot is looked at next.
                self.remove_at(index);
                refused += 1;
            } else {
                index = (index + 1) & mask;
            }
        }
        refused
    }

    /// How many slots there are.
    pub(crate) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// The bytes of a slot.
    pub(crate) const fn slot_bytes() -> usize {
        size_of::<Option<Entry<K, V>>>()
    }

    /// Takes out what is in a slot; another key may move into it.
    fn remove_at(&mut self, mut hole: usize) -> Option<Entry<K, V>> {
        let removed = self.slots[hole].take()?;
        self.len -= 1;
        // What was pushed behind the hole by it moves up, so that no probe ends early.
        let mask = self.slots.len() - 1;
        let mut index = (hole + 1) & mask;
        while let Some(entry) = &self.slots[index] {
            let from_home = index.wrapping_sub(self.home(entry.hash)) & mask;
            let from_hole = index.wrapping_sub(hole) & mask;
            if from_home >= from_hole {
                self.slots.swap(hole, index);
                hole = index;
            }
            index = (index + 1) & mask;
        }
        Some(removed)
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let doubled = free_slots(self.slots.len() * 2);
        let mask = doubled.len() - 1;
        for entry in std::mem::replace(&mut self.slots, doubled).into_iter().flatten() {
            let mut index = self.home(entry.hash);
            while self.slots[index].is_some() {
                index = (index + 1) & mask;
            }
            self.slots[index] = Some(entry);
        }
    }

    /// Looks at the slots from `start` on, as many as `budget` has left, and takes out what `keep` refuses; answers
    /// where to go on, unless the end was reached.
    pub(crate) fn retain_from(
        &mut self,
        start: usize,
        budget: &mut usize,
        keep: &mut dyn FnMut(&K, &mut V) -> bool,
    ) -> Option<usize> {
        let mut index = start;
        while *budget > 0 {
            *budget -= 1;
            let refused = self.slots.get_mut(index)?.as_mut().is_some_and(|entry| !keep(&entry.key, &mut entry.value));
            if refused {
                // What moves into the slot is looked at next.
                self.remove_at(index);
            } else {
                index += 1;
            }
        }
        Some(index)
    }

    /// All keys with their values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (KeyHash, &K, &V)> {
        self.slots.iter().flatten().map(|entry| (KeyHash(entry.hash.get()), &entry.key, &entry.value))
    }

    /// Empties the table, keeping its memory; the iterator must be used up.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (KeyHash, K, V)> + '_ {
        self.len = 0;
        self.slots.iter_mut().filter_map(Option::take).map(|entry| (KeyHash(entry.hash.get()), entry.key, entry.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tidemill_model::key::Key;

    fn add(table: &mut Table<u64, u64>, key: u64, hash: KeyHash) {
        match table.probe(hash, |&other| other == key) {
            Place::Taken(slot) => *table.entry(slot).1 += 1,
            Place::Free(slot) => {
                table.fill(slot, hash, key, 1);
            }
        }
    }

    #[test]
    fn it_agrees_with_an_ordered_map() {
        // Whole hashes, and such that collide all the time.
        for mask in [u64::MAX, 0x7f] {
            let (mut table, mut oracle) = (Table::with_slots(2), BTreeMap::new());
            for step in 0..50_000u64 {
                let key = step.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 701;
                let hash = KeyHash(key.key_hash().0 & mask);
                if step % 3 == 2 {
                    assert_eq!(table.remove(hash, |&other| other == key), oracle.remove(&key));
                } else {
                    add(&mut table, key, hash);
                    *oracle.entry(key).or_insert(0) += 1;
                }
                assert_eq!(table.len(), oracle.len());
            }
            for key in 0..701u64 {
                let hash = KeyHash(key.key_hash().0 & mask);
                assert_eq!(table.get_mut(hash, |&other| other == key).copied(), oracle.get(&key).copied());
            }
            let drained: BTreeMap<u64, u64> = table.drain().map(|(_, key, count)| (key, count)).collect();
            assert_eq!(drained, oracle);
            assert_eq!((table.len(), table.drain().count()), (0, 0));
        }
    }

    #[test]
    fn keys_with_one_hash_are_told_apart() {
        let mut table = Table::with_slots(2);
        for key in (0..100).chain(0..50) {
            add(&mut table, key, KeyHash(0));
        }
        let mut count = |key| table.get_mut(KeyHash(0), |&other| other == key).copied();
        assert_eq!((count(0), count(49), count(50), count(99), count(100)), (Some(2), Some(2), Some(1), Some(1), None));
    }

    #[test]
    fn every_key_that_is_not_kept_goes_whatever_the_budget() {
        for (mask, budget) in [(u64::MAX, 1), (u64::MAX, 7), (0x3f, 3), (0x3f, 1000)] {
            let mut table = Table::with_slots(2);
            for key in 0..500u64 {
                add(&mut table, key, KeyHash(key.key_hash().0 & mask));
            }
            let mut cursor = Some(0);
            while let Some(start) = cursor {
                cursor = table.retain_from(start, &mut { budget }, &mut |key, _| key % 3 == 0);
            }
            assert_eq!(table.len(), 167);
            for key in 0..500u64 {
                let hash = KeyHash(key.key_hash().0 & mask);
                assert_eq!(table.get_mut(hash, |&other| other == key).is_some(), key % 3 == 0);
            }
            assert_eq!(table.iter().map(|(_, key, _)| key % 3).sum::<u64>(), 0);
        }
    }

    #[test]
    fn a_slot_of_two_integers_and_a_key_is_half_a_cache_line() {
        assert_eq!(size_of::<Option<Entry<u64, (u64, u64)>>>(), 32);
    }
}
