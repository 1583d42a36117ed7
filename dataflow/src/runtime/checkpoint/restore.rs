//! What a sub-task starts from: snapshots of the sub-tasks whose work it goes on with, of a checkpoint or a savepoint.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_model::checkpoint::{StateHandle, SubtaskState};
#[cfg(feature = "rocksdb")]
use tidemill_model::id::SubtaskIndex;
use tidemill_model::key_group::{KeyGroup, KeyGroupRange};
use tidemill_model::mutant::{self, Mutant};
use tidemill_storage::JobStorage;

use super::{Error, StateName, waiting_runtime};
use crate::engine::snapshot::{ContentIndex, Form, Location, SnapshotIndex, StateId, StateIndex};
#[cfg(feature = "rocksdb")]
use crate::engine::snapshot::{StoreIndex, StoredFile};
use crate::record;
use crate::state::{KeptValue, Section};

/// Up to which size what a handle stands for is read at once and kept; of what is larger, a part at a time.
const WHOLE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// How many files of a store are read at once, each of which is in memory meanwhile.
#[cfg(feature = "rocksdb")]
const FETCHED_AT_ONCE: usize = 4;

/// A snapshot of an earlier sub-task.
#[derive(Debug, Clone)]
pub(crate) struct EarlierState {
    /// Which sub-task of its vertex it was.
    pub(crate) subtask: u32,
    pub(crate) state: SubtaskState,
}

/// What a sub-task starts from: state of sub-tasks of a vertex that may have had another parallelism.
#[derive(Debug, Clone)]
pub(crate) struct Earlier {
    pub(crate) states: Vec<EarlierState>,
    /// How many sub-tasks there were.
    pub(crate) parallelism: u32,
}

/// A snapshot with its table of contents.
struct Snapshot {
    subtask: u32,
    index: SnapshotIndex,
    handles: Vec<StateHandle>,
    /// What was read so far, by handle.
    read: RefCell<BTreeMap<u32, Bytes>>,
}

impl Snapshot {
    /// Where a state lies that is of these types now.
    ///
    /// # Errors
    /// It was of others, in the form that says nothing of them.
    fn content(&self, id: &StateId, types: &[&str]) -> Result<Option<(Form, &ContentIndex)>, Error> {
        let Some(state) = self.index.state(id) else { return Ok(None) };
        if state.form == Form::Wire && state.types != types {
            let new = types.iter().map(|name| (*name).to_owned()).collect();
            return Err(Error::Types { state: StateName(id.clone()), old: state.types.clone(), new });
        }
        Ok(Some((state.form, &state.content)))
    }
}

/// The snapshots that a sub-task starts from.
///
/// State by key is taken from all of them, by key group. Values of whole sub-tasks are shared out: each has one new owner.
pub(crate) struct Restored {
    storage: JobStorage,
    snapshots: Vec<Snapshot>,
    /// This sub-task, and how many there are now and were before.
    subtask: u32,
    parallelism: u32,
    parallelism_before: u32,
    /// Whether what is in the stores of earlier sub-tasks comes with the store of this one.
    store_is_open: Cell<bool>,
}

/// The store of a sub-task that this one goes on with, or a part of it.
#[cfg(feature = "rocksdb")]
pub(crate) struct EarlierStore<'a> {
    /// The key groups that it has.
    pub(crate) range: KeyGroupRange,
    /// The states that it has, by number.
    pub(crate) states: BTreeMap<StateId, u32>,
    pub(crate) index: &'a StoreIndex,
    snapshot: &'a Snapshot,
}

