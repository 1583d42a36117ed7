//! Job masters that panic, and what follows them.
//!
//! This imitates the supervision in `coordinator/src/runtime/leader/dispatcher.rs`: a master that panics begins again with
//! the rest of its mailbox, and one that does so too often gives up.

use std::collections::VecDeque;

use tidemill_coordinator::engine::leader::Succession;
use tidemill_coordinator::engine::replicated::{CommandBody, Response};
use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::id::{JobId, LeaderEpoch};

use super::clock::{MILLISECOND, SECOND, Time};
use super::coordinator::{Proposer, Shell};
use super::event::{Actor, Event};
use super::raft::Node;
use super::world::World;

/// A master that panics more often within this time gives up.
const RESTART_LIMIT: usize = 5;
const RESTART_WINDOW: Time = 10 * SECOND;

/// After this long the next master tries what the last one gave up.
const GIVEN_UP: Time = 10 * SECOND;

/// How soon one that panics again and again does it again.
const AGAIN: Time = 20 * MILLISECOND;

impl World {
    /// The master of some job panics over a message, and perhaps again and again.
    pub(super) fn panic_some_master(&mut self, node: Node, chance: u64, again: u64) {
        let boot = self.coordinators[node].life.boot;
        let Shell::Leading(leadership) = &self.coordinators[node].shell else { return };
        let (epoch, count) = (leadership.epoch, leadership.masters.len().max(1) as u64);
        let chosen = usize::try_from(chance % count).expect("below a number of jobs");
        let Some(&job) = leadership.masters.keys().nth(chosen) else { return };
        self.master_panics(node, boot, epoch, job, again);
    }

    pub(crate) fn master_panics(&mut self, node: Node, boot: u64, epoch: LeaderEpoch, job: JobId, again: u64) {
        if !self.coordinators[node].life.is(boot) {
            return;
        }
        self.panic_master(node, epoch, job, 1);
        if again > 0 {
            self.after(AGAIN, Event::MasterPanics { node, boot, epoch, job, again: again - 1 });
        }
    }

    /// Over whatever was first in its mailbox, or a later message; whether it was there to panic.
    pub(super) fn panic_master(&mut self, node: Node, epoch: LeaderEpoch, job: JobId, lost: usize) -> bool {
        let now = self.now;
        let Some(leadership) = self.coordinators[node].leadership(epoch) else { return false };
        let Some(master) = leadership.masters.get_mut(&job).filter(|master| !master.panicked) else { return false };
        master.panicked = true;
        master.panics.retain(|at| now - at < RESTART_WINDOW);
        master.panics.push(now);
        master.mailbox.drain(..lost.min(master.mailbox.len()));
        true
    }

    /// Whether an actor handles messages. A master that has panicked begins again with the rest of its mailbox, once all
    /// that its former self proposed is decided.
    pub(super) fn is_up(&mut self, node: Node, epoch: LeaderEpoch, actor: Actor) -> bool {
        let Actor::Master(job) = actor else { return true };
        let coordinator = &mut self.coordinators[node];
        let undecided = coordinator.is_undecided(epoch, job);
        let state = coordinator.state.jobs.get(&job).cloned();
        let Some(leadership) = coordinator.leadership(epoch) else { return true };
        let Some(master) = leadership.masters.get_mut(&job).filter(|master| master.panicked) else { return true };
        if undecided {
            return false;
        }
        let (mailbox, panics) = (std::mem::take(&mut master.mailbox), std::mem::take(&mut master.panics));
        let Some(state) = state else { return leadership.masters.remove(&job).is_none() };
        if panics.len() > RESTART_LIMIT {
            leadership.masters.remove(&job);
            leadership.given_up.insert(job);
            self.succeed(node, epoch, job, Succession::of(&state.status));
            return true;
        }
        self.start_master(node, epoch, state, (mailbox, panics));
        true
    }

    fn succeed(&mut self, node: Node, epoch: LeaderEpoch, job: JobId, succession: Succession) {
        match succession {
            Succession::Fail => {
                let message = "its master panics again and again".to_owned();
                let cause = Failure { kind: FailureKind::Panic, vertex: None, operator: None, message };
                self.propose(node, epoch, CommandBody::FailJob { job, cause }, Proposer::Master { epoch, job });
            }
            Succession::BeginAgain => {
                let boot = self.coordinators[node].life.boot;
                self.after(GIVEN_UP, Event::MasterBeginsAgain { node, boot, epoch, job });
            }
        }
    }

    /// A job that was given up has failed, or a cancellation came first.
    pub(super) fn given_up_was_decided(&mut self, node: Node, epoch: LeaderEpoch, job: JobId, response: &Response) {
        let boot = self.coordinators[node].life.boot;
        let given_up = |leadership: &mut super::leader::Leadership| leadership.given_up.contains(&job);
        if !self.coordinators[node].leadership(epoch).is_some_and(given_up) {
            return;
        }
        if *response == Response::Done {
            self.master_begins_again(node, boot, epoch, job);
        } else {
            self.succeed(node, epoch, job, Succession::BeginAgain);
        }
    }

    pub(crate) fn master_begins_again(&mut self, node: Node, boot: u64, epoch: LeaderEpoch, job: JobId) {
        if !self.coordinators[node].life.is(boot) {
            return;
        }
        let state = self.coordinators[node].state.jobs.get(&job).filter(|state| state.needs_master()).cloned();
        let Some(leadership) = self.coordinators[node].leadership(epoch) else { return };
        leadership.given_up.remove(&job);
        if let Some(state) = state.filter(|_| !leadership.masters.contains_key(&job)) {
            self.start_master(node, epoch, state, (VecDeque::new(), Vec::new()));
            self.tick_later(node, epoch, Actor::Master(job));
        }
    }
}
