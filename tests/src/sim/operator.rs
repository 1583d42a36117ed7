//! Somebody who drains task managers and takes that back, now and then.
//!
//! This imitates `Client.SetDraining` and whoever calls it. In the end at most one task manager drains still, and only where
//! the others have room for every job without an end.

use tidemill_coordinator::engine::replicated::CommandBody;
use tidemill_model::id::TaskManagerId;

use super::clock::{MILLISECOND, SECOND, Time};
use super::coordinator::Proposer;
use super::event::Event;
use super::random::Random;
use super::world::World;

/// How often what is left to do in the end is done again.
const AGAIN: Time = 500 * MILLISECOND;

/// Chooses what is drained.
#[derive(Debug)]
pub(crate) struct Operator {
    random: Random,
}

impl Operator {
    pub(crate) fn new(random: Random) -> Self {
        Self { random }
    }
}

impl World {
    /// Some simulations have an operator.
    pub(crate) fn start_operator(&mut self) {
        if self.operator.random.chance(600) && self.plan.scenario.is_none() {
            let first = self.operator.random.between(2, 8) * SECOND;
            self.after(first, Event::Operator);
        }
    }

    pub(crate) fn operate(&mut self) {
        if !self.nemesis.active {
            for id in self.drained_too_much() {
                self.drain(id, false);
            }
            return self.after(AGAIN, Event::Operator);
        }
        let random = &mut self.operator.random;
        let place = random.index(self.places.len());
        let id = self.places[place].id;
        let draining = !self.watch.truth().draining.contains_key(&id) || random.chance(100);
        let pause = self.operator.random.between(300, 4000) * MILLISECOND;
        self.watch.fault(self.now, &format!("tm-{place}: draining={draining}"));
        self.drain(id, draining);
        self.after(pause, Event::Operator);
    }

    /// Asks whoever leads; without a leader nothing comes of it.
    fn drain(&mut self, task_manager: TaskManagerId, draining: bool) {
        let leads = self.coordinators.iter().enumerate().find_map(|(node, coordinator)| {
            let epoch = coordinator.leads().filter(|_| coordinator.life.up && !coordinator.life.paused)?;
            Some((node, epoch))
        });
        if let Some((node, epoch)) = leads {
            let body = CommandBody::SetDraining { task_manager, draining };
            self.propose(node, epoch, body, Proposer::Operator { epoch });
        }
    }

    /// Which task managers that are here must not drain any longer, or jobs would wait for ever.
    fn drained_too_much(&self) -> Vec<TaskManagerId> {
        let draining = |id: &TaskManagerId| self.watch.truth().draining.contains_key(id);
        let drained: Vec<TaskManagerId> = self.places.iter().map(|place| place.id).filter(draining).collect();
        let keep = usize::from(self.plan.can_spare_one());
        drained.into_iter().skip(keep).collect()
    }
}
