//! The service for clients and the command line: convert, call, convert.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tidemill_model::id::{BlobId, JobId};
use tidemill_model::job::JobSpec;
use tidemill_proto::{convert, pb};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::blob_exchange::receive;
use super::bootstrap::Error as BootstrapError;
use super::chaos;
use super::job_details::{details, summary};
use super::node::{Node, Replica};
use super::refusal;
use crate::engine::leader::TaskManagerObservation;
use crate::runtime::codec;
use crate::runtime::leader::{self, LeaderHandle};
use crate::runtime::replicated_log::ReplicatedLog;
use crate::runtime::spawn::spawn;

/// Attempts' states and progress are not replicated: a watched job is looked at so often for them.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Versions of a job's details that wait for a slow reader.
const WATCH_QUEUE: usize = 4;

/// The largest job specification: it becomes one log entry, and is sent with each deployment.
const SPEC_BYTES_MAX: usize = 1 << 20;

/// The services' view of a node.
#[derive(Clone)]
pub(super) struct ClientService {
    node: Arc<Node>,
}

impl ClientService {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// The leader here, with a state that contains everything acknowledged before this call.
    async fn linearized(&self) -> Result<(Replica, LeaderHandle), Status> {
        let (replica, handle) = self.node.leading()?;
        replica.log.linearize().await.map_err(|error| self.node.refused_by_log(&error))?;
        Ok((replica, handle))
    }

    /// The job as it now stands, and whether it has ended.
    async fn job(
        &self,
        replica: &Replica,
        handle: &LeaderHandle,
        job: JobId,
    ) -> Result<(pb::JobDetails, bool), Status> {
        let observation = handle.observe_job(job).await;
        let found = replica.log.state().read(|state| {
            let state = state.jobs.get(&job)?;
            Some((details(job, state, observation), state.status.is_terminal()))
        });
        found.ok_or_else(|| self.node.refused_by_leader(&leader::Error::UnknownJob(job)))
    }

    async fn watch(
        self,
        job: JobId,
        replica: Replica,
        handle: LeaderHandle,
        mut last: pb::JobDetails,
        sender: &mpsc::Sender<Result<pb::JobDetails, Status>>,
    ) -> Result<(), Status> {
        let mut applied = replica.log.state().applied_index();
        let mut leader = replica.leader.clone();
        let mut stopping = self.node.stopping();
        let epoch = handle.epoch();
        loop {
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => return Err(self.node.not_leading()),
                _ = leader.wait_for(|now| now.as_ref().map(LeaderHandle::epoch) != Some(epoch)) => {
                    return Err(self.node.not_leading());
                }
                () = sender.closed() => return Ok(()),
                _ = applied.changed() => {}
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
            }
            let (details, ended) = self.job(&replica, &handle, job).await?;
            if details != last {
                last.clone_from(&details);
                if sender.send(Ok(details)).await.is_err() {
                    return Ok(());
                }
            }
            if ended {
                return Ok(());
            }
        }
    }
}

#[tonic::async_trait]
impl pb::client_server::Client for ClientService {
    type WatchJobStream = BoxStream<'static, Result<pb::JobDetails, Status>>;
    type GetBlobStream = BoxStream<'static, Result<pb::BlobChunk, Status>>;

    async fn submit_job(
        &self,
        request: Request<pb::SubmitJobRequest>,
    ) -> Result<Response<pb::SubmitJobResponse>, Status> {
        let (_, handle) = self.node.leading()?;
        let spec = request.into_inner().spec.ok_or(convert::Error::Missing { field: "SubmitJobRequest.spec" })?;
        let spec = JobSpec::try_from(spec)?;
        let size = codec::encode(&spec).len();
        if size > SPEC_BYTES_MAX {
            let message = format!(
                "submit job {}: its graph, arguments and environment have {size} bytes, at most {SPEC_BYTES_MAX} are \
                 allowed; pass large values by file",
                spec.id
            );
            return Err(refusal::user(message));
        }
        let accepted = handle.submit(spec).await.map_err(|error| self.node.refused_by_leader(&error))?;
        Ok(Response::new(pb::SubmitJobResponse { created: accepted.created, log_index: accepted.log_index }))
    }

    async fn get_job(&self, request: Request<pb::JobId>) -> Result<Response<pb::JobDetails>, Status> {
        let job = JobId::try_from(request.into_inner())?;
        let (replica, handle) = self.linearized().await?;
        let (details, _) = self.job(&replica, &handle, job).await?;
        Ok(Response::new(details))
    }

    async fn watch_job(&self, request: Request<pb::JobId>) -> Result<Response<Self::WatchJobStream>, Status> {
        let job = JobId::try_from(request.into_inner())?;
        let (replica, handle) = self.linearized().await?;
        let (details, ended) = self.job(&replica, &handle, job).await?;
        let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
        let first = futures::stream::once(std::future::ready(Ok(details.clone())));
        if !ended {
            let service = self.clone();
            spawn("watch-job", async move {
                if let Err(status) = service.watch(job, replica, handle, details, &sender).await {
                    // The reader may have gone.
                    let _ = sender.send(Err(status)).await;
                }
            });
        }
        Ok(Response::new(first.chain(ReceiverStream::new(receiver)).boxed()))
    }

