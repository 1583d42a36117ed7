//! A store on disk against the heap: the same accesses, snapshots and restores.

use std::collections::BTreeMap;

use tempfile::TempDir;
use tidemill_model::id::SubtaskIndex;
use tidemill_model::key::Key;
use tidemill_model::key_group::KeyGroupRange;

use super::*;
use crate::engine::snapshot::Form;
use crate::engine::snapshot::StateId;
use crate::record::Data;
use crate::state::frozen::decode_entries;
use crate::state::kept::tests::sections;
use crate::state::{FrozenState, KeyedTable};

const GROUPS: u32 = 16;

/// So little that entries are evicted all the time.
const TINY: usize = 64 * 1024;

/// A store for a test, of all key groups, and the folder that it goes with.
pub(crate) struct TestStore {
    pub(crate) store: std::rc::Rc<RocksStore>,
    _folder: TempDir,
}

impl TestStore {
    /// An empty one with little memory.
    pub(crate) fn of_groups(groups: u32) -> Self {
        Self::with_memory(groups, TINY)
    }

    fn with_memory(groups: u32, bytes: usize) -> Self {
        let folder = TempDir::new().unwrap();
        let range = KeyGroupRange::of(SubtaskIndex(0), 1, groups);
        let state = StoreFolder::make(folder.path().join("state")).unwrap();
        let store = RocksStore::open(state, bytes, (range, groups), Default::default()).unwrap();
        Self { store, _folder: folder }
    }

    /// A table in it.
    pub(crate) fn table<K: Key, V: Data>(&self, name: &str) -> KeyedTable<K, V> {
        KeyedTable::with_cache(&self.store.range, self.store.max_parallelism, self.store.table(&id(name)))
    }

    /// Merges all files, as happens now and then; nothing is left to do then until much is written.
    pub(crate) fn compact(&self) {
        self.store.opened.db.compact_range(None::<&[u8]>, None::<&[u8]>);
    }
}

fn range(subtask: u32, parallelism: u32) -> KeyGroupRange {
    KeyGroupRange::of(SubtaskIndex(subtask), parallelism, GROUPS)
}

fn id(name: &str) -> StateId {
    StateId { operator: "operator".to_owned(), name: name.to_owned() }
}

fn store(folder: &std::path::Path, range: &KeyGroupRange) -> std::rc::Rc<RocksStore> {
    let folder = StoreFolder::make(folder.to_owned()).unwrap();
    RocksStore::open(folder, TINY, (range.clone(), GROUPS), Default::default()).unwrap()
}

fn on_disk<V: Data>(store: &std::rc::Rc<RocksStore>, name: &str) -> KeyedTable<u64, V> {
    KeyedTable::with_cache(&store.range, GROUPS, store.table(&id(name)))
}

/// The entries of a frozen state, by key.
fn entries<V: Data>(frozen: &dyn FrozenState) -> BTreeMap<u64, V> {
    let mut all = BTreeMap::new();
    for (section, count) in sections(frozen, Form::Described, GROUPS) {
        let before = all.len();
        decode_entries(&section, |key: u64, value: V| drop(all.insert(key, value))).unwrap();
        assert_eq!((all.len() - before) as u64, count);
    }
    all
}

/// A step of a random walk that is the same each time.
fn random(step: u64) -> u64 {
    step.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20
}

/// The same batches on both.
fn work(disk: &mut KeyedTable<u64, String>, heap: &mut KeyedTable<u64, String>, batches: std::ops::Range<u64>) {
    for batch in batches {
        let steps: Vec<_> = (0..100).map(|step| random(batch * 100 + step)).collect();
        let hashes: Vec<_> = steps.iter().map(|step| (step % 5003).key_hash()).collect();
        disk.prepare(&hashes);
        for (step, hash) in steps.into_iter().zip(hashes) {
            let (action, key) = (step / 5003 % 6, step % 5003);
            match action {
                0 => assert_eq!(disk.get(hash, |other| *other == key), heap.get(hash, |other| *other == key)),
                1 => {
                    disk.put(hash, &key, step.to_string());
                    heap.put(hash, &key, step.to_string());
                }
                2 => assert_eq!(disk.remove(hash, |other| *other == key), heap.remove(hash, |other| *other == key)),
                _ => {
                    let (one, other) = (
                        disk.get_or_insert_with(hash, &key, || "new".to_owned()),
                        heap.get_or_insert_with(hash, &key, || "new".to_owned()),
                    );
                    assert_eq!(one, other);
                    one.push_str("+1");
                    other.push_str("+1");
                }
            }
        }
        disk.settle().unwrap();
    }
}

/// Takes out what has grown long.
fn clear_long(table: &mut KeyedTable<u64, String>) {
    // What is not on disk yet is looked at when it is.
    drop(table.freeze());
    let written: Result<(), ()> = table.try_for_each(|_, _, _| Ok(()));
    written.unwrap();
    table.retain_some(usize::MAX / 2, &mut |_, value| value.len() < 15);
}

