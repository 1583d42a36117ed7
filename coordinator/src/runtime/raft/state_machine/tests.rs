//! The storage under openraft's own suite, and on a disk that lost or damaged something.

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use tidemill_model::id::{ClusterId, NodeId};
use uuid::Uuid;

use super::*;
use crate::runtime::raft::log_store::LogStore;

struct Builder;

fn open(dir: &TempDir) -> (LogStore, StateMachine) {
    let storage = Storage::create(dir.path(), ClusterId(Uuid::nil()), NodeId(1)).expect("a fresh folder");
    let witness = Witness { node: NodeId(1), events: EventLog::off() };
    let machine = StateMachine::load(storage.clone(), SharedState::default(), witness).expect("nothing to load");
    (LogStore::new(storage), machine)
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (log, machine) = open(&dir);
        Ok((dir, log, machine))
    }
}

#[tokio::test]
async fn openrafts_storage_suite_passes() {
    Suite::test_all(Builder).await.expect("the suite passes");
}

#[tokio::test]
async fn a_damaged_log_entry_is_an_error_that_names_its_place() {
    use openraft::storage::RaftLogReader;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (mut log, machine) = open(&dir);
    let storage = &machine.storage;
    storage.database().put_cf(&storage.family("log"), 7_u64.to_be_bytes(), b"damaged bytes").expect("write");
    let error = log.try_get_log_entries(0..10).await.expect_err("damaged").to_string();
    assert!(error.contains("key 7 of log") && error.contains("damaged"), "{error}");
    assert!(error.contains(&dir.path().display().to_string()), "{error}");
}

#[tokio::test]
async fn a_log_with_a_hole_or_a_lost_end_is_refused() {
    use openraft::entry::RaftEntry;
    use openraft::storage::{RaftLogStorage, RaftLogStorageExt};

    use crate::runtime::raft::types::{Committed, Entry};
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (mut log, machine) = open(&dir);
    let id = |index| LogId::new(Committed::new(1), index);
    log.blocking_append((0..10).map(|index| Entry::new(id(index), EntryPayload::Blank))).await.expect("written");
    log.save_committed(Some(id(8))).await.expect("written");
    log.verify(None).expect("sound");
    log.truncate_after(Some(id(8))).await.expect("an uncommitted end may go");
    log.verify(None).expect("sound");
    let (database, family) = (machine.storage.database(), machine.storage.family("log"));
    let delete = |index: u64| database.delete_cf(&family, index.to_be_bytes()).expect("write");
    delete(8);
    let lost = log.verify(None).expect_err("a committed end is gone").to_string();
    assert!(lost.contains("key 8 of log") && lost.contains("missing"), "{lost}");
    delete(4);
    let hole = log.verify(None).expect_err("a hole").to_string();
    assert!(hole.contains("key 4 of log"), "{hole}");
    log.purge(id(5)).await.expect("written");
    let unfounded = log.verify(None).expect_err("purged without a snapshot").to_string();
    assert!(unfounded.contains("key 0 of log") || unfounded.contains("key 8 of log"), "{unfounded}");
}

#[tokio::test]
async fn an_entry_of_a_newer_release_stops_the_replica() {
    use openraft::storage::RaftLogReader;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (mut log, machine) = open(&dir);
    let storage = &machine.storage;
    let newer = format::seal_bytes(&[99, 1, 2, 3]);
    storage.database().put_cf(&storage.family("log"), 0_u64.to_be_bytes(), newer).expect("write");
    let error = log.try_get_log_entries(0..1).await.expect_err("not to be understood").to_string();
    assert!(error.contains("key 0 of log") && error.contains("format version 99 is newer"), "{error}");
    assert!(log.verify(None).is_err());
}

#[tokio::test]
async fn a_damaged_vote_is_an_error_that_names_its_place() {
    use openraft::storage::{RaftLogReader, RaftLogStorage};

    use crate::runtime::raft::types::Vote;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (mut log, machine) = open(&dir);
    log.save_vote(&Vote::new(7, 2)).await.expect("written");
    assert_eq!(log.read_vote().await.expect("sound"), Some(Vote::new(7, 2)));
    let (database, family) = (machine.storage.database(), machine.storage.family("meta"));
    let mut vote = database.get_cf(&family, "vote").expect("read").expect("there");
    vote[6] ^= 1;
    database.put_cf(&family, "vote", vote).expect("write");
    let error = log.read_vote().await.expect_err("damaged").to_string();
    assert!(error.contains("key vote of meta") && error.contains("checksum"), "{error}");
}

#[tokio::test]
async fn a_damaged_snapshot_is_an_error_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (_log, mut machine) = open(&dir);
    let error = machine.install_snapshot(&SnapshotMeta::default(), Bytes::from_static(b"nonsense")).await;
    assert!(error.expect_err("damaged").to_string().contains("replicated state"));
    assert!(machine.get_current_snapshot().await.expect("readable").is_none());
}

#[test]
fn a_log_of_another_node_and_a_lost_log_are_refused() {
    use crate::runtime::raft::storage::Error;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (cluster, path) = (ClusterId(Uuid::nil()), dir.path().join("raft"));
    assert!(matches!(Storage::open(&path, cluster, NodeId(1)), Err(Error::Missing { .. })));
    drop(Storage::create(&path, cluster, NodeId(1)).expect("a fresh folder"));
    let error = Storage::open(&path, cluster, NodeId(2)).expect_err("another node's");
    assert!(matches!(error, Error::Owner { .. }), "{error}");
}
