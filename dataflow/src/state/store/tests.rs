//! States with a clock that is set by hand, against plain oracles.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tidemill_model::id::SubtaskIndex;
use tidemill_model::key_group::KeyGroup;

use super::*;
use crate::engine::snapshot::Form;
use crate::state::decode_entries;
use crate::state::kept::tests::sections;

const GROUPS: u32 = 16;

/// A clock, and its hands.
fn clock() -> (ProcessingClock, Arc<AtomicI64>) {
    let time = Arc::new(AtomicI64::new(1_000));
    (ProcessingClock::Manual(Arc::clone(&time)), time)
}

/// A store for all key groups in memory, and the hands of its clock.
fn store() -> (StateStore<u64>, Arc<AtomicI64>) {
    let (clock, time) = clock();
    (StateStore::of(KeyGroupRange::of(SubtaskIndex(0), 1, GROUPS), GROUPS, clock), time)
}

/// The same on every back-end.
fn stores() -> Vec<(StateStore<u64>, Arc<AtomicI64>)> {
    vec![
        store(),
        #[cfg(feature = "rocksdb")]
        {
            let (clock, time) = clock();
            (StateStore::on_disk(TestStore::of_groups(GROUPS), clock), time)
        },
    ]
}

fn descriptor(time_to_live: Option<TimeToLive>) -> StateDescriptor {
    let descriptor = StateDescriptor::new("state");
    match time_to_live {
        Some(time_to_live) => descriptor.with_time_to_live(time_to_live),
        None => descriptor,
    }
}

fn ten() -> TimeToLive {
    TimeToLive::new(Duration::from_millis(10))
}

fn value_table(store: &mut StateStore<u64>, time_to_live: Option<TimeToLive>) -> &mut ValueTable<u64, String> {
    let shape = (StateKind::Value, vec!["String"]);
    let index = store.register(descriptor(time_to_live), shape, ValueTable::<u64, String>::new).unwrap();
    store.state(index)
}

fn list_table(store: &mut StateStore<u64>, time_to_live: Option<TimeToLive>) -> &mut ListTable<u64, u8> {
    let shape = (StateKind::List, vec!["u8"]);
    let index = store.register(descriptor(time_to_live), shape, ListTable::<u64, u8>::new).unwrap();
    store.state(index)
}

fn maps(store: &mut StateStore<u64>, time_to_live: Option<TimeToLive>) -> &mut Maps<u64, u8, char> {
    let shape = (StateKind::Map, vec!["u8", "char"]);
    let index = store.register(descriptor(time_to_live), shape, Maps::<u64, u8, char>::new).unwrap();
    store.state(index)
}

/// The first state of a store at a barrier.
fn freeze(store: &mut StateStore<u64>) -> Box<dyn FrozenState> {
    let frozen = store.states[0].state.freeze();
    #[cfg(feature = "rocksdb")]
    if let Owner::TestOnDisk(test) = &store.owner {
        test.store.set_aside();
        // As the writer of the snapshot asks for them.
        frozen.stored().unwrap().files.files().unwrap();
    }
    frozen
}

/// How many keys the first state of a store holds, ended ones among them.
fn held(store: &mut StateStore<u64>) -> usize {
    let frozen = freeze(store);
    let groups = 0..frozen.groups().len();
    usize::try_from(groups.map(|group| frozen.encode(group, Form::Wire, &mut Vec::new()).unwrap()).sum::<u64>())
        .unwrap()
}

#[test]
fn a_name_is_taken_once_and_its_schema_is_recorded() {
    let (mut store, _) = store();
    let mut registry = StateRegistry::new(&mut store);
    registry.map::<u8, String>(descriptor(Some(ten()))).unwrap();
    let error = registry.value::<u8>("state").unwrap_err();
    assert!(error.to_string().starts_with("register state \"state\": this operator has"), "{error}");
    let schema = store.states[0].schema.clone();
    assert_eq!((schema.name.as_str(), schema.kind), ("state", StateKind::Map));
    assert_eq!((schema.types, schema.time_to_live), (vec!["u8", "alloc::string::String"], Some(ten())));
}

