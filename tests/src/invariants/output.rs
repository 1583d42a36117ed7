//! Promises `exactly-once` and `no-zombie`, for what becomes visible: it is published once, from the attempts that are
//! in the schedule of a job whose tasks have all finished, and its content is that of a run without failures.

use std::collections::BTreeSet;

use tidemill_model::id::{ExecutionAttemptId, JobId};
use tidemill_model::job::JobStatus;

use super::Truth;
use crate::sim::fact::{Fact, Written};

/// How it was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Published again.
    #[error("the output of job {job} was published twice")]
    Twice {
        /// Whose.
        job: JobId,
    },
    /// Published although nobody had decided it.
    #[error("the output of job {job} was published in status {status}")]
    Undecided {
        /// Whose.
        job: JobId,
        /// How the job stood.
        status: String,
    },
    /// Published from an attempt that is superseded.
    #[error("output of attempt {attempt} was published, which is not the scheduled one")]
    Zombie {
        /// Which.
        attempt: ExecutionAttemptId,
    },
    /// Records are missing, too many, or counted wrongly.
    #[error("the output of job {job} lacks {missing:?} and has {surplus:?} too many (the first ones of each)")]
    Content {
        /// Whose.
        job: JobId,
        /// What should be there.
        missing: Vec<Written>,
        /// What should not.
        surplus: Vec<Written>,
    },
}

/// Keeps whose output has been published.
#[derive(Debug, Default)]
pub(crate) struct Output {
    published: BTreeSet<JobId>,
}

impl Output {
    pub(super) fn observe(&mut self, truth: &Truth, fact: &Fact<'_>) -> Result<(), Violation> {
        let Fact::Published { job, attempts, content, expected } = fact else { return Ok(()) };
        let job = *job;
        if !self.published.insert(job) {
            return Err(Violation::Twice { job });
        }
        let state = truth.job(job);
        let status = state.map(|state| &state.status);
        if !matches!(status, Some(JobStatus::Committing)) {
            let status = status.map_or("none", |status| status.name()).to_owned();
            return Err(Violation::Undecided { job, status });
        }
        let wanted = |attempt: &&ExecutionAttemptId| {
            state.and_then(|state| state.schedule.as_ref()).is_some_and(|schedule| schedule.wants(attempt))
        };
        if let Some(attempt) = attempts.iter().find(|attempt| !wanted(attempt)) {
            return Err(Violation::Zombie { attempt: *attempt });
        }
        compare(job, content, expected)
    }
}

/// Both lists are sorted.
fn compare(job: JobId, content: &[Written], expected: &[Written]) -> Result<(), Violation> {
    if content == expected {
        return Ok(());
    }
    let first = |here: &[Written], there: &[Written]| {
        here.iter().filter(|record| there.binary_search(record).is_err()).take(5).copied().collect::<Vec<_>>()
    };
    Err(Violation::Content { job, missing: first(expected, content), surplus: first(content, expected) })
}
