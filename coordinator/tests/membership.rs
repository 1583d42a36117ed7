//! Coordinators come and go while the cluster works, and none ever votes with another one's memory.
#![cfg(feature = "raft")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use support::{Cluster, channel, eventually, job, kind, lacks_leader};
use tidemill_coordinator::runtime::replicated_log::ReplicatedLog;
use tidemill_model::id::{BlobId, ClusterId, NodeId};
use tidemill_proto::convert;
use tidemill_proto::pb::client_client::ClientClient;
use tidemill_proto::pb::membership_change::Change;
use tidemill_proto::pb::{self, ErrorKind};
use uuid::Uuid;

/// Stores a blob at whoever leads.
async fn put_blob(cluster: &Cluster, text: &'static str) -> BlobId {
    let blob = BlobId(Sha256::digest(text).into());
    let chunk = pb::BlobChunk { id: convert::blob_bytes(blob), data: Bytes::from_static(text.as_bytes()) };
    eventually("a stored blob", async || {
        let mut client = cluster.client(cluster.leader().await);
        match client.put_blob(tokio_stream::iter([chunk.clone()])).await {
            Ok(_) => Some(()),
            Err(status) => {
                assert!(lacks_leader(&status), "{status}");
                None
            }
        }
    })
    .await;
    blob
}

