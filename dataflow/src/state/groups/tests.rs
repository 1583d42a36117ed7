//! Groups against ordered maps, with snapshots at any moment.

use std::collections::BTreeMap;

use tidemill_model::id::SubtaskIndex;
use tidemill_model::key::Key;

use super::*;
use crate::engine::snapshot::Form;
use crate::state::kept::tests::sections;
use crate::state::{FrozenState, decode_entries};

/// Key groups of the sub-task, some of those before and behind it being others'.
const MAX_PARALLELISM: u32 = 7;

fn range() -> KeyGroupRange {
    KeyGroupRange::of(SubtaskIndex(1), 3, MAX_PARALLELISM)
}

fn groups() -> Groups<u64, u64> {
    Groups::of(&range(), MAX_PARALLELISM)
}

/// Keys of the sub-task's groups.
fn keys() -> impl Iterator<Item = u64> {
    (0..).filter(|key: &u64| range().contains(KeyGroup::of(key.key_hash(), MAX_PARALLELISM)))
}

fn put(groups: &mut Groups<u64, u64>, key: u64, value: u64) {
    groups.table_mut(key.key_hash()).put(key.key_hash(), key, value);
}

fn contents(frozen: &FrozenTable<u64, u64>) -> BTreeMap<u64, u64> {
    let mut contents = BTreeMap::new();
    for (section, _) in sections(frozen, Form::Wire, MAX_PARALLELISM) {
        decode_entries(&section, |key, value| assert_eq!(contents.insert(key, value), None)).unwrap();
    }
    contents
}

/// What a snapshot showed, and what there was when it was taken.
struct Taken {
    frozen: FrozenTable<u64, u64>,
    oracle: BTreeMap<u64, u64>,
}

/// While two snapshots show one version of a group, it has the same in both.
fn check_versions(one: &Taken, other: &Taken) {
    let of = |oracle: &BTreeMap<u64, u64>, group: KeyGroup| -> Vec<(u64, u64)> {
        let own = oracle.iter().filter(|(key, _)| KeyGroup::of(key.key_hash(), MAX_PARALLELISM) == group);
        own.map(|(key, value)| (*key, *value)).collect()
    };
    for ((group, before), (_, after)) in one.frozen.groups().into_iter().zip(other.frozen.groups()) {
        assert!(before != after || of(&one.oracle, group) == of(&other.oracle, group), "{group} is {before} twice");
    }
}

