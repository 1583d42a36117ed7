//! Openraft's calls to the other replicas, over one lazy gRPC channel per peer.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, future, stream};
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, ReplicationClosed, Unreachable};
use openraft::network::v2::RaftNetworkV2;
use openraft::network::{RPCOption, RaftNetworkFactory};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::id::{ClusterId, NodeId};
use tidemill_proto::convert::uuid_bytes;
use tidemill_proto::pb;
use tidemill_proto::pb::raft_client::RaftClient;
use tidemill_proto::version::PROTOCOL_VERSION;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::commit_news::with_later_entries;
use super::member::Member;
use super::types::{
    AppendEntriesRequest, AppendEntriesResponse, RpcError, Snapshot, SnapshotResponse, StreamAppendResult,
    StreamingError, TransferLeaderRequest, TransferLeaderResponse, TypeConfig, Vote, VoteRequest, VoteResponse,
};
use crate::runtime::codec;

/// The largest message between replicas: a batch of entries, each far below it.
pub(crate) const RAFT_MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A snapshot travels in pieces of this size, so that heartbeats get in between.
const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;

/// A peer that does not take the connection in this time counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Probes an idle connection, and gives it up when nothing comes back: 3 s after the way to a peer was cut its
/// connection is gone, and the next dial finds the healed way at once, where the old one would wait for its next
/// retransmission.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Which peers refuse this replica, and why: another cluster's directory behind a known address.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<BTreeMap<NodeId, String>>>);

impl Refusals {
    /// The present refusals, by peer.
    #[must_use]
    pub fn list(&self) -> BTreeMap<NodeId, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a refusal; a warning is logged when it is a new one.
    pub(crate) fn note(&self, peer: NodeId, reason: &str) {
        let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.insert(peer, reason.to_owned()).is_none() {
            tracing::warn!(node_id = %peer, reason, "this coordinator and a peer refuse each other");
        }
    }

    fn clear(&self, peer: NodeId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }
}

/// A channel that dials at its first use, and again after each failure.
///
/// # Errors
///
/// When `address` is not `host:port`.
pub fn peer_channel(address: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_lazy())
}

/// One lazy channel per address, shared by all calls to it. As many as there ever were coordinators.
#[derive(Debug, Clone, Default)]
pub struct Channels(Arc<Mutex<BTreeMap<String, Channel>>>);

impl Channels {
    /// The channel to `address`; none when that is no address.
    #[must_use]
    pub fn to(&self, address: &str) -> Option<Channel> {
        let mut channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Some(channel.clone());
        }
        let channel = peer_channel(address);
        let channel = channel.inspect_err(|error| tracing::error!(address, %error, "not a peer's address")).ok()?;
        channels.insert(address.to_owned(), channel.clone());
        Some(channel)
    }

    /// A client of the replica at `address`; none when that is no address.
    pub(crate) fn client(&self, address: &str) -> Option<RaftClient<Channel>> {
        let client = RaftClient::new(self.to(address)?);
        let client = client.max_decoding_message_size(RAFT_MESSAGE_BYTES_MAX);
        Some(client.max_encoding_message_size(RAFT_MESSAGE_BYTES_MAX))
    }
}

/// Makes the connections to peers.
#[derive(Debug)]
pub(crate) struct Network {
    cluster: ClusterId,
    node: NodeId,
    refusals: Refusals,
    channels: Channels,
}

impl Network {
    /// The network as `node` of `cluster` sees it.
    #[must_use]
    pub(crate) fn new(cluster: ClusterId, node: NodeId, refusals: Refusals, channels: Channels) -> Self {
        Self { cluster, node, refusals, channels }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, member: &Member) -> Peer {
        let client = self.channels.client(&member.raft_address);
        let frames = Frames { cluster: self.cluster, from: self.node, to: NodeId(target) };
        Peer { client, frames, refusals: self.refusals.clone() }
    }
}

/// Makes the envelopes of calls from one replica to another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frames {
    pub(crate) cluster: ClusterId,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
}

impl Frames {
    pub(crate) fn frame<T: Serialize>(&self, message: &T) -> pb::RaftFrame {
        self.raw(codec::encode(message).into())
    }

    pub(crate) fn raw(&self, payload: bytes::Bytes) -> pb::RaftFrame {
        pb::RaftFrame {
            cluster_id: uuid_bytes(self.cluster.0),
            from_node: self.from.0,
            to_node: self.to.0,
            payload,
            protocol_version: PROTOCOL_VERSION,
        }
    }
}

