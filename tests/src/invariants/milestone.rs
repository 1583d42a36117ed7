//! What an entry means to a job's checkpoints, for those invariants that follow them.

use std::collections::BTreeMap;

use tidemill_coordinator::engine::replicated::CommandBody;
use tidemill_model::id::{AttemptNumber, CheckpointId, ExecutionVertexId};

/// A turn in the life of a job's checkpoints.
#[derive(Debug, Clone, Copy)]
pub(super) enum Milestone<'a> {
    /// A checkpoint is completed, by these attempts; none: the final one, by what finished tasks have left.
    Completed(CheckpointId, Option<&'a BTreeMap<ExecutionVertexId, AttemptNumber>>),
    /// Attempts are replaced: what they took part in is void.
    Replaced,
}

impl<'a> Milestone<'a> {
    /// None: it means nothing to them.
    pub(super) fn of(body: &'a CommandBody) -> Option<Self> {
        match body {
            CommandBody::CompleteCheckpoint { id, attempts, .. } => Some(Self::Completed(*id, Some(attempts))),
            CommandBody::StartCommitting { checkpoint: Some(id), .. } => Some(Self::Completed(*id, None)),
            CommandBody::FailOver { .. } | CommandBody::Relocate { .. } => Some(Self::Replaced),
            CommandBody::LeaderStarted { .. }
            | CommandBody::RegisterBlob { .. }
            | CommandBody::SubmitJob { .. }
            | CommandBody::CancelJob { .. }
            | CommandBody::StopJob { .. }
            | CommandBody::RecordSchedule { .. }
            | CommandBody::RecordTerminal { .. }
            | CommandBody::FailJob { .. }
            | CommandBody::SetDraining { .. }
            | CommandBody::StartCommitting { checkpoint: None, .. }
            | CommandBody::EndJob { .. }
            | CommandBody::ReserveCheckpoints { .. }
            | CommandBody::RecordNotified { .. }
            | CommandBody::RecordGarbageDeleted { .. }
            | CommandBody::RecordStraggler { .. }
            | CommandBody::RecordTakeover { .. }
            | CommandBody::Chaos(_) => None,
        }
    }
}
