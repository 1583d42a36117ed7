//! What a sub-task starts from: snapshots of the sub-tasks whose work it goes on with.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_model::checkpoint::{StateHandle, SubtaskState};
use tidemill_model::key_group::{KeyGroup, KeyGroupRange};

use super::{Checkpointing, Error, StateName};
use crate::engine::snapshot::{ContentIndex, Location, SnapshotIndex, StateId};

/// A snapshot with its table of contents.
struct Snapshot {
    index: SnapshotIndex,
    handles: Vec<StateHandle>,
    /// What was read so far, by handle.
    read: RefCell<BTreeMap<u32, Bytes>>,
}

impl Snapshot {
    /// Where a state lies that is of these types now.
    fn content(&self, id: &StateId, types: &[&str]) -> Result<Option<&ContentIndex>, Error> {
        let Some(state) = self.index.state(id) else { return Ok(None) };
        if state.types != types {
            let new = types.iter().map(|name| (*name).to_owned()).collect();
            return Err(Error::Types { state: StateName(id.clone()), old: state.types.clone(), new });
        }
        Ok(Some(&state.content))
    }
}

/// The snapshots that a sub-task starts from; with the parallelism of before, one.
pub(crate) struct Restored {
    checkpointing: Checkpointing,
    snapshots: Vec<Snapshot>,
}

impl Restored {
    /// Reads the tables of contents.
    ///
    /// # Errors
    /// One cannot be read.
    pub(crate) fn open(states: Vec<SubtaskState>, checkpointing: &Checkpointing) -> Result<Self, Error> {
        let open = |SubtaskState(handles): SubtaskState| {
            let index = match handles.first() {
                Some(handle) => SnapshotIndex::decode(&checkpointing.read(handle)?)?,
                // It kept no state.
                None => SnapshotIndex::default(),
            };
            Ok(Snapshot { index, handles, read: RefCell::default() })
        };
        let snapshots = states.into_iter().map(open).collect::<Result<_, Error>>()?;
        Ok(Self { checkpointing: checkpointing.clone(), snapshots })
    }

    /// Whether all of them had come to the end of their input.
    pub(crate) fn finished(&self) -> bool {
        !self.snapshots.is_empty() && self.snapshots.iter().all(|snapshot| snapshot.index.finished)
    }

    /// The sections of a keyed state in these key groups.
    ///
    /// # Errors
    /// They cannot be read, or the state was of another kind.
    pub(crate) fn sections(&self, id: &StateId, types: &[&str], range: &KeyGroupRange) -> Result<Vec<Bytes>, Error> {
        let mut sections = Vec::new();
        for snapshot in &self.snapshots {
            match snapshot.content(id, types)? {
                Some(ContentIndex::Keyed(groups)) => {
                    for group in groups.iter().filter(|group| range.contains(KeyGroup(group.group))) {
                        sections.push(self.read(snapshot, id, group.location)?);
                    }
                }
                Some(ContentIndex::Value(_)) => return Err(other_kind(id, "a value of the sub-task", "values by key")),
                None => {}
            }
        }
        Ok(sections)
    }

    /// The values of a state, one from each snapshot that has it.
    ///
    /// # Errors
    /// They cannot be read, or the state was of another kind.
    pub(crate) fn values(&self, id: &StateId, types: &[&str]) -> Result<Vec<Bytes>, Error> {
        self.snapshots.iter().try_for_each(|snapshot| snapshot.content(id, types).map(|_| ()))?;
        self.values_of_any_type(id)
    }

    /// The same, for one who knows the type otherwise.
    ///
    /// # Errors
    /// They cannot be read, or the state was of another kind.
    pub(crate) fn values_of_any_type(&self, id: &StateId) -> Result<Vec<Bytes>, Error> {
        let mut values = Vec::new();
        for snapshot in &self.snapshots {
            match snapshot.index.state(id).map(|state| &state.content) {
                Some(ContentIndex::Value(location)) => values.push(self.read(snapshot, id, *location)?),
                Some(ContentIndex::Keyed(_)) => return Err(other_kind(id, "values by key", "a value of the sub-task")),
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
                let whole = self.checkpointing.read(handle)?;
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

fn beyond(id: &StateId) -> Error {
    let reason = "the snapshot's table of contents points beyond its handles; it is damaged".to_owned();
    Error::Content { state: StateName(id.clone()), reason }
}

fn other_kind(id: &StateId, found: &str, wanted: &str) -> Error {
    let reason = format!("the checkpoint has {found}, the program wants {wanted}; give the new state another name");
    Error::Content { state: StateName(id.clone()), reason }
}
