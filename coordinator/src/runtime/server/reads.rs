//! Reads on any coordinator: as consistent as they ask for, and with what only the leader observes where it answers.

use std::time::Duration;

use tidemill_model::id::{CheckpointId, JobId};
use tidemill_proto::pb::client_client::ClientClient;
use tidemill_proto::{convert, pb};
use tonic::Status;

use super::job_details::{details, savepoint};
use super::node::{Node, Replica};
use super::refusal;
use crate::runtime::leader;
use crate::runtime::raft::ReadIndexPolicy;
use crate::runtime::replicated_log::{Leadership, ReplicatedLog};

/// How long a follower waits for what only the leader observes; then it answers without.
const OBSERVATION_TIMEOUT: Duration = Duration::from_secs(1);

/// A state that is as fresh as a read asked for.
#[derive(Clone)]
pub(super) struct ReadView {
    pub(super) replica: Replica,
    consistency: pb::ReadConsistency,
}

impl Node {
    /// Waits until the state here is as fresh as `consistency` says.
    pub(super) async fn read(&self, consistency: i32, default: pb::ReadConsistency) -> Result<ReadView, Status> {
        let unknown = || refusal::user(format!("read: consistency {consistency} is not known to this release"));
        let consistency = match pb::ReadConsistency::try_from(consistency).map_err(|_| unknown())? {
            pb::ReadConsistency::Unspecified => default,
            named @ (pb::ReadConsistency::Linearizable | pb::ReadConsistency::Lease | pb::ReadConsistency::Stale) => {
                named
            }
        };
        let replica = self.initialized()?;
        let policy = match consistency {
            pb::ReadConsistency::Stale => None,
            pb::ReadConsistency::Lease => Some(ReadIndexPolicy::Lease),
            pb::ReadConsistency::Linearizable | pb::ReadConsistency::Unspecified => Some(ReadIndexPolicy::Quorum),
        };
        if let Some(policy) = policy {
            replica.log.linearize_read(policy).await.map_err(|error| self.refused_by_log(&error))?;
        }
        Ok(ReadView { replica, consistency })
    }

    /// A job, and whether it has ended. What is not replicated comes from the leader, here or elsewhere, if the read
    /// is not a stale one.
    pub(super) async fn read_job(&self, view: &ReadView, job: JobId) -> Result<(pb::JobDetails, bool), Status> {
        let handle = view.replica.leader.borrow().clone();
        let observation = match &handle {
            Some(handle) => handle.observe_job(job).await,
            None => None,
        };
        let found = view.replica.log.state().read_with_index(|index, state| {
            let state = state.jobs.get(&job)?;
            Some((details(job, state, observation), state.status.is_terminal(), index))
        });
        let unknown = || self.refused_by_leader(&leader::Error::UnknownJob(job));
        let (mut details, ended, index) = found.ok_or_else(unknown)?;
        details.read = Some(view.info(index));
        if handle.is_none() && !ended && view.consistency != pb::ReadConsistency::Stale {
            // The leader's word counts only if it knows all that this replica knows.
            let observed = self.observed_by_leader(&view.replica, job).await;
            let observed = observed.filter(|observed| observed.read.is_some_and(|read| read.applied_index >= index));
            if let Some(observed) = observed {
                let ended = is_terminal(&observed);
                return Ok((pb::JobDetails { read: details.read, ..observed }, ended));
            }
        }
        Ok((details, ended))
    }

    /// One of a job's retained checkpoints, or the newest that was taken as a savepoint.
    pub(super) fn read_savepoint(
        &self,
        view: &ReadView,
        job: JobId,
        wanted: Option<CheckpointId>,
    ) -> Result<pb::SavepointDetails, Status> {
        view.replica.log.state().read(|state| {
            let unknown = || self.refused_by_leader(&leader::Error::UnknownJob(job));
            let state = state.jobs.get(&job).ok_or_else(unknown)?;
            let checkpoints = &state.checkpoints;
            let Some(id) = wanted else { return Ok(savepoint(job, state, checkpoints.savepoint())) };
            let Some(retained) = checkpoints.completed.get(&id) else {
                let retained: Vec<String> = checkpoints.completed.keys().map(ToString::to_string).collect();
                let retained = if retained.is_empty() { "none".to_owned() } else { retained.join(", ") };
                let reason = format!("read checkpoint {id} of job {job}: it is not retained; choose from: {retained}");
                return Err(refusal::user(reason));
            };
            Ok(savepoint(job, state, Some(retained)))
        })
    }

    /// What the leader says of a job, asked as it stands there: a follower that it may be never asks on.
    async fn observed_by_leader(&self, replica: &Replica, job: JobId) -> Option<pb::JobDetails> {
        let leader = match *replica.log.leadership().borrow() {
            Leadership::Follower { leader } => leader?,
            Leadership::Leader { .. } => return None,
        };
        let address = replica.log.members().remove(&leader)?.client_address;
        let limit = self.settings().message_size_max;
        let client = ClientClient::new(self.channels().to(&address)?);
        let mut client = client.max_decoding_message_size(limit).max_encoding_message_size(limit);
        let request =
            pb::ReadJobRequest { id: convert::uuid_bytes(job.0), consistency: pb::ReadConsistency::Stale.into() };
        let answer = tokio::time::timeout(OBSERVATION_TIMEOUT, client.get_job(request)).await;
        answer.ok()?.ok().map(tonic::Response::into_inner)
    }
}

impl ReadView {
    /// What an answer from the state at `index` rests on.
    pub(super) fn info(&self, index: u64) -> pb::ReadInfo {
        let millis = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        pb::ReadInfo {
            consistency: self.consistency.into(),
            node_id: self.replica.node.0,
            applied_index: index,
            age_ms: self.replica.log.staleness().map(millis),
        }
    }
}

fn is_terminal(details: &pb::JobDetails) -> bool {
    let status = details.status.clone().unwrap_or_default();
    tidemill_model::job::JobStatus::try_from(status).is_ok_and(|status| status.is_terminal())
}
