//! Directed scenarios: one fault each, at the moment that matters, where seeds hit upon it too rarely.

use std::fmt;

use tidemill_model::job_graph::Partitioning;

use super::clock::{MILLISECOND, SECOND};
use super::event::Event;
use super::network::Process;
use super::plan::{Plan, Profile};
use super::world::World;

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// The only coordinator is stopped for longer than task managers may be silent, and sees its timers first when it goes
    /// on: all of them have been heard of too long ago, and not one is dead.
    LeaderStopped,
    /// A task manager is stopped, its job is cancelled and has ended by the time it goes on: the order to take a checkpoint
    /// that was waiting for it reaches its tasks, and they write where everything has been deleted.
    JobEndedMeanwhile,
}

impl Scenario {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::LeaderStopped, Self::JobEndedMeanwhile];
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeaderStopped => "leader-stopped",
            Self::JobEndedMeanwhile => "job-ended-meanwhile",
        })
    }
}

impl Plan {
    /// A cluster with one job that has no end and takes checkpoints, and nothing that is left to chance but what is under
    /// way when.
    pub(crate) fn of_scenario(scenario: Scenario) -> Self {
        let (coordinators, profile) = match scenario {
            Scenario::LeaderStopped => (1, Profile::Coordinators),
            Scenario::JobEndedMeanwhile => (3, Profile::Everything),
        };
        let mut plan = Self::of(0);
        plan.scenario = Some(scenario);
        (plan.coordinators, plan.profile) = (coordinators, profile);
        (plan.task_managers, plan.slots) = (2, 2);
        plan.jobs = vec![super::plan::endless_job()];
        if scenario == Scenario::JobEndedMeanwhile {
            let job = &mut plan.jobs[0];
            job.cancel_at = Some(7 * SECOND);
            // Its tasks notice nothing of the end of those on the other task manager.
            job.spec.graph.edges[0].partitioning = Partitioning::Forward;
        }
        (plan.quiet_start, plan.duration) = (6 * SECOND, 20 * SECOND);
        plan
    }
}

impl World {
    /// The one fault.
    pub(crate) fn enact(&mut self, scenario: Scenario) {
        let process = match scenario {
            Scenario::LeaderStopped => Process::Coordinator(0),
            Scenario::JobEndedMeanwhile => Process::TaskManager(0),
        };
        self.watch.fault(self.now, &scenario.to_string());
        self.pause(process);
        self.after(8 * SECOND + 300 * MILLISECOND, Event::Resume(process));
    }
}
