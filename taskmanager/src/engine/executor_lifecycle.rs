//! The life of one executor process, from the decision to start it to its end.

use std::fmt;

use tidemill_model::id::{AttemptNumber, JobId};

/// One executor process of this agent, numbered from 1 and never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutorId(pub u64);

impl fmt::Display for ExecutorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "executor-{}", self.0)
    }
}

/// One attempt number of a job: what an executor process is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationId {
    /// The job.
    pub job: JobId,
    /// The number of all its attempts.
    pub attempt: AttemptNumber,
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attempt {} of job {}", self.attempt, self.job)
    }
}

/// How far a job's executor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutorPhase {
    /// None yet, or the last one has exited.
    Exited,
    /// The artifact is on its way.
    WaitingForArtifact,
    /// The runtime was told to start it.
    Starting {
        /// Its number.
        executor: ExecutorId,
    },
    /// The process runs and has not yet proved its graph.
    WaitingReady {
        /// Its number.
        executor: ExecutorId,
        /// Its process.
        process_id: u32,
    },
    /// It has built the submitted graph and takes commands.
    Ready {
        /// Its number.
        executor: ExecutorId,
        /// Its process.
        process_id: u32,
    },
}

impl ExecutorPhase {
    /// The executor, unless there is none.
    #[must_use]
    pub fn executor(self) -> Option<ExecutorId> {
        match self {
            Self::Exited | Self::WaitingForArtifact => None,
            Self::Starting { executor } | Self::WaitingReady { executor, .. } | Self::Ready { executor, .. } => {
                Some(executor)
            }
        }
    }

    /// The process, once there is one.
    #[must_use]
    pub fn process_id(self) -> Option<u32> {
        match self {
            Self::Exited | Self::WaitingForArtifact | Self::Starting { .. } => None,
            Self::WaitingReady { process_id, .. } | Self::Ready { process_id, .. } => Some(process_id),
        }
    }

    /// The executor, when it takes commands.
    #[must_use]
    pub fn ready(self) -> Option<ExecutorId> {
        match self {
            Self::Exited | Self::WaitingForArtifact | Self::Starting { .. } | Self::WaitingReady { .. } => None,
            Self::Ready { executor, .. } => Some(executor),
        }
    }
}
