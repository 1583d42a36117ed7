//! Blobs, sessions and watching, over the wire; and what does not follow the contract is refused without harm.
#![cfg(feature = "raft")]

mod support;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use support::{Cluster, channel, eventually, job, kind};
use tidemill_model::id::{BlobId, TaskManagerId};
use tidemill_proto::convert;
use tidemill_proto::pb::raft_client::RaftClient;
use tidemill_proto::pb::task_manager_client::TaskManagerClient;
use tidemill_proto::pb::{self, ErrorKind};
use tidemill_proto::version::PROTOCOL_VERSION;
use tonic::{Code, Status};
use uuid::Uuid;

fn blob(length: usize) -> (BlobId, Bytes) {
    let bytes: Vec<u8> = (0..length).map(|index| u8::try_from(index % 251).expect("below 251")).collect();
    (BlobId(Sha256::digest(&bytes).into()), bytes.into())
}

async fn put(cluster: &Cluster, id: BlobId, bytes: &Bytes) -> Result<(), Status> {
    let mut chunks = vec![pb::BlobChunk { id: convert::blob_bytes(id), data: Bytes::new() }];
    let pieces = bytes.chunks(1 << 20).map(|piece| pb::BlobChunk { id: Bytes::new(), data: bytes.slice_ref(piece) });
    chunks.extend(pieces);
    eventually("whoever leads", async || {
        let leader = cluster.leader().await;
        match cluster.client(leader).put_blob(futures::stream::iter(chunks.clone())).await {
            Err(status) if support::lacks_leader(&status) => None,
            answer => Some(answer.map(drop)),
        }
    })
    .await
}

