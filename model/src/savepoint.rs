//! Savepoints: what a job can be started from that is not the one that left it.

use serde::{Deserialize, Serialize};

use crate::checkpoint::SubtaskState;
use crate::id::{CheckpointId, JobId};
use crate::job_graph::OperatorDescriptor;
use crate::time::Timestamp;

/// What a new job is to start from (`execution.state-recovery.*`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavepointRestore {
    /// The savepoint's folder, as a URL or an absolute path.
    pub path: String,
    /// What becomes of state whose operator the program does not have.
    pub unclaimed: UnclaimedState,
}

/// What becomes of state in a savepoint whose operator the program does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum UnclaimedState {
    /// The job is refused: it may have been renamed by mistake.
    #[default]
    Refuse,
    /// It is left behind.
    Leave,
}

/// What a savepoint says of itself. Its files lie in its own folder, so that it can be moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Savepoint {
    /// The job that it was taken of.
    pub job: JobId,
    /// That job's name.
    pub name: String,
    /// The checkpoint that it is a copy of.
    pub checkpoint: CheckpointId,
    /// When that was committed.
    pub completed: Timestamp,
    /// The state, chain by chain.
    pub vertices: Vec<SavepointVertex>,
}

/// The state of one chain of operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavepointVertex {
    /// The operators; state is found by their uids, whatever chains the new program makes of them.
    pub operators: Vec<OperatorDescriptor>,
    /// Among how many key groups keys are distributed.
    pub max_parallelism: u32,
    /// The state of each sub-task.
    pub subtasks: Vec<SubtaskState>,
}

impl Savepoint {
    /// The chains that have one of these operators.
    pub fn of<'a>(&'a self, operators: &'a [OperatorDescriptor]) -> impl Iterator<Item = &'a SavepointVertex> {
        let has = |vertex: &&SavepointVertex| {
            vertex.operators.iter().any(|old| operators.iter().any(|new| new.uid == old.uid))
        };
        self.vertices.iter().filter(has)
    }
}
