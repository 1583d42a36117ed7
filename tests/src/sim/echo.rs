//! Proposals that turn up once more, when the leadership that decided them is over.
//!
//! How a proposal can linger for so long is not modelled (a slow disk and a process that is stopped bring about a few of
//! each kind in thousands of seeds): a later leadership finds a decision of an earlier one in its log, whatever it was, and
//! apply has to refuse it.

use std::collections::BTreeMap;
use std::rc::Rc;

use tidemill_coordinator::engine::replicated::{Command, CommandBody};
use tidemill_model::id::LeaderEpoch;

use super::clock::MILLISECOND;
use super::event::Event;
use super::raft::{Node, ProposalId};
use super::random::Random;
use super::world::World;

/// In so many of a thousand leaderships an earlier decision turns up.
const CHANCE: u64 = 800;

/// What has been proposed, and may turn up again.
#[derive(Debug)]
pub(crate) struct Echo {
    random: Random,
    /// The last of each kind.
    proposed: BTreeMap<&'static str, Rc<Command>>,
}

impl Echo {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, proposed: BTreeMap::new() }
    }

    pub(crate) fn remember(&mut self, command: &Rc<Command>) {
        // One that lingers fences nobody for a reason of its own, and has its own faults.
        if !matches!(command.body, CommandBody::LeaderStarted { .. }) {
            self.proposed.insert(command.body.name(), Rc::clone(command));
        }
    }

    /// Takes out one that an earlier leadership decided.
    fn draw(&mut self, epoch: LeaderEpoch) -> Option<Rc<Command>> {
        if !self.random.chance(CHANCE) {
            return None;
        }
        let earlier = self.proposed.iter().filter(|(_, command)| command.epoch < epoch);
        let names: Vec<&'static str> = earlier.map(|(name, _)| *name).collect();
        self.proposed.remove(self.random.pick(&names)?)
    }
}

impl World {
    /// A leadership begins: something that an earlier one wanted may come to its log.
    pub(crate) fn echo(&mut self, node: Node, epoch: LeaderEpoch) {
        if !self.nemesis.active {
            return;
        }
        let Some(command) = self.echo.draw(epoch) else { return };
        self.last_proposal += 1;
        let proposal = ProposalId(self.last_proposal);
        let (delay, boot) = (self.echo.random.between(0, 300) * MILLISECOND, self.coordinators[node].life.boot);
        self.after(delay, Event::Append { node, boot, proposal, command });
    }
}
