//! Promise `one-leader`, at apply: a command has an effect only while the leadership that decided it is in office.

use std::collections::BTreeMap;

use tidemill_coordinator::engine::replicated::{CommandBody, Response};
use tidemill_model::id::{LeaderEpoch, NodeId};

use crate::sim::fact::Fact;

/// How it was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A command of a leadership that had ended was accepted.
    #[error("{command} at index {index} was answered {response:?} although epoch {current} had begun")]
    Accepted {
        /// The command.
        command: String,
        /// Its place.
        index: u64,
        /// The answer.
        response: Response,
        /// The leadership in office.
        current: LeaderEpoch,
    },
    /// A command that was refused changed the state.
    #[error("{command} at index {index} was refused, and changed the state")]
    Changed {
        /// The command.
        command: String,
        /// Its place.
        index: u64,
    },
}

/// Keeps the epoch in office, as each replica has come to it.
#[derive(Debug, Default)]
pub(crate) struct InOffice {
    current: BTreeMap<NodeId, (u64, LeaderEpoch)>,
}

impl InOffice {
    pub(super) fn observe(&mut self, fact: &Fact<'_>) -> Result<(), Violation> {
        let Fact::Applied { node, index, term, command, response, before, after } = fact else { return Ok(()) };
        let (last, current) = self.current.entry(*node).or_default();
        if index < last {
            // It has started again, from the beginning.
            *current = LeaderEpoch::default();
        }
        *last = *index;
        if let CommandBody::LeaderStarted { term: elected, .. } = &command.body {
            if elected == term {
                *current = LeaderEpoch(*index);
            }
            return Ok(());
        }
        let stale = matches!(response, Response::Stale { .. });
        if command.epoch != *current && !stale {
            let (command, response) = (command.to_string(), (*response).clone());
            return Err(Violation::Accepted { command, index: *index, response, current: *current });
        }
        if stale && before != after {
            return Err(Violation::Changed { command: command.to_string(), index: *index });
        }
        Ok(())
    }
}
