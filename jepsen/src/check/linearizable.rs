//! K1: every register and every job behaves as if its operations took effect one after the other, each between its call
//! and its answer.

use std::collections::{BTreeMap, BTreeSet};

use super::models::{Job, Register};
use super::verdict::Verdict;
use super::wgl::{self, Linearizability, Model, Operation};
use crate::history::{Answer, CallKind, Op, Outcome};

/// The search is given up after so many steps for one key: about ten seconds.
const STEPS_MAX: u64 = 3_000_000;
/// How many calls around a contradiction are shown.
const CONTEXT: usize = 12;

type Part = Vec<(Op, Operation<CallKind, Answer>)>;

/// Judges the keys that belong to a phase.
#[must_use]
pub fn check(history: &[Op], phase: &str) -> Verdict {
    let mut registers = partition(history, phase, is_register);
    registers.values_mut().for_each(settle);
    let jobs = jobs(history, phase);
    let operations: usize = registers.values().chain(jobs.values()).map(Vec::len).sum();
    if operations == 0 {
        return Verdict::unknown("no operation was recorded");
    }
    let keys = registers.len() + jobs.len();
    let good = Verdict::valid(format!("{operations} operations on {keys} keys are linearizable"));
    let registers = registers.iter().map(|(key, part)| judge(&Register, key, part));
    let jobs = jobs.iter().map(|(key, part)| judge(&Job, key, part));
    registers.chain(jobs).flatten().fold(good, Verdict::worst)
}

/// None when the key's operations are linearizable.
fn judge<M: Model<Input = CallKind, Output = Answer>>(model: &M, key: &str, part: &Part) -> Option<Verdict> {
    let operations: Vec<_> = part.iter().map(|(_, operation)| operation.clone()).collect();
    match wgl::check(model, &operations, STEPS_MAX) {
        Linearizability::Linearizable => None,
        Linearizability::Exhausted => Some(Verdict::unknown(format!("{key}: no order found in {STEPS_MAX} steps"))),
        Linearizability::Not { longest, stuck } => {
            let shown: Vec<&Op> = longest.iter().rev().take(CONTEXT).rev().map(|&index| &part[index].0).collect();
            let stuck = &part[stuck].0;
            let between = (shown.first().map_or(stuck.call, |op| op.call.min(stuck.call)), stuck.latest());
            let mut ops: Vec<String> = shown.into_iter().map(describe).collect();
            ops.push(format!("then nowhere: {}", describe(stuck)));
            let why = format!("{key}: no order explains {}", describe(stuck));
            Some(Verdict::invalid(why, ops, between))
        }
    }
}

/// A call in one line.
#[must_use]
pub fn describe(op: &Op) -> String {
    let result = match &op.outcome {
        Outcome::Ok { output } => format!("{output:?}"),
        Outcome::Fail { error } => format!("fail ({error})"),
        Outcome::Info { error } => format!("unknown ({error})"),
    };
    format!("client {} at {}: {:?} {} = {result}", op.client, op.node, op.call_kind, op.key)
}