/// The calls to one peer.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    client: Option<RaftClient<Channel>>,
    frames: Frames,
    refusals: Refusals,
}

impl Peer {
    fn client(&self) -> Result<RaftClient<Channel>, RpcError> {
        let missing = || self.unreachable(&Status::unavailable("the membership has no usable address of this peer"));
        self.client.clone().ok_or_else(missing)
    }

    fn request<T: Serialize>(&self, message: &T, option: &RPCOption) -> Request<pb::RaftFrame> {
        let mut request = Request::new(self.frames.frame(message));
        request.set_timeout(option.hard_ttl());
        request
    }

    /// Every failure of the transport is `Unreachable`: openraft backs off from it, but repeats after a
    /// `NetworkError` at once.
    fn unreachable(&self, status: &Status) -> RpcError {
        if status.code() == Code::FailedPrecondition {
            self.refusals.note(self.frames.to, status.message());
        }
        tracing::debug!(node_id = %self.frames.to, code = ?status.code(), reason = status.message(), "call a peer");
        RpcError::Unreachable(Unreachable::new(status))
    }

    fn answer<T: DeserializeOwned>(&self, what: &'static str, frame: &pb::RaftFrame) -> Result<T, RpcError> {
        self.refusals.clear(self.frames.to);
        codec::decode(what, &frame.payload).map_err(|error| RpcError::Network(NetworkError::new(&error)))
    }

    async fn send_snapshot(&self, vote: Vote, snapshot: Snapshot) -> Result<SnapshotResponse, RpcError> {
        let frames = self.frames;
        let head = frames.frame(&(vote, snapshot.meta));
        let state = snapshot.snapshot;
        let pieces = (0..state.len())
            .step_by(SNAPSHOT_CHUNK_BYTES)
            .map(move |start| frames.raw(state.slice(start..state.len().min(start + SNAPSHOT_CHUNK_BYTES))));
        let frames = stream::iter(std::iter::once(head).chain(pieces));
        let answer = self.client()?.snapshot(frames).await.map_err(|status| self.unreachable(&status))?;
        self.answer("answer to a snapshot", answer.get_ref())
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = bytes::Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse, RpcError> {
        let answer = self.client()?.append_entries(self.request(&rpc, &option)).await;
        self.answer("answer to entries", answer.map_err(|status| self.unreachable(&status))?.get_ref())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest> + OptionalSend + Unpin + 'static,
    {
        let peer = &*self;
        let frames = self.frames;
        Box::pin(async move {
            // The first request is pulled before dialling: openraft's back-off sleeps inside `input.next()`, and a
            // transport that fails without polling `input` is called again at once, for ever.
            let Some(first) = input.next().await else {
                return Ok(Box::pin(stream::empty()) as BoxStream<'s, _>);
            };
            let input = with_later_entries(stream::once(future::ready(first)).chain(input));
            let input = input.map(move |rpc| frames.frame(&rpc));
            let answers = peer.client()?.stream_append(input).await.map_err(|status| peer.unreachable(&status))?;
            let answers = answers.into_inner().map(move |answer| {
                let frame = answer.map_err(|status| peer.unreachable(&status))?;
                peer.answer::<StreamAppendResult>("answer to a stream of entries", &frame)
            });
            Ok(Box::pin(answers) as BoxStream<'s, _>)
        })
    }

    async fn vote(&mut self, rpc: VoteRequest, option: RPCOption) -> Result<VoteResponse, RpcError> {
        let answer = self.client()?.vote(self.request(&rpc, &option)).await;
        self.answer("answer to a vote", answer.map_err(|status| self.unreachable(&status))?.get_ref())
    }

    async fn pre_vote(&mut self, rpc: VoteRequest, option: RPCOption) -> Result<VoteResponse, RpcError> {
        let answer = self.client()?.pre_vote(self.request(&rpc, &option)).await;
        self.answer("answer to a pre-vote", answer.map_err(|status| self.unreachable(&status))?.get_ref())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse, StreamingError> {
        let mut cancel = std::pin::pin!(cancel.fuse());
        tokio::select! {
            biased;
            closed = &mut cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot) => sent.map_err(|error| {
                StreamingError::Unreachable(Unreachable::new(&error))
            }),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse, RpcError> {
        let answer = self.client()?.transfer_leader(self.request(&rpc, &option)).await;
        self.answer("answer to a transfer", answer.map_err(|status| self.unreachable(&status))?.get_ref())
    }
}
