//! Promise `last-completed`: attempts start from the newest checkpoint that was completed when they were decided upon, all
//! of one number from the same, each with its own state, and everything that this needs is there.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_coordinator::engine::leader::TaskManagerCommand;
use tidemill_coordinator::engine::replicated::Response;
use tidemill_model::checkpoint::StateHandle;
use tidemill_model::id::{CheckpointId, ExecutionAttemptId, ExecutionVertexId, JobId};

use super::milestone::Milestone;
use crate::sim::fact::Fact;

/// How it was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A file that the checkpoint needs is gone.
    #[error("{attempt} starts from checkpoint {checkpoint}, of which the file {path} is gone")]
    Missing {
        /// Who.
        attempt: ExecutionAttemptId,
        /// From which checkpoint.
        checkpoint: CheckpointId,
        /// What is not there.
        path: String,
    },
    /// The state is that of another kind of sub-task.
    #[error("{attempt} was given the state of another sub-task")]
    Foreign {
        /// Who.
        attempt: ExecutionAttemptId,
    },
    /// It is not the newest one that had been completed when the attempt before it was replaced.
    #[error("{attempt} was deployed to start from {named:?}, and the newest one was {newest:?}")]
    NotNewest {
        /// Who.
        attempt: ExecutionAttemptId,
        /// From which checkpoint it is to start.
        named: Option<CheckpointId>,
        /// From which it should.
        newest: Option<CheckpointId>,
    },
    /// A file was deleted that a retained checkpoint needs.
    #[error("file {path} of job {job} was deleted, and checkpoint {checkpoint} needs it")]
    Deleted {
        /// Whose.
        job: JobId,
        /// Which file.
        path: String,
        /// For which checkpoint.
        checkpoint: CheckpointId,
    },
}

/// Keeps the newest completed checkpoint of each job, and what replaced attempts have to start from.
#[derive(Debug, Default)]
pub(crate) struct Restores {
    newest: BTreeMap<JobId, CheckpointId>,
    replaced: BTreeMap<(JobId, ExecutionVertexId), CheckpointId>,
    /// The files of completed checkpoints that are retained.
    needed: BTreeMap<JobId, BTreeMap<CheckpointId, BTreeSet<String>>>,
}

impl Restores {
    /// An entry that nobody had applied before.
    pub(super) fn decided(&mut self, fact: &Fact<'_>) {
        let Fact::Applied { command, response: Response::Done, before, after, .. } = fact else { return };
        let Some(job) = command.body.job() else { return };
        let (Some(before), Some(after)) = (before.jobs.get(&job), after.jobs.get(&job)) else { return };
        match Milestone::of(&command.body) {
            Some(Milestone::Completed(id, _)) => {
                self.newest.insert(job, id);
            }
            Some(Milestone::Replaced) => {
                let replaced = after.awaiting.difference(&before.awaiting);
                for &vertex in replaced {
                    match self.newest.get(&job) {
                        Some(&newest) => self.replaced.insert((job, vertex), newest),
                        None => self.replaced.remove(&(job, vertex)),
                    };
                }
            }
            None => {}
        }
        let files = |state: &tidemill_model::checkpoint::CompletedCheckpoint| {
            let handles = state.states.values().flat_map(|state| &state.0);
            handles.filter_map(StateHandle::path).map(str::to_owned).collect()
        };
        let retained = after.checkpoints.completed.iter().map(|(&id, state)| (id, files(state))).collect();
        self.needed.insert(job, retained);
    }

    pub(super) fn observe(&self, fact: &Fact<'_>) -> Result<(), Violation> {
        if let Fact::Deleted { job, paths } = fact {
            return self.deleted(*job, paths);
        }
        let Fact::Sent { command: TaskManagerCommand::Deploy { deployment, .. }, .. } = fact else { return Ok(()) };
        let named = deployment.restore.as_ref().map(|restore| restore.checkpoint);
        for &attempt in &deployment.start {
            let newest = self.replaced.get(&(attempt.job, attempt.vertex)).copied();
            if named != newest {
                return Err(Violation::NotNewest { attempt, named, newest });
            }
        }
        Ok(())
    }

    fn deleted(&self, job: JobId, paths: &[String]) -> Result<(), Violation> {
        for (&checkpoint, files) in self.needed.get(&job).into_iter().flatten() {
            if let Some(path) = paths.iter().find(|path| files.contains(*path)) {
                return Err(Violation::Deleted { job, path: path.clone(), checkpoint });
            }
        }
        Ok(())
    }
}
