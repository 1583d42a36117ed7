//! Blobs between coordinators: on a majority before they count, fetched where they are missing, swept when nobody
//! refers to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tidemill_model::id::{BlobId, ClusterId, NodeId};
use tidemill_proto::pb::raft_client::RaftClient;
use tidemill_proto::{convert, pb};
use tokio::sync::mpsc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status, Streaming};

use super::blob_store::{BlobStore, Error};
use super::node::{Node, Replica};
use super::refusal;
use crate::runtime::raft::{Member, peer_channel};
use crate::runtime::replicated_log::ReplicatedLog;
use crate::runtime::spawn::spawn;

/// The key under which a call about blobs names its cluster.
const CLUSTER_METADATA: &str = "tidemill-cluster-bin";

/// The key under which it names the node that it is for: an address may have changed hands.
const NODE_METADATA: &str = "tidemill-node";

/// How long a replica that is asked for its blobs waits until it knows of all that it is asked for.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the folder is compared with the replicated state.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// A file nobody refers to is kept this long: its registration may still be on its way.
const UNREGISTERED_AGE_MAX: Duration = Duration::from_secs(3600);

/// A copy that has made no progress for this long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::TooLarge { .. } | Error::Hash { .. } => refusal::user(message),
            Error::Io { .. } | Error::Folder { .. } => refusal::internal(message),
        }
    }
}

/// Takes an upload; which blob it is and its length. Bytes that are here already are not waited for.
pub(super) async fn receive(
    store: &BlobStore,
    mut inbound: Streaming<pb::BlobChunk>,
) -> Result<(BlobId, Option<u64>), Status> {
    let first = inbound.message().await?.ok_or_else(|| refusal::user("store blob: the upload is empty"))?;
    let blob = convert::blob_id(&first.id, "BlobChunk.id")?;
    if store.contains(blob) {
        return Ok((blob, None));
    }
    let mut writer = store.begin(blob).await?;
    writer.write(first.data).await?;
    while let Some(chunk) = stalled(inbound.message()).await?? {
        writer.write(chunk.data).await?;
    }
    Ok((blob, Some(writer.finish().await?)))
}

/// A blob as messages, the first with its id.
pub(super) fn chunks(
    blob: BlobId,
    pieces: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
) -> impl Stream<Item = Result<pb::BlobChunk, Status>> + Send + 'static {
    let head = pb::BlobChunk { id: convert::blob_bytes(blob), data: Bytes::new() };
    let pieces = pieces.map(|piece| Ok(pb::BlobChunk { id: Bytes::new(), data: piece? }));
    stream::once(std::future::ready(Ok(head))).chain(pieces)
}

async fn stalled<T>(next: impl Future<Output = T>) -> Result<T, Status> {
    let timed = tokio::time::timeout(STALL_TIMEOUT, next).await;
    timed.map_err(|_| Status::deadline_exceeded("copy blob: no progress; try again"))
}

async fn push(store: BlobStore, blob: BlobId, to: (ClusterId, NodeId), member: Member) -> Result<(), Status> {
    let Some(pieces) = store.read(blob)? else {
        return Err(refusal::internal(format!("push blob {blob}: it is gone")));
    };
    let mut client = client(&member)?;
    // A file that turns out to be damaged ends the stream early, and the receiver's hash refuses what it has.
    let request = chunks(blob, pieces)
        .take_while(|chunk| std::future::ready(chunk.is_ok()))
        .filter_map(|chunk| std::future::ready(chunk.ok()));
    client.store_blob(addressed(request, to)).await.map(drop)
}

async fn fetch_from(store: &BlobStore, blob: BlobId, from: (ClusterId, NodeId), member: &Member) -> Result<(), Status> {
    let request = addressed(pb::BlobId::from(blob), from);
    let mut answer = client(member)?.fetch_blob(request).await?.into_inner();
    let mut writer = store.begin(blob).await?;
    while let Some(chunk) = stalled(answer.message()).await?? {
        writer.write(chunk.data).await?;
    }
    writer.finish().await?;
    Ok(())
}

