//! `InitCluster`: one cluster out of waiting coordinators, once.
//!
//! Directories are adopted one after the other in the order of their names, so that of two rival runs the one that
//! adopts the first directory wins, and the other has adopted none. A run that is interrupted is finished by the
//! next one: whatever cluster id the directories hold already is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use tidemill_model::id::{ClusterId, DirectoryId, NodeId};
use tidemill_proto::pb::raft_client::RaftClient;
use tidemill_proto::version::check_version;
use tidemill_proto::{convert, pb};
use tonic::{Code, Status};
use uuid::Uuid;

use super::node::{self, Node};
use crate::runtime::raft::{self, Member, peer_channel};
use crate::runtime::replicated_log::{Leadership, ReplicatedLog};

/// How long a coordinator may take to say who it is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a coordinator that was there a moment ago may fail to answer before its adoption is given up, and how
/// soon it is asked again.
const ADOPTION_TIMEOUT: Duration = Duration::from_secs(20);
const ADOPTION_RETRY: Duration = Duration::from_millis(200);

/// How long the first election may take.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no cluster yet.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Some are silent.
    #[error("make cluster: no answer from {missing}; start every coordinator of coordinator.join, then repeat")]
    Missing {
        /// Their addresses and why.
        missing: String,
    },
    /// This coordinator would not be a part.
    #[error("make cluster: coordinator.join ({join}) does not name this coordinator ({own}); add it everywhere")]
    NotListed {
        /// What is listed.
        join: String,
        /// This one's Raft address.
        own: String,
    },
    /// Names are how people tell them apart.
    #[error("make cluster: two coordinators are named {name:?}; give each its own coordinator.name")]
    SameName {
        /// The name.
        name: String,
    },
    /// They are of several clusters.
    #[error("make cluster: {described}; use directories of one cluster, or empty ones")]
    SeveralClusters {
        /// Who is of which.
        described: String,
    },
    /// One refuses.
    #[error("make cluster: {name} refuses to become node {node} of cluster {cluster}: {reason}")]
    Refused {
        /// Its name.
        name: String,
        /// What it should become.
        node: NodeId,
        /// Of which cluster.
        cluster: ClusterId,
        /// Why not.
        reason: String,
    },
    /// One does not answer any more.
    #[error(
        "make cluster: {name} did not answer for {ADOPTION_TIMEOUT:?} when it was to become node {node} of cluster \
         {cluster} ({reason}); it may have become it all the same: see that it runs, then repeat"
    )]
    NoAnswer {
        /// Its name.
        name: String,
        /// What it should become.
        node: NodeId,
        /// Of which cluster.
        cluster: ClusterId,
        /// What happened last.
        reason: String,
    },
    /// It is made, without this directory.
    #[error(
        "make cluster: cluster {cluster} is made already and this coordinator's directory is empty; an empty directory \
         must not take a member's place, since it has forgotten that member's votes: restore the directory"
    )]
    NotAMember {
        /// The cluster.
        cluster: ClusterId,
    },
    /// The first election takes too long.
    #[error("make cluster {cluster}: it is made, but has no leader yet; see the coordinators' logs, then repeat")]
    NoLeader {
        /// The cluster.
        cluster: ClusterId,
    },
    /// Something failed here.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// The log failed here.
    #[error(transparent)]
    Raft(#[from] raft::Error),
}

/// A coordinator that said who it is.
#[derive(Debug, Clone)]
pub(super) struct Identified {
    pub(super) dialled: String,
    pub(super) member: Member,
    pub(super) directory: DirectoryId,
    pub(super) belongs: Option<(ClusterId, NodeId)>,
    pub(super) initialized: bool,
}

impl Node {
    /// Makes one cluster of the coordinators in `coordinator.join`, or says which one they are already.
    ///
    /// # Errors
    ///
    /// When not all of them can be made members; repeating it goes on where it ended.
    pub async fn init_cluster(&self) -> Result<ClusterId, Error> {
        if let Some(replica) = self.replica().filter(|replica| !replica.log.members().is_empty()) {
            return self.await_leader(replica.cluster).await;
        }
        let found = self.identify_all().await?;
        let cluster = match agreed_cluster(&found)? {
            Some(cluster) => cluster,
            None => self.plan_cluster(ClusterId(Uuid::new_v4())).await?,
        };
        // A made cluster has votes behind it: an empty directory that adopted an old number would have forgotten its own.
        if found.iter().any(|coordinator| coordinator.initialized) {
            return self.await_leader(cluster).await;
        }
        let members = allot(&found)?;
        for (&node, coordinator) in &members {
            adopt(coordinator, cluster, node).await?;
        }
        tracing::info!(cluster_id = %cluster, members = members.len(), "every directory is adopted: make the cluster");
        if let Some(replica) = self.replica() {
            let members = members.into_iter().map(|(node, coordinator)| (node, coordinator.member));
            replica.log.initialize(members.collect()).await?;
        }
        self.await_leader(cluster).await
    }

    async fn identify_all(&self) -> Result<Vec<Identified>, Error> {
        let own = self.own().raft_address.clone();
        let join = &self.settings().join;
        let addresses: BTreeSet<&String> = if join.is_empty() { BTreeSet::from([&own]) } else { join.iter().collect() };
        let answers = join_all(addresses.iter().map(|address| identify(address))).await;
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for answer in answers {
            match answer {
                Ok(identified) => found.push(identified),
                Err(reason) => missing.push(reason),
            }
        }
        if !missing.is_empty() {
            return Err(Error::Missing { missing: missing.join("; ") });
        }
        let directory = self.identity().await.directory;
        if !found.iter().any(|coordinator| coordinator.directory == directory) {
            return Err(Error::NotListed { join: join.join(", "), own });
        }
        Ok(found)
    }

