//! Hashes by which a checker tells whether a restore used what was acknowledged and completed.

use std::collections::BTreeMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};
use tidemill_model::checkpoint::{StateHandle, SubtaskState};
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
}
