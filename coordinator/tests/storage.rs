//! Real files, damaged by hand: what was torn is cut off, what was damaged is refused by name; and the disk that a log
//! needs is bounded.
#![cfg(feature = "raft")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::{Cluster, eventually, job};
use tidemill_coordinator::runtime::replicated_log::ReplicatedLog;
use tidemill_coordinator::runtime::server::Coordinator;
use tidemill_proto::pb;

/// How many jobs the only coordinator knows.
fn jobs(cluster: &Cluster) -> usize {
    cluster.log(0).state().read(|state| state.jobs.len())
}

/// RocksDB's WAL is a list of blocks; a record's header has its checksum (4 bytes), length (2) and type.
const BLOCK_BYTES: usize = 32 << 10;
const RECORD_HEADER_BYTES: usize = 7;

/// Where the records' contents lie in a WAL.
fn records(wal: &[u8]) -> Vec<std::ops::Range<usize>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at + RECORD_HEADER_BYTES <= wal.len() {
        let length = usize::from(u16::from_le_bytes([wal[at + 4], wal[at + 5]]));
        let start = at + RECORD_HEADER_BYTES;
        if length > 0 && start + length <= wal.len() {
            found.push(start..start + length);
        }
        at = start + length;
        if BLOCK_BYTES - at % BLOCK_BYTES < RECORD_HEADER_BYTES {
            at = at.next_multiple_of(BLOCK_BYTES);
        }
    }
    found
}

/// A single coordinator that was stopped after some jobs, without a snapshot.
async fn stopped(jobs: usize) -> Cluster {
    let (mut cluster, _) = Cluster::start(1).await;
    for _ in 0..jobs {
        cluster.submit().await;
    }
    cluster.stop_all().await;
    cluster
}

fn files(cluster: &Cluster, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(raft(cluster)).expect("the folder of the log");
    let paths = entries.map(|entry| entry.expect("readable").path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    paths.sort();
    paths
}

fn raft(cluster: &Cluster) -> PathBuf {
    cluster.places[0].dir.path().join("raft")
}

fn flip(path: &Path, position: usize) {
    let mut bytes = fs::read(path).expect("readable");
    bytes[position] ^= 0x40;
    fs::write(path, bytes).expect("writable");
}

/// Why the coordinator does not start.
async fn refusal(cluster: &Cluster) -> String {
    let settings = cluster.places[0].settings(cluster.join(), 10_000);
    let started = Coordinator::start(settings).await;
    let error = started.err().expect("it must not start on damaged files").to_string();
    assert!(error.contains(&raft(cluster).display().to_string()), "the folder is not named: {error}");
    error
}

/// The newest WAL that has anything in it.
fn wal(cluster: &Cluster) -> PathBuf {
    let wals = files(cluster, "log");
    let filled = wals.into_iter().rfind(|path| fs::metadata(path).expect("there").len() > 0);
    filled.expect("RocksDB keeps what it has not flushed in its WAL")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_last_record_is_cut_off() {
    let mut cluster = stopped(20).await;
    let wal = wal(&cluster);
    let bytes = fs::read(&wal).expect("readable");
    // What the machine was writing when it stopped: the beginning of a record that is longer than what follows.
    let torn = [&bytes[..], &[1, 2, 3, 4, 200, 10, 1, 7, 7, 7]].concat();
    fs::write(&wal, torn).expect("writable");
    cluster.run_all().await;
    cluster.leader().await;
    assert_eq!(jobs(&cluster), 20, "every acknowledged job is there");
    cluster.submit().await;
    cluster.stop_all().await;

    // And one that was cut off in its middle.
    let wal = self::wal(&cluster);
    let bytes = fs::read(&wal).expect("readable");
    fs::write(&wal, &bytes[..bytes.len() - 3]).expect("writable");
    cluster.run_all().await;
    cluster.submit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_in_the_wal_is_refused() {
    let cluster = stopped(20).await;
    let wal = wal(&cluster);
    let sound = fs::read(&wal).expect("readable");
    let records = records(&sound);
    assert!(records.len() > 20, "a record for each append: {}", records.len());
    for record in [&records[0], &records[records.len() / 2], &records[records.len() - 1]] {
        flip(&wal, record.start + record.len() / 2);
        let error = refusal(&cluster).await;
        assert!(error.contains("Corruption"), "{error}");
        fs::write(&wal, &sound).expect("writable");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_block_of_a_table_is_refused() {
    let mut cluster = stopped(20).await;
    // The next start moves what is in the WAL into tables.
    cluster.run_all().await;
    cluster.leader().await;
    cluster.stop_all().await;
    let tables = files(&cluster, "sst");
    assert!(!tables.is_empty(), "no table was written");
    for table in tables {
        let sound = fs::read(&table).expect("readable");
        flip(&table, 10);
        let error = refusal(&cluster).await;
        assert!(error.contains("Corruption") || error.contains("checksum"), "{error}");
        fs::write(&table, &sound).expect("writable");
    }
    cluster.run_all().await;
    cluster.submit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_table_is_refused() {
    let mut cluster = stopped(20).await;
    cluster.run_all().await;
    cluster.leader().await;
    cluster.stop_all().await;
    let table = files(&cluster, "sst").remove(0);
    let aside = table.with_extension("aside");
    fs::rename(&table, &aside).expect("writable");
    let error = refusal(&cluster).await;
    let name = table.file_name().expect("a file").to_string_lossy().into_owned();
    assert!(error.contains(&name), "the file is not named: {error}");
    fs::rename(aside, table).expect("writable");
    cluster.run_all().await;
    cluster.submit().await;
}

/// Everything below a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("readable").map_while(Result::ok);
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        // RocksDB has just removed it.
        Err(_) => 0,
    });
    sizes.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_that_a_log_needs_does_not_grow_with_it() {
    const JOBS: usize = 1200;
    const NAME_BYTES: usize = 256 << 10;
    const BOUND: u64 = 150 << 20;
    let mut cluster = Cluster::of(1);
    let mut settings = cluster.places[0].settings(cluster.join(), 50);
    settings.leader.history_size = 5;
    cluster.running.insert(0, Coordinator::start(settings).await.expect("it starts"));
    cluster.init(0).await.expect("alone is enough");
    let mut client = cluster.client(cluster.leader().await);
    let mut peak = 0;
    for number in 0..JOBS {
        let mut spec = job();
        spec.name = "x".repeat(NAME_BYTES);
        let id = pb::JobId::from(spec.id);
        client.submit_job(pb::SubmitJobRequest { spec: Some(spec.into()) }).await.expect("it leads");
        client.cancel_job(id).await.expect("it leads");
        if number % 20 == 0 {
            peak = peak.max(size(&raft(&cluster)));
        }
    }
    let written = u64::try_from(JOBS * NAME_BYTES).expect("small");
    assert!(written > BOUND * 15 / 8, "the test writes too little to show anything");
    assert!(peak < BOUND, "{} MiB of disk for {} MiB of log", peak >> 20, written >> 20);
    eventually("an end of all jobs but the history", async || (jobs(&cluster) <= 5).then_some(())).await;
}
