//! What a job's sinks have prepared and not committed, as far as the cluster knows.

use tidemill_dataflow::engine::snapshot::{ContentIndex, SnapshotIndex, StateIndex};
use tidemill_dataflow::runtime::sink::{PendingTransaction, pending_transactions};
use tidemill_model::checkpoint::{RestoreFrom, SubtaskState};
use tidemill_model::id::{CheckpointId, ExecutionVertexId, JobId};
use tidemill_model::job::JobStatus;
use tidemill_storage::JobStorage;

use super::{Error, JobClient, JobDetails, JobSavepoint, SavepointError};

/// How often a checkpoint may be subsumed while it is read.
const TRIES: u32 = 5;

/// The transactions of a job's sinks that are open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingSinks {
    /// The job.
    pub job: JobId,
    /// Its status: sinks of a job that has ended have committed.
    pub status: JobStatus,
    /// The newest completed checkpoint; none: there is none.
    pub newest: Option<NewestCommit>,
    /// Those that wait, by sub-task. What was written after the newest completed checkpoint is not among them.
    pub transactions: Vec<PendingSink>,
}

/// The newest completed checkpoint, from the sinks' point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewestCommit {
    /// Which.
    pub checkpoint: CheckpointId,
    /// Whether all that took part have confirmed that they have committed what waited for it.
    pub confirmed: bool,
}

/// A transaction that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingSink {
    /// Whose.
    pub vertex: ExecutionVertexId,
    /// The sink's uid.
    pub operator: String,
    /// Which.
    pub transaction: PendingTransaction,
}

/// Why it is not known what is open.
#[derive(Debug, thiserror::Error)]
pub enum PendingSinksError {
    /// The cluster could not be asked.
    #[error(transparent)]
    Client(#[from] Error),
    /// The checkpoint's folder cannot be used.
    #[error(transparent)]
    Savepoint(#[from] SavepointError),
    /// A file of the checkpoint cannot be read.
    #[error("look for open transactions of job {job}: {source}")]
    Storage {
        /// The job.
        job: JobId,
        /// Why not.
        source: Box<tidemill_storage::Error>,
    },
    /// What a sub-task left cannot be understood.
    #[error("look for open transactions of {vertex} of job {job}: {reason}; use a release that fits")]
    State {
        /// The job.
        job: JobId,
        /// The sub-task.
        vertex: ExecutionVertexId,
        /// Why not.
        reason: String,
    },
}

impl JobClient {
    /// The transactions of a job's sinks that are open: those that the newest completed checkpoint knows, and that nobody
    /// has confirmed to have committed.
    ///
    /// # Errors
    ///
    /// There is no such job, or its checkpoint cannot be read.
    pub async fn pending_sinks(&self, job: JobId) -> Result<PendingSinks, PendingSinksError> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let details = self.get_job(job).await?;
            let newest = newest(&details);
            let error = match self.pending_in(&details, newest).await {
                Ok(transactions) => return Ok(PendingSinks { job, status: details.status, newest, transactions }),
                Err(error) => error,
            };
            // A newer one may have taken its place, and its files are gone.
            if tries == 0 || newest == self::newest(&self.get_job(job).await?) {
                return Err(error);
            }
        }
    }

    async fn pending_in(
        &self,
        details: &JobDetails,
        newest: Option<NewestCommit>,
    ) -> Result<Vec<PendingSink>, PendingSinksError> {
        let Some(newest) = newest.filter(|_| !details.status.is_terminal()) else { return Ok(Vec::new()) };
        let from = self.get_retained_checkpoint(details.id, newest.checkpoint).await?;
        let storage = from.storage()?;
        let JobSavepoint { job, checkpoint: Some(RestoreFrom { states, .. }), .. } = from else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for (vertex, state) in states {
            found.extend(of_subtask((job, vertex), &state, &storage).await?);
        }
        found.retain(|pending| !newest.confirmed || pending.transaction.waits_for.is_none());
        Ok(found)
    }
}

fn newest(details: &JobDetails) -> Option<NewestCommit> {
    let retained = details.checkpoints.as_ref()?.retained.last()?;
    Some(NewestCommit { checkpoint: retained.id, confirmed: retained.notified })
}

async fn of_subtask(
    (job, vertex): (JobId, ExecutionVertexId),
    SubtaskState(handles): &SubtaskState,
    storage: &JobStorage,
) -> Result<Vec<PendingSink>, PendingSinksError> {
    let unread = |source: tidemill_storage::Error| PendingSinksError::Storage { job, source: Box::new(source) };
    let garbled = |reason: String| PendingSinksError::State { job, vertex, reason };
    let Some(first) = handles.first() else { return Ok(Vec::new()) };
    let index = SnapshotIndex::decode(&storage.read(first).await.map_err(unread)?);
    let mut found = Vec::new();
    for state in index.map_err(|error| garbled(error.to_string()))?.states {
        let StateIndex { content: ContentIndex::Value(location), .. } = &state else { continue };
        let whole = usize::try_from(location.handle).ok().and_then(|handle| handles.get(handle));
        let value = whole.and_then(|whole| location.within(whole));
        let value = value.ok_or_else(|| garbled("its table of contents is damaged".to_owned()))?;
        // The value alone: keyed state of any size may lie beside it.
        let value = storage.read(&value).await.map_err(unread)?;
        let transactions = pending_transactions(&state, &value).map_err(|error| garbled(error.to_string()))?;
        let of_sink = |transaction| PendingSink { vertex, operator: state.id.operator.clone(), transaction };
        found.extend(transactions.into_iter().flatten().map(of_sink));
    }
    Ok(found)
}
