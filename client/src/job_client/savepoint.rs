//! Savepoints of a running job, and of one that is suspended at one.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_model::checkpoint::RestoreFrom;
use tidemill_model::id::{CheckpointId, ExecutionVertexId, JobId, SubtaskIndex};
use tidemill_model::job::StopMode;
use tidemill_model::job_graph::{JobGraph, JobVertex};
use tidemill_model::savepoint::{Savepoint, SavepointVertex};
use tidemill_model::time::Timestamp;
use tidemill_proto::{convert, pb};
use tidemill_storage::{CheckpointStorage, JobStorage};

use super::{ANSWER_TIMEOUT, Audience, Consistency, Error, JobClient, Stub, job_request};

/// How often it is looked whether there is a savepoint.
const LOOK: Duration = Duration::from_millis(50);

/// A completed checkpoint of a job, of which a savepoint can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSavepoint {
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
    /// The checkpoint at which the job was suspended; none: it was not.
    pub suspended_at: Option<CheckpointId>,
}

/// A savepoint that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenSavepoint {
    /// What it says of itself.
    pub savepoint: Savepoint,
    /// Its folder, as a URL or an absolute path: what `tidemill run -s` takes.
    pub path: String,
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
        source: Box<tidemill_storage::Error>,
    },
    /// The job takes no checkpoints.
    #[error(
        "take savepoint of job {job}: it takes no checkpoints; run it with execution.checkpointing.interval and .dir"
    )]
    NoCheckpoints {
        /// The job.
        job: JobId,
    },
    /// The job has ended before there was one.
    #[error("take savepoint of job {job}: it has ended ({status}) before one was completed")]
    Ended {
        /// The job.
        job: JobId,
        /// How.
        status: String,
    },
}

impl JobClient {
    /// The newest checkpoint of a job that was taken as a savepoint.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such job.
    pub async fn get_savepoint(&self, job: JobId) -> Result<JobSavepoint, Error> {
        self.read_savepoint(job, None).await
    }

    /// Any retained checkpoint of a job, as if a savepoint had been made of it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such job, [`Error::Refused`] when it does not retain that checkpoint.
    pub async fn get_retained_checkpoint(&self, job: JobId, checkpoint: CheckpointId) -> Result<JobSavepoint, Error> {
        self.read_savepoint(job, Some(checkpoint)).await
    }

    async fn read_savepoint(&self, job: JobId, checkpoint: Option<CheckpointId>) -> Result<JobSavepoint, Error> {
        let checkpoint = checkpoint.map(|checkpoint| checkpoint.0);
        let request = pb::ReadSavepointRequest { job_id: convert::uuid_bytes(job.0), checkpoint };
        let audience = Consistency::Linearizable.audience();
        let call = |mut stub: Stub| {
            let request = request.clone();
            async move { stub.get_savepoint(request).await }
        };
        let details = self.ask(audience, Some(ANSWER_TIMEOUT), call).await?.into_inner();
        JobSavepoint::try_from(details).map_err(|error| self.malformed(&error))
    }

