//! A state as it was at one moment: what a snapshot writes, and what a restore reads.
//!
//! ```text
//! section := chunk*            one for each key group
//! chunk   := length (u32, little-endian) | encoded list of (key, value), in the section's form
//! ```

use std::sync::Arc;

use tidemill_model::key::{Key, KeyHash};
use tidemill_model::key_group::KeyGroup;

use super::kept::Section;
use super::stored::StoredState;
use super::table::Table;
use crate::engine::snapshot::Form;
use crate::record::{self, Data};

/// How many entries are encoded together: enough that the encoder's set-up costs nothing beside them.
const ENTRIES_PER_CHUNK: usize = 1024;

/// The bytes of a chunk's length.
const LENGTH_BYTES: usize = 4;

/// The values of one state in one sub-task at one moment, to be written on another thread.
///
/// # To ensure correctness
///
/// While two snapshots of one running task show one version for a key group, its values have not changed between them.
pub trait FrozenState: Send {
    /// The key groups in order, each with its version.
    fn groups(&self) -> Vec<(KeyGroup, u64)>;

    /// Appends the entries of the group at this place of [`groups`](Self::groups) in a form; answers how many there are.
    ///
    /// # Errors
    /// A key or value cannot be encoded.
    fn encode(&self, index: usize, form: Form, section: &mut Vec<u8>) -> Result<u64, record::Error>;

    /// Where the values are in the files of the sub-task's store, of which a checkpoint can keep copies instead.
    fn stored(&self) -> Option<&StoredState> {
        None
    }
}

/// The tables of one state at one moment, shared with the task until it changes them.
#[derive(Debug)]
pub(crate) struct FrozenTable<K, V> {
    first: u32,
    max_parallelism: u32,
    /// Each with its version.
    groups: Vec<(u64, Arc<Table<K, V>>)>,
}

impl<K, V> FrozenTable<K, V> {
    /// The tables of groups from a first one on, of so many that there are.
    pub(super) fn new((first, max_parallelism): (u32, u32), groups: Vec<(u64, Arc<Table<K, V>>)>) -> Self {
        Self { first, max_parallelism, groups }
    }

    /// The table of a hash.
    pub(super) fn table(&self, hash: KeyHash) -> &Table<K, V> {
        let group = KeyGroup::of(hash, self.max_parallelism).0 - self.first;
        &self.groups[group as usize].1
    }
}

impl<K: Key, V: Data> FrozenState for FrozenTable<K, V> {
    fn groups(&self) -> Vec<(KeyGroup, u64)> {
        (self.first..).map(KeyGroup).zip(self.groups.iter().map(|(version, _)| *version)).collect()
    }

    fn encode(&self, index: usize, form: Form, section: &mut Vec<u8>) -> Result<u64, record::Error> {
        encode_entries(self.groups[index].1.iter().map(|(_, key, value)| (key, value)), form, section)
    }
}

/// Appends entries to a section; answers how many there were.
pub(crate) fn encode_entries<'a, K: Key, V: Data>(
    entries: impl Iterator<Item = (&'a K, &'a V)>,
    form: Form,
    section: &mut Vec<u8>,
) -> Result<u64, record::Error> {
    let mut entries = entries.peekable();
    let mut count = 0;
    while entries.peek().is_some() {
        let chunk: Vec<(&K, &V)> = entries.by_ref().take(ENTRIES_PER_CHUNK).collect();
        count += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        let bytes = form.encode::<Vec<(&K, &V)>>(&chunk)?;
        let length = u32::try_from(bytes.len()).map_err(|_| record::Error::Encode {
            record_type: std::any::type_name::<(K, V)>(),
            reason: format!("{} values take {} bytes, at most 4 GiB can be kept together", chunk.len(), bytes.len()),
        })?;
        section.extend_from_slice(&length.to_le_bytes());
        section.extend_from_slice(&bytes);
    }
    Ok(count)
}

/// Shows each entry of a section.
///
/// # Errors
/// The bytes are something else, or a key does not belong into the section.
pub(crate) fn decode_entries<K: Key, V: Data>(
    section: &Section,
    mut entry: impl FnMut(K, V),
) -> Result<(), record::Error> {
    let mut left = section.bytes.as_ref();
    while !left.is_empty() {
        let truncated = || record::Error::Decode {
            record_type: std::any::type_name::<(K, V)>(),
            reason: "the section ends within a chunk".to_owned(),
        };
        let (length, rest) = left.split_first_chunk::<LENGTH_BYTES>().ok_or_else(truncated)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (chunk, rest) = rest.split_at_checked(length).ok_or_else(truncated)?;
        for (key, value) in section.form.decode::<Vec<(K, V)>>(chunk)? {
            section.check(&key)?;
            entry(key, value);
        }
        left = rest;
    }
    Ok(())
}
