//! Every kind of table against one oracle, among them one that keeps bytes, as a back-end on disk does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use bytes::Bytes;
use tidemill_model::id::SubtaskIndex;
use tidemill_model::key_group::{KeyGroup, KeyGroupRange};

use super::*;
use crate::engine::snapshot::Form;
use crate::record::{decode, encode};
use crate::runtime::clock::ProcessingClock;
use crate::state::TimeToLive;
use crate::state::frozen::{decode_entries, encode_entries};
use crate::state::kept::tests::sections;
#[cfg(feature = "rocksdb")]
use crate::state::rocks::tests::TestStore;
use crate::state::time_to_live::{Expiry, Timed, TtlTable};

const GROUPS: u32 = 8;

/// A decoded copy.
struct Cached<V> {
    value: Option<V>,
    changed: bool,
}

/// Encoded values by key group and key; decoded copies live from one `settle` to the next.
struct BytesTable<V> {
    stored: BTreeMap<(u32, u64), Bytes>,
    cache: BTreeMap<u64, Cached<V>>,
    reads: usize,
}

impl<V: Data> BytesTable<V> {
    fn new() -> Self {
        Self { stored: BTreeMap::new(), cache: BTreeMap::new(), reads: 0 }
    }

    fn place(key: u64) -> (u32, u64) {
        (KeyGroup::of(key.key_hash(), GROUPS).0, key)
    }

    fn cached(&mut self, key: u64) -> &mut Cached<V> {
        let (stored, reads) = (&self.stored, &mut self.reads);
        self.cache.entry(key).or_insert_with(|| {
            *reads += 1;
            let bytes = stored.get(&Self::place(key));
            Cached { value: bytes.map(|bytes| decode(bytes).unwrap().remove(0)), changed: false }
        })
    }

    fn write_back(&mut self) {
        for (key, cached) in std::mem::take(&mut self.cache) {
            match cached.value {
                _ if !cached.changed => {}
                Some(value) => drop(self.stored.insert(Self::place(key), encode(&vec![value]).unwrap())),
                None => drop(self.stored.remove(&Self::place(key))),
            }
        }
    }
}

struct FrozenBytes<V>(Vec<Vec<(u64, V)>>);

impl<V: Data> FrozenState for FrozenBytes<V> {
    fn groups(&self) -> Vec<(KeyGroup, u64)> {
        (0..GROUPS).map(|group| (KeyGroup(group), 0)).collect()
    }

    fn encode(&self, index: usize, form: Form, section: &mut Vec<u8>) -> Result<u64, record::Error> {
        encode_entries(self.0[index].iter().map(|(key, value)| (key, value)), form, section)
    }
}

impl<V: Data> StateTable<u64, V> for BytesTable<V> {
    fn prepare(&mut self, keys: &[(KeyHash, u64)]) {
        for (_, key) in keys {
            self.cached(*key);
        }
    }

    fn get(&mut self, _hash: KeyHash, key: &u64) -> Option<&V> {
        self.cached(*key).value.as_ref()
    }

    fn get_mut(&mut self, _hash: KeyHash, key: &u64) -> Option<&mut V> {
        let cached = self.cached(*key);
        cached.changed = true;
        cached.value.as_mut()
    }

    fn get_or_insert_with(&mut self, _hash: KeyHash, key: &u64, make: &mut dyn FnMut() -> V) -> &mut V {
        let cached = self.cached(*key);
        cached.changed = true;
        cached.value.get_or_insert_with(make)
    }

    fn put(&mut self, _hash: KeyHash, key: &u64, value: V) {
        self.cache.insert(*key, Cached { value: Some(value), changed: true });
    }

    fn remove(&mut self, _hash: KeyHash, key: &u64) -> Option<V> {
        let cached = self.cached(*key);
        cached.changed = true;
        cached.value.take()
    }

    fn retain_some(&mut self, _budget: usize, keep: &mut dyn FnMut(&u64, &mut V) -> bool) {
        self.write_back();
        self.stored.retain(|(_, key), bytes| keep(key, &mut decode(bytes).unwrap().remove(0)));
    }

    fn settle(&mut self) -> Result<(), UserError> {
        self.write_back();
        Ok(())
    }

    fn freeze(&mut self) -> Box<dyn FrozenState> {
        self.write_back();
        let entry = |((_, key), bytes): (&(u32, u64), &Bytes)| (*key, decode::<V>(bytes).unwrap().remove(0));
        let of = |group| self.stored.range((group, 0)..=(group, u64::MAX)).map(entry).collect();
        Box::new(FrozenBytes((0..GROUPS).map(of).collect()))
    }

