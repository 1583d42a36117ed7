//! Checkpoints of one phase's jobs: C1, each id names one; C2, the newest never goes back; C3, what is restored is the
//! newest completed one.

use std::collections::BTreeMap;

use tidemill_model::event::EventRecord;

use super::timeline::Timeline;
use super::verdict::Verdict;
use crate::sequence::record::{CheckpointLook, SequenceRecord};

/// C1: completed ids only grow in the order of the log, and an id stands for one checkpoint.
#[must_use]
pub fn ids(record: &SequenceRecord, events: &[EventRecord]) -> Verdict {
    let mut completed = 0;
    for job in &record.jobs {
        let timeline = Timeline::of(events, job.job);
        if let Some((why, between)) = twice(&timeline) {
            return Verdict::invalid(format!("job {}: {why}", job.job), Vec::new(), between);
        }
        completed += timeline.completed.len();
    }
    match completed {
        0 => Verdict::unknown("no checkpoint was completed"),
        completed => Verdict::valid(format!("{completed} completed checkpoints, their ids only grow")),
    }
}

fn twice(timeline: &Timeline<'_>) -> Option<(String, (u64, u64))> {
    let in_order: Vec<_> = timeline.completed.iter().collect();
    for pair in in_order.windows(2) {
        let ((before, first), (index, second)) = (pair[0], pair[1]);
        if second.id <= first.id {
            let why = format!("checkpoint {} at index {index} was completed after {} at {before}", second.id, first.id);
            return Some((why, (first.at, second.at)));
        }
    }
    for (id, shas) in &timeline.manifests {
        if let Some(other) = shas.iter().find(|sha| **sha != shas[0]) {
            let at = timeline.completed.values().find(|completion| completion.id == *id).map_or(0, |found| found.at);
            return Some((format!("checkpoint {id} stands for both {} and {other}", shas[0]), (at, at)));
        }
    }
    for (id, times) in &timeline.triggered {
        if let [(first, epoch), .., (last, other)] = times.as_slice() {
            let why = format!("checkpoint {id} was triggered by epoch {epoch}, and again by epoch {other}");
            return Some((why, (*first, *last)));
        }
    }
    let mut parts = BTreeMap::new();
    for (attempt, id, sha) in &timeline.acknowledged {
        let known = parts.entry((*attempt, *id)).or_insert(sha);
        if known != &sha {
            return Some((format!("{attempt:?} acknowledged checkpoint {id} with both {known} and {sha}"), (0, 0)));
        }
    }
    None
}

/// C2: whoever asks later is told of no older newest checkpoint.
#[must_use]
pub fn newest(record: &SequenceRecord) -> Verdict {
    let mut looks = 0;
    for job in &record.jobs {
        let of_job: Vec<&CheckpointLook> = record.checkpoint_looks.iter().filter(|look| look.job == job.job).collect();
        looks += of_job.len();
        for pair in of_job.windows(2) {
            if pair[1].from >= pair[0].to && pair[1].latest < pair[0].latest {
                let why = format!("the newest checkpoint was {:?}, and then {:?}", pair[0].latest, pair[1].latest);
                return Verdict::invalid(why, Vec::new(), (pair[0].to, pair[1].to));
            }
        }
    }
    match looks {
        0 => Verdict::unknown("nobody looked at the checkpoints"),
        looks => Verdict::valid(format!("{looks} looks, the newest checkpoint never went back")),
    }
}

/// C3: every attempt starts from the checkpoint that was the newest when it was scheduled, with what was acknowledged for
/// it; and from nothing only when there was none.
#[must_use]
pub fn restores(record: &SequenceRecord, events: &[EventRecord]) -> Verdict {
    let mut restored = 0;
    for job in &record.jobs {
        let timeline = Timeline::of(events, job.job);
        let wrong = wrong_base(&timeline).or_else(|| wrong_part(&timeline)).or_else(|| empty(&timeline));
        match wrong {
            Some(Wrong::Unknown(why)) => return Verdict::unknown(format!("job {}: {why}", job.job)),
            Some(Wrong::Invalid(why, at)) => {
                return Verdict::invalid(format!("job {}: {why}", job.job), Vec::new(), (at, at));
            }
            None => restored += timeline.restored.len(),
        }
    }
    match restored {
        0 => Verdict::unknown("nothing was restored"),
        restored => Verdict::valid(format!("{restored} sub-tasks started from the newest completed checkpoint")),
    }
}

enum Wrong {
    Unknown(String),
    Invalid(String, u64),
}

fn wrong_base(timeline: &Timeline<'_>) -> Option<Wrong> {
    for restored in &timeline.restored {
        let number = restored.attempt.attempt.0;
        let Some(base) = timeline.base(number) else {
            return Some(Wrong::Unknown(format!("nobody wrote down when attempt {number} was scheduled")));
        };
        if base.map(|base| base.id) != Some(restored.checkpoint) {
            let newest = base.map_or_else(|| "none".to_owned(), |base| base.id.to_string());
            let why = format!(
                "{:?} started from checkpoint {}, the newest completed one was {newest}",
                restored.attempt, restored.checkpoint
            );
            return Some(Wrong::Invalid(why, restored.at));
        }
    }
    None
}

/// What a sub-task starts from is what one of the same place acknowledged. Who was killed may not have written that down.
fn wrong_part(timeline: &Timeline<'_>) -> Option<Wrong> {
    for restored in &timeline.restored {
        let place = (restored.attempt.vertex, restored.attempt.subtask);
        let mut parts = timeline
            .acknowledged
            .iter()
            .filter(|(attempt, id, _)| *id == restored.checkpoint && (attempt.vertex, attempt.subtask) == place)
            .map(|(_, _, sha)| *sha)
            .peekable();
        if let (Some(sha), Some(_)) = (restored.sha, parts.peek())
            && !parts.any(|part| part == sha)
        {
            let why = format!("{:?} started from {sha}, which nobody acknowledged", restored.attempt);
            return Some(Wrong::Invalid(why, restored.at));
        }
    }
    None
}

fn empty(timeline: &Timeline<'_>) -> Option<Wrong> {
    for started in &timeline.started {
        let Some(Some(base)) = timeline.base(started.attempt.0) else { continue };
        if !timeline.restored.iter().any(|restored| restored.attempt == *started) {
            let why = format!("{started:?} started from nothing, although checkpoint {} was completed", base.id);
            return Some(Wrong::Invalid(why, base.at));
        }
    }
    None
}
