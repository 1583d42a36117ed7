//! Promise `undisturbed`: as long as only coordinators, and the ways to and between them, fail, no task is restarted.

use std::collections::BTreeSet;

use tidemill_coordinator::engine::replicated::{CommandBody, Response};
use tidemill_model::id::JobId;

use crate::sim::fact::Fact;

/// How it was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A job was restarted, or failed for a reason that may pass.
    #[error("job {job} was disturbed although nothing had happened to workers: {cause}")]
    Disturbed {
        /// Which.
        job: JobId,
        /// The reason that the leader gave.
        cause: String,
    },
    /// A takeover replaced attempts.
    #[error("the takeover of job {job} restarted {restarted} tasks although nothing had happened to workers")]
    Restarted {
        /// Which.
        job: JobId,
        /// How many.
        restarted: u32,
    },
}

/// Keeps whether anything has happened to workers, or to a job's tasks.
#[derive(Debug, Default)]
pub(crate) struct Undisturbed {
    workers_disturbed: bool,
    jobs_disturbed: BTreeSet<JobId>,
}

impl Undisturbed {
    /// An entry that nobody had applied before.
    pub(super) fn decided(&self, fact: &Fact<'_>) -> Result<(), Violation> {
        let Fact::Applied { command, response: Response::Done, .. } = fact else { return Ok(()) };
        let own = command.body.job().is_some_and(|job| self.jobs_disturbed.contains(&job));
        if self.workers_disturbed || own {
            return Ok(());
        }
        if let CommandBody::FailOver { job, cause, .. } | CommandBody::FailJob { job, cause } = &command.body
            && cause.kind.recoverable()
        {
            return Err(Violation::Disturbed { job: *job, cause: cause.to_string() });
        }
        if let CommandBody::RecordTakeover { job, restarted, .. } = &command.body
            && *restarted > 0
        {
            return Err(Violation::Restarted { job: *job, restarted: *restarted });
        }
        Ok(())
    }

    pub(super) fn observe(&mut self, fact: &Fact<'_>) {
        let Fact::WorkersDisturbed { job } = fact else { return };
        self.workers_disturbed |= job.is_none();
        self.jobs_disturbed.extend(*job);
    }
}
