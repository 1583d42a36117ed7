//! K3: each list is one chain of which every read shows a prefix; nothing acknowledged is lost, twice there, or invented.

use std::collections::{BTreeMap, BTreeSet};

use super::linearizable::describe;
use super::verdict::Verdict;
use crate::history::{Answer, CallKind, Op, Outcome};

/// Judges the lists that belong to a phase.
#[must_use]
pub fn check(history: &[Op], phase: &str) -> Verdict {
    let mut lists: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
    for op in history.iter().filter(|op| op.phase == phase) {
        if matches!(op.call_kind, CallKind::Append { .. } | CallKind::ReadList) {
            lists.entry(&op.key).or_default().push(op);
        }
    }
    let reads = lists.values().flatten().filter(|op| elements(op).is_some()).count();
    if reads == 0 {
        return Verdict::unknown("no list was read");
    }
    let good = Verdict::valid(format!("{} lists in {reads} reads are chains of prefixes", lists.len()));
    lists.iter().filter_map(|(key, ops)| judge(key, ops)).fold(good, Verdict::worst)
}

fn elements(op: &Op) -> Option<&[i64]> {
    match (&op.call_kind, op.outcome.answer()) {
        (CallKind::ReadList, Some(Answer::Elements(elements))) => Some(elements),
        (_, _) => None,
    }
}

fn appended(op: &Op) -> Option<i64> {
    if let CallKind::Append { value } = op.call_kind { Some(value) } else { None }
}

fn judge(key: &str, ops: &[&Op]) -> Option<Verdict> {
    let longest =
        ops.iter().filter(|op| elements(op).is_some()).max_by_key(|op| elements(op).map_or(0, <[i64]>::len))?;
    let chain = elements(longest)?;
    invented(key, ops, longest, chain)
        .or_else(|| no_prefix(key, ops, longest, chain))
        .or_else(|| lost(key, ops))
        .or_else(|| out_of_order(key, ops, chain))
}

fn invented(key: &str, ops: &[&Op], longest: &Op, chain: &[i64]) -> Option<Verdict> {
    let possible: BTreeSet<i64> = ops.iter().filter(|op| op.counts()).filter_map(|op| appended(op)).collect();
    let refused: BTreeSet<i64> =
        ops.iter().filter(|op| matches!(op.outcome, Outcome::Fail { .. })).filter_map(|op| appended(op)).collect();
    let mut seen = BTreeSet::new();
    for value in chain {
        let wrong = if !seen.insert(*value) {
            "stands there twice"
        } else if refused.contains(value) {
            "was refused and stands there all the same"
        } else if !possible.contains(value) {
            "was never appended"
        } else {
            continue;
        };
        return Some(invalid(format!("{key}: {value} {wrong}"), &[longest]));
    }
    None
}

fn no_prefix(key: &str, ops: &[&Op], longest: &Op, chain: &[i64]) -> Option<Verdict> {
    let odd = ops.iter().find(|op| elements(op).is_some_and(|elements| !chain.starts_with(elements)))?;
    Some(invalid(format!("{key}: two reads are not prefixes of one chain"), &[odd, longest]))
}

/// A read that began after an append was acknowledged, or after another read was answered, shows at least as much.
fn lost(key: &str, ops: &[&Op]) -> Option<Verdict> {
    for read in ops.iter().filter(|op| elements(op).is_some()) {
        let shown = elements(read)?;
        let before = |op: &&&Op| op.is_ok() && op.latest() < read.call;
        let missing = ops.iter().filter(before).find(|op| appended(op).is_some_and(|value| !shown.contains(&value)));
        if let Some(append) = missing {
            return Some(invalid(format!("{key}: an acknowledged append is missing"), &[append, read]));
        }
        let longer = |op: &&&Op| elements(op).is_some_and(|elements| elements.len() > shown.len());
        if let Some(earlier) = ops.iter().filter(before).find(longer) {
            return Some(invalid(format!("{key}: a read shows less than an earlier one"), &[earlier, read]));
        }
    }
    None
}

/// Appends that did not overlap stand in the order in which they were made.
fn out_of_order(key: &str, ops: &[&Op], chain: &[i64]) -> Option<Verdict> {
    let place = |op: &Op| appended(op).and_then(|value| chain.iter().position(|element| *element == value));
    let appends: Vec<(usize, &Op)> = ops.iter().filter_map(|op| place(op).map(|place| (place, *op))).collect();
    for (place, op) in &appends {
        if let Some((_, earlier)) = appends.iter().find(|(other, earlier)| other > place && earlier.latest() < op.call)
        {
            return Some(invalid(format!("{key}: a later append stands first"), &[earlier, op]));
        }
    }
    None
}

fn invalid(why: String, ops: &[&Op]) -> Verdict {
    let from = ops.iter().map(|op| op.call).min().unwrap_or(0);
    let to = ops.iter().filter_map(|op| op.returned).max().unwrap_or(from);
    Verdict::invalid(why, ops.iter().map(|op| describe(op)).collect(), (from, to))
}
