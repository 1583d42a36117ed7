//! The end of a simulation: all faults are over, and everything has to heal.

use std::collections::BTreeSet;

use tidemill_coordinator::engine::replicated::JobState;
use tidemill_model::execution::ExecutionState;
use tidemill_model::id::ExecutionAttemptId;
use tidemill_model::job::JobStatus;
use tidemill_model::slot::SlotId;

use super::client::Wish;
use super::clock::{MILLISECOND, SECOND, Time};
use super::event::Event;
use super::raft::Node;
use super::world::{World, node_id};
use crate::invariants::{Violation, converged, nothing_left, result_delivered};

/// How often all is looked at.
const LOOK: Time = 300 * MILLISECOND;

/// How long healing may take: longer than every timer, so that what has not healed by then never will.
const LIMIT: Time = 120 * SECOND;

impl World {
    pub(crate) fn look(&mut self) {
        if self.nemesis.active {
            self.heal_everything();
            let counts = self.watch.truth().jobs.iter().map(|(&job, state)| (job, state.checkpoints.completed_count));
            self.healed_at = counts.collect();
            return self.after(SECOND, Event::Look);
        }
        self.sweep_connections();
        match self.unsettled() {
            Ok(()) => self.converged = true,
            Err(violation) if self.now >= self.plan.duration + LIMIT => self.watch.wrong(violation),
            Err(_) => self.after(LOOK, Event::Look),
        }
    }

    /// The first thing that has not healed.
    fn unsettled(&self) -> Result<(), Violation> {
        let leader = self.coordinators.iter().position(|coordinator| coordinator.leads().is_some());
        let leader = leader.ok_or(converged::Violation::NoLeader)?;
        self.replicas_have_caught_up(leader)?;
        if let Some(place) = self.places.iter().position(|place| !place.agent.connected()) {
            return Err(converged::Violation::NotRegistered { place }.into());
        }
        self.jobs_are_where_they_should_be(leader)?;
        self.clients_know()?;
        self.nothing_is_left()?;
        self.slots_are_free(leader)
    }

    fn replicas_have_caught_up(&self, leader: Node) -> Result<(), converged::Violation> {
        let index = self.coordinators[leader].replica.commit();
        for (node, coordinator) in self.coordinators.iter().enumerate() {
            if coordinator.applied != index {
                let (node, applied) = (node_id(node), coordinator.applied);
                return Err(converged::Violation::Lags { node, applied, index });
            }
        }
        Ok(())
    }

    fn running(&self) -> BTreeSet<ExecutionAttemptId> {
        let executors = self.places.iter().flat_map(|place| place.executors.values());
        executors.flat_map(|executor| executor.tasks.values()).map(|task| task.attempt).collect()
    }

    fn jobs_are_where_they_should_be(&self, leader: Node) -> Result<(), converged::Violation> {
        let running = self.running();
        for client in &self.clients {
            let job = client.job.spec.id;
            let Some(state) = self.watch.truth().jobs.get(&job) else {
                return Err(converged::Violation::Job { job, status: "not there".to_owned() });
            };
            let endless = client.job.records.is_none() && client.job.cancel_at.is_none();
            let well = state.status.is_terminal() || (endless && state.status == JobStatus::Running);
            if !well {
                return Err(converged::Violation::Job { job, status: state.status.to_string() });
            }
            if state.status != JobStatus::Running {
                continue;
            }
            // It goes on taking checkpoints: one since all faults are over.
            let settings = state.spec.settings.checkpointing.as_ref();
            if settings.is_some() && state.checkpoints.completed_count <= self.healed_at.get(&job).copied().unwrap_or(0)
            {
                return Err(converged::Violation::NoCheckpoint { job });
            }
            self.nothing_drains(state)?;
            let scheduled = state.schedule.iter().flat_map(|schedule| schedule.attempt_ids(job));
            if let Some((attempt, _)) = scheduled.into_iter().find(|(attempt, _)| !running.contains(attempt)) {
                return Err(converged::Violation::NotRunning { attempt });
            }
        }
        let super::coordinator::Shell::Leading(leadership) = &self.coordinators[leader].shell else { return Ok(()) };
        for (&job, master) in leadership.jobs() {
            if self.watch.truth().jobs.get(&job) != Some(master.job()) {
                return Err(converged::Violation::CopyDiffers { job });
            }
            let observed = master.observe();
            let odd = observed.iter().find(|observation| observation.report.state != ExecutionState::Running);
            if let Some(odd) = odd.filter(|_| master.job().status == JobStatus::Running) {
                return Err(converged::Violation::NotRunning { attempt: odd.report.attempt });
            }
        }
        Ok(())
    }

