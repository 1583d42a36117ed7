//! Clusters of coordinators keep what they acknowledged, whoever of them is lost.
#![cfg(feature = "raft")]

mod support;

use support::{Cluster, eventually, job, kind, lacks_leader};
use tidemill_coordinator::runtime::replicated_log::{Leadership, ReplicatedLog};
use tidemill_proto::convert;
use tidemill_proto::pb::{self, ErrorKind};
use tonic::Status;

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_hold_the_same_state() {
    let (cluster, _) = Cluster::start(3).await;
    let mut jobs = Vec::new();
    for _ in 0..20 {
        jobs.push(cluster.submit().await);
    }
    cluster.assert_equal_states().await;
    for index in 0..3 {
        assert!(jobs.iter().all(|&job| cluster.has_job(index, job)), "replica {index} lacks a job");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_leads_when_the_leader_is_lost_and_nothing_is_forgotten() {
    let (mut cluster, _) = Cluster::start(3).await;
    let before = cluster.submit().await;
    let lost = cluster.leader().await;
    let epoch = cluster.status(lost).await.expect("it answers").epoch;
    cluster.stop(lost).await;

    let after = cluster.submit().await;
    let leader = cluster.leader().await;
    assert_ne!(leader, lost);
    assert!(cluster.has_job(leader, before) && cluster.has_job(leader, after));
    assert!(cluster.status(leader).await.expect("it answers").epoch > epoch, "an epoch never comes twice");

    cluster.run(lost).await;
    cluster.assert_equal_states().await;
    assert!(cluster.has_job(lost, after), "the lost one catches up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_shutdown_hands_leadership_over() {
    let (mut cluster, _) = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.running.remove(&leader).expect("it runs").shutdown().await;
    cluster.submit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_was_stopped_has_everything_when_it_starts_again() {
    let (mut cluster, id) = Cluster::start(3).await;
    let mut jobs = Vec::new();
    for _ in 0..10 {
        jobs.push(cluster.submit().await);
    }
    cluster.stop_all().await;
    cluster.run_all().await;
    let leader = cluster.leader().await;
    assert!(jobs.iter().all(|&job| cluster.has_job(leader, job)));
    cluster.assert_equal_states().await;
    assert_eq!(cluster.init(0).await.expect("it answers"), id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_coordinator_is_a_cluster_that_restarts_from_its_snapshot() {
    let mut cluster = Cluster::of(1);
    cluster.snapshot_every = 10;
    cluster.run_all().await;
    cluster.init(0).await.expect("alone is enough");
    let mut jobs = Vec::new();
    for _ in 0..40 {
        jobs.push(cluster.submit().await);
    }
    eventually("a snapshot", async || (cluster.log(0).status().snapshot_index > 0).then_some(())).await;
    cluster.stop_all().await;
    cluster.run_all().await;
    let leader = cluster.leader().await;
    assert!(jobs.iter().all(|&job| cluster.has_job(leader, job)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::of(3);
    cluster.snapshot_every = 20;
    cluster.run_all().await;
    cluster.init(0).await.expect("they all answer");
    cluster.submit().await;
    let behind = cluster.follower().await;
    let end = cluster.log(behind).status().last_log_index;
    cluster.stop(behind).await;
    let mut last = cluster.submit().await;
    for _ in 0..150 {
        last = cluster.submit().await;
    }
    let leader = cluster.leader().await;
    // At most `snapshot_every` entries stay behind a snapshot: what the replica needs is not in the log any more.
    eventually("a later snapshot", async || (cluster.log(leader).status().snapshot_index > end + 60).then_some(()))
        .await;
    cluster.run(behind).await;
    eventually("the last job", async || cluster.has_job(behind, last).then_some(())).await;
    assert!(cluster.log(behind).status().snapshot_index > end, "it came by snapshot");
    cluster.assert_equal_states().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_its_quorum_stops_leading() {
    let (mut cluster, _) = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let mut leadership = cluster.log(leader).leadership();
    for index in (0..3).filter(|&index| index != leader) {
        cluster.stop(index).await;
    }
    eventually("the end of leadership", async || {
        (*leadership.borrow_and_update() == Leadership::Follower { leader: None }).then_some(())
    })
    .await;
    let request = || pb::SubmitJobRequest { spec: Some(job().into()) };
    let status = cluster.client(leader).submit_job(request()).await.expect_err("no quorum");
    assert_eq!(kind(&status), ErrorKind::NoLeader, "{status}");
    let status = cluster.client(leader).list_jobs(pb::ListJobsRequest::default()).await.expect_err("no quorum");
    assert_eq!(kind(&status), ErrorKind::NoLeader, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_names_the_leader_for_what_only_the_leader_does() {
    let (cluster, _) = Cluster::start(3).await;
    let follower = cluster.follower().await;
    let unknown = pb::JobId::from(job().id);
    let mut client = cluster.client(follower);
    // Leadership may move on a busy machine: what counts is that nothing but the lack of leadership is ever said.
    let refused = |status: &Status| {
        assert!(lacks_leader(status), "{status}");
        convert::error_detail(status).and_then(|detail| detail.leader)
    };
    let address = eventually("the leader's address", async || {
        client.cancel_job(unknown.clone()).await.err().as_ref().and_then(refused)
    })
    .await;
    assert!(cluster.places.iter().any(|place| place.client_address() == address), "{address}");
    let submitted = client.submit_job(pb::SubmitJobRequest { spec: Some(job().into()) }).await;
    refused(&submitted.expect_err("not the leader"));
}
