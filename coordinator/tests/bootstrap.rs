//! A cluster is made once, and no directory ever becomes another member than it is.
#![cfg(feature = "raft")]

mod support;

use support::{Cluster, eventually, kind};
use tidemill_coordinator::runtime::server::{Coordinator, DataDirectoryError, Error};
use tidemill_proto::pb::{self, ErrorKind};

#[tokio::test(flavor = "multi_thread")]
async fn making_a_cluster_again_answers_the_same_one() {
    let (cluster, id) = Cluster::start(3).await;
    for index in [0, 1, 2, 0] {
        assert_eq!(cluster.init(index).await.expect("it is made"), id);
    }
    let status = cluster.status(1).await.expect("it answers");
    let nodes: Vec<_> = status.nodes.iter().map(|node| (node.node_id, node.name.as_str())).collect();
    assert_eq!(nodes, [(1, "c1"), (2, "c2"), (3, "c3")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_not_made_while_a_coordinator_is_missing() {
    let mut cluster = Cluster::of(3);
    cluster.run(0).await;
    cluster.run(1).await;
    let missing = cluster.init(0).await.expect_err("one is missing");
    assert!(missing.message().contains(&cluster.places[2].raft_address()), "{missing}");
    let waiting = cluster.http(0, "/ready").await;
    assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("cluster init"), "{waiting}");
    let status = cluster.status(0).await.expect_err("no cluster yet");
    assert_eq!(kind(&status), ErrorKind::NotInitialized);

    cluster.run(2).await;
    cluster.init(1).await.expect("now they all answer");
    cluster.leader().await;
    let ready = eventually("readiness", async || {
        let ready = cluster.http(0, "/ready").await;
        ready.starts_with("HTTP/1.1 200").then_some(ready)
    })
    .await;
    assert!(ready.contains("ready"));
    let metrics = cluster.http(0, "/metrics").await;
    assert!(metrics.contains("tidemill_coordinator_raft_applied_index"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_making_is_finished_by_the_next_one() {
    let mut cluster = Cluster::of(3);
    cluster.run_all().await;
    // As if the maker had stopped after the first directory.
    let first = cluster.running[&0].node().clone();
    let id = first.plan_cluster(tidemill_model::id::ClusterId(uuid::Uuid::new_v4())).await.expect("writable");
    let directory = first.identity().await.directory;
    first.adopt(directory, id, tidemill_model::id::NodeId(1)).await.expect("it is empty");
    cluster.stop_all().await;
    cluster.run_all().await;
    assert_eq!(cluster.init(2).await.expect("they all answer"), id);
    cluster.submit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_directory_is_refused() {
    let (cluster, _) = Cluster::start(1).await;
    let mut settings = cluster.places[0].settings(cluster.join(), 1000);
    (settings.client_port, settings.raft_port, settings.http_port) = (0, 0, 0);
    let refused = Coordinator::start(settings).await.err().expect("the directory is in use");
    assert!(matches!(refused, Error::Directory(DataDirectoryError::InUse { .. })), "{refused}");
    cluster.submit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_directory_only_waits() {
    let (mut cluster, id) = Cluster::start(3).await;
    let wiped = cluster.follower().await;
    cluster.stop(wiped).await;
    cluster.places[wiped] = cluster.places[wiped].with_other_dir();
    cluster.run(wiped).await;

    let refused = cluster.init(wiped).await.expect_err("its place is not free");
    assert!(refused.message().contains("has forgotten that member's votes"), "{refused}");
    let other = (wiped + 1) % 3;
    assert_eq!(cluster.init(other).await.expect("it is made"), id);
    cluster.submit().await;
    assert_eq!(cluster.running[&wiped].node().identity().await.member, None, "an empty directory must not vote");
    let status = cluster.client(wiped).list_jobs(pb::ListJobsRequest::default()).await.expect_err("it is nobody");
    assert_eq!(kind(&status), ErrorKind::NotInitialized);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_log_is_gone_does_not_start() {
    let (mut cluster, _) = Cluster::start(1).await;
    cluster.stop(0).await;
    std::fs::remove_dir_all(cluster.places[0].dir.path().join("raft")).expect("removable");
    let refused = Coordinator::start(cluster.places[0].settings(cluster.join(), 1000)).await.err();
    let refused = refused.expect("amnesia").to_string();
    assert!(refused.contains("does not exist although this directory is a member"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_directory_is_refused_and_does_no_harm() {
    let (mut cluster, _) = Cluster::start(3).await;
    let replaced = cluster.follower().await;
    cluster.stop(replaced).await;

    let mut stranger = Cluster::of(1);
    stranger.places[0] = cluster.places[replaced].with_other_dir();
    stranger.run_all().await;
    let other = stranger.init(0).await.expect("alone is enough");
    let job = cluster.submit().await;
    let leader = cluster.leader().await;
    let names = |reason: &String| reason.contains(&other.to_string());
    eventually("a refusal that names the other cluster", async || {
        cluster.log(leader).refusals().list().values().any(names).then_some(())
    })
    .await;
    assert!(!stranger.has_job(0, job), "no entry crosses between clusters");
}
