//! Writes the snapshot of one sub-task: what has changed since the newest checkpoint that it was told of, and pointers to
//! the rest.

use std::collections::BTreeMap;

use crc32fast::Hasher;
use tidemill_model::checkpoint::{CheckpointKind, StateHandle, SubtaskState};
use tidemill_model::id::ExecutionVertexId;

use super::file::{CheckpointFile, INLINE_BYTES_MAX, Range};
use super::{Content, Error, StateName, StatePart, store};
use crate::engine::snapshot::{ContentIndex, Form, GroupIndex, Location, SnapshotIndex, StateId, StateIndex};
use crate::state::{FrozenState, LaterFiles};

/// The most ranges of older files that a snapshot may consist of; with more, everything is written anew. It bounds the
/// checkpoint's metadata and the number of old files that are kept for little.
const OLDER_RANGES_MAX: usize = 32;

/// A key group as a snapshot wrote it: in which version, and where.
#[derive(Debug, Clone)]
struct WrittenGroup {
    version: u64,
    keys: u64,
    /// None: the group has no keys, or stands inline.
    place: Option<Place>,
}

/// A range of a file of the checkpoint storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: String,
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) checksum: u32,
}

/// What a snapshot wrote, for a later one to build on.
#[derive(Debug, Clone, Default)]
pub(super) struct Base {
    groups: BTreeMap<(StateId, u32), WrittenGroup>,
    /// The files of the sub-task's store, by name: none ever changes.
    files: BTreeMap<String, Place>,
}

/// When a snapshot was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// At a barrier.
    Barrier(CheckpointKind),
    /// At the end of input.
    End,
}

impl Occasion {
    /// Whether state that is in the files of a store is kept as these files. A savepoint is for any back-end, and what is
    /// left at the end becomes a part of savepoints, too.
    fn keeps_files(self) -> bool {
        self == Self::Barrier(CheckpointKind::Periodic)
    }

    /// How values are encoded. What is left at the end stays as it is for the program that wrote it: few savepoints have
    /// some, and every job that ends waits for it.
    fn form(self) -> Form {
        match self {
            Self::Barrier(CheckpointKind::Savepoint) => Form::Described,
            Self::Barrier(CheckpointKind::Periodic) | Self::End => Form::Wire,
        }
    }
}

/// The snapshot of one sub-task while it is written.
struct Writing<'a> {
    vertex: ExecutionVertexId,
    occasion: Occasion,
    file: &'a mut CheckpointFile,
    base: Option<&'a Base>,
    range: Range,
    states: Vec<StateIndex>,
    /// Groups that are pointed to: which state and entry of its list, and where the group is.
    older: Vec<(usize, usize, Place)>,
    versions: BTreeMap<(StateId, u32), u64>,
    /// The files of the sub-task's store, if any of these states is in it.
    store: Option<LaterFiles>,
}

/// Handle 0 is the table of contents, handle 1 what is written now.
const NEW: u32 = 1;

/// Writes the snapshot of a sub-task; answers it and what a later one may build on.
///
/// In the described form it is whole, and nothing builds on it: all that it points to would be in the other one.
pub(super) async fn write(
    vertex: ExecutionVertexId,
    parts: &[StatePart],
    occasion: Occasion,
    base: Option<&Base>,
    file: &mut CheckpointFile,
) -> Result<(SubtaskState, Base), Error> {
    let reused = |base: &Base| parts.iter().map(|part| base.reusable(part)).sum::<usize>();
    let base = base.filter(|base| occasion.form() == Form::Wire && reused(base) <= OLDER_RANGES_MAX);
    let range = Range::begin(file);
    let mut writing = Writing {
        vertex,
        occasion,
        file,
        base,
        range,
        states: Vec::new(),
        older: Vec::new(),
        versions: BTreeMap::new(),
        store: None,
    };
    for part in parts {
        writing.part(part).await?;
    }
    writing.end().await
}

impl Base {
    /// How many ranges a snapshot of this state would take from older files.
    fn reusable(&self, part: &StatePart) -> usize {
        let Content::Keyed(frozen) = &part.content else { return 0 };
        if frozen.stored().is_some() {
            return 0;
        }
        let places =
            frozen.groups().into_iter().filter_map(|(group, version)| self.unchanged(&part.id, group.0, version));
        let (mut ranges, mut end): (usize, Option<(String, u64)>) = (0, None);
        for place in places.filter_map(|written| written.place.as_ref()) {
            let joins = end.as_ref().is_some_and(|(path, offset)| *path == place.path && *offset == place.offset);
            ranges += usize::from(!joins);
            end = Some((place.path.clone(), place.offset + place.length));
        }
        ranges
    }

    fn unchanged(&self, state: &StateId, group: u32, version: u64) -> Option<&WrittenGroup> {
        self.groups.get(&(state.clone(), group)).filter(|written| written.version == version)
    }
}

