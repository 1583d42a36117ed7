//! The end of a job: what its sinks have staged or prepared becomes visible, or goes.

use std::path::Path;

use tidemill_model::checkpoint::RestoreFrom;
use tidemill_model::execution::{Failure, FailureKind, Finalization};
use tidemill_model::id::{AttemptNumber, ExecutionVertexId};

use super::{Executor, checkpoint_failure};
use crate::engine::snapshot::StateId;
use crate::runtime::checkpoint::Restored;
use crate::runtime::sink::{FILES, FileOutput, TRANSACTIONS};

impl Executor {
    /// Publishes, or removes, what the job's sinks have staged; repeating it is harmless.
    ///
    /// # Errors
    /// The first output that could not be dealt with; the others were.
    pub fn finalize(&self, finalization: &Finalization) -> Result<(), Failure> {
        let mut result = Ok(());
        let (Finalization::Commit { checkpoint: last, .. } | Finalization::Abort { checkpoint: last }) = finalization;
        if let Some(last) = last {
            result = self.commit_transactions(last);
        }
        for (output, subtasks) in self.flow.outputs() {
            if let Some(last) = last
                && let Err(failure) = self.commit_last(output, &subtasks, last)
            {
                result = result.and(Err(failure));
                continue;
            }
            let outcome = match (output, finalization) {
                (FileOutput::Staged(output), Finalization::Commit { attempts, .. }) => {
                    let named: Vec<AttemptNumber> =
                        subtasks.iter().filter_map(|subtask| attempts.get(subtask).copied()).collect();
                    if named.len() < subtasks.len() {
                        result = result.and(Err(unnamed(&output.path, named.len(), subtasks.len())));
                        continue;
                    }
                    output.commit(self.job, &named)
                }
                (FileOutput::Staged(output), Finalization::Abort { .. }) => output.abort(self.job),
                (FileOutput::Rolling(output), Finalization::Commit { .. } | Finalization::Abort { .. }) => {
                    output.remove_unfinished(self.job)
                }
            };
            if let Err(error) = outcome {
                let failure = Failure { kind: error.kind(), vertex: None, operator: None, message: error.to_string() };
                result = result.and(Err(failure));
            }
        }
        result
    }

    /// Commits the transactions of the user's sinks that the job's final checkpoint has.
    fn commit_transactions(&self, last: &RestoreFrom) -> Result<(), Failure> {
        let Some(checkpointing) = self.checkpointing.as_ref().map_err(Failure::clone)? else { return Ok(()) };
        for (uid, commit) in self.flow.committers() {
            let id = StateId { operator: uid.to_owned(), name: TRANSACTIONS.to_owned() };
            for state in last.states.values() {
                let restored = Restored::of_one(state.clone(), &checkpointing.storage)
                    .map_err(|error| checkpoint_failure(&error))?;
                for prepared in restored.values_of_any_type(&id).map_err(|error| checkpoint_failure(&error))? {
                    commit(&prepared).map_err(|error| Failure {
                        kind: FailureKind::Io,
                        vertex: None,
                        operator: Some(uid.to_owned()),
                        message: format!("commit: {error}"),
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Commits the transactions of a sink that the job's final checkpoint has.
    fn commit_last(
        &self,
        output: &FileOutput,
        subtasks: &[ExecutionVertexId],
        last: &RestoreFrom,
    ) -> Result<(), Failure> {
        let Some(checkpointing) = self.checkpointing.as_ref().map_err(Failure::clone)? else { return Ok(()) };
        for subtask in subtasks {
            let (Some(state), Some(vertex)) = (last.states.get(subtask), self.flow.graph().vertex(subtask.vertex))
            else {
                continue;
            };
            let Some(sink) = vertex.operators.last() else { continue };
            let id = StateId { operator: sink.uid.clone(), name: FILES.to_owned() };
            let restored =
                Restored::of_one(state.clone(), &checkpointing.storage).map_err(|error| checkpoint_failure(&error))?;
            output.commit_last(&id, &restored)?;
        }
        Ok(())
    }
}

fn unnamed(path: &Path, named: usize, subtasks: usize) -> Failure {
    let message = format!(
        "publish {}: the leader named attempts of {named} of its {subtasks} sub-tasks; coordinators and task managers \
         must be of releases that fit",
        path.display()
    );
    Failure { kind: FailureKind::InvalidInput, vertex: None, operator: None, message }
}