#[test]
fn a_store_on_disk_does_what_the_heap_does() {
    let (folder, all) = (TempDir::new().unwrap(), range(0, 1));
    let store = store(&folder.path().join("state"), &all);
    let (mut disk, mut other) = (on_disk::<String>(&store, "one"), on_disk::<u64>(&store, "other"));
    let mut heap = KeyedTable::of(&all, GROUPS);
    other.put(7u64.key_hash(), &7, 77);
    for round in 0..4 {
        work(&mut disk, &mut heap, round * 100..round * 100 + 100);
        clear_long(&mut disk);
        clear_long(&mut heap);
        let (on_disk, on_heap, others) = (disk.freeze(), heap.freeze(), other.freeze());
        store.set_aside();
        assert_eq!(entries::<String>(on_disk.as_ref()), entries(on_heap.as_ref()));
        assert_eq!(entries(others.as_ref()), BTreeMap::from([(7, 77u64)]));
    }
    let mut drained = BTreeMap::new();
    let shown: Result<(), ()> = disk.drain(|hash, key, value| {
        assert_eq!(key.key_hash(), hash);
        drained.insert(key, value);
        Ok(())
    });
    assert_eq!((shown, &drained), (Ok(()), &entries(heap.freeze().as_ref())));
    assert!(drained.len() > 1000, "{}", drained.len());
    assert_eq!(disk.get(7u64.key_hash(), |key| *key == 7), None);
    assert_eq!(other.get(7u64.key_hash(), |key| *key == 7), Some(&77));
}

/// Barriers of two states, each with what the states were; what it leaves is written by another thread at some time, or not
/// at all, while the task goes on.
#[test]
fn snapshots_show_what_there_was_whoever_writes_it_and_whatever_is_changed_meanwhile() {
    let (folder, all) = (TempDir::new().unwrap(), range(0, 1));
    // Once so little that the task has to write before the other thread does, once as much as is there.
    for memory in [TINY, 16 * 1024 * 1024] {
        let state = StoreFolder::make(folder.path().join("state")).unwrap();
        let store = RocksStore::open(state, memory, (all.clone(), GROUPS), Default::default()).unwrap();
        let (mut disk, mut other) = (on_disk::<String>(&store, "one"), on_disk::<u64>(&store, "other"));
        let mut heap = KeyedTable::of(&all, GROUPS);
        for round in 0..12 {
            work(&mut disk, &mut heap, round * 30..round * 30 + 30);
            (0..50u64).for_each(|key| other.put(key.key_hash(), &key, round));
            let (on_disk, on_heap, others) = (disk.freeze(), heap.freeze(), other.freeze());
            store.set_aside();
            let check = move || {
                assert_eq!(entries::<String>(on_disk.as_ref()), entries(on_heap.as_ref()));
                assert_eq!(entries(others.as_ref()), (0..50u64).map(|key| (key, round)).collect());
            };
            match round % 4 {
                // Nobody wants it.
                0 => drop(check),
                1 => check(),
                // Meanwhile, or afterwards.
                2 => std::thread::scope(|scope| {
                    scope.spawn(check);
                    work(&mut disk, &mut heap, 1_000 + round * 30..1_000 + round * 30 + 30);
                }),
                _ => {
                    work(&mut disk, &mut heap, 1_000 + round * 30..1_000 + round * 30 + 30);
                    (0..50u64).for_each(|key| other.put(key.key_hash(), &key, 99));
                    check();
                }
            }
        }
        let mut drained = BTreeMap::new();
        let shown: Result<(), ()> = disk.drain(|_, key, value| {
            drained.insert(key, value);
            Ok(())
        });
        assert_eq!((shown, drained), (Ok(()), entries(heap.freeze().as_ref())));
    }
}

#[test]
fn a_barrier_writes_nothing_before_somebody_asks_for_its_files() {
    let test = TestStore::with_memory(GROUPS, 16 * 1024 * 1024);
    let mut table = test.table::<u64, u64>("numbers");
    (0..3000u64).for_each(|key| table.put(key.key_hash(), &key, key));
    let written = || test.store.opened.db.property_int_value("rocksdb.estimate-num-keys").unwrap().unwrap();
    let frozen = table.freeze();
    test.store.set_aside();
    table.put(7u64.key_hash(), &7, 0);
    assert_eq!(written(), 0);
    assert_eq!(entries::<u64>(frozen.as_ref()).len(), 3000);
    assert_eq!(written(), 3000);
}

