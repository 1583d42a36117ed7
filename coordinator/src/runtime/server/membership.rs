//! Changes of who the coordinators are: carried out by the leader, one at a time, each step repeatable.
//!
//! A new coordinator is identified, given a node id of its own, adopted, made a learner, waited for until it has the
//! log and every registered blob, and only then made a voter. Whoever repeats an interrupted change goes on where it
//! ended: what a directory has become stands in its `IDENTITY`, and the rest in the membership.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tidemill_model::id::{ClusterId, NodeId};

use super::blob_exchange::ask_to_sync;
use super::bootstrap::{self, Identified, adopt, identify};
use super::node::{Node, Replica};
use crate::runtime::raft::{Member, MemberView, MembershipError};
use crate::runtime::spawn::spawn;

/// How often a learner's progress is looked at.
const POLL: Duration = Duration::from_millis(50);

/// A learner that makes no progress for this long is given up; it stays a learner.
const STALLED: Duration = Duration::from_secs(60);

/// A learner that lacks no more entries than this has caught up: it will not hold up a commit.
const LAG_MAX: u64 = 256;

/// What shall change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipChange {
    /// Make the waiting coordinator at this Raft address a voter.
    Add(String),
    /// Remove a member, by name or node id.
    Remove(String),
    /// Put the waiting coordinator at a Raft address in a member's place.
    Replace {
        /// Whose, by name or node id.
        member: String,
        /// The Raft address.
        raft_address: String,
    },
    /// Hand leadership over, to this member or to whoever is furthest.
    TransferLeader(Option<String>),
}

/// Why nothing changed, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not here, or not any more.
    #[error("change membership: this coordinator does not lead")]
    NotLeading,
    /// Another command is at it.
    #[error("change membership: another change is under way on this leader; wait for its end, then repeat")]
    Busy,
    /// Nobody is called that.
    #[error(
        "change membership: no coordinator is called {name:?}; `tidemill cluster members` lists names and node ids"
    )]
    Unknown {
        /// What was given.
        name: String,
    },
    /// The new one is silent.
    #[error("add coordinator: no answer from {address}; start it, with an empty data directory, then repeat")]
    Silent {
        /// Its address and why.
        address: String,
    },
    /// The new one is somebody else's.
    #[error(
        "add coordinator {name}: its data directory is node {node} of cluster {theirs}, this is cluster {ours}; give \
         it an empty directory"
    )]
    OtherCluster {
        /// Its name.
        name: String,
        /// What it is.
        node: NodeId,
        /// Of which cluster.
        theirs: ClusterId,
        /// Which this is.
        ours: ClusterId,
    },
    /// Names are how people tell them apart.
    #[error(
        "add coordinator: node {node} is called {name:?} already; give the new one its own coordinator.name, or use `replace {name}`"
    )]
    SameName {
        /// The name.
        name: String,
        /// Who has it.
        node: NodeId,
    },
    /// A wiped member, most likely.
    #[error(
        "add coordinator: node {node} ({name}) of this cluster has the address {address}, and the directory there is \
         empty: it has forgotten that member's votes and must not take its number; use `replace {name} {address}`"
    )]
    SameAddress {
        /// Whose address it is.
        node: NodeId,
        /// Its name.
        name: String,
        /// The address.
        address: String,
    },
    /// It is part of the cluster, but not as asked.
    #[error("replace coordinator {member}: the one at {address} is that member itself; give an empty directory")]
    Itself {
        /// Who was to be replaced.
        member: NodeId,
        /// By whom.
        address: String,
    },
    /// Its adoption failed.
    #[error(transparent)]
    Adoption(#[from] bootstrap::Error),
    /// It gets nowhere.
    #[error(
        "add coordinator {name}: it has made no progress for {STALLED:?} ({lacks}); it stays a learner, node {node}: see \
         its log, then repeat, or remove it"
    )]
    Stalled {
        /// Its name.
        name: String,
        /// Its number.
        node: NodeId,
        /// What it still lacks.
        lacks: String,
    },
    /// Nobody would be left.
    #[error("remove coordinator {name}: it is the last voter; add another one first, or stop the cluster")]
    LastVoter {
        /// Its name.
        name: String,
    },
    /// The others would have no quorum.
    #[error(
        "remove coordinator {name}: of the {voters} voters that stay only {alive} answer, fewer than their majority: \
         the cluster would stop; start the others or remove one of those first"
    )]
    NoQuorumLeft {
        /// Who was to go.
        name: String,
        /// How many would stay.
        voters: usize,
        /// How many of them answer.
        alive: usize,
    },
    /// A learner cannot lead.
    #[error("hand leadership over: {name} is a learner; `tidemill cluster add` makes it a voter")]
    Learner {
        /// Its name.
        name: String,
    },
    /// The log refused.
    #[error(transparent)]
    Log(#[from] MembershipError),
}

