//! K2: answers, put in the order of the log by the indices that they carry, are what a replay of that order answers.
//!
//! Linear in time, so it also judges what K1 gives up. An operation without an answer may stand anywhere in the log: a
//! read that only such an operation explains is accepted here, and left to K1.

use std::collections::{BTreeMap, BTreeSet};

use super::linearizable::describe;
use super::verdict::Verdict;
use crate::history::{Answer, CallKind, Op};

/// Judges the operations of a phase.
#[must_use]
pub fn check(history: &[Op], phase: &str) -> Verdict {
    let mut indexed: Vec<(u64, &Op)> = history
        .iter()
        .filter(|op| op.phase == phase && op.is_ok())
        .filter_map(|op| op.raft_index.map(|index| (index, op)))
        .collect();
    if indexed.is_empty() {
        return Verdict::unknown("no answer carries an index of the log");
    }
    let good = Verdict::valid(format!("{} answers agree with a replay of the log's order", indexed.len()));
    // A read sees everything up to its index, so it comes after the write of the same index.
    indexed.sort_by_key(|(index, op)| (*index, op.call_kind.is_read(), op.call));
    let real_time = real_time(&indexed);
    let unique = one_decision_each(&indexed);
    let registers = registers(history, phase, &indexed);
    let lists = lists_never_go_back(&indexed);
    [real_time, unique, registers, lists].into_iter().flatten().fold(good, Verdict::worst)
}

/// What was answered before another call was made stands before it in the log.
fn real_time(indexed: &[(u64, &Op)]) -> Option<Verdict> {
    let mut calls: Vec<(u64, &Op)> = indexed.to_vec();
    calls.sort_by_key(|(_, op)| op.call);
    let mut answers = indexed.to_vec();
    answers.sort_by_key(|(_, op)| op.latest());
    let mut answered = answers.into_iter().peekable();
    let mut newest: Option<(u64, &Op)> = None;
    for (index, op) in calls {
        while let Some((earlier_index, earlier)) = answered.next_if(|(_, earlier)| earlier.latest() < op.call) {
            if newest.is_none_or(|(newest, _)| earlier_index > newest) {
                newest = Some((earlier_index, earlier));
            }
        }
        let Some((newest_index, earlier)) = newest else { continue };
        // A later read may see the same index; a later decision must have a higher one.
        if index < newest_index || (index == newest_index && !op.call_kind.is_read()) {
            let why = format!("index {index} was answered to a call that began after index {newest_index} was known");
            return Some(Verdict::invalid(why, vec![describe(earlier), describe(op)], (earlier.call, op.latest())));
        }
    }
    None
}

/// One entry of the log is one decision.
fn one_decision_each(indexed: &[(u64, &Op)]) -> Option<Verdict> {
    let decisions: Vec<_> = indexed.iter().filter(|(_, op)| !op.call_kind.is_read()).collect();
    decisions.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| {
        let ops = pair.iter().map(|(_, op)| describe(op)).collect();
        let why = format!("two decisions stand at index {}", pair[0].0);
        Verdict::invalid(why, ops, (pair[0].1.call, pair[1].1.latest()))
    })
}

fn registers(history: &[Op], phase: &str, indexed: &[(u64, &Op)]) -> Option<Verdict> {
    // What calls without an answer may have written.
    let mut possible: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    for op in history.iter().filter(|op| op.phase == phase && !op.is_ok() && op.counts()) {
        if let CallKind::Write { value } | CallKind::Cas { value, .. } = &op.call_kind {
            possible.entry(&op.key).or_default().insert(*value);
        }
    }
    let mut values: BTreeMap<&str, Option<i64>> = BTreeMap::new();
    for (index, op) in indexed {
        let maybe = possible.get(op.key.as_str());
        let state = values.entry(&op.key).or_default();
        if let Err(why) = replay(state, op, maybe) {
            let why = format!("{} at index {index}: {why}", op.key);
            return Some(Verdict::invalid(why, vec![describe(op)], (op.call, op.latest())));
        }
    }
    None
}

fn replay(state: &mut Option<i64>, op: &Op, maybe: Option<&BTreeSet<i64>>) -> Result<(), String> {
    let expected = *state;
    let explained = |value: Option<i64>| {
        value == expected || value.is_some_and(|value| maybe.is_some_and(|maybe| maybe.contains(&value)))
    };
    match (&op.call_kind, op.outcome.answer()) {
        (CallKind::Write { value }, Some(Answer::Done)) => *state = Some(*value),
        (CallKind::Read, Some(Answer::Value(value))) if explained(*value) => *state = *value,
        (CallKind::Cas { expect, value }, Some(Answer::Swapped(true))) if explained(*expect) => *state = Some(*value),
        (CallKind::Cas { expect, .. }, Some(Answer::Mismatch(found))) if explained(*found) && found != expect => {
            *state = *found;
        }
        (CallKind::Read | CallKind::Write { .. } | CallKind::Cas { .. }, _) => {
            return Err(format!("the replay has {expected:?}"));
        }
        (
            CallKind::Append { .. }
            | CallKind::ReadList
            | CallKind::Submit
            | CallKind::Cancel
            | CallKind::Get
            | CallKind::List,
            _,
        ) => {}
    }
    Ok(())
}

/// How far a status is from the beginning; none leads back.
fn rank(status: &str) -> u8 {
    match status {
        "CREATED" | "RUNNING" | "RESTARTING" => 1,
        "CANCELLING" | "FAILING" | "COMMITTING" => 2,
        _ => 3,
    }
}

/// Lists are totally ordered by their indices: none of them shows a job that stands earlier than in an older list.
fn lists_never_go_back(indexed: &[(u64, &Op)]) -> Option<Verdict> {
    let mut last: BTreeMap<&str, u8> = BTreeMap::new();
    for (index, op) in indexed {
        let Some(Answer::Jobs(jobs)) = op.outcome.answer() else { continue };
        if let Some(lost) = last.keys().find(|job| !jobs.contains_key(**job)) {
            let why = format!("the list at index {index} has lost job {lost}, which an older list shows");
            return Some(Verdict::invalid(why, vec![describe(op)], (op.call, op.latest())));
        }
        for (job, status) in jobs {
            let rank = rank(status);
            let before = last.insert(job, rank).unwrap_or(0);
            if rank < before {
                let why = format!("the list at index {index} shows job {job} as {status}, an older list further on");
                return Some(Verdict::invalid(why, vec![describe(op)], (op.call, op.latest())));
            }
        }
    }
    None
}
