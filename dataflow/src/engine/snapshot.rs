//! The table of contents of one sub-task's snapshot: which states it has, and where their key groups lie.
//!
//! A snapshot is a list of state handles, the first of which is this table; the others are what it points into: bytes
//! written for this checkpoint, and ranges of older checkpoints' files that hold key groups that have not changed since.

use serde::{Deserialize, Serialize};
use tidemill_model::checkpoint::StateHandle;

/// The version of the format; a snapshot of another one is refused.
const VERSION: u8 = 2;

/// Which operator's state, by the operator's uid and the state's name in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StateId {
    /// The operator's uid.
    pub operator: String,
    /// The state's name, unique in the operator.
    pub name: String,
}

impl StateId {
    /// What the files of a sub-task's store are listed under.
    #[must_use]
    pub fn store() -> Self {
        Self { operator: String::new(), name: "$store".to_owned() }
    }
}

/// What one sub-task's snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SnapshotIndex {
    /// Whether the sub-task had reached the end of its input: restored, it emits nothing more.
    pub finished: bool,
    /// Its states. Invariant: none twice.
    pub states: Vec<StateIndex>,
}

/// One state in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateIndex {
    /// Whose.
    pub id: StateId,
    /// The Rust types that it is made of, to be compared with the program's.
    pub types: Vec<String>,
    /// How its values are encoded.
    pub form: Form,
    /// Where it lies.
    pub content: ContentIndex,
}

/// How values are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Form {
    /// As records are on the wire: for the program that wrote them.
    Wire,
    /// With the names and shapes of their fields: for later versions of their types, too.
    Described,
}

/// Where a state lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContentIndex {
    /// By key group; groups without keys are left out.
    Keyed(Vec<GroupIndex>),
    /// One value for the whole sub-task.
    Value(Location),
    /// By key, under this number in the files of the sub-task's store.
    Stored(u32),
    /// The files of the sub-task's store.
    Store(StoreIndex),
}

/// The files of a sub-task's store, which back-ends on disk have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreIndex {
    /// The first number that no state in them has.
    pub next_state: u32,
    /// Each whole.
    pub files: Vec<StoredFile>,
}

/// One file of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its name in the store's folder.
    pub name: String,
    /// Where it lies.
    pub location: Location,
}

/// One key group of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupIndex {
    /// Which.
    pub group: u32,
    /// How many keys it has.
    pub keys: u64,
    /// Where they lie.
    pub location: Location,
}

/// A range of what one of the snapshot's handles stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Which handle, among all of the snapshot.
    pub handle: u32,
    /// The first byte, from the beginning of what the handle stands for.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
    /// CRC-32 of these bytes.
    pub checksum: u32,
}

impl Location {
    /// The handle of this range alone, where `whole` is what its handle stands for; none: that has no such range.
    #[must_use]
    pub fn within(&self, whole: &StateHandle) -> Option<StateHandle> {
        let end = self.offset.checked_add(self.length).filter(|end| *end <= whole.size_bytes())?;
        if self.length == 0 {
            return Some(StateHandle::Inline(Vec::new()));
        }
        Some(match whole {
            StateHandle::Inline(bytes) => {
                let (begin, end) = (usize::try_from(self.offset).ok()?, usize::try_from(end).ok()?);
                StateHandle::Inline(bytes.get(begin..end)?.to_vec())
            }
            StateHandle::File { path, offset, .. } => StateHandle::File {
                path: path.clone(),
                offset: offset.checked_add(self.offset)?,
                length: self.length,
                checksum: self.checksum,
            },
        })
    }
}

/// Why a table of contents cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is of another release.
    #[error(
        "read snapshot: format {version}, this program reads format {VERSION}; use a program built with a release that fits"
    )]
    Version {
        /// The format's version.
        version: u8,
    },
    /// It is no table of contents.
    #[error("read snapshot: its table of contents is damaged")]
    Damaged,
    /// It cannot be written.
    #[error("write snapshot: {0}")]
    Encode(String),
}

