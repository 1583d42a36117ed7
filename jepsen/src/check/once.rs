//! X1: what jobs over a sequence have committed is every number once, with the counts that follow from that.

use std::collections::{BTreeMap, BTreeSet};

use super::verdict::Verdict;
use crate::schedule::Form;
use crate::sequence::record::SequenceRecord;
use crate::sequence::{Counted, Numbered, id_of, place_of};

/// How many of a kind are shown.
const SHOWN: usize = 5;

/// Whether the jobs ended as they had to, and their output is exact and stayed as it was committed.
#[must_use]
pub fn check(record: &SequenceRecord) -> Verdict {
    let between =
        (record.output_looks.first().map_or(0, |look| look.at), record.output_looks.last().map_or(0, |look| look.at));
    let found = ends(record).or_else(|| content(record)).or_else(|| stays(record));
    match found {
        Some((why, lines)) => Verdict::invalid(why, lines, between),
        None if record.numbers.values().all(String::is_empty) => Verdict::unknown("nothing was committed"),
        None => {
            let lines: usize = record.numbers.values().map(|text| text.lines().count()).sum();
            let files = record.numbers.len() + record.counts.len();
            Verdict::valid(format!("{lines} numbers once each, with their counts, in {files} files that stayed"))
        }
    }
}

type Found = (String, Vec<String>);

fn ends(record: &SequenceRecord) -> Option<Found> {
    let well = |job: &crate::sequence::record::JobRecord| {
        let finished = job.wanted != "FINISHED" || job.words.contains("program: exit code 0");
        job.ended.as_deref() == Some(job.wanted.as_str()) && finished
    };
    let wanted = if record.form == Form::Suspended { 2 } else { 1 };
    if record.jobs.len() < wanted {
        let words: Vec<String> = record.jobs.iter().map(|job| job.words.clone()).collect();
        return Some((format!("{} of {wanted} jobs were run", record.jobs.len()), words));
    }
    let job = record.jobs.iter().find(|job| !well(job))?;
    let ended = job.ended.as_deref().unwrap_or("not ended");
    Some((format!("job {} is {ended}, where {} was expected: {}", job.job, job.wanted, job.words), Vec::new()))
}

/// No file that was committed changes or vanishes.
fn stays(record: &SequenceRecord) -> Option<Found> {
    let mut known = BTreeSet::new();
    for look in &record.output_looks {
        for (name, file) in &look.changed {
            let what = match file {
                None => "vanished",
                Some(_) if known.contains(name) => "changed",
                Some(_) => {
                    known.insert(name);
                    continue;
                }
            };
            return Some((format!("committed file {name} {what} at {}", look.at), Vec::new()));
        }
    }
    None
}

fn content(record: &SequenceRecord) -> Option<Found> {
    let mut numbers: BTreeMap<u64, u32> = BTreeMap::new();
    for (name, line) in lines(&record.numbers) {
        match Numbered::parse(line) {
            Some(number) => *numbers.entry(number.id).or_default() += 1,
            None => return Some((format!("{name} has a line that is no number: {line:?}"), Vec::new())),
        }
    }
    let mut counts: BTreeMap<u64, Vec<Counted>> = BTreeMap::new();
    for (name, line) in lines(&record.counts) {
        match Counted::parse(line) {
            Some(counted) => counts.entry(counted.key).or_default().push(counted),
            None => return Some((format!("{name} has a line that is no count: {line:?}"), Vec::new())),
        }
    }
    exact_numbers(record, &numbers).or_else(|| exact_counts(&mut counts, &numbers))
}

fn lines(files: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &str)> {
    files.iter().flat_map(|(name, text)| text.lines().map(move |line| (name, line)))
}

/// Each number once: all of them, or of a job that did not finish those up to one place in each split.
fn exact_numbers(record: &SequenceRecord, numbers: &BTreeMap<u64, u32>) -> Option<Found> {
    let twice = numbers.iter().filter(|(_, times)| **times > 1).map(|(id, times)| format!("{id} {times} times"));
    let phantoms = numbers.keys().filter(|id| **id >= record.records).map(u64::to_string);
    let mut ends: BTreeMap<u64, u64> = BTreeMap::new();
    for id in numbers.keys() {
        let (split, offset) = place_of(*id, record.splits);
        let end = ends.entry(split).or_default();
        *end = (*end).max(offset + 1);
    }
    let expected: Box<dyn Iterator<Item = u64>> = match record.form {
        Form::Finished | Form::Suspended => Box::new(0..record.records),
        Form::Canceled | Form::Damaged => {
            let splits = record.splits;
            Box::new(
                ends.into_iter().flat_map(move |(split, end)| (0..end).map(move |offset| id_of(split, offset, splits))),
            )
        }
    };
    let lost = expected.filter(|id| !numbers.contains_key(id)).map(|id| id.to_string());
    let (lost, twice, phantoms) = (lost.collect::<Vec<_>>(), twice.collect::<Vec<_>>(), phantoms.collect::<Vec<_>>());
    if lost.is_empty() && twice.is_empty() && phantoms.is_empty() {
        return None;
    }
    let shown = |kind: &str, all: &[String]| {
        let first = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        (!all.is_empty()).then(|| format!("{kind}: {first}{}", if all.len() > SHOWN { ", ..." } else { "" }))
    };
    let why = format!("{} numbers lost, {} more than once, {} phantoms", lost.len(), twice.len(), phantoms.len());
    let kinds = [("lost", &lost), ("more than once", &twice), ("phantoms", &phantoms)];
    Some((why, kinds.into_iter().filter_map(|(kind, all)| shown(kind, all)).collect()))
}

/// Of each key the counts are 1, 2 and so on, and the numbers that made them are those of the other sink.
fn exact_counts(counts: &mut BTreeMap<u64, Vec<Counted>>, numbers: &BTreeMap<u64, u32>) -> Option<Found> {
    let mut counted: BTreeSet<u64> = BTreeSet::new();
    for (key, of_key) in counts {
        of_key.sort_unstable();
        for (expected, found) in (1..).zip(&*of_key) {
            if found.count != expected || !counted.insert(found.id) {
                let all: Vec<String> = of_key.iter().map(|counted| counted.line()).collect();
                let why = format!(
                    "the counts of key {key} are not 1 to {}: {} instead of {expected}",
                    of_key.len(),
                    found.count
                );
                return Some((why, all));
            }
        }
    }
    let uncounted =
        numbers.keys().find(|id| !counted.contains(id)).map(|id| format!("{id} is written and not counted"));
    let unwritten =
        counted.iter().find(|id| !numbers.contains_key(id)).map(|id| format!("{id} is counted and not written"));
    uncounted.or(unwritten).map(|what| (format!("the two sinks disagree: number {what}"), Vec::new()))
}