#[test]
fn a_snapshot_shows_what_there_was_whatever_is_changed_later() {
    let keys: Vec<u64> = keys().take(6_000).collect();
    let (mut groups, mut oracle) = (groups(), BTreeMap::new());
    let mut taken: Vec<Taken> = Vec::new();
    let mut cursor = (0, 0);
    for step in 0..60_000u64 {
        let random = (step + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        // At first few keys, later all.
        let key = keys[usize::try_from(random % (step / 8 + 1)).unwrap() % keys.len()];
        let hash = key.key_hash();
        match random / 7_919 % 5 {
            0 => assert_eq!(groups.table_mut(hash).remove(hash, |other| *other == key), oracle.remove(&key)),
            1 => {
                let value = groups.table_mut(hash).get_mut(hash, |other| *other == key);
                assert_eq!(value.map(|value| std::mem::replace(value, step)), oracle.get(&key).copied());
                oracle.entry(key).and_modify(|value| *value = step);
            }
            2 => assert_eq!(groups.table(hash).get(hash, |other| *other == key), oracle.get(&key)),
            _ => {
                put(&mut groups, key, step);
                oracle.insert(key, step);
            }
        }
        if step % 97 == 0 {
            cursor = groups.retain_from(cursor, 50, &mut |key, value| *value % 11 != 0 || oracle.remove(key).is_none());
        }
        if step % 4_001 == 0 {
            // The same twice, as checkpoints that run at a time.
            for _ in 0..2 {
                taken.push(Taken { frozen: groups.share(), oracle: oracle.clone() });
            }
        }
        // Some are written sooner, some later.
        if step % 2_999 == 0 && taken.len() > 4 {
            let Taken { frozen, oracle } = taken.remove(usize::try_from(random % 4).unwrap());
            assert_eq!(contents(&frozen), oracle);
        }
    }
    for pair in taken.windows(2) {
        check_versions(&pair[0], &pair[1]);
    }
    for Taken { frozen, oracle } in &taken {
        assert_eq!(contents(frozen), *oracle);
    }
    let mut drained = BTreeMap::new();
    let all: Result<(), ()> = groups.drain(&mut |_, key, value| {
        assert_eq!(drained.insert(key, value), None);
        Ok(())
    });
    all.unwrap();
    assert_eq!(drained, oracle);
    let none: Result<(), ()> = groups.try_for_each(&mut |_, _, _| Err(()));
    none.unwrap();
}

/// How many hashes each group has beside its table; none: it has only its table.
fn beside(groups: &Groups<u64, u64>) -> Vec<Option<usize>> {
    let beside = |group: &Group<u64, u64>| match &group.table {
        Holding::Own(_) | Holding::Shared(_) => None,
        Holding::Changed(changed) => Some(changed.hashes.len()),
    };
    groups.groups.iter().map(beside).collect()
}

fn place(groups: &Groups<u64, u64>, key: u64) -> *const u64 {
    std::ptr::from_ref(groups.table(key.key_hash()).get(key.key_hash(), |other| *other == key).unwrap())
}

#[test]
fn what_is_changed_during_a_snapshot_comes_back_little_by_little_and_nothing_else_is_copied() {
    let (mut groups, all) = (groups(), keys().take(100_000).collect::<Vec<_>>());
    all.iter().for_each(|key| put(&mut groups, *key, *key));
    let untouched = all[99_999];
    let before = place(&groups, untouched);
    let frozen = groups.share();
    for (count, key) in all.iter().take(1_000).enumerate() {
        put(&mut groups, *key, 0);
        assert_eq!(beside(&groups).into_iter().flatten().sum::<usize>(), count + 1);
    }
    assert_eq!(contents(&frozen), all.iter().map(|key| (*key, *key)).collect());
    drop(frozen);
    let mut left = 1_000;
    for key in all.iter().skip(1_000).take(1_000) {
        put(&mut groups, *key, 0);
        let now = beside(&groups).into_iter().flatten().sum::<usize>();
        assert!(left - now <= 1 + BROUGHT_BACK_TOGETHER, "{left}, then {now}");
        left = now;
    }
    assert_eq!(beside(&groups), [None; 2]);
    assert_eq!(place(&groups, untouched), before);
    let frozen = groups.share();
    assert_eq!(
        contents(&frozen),
        all.iter().enumerate().map(|(count, key)| (*key, if count < 2_000 { 0 } else { *key })).collect()
    );
}

#[test]
fn with_many_changes_during_a_snapshot_tables_are_copied_one_after_the_other() {
    let (mut groups, all) = (groups(), keys().take(20_000).collect::<Vec<_>>());
    all.iter().for_each(|key| put(&mut groups, *key, *key));
    let frozen = groups.share();
    let mut copies = Vec::new();
    for (count, key) in all.iter().enumerate() {
        let before = beside(&groups).iter().flatten().count();
        put(&mut groups, *key, 0);
        if beside(&groups).iter().flatten().count() < before {
            copies.push(count);
        }
    }
    let slots = groups.table(all[0].key_hash()).slot_count();
    let [first, second] = copies[..] else { panic!("{copies:?}") };
    let between = slots / COPIED_PER_CHANGE - 1;
    let next = second - first;
    assert!(first >= between && next >= between && next < 3 * between, "{copies:?}");
    assert_eq!(contents(&frozen).values().filter(|value| **value == 0).count(), usize::from(all.contains(&0)));
}

#[test]
fn a_snapshot_that_is_written_costs_no_copy() {
    let mut groups = groups();
    let key = keys().next().unwrap();
    put(&mut groups, key, 1);
    let before = place(&groups, key);
    drop(groups.share());
    put(&mut groups, key, 2);
    assert_eq!(place(&groups, key), before);
}

#[test]
fn a_snapshot_beside_another_shows_what_was_changed_in_between() {
    let (mut groups, all) = (groups(), keys().take(20_000).collect::<Vec<_>>());
    all.iter().for_each(|key| put(&mut groups, *key, 1));
    let first = groups.share();
    all.iter().take(10).for_each(|key| put(&mut groups, *key, 2));
    assert_eq!(beside(&groups).into_iter().flatten().sum::<usize>(), 10);
    let second = groups.share();
    all.iter().take(5).for_each(|key| put(&mut groups, *key, 3));
    let third = groups.share();
    let sums = [first, second, third].map(|frozen| contents(&frozen).values().sum::<u64>());
    assert_eq!(sums, [20_000, 20_010, 20_015]);
}