/// A request that says for which cluster and node it is; a stream of pieces has no envelope for it.
fn addressed<T>(message: T, (cluster, node): (ClusterId, NodeId)) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(NODE_METADATA, MetadataValue::<Ascii>::from(node.0));
    request.metadata_mut().insert_bin(CLUSTER_METADATA, MetadataValue::from_bytes(cluster.0.as_bytes()));
    request
}

/// Refuses a request for another cluster or node, or for none.
pub(super) fn check_cluster<T>(request: &Request<T>, replica: &Replica) -> Result<(), Status> {
    let named = request.metadata().get_bin(CLUSTER_METADATA).and_then(|named| named.to_bytes().ok());
    let node = request.metadata().get(NODE_METADATA).and_then(|node| node.to_str().ok());
    if named.as_deref() == Some(replica.cluster.0.as_bytes()) && node == Some(&replica.node.0.to_string()) {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "copy blob: the request is not for node {} of cluster {}; check coordinator.join and the data directories",
        replica.node, replica.cluster
    )))
}

fn client(member: &Member) -> Result<RaftClient<tonic::transport::Channel>, Status> {
    let channel = peer_channel(&member.raft_address);
    channel.map(RaftClient::new).map_err(|error| Status::unavailable(error.to_string()))
}

impl Node {
    fn peers(&self, replica: &Replica) -> BTreeMap<NodeId, Member> {
        let mut members = replica.log.members();
        members.remove(&replica.node);
        members
    }

    /// Copies a blob that is here until a majority has it; who has it then. The other copies go on.
    pub(super) async fn replicate_blob(&self, replica: &Replica, blob: BlobId) -> Result<BTreeSet<NodeId>, Status> {
        let peers = self.peers(replica);
        let (sender, mut results) = mpsc::channel(peers.len().max(1));
        for (node, member) in peers {
            let (sender, store, to) = (sender.clone(), self.blobs().clone(), (replica.cluster, node));
            spawn("push-blob", async move {
                let pushed = push(store, blob, to, member).await;
                // The receiver has gone when a majority was reached without this one.
                let _ = sender.send((node, pushed)).await;
            });
        }
        drop(sender);
        let mut holders = BTreeSet::from([replica.node]);
        let mut failures = Vec::new();
        // Learners get a copy too, but only voters count; who they are is looked up again with each answer.
        while !has_majority(&replica.log.voters(), &holders) {
            match results.recv().await {
                Some((node, Ok(()))) => drop(holders.insert(node)),
                Some((node, Err(status))) => failures.push(format!("node {node}: {}", status.message())),
                None => {
                    let reasons = failures.join("; ");
                    let message =
                        format!("store blob {blob}: no majority of coordinators took it ({reasons}); try again");
                    return Err(convert::status(pb::ErrorKind::NoLeader, message, None));
                }
            }
        }
        Ok(holders)
    }

    /// Makes sure that a registered blob is here, from whichever peer has it.
    pub(super) async fn obtain_blob(&self, replica: &Replica, blob: BlobId) -> Result<(), Status> {
        if self.blobs().contains(blob) {
            return Ok(());
        }
        let registered = replica.log.state().read(|state| state.blobs.get(&blob).map(|blob| blob.holders.clone()));
        let Some(holders) = registered else {
            if replica.leader.borrow().is_none() {
                // Its registration may not have reached this follower yet.
                return Err(self.not_leading());
            }
            let message = format!("read blob {blob}: it has not been uploaded");
            return Err(convert::status(pb::ErrorKind::NotFound, message, None));
        };
        let (first, later): (Vec<_>, Vec<_>) =
            self.peers(replica).into_iter().partition(|(node, _)| holders.contains(node));
        let mut failures = Vec::new();
        for (node, member) in first.into_iter().chain(later) {
            match fetch_from(self.blobs(), blob, (replica.cluster, node), &member).await {
                Ok(()) => return Ok(()),
                Err(status) => failures.push(format!("node {node}: {}", status.message())),
            }
        }
        let reasons = failures.join("; ");
        Err(refusal::internal(format!("read blob {blob}: no coordinator could give it ({reasons}); try again")))
    }

