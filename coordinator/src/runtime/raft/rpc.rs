//! The other replicas' calls, from their frames to openraft and back.

use bytes::{Bytes, BytesMut};
use futures::future::ready;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::id::{ClusterId, NodeId};
use tidemill_proto::version::{self, check_version};
use tidemill_proto::{convert, pb};
use tonic::{Status, Streaming};

use super::network::Frames;
use super::raft_log::RaftLog;
use super::types::{AppendEntriesRequest, AppendEntriesResponse, Snapshot, SnapshotMeta, StreamAppendError, Vote};
use crate::runtime::codec;

/// A snapshot larger than this is refused: no replicated state of ours comes near.
const SNAPSHOT_BYTES_MAX: usize = 4 << 30;

/// Why a peer's call is refused.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// Meant for somebody else.
    #[error(
        "serve Raft call of node {from}: it is meant for node {to} of cluster {theirs}, but this is node {node} of \
         cluster {ours}; check coordinator.join and the data directories of both"
    )]
    Misdirected {
        /// The caller.
        from: NodeId,
        /// Whom it means.
        to: NodeId,
        /// In which cluster.
        theirs: ClusterId,
        /// Who this is.
        node: NodeId,
        /// In which cluster.
        ours: ClusterId,
    },
    /// Its release is newer.
    #[error(transparent)]
    Version(#[from] version::Error),
    /// It is no member any more, and has not heard of it.
    #[error(
        "serve Raft call of node {from}: it is not a member of cluster {cluster} any more; stop it and empty its data \
         directory, or have it added again"
    )]
    Removed {
        /// The caller.
        from: NodeId,
        /// This cluster.
        cluster: ClusterId,
    },
    /// Only a leader can answer, and this is none.
    #[error("serve Raft call: this coordinator does not lead")]
    NotLeading,
    /// It does not follow the contract.
    #[error("serve Raft call: {0}")]
    Malformed(String),
    /// This replica's Raft has stopped or cannot write.
    #[error("serve Raft call: {0}; see this coordinator's log")]
    Raft(String),
}

impl From<RpcError> for Status {
    fn from(error: RpcError) -> Self {
        let message = error.to_string();
        match error {
            RpcError::Misdirected { .. } | RpcError::Version(_) | RpcError::Removed { .. } => {
                Self::failed_precondition(message)
            }
            RpcError::Malformed(_) => Self::invalid_argument(message),
            RpcError::NotLeading | RpcError::Raft(_) => Self::unavailable(message),
        }
    }
}

fn stopped(error: impl std::fmt::Display) -> RpcError {
    RpcError::Raft(error.to_string())
}

impl RaftLog {
    /// Checks whom a frame is for, and whether it can be understood; the answers' frames, and its payload.
    pub(super) fn accept(&self, frame: pb::RaftFrame) -> Result<(Frames, Bytes), RpcError> {
        let theirs = convert::cluster_id(&frame.cluster_id, "RaftFrame.cluster_id");
        let theirs = theirs.map_err(|error| RpcError::Malformed(error.to_string()))?;
        let (from, to) = (NodeId(frame.from_node), NodeId(frame.to_node));
        let (node, ours) = (self.node_id(), self.cluster());
        if theirs != ours || to != node {
            let error = RpcError::Misdirected { from, to, theirs, node, ours };
            self.refusals().note(from, &error.to_string());
            return Err(error);
        }
        let understood = check_version(frame.protocol_version, || format!("coordinator {from}"));
        understood.inspect_err(|error| self.refusals().note(from, &error.to_string()))?;
        Ok((Frames { cluster: ours, from: node, to: from }, frame.payload))
    }

    /// A candidacy that may be answered. A removed member goes on standing for election until it is stopped; whoever
    /// leads knows the newest membership and tells it. Others must answer: they may not know the newest member yet.
    fn candidacy<T: DeserializeOwned>(
        &self,
        what: &'static str,
        frame: pb::RaftFrame,
    ) -> Result<(Frames, T), RpcError> {
        let from = NodeId(frame.from_node);
        let message = self.message(what, frame)?;
        if self.leads() && !self.members().contains_key(&from) {
            return Err(RpcError::Removed { from, cluster: self.cluster() });
        }
        Ok(message)
    }

    pub(super) fn message<T: DeserializeOwned>(
        &self,
        what: &'static str,
        frame: pb::RaftFrame,
    ) -> Result<(Frames, T), RpcError> {
        let (frames, payload) = self.accept(frame)?;
        let message = codec::decode(what, &payload).map_err(|error| RpcError::Malformed(error.to_string()))?;
        Ok((frames, message))
    }

    /// A message to another replica of this cluster.
    #[must_use]
    pub fn message_to<T: Serialize>(&self, to: NodeId, message: &T) -> pb::RaftFrame {
        Frames { cluster: self.cluster(), from: self.node_id(), to }.frame(message)
    }

    /// A message of another replica of this cluster, and who sent it; `what` names it in errors.
    ///
    /// # Errors
    ///
    /// When the frame is not for this replica or malformed.
    pub fn message_from<T: DeserializeOwned>(
        &self,
        what: &'static str,
        frame: pb::RaftFrame,
    ) -> Result<(NodeId, T), RpcError> {
        self.message(what, frame).map(|(frames, message)| (frames.to, message))
    }

