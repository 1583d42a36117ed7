//! Replicas that have applied the same entries have the same state, and every replica applies the same entry at an index.

use std::collections::BTreeMap;

use tidemill_coordinator::engine::replicated::{ClusterState, Command, Response};
use tidemill_model::id::NodeId;

use crate::sim::fact::Fact;

/// How it was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Two entries have one index.
    #[error("node {node} applied {second} at index {index}, where {first} had been applied")]
    Entries {
        /// Who applied the other one.
        node: NodeId,
        /// The index.
        index: u64,
        /// What was applied first.
        first: String,
        /// What was applied then.
        second: String,
    },
    /// One entry was answered in two ways.
    #[error("node {node} answered index {index} with {second:?}, another one with {first:?}")]
    Answers {
        /// Who answered otherwise.
        node: NodeId,
        /// The index.
        index: u64,
        /// The first answer.
        first: Box<Response>,
        /// The other one.
        second: Box<Response>,
    },
    /// Two states differ.
    #[error("at index {index} node {one} has {state_of_one:?}, node {other} has {state_of_other:?}")]
    States {
        /// The index.
        index: u64,
        /// One of them.
        one: NodeId,
        /// The other.
        other: NodeId,
        /// What the one has.
        state_of_one: Box<ClusterState>,
        /// What the other has.
        state_of_other: Box<ClusterState>,
    },
}

/// Keeps what was applied first.
#[derive(Debug, Default)]
pub(crate) struct ReplicasAgree {
    applied: BTreeMap<u64, (u64, Command, Response)>,
}

impl ReplicasAgree {
    pub(super) fn observe(&mut self, fact: &Fact<'_>) -> Result<(), Violation> {
        let Fact::Applied { node, index, term, command, response, .. } = fact else { return Ok(()) };
        let Some((known_term, known, answer)) = self.applied.get(index) else {
            self.applied.insert(*index, (*term, (*command).clone(), (*response).clone()));
            return Ok(());
        };
        if known_term != term || known != *command {
            let (first, second) = (format!("{known} (term {known_term})"), format!("{command} (term {term})"));
            return Err(Violation::Entries { node: *node, index: *index, first, second });
        }
        if answer != *response {
            let (first, second) = (Box::new(answer.clone()), Box::new((*response).clone()));
            return Err(Violation::Answers { node: *node, index: *index, first, second });
        }
        Ok(())
    }
}

/// Compares two replicas at one index.
pub(crate) fn compare(
    one: NodeId,
    other: NodeId,
    index: u64,
    state_of_one: &ClusterState,
    state_of_other: &ClusterState,
) -> Result<(), Violation> {
    if state_of_one == state_of_other {
        return Ok(());
    }
    let (state_of_one, state_of_other) = (Box::new(state_of_one.clone()), Box::new(state_of_other.clone()));
    Err(Violation::States { index, one, other, state_of_one, state_of_other })
}
