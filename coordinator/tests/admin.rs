//! What observers see on the HTTP port: Raft, the log and the checksum, as JSON.
#![cfg(feature = "raft")]

mod support;

use std::collections::BTreeMap;

use serde_json::Value;
use support::{Cluster, eventually};

/// The body of an answer that says 200.
async fn body(cluster: &Cluster, index: usize, path: &str) -> String {
    let answer = cluster.http(index, path).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    answer.split_once("\r\n\r\n").expect("an HTTP answer").1.to_owned()
}

async fn json(cluster: &Cluster, index: usize, path: &str) -> Value {
    serde_json::from_str(&body(cluster, index, path).await).expect("JSON")
}

/// The whole log of a replica, by index.
async fn log(cluster: &Cluster, index: usize) -> BTreeMap<u64, Value> {
    let lines = body(cluster, index, "/raftlog?from=0&limit=10000").await;
    let entries = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    entries.map(|entry| (entry["index"].as_u64().expect("a number"), entry)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_replicas_show_the_same_log_and_the_same_checksum() {
    let (cluster, id) = Cluster::start(3).await;
    let job = cluster.submit().await;
    let last = cluster.submit().await;
    for index in 0..3 {
        eventually("the last job", async || cluster.has_job(index, last).then_some(())).await;
    }
    let logs = [log(&cluster, 0).await, log(&cluster, 1).await, log(&cluster, 2).await];
    let common = logs.iter().map(BTreeMap::len).min().expect("three");
    for index in 0..u64::try_from(common).expect("few") {
        assert!(logs.iter().all(|log| log[&index] == logs[0][&index]), "the logs differ at {index}");
    }
    let submitted = logs[0].values().find(|entry| entry["job"] == job.to_string()).expect("it is in the log");
    assert_eq!(submitted["kind"], "SubmitJob");
    assert!(submitted["epoch"].as_u64() > Some(0) && submitted["term"].as_u64() > Some(0), "{submitted}");
    assert_eq!(logs[0][&0]["kind"], "Membership");
    let part = body(&cluster, 0, "/raftlog?from=1&limit=2").await;
    assert_eq!(part.lines().count(), 2);

    let leader = cluster.leader().await;
    let raft = json(&cluster, leader, "/raft").await;
    assert_eq!(raft["cluster"], id.to_string());
    assert_eq!((&raft["state"], &raft["leader"]), (&"Leader".into(), &raft["node"]), "{raft}");
    assert_eq!(raft["membership"]["voters"], serde_json::json!([[1, 2, 3]]));
    assert_eq!(raft["membership"]["members"].as_array().map(Vec::len), Some(3));
    assert!(raft["last_quorum_ack_ms"].is_u64() && raft["epoch"].as_u64() > Some(0), "{raft}");

    eventually("equal checksums at one index", async || {
        let seen = [
            json(&cluster, 0, "/checksum").await,
            json(&cluster, 1, "/checksum").await,
            json(&cluster, 2, "/checksum").await,
        ];
        if !seen.iter().all(|one| one["applied_index"] == seen[0]["applied_index"]) {
            return None;
        }
        assert!(seen.iter().all(|one| one["checksum"] == seen[0]["checksum"]), "{seen:?}");
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_question_and_a_waiting_coordinator_are_told_so() {
    let mut cluster = Cluster::of(1);
    cluster.run_all().await;
    let waiting = cluster.http(0, "/raft").await;
    assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("waits"), "{waiting}");
    cluster.init(0).await.expect("alone is enough");
    let wrong = cluster.http(0, "/raftlog?from=first").await;
    assert!(wrong.starts_with("HTTP/1.1 400") && wrong.contains("from=first"), "{wrong}");
}