    /// Whatever drains in the end is left by all: the others have room.
    fn nothing_drains(&self, state: &JobState) -> Result<(), converged::Violation> {
        let draining = &self.watch.truth().draining;
        let attempts = state.schedule.iter().flat_map(|schedule| schedule.attempt_ids(state.spec.id));
        let live = attempts.into_iter().filter(|(attempt, _)| !state.terminal.contains_key(&attempt.vertex));
        match live.into_iter().find(|(_, slot)| draining.contains_key(&slot.task_manager)) {
            Some((attempt, slot)) => Err(converged::Violation::NotLeft { attempt, task_manager: slot.task_manager }),
            None => Ok(()),
        }
    }

    fn clients_know(&self) -> Result<(), result_delivered::Violation> {
        for client in &self.clients {
            let job = client.job.spec.id;
            let decided = self.watch.truth().jobs.get(&job).map(|state| &state.status);
            if decided.is_some_and(JobStatus::is_terminal) || client.wish == Wish::Nothing {
                result_delivered::check(job, client.result.as_ref(), decided)?;
            }
        }
        Ok(())
    }

    /// A job keeps the slots of its schedule and no others.
    fn slots_are_free(&self, leader: Node) -> Result<(), Violation> {
        let super::coordinator::Shell::Leading(leadership) = &self.coordinators[leader].shell else { return Ok(()) };
        let unfinished = self.watch.truth().jobs.values().filter(|job| !job.status.is_terminal());
        let attempts =
            unfinished.filter_map(|job| job.schedule.as_ref()).flat_map(|schedule| schedule.attempts.values());
        let used: BTreeSet<SlotId> = attempts.map(|attempt| attempt.slot).collect();
        for observed in leadership.resource_manager.observe(self.coordinators[leader].life.clock.instant(self.now)) {
            let task_manager = observed.location.id;
            let used = used.iter().filter(|slot| slot.task_manager == task_manager).count();
            if observed.free_slots as usize + used != observed.slots.count as usize {
                return Err(nothing_left::Violation::Slot { task_manager, free: observed.free_slots, used }.into());
            }
        }
        Ok(())
    }

    fn nothing_is_left(&self) -> Result<(), Violation> {
        let jobs = &self.watch.truth().jobs;
        let ended = |job| jobs.get(&job).is_none_or(|state| state.status.is_terminal());
        for place in &self.places {
            let task_manager = place.id;
            for executor in place.executors.values() {
                let job = executor.spec.id;
                if ended(job) {
                    return Err(nothing_left::Violation::Executor { job, task_manager }.into());
                }
                let wanted = |attempt: &ExecutionAttemptId| {
                    jobs.get(&job).and_then(|state| state.schedule.as_ref()).is_some_and(|s| s.wants(attempt))
                };
                if let Some(task) = executor.tasks.values().find(|task| !wanted(&task.attempt)) {
                    return Err(nothing_left::Violation::Task { attempt: task.attempt, task_manager }.into());
                }
            }
        }
        if let Some(&(task_manager, job)) = self.storage.local.iter().find(|(_, job)| ended(*job)) {
            return Err(nothing_left::Violation::Folder { job, task_manager }.into());
        }
        let keeps_nothing = |job| {
            let state = jobs.get(&job).filter(|state| state.spec.settings.checkpointing.is_some());
            state.is_some_and(|state| state.status.is_terminal() && state.checkpoints.completed.is_empty())
        };
        if let Some((job, path)) = self.storage.files().find(|(job, _)| keeps_nothing(*job)) {
            return Err(nothing_left::Violation::CheckpointFile { job, path: path.to_owned() }.into());
        }
        let left = |attempt: &&ExecutionAttemptId| ended(attempt.job) && !self.storage.excused.contains(&attempt.job);
        if let Some(attempt) = self.storage.pending().find(|attempt| left(&attempt)) {
            return Err(nothing_left::Violation::Staged { attempt }.into());
        }
        Ok(())
    }
}