    /// A candidate asks for this replica's vote.
    ///
    /// # Errors
    ///
    /// When the frame is not for this replica or malformed, or Raft has stopped; so for all of these calls.
    pub async fn handle_vote(&self, frame: pb::RaftFrame) -> Result<pb::RaftFrame, RpcError> {
        let (frames, rpc) = self.candidacy("vote", frame)?;
        Ok(frames.frame(&self.raft().vote(rpc).await.map_err(stopped)?))
    }

    /// A replica asks whether it would be elected.
    ///
    /// # Errors
    ///
    /// As [`handle_vote`](Self::handle_vote).
    pub async fn handle_pre_vote(&self, frame: pb::RaftFrame) -> Result<pb::RaftFrame, RpcError> {
        let (frames, rpc) = self.candidacy("pre-vote", frame)?;
        Ok(frames.frame(&self.raft().pre_vote(rpc).await.map_err(stopped)?))
    }

    /// The leader's entries or heartbeat.
    ///
    /// # Errors
    ///
    /// As [`handle_vote`](Self::handle_vote).
    pub async fn handle_append_entries(&self, frame: pb::RaftFrame) -> Result<pb::RaftFrame, RpcError> {
        let (frames, rpc) = self.message("entries", frame)?;
        let answer = self.raft().append_entries(rpc).await.map_err(stopped)?;
        match &answer {
            AppendEntriesResponse::HigherVote(_) => {}
            AppendEntriesResponse::Success
            | AppendEntriesResponse::PartialSuccess(_)
            | AppendEntriesResponse::Conflict => self.heard().note(),
        }
        Ok(frames.frame(&answer))
    }

    /// The leader's pipelined entries: one answer for each frame.
    ///
    /// # Errors
    ///
    /// As [`handle_vote`](Self::handle_vote), for the first frame; a later one that does not fit ends the stream.
    pub async fn handle_stream_append(
        self: std::sync::Arc<Self>,
        mut inbound: Streaming<pb::RaftFrame>,
    ) -> Result<impl Stream<Item = Result<pb::RaftFrame, Status>> + Send + 'static, Status> {
        let Some(first) = inbound.next().await.transpose()? else {
            return Err(RpcError::Malformed("the stream of entries is empty".to_owned()).into());
        };
        let (frames, first) = self.message::<AppendEntriesRequest>("entries", first)?;
        let log = std::sync::Arc::clone(&self);
        let later = inbound.map(move |frame| {
            let message = log.message::<AppendEntriesRequest>("entries", frame.ok()?);
            let message = message.inspect_err(|error| tracing::warn!(%error, "end a peer's stream of entries"));
            message.map(|(_, rpc)| rpc).ok()
        });
        let later = later.take_while(|rpc| ready(rpc.is_some())).filter_map(ready);
        let input = futures::stream::once(ready(first)).chain(later);
        // Boxed: the returned type names the borrow of the handle although it does not use it.
        let answers: BoxStream<'static, _> = self.raft().stream_append(Box::pin(input)).boxed();
        let heard = self.heard().clone();
        Ok(answers.map(move |answer| {
            let answer = answer.map_err(stopped)?;
            if !matches!(answer, Err(StreamAppendError::HigherVote(_))) {
                heard.note();
            }
            Ok(frames.frame(&answer))
        }))
    }

    /// The leader's snapshot, in pieces; installed when it is complete.
    ///
    /// # Errors
    ///
    /// As [`handle_vote`](Self::handle_vote).
    pub async fn handle_snapshot(&self, mut inbound: Streaming<pb::RaftFrame>) -> Result<pb::RaftFrame, Status> {
        let Some(head) = inbound.message().await? else {
            return Err(RpcError::Malformed("the snapshot is empty".to_owned()).into());
        };
        let (frames, (vote, meta)) = self.message::<(Vote, SnapshotMeta)>("snapshot", head)?;
        let mut state = BytesMut::new();
        while let Some(frame) = inbound.message().await? {
            let (_, piece) = self.accept(frame)?;
            if state.len() + piece.len() > SNAPSHOT_BYTES_MAX {
                return Err(RpcError::Malformed(format!("the snapshot has over {SNAPSHOT_BYTES_MAX} bytes")).into());
            }
            state.extend_from_slice(&piece);
        }
        let snapshot = Snapshot { meta, snapshot: state.freeze() };
        let installed = self.raft().install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        self.heard().note();
        Ok(frames.frame(&installed))
    }

    /// The leader hands over.
    ///
    /// # Errors
    ///
    /// As [`handle_vote`](Self::handle_vote).
    pub async fn handle_transfer_leader(&self, frame: pb::RaftFrame) -> Result<pb::RaftFrame, RpcError> {
        let (frames, rpc) = self.message("transfer of leadership", frame)?;
        Ok(frames.frame(&self.raft().handle_transfer_leader(rpc).await.map_err(stopped)?))
    }
}
