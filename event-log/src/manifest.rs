//! Hashes by which a checker tells whether a restore used what was acknowledged and completed.

use std::collections::BTreeMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};
use tidemill_model::checkpoint::{StateHandle, SubtaskState};
use tidemill_model::event::EventFile;
use tidemill_model::id::ExecutionVertexId;

/// The hash of one sub-task's part of a checkpoint.
#[must_use]
pub fn state_sha(state: &SubtaskState) -> String {
    let mut hash = Sha256::new();
    for handle in &state.0 {
        match handle {
            StateHandle::Inline(bytes) => {
                hash.update(format!("inline {}\n", bytes.len()));
                hash.update(bytes);
            }
            StateHandle::File { path, offset, length, checksum } => {
                hash.update(format!("file {path} {offset} {length} {checksum}\n"));
            }
        }
    }
    hex(hash)
}

/// The hash of a whole checkpoint: of a line `vertex hash` for each sub-task, in order.
#[must_use]
pub fn manifest_sha(states: &BTreeMap<ExecutionVertexId, SubtaskState>) -> String {
    let mut hash = Sha256::new();
    for (vertex, state) in states {
        hash.update(format!("{vertex} {}\n", state_sha(state)));
    }
    hex(hash)
}

/// The files that a whole checkpoint needs, each as far as it needs it.
#[must_use]
pub fn manifest_files(states: &BTreeMap<ExecutionVertexId, SubtaskState>) -> Vec<EventFile> {
    let mut files: BTreeMap<&str, u64> = BTreeMap::new();
    for handle in states.values().flat_map(|state| &state.0) {
        if let StateHandle::File { path, offset, length, .. } = handle {
            let bytes = files.entry(path).or_default();
            *bytes = (*bytes).max(offset.saturating_add(*length));
        }
    }
    files.into_iter().map(|(path, bytes)| EventFile { path: path.to_owned(), bytes }).collect()
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all text");
        text
    })
}

#[cfg(test)]
mod tests {
    use tidemill_model::id::{JobVertexId, SubtaskIndex};

    use super::*;

    #[test]
    fn every_part_of_a_state_counts() {
        let file = |path: &str, offset| StateHandle::File { path: path.to_owned(), offset, length: 2, checksum: 3 };
        let states = [
            SubtaskState::default(),
            SubtaskState(vec![StateHandle::Inline(vec![1])]),
            SubtaskState(vec![StateHandle::Inline(vec![2])]),
            SubtaskState(vec![file("7/a", 0)]),
            SubtaskState(vec![file("7/a", 1)]),
            SubtaskState(vec![file("7/b", 0)]),
            SubtaskState(vec![file("7/b", 0), StateHandle::Inline(vec![1])]),
        ];
        let hashes: std::collections::BTreeSet<String> = states.iter().map(state_sha).collect();
        assert_eq!(hashes.len(), states.len());
        let vertex = ExecutionVertexId { vertex: JobVertexId(1), subtask: SubtaskIndex(0) };
        let whole = |state: &SubtaskState| manifest_sha(&[(vertex, state.clone())].into());
        assert_eq!(whole(&states[1]), whole(&states[1].clone()));
        assert_ne!(whole(&states[1]), whole(&states[2]));
    }

    #[test]
    fn a_file_is_needed_up_to_its_last_range() {
        let range =
            |path: &str, offset, length| StateHandle::File { path: path.to_owned(), offset, length, checksum: 0 };
        let first = SubtaskState(vec![range("7/a", 10, 5), StateHandle::Inline(vec![1]), range("6/b", 0, 3)]);
        let second = SubtaskState(vec![range("7/a", 0, 10)]);
        let vertex = |subtask| ExecutionVertexId { vertex: JobVertexId(1), subtask: SubtaskIndex(subtask) };
        let files = manifest_files(&[(vertex(0), first), (vertex(1), second)].into());
        let file = |path: &str, bytes| EventFile { path: path.to_owned(), bytes };
        assert_eq!(files, [file("6/b", 3), file("7/a", 15)]);
    }
}
