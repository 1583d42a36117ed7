//! Whether a job fits the savepoint that it is to start from: asked before it is submitted.

use std::collections::BTreeSet;

use tidemill_dataflow::engine::snapshot::{SnapshotIndex, StateId};
use tidemill_model::job::JobSettings;
use tidemill_model::job_graph::JobGraph;
use tidemill_model::savepoint::{SavepointRestore, UnclaimedState};
use tidemill_storage::CheckpointStorage;

/// Why a job cannot start from a savepoint.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The savepoint cannot be read.
    #[error("start from savepoint: {0}")]
    Storage(#[from] tidemill_storage::Error),
    /// A table of contents in it cannot be read.
    #[error("start from savepoint {path}: {source}")]
    Index {
        /// The savepoint.
        path: String,
        /// Why not.
        source: tidemill_dataflow::engine::snapshot::Error,
    },
    /// It has state of operators that the program does not have.
    #[error(
        "start from savepoint {path}: it has state of {}, which the program does not have; give operators the uids of \
         before, or leave that state behind with --allow-non-restored-state", operators.join(", ")
    )]
    Unclaimed {
        /// The savepoint.
        path: String,
        /// The operators, by uid and name.
        operators: Vec<String>,
    },
    /// Keys were distributed otherwise.
    #[error(
        "start from savepoint {path}: operator {operator:?} had {old} key groups and has {new} now; their number cannot \
         change"
    )]
    KeyGroups {
        /// The savepoint.
        path: String,
        /// The operator's uid.
        operator: String,
        /// How many there were.
        old: u32,
        /// How many there are.
        new: u32,
    },
}

/// Checks a job against the savepoint in its settings, if there is one.
pub(crate) async fn check(settings: &JobSettings, graph: &JobGraph) -> Result<(), Error> {
    let Some(SavepointRestore { path, unclaimed }) = &settings.savepoint else { return Ok(()) };
    let folder = CheckpointStorage::open(path)?.folder();
    let savepoint = folder.read_savepoint().await?;
    let mut missing = BTreeSet::new();
    for old in &savepoint.vertices {
        for subtask in &old.subtasks {
            let Some(handle) = subtask.0.first() else { continue };
            let index = SnapshotIndex::decode(&folder.read(handle).await?)
                .map_err(|source| Error::Index { path: path.clone(), source })?;
            let states = index.states.into_iter().map(|state| state.id).filter(|id| *id != StateId::store());
            missing.extend(states.map(|id| id.operator));
        }
        for new in &graph.vertices {
            let shared = new.operators.iter().find(|new| old.operators.iter().any(|old| old.uid == new.uid));
            if let Some(shared) = shared.filter(|_| new.max_parallelism != old.max_parallelism) {
                let (operator, old, new) = (shared.uid.clone(), old.max_parallelism, new.max_parallelism);
                return Err(Error::KeyGroups { path: path.clone(), operator, old, new });
            }
        }
    }
    for operator in graph.vertices.iter().flat_map(|vertex| &vertex.operators) {
        missing.remove(&operator.uid);
    }
    if missing.is_empty() || *unclaimed == UnclaimedState::Leave {
        return Ok(());
    }
    let operators = savepoint.vertices.iter().flat_map(|vertex| &vertex.operators);
    let named = operators.filter(|operator| missing.contains(&operator.uid));
    let operators = named.map(|operator| format!("{:?} ({})", operator.uid, operator.name)).collect();
    Err(Error::Unclaimed { path: path.clone(), operators })
}