#[test]
fn a_value_ends_when_it_was_not_written_for_long() {
    for (mut store, clock) in stores() {
        let table = value_table(&mut store, Some(ten()));
        let hash = 7u64.key_hash();
        table.put(hash, &7, "a".to_owned());
        clock.store(1_009, Ordering::Relaxed);
        assert_eq!(table.get(hash, &7).map(String::as_str), Some("a"));
        table.get_mut(hash, &7).unwrap().push('b');
        clock.store(1_018, Ordering::Relaxed);
        assert_eq!(table.get(hash, &7).map(String::as_str), Some("ab"));
        clock.store(1_019, Ordering::Relaxed);
        assert_eq!(table.get(hash, &7), None);
        assert_eq!(table.get_or_insert_with(hash, &7, || "c".to_owned()), "c");
        clock.store(1_029, Ordering::Relaxed);
        assert_eq!(table.remove(hash, &7), None);
        assert_eq!(held(&mut store), 0);
    }
}

#[test]
fn a_read_keeps_a_value_alive_only_if_reads_count() {
    for (time_to_live, alive) in [(ten(), false), (ten().refreshed_by_reads(), true)] {
        let (mut store, clock) = store();
        let table = value_table(&mut store, Some(time_to_live));
        let hash = 7u64.key_hash();
        table.put(hash, &7, "a".to_owned());
        clock.store(1_009, Ordering::Relaxed);
        assert!(table.get(hash, &7).is_some());
        clock.store(1_018, Ordering::Relaxed);
        assert_eq!(table.get(hash, &7).is_some(), alive);
    }
}

#[test]
fn what_has_ended_is_cleared_away_a_few_slots_at_a_time() {
    for (mut store, clock) in stores() {
        let table = value_table(&mut store, Some(ten()));
        for key in 0..1_000u64 {
            table.put(key.key_hash(), &key, key.to_string());
        }
        clock.store(1_009, Ordering::Relaxed);
        for key in 0..10u64 {
            table.get_mut(key.key_hash(), &key).unwrap();
        }
        clock.store(1_010, Ordering::Relaxed);
        store.settle(1).unwrap();
        assert!(held(&mut store) >= 1_000 - SWEPT_PER_RECORD, "no more than the budget at once");
        // Slots are at most eight times as many as keys, and groups are passed without a slot.
        for _ in 0..8_000 / SWEPT_PER_RECORD {
            store.settle(1).unwrap();
        }
        assert_eq!(held(&mut store), 10);
    }
}

#[test]
fn the_elements_of_a_list_end_one_by_one() {
    for (mut store, clock) in stores() {
        let table = list_table(&mut store, Some(ten()));
        let hash = 7u64.key_hash();
        table.extend(hash, &7, [1, 2]);
        clock.store(1_005, Ordering::Relaxed);
        table.extend(hash, &7, [3]);
        // A clock that is set back does not bring the order of ends into disorder.
        clock.store(1_001, Ordering::Relaxed);
        table.extend(hash, &7, [4]);
        clock.store(1_010, Ordering::Relaxed);
        assert_eq!(table.get(hash, &7), [3, 4]);
        clock.store(1_015, Ordering::Relaxed);
        assert!(table.get(hash, &7).is_empty());
        table.set(hash, &7, vec![5]);
        assert_eq!(table.get(hash, &7), [5]);
        clock.store(1_025, Ordering::Relaxed);
        assert!(table.clear(hash, &7).is_empty());
        table.set(hash, &7, vec![6]);
        clock.store(1_035, Ordering::Relaxed);
        // What is not on disk yet is looked at when it is.
        drop(freeze(&mut store));
        store.state::<ListTable<u64, u8>>(0).sweep(1_000);
        assert_eq!(held(&mut store), 0);
    }
}

#[test]
fn a_read_refreshes_a_whole_list_if_reads_count() {
    for (mut store, clock) in stores() {
        let table = list_table(&mut store, Some(ten().refreshed_by_reads()));
        let hash = 7u64.key_hash();
        table.extend(hash, &7, [1]);
        clock.store(1_005, Ordering::Relaxed);
        table.extend(hash, &7, [2]);
        clock.store(1_009, Ordering::Relaxed);
        assert_eq!(table.get(hash, &7), [1, 2]);
        clock.store(1_018, Ordering::Relaxed);
        assert_eq!(table.clear(hash, &7), [1, 2]);
    }
}