#[test]
fn a_frozen_store_stays_as_it_was_and_goes_with_its_files() {
    let (folder, all) = (TempDir::new().unwrap(), range(0, 1));
    let path = folder.path().join("state");
    let store = store(&path, &all);
    let mut table = on_disk::<u64>(&store, "numbers");
    (0..3000u64).for_each(|key| table.put(key.key_hash(), &key, key));
    let frozen = table.freeze();
    store.set_aside();
    (0..6000u64).for_each(|key| table.put(key.key_hash(), &key, 0));
    let later = table.freeze();
    store.set_aside();
    drop((table, store));
    assert_eq!(entries(frozen.as_ref()), (0..3000u64).map(|key| (key, key)).collect());
    assert_eq!(entries(later.as_ref()), (0..6000u64).map(|key| (key, 0u64)).collect());
    drop((frozen, later));
    assert!(!path.exists(), "nothing is left");
}

#[test]
fn sections_of_the_heap_are_taken_in() {
    let (folder, half) = (TempDir::new().unwrap(), range(1, 2));
    let mut heap = KeyedTable::of(&range(0, 1), GROUPS);
    (0..3000u64).for_each(|key| heap.put(key.key_hash(), &key, key));
    let store = store(&folder.path().join("state"), &half);
    let mut table = on_disk::<u64>(&store, "numbers");
    let frozen = heap.freeze();
    for (section, _) in sections(frozen.as_ref(), Form::Wire, GROUPS) {
        if half.contains(section.group) {
            table.restore_section(&section).unwrap();
        }
    }
    for key in 0..3000u64 {
        let owned = half.contains(tidemill_model::key_group::KeyGroup::of(key.key_hash(), GROUPS));
        if owned {
            assert_eq!(table.get(key.key_hash(), |other| *other == key), Some(&key));
        }
    }
    let frozen = table.freeze();
    store.set_aside();
    let kept: BTreeMap<u64, u64> = entries(frozen.as_ref());
    let owned = |key: &u64| half.contains(tidemill_model::key_group::KeyGroup::of(key.key_hash(), GROUPS));
    assert_eq!(kept.keys().copied().collect::<Vec<_>>(), (0..3000u64).filter(owned).collect::<Vec<_>>());
}

#[test]
fn stores_of_two_become_those_of_three() {
    let folder = TempDir::new().unwrap();
    let mut frozen = Vec::new();
    for subtask in 0..2 {
        let groups = range(subtask, 2);
        let store = store(&folder.path().join(format!("old-{subtask}")), &groups);
        let mut table = on_disk::<u64>(&store, "numbers");
        for key in 0..3000u64 {
            if groups.contains(tidemill_model::key_group::KeyGroup::of(key.key_hash(), GROUPS)) {
                table.put(key.key_hash(), &key, key);
            }
        }
        frozen.push(table.freeze());
        store.set_aside();
    }
    let mut kept = BTreeMap::new();
    for subtask in 0..3 {
        let store = store(&folder.path().join(format!("new-{subtask}")), &range(subtask, 3));
        // Another state had the number before.
        let _first = on_disk::<u64>(&store, "first");
        for old in &frozen {
            let stored = old.stored().unwrap();
            let states = BTreeMap::from([(id("numbers"), stored.number)]);
            store.take_over(stored.files.files().unwrap().folder(), &states).unwrap();
        }
        let mut table = on_disk::<u64>(&store, "numbers");
        let part = table.freeze();
        store.set_aside();
        kept.extend(entries::<u64>(part.as_ref()));
    }
    assert_eq!(kept, (0..3000u64).map(|key| (key, key)).collect());
}

#[test]
fn the_memory_of_a_store_does_not_grow_with_its_state() {
    const MEMORY: usize = 4 * 1024 * 1024;
    // The keys of a batch come on top, in each table.
    const BATCH: usize = 2 * 1000 * 300;
    let test = TestStore::with_memory(GROUPS, MEMORY);
    let mut tables = ["one", "other"].map(|name| test.table::<u64, String>(name));
    let property = |name| test.store.opened.db.property_int_value(name).unwrap().unwrap();
    let (mut most, mut written) = (0, 0);
    for batch in 0..150 {
        let keys: Vec<_> = (0..1000).map(|step| random(batch * 1000 + step)).collect();
        let hashes: Vec<_> = keys.iter().map(Key::key_hash).collect();
        for table in &mut tables {
            table.prepare(&hashes);
            for (key, hash) in keys.iter().zip(&hashes) {
                let text = format!("{key:x}").repeat(10);
                written += text.len();
                table.put(*hash, key, text);
            }
            table.settle().unwrap();
        }
        let cached: usize = tables.iter().map(|table| table.memory_bytes(|_, text| text.capacity())).sum();
        let database = property("rocksdb.size-all-mem-tables") + property("rocksdb.block-cache-usage");
        most = most.max(cached + usize::try_from(database).unwrap());
    }
    assert!(written > 5 * MEMORY, "{written} bytes of state");
    assert!(most < MEMORY + BATCH, "{most} bytes of memory");
    assert!(most > MEMORY / 4, "{most} bytes of memory: most of it is for nothing");
}