/// Who was added, removed or now leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Its number.
    pub node: NodeId,
    /// Its name.
    pub name: String,
}

impl Node {
    /// Carries a change out, in a task of its own: a caller that goes away leaves nothing half done.
    ///
    /// # Errors
    ///
    /// When it is refused or interrupted; repeating it goes on where it ended.
    pub async fn change_membership(self: &Arc<Self>, change: MembershipChange) -> Result<Changed, Error> {
        let node = Arc::clone(self);
        let changing = spawn("change-membership", async move {
            let _only = node.membership_lock().try_lock().map_err(|_| Error::Busy)?;
            let (replica, _) = node.leading().map_err(|_| Error::NotLeading)?;
            tracing::info!(?change, "change membership");
            let changed = carry_out(&node, &replica, change).await;
            match &changed {
                Ok(changed) => tracing::info!(node_id = %changed.node, name = changed.name, "membership changed"),
                Err(error) => tracing::warn!(%error, "membership did not change"),
            }
            changed
        });
        let interrupted = |error: tokio::task::JoinError| MembershipError::Unknown { reason: error.to_string() };
        changing.await.map_err(|error| Error::Log(interrupted(error)))?
    }
}

async fn carry_out(node: &Node, replica: &Replica, change: MembershipChange) -> Result<Changed, Error> {
    match change {
        MembershipChange::Add(address) => {
            let (id, found) = admit(node, replica, &address, None).await?;
            // A member that is added again has a number and everything already.
            replica.log.promote(id).await?;
            settle_in(replica, id, &found).await;
            Ok(Changed { node: id, name: found.member.name })
        }
        MembershipChange::Remove(name) => {
            let (id, view) = find(replica, &name)?;
            check_quorum_without(replica, id, &view).await?;
            step_aside(replica, id).await?;
            replica.log.remove_member(id).await?;
            Ok(Changed { node: id, name: view.member.name })
        }
        MembershipChange::Replace { member, raft_address } => {
            let (old, view) = find(replica, &member)?;
            step_aside(replica, old).await?;
            let (id, found) = admit(node, replica, &raft_address, Some(old)).await?;
            check_quorum_without(replica, old, &view).await?;
            replica.log.promote_replacing(id, old).await?;
            settle_in(replica, id, &found).await;
            Ok(Changed { node: id, name: found.member.name })
        }
        MembershipChange::TransferLeader(name) => {
            let wanted = name.map(|name| find(replica, &name)).transpose()?;
            if let Some((id, view)) = wanted.clone().filter(|(id, _)| *id == replica.node) {
                return Ok(Changed { node: id, name: view.member.name });
            }
            if let Some((_, view)) = wanted.as_ref().filter(|(_, view)| !view.voter) {
                return Err(Error::Learner { name: view.member.name.clone() });
            }
            let id = replica.log.transfer_leadership_to(wanted.map(|(id, _)| id)).await?;
            let name = replica.log.members().remove(&id).map(|member| member.name).unwrap_or_default();
            Ok(Changed { node: id, name })
        }
    }
}

/// A member by its name or its node id.
fn find(replica: &Replica, name: &str) -> Result<(NodeId, MemberView), Error> {
    let views = replica.log.member_views();
    let by_name = views.iter().find(|(_, view)| view.member.name == name);
    let by_id = || views.iter().find(|(id, _)| id.to_string() == name);
    let found = by_name.or_else(by_id).map(|(id, view)| (*id, view.clone()));
    found.ok_or_else(|| Error::Unknown { name: name.to_owned() })
}

/// A leader that is to go hands over first; its successor carries the change out.
async fn step_aside(replica: &Replica, going: NodeId) -> Result<(), Error> {
    if going != replica.node {
        return Ok(());
    }
    replica.log.transfer_leadership_to(None).await?;
    Err(Error::NotLeading)
}

