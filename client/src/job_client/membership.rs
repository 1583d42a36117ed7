//! Who the coordinators are, and changes of it.

use futures::future::join_all;
use tidemill_model::id::NodeId;
use tidemill_proto::pb;
use tidemill_proto::pb::membership_change::Change;

use super::JobClient;
use super::connections::Stub;
use super::error::Error;
use super::leader_search::Audience;
use super::types::{ClusterStatus, NodeStatus};

/// One coordinator as the leader lists it, and what it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// The leader's word.
    pub node: NodeStatus,
    /// Its own, or why there is none.
    pub own: Result<ClusterStatus, Error>,
    /// How many entries of the leader's log it has not applied; none when it does not answer.
    pub lag: Option<u64>,
}

/// What a change of membership came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembershipChanged {
    /// Who was added or removed, or leads now.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The coordinators now.
    pub nodes: Vec<NodeStatus>,
}

impl JobClient {
    /// The coordinators as the leader lists them, each with its own word.
    ///
    /// # Errors
    ///
    /// When no leader answers.
    pub async fn members(&self) -> Result<Vec<MemberStatus>, Error> {
        let status = self.leader_status().await?;
        let end = status.last_log_index;
        let members = status.nodes.into_iter().map(|node| async move {
            let own = self.status_of(&node.client_address).await;
            // Another coordinator may have been given the address since.
            let own = own.and_then(|own| if own.node == node.id { Ok(own) } else { Err(stranger(&node, &own)) });
            let lag = own.as_ref().ok().map(|own| end.saturating_sub(own.applied_index));
            MemberStatus { node, own, lag }
        });
        Ok(join_all(members).await)
    }

    /// Makes the waiting coordinator at a Raft address a voter; returns when it has the log and every blob.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it cannot be added; the message says why. Repeating the call is harmless.
    pub async fn add_member(&self, raft_address: &str) -> Result<MembershipChanged, Error> {
        self.change_membership(Change::Add(raft_address.to_owned())).await
    }

    /// Removes a coordinator, by name or node id; the leader hands leadership over first.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when nobody is called so, or the others would have no quorum.
    pub async fn remove_member(&self, member: &str) -> Result<MembershipChanged, Error> {
        self.change_membership(Change::Remove(member.to_owned())).await
    }

    /// Puts the waiting coordinator at a Raft address in a member's place, in one step.
    ///
    /// # Errors
    ///
    /// As [`add_member`](Self::add_member) and [`remove_member`](Self::remove_member).
    pub async fn replace_member(&self, member: &str, raft_address: &str) -> Result<MembershipChanged, Error> {
        let replace = pb::ReplaceMember { member: member.to_owned(), raft_address: raft_address.to_owned() };
        self.change_membership(Change::Replace(replace)).await
    }

    /// Hands leadership to a coordinator, by name or node id, or to whoever is furthest.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it is not elected in time, or there is nobody.
    pub async fn transfer_leader(&self, to: Option<&str>) -> Result<MembershipChanged, Error> {
        self.change_membership(Change::TransferLeader(to.unwrap_or_default().to_owned())).await
    }

    async fn change_membership(&self, change: Change) -> Result<MembershipChanged, Error> {
        let request = pb::MembershipChange { change: Some(change) };
        let call = |mut stub: Stub| {
            let request = request.clone();
            async move { stub.change_membership(request).await }
        };
        // However long a new member needs: the leader gives up one that gets nowhere.
        let changed = self.ask(Audience::Leader, None, call).await?.into_inner();
        let nodes = changed.nodes.into_iter().map(NodeStatus::from).collect();
        Ok(MembershipChanged { node: NodeId(changed.node_id), name: changed.name, nodes })
    }
}

fn stranger(node: &NodeStatus, own: &ClusterStatus) -> Error {
    let last = format!("node {} answers there", own.node);
    Error::AllUnreachable { coordinators: vec![node.client_address.clone()], last }
}
