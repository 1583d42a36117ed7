//! What snapshots of a store write, and what they point to.

use std::collections::{BTreeMap, BTreeSet};

use tempfile::TempDir;
use tidemill_model::checkpoint::{CheckpointKind, SubtaskState};
use tidemill_model::id::{CheckpointId, JobVertexId, SubtaskIndex};
use tidemill_model::key::Key;
use tidemill_model::key_group::KeyGroupRange;
use tidemill_storage::{CheckpointStorage, JobStorage};

use super::super::subtask::{self, Base, Occasion};
use super::super::{Content, Restored, StatePart};
use super::*;
use crate::state::rocks::tests::TestStore;
use crate::state::{KeyedTable, Section, decode_entries};

const GROUPS: u32 = 16;
const KEYS: u64 = 20_000;
const PERIODIC: Occasion = Occasion::Barrier(CheckpointKind::Periodic);

/// A state of a sub-task, and the folder that its checkpoints are in.
struct Bench {
    state: TestStore,
    table: KeyedTable<u64, String>,
    storage: JobStorage,
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let (state, folder) = (TestStore::of_groups(GROUPS), TempDir::new().unwrap());
        let storage = CheckpointStorage::open(&folder.path().display().to_string()).unwrap();
        let storage = storage.job("0190f3a1b2c37d4e8f00112233445566".parse().unwrap());
        Self { table: state.table("texts"), state, storage, folder }
    }

    /// Gives these keys a text that does not compress.
    fn put(&mut self, keys: impl Iterator<Item = u64>, salt: u64) {
        for key in keys {
            let number =
                |part: u64| (key ^ salt << 32 ^ part << 48).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
            let text = (0..4).map(|part| format!("{:x}", number(part).wrapping_mul(number(part + 4)))).collect();
            self.table.put(key.key_hash(), &key, text);
        }
        self.table.settle().unwrap();
    }

    /// Takes a snapshot; answers it, what a later one may build on, and how many bytes it wrote.
    fn snapshot(&mut self, checkpoint: u64, occasion: Occasion, base: Option<&Base>) -> (SubtaskState, Base, u64) {
        let frozen = self.table.freeze();
        self.state.store.set_aside();
        let parts = [StatePart { id: id(), types: vec!["text".to_owned()], content: Content::Keyed(frozen) }];
        let runtime = super::super::waiting_runtime().unwrap();
        let mut file = CheckpointFile::new(self.storage.clone(), CheckpointId(checkpoint), "process");
        let vertex = ExecutionVertexId { vertex: JobVertexId(0), subtask: SubtaskIndex(0) };
        let written = runtime.block_on(subtask::write(vertex, &parts, occasion, base, &mut file)).unwrap();
        runtime.block_on(file.finish()).unwrap();
        let own = format!("{checkpoint}/");
        let files = runtime.block_on(self.storage.list()).unwrap();
        let bytes = files.iter().filter(|(path, _)| path.starts_with(&own)).map(|(_, size)| size).sum();
        (written.0, written.1, bytes)
    }

    /// The entries of a snapshot as the heap, or a store, is filled with them.
    fn restored(&self, state: SubtaskState) -> BTreeMap<u64, String> {
        let restored = Restored::of_one(state, &self.storage).unwrap();
        let mut entries = BTreeMap::new();
        let all = KeyGroupRange::of(SubtaskIndex(0), 1, GROUPS);
        let mut take = |section: &Section| decode_entries(section, |key, text| drop(entries.insert(key, text)));
        restored.sections(&id(), &["text"], (&all, GROUPS), &mut take).unwrap();
        entries
    }

    /// The same, out of the files of the store.
    fn restored_from_files(&self, state: SubtaskState) -> BTreeMap<u64, String> {
        let restored = Restored::of_one(state, &self.storage).unwrap();
        let stores = restored.stores(&KeyGroupRange::of(SubtaskIndex(0), 1, GROUPS), GROUPS);
        let files = self.folder.path().join("fetched");
        restored.fetch(&stores[0], &files).unwrap();
        let target = TestStore::of_groups(GROUPS);
        target.store.take_over(&files, &stores[0].states).unwrap();
        std::fs::remove_dir_all(files).unwrap();
        let mut entries = BTreeMap::new();
        let shown = target.table("texts").try_for_each(|_, key: &u64, text: &String| {
            entries.insert(*key, text.clone());
            Ok::<_, ()>(())
        });
        shown.unwrap();
        entries
    }
}

fn id() -> StateId {
    StateId { operator: "operator".to_owned(), name: "texts".to_owned() }
}

fn paths(SubtaskState(handles): &SubtaskState) -> BTreeSet<&str> {
    handles.iter().filter_map(StateHandle::path).collect()
}

#[test]
fn a_checkpoint_writes_the_files_that_the_one_before_does_not_have() {
    let mut bench = Bench::new();
    bench.put(0..KEYS, 1);
    bench.state.compact();
    let (first, base, full) = bench.snapshot(1, PERIODIC, None);
    assert!(full > KEYS * 40, "{full} bytes");
    bench.put((0..KEYS).step_by(100), 2);
    let (second, _, added) = bench.snapshot(2, PERIODIC, Some(&base));
    assert!(added < full / 20, "{added} bytes beside {full}");
    let tables = |state| paths(state).into_iter().filter(|path: &&str| path.ends_with(TABLE)).collect::<BTreeSet<_>>();
    assert!(tables(&first).is_subset(&tables(&second)), "no table that was there is written again");
    assert!(tables(&second).difference(&tables(&first)).all(|path| path.starts_with("2/")));
    // Both are whole.
    let (before, after) = (bench.restored_from_files(first), bench.restored_from_files(second));
    assert_eq!((before.len(), after.len()), (20_000, 20_000));
    let changed: Vec<u64> = before.iter().filter(|(key, text)| after[key] != **text).map(|(key, _)| *key).collect();
    assert_eq!(changed, (0..KEYS).step_by(100).collect::<Vec<_>>());
}

#[test]
fn a_savepoint_is_written_for_any_back_end_and_what_comes_after_it_is_whole() {
    let mut bench = Bench::new();
    bench.put(0..KEYS, 1);
    let (_, base, full) = bench.snapshot(1, PERIODIC, None);
    let (savepoint, base, written) = bench.snapshot(2, Occasion::Barrier(CheckpointKind::Savepoint), Some(&base));
    assert!(written > full / 2, "all is written: {written} bytes");
    assert!(paths(&savepoint).iter().all(|path| path.starts_with("2/") && !path.ends_with(TABLE)));
    let (after, _, _) = bench.snapshot(3, PERIODIC, Some(&base));
    assert!(paths(&after).iter().all(|path| path.starts_with("3/")), "nothing of the first may be needed any more");
    let entries = bench.restored(savepoint);
    assert_eq!(entries.len(), 20_000);
    assert_eq!(entries, bench.restored_from_files(after));
}