/// Those that stay must be able to decide without whoever goes: a change that has begun needs their majority to end,
/// and nothing else is decided before. Each is asked: what was heard of it a moment ago proves nothing.
async fn check_quorum_without(replica: &Replica, going: NodeId, view: &MemberView) -> Result<(), Error> {
    if !view.voter {
        return Ok(());
    }
    let views = replica.log.member_views();
    let staying: Vec<_> = views.iter().filter(|(id, view)| **id != going && view.voter).collect();
    let answers = join_all(staying.iter().map(async |(id, view)| {
        let found = identify(&view.member.raft_address).await;
        found.is_ok_and(|found| found.belongs == Some((replica.cluster, **id)))
    }));
    let alive = answers.await.into_iter().filter(|&alive| alive).count();
    let (name, voters) = (view.member.name.clone(), staying.len());
    if voters == 0 {
        return Err(Error::LastVoter { name });
    }
    if alive <= voters / 2 {
        return Err(Error::NoQuorumLeft { name, voters, alive });
    }
    Ok(())
}

/// Makes the coordinator at an address a learner that has everything.
async fn admit(
    node: &Node,
    replica: &Replica,
    address: &str,
    replaces: Option<NodeId>,
) -> Result<(NodeId, Identified), Error> {
    let found = identify(address).await.map_err(|address| Error::Silent { address })?;
    let id = number(replica, &found, address, replaces).await?;
    adopt(&found, replica.cluster, id).await?;
    let members = replica.log.members();
    if !members.contains_key(&id) {
        replica.log.add_learner(id, found.member.clone()).await?;
    }
    catch_up(node, replica, id, &found.member).await?;
    Ok((id, found))
}

/// Which node the coordinator is or becomes.
async fn number(
    replica: &Replica,
    found: &Identified,
    address: &str,
    replaces: Option<NodeId>,
) -> Result<NodeId, Error> {
    let members = replica.log.members();
    let others = |id: &NodeId| Some(*id) != replaces;
    if let Some((theirs, node)) = found.belongs {
        let (name, ours) = (found.member.name.clone(), replica.cluster);
        if theirs != ours {
            return Err(Error::OtherCluster { name, node, theirs, ours });
        }
        if !others(&node) {
            return Err(Error::Itself { member: node, address: address.to_owned() });
        }
        return Ok(node);
    }
    for (&node, member) in members.iter().filter(|(id, _)| others(id)) {
        let name = member.name.clone();
        if member.raft_address == found.member.raft_address {
            return Err(Error::SameAddress { node, name, address: member.raft_address.clone() });
        }
        if name == found.member.name {
            return Err(Error::SameName { name, node });
        }
    }
    Ok(replica.log.allot_node().await?)
}

/// Waits until a learner has the log, and then every registered blob.
async fn catch_up(node: &Node, replica: &Replica, id: NodeId, member: &Member) -> Result<(), Error> {
    let clock = node.clock();
    let (mut best, mut since) = (None, clock.now());
    loop {
        let view = replica.log.member_views().remove(&id);
        let matched = view.and_then(|view| view.matched_index);
        let end = replica.log.status().last_log_index;
        let lag = end.saturating_sub(matched.unwrap_or(0));
        let lacks = if matched.is_some() && lag <= LAG_MAX {
            match ask_to_sync(replica, id, member).await {
                Ok(missing) if missing.is_empty() => return Ok(()),
                Ok(missing) => format!("it lacks {} blobs: {}", missing.len(), missing.join("; ")),
                Err(status) => format!("it does not say which blobs it has: {}", status.message()),
            }
        } else {
            format!("it lacks {lag} log entries of {end}")
        };
        if matched > best {
            (best, since) = (matched, clock.now());
        }
        if clock.now().since(since) > STALLED {
            return Err(Error::Stalled { name: member.name.clone(), node: id, lacks });
        }
        if !replica.log.leads() {
            return Err(Error::NotLeading);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Blobs that were registered between the learner's last look and its promotion lie on a majority of the voters
/// before it: have it fetch them too. What fails here is repaired by its own regular sweep.
async fn settle_in(replica: &Replica, id: NodeId, found: &Identified) {
    match ask_to_sync(replica, id, &found.member).await {
        Ok(missing) if missing.is_empty() => {}
        Ok(missing) => tracing::warn!(node_id = %id, ?missing, "a new voter lacks blobs"),
        Err(status) => tracing::warn!(node_id = %id, reason = status.message(), "a new voter lacks blobs"),
    }
}

/// Finishes what an earlier leader had begun, at each beginning of a leadership here.
pub(super) async fn settle_regularly(replica: Replica) {
    let mut leader = replica.leader.clone();
    while leader.wait_for(Option::is_some).await.is_ok() {
        if let Err(error) = replica.log.settle_membership().await {
            tracing::warn!(%error, "a change of membership that an earlier leader began is not finished");
        }
        if leader.wait_for(Option::is_none).await.is_err() {
            return;
        }
    }
}
