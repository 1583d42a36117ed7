//! Promise `durable-before-visible`: a submission or cancellation that a client was told of is never lost.

use std::collections::BTreeSet;

use tidemill_model::id::JobId;
use tidemill_model::job::JobStatus;

use super::Truth;
use crate::sim::fact::Fact;

/// How it was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// An accepted job is not there.
    #[error("job {job} was accepted, and is not in the state")]
    Lost {
        /// Which.
        job: JobId,
    },
    /// A cancelled job did something else.
    #[error("the cancellation of job {job} was accepted, and it is {status}")]
    NotCanceled {
        /// Which.
        job: JobId,
        /// How it stands.
        status: String,
    },
}

/// Keeps what clients were told.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    submitted: BTreeSet<JobId>,
    canceled: BTreeSet<JobId>,
}

impl Acknowledged {
    pub(super) fn observe(&mut self, truth: &Truth, fact: &Fact<'_>) -> Result<(), Violation> {
        if let Fact::SubmissionAcknowledged { job } = fact {
            self.submitted.insert(*job);
        } else if let Fact::CancellationAcknowledged { job } = fact {
            self.canceled.insert(*job);
        } else if !matches!(fact, Fact::Applied { .. }) {
            return Ok(());
        }
        if let Some(job) = self.submitted.iter().find(|job| truth.job(**job).is_none()) {
            return Err(Violation::Lost { job: *job });
        }
        for &job in &self.canceled {
            let Some(status) = truth.job(job).map(|state| &state.status) else {
                return Err(Violation::Lost { job });
            };
            if !matches!(status, JobStatus::Cancelling | JobStatus::Canceled) {
                return Err(Violation::NotCanceled { job, status: status.to_string() });
            }
        }
        Ok(())
    }
}