impl Restored {
    /// Reads the tables of contents.
    ///
    /// # Errors
    /// One cannot be read.
    pub(crate) fn open(
        earlier: Earlier,
        storage: &JobStorage,
        (subtask, parallelism): (u32, u32),
    ) -> Result<Self, Error> {
        let open = |EarlierState { subtask, state: SubtaskState(handles) }| {
            let index = match handles.first() {
                Some(handle) => SnapshotIndex::decode(&read(storage, handle)?)?,
                // It kept no state.
                None => SnapshotIndex::default(),
            };
            Ok(Snapshot { subtask, index, handles, read: RefCell::default() })
        };
        let snapshots = earlier.states.into_iter().map(open).collect::<Result<_, Error>>()?;
        let (storage, parallelism_before) = (storage.clone(), earlier.parallelism);
        let store_is_open = Cell::new(false);
        Ok(Self { storage, snapshots, subtask, parallelism, parallelism_before, store_is_open })
    }

    /// The last snapshot of one sub-task.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn of_one(state: SubtaskState, storage: &JobStorage) -> Result<Self, Error> {
        let earlier = Earlier { states: vec![EarlierState { subtask: 0, state }], parallelism: 1 };
        Self::open(earlier, storage, (0, 1))
    }

    /// How many sub-tasks there were, if there are more or fewer now.
    pub(crate) fn other_parallelism(&self) -> Option<u32> {
        (self.parallelism != self.parallelism_before).then_some(self.parallelism_before)
    }

    /// Whether values of the sub-task of a snapshot are this one's now.
    fn owns(&self, snapshot: &Snapshot) -> bool {
        snapshot.subtask % self.parallelism.max(1) == self.subtask
    }

    /// Which states the snapshots have, those of other operators among them.
    pub(crate) fn states(&self) -> impl Iterator<Item = &StateId> {
        self.snapshots.iter().flat_map(|snapshot| &snapshot.index.states).map(|state| &state.id)
    }

    /// Whether all of them had come to the end of their input.
    pub(crate) fn finished(&self) -> bool {
        !self.snapshots.is_empty() && self.snapshots.iter().all(|snapshot| snapshot.index.finished)
    }

    /// Shows the sections of a keyed state in these key groups, of so many, of which one at a time is in memory.
    ///
    /// # Errors
    /// They cannot be read, the state was of another kind, or `take` does not understand one.
    pub(crate) fn sections(
        &self,
        id: &StateId,
        types: &[&str],
        (range, max_parallelism): (&KeyGroupRange, u32),
        take: &mut dyn FnMut(&Section) -> Result<(), record::Error>,
    ) -> Result<(), Error> {
        for snapshot in &self.snapshots {
            match snapshot.content(id, types)? {
                Some((form, ContentIndex::Keyed(groups))) => {
                    let groups: Vec<_> = groups.iter().filter(|group| range.contains(KeyGroup(group.group))).collect();
                    for (index, group) in groups.iter().enumerate() {
                        let foreign = usize::from(mutant::active(Mutant::ForeignKeyGroup));
                        let bytes = self.read(snapshot, id, groups[index.saturating_sub(foreign)].location)?;
                        let section = Section { form, group: KeyGroup(group.group), max_parallelism, bytes };
                        take(&section).map_err(|source| self.unreadable(id, types, source))?;
                    }
                }
                Some((_, ContentIndex::Value(_) | ContentIndex::Store(_))) => {
                    return Err(other_kind(id, "a value of the sub-task", "values by key"));
                }
                // They came with the store.
                Some((_, ContentIndex::Stored(_))) if self.store_is_open.get() => {}
                Some((_, ContentIndex::Stored(_))) => return Err(Error::OtherBackend { state: StateName(id.clone()) }),
                None => {}
            }
        }
        Ok(())
    }

    /// Why a state in the described form could not be read: which types it was of, and which the program wants.
    pub(crate) fn unreadable(&self, id: &StateId, types: &[&str], source: crate::record::Error) -> Error {
        let described = |state: &&StateIndex| state.form == Form::Described;
        let old = self.snapshots.iter().filter_map(|snapshot| snapshot.index.state(id)).find(described);
        let (state, new) = (StateName(id.clone()), types.iter().map(|name| (*name).to_owned()).collect());
        match old {
            Some(old) => Error::Evolution { state, old: old.types.clone(), new, source: Box::new(source) },
            None => Error::Record { state, source },
        }
    }

    /// The stores of sub-tasks that had some of these key groups; what is in them need not be shown as sections then.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn stores(&self, range: &KeyGroupRange, max_parallelism: u32) -> Vec<EarlierStore<'_>> {
        self.store_is_open.set(true);
        let store = |snapshot: &'_ Snapshot| {
            let of = KeyGroupRange::of(SubtaskIndex(snapshot.subtask), self.parallelism_before, max_parallelism);
            let number = |state: &StateIndex| match state.content {
                ContentIndex::Stored(number) => Some((state.id.clone(), number)),
                ContentIndex::Keyed(_) | ContentIndex::Value(_) | ContentIndex::Store(_) => None,
            };
            let states = snapshot.index.states.iter().filter_map(number).collect();
            (of, states)
        };
        let stores = self.snapshots.iter().filter_map(|snapshot| {
            let (of, states) = store(snapshot);
            snapshot.index.store().map(|index| EarlierStore { range: of, states, index, snapshot })
        });
        stores.filter(|store| store.range.0.start < range.0.end && range.0.start < store.range.0.end).collect()
    }

    /// Puts the files of a store into a folder that is made for them; waits for it.
    ///
    /// # Errors
    /// They cannot be read, or not be written there.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn fetch(&self, store: &EarlierStore<'_>, folder: &std::path::Path) -> Result<(), Error> {
        use futures::{StreamExt, TryStreamExt};

        std::fs::create_dir_all(folder).map_err(Error::StoreFile)?;
        let fetch = |file: &StoredFile| {
            let handle = usize::try_from(file.location.handle).ok().and_then(|at| store.snapshot.handles.get(at));
            let (handle, name) = (handle.cloned(), std::path::PathBuf::from(&file.name));
            async move {
                let handle = handle.ok_or_else(|| beyond(&StateId::store()))?;
                // A name and no path: nothing is written elsewhere, whoever made the checkpoint.
                let name = name.file_name().ok_or_else(|| beyond(&StateId::store()))?;
                let bytes = self.storage.read(&handle).await?;
                std::fs::write(folder.join(name), bytes).map_err(Error::StoreFile)
            }
        };
        let fetched = futures::stream::iter(store.index.files.iter().map(fetch)).buffer_unordered(FETCHED_AT_ONCE);
        waiting_runtime()?.block_on(fetched.try_collect())
    }

    /// The values of a state, one from each snapshot that has it.
    ///
    /// # Errors
    /// They cannot be read, or the state was of another kind.
    pub(crate) fn values(&self, id: &StateId, types: &[&str]) -> Result<Vec<KeptValue>, Error> {
        self.snapshots.iter().try_for_each(|snapshot| snapshot.content(id, types).map(|_| ()))?;
        self.values_of_any_type(id)
    }

    /// The values of a state, one from each snapshot that has it, whoever owns it.
    ///
    /// # Errors
    /// They cannot be read, or the state was of another kind.
    pub(crate) fn everybodys_values(&self, id: &StateId, types: &[&str]) -> Result<Vec<KeptValue>, Error> {
        self.snapshots.iter().try_for_each(|snapshot| snapshot.content(id, types).map(|_| ()))?;
        self.values_of(id, self.snapshots.iter())
    }

    /// The same, for one who knows the type otherwise.
    ///
    /// # Errors
    /// They cannot be read, or the state was of another kind.
    pub(crate) fn values_of_any_type(&self, id: &StateId) -> Result<Vec<KeptValue>, Error> {
        self.values_of(id, self.snapshots.iter().filter(|snapshot| self.owns(snapshot)))
    }

    fn values_of<'a>(
        &self,
        id: &StateId,
        snapshots: impl Iterator<Item = &'a Snapshot>,
    ) -> Result<Vec<KeptValue>, Error> {
        let mut values = Vec::new();
        for snapshot in snapshots {
            match snapshot.index.state(id).map(|state| (state.form, &state.content)) {
                Some((form, ContentIndex::Value(location))) => {
                    values.push(KeptValue { form, bytes: self.read(snapshot, id, *location)? });
                }
                Some((_, ContentIndex::Keyed(_) | ContentIndex::Stored(_) | ContentIndex::Store(_))) => {
                    return Err(other_kind(id, "values by key", "a value of the sub-task"));
                }
                None => {}
            }
        }
        Ok(values)
    }

    fn read(&self, snapshot: &Snapshot, id: &StateId, location: Location) -> Result<Bytes, Error> {
        if location.length == 0 {
            return Ok(Bytes::new());
        }
        let known = snapshot.read.borrow().get(&location.handle).cloned();
        let whole = match known {
            Some(whole) => whole,
            None => {
                let index = usize::try_from(location.handle).ok();
                let handle = index.and_then(|index| snapshot.handles.get(index)).ok_or_else(|| beyond(id))?;
                if handle.size_bytes() > WHOLE_BYTES_MAX {
                    return read(&self.storage, &location.within(handle).ok_or_else(|| beyond(id))?);
                }
                let whole = read(&self.storage, handle)?;
                snapshot.read.borrow_mut().insert(location.handle, whole.clone());
                whole
            }
        };
        let range = usize::try_from(location.offset).ok().zip(usize::try_from(location.length).ok());
        let range = range.and_then(|(offset, length)| Some(offset..offset.checked_add(length)?));
        let range = range.filter(|range| range.end <= whole.len()).ok_or_else(|| beyond(id))?;
        Ok(whole.slice(range))
    }
}

