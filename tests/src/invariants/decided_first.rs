//! Persist, then act: nothing is deployed, acknowledged, committed, dropped or released before the decision is applied.

use std::collections::BTreeSet;

use tidemill_coordinator::engine::leader::TaskManagerCommand;
use tidemill_coordinator::engine::replicated::{ClusterState, CommandBody, JobState, Response};
use tidemill_model::checkpoint::{CheckpointAction, CheckpointCommand};
use tidemill_model::execution::Finalization;
use tidemill_model::id::{CheckpointId, ExecutionAttemptId, JobId, TaskManagerId};
use tidemill_model::job::JobStatus;

use crate::sim::fact::Fact;

/// How it was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// An attempt was deployed that no schedule names.
    #[error("attempt {attempt} was deployed on {task_manager}, and is not in the schedule")]
    Deployed {
        /// Which.
        attempt: ExecutionAttemptId,
        /// Where.
        task_manager: TaskManagerId,
    },
    /// A terminal state was acknowledged that is not replicated.
    #[error("the end of attempt {attempt} was acknowledged to {task_manager}, and is not replicated")]
    Acknowledged {
        /// Of which attempt.
        attempt: ExecutionAttemptId,
        /// To whom.
        task_manager: TaskManagerId,
    },
    /// Output was to be published or dropped in a status that does not want it.
    #[error("{finalization} was asked for job {job} in status {status}")]
    Finalized {
        /// Of which job.
        job: JobId,
        /// What was asked for.
        finalization: String,
        /// How the job stood.
        status: String,
    },
    /// A task manager was told to forget a job of which attempts are to run there.
    #[error("job {job} was released on {task_manager}, where attempts of it are scheduled and have not ended")]
    Released {
        /// Which job.
        job: JobId,
        /// Where.
        task_manager: TaskManagerId,
    },
    /// Sinks were told of a completion that is not replicated.
    #[error("sinks of job {job} were told that checkpoint {checkpoint} is complete, and it is not")]
    Notified {
        /// Whose.
        job: JobId,
        /// Of which checkpoint.
        checkpoint: CheckpointId,
    },
    /// Attempts were stopped that are wanted.
    #[error("attempt {attempt} was cancelled in status {status}")]
    Canceled {
        /// Which.
        attempt: ExecutionAttemptId,
        /// How its job stood.
        status: String,
    },
}

/// Keeps what has been deployed where, and judges what a leader sends by what its replica has applied.
#[derive(Debug, Default)]
pub(super) struct DecidedFirst {
    deployed: BTreeSet<(TaskManagerId, ExecutionAttemptId)>,
    /// What any schedule has named, and where.
    scheduled: BTreeSet<(TaskManagerId, ExecutionAttemptId)>,
    /// Attempts whose ends have been applied.
    ended: BTreeSet<ExecutionAttemptId>,
}

impl DecidedFirst {
    pub(super) fn observe(&mut self, fact: &Fact<'_>) -> Result<(), Violation> {
        if let Fact::Applied { command, response: Response::Done, .. } = fact {
            self.applied(&command.body);
        }
        let Fact::Sent { task_manager, command, state, .. } = fact else { return Ok(()) };
        let task_manager = *task_manager;
        match command {
            TaskManagerCommand::Welcome | TaskManagerCommand::HeartbeatAnswer { .. } => Ok(()),
            TaskManagerCommand::Checkpoint(command) => notified(command, state),
            TaskManagerCommand::Deploy { deployment, .. } => {
                self.deployed.extend(deployment.start.iter().map(|attempt| (task_manager, *attempt)));
                self.deployed(task_manager, &deployment.start, state)
            }
            TaskManagerCommand::Acknowledge { attempts } => self.acknowledged(task_manager, attempts, state),
            TaskManagerCommand::Finalize { spec, finalization } => finalized(spec.id, finalization, state),
            TaskManagerCommand::Release { job } => self.released(task_manager, *job, state),
            TaskManagerCommand::Cancel { attempts } => canceled(attempts, state),
        }
    }

    fn applied(&mut self, body: &CommandBody) {
        if let CommandBody::RecordTerminal { ended, .. } = body {
            self.ended.extend(ended.iter().map(|(attempt, _)| *attempt));
        }
        if let CommandBody::RecordSchedule { job, schedule } = body {
            let scheduled = schedule.attempt_ids(*job);
            self.scheduled.extend(scheduled.map(|(attempt, slot)| (slot.task_manager, attempt)));
        }
    }

