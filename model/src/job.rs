//! A job as the cluster knows it: what was submitted, how it stands, how it ended.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checkpoint::CheckpointSettings;
use crate::execution::{Accumulators, CollectedPart, Failure};
use crate::id::{BlobId, JobId};
use crate::job_graph::{Fingerprint, JobGraph};
use crate::restart::RestartStrategy;
use crate::savepoint::SavepointRestore;
use crate::time::Timestamp;

/// When aggregates speak (`execution.runtime-mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum RuntimeMode {
    /// Batch when all sources are bounded, else streaming.
    #[default]
    Automatic,
    /// Final results once, at the end of input.
    Batch,
    /// A running update for each record.
    Streaming,
}

/// How a job is to be stopped, other than by cancelling it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StopMode {
    /// At a checkpoint that is taken for it, from which another job can go on.
    Suspend,
    /// As if its sources had no more input: windows fire, and it finishes.
    Drain,
}

/// Where the state of keyed operators is (`state.backend.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum StateBackend {
    /// In memory.
    #[default]
    Heap,
    /// In RocksDB on the local disk, with the keys that are in use in memory.
    RocksDb {
        /// The memory of each slot for it, in bytes; none: the slot's share of the managed memory.
        slot_memory_bytes: Option<u64>,
    },
}

/// Settings that travel with a job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobSettings {
    /// When aggregates speak; resolved by the client, so never `Automatic` in an executor's graph.
    pub runtime_mode: RuntimeMode,
    /// What to do after a failure that may pass.
    pub restart: RestartStrategy,
    /// How checkpoints are taken; none: not at all.
    pub checkpointing: Option<CheckpointSettings>,
    /// The savepoint that the job starts from, while it has no checkpoint of its own.
    pub savepoint: Option<SavepointRestore>,
    /// The most address space that one executor may use, in bytes; none: no limit of its own.
    pub executor_memory_bytes: Option<u64>,
    /// Where keyed state is.
    pub state_backend: StateBackend,
}

/// Where the code of a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// In this very process: the embedded cluster.
    InProcess,
    /// In an artifact that task managers fetch and start.
    Artifact(ArtifactProgram),
}

/// The user's program as task managers start it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactProgram {
    /// The executable's bytes.
    pub artifact: BlobId,
    /// The executable's file name, for process lists.
    pub name: String,
    /// The arguments the client was started with, without the program's own name.
    pub args: Vec<String>,
    /// The recorded environment: an allow-list, since secrets must not be replicated.
    pub environment: BTreeMap<String, String>,
    /// The directory the client was started in; relative paths in `args` mean this one.
    pub working_directory: String,
    /// Which of the program's `execute` calls this job is, from 0.
    pub execute_index: u32,
    /// The results of the program's earlier `execute` calls, which an executor hands out instead of running them.
    pub earlier_results: Vec<JobResult>,
}

/// Everything that a submission says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Chosen by the client.
    pub id: JobId,
    /// For people.
    pub name: String,
    /// The flow.
    pub graph: JobGraph,
    /// The code.
    pub program: Program,
    /// The settings.
    pub settings: JobSettings,
}

impl JobSpec {
    /// The fingerprint that every executor must reproduce.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.graph.fingerprint()
    }

    /// The artifact, unless the job runs in process.
    #[must_use]
    pub fn artifact(&self) -> Option<BlobId> {
        match &self.program {
            Program::InProcess => None,
            Program::Artifact(program) => Some(program.artifact),
        }
    }
}

/// What became of a bounded job that finished, or what stands of one that did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResult {
    /// The job.
    pub job: JobId,
    /// From the first schedule to the end, without waiting for slots.
    pub net_runtime: Duration,
    /// User counters, summed over all sub-tasks of the last attempts.
    pub accumulators: Accumulators,
    /// The blobs of `collect()`.
    pub collected: Vec<CollectedPart>,
}

/// A job's status, replicated; names as in Flink, with `Committing` between the last record and the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobStatus {
    /// Accepted; waits for slots.
    Created,
    /// Scheduled.
    Running,
    /// A failure that may pass: all attempts are being stopped, then the job is scheduled again.
    Restarting,
    /// Told to stop; attempts are being stopped.
    Cancelling,
    /// Failed for good; attempts are being stopped and unfinished output removed.
    Failing(Failure),
    /// All tasks have finished; sinks are publishing their output.
    Committing,
    /// Done, and its output is visible.
    Finished(JobResult),
    /// Stopped on request.
    Canceled,
    /// Failed.
    Failed(Failure),
}

impl JobStatus {
    /// Whether the job has ended; no edge leads out of a terminal status.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Finished(_) | Self::Canceled | Self::Failed(_))
    }

    /// The status's name, as Flink's web page shows it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Running => "RUNNING",
            Self::Restarting => "RESTARTING",
            Self::Cancelling => "CANCELLING",
            Self::Failing(_) => "FAILING",
            Self::Committing => "COMMITTING",
            Self::Finished(_) => "FINISHED",
            Self::Canceled => "CANCELED",
            Self::Failed(_) => "FAILED",
        }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One line of a job's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The leader's stamp.
    pub at: Timestamp,
    /// The name of the status that began then.
    pub status: String,
    /// The cause, where there is one.
    pub cause: Option<Failure>,
}
