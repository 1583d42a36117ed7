//! The job client against stand-in coordinators over real connections.

pub(crate) mod standin;

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidemill_model::id::{BlobId, JobId};
use tidemill_model::job::{JobSettings, JobSpec, JobStatus, Program};
use tidemill_model::job_graph::JobGraph;
use tidemill_proto::pb;
use tidemill_proto::pb::job_status::Status;
use uuid::Uuid;

use self::standin::{Leadership, Standins, details};
use super::{Error, JobClient};

/// Long enough for any machine, so that no test depends on it.
const GENEROUS: Duration = Duration::from_secs(120);

fn job() -> JobId {
    JobId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001))
}

fn client(standins: &Standins) -> JobClient {
    JobClient::new(standins.addresses()).with_timeout(GENEROUS)
}

fn hurried(standins: &Standins) -> JobClient {
    JobClient::new(standins.addresses()).with_timeout(Duration::from_millis(100))
}

fn spec() -> JobSpec {
    let (graph, settings) = (JobGraph::default(), JobSettings::default());
    JobSpec { id: job(), name: "word count".to_owned(), graph, program: Program::InProcess, settings }
}

fn finished() -> Status {
    Status::Finished(pb::JobResult { job: details(job(), Status::Canceled(pb::Empty {})).id, ..Default::default() })
}

#[tokio::test]
async fn a_named_leader_is_followed_and_remembered() {
    let standins = Standins::start(3, Leadership::Leader(2)).await;
    let client = client(&standins);
    assert_eq!(client.submit_job(&spec()).await, Ok(true));
    assert_eq!(client.submit_job(&spec()).await, Ok(false), "a repeated submission is the same job");
    assert_eq!(client.list_jobs().await.unwrap().len(), 1);
    assert!(standins.calls("submit_job").len() <= 3, "at most one redirect");
    assert_eq!(standins.calls("list_jobs"), [2]);
}

#[tokio::test]
async fn a_dead_leader_is_replaced_by_the_one_that_the_others_name() {
    let mut standins = Standins::start(3, Leadership::Leader(0)).await;
    let client = client(&standins);
    client.list_jobs().await.unwrap();
    standins.stop(0);
    standins.world.leadership.send_replace(Leadership::Leader(1));
    client.list_jobs().await.unwrap();
    assert_eq!(standins.calls("list_jobs").last(), Some(&1));
}

#[tokio::test]
async fn a_call_waits_for_an_election() {
    let standins = Standins::start(3, Leadership::Nobody).await;
    let client = client(&standins);
    let elect = async {
        // The client has been refused by everybody at least once.
        while standins.calls("list_jobs").len() < 4 {
            tokio::task::yield_now().await;
        }
        standins.world.leadership.send_replace(Leadership::Leader(1));
    };
    let (jobs, ()) = tokio::join!(client.list_jobs(), elect);
    assert_eq!(jobs, Ok(Vec::new()));
}

#[tokio::test]
async fn without_a_leader_the_error_says_so_after_the_time_out() {
    let standins = Standins::start(3, Leadership::Nobody).await;
    let error = hurried(&standins).list_jobs().await.unwrap_err();
    assert!(matches!(&error, Error::NoLeader { last, .. } if last.ends_with("an election is held")), "{error}");
    assert!(error.retryable());
}

#[tokio::test]
async fn when_nobody_answers_the_error_names_the_addresses_and_the_reason() {
    let mut standins = Standins::start(2, Leadership::Leader(0)).await;
    standins.stop(0);
    standins.stop(1);
    let client = hurried(&standins);
    // A stopping server may still answer for a moment.
    let error = loop {
        if let Err(error) = client.list_jobs().await {
            break error;
        }
    };
    let text = error.to_string();
    assert!(matches!(error, Error::AllUnreachable { .. }), "{text}");
    assert!(standins.addresses().iter().all(|address| text.contains(address)), "{text}");
    assert!(text.contains("refused"), "{text}");
}

#[tokio::test]
async fn an_uninitialized_cluster_says_what_to_run_at_once() {
    let standins = Standins::start(3, Leadership::NotInitialized).await;
    let client = client(&standins);
    assert_eq!(client.list_jobs().await, Err(Error::NotInitialized));
    let cluster = client.init_cluster().await.unwrap();
    assert_eq!(client.init_cluster().await, Ok(cluster));
    assert_eq!(standins.calls("init_cluster"), [0, 0], "always the same one is asked");
    assert_eq!(client.list_jobs().await, Ok(Vec::new()));
}