    async fn list_jobs(
        &self,
        _request: Request<pb::ListJobsRequest>,
    ) -> Result<Response<pb::ListJobsResponse>, Status> {
        let (replica, _) = self.linearized().await?;
        Ok(Response::new(replica.log.state().read_with_index(|log_index, state| pb::ListJobsResponse {
            jobs: state.jobs.values().map(summary).collect(),
            log_index,
        })))
    }

    async fn cancel_job(&self, request: Request<pb::JobId>) -> Result<Response<pb::CancelJobResponse>, Status> {
        let job = JobId::try_from(request.into_inner())?;
        let (_, handle) = self.node.leading()?;
        let log_index = handle.cancel(job).await.map_err(|error| self.node.refused_by_leader(&error))?;
        Ok(Response::new(pb::CancelJobResponse { log_index }))
    }

    async fn put_blob(
        &self,
        request: Request<Streaming<pb::BlobChunk>>,
    ) -> Result<Response<pb::PutBlobResponse>, Status> {
        let (replica, handle) = self.node.leading()?;
        let (blob, received) = receive(self.node.blobs(), request.into_inner()).await?;
        let size_bytes = match received {
            Some(size_bytes) => size_bytes,
            None => self.node.blobs().size(blob)?,
        };
        let holders = self.node.replicate_blob(&replica, blob).await?;
        let registered = handle.register_blob(blob, size_bytes, holders).await;
        registered.map_err(|error| self.node.refused_by_leader(&error))?;
        Ok(Response::new(pb::PutBlobResponse {}))
    }

    async fn has_blob(&self, request: Request<pb::BlobId>) -> Result<Response<pb::HasBlobResponse>, Status> {
        let blob = BlobId::try_from(request.into_inner())?;
        let replica = self.node.initialized()?;
        let exists = replica.log.state().read(|state| state.blobs.contains_key(&blob));
        Ok(Response::new(pb::HasBlobResponse { exists }))
    }

    async fn get_blob(&self, request: Request<pb::BlobId>) -> Result<Response<Self::GetBlobStream>, Status> {
        let blob = BlobId::try_from(request.into_inner())?;
        let replica = self.node.initialized()?;
        Ok(Response::new(self.node.blob_chunks(&replica, blob).await?.boxed()))
    }

    async fn cluster_status(
        &self,
        _request: Request<pb::ClusterStatusRequest>,
    ) -> Result<Response<pb::ClusterStatusResponse>, Status> {
        let replica = self.node.initialized()?;
        let handle = replica.leader.borrow().clone();
        let task_managers = match &handle {
            Some(handle) => handle.task_managers().await.into_iter().map(task_manager).collect(),
            None => Vec::new(),
        };
        let leader = replica.log.status().leader;
        let nodes = replica.log.members().into_iter().map(|(node, member)| pb::NodeStatus {
            node_id: node.0,
            name: member.name,
            client_address: member.client_address,
            raft_address: member.raft_address,
            leader: leader == Some(node),
        });
        let nodes = nodes.collect();
        let status = replica.log.state().read_with_index(|applied_index, state| pb::ClusterStatusResponse {
            cluster_id: convert::uuid_bytes(replica.cluster.0),
            epoch: leader.map_or(0, |_| state.epoch.0),
            nodes,
            task_managers,
            takeovers: state.takeovers.iter().map(takeover).collect(),
            node_id: replica.node.0,
            applied_index,
            state_checksum: codec::checksum(state),
        });
        Ok(Response::new(status))
    }

    async fn init_cluster(
        &self,
        _request: Request<pb::InitClusterRequest>,
    ) -> Result<Response<pb::InitClusterResponse>, Status> {
        let cluster = self.node.init_cluster().await.map_err(|error| {
            let message = error.to_string();
            match error {
                BootstrapError::NoLeader { .. } => convert::status(pb::ErrorKind::NoLeader, message, None),
                BootstrapError::Node(_) | BootstrapError::Raft(_) => refusal::internal(message),
                BootstrapError::Missing { .. }
                | BootstrapError::NotListed { .. }
                | BootstrapError::SameName { .. }
                | BootstrapError::SeveralClusters { .. }
                | BootstrapError::Refused { .. }
                | BootstrapError::NotAMember { .. } => refusal::user(message),
            }
        })?;
        Ok(Response::new(pb::InitClusterResponse { cluster_id: convert::uuid_bytes(cluster.0) }))
    }

    async fn chaos(&self, request: Request<pb::ChaosRequest>) -> Result<Response<pb::ChaosResponse>, Status> {
        let leading = self.node.leading()?;
        Ok(Response::new(chaos::serve(&self.node, leading, request.into_inner()).await?))
    }
}

fn takeover(takeover: &crate::engine::replicated::Takeover) -> pb::Takeover {
    pb::Takeover {
        epoch: takeover.epoch.0,
        job: convert::uuid_bytes(takeover.job.0),
        tasks_adopted: takeover.adopted,
        tasks_restarted: takeover.restarted,
    }
}

fn task_manager(observation: TaskManagerObservation) -> pb::TaskManagerStatus {
    pb::TaskManagerStatus {
        id: convert::uuid_bytes(observation.location.id.0),
        name: observation.location.name.0,
        data_address: observation.location.data_address,
        slots: observation.slots.count,
        free_slots: observation.free_slots,
        slot_memory_bytes: observation.slots.memory_bytes,
        heartbeat_age_ms: u64::try_from(observation.heartbeat_age.as_millis()).unwrap_or(u64::MAX),
        process_id: observation.process_id,
    }
}