    async fn await_leader(&self, cluster: ClusterId) -> Result<ClusterId, Error> {
        let Some(replica) = self.replica() else { return Err(Error::NotAMember { cluster }) };
        let mut leadership = replica.log.leadership();
        let known = |leadership: &Leadership| match leadership {
            Leadership::Leader { .. } | Leadership::Follower { leader: Some(_) } => true,
            Leadership::Follower { leader: None } => false,
        };
        match tokio::time::timeout(ELECTION_TIMEOUT, leadership.wait_for(known)).await {
            Ok(Ok(_)) => Ok(cluster),
            Ok(Err(_)) | Err(_) => Err(Error::NoLeader { cluster }),
        }
    }
}

/// Asks one coordinator who it is; the error names it.
pub(super) async fn identify(address: &str) -> Result<Identified, String> {
    let failed = |reason: String| format!("{address} ({reason})");
    let channel = peer_channel(address).map_err(|error| failed(error.to_string()))?;
    let asked = async { RaftClient::new(channel).identify(pb::IdentifyRequest {}).await };
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, asked).await;
    let answer = answer.map_err(|_| failed("silent".to_owned()))?;
    let answer = answer.map_err(|status| failed(status.message().to_owned()))?.into_inner();
    check_version(answer.protocol_version, || format!("coordinator {}", answer.name))
        .map_err(|error| failed(error.to_string()))?;
    identified(address, answer).map_err(|error| failed(error.to_string()))
}

fn identified(address: &str, answer: pb::IdentifyResponse) -> Result<Identified, convert::Error> {
    let directory = convert::directory_id(&answer.directory_id, "IdentifyResponse.directory_id")?;
    let belongs = if answer.cluster_id.is_empty() {
        None
    } else {
        let cluster = convert::cluster_id(&answer.cluster_id, "IdentifyResponse.cluster_id")?;
        Some((cluster, NodeId(answer.node_id)))
    };
    let pb::IdentifyResponse { name, raft_address, client_address, initialized, .. } = answer;
    let member = Member { name, raft_address, client_address };
    Ok(Identified { dialled: address.to_owned(), member, directory, belongs, initialized })
}

/// The one cluster that they belong to, if any does.
fn agreed_cluster(found: &[Identified]) -> Result<Option<ClusterId>, Error> {
    let clusters: BTreeSet<ClusterId> = found.iter().filter_map(|c| c.belongs).map(|(cluster, _)| cluster).collect();
    if clusters.len() > 1 {
        let described = found.iter().map(|coordinator| match coordinator.belongs {
            Some((cluster, _)) => format!("{} belongs to cluster {cluster}", coordinator.member.name),
            None => format!("{} belongs to none", coordinator.member.name),
        });
        return Err(Error::SeveralClusters { described: described.collect::<Vec<_>>().join(", ") });
    }
    Ok(clusters.into_iter().next())
}

/// Numbers from 1 in the order of names.
fn allot(found: &[Identified]) -> Result<BTreeMap<NodeId, Identified>, Error> {
    let mut by_name = BTreeMap::new();
    for coordinator in found {
        let name = coordinator.member.name.clone();
        if by_name.insert(name.clone(), coordinator.clone()).is_some() {
            return Err(Error::SameName { name });
        }
    }
    Ok((1..).map(NodeId).zip(by_name.into_values()).collect())
}

/// Makes a coordinator's directory a member. Repeated while the coordinator does not answer: it may have been adopted
/// by a call whose answer was lost, and adopting it again is harmless.
pub(super) async fn adopt(coordinator: &Identified, cluster: ClusterId, node: NodeId) -> Result<(), Error> {
    let name = coordinator.member.name.clone();
    let mut last = Status::unavailable("it was not asked");
    let asking = async {
        loop {
            match ask_to_adopt(coordinator, cluster, node).await {
                Ok(()) => return Ok(()),
                Err(status) if may_pass(&status) => last = status,
                Err(status) => return Err(status.message().to_owned()),
            }
            tokio::time::sleep(ADOPTION_RETRY).await;
        }
    };
    match tokio::time::timeout(ADOPTION_TIMEOUT, asking).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(reason)) => Err(Error::Refused { name, node, cluster, reason }),
        Err(_) => Err(Error::NoAnswer { name, node, cluster, reason: last.message().to_owned() }),
    }
}

async fn ask_to_adopt(coordinator: &Identified, cluster: ClusterId, node: NodeId) -> Result<(), Status> {
    let channel = peer_channel(&coordinator.dialled).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let request = pb::AdoptRequest {
        cluster_id: convert::uuid_bytes(cluster.0),
        node_id: node.0,
        directory_id: convert::uuid_bytes(coordinator.directory.0),
    };
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, RaftClient::new(channel).adopt(request)).await;
    answer.map_err(|_| Status::deadline_exceeded("silent"))?.map(drop)
}

/// Whether the transport failed, and not the coordinator refused.
fn may_pass(status: &Status) -> bool {
    convert::error_detail(status).is_none()
        && matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown)
}