    /// Has a savepoint of a running job taken, and copies it to a folder: another job can start from it, also with another
    /// parallelism, and it needs nothing else. The job runs on.
    ///
    /// # Errors
    ///
    /// The job takes no checkpoints or ends before, or the folder cannot be written.
    pub async fn take_savepoint(&self, job: JobId, folder: &str) -> Result<TakenSavepoint, SavepointError> {
        let storage = |error| SavepointError::Storage { job, source: Box::new(error) };
        let target = CheckpointStorage::open(folder).map_err(storage)?;
        target.check().await.map_err(storage)?;
        target.folder().refuse_savepoint().await.map_err(storage)?;
        let before = self.get_savepoint(job).await?.checkpoint.map_or(CheckpointId(0), |before| before.checkpoint);
        let taken = loop {
            // Asked again each time: the wish is lost with a leader, and repeating it while one is under way is harmless.
            let call = |mut stub: Stub| async move { stub.trigger_savepoint(job_request(job)).await };
            self.ask(Audience::Leader, Some(ANSWER_TIMEOUT), call).await?;
            let newest = self.get_savepoint(job).await?;
            if newest.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.checkpoint > before) {
                break newest;
            }
            self.refuse_if_ended(job).await?;
            super::pause(LOOK).await;
        };
        taken.copy_to(&target, folder).await
    }

    /// Has a job stopped without losing what it has done; answers when that wish is committed. It is carried out later, at
    /// the latest when the job runs again after a failure.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such job, [`Error::Refused`] when it is ending or, to be suspended, takes no
    /// checkpoints.
    pub async fn stop_job(&self, job: JobId, how: StopMode) -> Result<(), Error> {
        let mode = match how {
            StopMode::Suspend => pb::stop_job_request::Mode::Suspend,
            StopMode::Drain => pb::stop_job_request::Mode::Drain,
        };
        let request = pb::StopJobRequest { job_id: convert::uuid_bytes(job.0), mode: mode.into() };
        let call = |mut stub: Stub| {
            let request = request.clone();
            async move { stub.stop_job(request).await }
        };
        self.ask(Audience::Leader, Some(ANSWER_TIMEOUT), call).await?;
        Ok(())
    }

    /// Suspends a job: it ends at a savepoint, up to which its sinks publish. The savepoint is copied to `folder`; without
    /// one, the job's own folder in the checkpoint storage becomes the savepoint, and nothing is copied.
    ///
    /// # Errors
    ///
    /// The job takes no checkpoints or ends otherwise, or the savepoint cannot be written. A job that is suspended already
    /// is no error: the command can be repeated.
    pub async fn suspend_job(&self, job: JobId, folder: Option<&str>) -> Result<TakenSavepoint, SavepointError> {
        let storage = |error| SavepointError::Storage { job, source: Box::new(error) };
        let target = match folder {
            Some(folder) => {
                let target = CheckpointStorage::open(folder).map_err(storage)?;
                target.check().await.map_err(storage)?;
                if let Some(suspended) = self.suspended_into(job, &target).await? {
                    return Ok(TakenSavepoint { savepoint: suspended, path: folder.to_owned() });
                }
                target.folder().refuse_savepoint().await.map_err(storage)?;
                Some((target, folder))
            }
            None => None,
        };
        self.stop_job(job, StopMode::Suspend).await?;
        let status = self.watch_job(job, |_| ()).await?.status;
        let taken = self.get_savepoint(job).await?;
        if taken.suspended_at.is_none() {
            return Err(SavepointError::Ended { job, status: status.name().to_owned() });
        }
        let source = taken.storage()?;
        match target {
            Some((target, folder)) => {
                let copied = taken.copy_to(&target, folder).await?;
                source.delete_all().await.map_err(storage)?;
                Ok(copied)
            }
            None => {
                let savepoint = taken.savepoint();
                source.describe_savepoint(&savepoint).await.map_err(storage)?;
                let directory = taken.directory.unwrap_or_default();
                Ok(TakenSavepoint { savepoint, path: format!("{}/{job}", directory.trim_end_matches('/')) })
            }
        }
    }

    /// What a folder holds, if that is the savepoint at which the job was suspended: an earlier call has done all.
    async fn suspended_into(
        &self,
        job: JobId,
        folder: &CheckpointStorage,
    ) -> Result<Option<Savepoint>, SavepointError> {
        let Some(checkpoint) = self.get_savepoint(job).await?.suspended_at else { return Ok(None) };
        let found = folder.folder().read_savepoint().await.ok();
        Ok(found.filter(|found| found.job == job && found.checkpoint == checkpoint))
    }

    async fn refuse_if_ended(&self, job: JobId) -> Result<(), SavepointError> {
        let status = self.get_job(job).await?.status;
        if status.is_terminal() {
            return Err(SavepointError::Ended { job, status: status.name().to_owned() });
        }
        Ok(())
    }
}

impl JobSavepoint {
    /// The job's folder in the checkpoint storage.
    pub(super) fn storage(&self) -> Result<JobStorage, SavepointError> {
        let job = self.job;
        let Some(directory) = &self.directory else { return Err(SavepointError::NoCheckpoints { job }) };
        let storage = CheckpointStorage::open(directory)
            .map_err(|error| SavepointError::Storage { job, source: Box::new(error) })?;
        Ok(storage.job(job))
    }

    /// Copies it to a folder, which is a savepoint then.
    pub(super) async fn copy_to(
        &self,
        target: &CheckpointStorage,
        folder: &str,
    ) -> Result<TakenSavepoint, SavepointError> {
        let job = self.job;
        let (source, savepoint) = (self.storage()?, self.savepoint());
        let written = target.folder().write_savepoint(&savepoint, &source).await;
        written.map_err(|source| SavepointError::Storage { job, source: Box::new(source) })?;
        Ok(TakenSavepoint { savepoint, path: folder.to_owned() })
    }

    /// What a savepoint of it says of itself, its handles still those of the checkpoint.
    fn savepoint(&self) -> Savepoint {
        let nothing = RestoreFrom { checkpoint: CheckpointId(0), states: BTreeMap::new() };
        let RestoreFrom { checkpoint, states } = self.checkpoint.as_ref().unwrap_or(&nothing);
        let vertex = |vertex: &JobVertex| SavepointVertex {
            operators: vertex.operators.clone(),
            max_parallelism: vertex.max_parallelism,
            subtasks: (0..vertex.parallelism)
                .map(|index| ExecutionVertexId { vertex: vertex.id, subtask: SubtaskIndex(index) })
                .map(|subtask| states.get(&subtask).cloned().unwrap_or_default())
                .collect(),
        };
        let vertices = self.graph.vertices.iter().map(vertex).collect();
        let (job, name, completed) = (self.job, self.name.clone(), self.completed);
        Savepoint { job, name, checkpoint: *checkpoint, completed, vertices }
    }
}

impl TryFrom<pb::SavepointDetails> for JobSavepoint {
    type Error = convert::Error;

    fn try_from(details: pb::SavepointDetails) -> Result<Self, convert::Error> {
        let graph = details.graph.ok_or(convert::Error::Missing { field: "SavepointDetails.graph" })?;
        Ok(Self {
            job: convert::job_id(&details.job_id, "SavepointDetails.job_id")?,
            name: details.name,
            graph: graph.try_into()?,
            directory: Some(details.directory).filter(|directory| !directory.is_empty()),
            checkpoint: details.checkpoint.map(TryInto::try_into).transpose()?,
            completed: Timestamp(details.completed_ms),
            suspended_at: details.suspended_at.map(CheckpointId),
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
