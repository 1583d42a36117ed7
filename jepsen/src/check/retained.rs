//! C5: what retained checkpoints need is on the disk, and nothing else stays there for long; Z1 of a phase: nothing is
//! left when its jobs have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidemill_model::event::{Event, EventFile, EventRecord};
use tidemill_model::id::JobId;

use super::lead;
use super::timeline::Timeline;
use super::verdict::Verdict;
use crate::clock::nanos;
use crate::schedule::Form;
use crate::sequence::record::{CheckpointLook, SequenceRecord};

/// How long a file that no retained checkpoint needs may stay while the job runs and one leader leads.
const GARBAGE_LIMIT: Duration = Duration::from_secs(20);

/// C5: at each look, every file of each retained checkpoint is there and long enough.
#[must_use]
pub fn complete(record: &SequenceRecord, events: &[EventRecord]) -> Verdict {
    let mut compared = 0;
    for look in &record.checkpoint_looks {
        let Some(files) = &look.files else { continue };
        let found: BTreeMap<&str, u64> = files.iter().map(|file| (file.path.as_str(), file.bytes)).collect();
        let needed = needed(events, look.job);
        for id in &look.retained {
            // Of a leader that died while it wrote that down, nobody knows what it needs.
            for file in needed.get(&id.0).into_iter().flat_map(|files| files.iter()) {
                compared += 1;
                let bytes = found.get(file.path.as_str());
                if bytes.is_none_or(|bytes| *bytes < file.bytes) {
                    let why = format!(
                        "retained checkpoint {id} of job {} needs {} bytes of {}, and there are {bytes:?}",
                        look.job, file.bytes, file.path
                    );
                    return Verdict::invalid(why, Vec::new(), (look.from, look.to));
                }
            }
        }
    }
    match compared {
        0 => Verdict::unknown("no file of a retained checkpoint was looked at"),
        compared => Verdict::valid(format!("{compared} times a file of a retained checkpoint was complete")),
    }
}

/// C5 of a job whose newest checkpoint was damaged: it fails, with the name of a damaged file, and starts from no other.
#[must_use]
pub fn loud(record: &SequenceRecord, events: &[EventRecord]) -> Verdict {
    let Some(job) = record.jobs.first() else { return Verdict::unknown("no job ran") };
    let timeline = Timeline::of(events, job.job);
    let Some(damaged) = timeline.completed.values().next_back().map(|newest| newest.id) else {
        return Verdict::unknown("no checkpoint was completed");
    };
    let named = needed(events, job.job).get(&damaged).is_some_and(|files| {
        let of_newest = files.iter().filter(|file| file.path.starts_with(&format!("{damaged}/")));
        of_newest.into_iter().any(|file| job.words.contains(&file.path))
    });
    if job.ended.as_deref() != Some("FAILED") || !named {
        let why = format!(
            "checkpoint {damaged} of job {} was damaged, and the job is {}, with these words: {}",
            job.job,
            job.ended.as_deref().unwrap_or("not ended"),
            job.words
        );
        return Verdict::invalid(why, Vec::new(), (0, 0));
    }
    Verdict::valid(format!("the job failed by its damaged checkpoint {damaged}: {}", job.words))
}

fn needed(events: &[EventRecord], of: JobId) -> BTreeMap<u64, &[EventFile]> {
    let complete = |record: &'_ EventRecord| matches!(&record.event, Event::CkptComplete { job, .. } if *job == of);
    let mut needed: BTreeMap<u64, &[EventFile]> = BTreeMap::new();
    for record in events.iter().filter(|record| complete(record)) {
        if let Event::CkptComplete { id, files, .. } = &record.event {
            needed.insert(*id, files);
        }
    }
    needed
}

/// Z1: no more checkpoints are retained than were wanted, what they do not need is deleted soon, and nothing is left after
/// the end.
#[must_use]
pub fn nothing_left(record: &SequenceRecord, events: &[EventRecord]) -> Verdict {
    if let Some(first) = record.left.first() {
        let why = format!("{} things were left: {first}", record.left.len());
        return Verdict::invalid(why, record.left.clone(), (0, 0));
    }
    // Beside those that are kept, the savepoint at which a job is suspended stays until it is copied.
    let most = record.retained_max + usize::from(record.form == Form::Suspended);
    if let Some(look) = record.checkpoint_looks.iter().find(|look| look.retained.len() > most) {
        let why = format!("{} checkpoints of job {} were retained, {most} at most", look.retained.len(), look.job);
        return Verdict::invalid(why, Vec::new(), (look.from, look.to));
    }
    if let Some((why, between)) = record.jobs.iter().find_map(|job| garbage(record, events, job.job)) {
        return Verdict::invalid(why, Vec::new(), between);
    }
    Verdict::valid("no executor, folder, pending file or checkpoint was left, and no more were retained than wanted")
}

/// A file that no retained checkpoint needs, and that is of no newer one, for too long.
fn garbage(record: &SequenceRecord, events: &[EventRecord], job: JobId) -> Option<(String, (u64, u64))> {
    let needed = needed(events, job);
    let leaderships = lead::leaderships(events);
    let mut since: BTreeMap<&str, u64> = BTreeMap::new();
    for look in record.checkpoint_looks.iter().filter(|look| look.job == job) {
        let Some(files) = &look.files else { continue };
        let unneeded: BTreeSet<&str> = unneeded(look, files, &needed).collect();
        since.retain(|path, _| unneeded.contains(path));
        for path in unneeded {
            // A leader begins anew with what its predecessors have not deleted.
            let leads = leaderships.iter().map(|leadership| leadership.at).filter(|at| *at <= look.to).max();
            let first = (*since.entry(path).or_insert(look.from)).max(leads.unwrap_or(0));
            if look.to.saturating_sub(first) > nanos(GARBAGE_LIMIT) {
                let why = format!("file {path} of job {job} has been needed by no checkpoint for {GARBAGE_LIMIT:?}");
                return Some((why, (first, look.to)));
            }
        }
    }
    None
}

fn unneeded<'a>(
    look: &CheckpointLook,
    files: &'a [EventFile],
    needed: &BTreeMap<u64, &[EventFile]>,
) -> impl Iterator<Item = &'a str> {
    let oldest = look.retained.iter().map(|id| id.0).min().unwrap_or(0);
    // What is needed by a checkpoint that nobody wrote down is unknown: then nothing is called garbage.
    let known = look.retained.iter().all(|id| needed.contains_key(&id.0));
    let wanted: BTreeSet<String> = look
        .retained
        .iter()
        .filter_map(|id| needed.get(&id.0))
        .flat_map(|files| files.iter().map(|file| file.path.clone()))
        .collect();
    let of_older = move |path: &str| {
        let id = path.split_once('/').and_then(|(id, _)| id.parse::<u64>().ok());
        id.is_some_and(|id| id < oldest)
    };
    files.iter().map(|file| file.path.as_str()).filter(move |path| known && of_older(path) && !wanted.contains(*path))
}
