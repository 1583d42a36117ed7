//! C4: readers go on exactly where they were at the checkpoint that is restored, by what they wrote down themselves.

use tidemill_model::event::EventRecord;

use super::timeline::{Completion, Timeline};
use super::verdict::Verdict;
use crate::sequence::note::{Did, Note};
use crate::sequence::record::SequenceRecord;

/// Where a split was at a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// So many of its records were read.
    At(u64),
    /// All of them were.
    Ended,
}

/// What one job's readers wrote down, with what happened to the job, and where the job began.
struct Job<'a> {
    timeline: Timeline<'a>,
    notes: Vec<&'a Note>,
}

/// Whether each reader that was opened after a restore began at the place that the checkpoint has of its split.
#[must_use]
pub fn check(record: &SequenceRecord, events: &[EventRecord]) -> Verdict {
    let jobs: Vec<Job<'_>> = jobs(record, events);
    let mut compared = 0;
    for (number, job) in jobs.iter().enumerate() {
        for open in job.notes.iter().filter(|note| note.did == Did::Open) {
            let Some(attempt) = job.timeline.attempt_at(open.at) else { continue };
            let Some(place) = begin(&jobs, number, attempt, open.split) else { continue };
            if place != Place::At(open.offset) {
                let why = format!(
                    "attempt {attempt} of job {} reads split {} from {}, where its checkpoint has it {place:?}",
                    record.jobs[number].job, open.split, open.offset
                );
                let lines: Vec<String> = job
                    .notes
                    .iter()
                    .filter(|note| note.split == open.split && note.at <= open.at)
                    .map(|note| format!("{note:?}"))
                    .collect();
                return Verdict::invalid(why, lines, (open.at, open.at));
            }
            compared += usize::from(open.offset > 0);
        }
    }
    match compared {
        0 => Verdict::unknown("no reader began behind the beginning of its split"),
        compared => Verdict::valid(format!("{compared} readers went on where their checkpoint was")),
    }
}

/// Each note is of the job that ran then: they follow one another.
fn jobs<'a>(record: &'a SequenceRecord, events: &'a [EventRecord]) -> Vec<Job<'a>> {
    let timelines: Vec<Timeline<'a>> = record.jobs.iter().map(|job| Timeline::of(events, job.job)).collect();
    let began: Vec<u64> =
        timelines.iter().map(|timeline| timeline.deployed.values().copied().min().unwrap_or(u64::MAX)).collect();
    let job_of = |note: &Note| began.iter().rposition(|began| *began <= note.at);
    let of = |number: usize| record.notes.iter().filter(move |note| job_of(note) == Some(number));
    let notes: Vec<Vec<&Note>> = (0..timelines.len()).map(|number| of(number).collect()).collect();
    timelines.into_iter().zip(notes).map(|(timeline, notes)| Job { timeline, notes }).collect()
}

/// Where attempts of a number have to begin with a split; none: nobody wrote enough down to tell.
fn begin(jobs: &[Job<'_>], number: usize, attempt: u32, split: u64) -> Option<Place> {
    let timeline = &jobs.get(number)?.timeline;
    match timeline.base(attempt)? {
        Some(base) => place(jobs, number, base, split),
        // From the savepoint that the job before left, if there was one.
        None if number == 0 => Some(Place::At(0)),
        None => {
            let before = jobs[number - 1].timeline.completed.values().next_back().copied()?;
            place(jobs, number - 1, before, split)
        }
    }
}

/// Where a checkpoint has a split.
fn place(jobs: &[Job<'_>], number: usize, checkpoint: Completion<'_>, split: u64) -> Option<Place> {
    let Job { timeline, notes } = jobs.get(number)?;
    let attempt = timeline.attempt_at(checkpoint.at)?;
    let deployed = *timeline.deployed.get(&attempt)?;
    let triggered = timeline.triggered.get(&checkpoint.id)?.iter().map(|(at, _)| *at).min()?;
    let mut of_split = notes.iter().filter(|note| note.split == split && (deployed..=checkpoint.at).contains(&note.at));
    let snapshot = of_split.clone().rfind(|note| note.did == Did::Snapshot && note.at >= triggered);
    match snapshot {
        Some(snapshot) => Some(Place::At(snapshot.offset)),
        None if of_split.any(|note| note.did == Did::End) => Some(Place::Ended),
        // Nobody had opened it when the barrier came: it waited where the attempt had found it.
        None => begin(jobs, number, attempt, split),
    }
}