/// Takes the uncertainty out of changes without an answer, where every value is written by one call only.
///
/// A value that no answer shows: the call is left out, for without it every answer is the same. A value that answers
/// show: it was written before the first of them was given. Every answer shows what it saw, refused swaps included, so
/// nothing else can depend on the call. Searches would be exponential in the number of such calls otherwise.
fn settle(part: &mut Part) {
    let mut writers: BTreeMap<i64, usize> = BTreeMap::new();
    let mut shown: BTreeMap<i64, u64> = BTreeMap::new();
    for (op, _) in part.iter() {
        if let Some(value) = written(&op.call_kind) {
            *writers.entry(value).or_default() += 1;
        }
        let seen = match (&op.call_kind, op.outcome.answer()) {
            (_, Some(Answer::Value(value) | Answer::Mismatch(value))) => *value,
            (CallKind::Cas { expect, .. }, Some(Answer::Swapped(true))) => *expect,
            // A refusal that does not say what it saw may depend on anything.
            (_, Some(Answer::Swapped(false))) => return,
            (_, _) => None,
        };
        if let Some(value) = seen {
            let first = shown.entry(value).or_insert(u64::MAX);
            *first = op.latest().min(*first);
        }
    }
    if writers.values().any(|count| *count > 1) {
        return;
    }
    // A swap without an answer whose value is shown took effect, so it saw what it expected.
    let swaps: Vec<(i64, i64)> = part.iter().filter_map(|(op, _)| unanswered_swap(op)).collect();
    while let Some((expect, first)) = swaps.iter().find_map(|(expect, value)| {
        let first = *shown.get(value)?;
        (*shown.get(expect).unwrap_or(&u64::MAX) > first).then_some((*expect, first))
    }) {
        shown.insert(expect, first);
    }
    part.retain_mut(|(op, operation)| {
        let Some(value) = written(&op.call_kind).filter(|_| !op.is_ok()) else { return true };
        let Some(first) = shown.get(&value) else { return false };
        operation.latest = *first;
        true
    });
}

/// What a swap without an answer expected, and what it would have written.
fn unanswered_swap(op: &Op) -> Option<(i64, i64)> {
    if let CallKind::Cas { expect: Some(expect), value } = op.call_kind
        && !op.is_ok()
    {
        return Some((expect, value));
    }
    None
}

fn written(kind: &CallKind) -> Option<i64> {
    if let CallKind::Write { value } | CallKind::Cas { value, .. } = kind { Some(*value) } else { None }
}

fn is_register(kind: &CallKind) -> bool {
    match kind {
        CallKind::Read | CallKind::Write { .. } | CallKind::Cas { .. } => true,
        CallKind::Append { .. }
        | CallKind::ReadList
        | CallKind::Submit
        | CallKind::Cancel
        | CallKind::Get
        | CallKind::List => false,
    }
}

fn is_job(kind: &CallKind) -> bool {
    matches!(kind, CallKind::Submit | CallKind::Cancel | CallKind::Get)
}

fn partition(history: &[Op], phase: &str, belongs: fn(&CallKind) -> bool) -> BTreeMap<String, Part> {
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    for op in history.iter().filter(|op| op.phase == phase && belongs(&op.call_kind) && op.counts()) {
        parts.entry(op.key.clone()).or_default().push((op.clone(), operation(op)));
    }
    parts
}

fn operation(op: &Op) -> Operation<CallKind, Answer> {
    let output = op.outcome.answer().cloned();
    Operation { call: op.call, latest: op.latest(), input: op.call_kind.clone(), output }
}

/// The jobs' operations. A list is one look at each of them, all in the same interval: weaker than what a list promises,
/// and what is left of the promise is K2's.
fn jobs(history: &[Op], phase: &str) -> BTreeMap<String, Part> {
    let mut parts = partition(history, phase, is_job);
    // A job that was only asked for says nothing.
    let submitted: BTreeSet<&str> =
        history.iter().filter(|op| op.call_kind == CallKind::Submit).map(|op| op.key.as_str()).collect();
    parts.retain(|key, _| submitted.contains(key.as_str()));
    for list in history.iter().filter(|op| op.call_kind == CallKind::List) {
        let Some(Answer::Jobs(statuses)) = list.outcome.answer() else { continue };
        for (key, part) in &mut parts {
            let first = part.first().map_or(u64::MAX, |(op, _)| op.call);
            if list.latest() < first {
                continue;
            }
            let output = statuses.get(key).map_or(Answer::NotFound, |status| Answer::Status(status.clone()));
            let look = Operation {
                call: list.call,
                latest: list.latest(),
                input: CallKind::Get,
                output: Some(output.clone()),
            };
            let shown = Op { key: key.clone(), outcome: Outcome::Ok { output }, ..list.clone() };
            part.push((shown, look));
        }
    }
    parts
}