#[test]
fn the_entries_of_a_map_end_one_by_one() {
    for (mut store, clock) in stores() {
        let Maps(table) = maps(&mut store, Some(ten()));
        let hash = 7u64.key_hash();
        table.put(hash, &7, 1, 'a');
        clock.store(1_005, Ordering::Relaxed);
        table.put(hash, &7, 2, 'b');
        table.put(hash, &7, 3, 'c');
        clock.store(1_010, Ordering::Relaxed);
        assert_eq!(table.get(hash, &7, &1), None);
        assert_eq!(table.iter(hash, &7).collect::<Vec<_>>(), [(&2, &'b'), (&3, &'c')]);
        *table.get_mut(hash, &7, &3).unwrap() = 'd';
        clock.store(1_015, Ordering::Relaxed);
        assert_eq!(table.iter(hash, &7).collect::<Vec<_>>(), [(&3, &'d')]);
        assert_eq!(table.remove(hash, &7, &2), None);
        clock.store(1_020, Ordering::Relaxed);
        assert_eq!(table.remove(hash, &7, &3), None);
        assert_eq!(held(&mut store), 0);
    }
}

#[test]
fn maps_agree_with_an_oracle_and_empty_ones_take_no_room() {
    for (mut store, _) in stores() {
        let Maps(table) = maps(&mut store, None);
        let mut oracle = BTreeMap::new();
        for step in 0..20_000u64 {
            let random = step.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
            let (key, entry, letter) = (random % 37, u8::try_from(random / 37 % 5).unwrap(), char::from(b'a'));
            let hash = key.key_hash();
            match random / 1_000 % 8 {
                0..4 => {
                    table.put(hash, &key, entry, letter);
                    oracle.insert((key, entry), letter);
                }
                4..7 => assert_eq!(table.remove(hash, &key, &entry), oracle.remove(&(key, entry))),
                _ => {
                    table.clear(hash, &key);
                    oracle.retain(|(other, _), _| *other != key);
                }
            }
            let entries: Vec<_> = table.iter(hash, &key).map(|(entry, _)| (key, *entry)).collect();
            assert_eq!(entries, oracle.range((key, 0)..=(key, u8::MAX)).map(|(entry, _)| *entry).collect::<Vec<_>>());
        }
        let mut keys: Vec<_> = oracle.keys().map(|(key, _)| *key).collect();
        keys.dedup();
        assert_eq!(held(&mut store), keys.len());
    }
}

#[test]
fn a_frozen_group_stays_as_it_was() {
    for (mut store, _) in stores() {
        let table = value_table(&mut store, None);
        for key in 0..100u64 {
            table.put(key.key_hash(), &key, key.to_string());
        }
        let frozen = freeze(&mut store);
        let table = store.state::<ValueTable<u64, String>>(0);
        for key in 0..200u64 {
            table.put(key.key_hash(), &key, "changed".to_owned());
        }
        let mut seen = BTreeMap::new();
        assert!(frozen.groups().iter().all(|(_, version)| *version == 0));
        for (section, _) in sections(frozen.as_ref(), Form::Wire, GROUPS) {
            decode_entries(&section, |key: u64, value: String| drop(seen.insert(key, value))).unwrap();
        }
        assert_eq!(seen, (0..100u64).map(|key| (key, key.to_string())).collect());
    }
}

#[test]
fn a_group_keeps_its_version_until_it_is_changed() {
    let (mut store, _) = store();
    let table = value_table(&mut store, None);
    for key in 0..100u64 {
        table.put(key.key_hash(), &key, key.to_string());
    }
    let versions = |store: &mut StateStore<u64>| store.states[0].state.freeze().groups();
    let first = versions(&mut store);
    assert_eq!(versions(&mut store), first);
    store.state::<ValueTable<u64, String>>(0).put(7u64.key_hash(), &7, "changed".to_owned());
    let changed: Vec<_> = versions(&mut store).into_iter().zip(first).filter(|(now, before)| now != before).collect();
    let group = KeyGroup::of(7u64.key_hash(), GROUPS);
    assert_eq!(changed, [((group, 1), (group, 0))]);
}
