//! Reads on any replica know what was acknowledged before, or say how old they are.
#![cfg(feature = "raft")]

mod support;

use support::{Cluster, channel, eventually, job, kind, lacks_leader};
use tidemill_model::id::JobId;
use tidemill_proto::pb::client_client::ClientClient;
use tidemill_proto::pb::{self, ErrorKind, ReadConsistency};
use tidemill_proto::version::{PROTOCOL_METADATA, PROTOCOL_VERSION};
use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};

async fn jobs(
    cluster: &Cluster,
    index: usize,
    consistency: ReadConsistency,
) -> Result<(Vec<JobId>, pb::ReadInfo), Status> {
    let request = pb::ListJobsRequest { consistency: consistency.into() };
    let answer = cluster.client(index).list_jobs(request).await?.into_inner();
    let ids = answer.jobs.iter().map(|job| tidemill_proto::convert::job_id(&job.id, "id").expect("sound")).collect();
    Ok((ids, answer.read.expect("every read says what it rests on")))
}

fn read(job: JobId, consistency: ReadConsistency) -> pb::ReadJobRequest {
    pb::ReadJobRequest { id: pb::JobId::from(job).id, consistency: consistency.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_knows_what_was_acknowledged_before_it_was_asked() {
    let (cluster, _) = Cluster::start(3).await;
    for _ in 0..30 {
        let submitted = cluster.submit().await;
        for index in 0..3 {
            for consistency in [ReadConsistency::Unspecified, ReadConsistency::Linearizable, ReadConsistency::Lease] {
                // Leadership may move on a busy machine; then a replica refuses, and never leaves the job out.
                let (known, _) = eventually("an answer", async || match jobs(&cluster, index, consistency).await {
                    Ok(answer) => Some(answer),
                    Err(status) => {
                        assert!(lacks_leader(&status), "{status}");
                        None
                    }
                })
                .await;
                assert!(known.contains(&submitted), "replica {index} does not know an acknowledged job");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_tells_what_only_the_leader_observes() {
    let (cluster, _) = Cluster::start(3).await;
    let job = cluster.submit().await;
    let details = eventually("the leader's reason for waiting, told by a follower", async || {
        let follower = cluster.follower().await;
        let request = read(job, ReadConsistency::Linearizable);
        let details = cluster.client(follower).get_job(request).await.ok()?.into_inner();
        details.waiting_reason.is_some().then_some(details)
    })
    .await;
    assert_eq!(details.read.expect("it says").consistency(), ReadConsistency::Linearizable);
    let unknown = support::job().id;
    for index in 0..3 {
        let refused = eventually("an answer about an unknown job", async || {
            let refused = cluster.client(index).get_job(read(unknown, ReadConsistency::Linearizable)).await;
            refused.err().filter(|status| !lacks_leader(status))
        })
        .await;
        assert_eq!(kind(&refused), ErrorKind::NotFound, "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_is_watched_to_the_end_of_a_job() {
    let (cluster, _) = Cluster::start(3).await;
    let job = cluster.submit().await;
    let follower = cluster.follower().await;
    let mut watching = eventually("a watch", async || {
        cluster.client(follower).watch_job(read(job, ReadConsistency::Linearizable)).await.ok()
    })
    .await
    .into_inner();
    let first = watching.message().await.expect("no failure").expect("the job as it stands");
    assert_eq!(first.id, pb::JobId::from(job).id);
    eventually("an accepted cancellation", async || {
        cluster.client(cluster.leader().await).cancel_job(pb::JobId::from(job)).await.ok()
    })
    .await;
    let mut last = first;
    while let Ok(Some(details)) = watching.message().await {
        last = details;
    }
    if last.history.last().is_none_or(|entry| entry.status != "CANCELED") {
        // The leadership changed meanwhile: the watch ended with a refusal, as a client expects.
        assert!(cluster.status(follower).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_only_stale_reads_answer_and_they_age() {
    let (mut cluster, _) = Cluster::start(3).await;
    let job = cluster.submit().await;
    let left = cluster.follower().await;
    eventually("the job on the one that will be left", async || cluster.has_job(left, job).then_some(())).await;
    for index in (0..3).filter(|&index| index != left) {
        cluster.stop(index).await;
    }
    for consistency in [ReadConsistency::Linearizable, ReadConsistency::Lease] {
        let refused = jobs(&cluster, left, consistency).await.expect_err("no quorum");
        assert!(lacks_leader(&refused), "{refused}");
    }
    let (known, first) = jobs(&cluster, left, ReadConsistency::Stale).await.expect("it needs no leader");
    assert!(known.contains(&job));
    let age = first.age_ms.expect("it has heard of a leader");
    eventually("a stale answer that is older", async || {
        let (_, read) = jobs(&cluster, left, ReadConsistency::Stale).await.ok()?;
        assert_eq!(read.applied_index, first.applied_index);
        (read.age_ms? > age + 50).then_some(())
    })
    .await;
    let details = cluster.client(left).get_job(read(job, ReadConsistency::Stale)).await.expect("here").into_inner();
    assert_eq!(details.read.expect("it says").consistency(), ReadConsistency::Stale);
    eventually("a status that names no leader", async || {
        let status = cluster.status(left).await.expect("a status needs no leader");
        status.nodes.iter().all(|node| !node.leader).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_newer_protocol_is_refused_and_told_why() {
    let (cluster, _) = Cluster::start(1).await;
    cluster.leader().await;
    let version = MetadataValue::<Ascii>::from(PROTOCOL_VERSION + 1);
    let newer = move |mut request: tonic::Request<()>| {
        request.metadata_mut().insert(PROTOCOL_METADATA, version.clone());
        Ok(request)
    };
    let mut client = ClientClient::with_interceptor(channel(&cluster.places[0].client_address()), newer);
    let refused = client.submit_job(pb::SubmitJobRequest { spec: Some(job().into()) }).await.expect_err("newer");
    assert_eq!(kind(&refused), ErrorKind::User);
    assert!(refused.message().contains("upgrade this process"), "{refused}");
}