async fn get(cluster: &Cluster, index: usize, id: BlobId) -> Result<Vec<u8>, Status> {
    let mut answer = cluster.client(index).get_blob(pb::BlobId::from(id)).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.message().await? {
        bytes.extend_from_slice(&chunk.data);
    }
    Ok(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_on_a_majority_when_it_is_acknowledged_and_is_repaired() {
    let (cluster, _) = Cluster::start(3).await;
    let (id, bytes) = blob(3 << 20);
    put(&cluster, id, &bytes).await.expect("it fits");
    let holders = (0..3).filter(|index| cluster.running[index].node().blobs().contains(id)).count();
    assert!(holders >= 2, "only {holders} of 3 hold it");

    put(&cluster, id, &bytes).await.expect("an upload may be repeated");

    // Let the remaining copy end, then lose two.
    eventually("the third copy", async || {
        cluster.running.values().all(|c| c.node().blobs().contains(id)).then_some(())
    })
    .await;
    for index in [0, 1] {
        cluster.running[&index].node().blobs().remove(id).expect("removable");
    }
    eventually("its registration", async || {
        let answer = cluster.client(0).has_blob(pb::BlobId::from(id)).await.ok()?;
        answer.into_inner().exists.then_some(())
    })
    .await;
    assert_eq!(get(&cluster, 0, id).await.expect("fetched from the third"), bytes);
    cluster.running[&1].node().sweep_blobs().await.expect("readable");
    assert!(cluster.running[&1].node().blobs().contains(id), "the sweep fetches what is missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_without_a_majority_is_not_acknowledged() {
    let (mut cluster, _) = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let (id, bytes) = blob(1000);
    for index in (0..3).filter(|&index| index != leader) {
        cluster.stop(index).await;
    }
    let chunks = vec![pb::BlobChunk { id: convert::blob_bytes(id), data: bytes }];
    let status = cluster.client(leader).put_blob(futures::stream::iter(chunks)).await.expect_err("no majority");
    assert!(support::lacks_leader(&status), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_and_oversized_blobs_are_refused() {
    let (cluster, _) = Cluster::start(1).await;
    let (id, _) = blob(10);
    let wrong = put(&cluster, id, &Bytes::from_static(b"other bytes")).await.expect_err("another hash");
    assert_eq!(kind(&wrong), ErrorKind::User, "{wrong}");
    let (id, bytes) = blob(5 << 20);
    let large = put(&cluster, id, &bytes).await.expect_err("above the limit");
    assert!(large.message().contains("blob.max-size"), "{large}");
    let unknown = get(&cluster, 0, id).await.expect_err("not stored");
    assert_eq!(kind(&unknown), ErrorKind::NotFound, "{unknown}");
    let (id, bytes) = blob(100);
    put(&cluster, id, &bytes).await.expect("a sound one is fine");
    assert_eq!(get(&cluster, 0, id).await.expect("stored"), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_and_oversized_requests_are_refused_without_harm() {
    let (cluster, _) = Cluster::start(1).await;
    cluster.leader().await;
    let mut client = cluster.client(0);
    let short = pb::JobId { id: Bytes::from_static(b"abc") };
    for status in [
        client.submit_job(pb::SubmitJobRequest { spec: None }).await.expect_err("no job"),
        client.get_job(read(Bytes::from_static(b"abc"))).await.expect_err("no id"),
        client.cancel_job(short).await.expect_err("no id"),
    ] {
        assert_eq!(kind(&status), ErrorKind::User, "{status}");
    }
    let mut large = job();
    large.name = "x".repeat(3 << 20);
    let status = client.submit_job(pb::SubmitJobRequest { spec: Some(large.into()) }).await.expect_err("too large");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    let mut large = job();
    large.name = "x".repeat(3 << 19);
    let status = client.submit_job(pb::SubmitJobRequest { spec: Some(large.into()) }).await.expect_err("too large");
    assert_eq!(kind(&status), ErrorKind::User, "{status}");

    let replica = cluster.running[&0].node().replica().expect("a member");
    let mut raft = RaftClient::new(channel(&cluster.places[0].raft_address()));
    let frame = |cluster: Uuid, to_node: u64| pb::RaftFrame {
        cluster_id: convert::uuid_bytes(cluster),
        from_node: 9,
        to_node,
        payload: Bytes::from_static(b"\x01garbage that is no message"),
        protocol_version: PROTOCOL_VERSION,
    };
    let status = raft.vote(frame(replica.cluster.0, 1)).await.expect_err("no vote");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let status = raft.append_entries(frame(Uuid::nil(), 1)).await.expect_err("another cluster");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let status = raft.fetch_blob(pb::BlobId { id: Bytes::from(vec![0; 32]) }).await.expect_err("for no cluster");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let status = raft.append_entries(frame(replica.cluster.0, 2)).await.expect_err("another node");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let frames = futures::stream::iter([frame(replica.cluster.0, 1)]);
    let status = raft.snapshot(frames).await.expect_err("no snapshot");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    cluster.submit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_the_job_up_to_its_end() {
    let (cluster, _) = Cluster::start(1).await;
    let job = cluster.submit().await;
    let mut client = cluster.client(0);
    let mut watching = client.watch_job(read(pb::JobId::from(job).id)).await.expect("it exists").into_inner();
    let first = watching.message().await.expect("a version").expect("a version");
    assert_eq!(first.history.last().map(|entry| entry.status.as_str()), Some("CREATED"));
    client.cancel_job(pb::JobId::from(job)).await.expect("it can be cancelled");
    let mut last = first;
    while let Some(details) = watching.message().await.expect("no failure") {
        last = details;
    }
    assert_eq!(last.history.last().map(|entry| entry.status.as_str()), Some("CANCELED"));
}

fn read(id: Bytes) -> pb::ReadJobRequest {
    pb::ReadJobRequest { id, ..pb::ReadJobRequest::default() }
}

fn hello(cluster_id: Bytes) -> pb::TaskManagerMessage {
    let hello = pb::Hello {
        cluster_id,
        task_manager_id: convert::uuid_bytes(TaskManagerId(Uuid::new_v4()).0),
        name: "tm-1".to_owned(),
        data_address: "127.0.0.1:1".to_owned(),
        slots: 2,
        slot_memory_bytes: 1 << 20,
        process_id: 1,
        fence: 0,
        protocol_version: PROTOCOL_VERSION,
    };
    pb::TaskManagerMessage { message: Some(pb::task_manager_message::Message::Hello(hello)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_begins_with_a_welcome_and_ends_with_the_leadership() {
    let (mut cluster, id) = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let mut client = TaskManagerClient::new(channel(&cluster.places[leader].client_address()));
    let inbound = futures::StreamExt::chain(futures::stream::iter([hello(Bytes::new())]), futures::stream::pending());
    let mut session = client.session(inbound).await.expect("the leader lets it in").into_inner();
    let first = session.message().await.expect("a message").expect("a message");
    let Some(pb::coordinator_message::Message::Welcome(welcome)) = first.message else { panic!("{first:?}") };
    assert_eq!(welcome.cluster_id, convert::uuid_bytes(id.0));

    for index in (0..3).filter(|&index| index != leader) {
        cluster.stop(index).await;
    }
    let end = loop {
        match session.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the end has a reason"),
            Err(status) => break status,
        }
    };
    assert!(support::lacks_leader(&end), "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_a_hello_or_of_another_cluster_is_refused() {
    let (cluster, _) = Cluster::start(1).await;
    cluster.leader().await;
    let mut client = TaskManagerClient::new(channel(&cluster.places[0].client_address()));
    let heartbeat = pb::Heartbeat { sequence: 1, progress: Vec::new() };
    let heartbeat = pb::TaskManagerMessage { message: Some(pb::task_manager_message::Message::Heartbeat(heartbeat)) };
    let status = client.session(futures::stream::iter([heartbeat])).await.expect_err("no hello");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let stranger = hello(convert::uuid_bytes(Uuid::new_v4()));
    let status = client.session(futures::stream::iter([stranger])).await.expect_err("another cluster");
    assert!(status.message().contains("belongs to cluster"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chaos_api_writes_swaps_appends_and_reads() {
    use pb::chaos_request::Operation;
    let (cluster, _) = Cluster::start(3).await;
    let ask = async |operation: Operation| {
        let request = pb::ChaosRequest { key: "k".to_owned(), operation: Some(operation) };
        eventually("whoever leads", async || {
            let leader = cluster.leader().await;
            match cluster.client(leader).chaos(request.clone()).await {
                Err(status) if support::lacks_leader(&status) => None,
                answer => Some(answer.map(tonic::Response::into_inner)),
            }
        })
        .await
        .expect("it is open")
    };
    let written = ask(Operation::Write(4)).await;
    assert!(written.done && written.log_index > 0);
    let refused = ask(Operation::Swap(pb::ChaosSwap { expect: Some(5), value: 6 })).await;
    assert_eq!((refused.done, refused.register), (false, Some(4)));
    assert!(refused.log_index > written.log_index);
    let read = ask(Operation::Read(pb::ChaosRead {})).await;
    assert_eq!((read.register, read.list.is_empty()), (Some(4), true));
    assert!(read.log_index >= refused.log_index, "a read sees what was acknowledged before it");
    let swapped = ask(Operation::Swap(pb::ChaosSwap { expect: Some(4), value: 6 })).await;
    assert!(swapped.done);
    assert!(ask(Operation::Append(7)).await.done);
    let read = ask(Operation::Read(pb::ChaosRead {})).await;
    assert_eq!((read.register, read.list), (Some(6), vec![7]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chaos_api_is_closed_unless_it_was_opened() {
    let mut cluster = Cluster::of(1);
    cluster.chaos_api = tidemill_coordinator::runtime::server::ChaosApi::Closed;
    cluster.run_all().await;
    cluster.init(0).await.expect("it answers");
    let status = eventually("the leader's refusal", async || {
        let request = pb::ChaosRequest {
            key: "k".to_owned(),
            operation: Some(pb::chaos_request::Operation::Read(pb::ChaosRead {})),
        };
        let status = cluster.client(0).chaos(request).await.expect_err("closed");
        (!support::lacks_leader(&status)).then_some(status)
    })
    .await;
    assert_eq!(kind(&status), ErrorKind::User);
    assert!(status.message().contains("coordinator.chaos-api"), "{status}");
}
