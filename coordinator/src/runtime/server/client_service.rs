//! The service for clients and the command line: convert, call, convert.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tidemill_model::id::{BlobId, CheckpointId, JobId};
use tidemill_model::job::{JobSpec, StopMode};
use tidemill_proto::{convert, pb};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::blob_exchange::receive;
use super::bootstrap::Error as BootstrapError;
use super::chaos;
use super::cluster_details::{cluster_status, membership_change, nodes};
use super::draining;
use super::job_details::summary;
use super::node::Node;
use super::reads::ReadView;
use super::refusal;
use crate::runtime::codec;
use crate::runtime::leader::LeaderHandle;
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

    async fn watch(
        self,
        job: JobId,
        view: ReadView,
        mut last: pb::JobDetails,
        sender: &mpsc::Sender<Result<pb::JobDetails, Status>>,
    ) -> Result<(), Status> {
        let mut applied = view.replica.log.state().applied_index();
        let mut leader = view.replica.leader.clone();
        let mut stopping = self.node.stopping();
        let epoch = |handle: &Option<LeaderHandle>| handle.as_ref().map(LeaderHandle::epoch);
        let began_under = epoch(&leader.borrow());
        loop {
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => return Err(self.node.not_leading()),
                _ = leader.wait_for(|now| epoch(now) != began_under) => return Err(self.node.not_leading()),
                () = sender.closed() => return Ok(()),
                _ = applied.changed() => {}
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
            }
            let (details, ended) = self.node.read_job(&view, job).await?;
            if !same(&details, &last) {
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

/// Whether two answers say the same of a job, whenever and by whom they were given.
fn same(one: &pb::JobDetails, other: &pb::JobDetails) -> bool {
    let (mut one, mut other) = (one.clone(), other.clone());
    (one.read, other.read) = (None, None);
    one == other
}

#[tonic::async_trait]
impl pb::client_server::Client for ClientService {
    type WatchJobStream = BoxStream<'static, Result<pb::JobDetails, Status>>;
    type GetBlobStream = BoxStream<'static, Result<pb::BlobChunk, Status>>;
    type BackupStream = BoxStream<'static, Result<pb::BackupChunk, Status>>;

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

    async fn get_job(&self, request: Request<pb::ReadJobRequest>) -> Result<Response<pb::JobDetails>, Status> {
        let request = request.into_inner();
        let job = convert::job_id(&request.id, "ReadJobRequest.id")?;
        let view = self.node.read(request.consistency, pb::ReadConsistency::Linearizable).await?;
        let (details, _) = self.node.read_job(&view, job).await?;
        Ok(Response::new(details))
    }

    async fn get_savepoint(
        &self,
        request: Request<pb::ReadSavepointRequest>,
    ) -> Result<Response<pb::SavepointDetails>, Status> {
        let request = request.into_inner();
        let job = convert::job_id(&request.job_id, "ReadSavepointRequest.job_id")?;
        let unspecified = pb::ReadConsistency::Unspecified.into();
        let view = self.node.read(unspecified, pb::ReadConsistency::Linearizable).await?;
        Ok(Response::new(self.node.read_savepoint(&view, job, request.checkpoint.map(CheckpointId))?))
    }

    async fn watch_job(&self, request: Request<pb::ReadJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let request = request.into_inner();
        let job = convert::job_id(&request.id, "ReadJobRequest.id")?;
        let view = self.node.read(request.consistency, pb::ReadConsistency::Linearizable).await?;
        let (details, ended) = self.node.read_job(&view, job).await?;
        let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
        let first = futures::stream::once(std::future::ready(Ok(details.clone())));
        if !ended {
            let service = self.clone();
            spawn("watch-job", async move {
                if let Err(status) = service.watch(job, view, details, &sender).await {
                    // The reader may have gone.
                    let _ = sender.send(Err(status)).await;
                }
            });
        }
        Ok(Response::new(first.chain(ReceiverStream::new(receiver)).boxed()))
    }

    async fn list_jobs(&self, request: Request<pb::ListJobsRequest>) -> Result<Response<pb::ListJobsResponse>, Status> {
        let consistency = request.into_inner().consistency;
        let view = self.node.read(consistency, pb::ReadConsistency::Linearizable).await?;
        let answer = view.replica.log.state().read_with_index(|index, state| pb::ListJobsResponse {
            jobs: state.jobs.values().map(summary).collect(),
            log_index: index,
            read: Some(view.info(index)),
        });
        Ok(Response::new(answer))
    }

    async fn trigger_savepoint(
        &self,
        request: Request<pb::JobId>,
    ) -> Result<Response<pb::TriggerSavepointResponse>, Status> {
        let job = JobId::try_from(request.into_inner())?;
        let (_, handle) = self.node.leading()?;
        handle.trigger_savepoint(job).await.map_err(|error| self.node.refused_by_leader(&error))?;
        Ok(Response::new(pb::TriggerSavepointResponse {}))
    }

    async fn stop_job(&self, request: Request<pb::StopJobRequest>) -> Result<Response<pb::StopJobResponse>, Status> {
        let request = request.into_inner();
        let job = convert::job_id(&request.job_id, "StopJobRequest.job_id")?;
        let how = match request.mode() {
            pb::stop_job_request::Mode::Suspend => StopMode::Suspend,
            pb::stop_job_request::Mode::Drain => StopMode::Drain,
            pb::stop_job_request::Mode::Unspecified => {
                return Err(convert::Error::UnknownEnum { field: "StopJobRequest.mode", value: request.mode }.into());
            }
        };
        let (_, handle) = self.node.leading()?;
        let log_index = handle.stop(job, how).await.map_err(|error| self.node.refused_by_leader(&error))?;
        Ok(Response::new(pb::StopJobResponse { log_index }))
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
        request: Request<pb::ClusterStatusRequest>,
    ) -> Result<Response<pb::ClusterStatusResponse>, Status> {
        let consistency = request.into_inner().consistency;
        let view = self.node.read(consistency, pb::ReadConsistency::Stale).await?;
        Ok(Response::new(cluster_status(&view).await))
    }

    async fn init_cluster(
        &self,
        _request: Request<pb::InitClusterRequest>,
    ) -> Result<Response<pb::InitClusterResponse>, Status> {
        let cluster = self.node.init_cluster().await.map_err(|error| {
            let message = error.to_string();
            match error {
                BootstrapError::NoLeader { .. } | BootstrapError::NoAnswer { .. } => {
                    convert::status(pb::ErrorKind::NoLeader, message, None)
                }
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

    async fn backup(&self, _request: Request<pb::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let consistency = pb::ReadConsistency::Linearizable;
        let view = self.node.read(consistency.into(), consistency).await?;
        Ok(Response::new(self.node.backup(&view).await?))
    }

    async fn set_draining(
        &self,
        request: Request<pb::SetDrainingRequest>,
    ) -> Result<Response<pb::DrainingSet>, Status> {
        let leading = self.node.leading()?;
        Ok(Response::new(draining::set_draining(&self.node, leading, request.into_inner()).await?))
    }

    async fn change_membership(
        &self,
        request: Request<pb::MembershipChange>,
    ) -> Result<Response<pb::MembershipChanged>, Status> {
        let change = membership_change(request.into_inner())?;
        let changed = self.node.change_membership(change).await;
        let changed = changed.map_err(|error| self.node.refused_by_membership(&error))?;
        let nodes = self.node.replica().map(|replica| nodes(&replica)).unwrap_or_default();
        Ok(Response::new(pb::MembershipChanged { node_id: changed.node.0, name: changed.name, nodes }))
    }
}
