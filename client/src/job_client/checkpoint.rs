//! A job's newest completed checkpoint, and the savepoint that is made of it.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_model::checkpoint::RestoreFrom;
use tidemill_model::id::{CheckpointId, ExecutionVertexId, JobId, SubtaskIndex};
use tidemill_model::job_graph::JobGraph;
use tidemill_model::savepoint::{Savepoint, SavepointVertex};
use tidemill_model::time::Timestamp;
use tidemill_proto::{convert, pb};
use tidemill_storage::{CheckpointStorage, JobStorage};

use super::{ANSWER_TIMEOUT, Consistency, Error, JobClient, Stub};

/// How often it is looked whether there is another checkpoint.
const LOOK: Duration = Duration::from_millis(50);

/// The newest completed checkpoint of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobCheckpoint {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// Its graph.
    pub graph: JobGraph,
    /// The folder in which its checkpoints are kept; none: it takes none.
    pub directory: Option<String>,
    /// The checkpoint; none: none was completed.
    pub checkpoint: Option<RestoreFrom>,
    /// When it was.
    pub completed: Timestamp,
}

/// Why there is no savepoint.
#[derive(Debug, thiserror::Error)]
pub enum SavepointError {
    /// The cluster could not be asked.
    #[error(transparent)]
    Client(#[from] Error),
    /// Files could not be read or written.
    #[error("take savepoint of job {job}: {source}")]
    Storage {
        /// The job.
        job: JobId,
        /// Why not.
        source: tidemill_storage::Error,
    },
    /// The job takes no checkpoints.
    #[error(
        "take savepoint of job {job}: it takes no checkpoints; run it with execution.checkpointing.interval and .dir"
    )]
    NoCheckpoints {
        /// The job.
        job: JobId,
    },
    /// The job has ended before there was another checkpoint.
    #[error("take savepoint of job {job}: it has ended ({status}) before another checkpoint was completed")]
    Ended {
        /// The job.
        job: JobId,
        /// How.
        status: String,
    },
}

impl JobClient {
    /// A job's newest completed checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such job.
    pub async fn get_checkpoint(&self, job: JobId) -> Result<JobCheckpoint, Error> {
        let consistency = Consistency::Linearizable;
        let request = pb::ReadJobRequest { id: convert::uuid_bytes(job.0), consistency: consistency.wire() };
        let call = |mut stub: Stub| {
            let request = request.clone();
            async move { stub.get_checkpoint(request).await }
        };
        let details = self.ask(consistency.audience(), Some(ANSWER_TIMEOUT), call).await?.into_inner();
        JobCheckpoint::try_from(details).map_err(|error| self.malformed(&error))
    }

    /// Waits for the next checkpoint of a job that is completed from now on, and copies it to a folder, which is a
    /// savepoint then: another job can start from it, also with another parallelism, and it needs nothing else. The job
    /// runs on.
    ///
    /// # Errors
    ///
    /// The job takes no checkpoints or ends before, or the folder cannot be written.
    pub async fn take_savepoint(&self, job: JobId, folder: &str) -> Result<Savepoint, SavepointError> {
        let storage = |source| SavepointError::Storage { job, source };
        let target = CheckpointStorage::open(folder).map_err(storage)?;
        target.check().await.map_err(storage)?;
        let start = self.get_checkpoint(job).await?;
        let Some(directory) = start.directory else { return Err(SavepointError::NoCheckpoints { job }) };
        let source = CheckpointStorage::open(&directory).map_err(storage)?.job(job);
        let mut after = start.checkpoint.map_or(CheckpointId(0), |checkpoint| checkpoint.checkpoint);
        loop {
            let savepoint = self.checkpoint_after(job, after).await?.savepoint();
            after = savepoint.checkpoint;
            match target.folder().write_savepoint(&savepoint, &source).await {
                Ok(()) => return Ok(savepoint),
                // A newer checkpoint was completed meanwhile and this one is gone: the next one will do.
                Err(tidemill_storage::Error::Missing { .. }) if self.is_superseded(job, after).await? => {}
                Err(error) => return Err(storage(error)),
            }
        }
    }

    async fn is_superseded(&self, job: JobId, checkpoint: CheckpointId) -> Result<bool, Error> {
        let newest = self.get_checkpoint(job).await?.checkpoint;
        Ok(newest.is_some_and(|newest| newest.checkpoint > checkpoint))
    }

    async fn checkpoint_after(&self, job: JobId, after: CheckpointId) -> Result<JobCheckpoint, SavepointError> {
        loop {
            let newest = self.get_checkpoint(job).await?;
            if newest.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.checkpoint > after) {
                return Ok(newest);
            }
            let status = self.get_job(job).await?.status;
            if status.is_terminal() {
                return Err(SavepointError::Ended { job, status: status.name().to_owned() });
            }
            super::pause(LOOK).await;
        }
    }
}

impl JobCheckpoint {
    /// What a savepoint of it says of itself, its handles still those of the checkpoint.
    fn savepoint(self) -> Savepoint {
        let Self { job, name, graph, checkpoint, completed, .. } = self;
        let (checkpoint, states) = match checkpoint {
            Some(RestoreFrom { checkpoint, states }) => (checkpoint, states),
            None => (CheckpointId(0), BTreeMap::new()),
        };
        let vertex = |vertex: &tidemill_model::job_graph::JobVertex| SavepointVertex {
            operators: vertex.operators.clone(),
            max_parallelism: vertex.max_parallelism,
            subtasks: (0..vertex.parallelism)
                .map(|index| ExecutionVertexId { vertex: vertex.id, subtask: SubtaskIndex(index) })
                .map(|subtask| states.get(&subtask).cloned().unwrap_or_default())
                .collect(),
        };
        let vertices = graph.vertices.iter().map(vertex).collect();
        Savepoint { job, name, checkpoint, completed, vertices }
    }
}

impl TryFrom<pb::CheckpointDetails> for JobCheckpoint {
    type Error = convert::Error;

    fn try_from(details: pb::CheckpointDetails) -> Result<Self, convert::Error> {
        let graph = details.graph.ok_or(convert::Error::Missing { field: "CheckpointDetails.graph" })?;
        Ok(Self {
            job: convert::job_id(&details.job_id, "CheckpointDetails.job_id")?,
            name: details.name,
            graph: graph.try_into()?,
            directory: Some(details.directory).filter(|directory| !directory.is_empty()),
            checkpoint: details.checkpoint.map(TryInto::try_into).transpose()?,
            completed: Timestamp(details.completed_ms),
        })
    }
}

/// The folder of a savepoint.
///
/// # Errors
///
/// Its URL is none that this program can use.
pub fn savepoint_folder(url: &str) -> Result<JobStorage, tidemill_storage::Error> {
    Ok(CheckpointStorage::open(url)?.folder())
}