    /// A deployment may be sent late, when another entry has replaced its attempts: the order to cancel them is behind it.
    /// What the leader's replica has never applied may not be sent at all.
    fn deployed(
        &self,
        task_manager: TaskManagerId,
        attempts: &[ExecutionAttemptId],
        state: &ClusterState,
    ) -> Result<(), Violation> {
        let decided = |attempt: &&ExecutionAttemptId| {
            let Some(job) = state.jobs.get(&attempt.job) else { return false };
            let past = job.last_attempt >= Some(attempt.attempt) && self.scheduled.contains(&(task_manager, **attempt));
            // A job that is being stopped has its schedule still: what was decided before may be under way.
            wants(job, attempt) || past
        };
        match attempts.iter().find(|attempt| !decided(attempt)) {
            Some(attempt) => Err(Violation::Deployed { attempt: *attempt, task_manager }),
            None => Ok(()),
        }
    }

    /// The ends of attempts that nobody wants may be forgotten; all others are replicated first.
    fn acknowledged(
        &self,
        task_manager: TaskManagerId,
        attempts: &[ExecutionAttemptId],
        state: &ClusterState,
    ) -> Result<(), Violation> {
        let wanted = |attempt: &ExecutionAttemptId| state.jobs.get(&attempt.job).is_some_and(|job| wants(job, attempt));
        match attempts.iter().find(|attempt| wanted(attempt) && !self.ended.contains(attempt)) {
            Some(attempt) => Err(Violation::Acknowledged { attempt: *attempt, task_manager }),
            None => Ok(()),
        }
    }

    /// A release that comes before the deployment of new attempts is meant for the old ones.
    fn released(&self, task_manager: TaskManagerId, job: JobId, state: &ClusterState) -> Result<(), Violation> {
        let Some(state) = state.jobs.get(&job) else { return Ok(()) };
        let attempts = state.schedule.iter().flat_map(|schedule| schedule.attempt_ids(job));
        let live = attempts.into_iter().any(|(attempt, _)| {
            self.deployed.contains(&(task_manager, attempt)) && !state.terminal.contains_key(&attempt.vertex)
        });
        if live && state.status == JobStatus::Running {
            return Err(Violation::Released { job, task_manager });
        }
        Ok(())
    }
}

fn wants(job: &JobState, attempt: &ExecutionAttemptId) -> bool {
    job.schedule.as_ref().is_some_and(|schedule| schedule.wants(attempt))
}

/// Sinks commit when they are told of a completion: it has to be one.
fn notified(command: &CheckpointCommand, state: &ClusterState) -> Result<(), Violation> {
    let Some(attempt) = command.attempts.first().filter(|_| command.action == CheckpointAction::NotifyComplete) else {
        return Ok(());
    };
    let Some(job) = state.jobs.get(&attempt.job) else { return Ok(()) };
    // Older ones may have been subsumed since.
    if job.status.is_terminal() || job.checkpoints.latest() >= Some(command.checkpoint) {
        return Ok(());
    }
    Err(Violation::Notified { job: attempt.job, checkpoint: command.checkpoint })
}

fn finalized(job: JobId, finalization: &Finalization, state: &ClusterState) -> Result<(), Violation> {
    let Some(status) = state.jobs.get(&job).map(|job| &job.status) else { return Ok(()) };
    let wanted = match finalization {
        Finalization::Commit { .. } => matches!(status, JobStatus::Committing | JobStatus::Finished(_)),
        Finalization::Abort { .. } => {
            matches!(status, JobStatus::Cancelling | JobStatus::Failing(_) | JobStatus::Canceled | JobStatus::Failed(_))
        }
    };
    if wanted {
        return Ok(());
    }
    Err(Violation::Finalized { job, finalization: finalization.to_string(), status: status.name().to_owned() })
}

fn canceled(attempts: &[ExecutionAttemptId], state: &ClusterState) -> Result<(), Violation> {
    for attempt in attempts {
        let Some(job) = state.jobs.get(&attempt.job) else { continue };
        if wants(job, attempt) && job.status == JobStatus::Running {
            return Err(Violation::Canceled { attempt: *attempt, status: job.status.name().to_owned() });
        }
    }
    Ok(())
}