    /// Fetches every blob registered up to a log index that is missing here; which ones could not be had, and why.
    pub(super) async fn fetch_missing_blobs(&self, replica: &Replica, index: u64) -> Result<Vec<String>, Status> {
        let mut applied = replica.log.state().applied_index();
        let reached = async { applied.wait_for(|applied| *applied >= index).await.is_ok() };
        if !tokio::time::timeout(SYNC_TIMEOUT, reached).await.unwrap_or(false) {
            return Err(Status::deadline_exceeded(format!("sync blobs: log index {index} is not applied here yet")));
        }
        let registered: Vec<BlobId> = replica.log.state().read(|state| state.blobs.keys().copied().collect());
        let mut missing = Vec::new();
        for blob in registered {
            if let Err(status) = self.obtain_blob(replica, blob).await {
                missing.push(format!("{blob} ({})", status.message()));
            }
        }
        Ok(missing)
    }

    /// Fetches registered blobs that are missing here, and removes old files that nothing refers to.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub async fn sweep_blobs(&self) -> Result<(), Error> {
        let Some(replica) = self.replica() else { return Ok(()) };
        let registered: BTreeSet<BlobId> = replica.log.state().read(|state| state.blobs.keys().copied().collect());
        for stored in self.blobs().list()? {
            if !registered.contains(&stored.id) && stored.age > UNREGISTERED_AGE_MAX {
                tracing::info!(blob = %stored.id, "remove a blob that nothing refers to");
                self.blobs().remove(stored.id)?;
            }
        }
        for blob in registered {
            if !self.blobs().contains(blob) {
                match self.obtain_blob(&replica, blob).await {
                    Ok(()) => tracing::info!(%blob, "fetched a blob that was missing here"),
                    Err(status) => {
                        tracing::warn!(%blob, reason = status.message(), "a registered blob is missing here")
                    }
                }
            }
        }
        Ok(())
    }

    /// The blob's messages, fetched from a peer first when it is not here.
    pub(super) async fn blob_chunks(
        &self,
        replica: &Replica,
        blob: BlobId,
    ) -> Result<impl Stream<Item = Result<pb::BlobChunk, Status>> + Send + 'static, Status> {
        self.obtain_blob(replica, blob).await?;
        let missing = || refusal::internal(format!("read blob {blob}: it was removed meanwhile; try again"));
        let pieces = self.blobs().read(blob)?.ok_or_else(missing)?;
        Ok(chunks(blob, pieces.into_stream()))
    }
}

fn has_majority(voters: &BTreeSet<NodeId>, holders: &BTreeSet<NodeId>) -> bool {
    voters.intersection(holders).count() > voters.len() / 2
}

/// Has another replica fetch what it lacks of the blobs registered so far; what it could not get.
pub(super) async fn ask_to_sync(replica: &Replica, node: NodeId, member: &Member) -> Result<Vec<String>, Status> {
    let registered = *replica.log.state().applied_index().borrow();
    let frame = replica.log.message_to(node, &registered);
    let answer = client(member)?.sync_blobs(frame).await?.into_inner();
    Ok(replica.log.message_from::<Vec<String>>("answer about blobs", answer)?.1)
}

/// Sweeps until the process ends.
pub(super) async fn sweep_regularly(node: Arc<Node>) {
    let mut stopping = node.stopping();
    loop {
        let ended = stopping.wait_for(|stopping| *stopping);
        if tokio::time::timeout(SWEEP_INTERVAL, ended).await.is_ok() {
            return;
        }
        if let Err(error) = node.sweep_blobs().await {
            tracing::warn!(%error, "sweep blobs");
        }
    }
}
