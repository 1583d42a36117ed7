//! Which data connections belong to which executor.

use tidemill_model::id::{AttemptNumber, ClusterId, JobId, TaskManagerId};

use super::agent::Agent;
use super::executor_lifecycle::ExecutorId;

/// A data connection's claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// The cluster that the dialler belongs to.
    pub cluster: ClusterId,
    /// The job.
    pub job: JobId,
    /// The attempt number of the dialler's tasks.
    pub attempt: AttemptNumber,
    /// The incarnation that it means to reach.
    pub to: TaskManagerId,
}

/// What becomes of a data connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It belongs to this executor.
    Accepted(ExecutorId),
    /// The executor is not there yet: dial again.
    NotYet,
    /// It belongs to nothing here and never will.
    Refused(String),
}

impl Agent {
    /// Judges a data connection.
    #[must_use]
    pub fn admit(&self, handshake: &Handshake) -> Admission {
        if handshake.to != self.settings.task_manager {
            let here = self.settings.task_manager;
            return Admission::Refused(format!("task manager {} is not here, this is {here}", handshake.to));
        }
        match self.cluster {
            None => return Admission::NotYet,
            Some(cluster) if cluster != handshake.cluster => {
                return Admission::Refused(format!("this is cluster {cluster}, not {}", handshake.cluster));
            }
            Some(_) => {}
        }
        let Some(hosted) = self.jobs.get(&handshake.job) else { return Admission::NotYet };
        let (job, number) = (handshake.job, handshake.attempt);
        match hosted.generations.get(&number) {
            // `no-zombie`: only the executor of the same attempt number is ever reached.
            Some(generation) => generation.phase.ready().map_or(Admission::NotYet, Admission::Accepted),
            None if hosted.has_retired(number) => {
                Admission::Refused(format!("attempt {number} of job {job} was superseded and has ended here"))
            }
            None => Admission::NotYet,
        }
    }
}
