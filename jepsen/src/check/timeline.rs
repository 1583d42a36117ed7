//! What happened to one job's checkpoints and attempts, in the order of the log.

use std::collections::BTreeMap;

use tidemill_model::event::{Event, EventAttempt, EventRecord};
use tidemill_model::id::JobId;

/// What an applied command answers when it has done something.
const DONE: &str = "done";

/// One job's history.
#[derive(Debug, Default)]
pub struct Timeline<'a> {
    /// Completed checkpoints, by the log index at which they were.
    pub completed: BTreeMap<u64, Completion<'a>>,
    /// Attempt numbers, by the log index at which they were scheduled.
    pub scheduled: BTreeMap<u64, u32>,
    /// When a task manager was first told to start attempts of a number.
    pub deployed: BTreeMap<u32, u64>,
    /// When a checkpoint was triggered, each time, and by which epoch.
    pub triggered: BTreeMap<u64, Vec<(u64, u64)>>,
    /// Hashes by which checkpoints are known that were completed.
    pub manifests: BTreeMap<u64, Vec<&'a str>>,
    /// Sub-tasks' parts of checkpoints.
    pub acknowledged: Vec<(EventAttempt, u64, &'a str)>,
    /// What attempts were started from.
    pub restored: Vec<Restored<'a>>,
    /// Attempts that have started.
    pub started: Vec<EventAttempt>,
}

/// A completed checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion<'a> {
    /// Its id.
    pub id: u64,
    /// When a replica first applied it.
    pub at: u64,
    /// The hash of what it consists of.
    pub sha: Option<&'a str>,
}

/// An attempt that starts from a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Restored<'a> {
    /// Which.
    pub attempt: EventAttempt,
    /// From which.
    pub checkpoint: u64,
    /// The hash of its part.
    pub sha: Option<&'a str>,
    /// When.
    pub at: u64,
}

impl<'a> Timeline<'a> {
    /// Of a job, by the events of a run.
    #[must_use]
    pub fn of(events: &'a [EventRecord], job: JobId) -> Self {
        let mut timeline = Self::default();
        for record in events {
            timeline.see(record, job);
        }
        timeline
    }

    fn see(&mut self, record: &'a EventRecord, of: JobId) {
        let at = record.mono_ns;
        match &record.event {
            Event::ProposalApplied { index, kind, job: Some(job), decided, response, effective: true, .. }
                if *job == of && response == DONE =>
            {
                if let (Some(id), "CompleteCheckpoint" | "StartCommitting") = (decided.ckpt, kind.as_str()) {
                    let sha = decided.manifest_sha.as_deref();
                    let completion = self.completed.entry(*index).or_insert(Completion { id, at, sha });
                    completion.at = completion.at.min(at);
                    self.manifests.entry(id).or_default().extend(sha);
                }
                if let Some(attempt) = decided.attempt {
                    self.scheduled.insert(*index, attempt.0);
                }
            }
            Event::RpcAccept { call } if call.job == Some(of) && call.kind == "deploy" => {
                if let Some(attempt) = call.attempt {
                    let first = self.deployed.entry(attempt.0).or_insert(at);
                    *first = (*first).min(at);
                }
            }
            Event::CkptTrigger { job, id, term } if *job == of => {
                self.triggered.entry(*id).or_default().push((at, term.0));
            }
            Event::CkptComplete { job, id, manifest_sha: Some(sha), .. } if *job == of => {
                self.manifests.entry(*id).or_default().push(sha);
            }
            Event::CkptAck { attempt, id, state_sha: Some(sha) } if attempt.job == of => {
                self.acknowledged.push((*attempt, *id, sha));
            }
            Event::Restore { attempt, ckpt, state_sha } if attempt.job == of => {
                let (attempt, sha) = (*attempt, state_sha.as_deref());
                self.restored.push(Restored { attempt, checkpoint: *ckpt, sha, at });
            }
            Event::TaskStart { attempt, .. } if attempt.job == of => self.started.push(*attempt),
            Event::ProposalApplied { .. }
            | Event::RpcAccept { .. }
            | Event::CkptTrigger { .. }
            | Event::CkptComplete { .. }
            | Event::CkptAck { .. }
            | Event::Restore { .. }
            | Event::TaskStart { .. }
            | Event::TaskStop { .. }
            | Event::TmRegister { .. }
            | Event::RpcReject { .. }
            | Event::ProcessStart { .. }
            | Event::EventsLost { .. }
            | Event::LeaderStart { .. }
            | Event::LeaderStop { .. }
            | Event::CkptAbort { .. }
            | Event::SinkCommit { .. }
            | Event::GcDelete { .. } => {}
        }
    }

    /// What attempts of a number have to start from: the newest checkpoint that was completed when they were scheduled.
    /// None when nobody wrote down when that was.
    #[must_use]
    pub fn base(&self, attempt: u32) -> Option<Option<Completion<'a>>> {
        // A leader that repeats itself schedules nothing anew: the first time counts.
        let (index, _) = self.scheduled.iter().find(|(_, number)| **number == attempt)?;
        Some(self.completed.range(..*index).next_back().map(|(_, completion)| *completion))
    }

    /// The attempts that ran at a time.
    #[must_use]
    pub fn attempt_at(&self, at: u64) -> Option<u32> {
        self.deployed.iter().filter(|(_, deployed)| **deployed <= at).map(|(number, _)| *number).max()
    }

    /// How many numbers of attempts were started from a checkpoint.
    #[must_use]
    pub fn restores(&self) -> usize {
        let mut numbers: Vec<u32> = self.restored.iter().map(|restored| restored.attempt.attempt.0).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.len()
    }
}