#[tokio::test]
async fn an_unknown_job_is_an_error_of_its_own() {
    let standins = Standins::start(3, Leadership::Leader(1)).await;
    let client = client(&standins);
    assert!(matches!(client.get_job(job()).await, Err(Error::NotFound(_))));
    assert!(matches!(client.cancel_job(job()).await, Err(Error::NotFound(_))));
    assert!(matches!(client.watch_job(job(), |_| ()).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_watch_goes_on_with_the_next_leader_without_repeating_itself() {
    let standins = Standins::start(3, Leadership::Leader(0)).await;
    standins.set_job(details(job(), Status::Running(pb::Empty {})));
    let client = client(&standins);
    let mut seen = Vec::new();
    let watch = client.watch_job(job(), |details| seen.push(details.status.name()));
    let change = async {
        while standins.calls("watch_job").is_empty() {
            tokio::task::yield_now().await;
        }
        standins.world.leadership.send_replace(Leadership::Nobody);
        standins.world.leadership.send_replace(Leadership::Leader(2));
        while !standins.calls("watch_job").contains(&2) {
            tokio::task::yield_now().await;
        }
        standins.set_job(details(job(), finished()));
    };
    let (end, ()) = tokio::join!(watch, change);
    assert!(matches!(end.unwrap().status, JobStatus::Finished(_)));
    // The first leader may have been deposed before its first answer, never is one repeated.
    assert!(seen == ["RUNNING", "FINISHED"] || seen == ["FINISHED"], "{seen:?}");
}

#[tokio::test]
async fn a_blob_travels_in_pieces_once_and_its_hash_is_checked() {
    let standins = Standins::start(2, Leadership::Leader(1)).await;
    let client = client(&standins);
    let bytes = Bytes::from((0..2_500_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect::<Vec<_>>());
    let id = client.put_blob(bytes.clone()).await.unwrap();
    assert_eq!(*standins.world.uploads.lock().unwrap(), [1 << 20, 1 << 20, 2_500_000 - (2 << 20)]);
    assert_eq!(client.put_blob(bytes.clone()).await, Ok(id));
    assert_eq!(standins.calls("put_blob").iter().filter(|&&index| index == 1).count(), 1, "it is there already");
    assert_eq!(client.get_blob(id).await.unwrap(), bytes, "the first stand-in lost it, the second has it");
}

#[tokio::test]
async fn a_file_becomes_the_same_blob_as_its_bytes() {
    let standins = Standins::start(1, Leadership::Leader(0)).await;
    let client = client(&standins);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"to be or not to be").unwrap();
    let id = client.put_blob_file(file.path()).await.unwrap();
    assert_eq!(id, BlobId(Sha256::digest(b"to be or not to be").into()));
    let missing = client.put_blob_file(std::path::Path::new("/no/such/file")).await;
    assert!(matches!(missing, Err(Error::File { path, .. }) if path == "/no/such/file"));
}

#[tokio::test]
async fn a_corrupt_blob_is_not_handed_out() {
    let standins = Standins::start(2, Leadership::Leader(1)).await;
    let client = hurried(&standins);
    let id = client.put_blob(Bytes::from_static(b"sound")).await.unwrap();
    let key = standins.world.blobs.lock().unwrap().keys().next().unwrap().clone();
    standins.world.blobs.lock().unwrap().insert(key, Bytes::from_static(b"rotten"));
    assert!(client.get_blob(id).await.is_err());
}

#[tokio::test]
async fn an_absent_blob_is_not_found_only_when_everybody_says_so() {
    let standins = Standins::start(3, Leadership::Leader(1)).await;
    assert!(matches!(client(&standins).get_blob(BlobId([9; 32])).await, Err(Error::NotFound(_))));
    let mut asked = standins.calls("get_blob");
    asked.sort_unstable();
    assert_eq!(asked, [0, 1, 2]);
}

#[tokio::test]
async fn the_status_of_a_cluster_is_told_by_each_coordinator() {
    let mut standins = Standins::start(3, Leadership::Leader(1)).await;
    standins.stop(2);
    let client = client(&standins);
    let status = client.cluster_status().await;
    assert_eq!(status.len(), 3);
    assert!(!status[0].1.as_ref().unwrap().from_leader());
    assert!(status[1].1.as_ref().unwrap().from_leader());
    assert_eq!(client.leader_status().await.unwrap().leader().unwrap().name, "coordinator-1");
}

#[test]
fn calls_can_be_made_from_tasks_on_other_threads() {
    fn is_send<T: Send>(_: &T) {}
    let client = JobClient::new(Vec::new());
    is_send(&client.watch_job(job(), |_| ()));
    is_send(&client.get_blob(BlobId([0; 32])));
    is_send(&client.put_blob(Bytes::new()));
    is_send(&client.leader_status());
}