/// Submits jobs to whoever leads until it is told to stop; how many were accepted.
fn load(addresses: Vec<String>, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<usize> {
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    tokio::spawn(async move {
        let mut clients: Vec<_> = addresses.iter().map(|address| ClientClient::new(channel(address))).collect();
        let mut accepted = 0;
        while !stop.load(Ordering::Relaxed) {
            for client in &mut clients {
                match client.submit_job(pb::SubmitJobRequest { spec: Some(job().into()) }).await {
                    Ok(_) => accepted += 1,
                    // Without a detail it is the transport's: the coordinator was stopped.
                    Err(status) => assert!(
                        lacks_leader(&status)
                            || kind(&status) == ErrorKind::NotInitialized
                            || convert::error_detail(&status).is_none(),
                        "a change of membership made a submission fail: {status}"
                    ),
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        accepted
    })
}

fn add(cluster: &Cluster, index: usize) -> Change {
    Change::Add(cluster.places[index].raft_address())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_grows_from_one_to_five_and_shrinks_to_another_one_under_load() {
    let (mut cluster, _) = Cluster::start(1).await;
    let artifact = put_blob(&cluster, "an artifact").await;
    for _ in 0..4 {
        cluster.run_another().await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let addresses = cluster.places.iter().map(support::Place::client_address).collect();
    let load = load(addresses, Arc::clone(&stop));
    for index in 1..5 {
        let changed = cluster.change(add(&cluster, index)).await.expect("it waits to be added");
        assert_eq!(changed.name, format!("c{}", index + 1));
        let blobs = cluster.running[&index].node().blobs();
        assert!(blobs.contains(artifact), "it was promoted without a registered blob");
    }
    let members = cluster.members().await;
    let ids: BTreeSet<u64> = members.values().map(|node| node.node_id).collect();
    assert_eq!((members.len(), ids.len()), (5, 5), "{members:?}");
    assert!(members.values().all(|node| node.voter), "{members:?}");
    cluster.assert_reached_by_all().await;

    // Whoever leads is among those that go.
    for index in 0..4 {
        cluster.change(Change::Remove(format!("c{}", index + 1))).await.expect("the others have a quorum");
        cluster.stop(index).await;
    }
    stop.store(true, Ordering::Relaxed);
    assert!(load.await.expect("no submission failed") > 0);
    let members = cluster.members().await;
    assert_eq!(members.keys().collect::<Vec<_>>(), ["c5"]);
    let last = cluster.submit().await;
    assert!(cluster.has_job(4, last));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_id_is_never_given_twice() {
    let (mut cluster, _) = Cluster::start(1).await;
    let mut seen = BTreeSet::from([1]);
    for round in 0..3 {
        let index = cluster.run_another().await;
        let added = cluster.change(add(&cluster, index)).await.expect("it waits");
        assert!(seen.insert(added.node_id), "node id {} came again in round {round}", added.node_id);
        let again = cluster.change(add(&cluster, index)).await.expect("adding it again is harmless");
        assert_eq!(again.node_id, added.node_id, "a directory keeps its number");
        cluster.change(Change::Remove(added.node_id.to_string())).await.expect("the first one is enough");
        cluster.stop(index).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_voter_is_refused_its_old_place_and_gets_a_new_number() {
    let (mut cluster, _) = Cluster::start(3).await;
    let wiped = cluster.follower().await;
    let (name, old) = (cluster.places[wiped].name.clone(), cluster.log(wiped).node());
    cluster.stop(wiped).await;
    cluster.places[wiped] = cluster.places[wiped].with_other_dir();
    cluster.run(wiped).await;
    let leader = cluster.leader().await;
    eventually("the leader's warning that the old node is gone", async || {
        let reason = cluster.log(leader).refusals().list().remove(&old)?;
        reason.contains("is empty and waits to be adopted").then_some(())
    })
    .await;

    let refused = cluster.change(add(&cluster, wiped)).await.expect_err("it would vote with amnesia");
    assert!(refused.message().contains(&format!("replace {name}")), "{refused}");
    assert_eq!(cluster.running[&wiped].node().identity().await.member, None);

    let raft_address = cluster.places[wiped].raft_address();
    let replace = pb::ReplaceMember { member: name.clone(), raft_address };
    let replaced = cluster.change(Change::Replace(replace)).await.expect("an empty directory in its place");
    assert!(replaced.node_id > 1000 && replaced.node_id != old.0, "{replaced:?}");
    let members = cluster.members().await;
    assert_eq!(members.len(), 3);
    assert_eq!(members[&name].node_id, replaced.node_id);
    let job = cluster.submit().await;
    eventually("the job on the new replica", async || cluster.has_job(wiped, job).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_disturbs_nobody_and_is_told_what_it_is() {
    let (mut cluster, _) = Cluster::start(3).await;
    let removed = cluster.follower().await;
    cluster.change(Change::Remove(cluster.places[removed].name.clone())).await.expect("two are a quorum of two");
    let leader = cluster.leader().await;
    let term = cluster.log(leader).status().term;
    eventually("a removed member that knows", async || {
        let alarms = cluster.status(removed).await.ok()?.alarms;
        alarms.iter().any(|alarm| alarm.contains("is not a member of cluster")).then_some(())
    })
    .await;
    cluster.submit().await;
    assert_eq!(cluster.log(leader).status().term, term, "its candidacies changed the term");
    // Its directory is what it was, so that it may come back under its number.
    let number = cluster.log(removed).node();
    let again = cluster.change(add(&cluster, removed)).await.expect("it is added again");
    assert_eq!(NodeId(again.node_id), number);
    cluster.stop(leader).await;
    cluster.submit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_whose_loss_would_stop_the_cluster_are_kept() {
    let (mut cluster, _) = Cluster::start(3).await;
    let lost = cluster.follower().await;
    let leader = cluster.leader().await;
    let other = (0..3).find(|&index| index != lost && index != leader).expect("three");
    cluster.stop(lost).await;
    let refused = cluster.change(Change::Remove(cluster.places[other].name.clone())).await;
    let refused = refused.expect_err("the leader would be left with the lost one");
    assert!(refused.message().contains("fewer than their majority"), "{refused}");
    let unknown = cluster.change(Change::Remove("c9".to_owned())).await.expect_err("nobody");
    assert!(unknown.message().contains("no coordinator is called"), "{unknown}");
    let silent = cluster.change(Change::Add("127.0.0.1:1".to_owned())).await.expect_err("nobody is there");
    assert!(silent.message().contains("no answer from 127.0.0.1:1"), "{silent}");

    cluster.change(Change::Remove(cluster.places[lost].name.clone())).await.expect("the lost one can go");
    let last = cluster.change(Change::Remove(cluster.places[other].name.clone())).await;
    last.expect("one is a quorum of one");
    let name = cluster.places[cluster.leader().await].name.clone();
    let refused = cluster.change(Change::Remove(name)).await.expect_err("nobody would be left");
    assert!(refused.message().contains("last voter"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_to_whoever_is_named() {
    let (cluster, _) = Cluster::start(3).await;
    for name in ["c3", "c1", "c2", "c2"] {
        let changed = cluster.change(Change::TransferLeader(name.to_owned())).await.expect("it follows");
        assert_eq!(changed.name, name);
        let leader = cluster.leader().await;
        assert_eq!(cluster.places[leader].name, name);
    }
    cluster.change(Change::TransferLeader(String::new())).await.expect("whoever is furthest");
    assert_ne!(cluster.places[cluster.leader().await].name, "c2");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adoption_whose_caller_went_away_is_finished() {
    let mut cluster = Cluster::of(1);
    cluster.run_all().await;
    let node = cluster.running[&0].node().clone();
    let directory = node.identity().await.directory;
    let id = ClusterId(Uuid::new_v4());
    let adopting = std::pin::pin!(node.adopt(directory, id, NodeId(1)));
    // It is polled once, and dropped.
    assert!(futures::FutureExt::now_or_never(adopting).is_none());
    eventually("a replica of the adopted directory", async || node.replica().map(drop)).await;
    node.adopt(directory, id, NodeId(1)).await.expect("adopting it again is harmless");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_coordinator_is_not_added() {
    let (cluster, _) = Cluster::start(1).await;
    let (stranger, other) = Cluster::start(1).await;
    let refused = cluster.change(Change::Add(stranger.places[0].raft_address())).await.expect_err("not ours");
    assert!(refused.message().contains(&other.to_string()), "{refused}");
    assert_eq!(kind(&refused), ErrorKind::User);
}