impl SnapshotIndex {
    /// Its durable form.
    ///
    /// # Errors
    /// It is too large.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        postcard::to_extend(self, vec![VERSION]).map_err(|error| Error::Encode(error.to_string()))
    }

    /// What [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// The bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        match bytes.split_first() {
            Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|_| Error::Damaged),
            Some((&version, _)) => Err(Error::Version { version }),
            None => Err(Error::Damaged),
        }
    }

    /// The files of the sub-task's store, if it had one.
    #[must_use]
    pub fn store(&self) -> Option<&StoreIndex> {
        self.states
            .iter()
            .find_map(|state| if let ContentIndex::Store(store) = &state.content { Some(store) } else { None })
    }

    /// Where a state lies.
    #[must_use]
    pub fn state(&self, id: &StateId) -> Option<&StateIndex> {
        self.states.iter().find(|state| state.id == *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn index() -> SnapshotIndex {
        let id = |name: &str| StateId { operator: "count".to_owned(), name: name.to_owned() };
        let location = Location { handle: 1, offset: 2, length: 300, checksum: 0xDEAD_BEEF };
        let keyed = ContentIndex::Keyed(vec![GroupIndex { group: 7, keys: 9, location }]);
        let value = ContentIndex::Value(Location { handle: 2, ..location });
        let files = vec![StoredFile { name: "000008.sst".to_owned(), location }];
        let store = ContentIndex::Store(StoreIndex { next_state: 4, files });
        let states = vec![
            StateIndex { id: id("sums"), types: vec!["u64".to_owned()], form: Form::Wire, content: keyed },
            StateIndex { id: id("offset"), types: Vec::new(), form: Form::Described, content: value },
            StateIndex { id: id("counts"), types: Vec::new(), form: Form::Wire, content: ContentIndex::Stored(3) },
            StateIndex { id: StateId::store(), types: Vec::new(), form: Form::Wire, content: store },
        ];
        SnapshotIndex { finished: false, states }
    }

    /// Durable bytes: a change here is a new version of the format.
    #[test]
    fn the_format_of_an_index_does_not_change() {
        let bytes = index().encode().unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        expect!["02000405636f756e740473756d73010375363400000107090102ac02effdb6f50d05636f756e74066f66667365740001010202ac02effdb6f50d05636f756e7406636f756e74730000020300062473746f726500000304010a3030303030382e7373740102ac02effdb6f50d"].assert_eq(&hex);
        assert_eq!(SnapshotIndex::decode(&bytes).unwrap(), index());
    }

    #[test]
    fn a_range_of_a_handle_is_a_handle_and_nothing_lies_beyond_it() {
        let location = |offset, length| Location { handle: 1, offset, length, checksum: 7 };
        let inline = StateHandle::Inline(vec![1, 2, 3]);
        assert_eq!(location(1, 2).within(&inline), Some(StateHandle::Inline(vec![2, 3])));
        let file = StateHandle::File { path: "4/a".to_owned(), offset: 10, length: 3, checksum: 9 };
        let part = StateHandle::File { path: "4/a".to_owned(), offset: 11, length: 2, checksum: 7 };
        assert_eq!(location(1, 2).within(&file), Some(part));
        for whole in [&inline, &file] {
            assert_eq!(location(3, 0).within(whole), Some(StateHandle::Inline(Vec::new())));
            assert_eq!(location(2, 2).within(whole), None);
            assert_eq!(location(u64::MAX, 1).within(whole), None);
        }
    }

    #[test]
    fn damaged_bytes_and_another_version_are_errors() {
        let bytes = index().encode().unwrap();
        for length in 0..bytes.len() {
            assert!(matches!(SnapshotIndex::decode(&bytes[..length]), Err(Error::Damaged)));
        }
        assert!(matches!(SnapshotIndex::decode(&[9]), Err(Error::Version { version: 9 })));
    }
}
