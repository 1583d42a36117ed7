//! An older checkpoint of a job that has ended, made a savepoint: what an operator falls back to when the newest is damaged.

use std::fmt;

use tidemill_model::id::{CheckpointId, JobId};
use tidemill_model::time::Timestamp;
use tidemill_storage::CheckpointStorage;

use super::{Error, JobClient, JobSavepoint, SavepointError, TakenSavepoint};

/// What it would mean to go on from an older checkpoint; [`JobClient::fall_back`] carries it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallBack {
    /// The job, which has ended.
    pub job: JobId,
    /// The older checkpoint.
    pub checkpoint: CheckpointId,
    /// When it was completed.
    pub completed: Timestamp,
    /// The later ones that are retained: with them, too, sinks have committed output that comes again.
    pub later: Vec<CheckpointId>,
    from: JobSavepoint,
}

/// Why there is nothing to fall back to.
#[derive(Debug, thiserror::Error)]
pub enum FallBackError {
    /// The cluster could not be asked, or does not retain the checkpoint.
    #[error(transparent)]
    Client(#[from] Error),
    /// The job has not ended: beside another one that starts from its checkpoint, each would repeat the other.
    #[error("fall back to checkpoint {checkpoint} of job {job}: the job is {status}; cancel it first")]
    Running {
        /// The job.
        job: JobId,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What it does.
        status: String,
    },
    /// The operator did not type what was asked for.
    #[error("fall back: not confirmed; nothing was written. To go on, type or pass --confirm {phrase:?}")]
    NotConfirmed {
        /// What to type.
        phrase: String,
    },
    /// The savepoint was not written.
    #[error("fall back to checkpoint {checkpoint}: {source}")]
    Savepoint {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why not.
        source: SavepointError,
    },
}

impl FallBack {
    /// What has to be typed to have it carried out.
    #[must_use]
    pub fn phrase(&self) -> String {
        format!("repeat what followed checkpoint {}", self.checkpoint)
    }
}

impl fmt::Display for FallBack {
    /// What may repeat, for an operator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job, checkpoint, later, .. } = self;
        let later: Vec<String> = later.iter().map(ToString::to_string).collect();
        let later = if later.is_empty() {
            "No later one is retained.".to_owned()
        } else {
            format!("Later ones are retained ({}): go back no further than need be.", later.join(", "))
        };
        write!(
            f,
            "Checkpoint {checkpoint} of job {job} becomes a savepoint. {later}\nA job that starts from it repeats whatever \
             job {job} did after that checkpoint: output that sinks committed with later ones, and all that sinks without \
             transactions have written since, comes again. Nothing of it is taken back by itself."
        )
    }
}

impl JobClient {
    /// What it would mean to go on from a retained checkpoint of a job that has ended. Nothing is done yet.
    ///
    /// # Errors
    ///
    /// The job has not ended, or the checkpoint is not retained.
    pub async fn plan_fall_back(&self, job: JobId, checkpoint: CheckpointId) -> Result<FallBack, FallBackError> {
        let details = self.get_job(job).await?;
        if !details.status.is_terminal() {
            let status = details.status.name().to_owned();
            return Err(FallBackError::Running { job, checkpoint, status });
        }
        let from = self.get_retained_checkpoint(job, checkpoint).await?;
        let retained = details.checkpoints.into_iter().flat_map(|checkpoints| checkpoints.retained);
        let later = retained.map(|other| other.id).filter(|other| *other > checkpoint).collect();
        Ok(FallBack { job, checkpoint, completed: from.completed, later, from })
    }

    /// Copies the older checkpoint to a folder, which is a savepoint then. Every byte is verified on the way. `typed` is
    /// what an operator has typed who knows what may repeat: the plan's [`phrase`](FallBack::phrase).
    ///
    /// # Errors
    ///
    /// It is not confirmed, the checkpoint is damaged too, or the folder cannot be written.
    pub async fn fall_back(&self, plan: &FallBack, folder: &str, typed: &str) -> Result<TakenSavepoint, FallBackError> {
        if typed.trim() != plan.phrase() {
            return Err(FallBackError::NotConfirmed { phrase: plan.phrase() });
        }
        let (job, checkpoint) = (plan.job, plan.checkpoint);
        let target =
            CheckpointStorage::open(folder).map_err(|source| SavepointError::Storage { job, source: Box::new(source) });
        let copied = match target {
            Ok(target) => plan.from.copy_to(&target, folder).await,
            Err(error) => Err(error),
        };
        copied.map_err(|source| FallBackError::Savepoint { checkpoint, source })
    }
}
