//! Checkpoints inside an executor: how tasks hear of them, what they leave, who writes it, and how they start from it.
//!
//! ```text
//! agent --trigger--> Notices --> source task -- barrier in band --> every task of the chain, operator by operator
//!                                                                    | frozen states (shared, not copied)
//!                                                                    v
//! agent <--acknowledged-- SnapshotWriter: one file for all sub-tasks of this process
//! ```

mod file;
mod local;
mod notices;
mod restore;
mod savepoint;
mod store;
mod subtask;
mod writer;

use std::fmt;

use bytes::Bytes;
use crossbeam_channel::Sender;
use tidemill_model::checkpoint::{CheckpointReport, CheckpointSettings};
use tidemill_model::execution::FailureKind;
use tidemill_model::id::JobId;
use tidemill_storage::{CheckpointStorage, JobStorage};

use crate::engine::snapshot::StateId;
use crate::runtime::executor::ExecutorEvent;
use crate::state::{FrozenState, FrozenValue};

pub(crate) use notices::Notices;
pub(crate) use restore::{Earlier, EarlierState, Restored};
pub(crate) use savepoint::SavepointSource;
pub(crate) use writer::{Message, SnapshotWriter};

/// How the executors of a job take checkpoints, and where they keep them.
#[derive(Clone)]
pub(crate) struct Checkpointing {
    pub(crate) settings: CheckpointSettings,
    pub(crate) storage: JobStorage,
}

/// Why state cannot be kept or had back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Storage(#[from] tidemill_storage::Error),
    #[error(transparent)]
    Index(#[from] crate::engine::snapshot::Error),
    #[error("{state}: {source}")]
    Record { state: StateName, source: crate::record::Error },
    #[error("restore {state}: {reason}")]
    Content { state: StateName, reason: String },
    #[error(
        "restore {state}: the checkpoint has it of {old:?}, the program wants {new:?}; give the new state another name, or \
         start from a savepoint, in which types may have grown"
    )]
    Types { state: StateName, old: Vec<String>, new: Vec<String> },
    #[error(
        "restore {state}: it was kept as {old:?} and cannot be read as {new:?}: {source}; give fields that are new a \
         #[serde(default)], or the new state another name"
    )]
    Evolution { state: StateName, old: Vec<String>, new: Vec<String>, source: Box<crate::record::Error> },
    #[error(
        "restore vertex of operator {operator:?}: the savepoint distributes keys among {old} key groups, the program among \
         {new}; set the same maximum parallelism"
    )]
    KeyGroups { operator: String, old: u32, new: u32 },
    #[error(
        "restore {state}: {reason}; an unaligned checkpoint is restored by the program that took it, with the same \
         parallelism: take the savepoint from an aligned one"
    )]
    InFlight { state: StateName, reason: String },
    #[error(
        "restore {state}: the checkpoint has it in the files of RocksDB; set state.backend.type to rocksdb, or start from a \
         savepoint, which any back-end reads"
    )]
    OtherBackend { state: StateName },
    #[error("keep checkpoints: {0}")]
    Start(std::io::Error),
    #[error("read or write a file of the sub-task's store: {0}")]
    StoreFile(std::io::Error),
    #[error("keep the sub-task's store: {0}")]
    Store(String),
    #[error(
        "use state.backend.type = rocksdb: this program was built without it; build it with the feature `rocksdb` of the \
         crate `tidemill`, or set state.backend.type to heap"
    )]
    #[cfg(not(feature = "rocksdb"))]
    NoRocksDb,
}

impl Error {
    /// What sort of failure it is for a task: what may be better another time is tried again.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Storage(error) if error.is_transient() => FailureKind::Io,
            Self::Start(_) | Self::StoreFile(_) | Self::Store(_) => FailureKind::Io,
            Self::Storage(error) if error.is_damage() => FailureKind::Restore,
            Self::Index(_) => FailureKind::Restore,
            #[cfg(not(feature = "rocksdb"))]
            Self::NoRocksDb => FailureKind::InvalidInput,
            Self::Storage(_)
            | Self::Record { .. }
            | Self::Content { .. }
            | Self::Types { .. }
            | Self::Evolution { .. }
            | Self::InFlight { .. }
            | Self::OtherBackend { .. }
            | Self::KeyGroups { .. } => FailureKind::InvalidInput,
        }
    }
}

/// A state, for people.
#[derive(Debug, Clone)]
pub(crate) struct StateName(pub(crate) StateId);

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "state {:?} of operator {:?}", self.0.name, self.0.operator)
    }
}

impl Checkpointing {
    /// The checkpoints of a job.
    ///
    /// # Errors
    /// The folder's URL is none that this program can use.
    pub(crate) fn open(settings: &CheckpointSettings, job: JobId) -> Result<Self, Error> {
        let storage = CheckpointStorage::open(&settings.directory)?.job(job);
        Ok(Self { settings: settings.clone(), storage })
    }
}

/// What waits for the storage on the calling thread.
fn waiting_runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Start)
}

/// One state of a sub-task, for a snapshot.
pub(crate) struct StatePart {
    pub(crate) id: StateId,
    /// The types that it is made of.
    pub(crate) types: Vec<String>,
    pub(crate) content: Content,
}

/// What is kept of a state.
pub(crate) enum Content {
    /// Values by key.
    Keyed(Box<dyn FrozenState>),
    /// One value of the whole sub-task.
    Value(Box<dyn FrozenValue>),
    /// What was in flight to the sub-task, as it is on the wire.
    InFlight(Bytes),
}

/// The checkpoints of one sub-task: what it hears, and where it leaves its snapshots.
#[derive(Clone)]
pub(crate) struct TaskCheckpoints {
    pub(crate) checkpointing: Checkpointing,
    pub(crate) writer: SnapshotWriter,
    pub(crate) events: Sender<ExecutorEvent>,
}

impl TaskCheckpoints {
    /// Tells the leader something.
    pub(crate) fn report(&self, report: CheckpointReport) {
        // Nobody listens any more: the executor is being dropped.
        let _ = self.events.send(ExecutorEvent::Checkpoint(report));
    }
}
