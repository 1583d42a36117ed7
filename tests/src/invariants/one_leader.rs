//! Promise `one-leader`: an epoch belongs to one leader, is the index of its own entry, and epochs only grow.

use std::collections::BTreeMap;

use tidemill_coordinator::engine::replicated::{CommandBody, Response};
use tidemill_model::id::{LeaderEpoch, NodeId};

use crate::sim::fact::Fact;

/// How it was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Two leaderships have one epoch.
    #[error("epoch {epoch} was begun by node {first} and by node {second}")]
    Twice {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Who began it.
        first: NodeId,
        /// Who began it again.
        second: NodeId,
    },
    /// A leadership began with an epoch that is not higher than the one before.
    #[error("epoch {epoch} was decided after epoch {before}")]
    WentBack {
        /// The new one.
        epoch: LeaderEpoch,
        /// The one before.
        before: LeaderEpoch,
    },
    /// A `LeaderStarted` that had lingered took office.
    #[error("epoch {epoch} began with an entry of term {appended} that names term {elected}: it lingered")]
    Lingering {
        /// The epoch.
        epoch: LeaderEpoch,
        /// In which term the entry was appended.
        appended: u64,
        /// In which its proposer had been elected.
        elected: u64,
    },
    /// The epoch is not the index of the entry.
    #[error("the leadership that began at index {index} has epoch {epoch}")]
    NotItsIndex {
        /// The epoch.
        epoch: LeaderEpoch,
        /// The entry's index.
        index: u64,
    },
}

/// Keeps the leaders of all epochs.
#[derive(Debug, Default)]
pub(crate) struct OneLeader {
    leaders: BTreeMap<LeaderEpoch, NodeId>,
    /// By the index of the entry that decided it.
    decided: BTreeMap<u64, LeaderEpoch>,
}

impl OneLeader {
    pub(super) fn observe(&mut self, fact: &Fact<'_>) -> Result<(), Violation> {
        if let Fact::LeadershipBegan { node, epoch } = fact {
            return match self.leaders.insert(*epoch, *node) {
                Some(first) => Err(Violation::Twice { epoch: *epoch, first, second: *node }),
                None => Ok(()),
            };
        }
        if let Fact::Applied { index, term, command, response: Response::Started(epoch), .. } = fact {
            if let CommandBody::LeaderStarted { term: elected, .. } = &command.body
                && elected != term
            {
                return Err(Violation::Lingering { epoch: *epoch, appended: *term, elected: *elected });
            }
            if epoch.0 != *index {
                return Err(Violation::NotItsIndex { epoch: *epoch, index: *index });
            }
            if let Some((_, before)) = self.decided.range(..index).next_back()
                && before >= epoch
            {
                return Err(Violation::WentBack { epoch: *epoch, before: *before });
            }
            self.decided.insert(*index, *epoch);
        }
        Ok(())
    }
}
