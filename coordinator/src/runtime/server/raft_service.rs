//! The service for the other coordinators.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use tidemill_model::id::{BlobId, NodeId};
use tidemill_proto::version::PROTOCOL_VERSION;
use tidemill_proto::{convert, pb};
use tonic::{Request, Response, Status, Streaming};

use super::blob_exchange::{check_cluster, chunks, receive};
use super::data_directory;
use super::node::{Error, Node, Replica};
use super::refusal;
use crate::runtime::raft::RaftLog;

/// What peers may call.
#[derive(Clone)]
pub(super) struct RaftService {
    node: Arc<Node>,
}

impl RaftService {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    fn replica(&self) -> Result<Replica, Status> {
        let waiting = "serve Raft call: this coordinator's directory is empty and waits to be adopted";
        self.node.replica().ok_or_else(|| Status::failed_precondition(waiting))
    }

    fn log(&self) -> Result<Arc<RaftLog>, Status> {
        self.replica().map(|replica| replica.log)
    }
}

#[tonic::async_trait]
impl pb::raft_server::Raft for RaftService {
    type StreamAppendStream = BoxStream<'static, Result<pb::RaftFrame, Status>>;
    type FetchBlobStream = BoxStream<'static, Result<pb::BlobChunk, Status>>;

    async fn vote(&self, request: Request<pb::RaftFrame>) -> Result<Response<pb::RaftFrame>, Status> {
        Ok(Response::new(self.log()?.handle_vote(request.into_inner()).await?))
    }

    async fn pre_vote(&self, request: Request<pb::RaftFrame>) -> Result<Response<pb::RaftFrame>, Status> {
        Ok(Response::new(self.log()?.handle_pre_vote(request.into_inner()).await?))
    }

    async fn append_entries(&self, request: Request<pb::RaftFrame>) -> Result<Response<pb::RaftFrame>, Status> {
        Ok(Response::new(self.log()?.handle_append_entries(request.into_inner()).await?))
    }

    async fn stream_append(
        &self,
        request: Request<Streaming<pb::RaftFrame>>,
    ) -> Result<Response<Self::StreamAppendStream>, Status> {
        let answers = self.log()?.handle_stream_append(request.into_inner()).await?;
        let mut stopping = self.node.stopping();
        let stopped = async move { drop(stopping.wait_for(|stopping| *stopping).await) };
        Ok(Response::new(answers.take_until(Box::pin(stopped)).boxed()))
    }

    async fn snapshot(&self, request: Request<Streaming<pb::RaftFrame>>) -> Result<Response<pb::RaftFrame>, Status> {
        Ok(Response::new(self.log()?.handle_snapshot(request.into_inner()).await?))
    }

    async fn transfer_leader(&self, request: Request<pb::RaftFrame>) -> Result<Response<pb::RaftFrame>, Status> {
        Ok(Response::new(self.log()?.handle_transfer_leader(request.into_inner()).await?))
    }

    async fn read_index(&self, request: Request<pb::RaftFrame>) -> Result<Response<pb::RaftFrame>, Status> {
        Ok(Response::new(self.log()?.handle_read_index(request.into_inner()).await?))
    }

    async fn sync_blobs(&self, request: Request<pb::RaftFrame>) -> Result<Response<pb::RaftFrame>, Status> {
        let replica = self.replica()?;
        let (from, index) = replica.log.message_from::<u64>("request to sync blobs", request.into_inner())?;
        let missing = self.node.fetch_missing_blobs(&replica, index).await?;
        Ok(Response::new(replica.log.message_to(from, &missing)))
    }

    async fn identify(&self, _request: Request<pb::IdentifyRequest>) -> Result<Response<pb::IdentifyResponse>, Status> {
        let identity = self.node.identity().await;
        let initialized = match self.node.replica() {
            Some(replica) => {
                let initialized = replica.log.is_initialized().await;
                initialized.map_err(|error| refusal::internal(error.to_string()))?
            }
            None => false,
        };
        let own = self.node.own().clone();
        Ok(Response::new(pb::IdentifyResponse {
            name: own.name,
            raft_address: own.raft_address,
            client_address: own.client_address,
            directory_id: convert::uuid_bytes(identity.directory.0),
            cluster_id: identity.member.map(|(cluster, _)| convert::uuid_bytes(cluster.0)).unwrap_or_default(),
            node_id: identity.member.map_or(0, |(_, node)| node.0),
            initialized,
            protocol_version: PROTOCOL_VERSION,
        }))
    }

    async fn adopt(&self, request: Request<pb::AdoptRequest>) -> Result<Response<pb::AdoptResponse>, Status> {
        let request = request.into_inner();
        let directory = convert::directory_id(&request.directory_id, "AdoptRequest.directory_id")?;
        let cluster = convert::cluster_id(&request.cluster_id, "AdoptRequest.cluster_id")?;
        let adopted = self.node.adopt(directory, cluster, NodeId(request.node_id)).await;
        adopted.map_err(|error| {
            let message = error.to_string();
            match error {
                Error::OtherDirectory { .. } | Error::Directory(data_directory::Error::Belongs { .. }) => {
                    Status::failed_precondition(message)
                }
                Error::Stopping
                | Error::Interrupted { .. }
                | Error::Directory(_)
                | Error::Storage(_)
                | Error::Raft(_) => refusal::internal(message),
            }
        })?;
        Ok(Response::new(pb::AdoptResponse {}))
    }

    async fn store_blob(
        &self,
        request: Request<Streaming<pb::BlobChunk>>,
    ) -> Result<Response<pb::PutBlobResponse>, Status> {
        check_cluster(&request, &self.replica()?)?;
        receive(self.node.blobs(), request.into_inner()).await?;
        Ok(Response::new(pb::PutBlobResponse {}))
    }

    async fn fetch_blob(&self, request: Request<pb::BlobId>) -> Result<Response<Self::FetchBlobStream>, Status> {
        check_cluster(&request, &self.replica()?)?;
        let blob = BlobId::try_from(request.into_inner())?;
        let pieces = self.node.blobs().read(blob)?;
        let missing = || Status::not_found(format!("read blob {blob}: it is not on this coordinator's disk"));
        Ok(Response::new(chunks(blob, pieces.ok_or_else(missing)?).boxed()))
    }
}
