//! Terminal statuses absorb, `Finished` follows only on published output, and a client never sees an end taken back.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_model::id::JobId;
use tidemill_model::job::JobStatus;

use crate::sim::fact::Fact;

/// How it was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A job went on after its end.
    #[error("job {job} went from {from} to {to}")]
    Left {
        /// Which.
        job: JobId,
        /// How it had ended.
        from: String,
        /// What it became.
        to: String,
    },
    /// `Finished`, but nothing is visible.
    #[error("job {job} is FINISHED, and its output has not been published")]
    NothingPublished {
        /// Which.
        job: JobId,
    },
    /// What was completed was not made visible: in simulations publishing never fails for good.
    #[error("job {job} was committing, and became {to}")]
    CommitLeft {
        /// Which.
        job: JobId,
        /// What it became.
        to: String,
    },
    /// A client read an end, and then something else.
    #[error("a client of job {job} read {then} after {first}")]
    ReadBack {
        /// Which.
        job: JobId,
        /// The end that was read.
        first: String,
        /// What was read then.
        then: String,
    },
}

/// Keeps what has been published, and which ends have been read.
#[derive(Debug, Default)]
pub(crate) struct Terminal {
    published: BTreeSet<JobId>,
    read: BTreeMap<JobId, JobStatus>,
}

impl Terminal {
    /// An entry that nobody had applied before.
    pub(super) fn decided(&self, fact: &Fact<'_>) -> Result<(), Violation> {
        let Fact::Applied { command, before, after, .. } = fact else { return Ok(()) };
        let Some(job) = command.body.job() else { return Ok(()) };
        let status = |state: &tidemill_coordinator::engine::replicated::ClusterState| {
            state.jobs.get(&job).map(|job| job.status.clone())
        };
        let (from, to) = (status(before), status(after));
        if let Some(from) = from.as_ref().filter(|from| from.is_terminal())
            && to.as_ref() != Some(from)
        {
            let to = to.map_or_else(|| "nothing".to_owned(), |to| to.to_string());
            return Err(Violation::Left { job, from: from.to_string(), to });
        }
        if let (Some(JobStatus::Committing), Some(to)) = (&from, &to)
            && !matches!(to, JobStatus::Committing | JobStatus::Finished(_))
        {
            return Err(Violation::CommitLeft { job, to: to.to_string() });
        }
        if matches!(to, Some(JobStatus::Finished(_))) && !self.published.contains(&job) {
            return Err(Violation::NothingPublished { job });
        }
        Ok(())
    }

    pub(super) fn observe(&mut self, fact: &Fact<'_>) -> Result<(), Violation> {
        if let Fact::Published { job, .. } = fact {
            self.published.insert(*job);
        }
        let Fact::StatusRead { job, status } = fact else { return Ok(()) };
        if let Some(first) = self.read.get(job)
            && Some(first) != *status
        {
            let then = status.map_or_else(|| "nothing".to_owned(), ToString::to_string);
            return Err(Violation::ReadBack { job: *job, first: first.to_string(), then });
        }
        if let Some(status) = status.filter(|status| status.is_terminal()) {
            self.read.insert(*job, status.clone());
        }
        Ok(())
    }
}
