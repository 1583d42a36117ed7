//! Keyed state of one sub-task: open addressing over the pinned hash, one slot (about a cache line) a key.

use tidemill_model::key::KeyHash;

const SLOTS_INITIAL: usize = 64;

/// How many slots are read ahead together, so that their cache misses overlap.
pub(crate) const TOUCHED_TOGETHER: usize = 32;

struct Slot<K, V> {
    /// 0: free.
    hash: u64,
    entry: Option<(K, V)>,
}

/// A map from keys to values.
///
/// Invariant: at most three quarters of the slots are taken, so every probe ends.
pub(crate) struct Table<K, V> {
    slots: Vec<Slot<K, V>>,
    len: usize,
}

/// The hash as it is kept: never 0, and with the same high half, which decides the key group.
#[inline(always)]
fn kept(hash: KeyHash) -> u64 {
    hash.0.max(1)
}

fn free_slots<K, V>(count: usize) -> Vec<Slot<K, V>> {
    (0..count).map(|_| Slot { hash: 0, entry: None }).collect()
}

impl<K, V> Table<K, V> {
    pub(crate) fn new() -> Self {
        Self { slots: free_slots(SLOTS_INITIAL), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first slot of a hash: its low half, since the high half is the same for many keys of a sub-task.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "only the low bits matter")]
    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    /// Reads where these keys will be looked for; the loads do not depend on each other, so they overlap.
    #[inline(always)]
    pub(crate) fn touch(&self, hashes: &[KeyHash]) {
        let mut seen = 0;
        for &hash in hashes {
            seen |= self.slots[self.home(kept(hash))].hash;
        }
        std::hint::black_box(seen);
    }

    /// The value of the key for which `is_key` holds.
    #[inline(always)]
    pub(crate) fn get_mut(&mut self, hash: KeyHash, is_key: impl Fn(&K) -> bool) -> Option<&mut V> {
        let hash = kept(hash);
        let mask = self.slots.len() - 1;
        let mut index = self.home(hash);
        loop {
            let slot = &self.slots[index];
            if slot.hash == 0 {
                return None;
            }
            if slot.hash == hash && slot.entry.as_ref().is_some_and(|(key, _)| is_key(key)) {
                return self.slots[index].entry.as_mut().map(|(_, value)| value);
            }
            index = (index + 1) & mask;
        }
    }

    /// Adds a key that is not there.
    pub(crate) fn insert_new(&mut self, hash: KeyHash, key: K, value: V) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        self.place(Slot { hash: kept(hash), entry: Some((key, value)) });
        self.len += 1;
    }

    fn place(&mut self, slot: Slot<K, V>) {
        let mask = self.slots.len() - 1;
        let mut index = self.home(slot.hash);
        while self.slots[index].hash != 0 {
            index = (index + 1) & mask;
        }
        self.slots[index] = slot;
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let doubled = free_slots(self.slots.len() * 2);
        for slot in std::mem::replace(&mut self.slots, doubled) {
            if slot.hash != 0 {
                self.place(slot);
            }
        }
    }

    /// Empties the table, keeping its memory.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (KeyHash, K, V)> + '_ {
        self.len = 0;
        self.slots.iter_mut().filter_map(|slot| {
            let hash = KeyHash(std::mem::take(&mut slot.hash));
            slot.entry.take().map(|(key, value)| (hash, key, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tidemill_model::key::Key;

    #[test]
    fn it_agrees_with_an_ordered_map() {
        let (mut table, mut oracle) = (Table::new(), BTreeMap::new());
        for step in 0..50_000u64 {
            let key = step.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 7001;
            let hash = key.key_hash();
            match table.get_mut(hash, |&other| other == key) {
                Some(count) => *count += 1,
                None => table.insert_new(hash, key, 1u64),
            }
            *oracle.entry(key).or_insert(0) += 1;
        }
        assert_eq!(table.len(), oracle.len());
        let drained: BTreeMap<u64, u64> = table.drain().map(|(_, key, count)| (key, count)).collect();
        assert_eq!(drained, oracle);
        assert_eq!((table.len(), table.drain().count()), (0, 0));
    }

    #[test]
    fn keys_with_one_hash_are_told_apart() {
        let mut table = Table::new();
        for key in 0..100u32 {
            table.insert_new(KeyHash(0), key, key);
        }
        for key in 0..100u32 {
            assert_eq!(table.get_mut(KeyHash(0), |&other| other == key), Some(&mut { key }));
        }
        assert_eq!(table.get_mut(KeyHash(0), |&other| other == 100), None);
    }
}