impl Writing<'_> {
    async fn part(&mut self, part: &StatePart) -> Result<(), Error> {
        let form = self.occasion.form();
        let (form, content) = match &part.content {
            Content::Value(value) => {
                let failed = |source| Error::Record { state: StateName(part.id.clone()), source };
                (form, self.value(&value.encode(form).map_err(failed)?).await?)
            }
            Content::InFlight(bytes) => (Form::Wire, self.value(bytes).await?),
            Content::Keyed(frozen) if let Some(stored) = frozen.stored().filter(|_| self.occasion.keeps_files()) => {
                self.store.get_or_insert_with(|| LaterFiles::clone(&stored.files));
                (Form::Wire, ContentIndex::Stored(stored.number))
            }
            Content::Keyed(frozen) => (form, ContentIndex::Keyed(self.keyed(&part.id, frozen.as_ref()).await?)),
        };
        self.states.push(StateIndex { id: part.id.clone(), types: part.types.clone(), form, content });
        Ok(())
    }

    async fn value(&mut self, bytes: &[u8]) -> Result<ContentIndex, Error> {
        let offset = self.range.length();
        self.range.buffer().extend_from_slice(bytes);
        self.range.settle(self.file).await?;
        Ok(ContentIndex::Value(new_location(offset, bytes)))
    }

    async fn keyed(&mut self, id: &StateId, frozen: &dyn FrozenState) -> Result<Vec<GroupIndex>, Error> {
        let mut groups = Vec::new();
        for (index, (group, version)) in frozen.groups().into_iter().enumerate() {
            self.versions.insert((id.clone(), group.0), version);
            let unchanged = self.base.and_then(|base| base.unchanged(id, group.0, version));
            if let Some(WrittenGroup { keys, place: Some(place), .. }) = unchanged {
                self.older.push((self.states.len(), groups.len(), place.clone()));
                // The handle and offset are known when all ranges are.
                let location = Location { handle: 0, offset: 0, length: place.length, checksum: place.checksum };
                groups.push(GroupIndex { group: group.0, keys: *keys, location });
                continue;
            }
            let (offset, begin) = (self.range.length(), self.range.buffer().len());
            let keys = frozen
                .encode(index, self.occasion.form(), self.range.buffer())
                .map_err(|source| Error::Record { state: StateName(id.clone()), source })?;
            if keys > 0 {
                let location = new_location(offset, &self.range.buffer()[begin..]);
                groups.push(GroupIndex { group: group.0, keys, location });
                self.range.settle(self.file).await?;
            }
        }
        Ok(groups)
    }

    async fn end(mut self) -> Result<(SubtaskState, Base), Error> {
        let new = self.range.end(self.file).await?;
        // Without new bytes the handles of older ranges come directly behind the table of contents.
        let mut handles: Vec<StateHandle> = new.iter().cloned().collect();
        for (state, entry, place) in std::mem::take(&mut self.older) {
            let offset = join(&mut handles, place, new.is_some());
            let handle = u32::try_from(handles.len()).unwrap_or(u32::MAX);
            if let ContentIndex::Keyed(groups) = &mut self.states[state].content {
                groups[entry].location.handle = handle;
                groups[entry].location.offset = offset;
            }
        }
        let mut base = match self.occasion.form() {
            Form::Wire => base_of(&self.states, &self.versions, &handles),
            Form::Described => Base::default(),
        };
        if let Some(store) = self.store.take() {
            let files = store.files().map_err(Error::Store)?;
            let kept = store::keep(files, self.base.map(|base| &base.files), (self.file, self.vertex)).await?;
            self.states.push(kept.index(&mut handles)?);
            base.files = kept.places();
        }
        let finished = self.occasion == Occasion::End;
        let index = SnapshotIndex { finished, states: self.states }.encode()?;
        let index = match index.len() {
            0..=INLINE_BYTES_MAX => StateHandle::Inline(index),
            _ => {
                let mut range = Range::begin(self.file);
                range.buffer().extend_from_slice(&index);
                range.end(self.file).await?.unwrap_or(StateHandle::Inline(index))
            }
        };
        handles.insert(0, index);
        Ok((SubtaskState(handles), base))
    }
}

/// What a later snapshot may point to.
fn base_of(states: &[StateIndex], versions: &BTreeMap<(StateId, u32), u64>, handles: &[StateHandle]) -> Base {
    let mut base = BTreeMap::new();
    for state in states {
        let ContentIndex::Keyed(groups) = &state.content else { continue };
        for GroupIndex { group, keys, location } in groups {
            let key = (state.id.clone(), *group);
            let Some(&version) = versions.get(&key) else { continue };
            let handle = usize::try_from(location.handle).ok().and_then(|handle| handles.get(handle.checked_sub(1)?));
            let place = match handle {
                Some(StateHandle::File { path, offset, .. }) => Some(Place {
                    path: path.clone(),
                    offset: offset + location.offset,
                    length: location.length,
                    checksum: location.checksum,
                }),
                Some(StateHandle::Inline(_)) | None => None,
            };
            base.insert(key, WrittenGroup { version, keys: *keys, place });
        }
    }
    Base { groups: base, files: BTreeMap::new() }
}

fn new_location(offset: u64, bytes: &[u8]) -> Location {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    Location { handle: NEW, offset, length, checksum: crc32fast::hash(bytes) }
}

/// Adds a range of an older file to the handles, as a part of the last one if it follows on it; answers where in the last
/// handle it begins.
fn join(handles: &mut Vec<StateHandle>, place: Place, first_is_new: bool) -> u64 {
    let joinable = handles.len() > usize::from(first_is_new);
    if let Some(StateHandle::File { path, offset, length, checksum }) = handles.last_mut().filter(|_| joinable)
        && *path == place.path
        && *offset + *length == place.offset
    {
        let mut joined = Hasher::new_with_initial_len(*checksum, *length);
        joined.combine(&Hasher::new_with_initial_len(place.checksum, place.length));
        *checksum = joined.finalize();
        *length += place.length;
        return *length - place.length;
    }
    let Place { path, offset, length, checksum } = place;
    handles.push(StateHandle::File { path, offset, length, checksum });
    0
}