    fn restore(&mut self, section: &Section) -> Result<(), record::Error> {
        decode_entries(section, |key: u64, value: V| self.put(key.key_hash(), &key, value))
    }
}

fn heap<V: Data>() -> KeyedTable<u64, V> {
    KeyedTable::of(&KeyGroupRange::of(SubtaskIndex(0), 1, GROUPS), GROUPS)
}

/// An expiry that no test outlives.
fn expiry() -> Expiry {
    let clock = ProcessingClock::Manual(Arc::new(AtomicI64::new(0)));
    Expiry::new(TimeToLive::new(Duration::from_secs(1)), clock)
}

/// Batches of random accesses agree with an ordered map; afterwards a snapshot makes an equal table. What the barrier
/// does when all states are frozen is done by `passed`.
fn check(table: &mut dyn StateTable<u64, u64>, restored: &mut dyn StateTable<u64, u64>, passed: &dyn Fn()) {
    let mut oracle = BTreeMap::new();
    for batch in 0..500u64 {
        let steps = (0..40).map(|step| (batch * 40 + step).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20);
        let keys: Vec<_> = steps.map(|random| (random / 8, random % 601)).collect();
        let hashed: Vec<_> = keys.iter().map(|(_, key)| (key.key_hash(), *key)).collect();
        table.prepare(&hashed);
        for (action, key) in keys {
            let hash = key.key_hash();
            match action % 7 {
                0 => assert_eq!(table.get(hash, &key), oracle.get(&key)),
                1 => {
                    table.put(hash, &key, action);
                    oracle.insert(key, action);
                }
                2 => assert_eq!(table.remove(hash, &key), oracle.remove(&key)),
                3 => assert_eq!(table.get_mut(hash, &key), oracle.get_mut(&key)),
                _ => {
                    *table.get_or_insert_with(hash, &key, &mut || 5) += 1;
                    *oracle.entry(key).or_insert(5) += 1;
                }
            }
        }
        table.settle().unwrap();
        table.sweep(100);
    }
    let frozen = table.freeze();
    passed();
    let mut kept = 0;
    for (section, entries) in sections(frozen.as_ref(), Form::Wire, GROUPS) {
        kept += entries;
        restored.restore(&section).unwrap();
    }
    assert_eq!(kept, oracle.len() as u64);
    for key in 0..601 {
        assert_eq!(restored.get(key.key_hash(), &key), oracle.get(&key));
    }
    // Nothing is taken out of what a snapshot looks at.
    drop(frozen);
    table.retain_some(usize::MAX, &mut |key, _| key % 2 == 0);
    for key in 0..601 {
        assert_eq!(table.get(key.key_hash(), &key), oracle.get(&key).filter(|_| key % 2 == 0));
    }
}

#[test]
fn every_table_agrees_with_an_ordered_map() {
    check(&mut heap::<u64>(), &mut BytesTable::<u64>::new(), &|| ());
    check(&mut BytesTable::<u64>::new(), &mut heap::<u64>(), &|| ());
    let on_heap = || TtlTable::new(heap::<Timed<u64>>(), expiry());
    let in_bytes = || TtlTable::new(BytesTable::<Timed<u64>>::new(), expiry());
    check(&mut on_heap(), &mut in_bytes(), &|| ());
    check(&mut in_bytes(), &mut on_heap(), &|| ());
}

#[cfg(feature = "rocksdb")]
#[test]
fn tables_on_disk_agree_with_an_ordered_map_and_go_over_to_the_heap_and_back() {
    let test = TestStore::of_groups(GROUPS);
    let passed = || test.store.set_aside();
    check(&mut test.table::<u64, u64>("one"), &mut heap::<u64>(), &passed);
    check(&mut heap::<u64>(), &mut test.table::<u64, u64>("two"), &passed);
    let with_end = |name| TtlTable::new(test.table::<u64, Timed<u64>>(name), expiry());
    check(&mut with_end("three"), &mut TtlTable::new(heap::<Timed<u64>>(), expiry()), &passed);
    check(&mut TtlTable::new(heap::<Timed<u64>>(), expiry()), &mut with_end("four"), &passed);
}

#[test]
fn a_table_of_bytes_reads_each_key_once_a_batch_and_writes_what_was_changed() {
    let mut table = BytesTable::<u64>::new();
    let keys: Vec<_> = (0..10u64).map(|key| (key.key_hash(), key)).collect();
    for _ in 0..3 {
        table.prepare(&keys);
        for (hash, key) in keys.iter().chain(&keys) {
            *table.get_or_insert_with(*hash, key, &mut || 0) += 1;
        }
        table.settle().unwrap();
    }
    assert_eq!((table.reads, table.stored.len()), (30, 10));
    assert_eq!(table.get(7u64.key_hash(), &7), Some(&6));
}
