//! Checkpoint ids of a job are used once, by one leadership, after they have been reserved; completed ones strictly grow;
//! and what is completed was acknowledged by the attempts that are scheduled, none of which has been replaced since.

use std::collections::BTreeMap;

use tidemill_coordinator::engine::leader::TaskManagerCommand;
use tidemill_coordinator::engine::replicated::Response;
use tidemill_model::checkpoint::CheckpointAction;
use tidemill_model::id::{CheckpointId, JobId, LeaderEpoch};

use super::milestone::Milestone;
use crate::sim::fact::Fact;

/// How it was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// An id was triggered that nobody had reserved.
    #[error("checkpoint {checkpoint} of job {job} was triggered, and ids up to {reserved} are reserved")]
    NotReserved {
        /// Whose.
        job: JobId,
        /// Which.
        checkpoint: CheckpointId,
        /// How far ids were reserved.
        reserved: CheckpointId,
    },
    /// Two leaderships used one id.
    #[error("checkpoint {checkpoint} of job {job} was triggered under epoch {first} and under epoch {second}")]
    UsedTwice {
        /// Whose.
        job: JobId,
        /// Which.
        checkpoint: CheckpointId,
        /// Who used it first.
        first: LeaderEpoch,
        /// Who used it then.
        second: LeaderEpoch,
    },
    /// A completed id is not above the one before.
    #[error("checkpoint {checkpoint} of job {job} was completed after {before}")]
    WentBack {
        /// Whose.
        job: JobId,
        /// Which.
        checkpoint: CheckpointId,
        /// The one before.
        before: CheckpointId,
    },
    /// It was completed although attempts had been replaced since it was triggered.
    #[error("checkpoint {checkpoint} of job {job} was completed after a failover that voided ids up to {void}")]
    Superseded {
        /// Whose.
        job: JobId,
        /// Which.
        checkpoint: CheckpointId,
        /// The highest id that was reserved when attempts were replaced.
        void: CheckpointId,
    },
    /// Attempts took part that are not the scheduled ones.
    #[error("checkpoint {checkpoint} of job {job} was completed by attempts that are not scheduled")]
    OtherAttempts {
        /// Whose.
        job: JobId,
        /// Which.
        checkpoint: CheckpointId,
    },
}

/// Keeps who used which id, what was completed last, and what is void.
#[derive(Debug, Default)]
pub(crate) struct CheckpointIds {
    used: BTreeMap<(JobId, CheckpointId), LeaderEpoch>,
    completed: BTreeMap<JobId, CheckpointId>,
    void: BTreeMap<JobId, CheckpointId>,
}

impl CheckpointIds {
    pub(super) fn observe(&mut self, fact: &Fact<'_>) -> Result<(), Violation> {
        let Fact::Sent { epoch, command: TaskManagerCommand::Checkpoint(command), state, .. } = fact else {
            return Ok(());
        };
        let Some(attempt) = command.attempts.first().filter(|_| matches!(command.action, CheckpointAction::Trigger(_)))
        else {
            return Ok(());
        };
        let (job, checkpoint) = (attempt.job, command.checkpoint);
        let first = *self.used.entry((job, checkpoint)).or_insert(*epoch);
        if first != *epoch {
            return Err(Violation::UsedTwice { job, checkpoint, first, second: *epoch });
        }
        let reserved = state.jobs.get(&job).map(|job| job.checkpoints.reserved).unwrap_or_default();
        if checkpoint > reserved {
            return Err(Violation::NotReserved { job, checkpoint, reserved });
        }
        Ok(())
    }

    /// An entry that nobody had applied before.
    pub(super) fn decided(&mut self, fact: &Fact<'_>) -> Result<(), Violation> {
        let Fact::Applied { command, response: Response::Done, before, .. } = fact else { return Ok(()) };
        let Some(job) = command.body.job() else { return Ok(()) };
        let Some(state) = before.jobs.get(&job) else { return Ok(()) };
        let (checkpoint, attempts) = match Milestone::of(&command.body) {
            Some(Milestone::Completed(checkpoint, attempts)) => (checkpoint, attempts),
            Some(Milestone::Replaced) => {
                self.void.insert(job, state.checkpoints.reserved);
                return Ok(());
            }
            None => return Ok(()),
        };
        if let Some(before) = self.completed.insert(job, checkpoint)
            && before >= checkpoint
        {
            return Err(Violation::WentBack { job, checkpoint, before });
        }
        if let Some(&void) = self.void.get(&job)
            && checkpoint <= void
        {
            return Err(Violation::Superseded { job, checkpoint, void });
        }
        let scheduled = state.schedule.iter().flat_map(|schedule| &schedule.attempts);
        let scheduled = scheduled.map(|(vertex, scheduled)| (vertex, &scheduled.attempt));
        if attempts.is_some_and(|attempts| !scheduled.eq(attempts)) {
            return Err(Violation::OtherAttempts { job, checkpoint });
        }
        Ok(())
    }
}
