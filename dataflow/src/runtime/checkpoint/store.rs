//! The files of a sub-task's store in checkpoints: each a file of its own, written once and pointed to by later ones.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tidemill_model::checkpoint::StateHandle;
use tidemill_model::id::ExecutionVertexId;

use super::Error;
use super::file::{CheckpointFile, INLINE_BYTES_MAX};
use super::subtask::Place;
use crate::engine::snapshot::{ContentIndex, Form, Location, StateId, StateIndex, StoreIndex, StoredFile};
use crate::state::StoreFiles;

/// How many files are written at once, each of which is in memory meanwhile.
const FILES_AT_ONCE: usize = 2;

/// What RocksDB's tables end with: they never change, and no name is used twice.
const TABLE: &str = ".sst";

/// What RocksDB needs beside its tables: the list of them, and which one it is.
const MANIFEST: [&str; 2] = ["CURRENT", "MANIFEST-"];

/// The files of a store as they are in the checkpoint storage.
pub(super) struct Kept {
    next_state: u32,
    files: Vec<(String, StateHandle)>,
}

/// Writes the files that the base does not have.
pub(super) async fn keep(
    files: &StoreFiles,
    base: Option<&BTreeMap<String, Place>>,
    (file, vertex): (&CheckpointFile, ExecutionVertexId),
) -> Result<Kept, Error> {
    let wanted = |name: &&String| name.ends_with(TABLE) || MANIFEST.iter().any(|prefix| name.starts_with(prefix));
    let kept = files.names().iter().filter(wanted).map(|name| async move {
        let known = base.and_then(|base| base.get(name)).filter(|_| name.ends_with(TABLE));
        let handle = match known.cloned() {
            Some(Place { path, offset, length, checksum }) => StateHandle::File { path, offset, length, checksum },
            None => write(&files.folder().join(name), file.beside(vertex, name)).await?,
        };
        Ok::<_, Error>((name.clone(), handle))
    });
    let kept = futures::stream::iter(kept).buffered(FILES_AT_ONCE).try_collect().await?;
    Ok(Kept { next_state: files.next_state(), files: kept })
}

async fn write(local: &Path, file: CheckpointFile) -> Result<StateHandle, Error> {
    let bytes = Bytes::from(std::fs::read(local).map_err(Error::StoreFile)?);
    if bytes.len() <= INLINE_BYTES_MAX {
        return Ok(StateHandle::Inline(bytes.into()));
    }
    let (length, checksum) = (u64::try_from(bytes.len()).unwrap_or(u64::MAX), crc32fast::hash(&bytes));
    let path = file.write_whole(bytes).await?;
    Ok(StateHandle::File { path, offset: 0, length, checksum })
}

impl Kept {
    /// Their entry in the table of contents; adds their handles to those behind the table.
    pub(super) fn index(&self, handles: &mut Vec<StateHandle>) -> Result<StateIndex, Error> {
        let mut files = Vec::with_capacity(self.files.len());
        for (name, handle) in &self.files {
            handles.push(handle.clone());
            let checksum = match handle {
                StateHandle::Inline(bytes) => crc32fast::hash(bytes),
                StateHandle::File { checksum, .. } => *checksum,
            };
            let handle_index = u32::try_from(handles.len()).unwrap_or(u32::MAX);
            let location = Location { handle: handle_index, offset: 0, length: handle.size_bytes(), checksum };
            files.push(StoredFile { name: name.clone(), location });
        }
        let content = ContentIndex::Store(StoreIndex { next_state: self.next_state, files });
        Ok(StateIndex { id: StateId::store(), types: Vec::new(), form: Form::Wire, content })
    }

    /// Where the tables are, for a later snapshot.
    pub(super) fn places(self) -> BTreeMap<String, Place> {
        let place = |(name, handle): (String, StateHandle)| match handle {
            StateHandle::File { path, offset, length, checksum } if name.ends_with(TABLE) => {
                Some((name, Place { path, offset, length, checksum }))
            }
            StateHandle::File { .. } | StateHandle::Inline(_) => None,
        };
        self.files.into_iter().filter_map(place).collect()
    }
}

#[cfg(test)]
#[cfg(feature = "rocksdb")]
mod tests;