/// Reads what a handle stands for, verified; waits for it.
fn read(storage: &JobStorage, handle: &StateHandle) -> Result<Bytes, Error> {
    Ok(waiting_runtime()?.block_on(storage.read(handle))?)
}

fn beyond(id: &StateId) -> Error {
    let reason = "the snapshot's table of contents points beyond its handles; it is damaged".to_owned();
    Error::Content { state: StateName(id.clone()), reason }
}

fn other_kind(id: &StateId, found: &str, wanted: &str) -> Error {
    let reason = format!("the checkpoint has {found}, the program wants {wanted}; give the new state another name");
    Error::Content { state: StateName(id.clone()), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_storage::CheckpointStorage;

    #[test]
    fn each_value_of_a_sub_task_has_one_owner_with_whatever_parallelism() {
        let folder = tempfile::tempdir().unwrap();
        let storage = CheckpointStorage::open(&folder.path().display().to_string()).unwrap();
        let storage = storage.job("0190f3a1b2c37d4e8f00112233445566".parse().unwrap());
        let id = StateId { operator: "lines".to_owned(), name: "splits".to_owned() };
        let state = |subtask: u8| {
            let bytes = vec![subtask];
            let location = Location { handle: 1, offset: 0, length: 1, checksum: crc32fast::hash(&bytes) };
            let types = vec!["u8".to_owned()];
            let states =
                vec![StateIndex { id: id.clone(), types, form: Form::Wire, content: ContentIndex::Value(location) }];
            let index = SnapshotIndex { finished: false, states }.encode().unwrap();
            let state = SubtaskState(vec![StateHandle::Inline(index), StateHandle::Inline(bytes)]);
            EarlierState { subtask: u32::from(subtask), state }
        };
        for parallelism in 1..=4u32 {
            let earlier = Earlier { states: (0..3).map(state).collect(), parallelism: 3 };
            let of = |subtask| {
                let restored = Restored::open(earlier.clone(), &storage, (subtask, parallelism)).unwrap();
                restored.values(&id, &["u8"]).unwrap()
            };
            let mut owned: Vec<Bytes> = (0..parallelism).flat_map(of).map(|value| value.bytes).collect();
            owned.sort();
            assert_eq!(owned, [vec![0], vec![1], vec![2]], "among {parallelism}");
        }
    }
}
