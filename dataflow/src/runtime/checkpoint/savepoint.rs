//! The savepoint that a job's sub-tasks start from while the job has no checkpoint of its own.

use tidemill_model::job_graph::JobVertex;
use tidemill_model::savepoint::{Savepoint, SavepointRestore};
use tidemill_storage::{CheckpointStorage, JobStorage};

use super::{Earlier, EarlierState, Error, waiting_runtime};

/// A savepoint that was read.
#[derive(Clone)]
pub(crate) struct SavepointSource {
    pub(crate) storage: JobStorage,
    savepoint: Savepoint,
}

impl SavepointSource {
    /// Reads what the savepoint says of itself; waits for it.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn open(restore: &SavepointRestore) -> Result<Self, Error> {
        let storage = CheckpointStorage::open(&restore.path)?.folder();
        let savepoint = waiting_runtime()?.block_on(storage.read_savepoint())?;
        Ok(Self { storage, savepoint })
    }

    /// The state of a vertex of the program, by the uids of its operators: they may have been in other chains.
    ///
    /// # Errors
    /// Its keys were distributed otherwise.
    pub(crate) fn of(&self, vertex: &JobVertex) -> Result<Earlier, Error> {
        let mut earlier = Earlier { states: Vec::new(), parallelism: vertex.parallelism };
        for old in self.savepoint.of(&vertex.operators) {
            if old.max_parallelism != vertex.max_parallelism {
                let operator = vertex.operators.first().map(|operator| operator.uid.clone()).unwrap_or_default();
                let (old, new) = (old.max_parallelism, vertex.max_parallelism);
                return Err(Error::KeyGroups { operator, old, new });
            }
            earlier.parallelism = u32::try_from(old.subtasks.len()).unwrap_or(u32::MAX);
            let states = (0u32..).zip(&old.subtasks);
            earlier.states.extend(states.map(|(subtask, state)| EarlierState { subtask, state: state.clone() }));
        }
        Ok(earlier)
    }
}
