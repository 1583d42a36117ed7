//! Reads of jobs: how consistent they are, and what an answer rests on.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tidemill_model::id::{JobId, NodeId};
use tidemill_proto::{convert, pb};

use super::connections::Stub;
use super::error::Error;
use super::leader_search::Audience;
use super::types::{JobDetails, JobSummary};
use super::{ANSWER_TIMEOUT, JobClient};

/// How much a read must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Everything that was acknowledged anywhere before the call.
    #[default]
    Linearizable,
    /// The same, without asking the leader's quorum: right as long as the coordinators' clocks run about equally fast.
    Lease,
    /// What the coordinator that answers has applied, however old that is; the only one that needs no leader.
    Stale,
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linearizable => "linearizable",
            Self::Lease => "lease",
            Self::Stale => "stale",
        })
    }
}

impl FromStr for Consistency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::Linearizable, Self::Lease, Self::Stale];
        let named = known.into_iter().find(|consistency| consistency.to_string() == text);
        named.ok_or_else(|| format!("{text:?} is none of linearizable, lease, stale"))
    }
}

impl Consistency {
    pub(super) fn audience(self) -> Audience {
        match self {
            Self::Linearizable | Self::Lease => Audience::Reader,
            Self::Stale => Audience::Anyone,
        }
    }

    pub(super) fn wire(self) -> i32 {
        let consistency = match self {
            Self::Linearizable => pb::ReadConsistency::Linearizable,
            Self::Lease => pb::ReadConsistency::Lease,
            Self::Stale => pb::ReadConsistency::Stale,
        };
        consistency.into()
    }
}

/// What an answer rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// How consistent it is.
    pub consistency: Consistency,
    /// The coordinator that answered.
    pub node: NodeId,
    /// Up to which log index it had applied.
    pub applied_index: u64,
    /// How long ago it last heard of a leader, or as a leader of its quorum; none when it has not since its start.
    pub age: Option<Duration>,
}

/// An answer, and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<T> {
    /// The answer.
    pub value: T,
    /// What it rests on.
    pub freshness: Freshness,
}

impl JobClient {
    /// All that is known of a job, as consistently as asked for. A stale answer lacks what only the leader observes:
    /// states of running attempts, records, processes.
    ///
    /// ```no_run
    /// # async fn example(job: tidemill_model::id::JobId) -> Result<(), tidemill::job_client::Error> {
    /// use tidemill::job_client::{Consistency, JobClient};
    ///
    /// let client = JobClient::new(vec!["127.0.0.1:6123".to_owned()]);
    /// let read = client.read_job(job, Consistency::Stale).await?;
    /// println!("{} as of log index {}", read.value.status, read.freshness.applied_index);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such job, or a stale answer does not know of it.
    pub async fn read_job(&self, job: JobId, consistency: Consistency) -> Result<Read<JobDetails>, Error> {
        let request = pb::ReadJobRequest { id: convert::uuid_bytes(job.0), consistency: consistency.wire() };
        let call = |mut stub: Stub| {
            let request = request.clone();
            async move { stub.get_job(request).await }
        };
        let details = self.ask(consistency.audience(), Some(ANSWER_TIMEOUT), call).await?.into_inner();
        let freshness = freshness(consistency, details.read);
        let value = JobDetails::try_from(details).map_err(|error| self.malformed(&error))?;
        Ok(Read { value, freshness })
    }

    /// The cluster's jobs, those in its history included, as consistently as asked for.
    ///
    /// # Errors
    ///
    /// When no coordinator can answer.
    pub async fn read_jobs(&self, consistency: Consistency) -> Result<Read<Vec<JobSummary>>, Error> {
        let request = pb::ListJobsRequest { consistency: consistency.wire() };
        let call = |mut stub: Stub| async move { stub.list_jobs(request).await };
        let answer = self.ask(consistency.audience(), Some(ANSWER_TIMEOUT), call).await?.into_inner();
        let jobs: Result<_, _> = answer.jobs.into_iter().map(JobSummary::try_from).collect();
        let value = jobs.map_err(|error| self.malformed(&error))?;
        Ok(Read { value, freshness: freshness(consistency, answer.read) })
    }
}

fn freshness(consistency: Consistency, read: Option<pb::ReadInfo>) -> Freshness {
    let read = read.unwrap_or_default();
    Freshness {
        consistency,
        node: NodeId(read.node_id),
        applied_index: read.applied_index,
        age: read.age_ms.map(Duration::from_millis),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consistency_is_named_as_it_is_printed() {
        for consistency in [Consistency::Linearizable, Consistency::Lease, Consistency::Stale] {
            assert_eq!(consistency.to_string().parse(), Ok(consistency));
        }
        assert!("eventual".parse::<Consistency>().is_err_and(|error| error.contains("linearizable")));
    }
}
