//! Directed scenarios: one fault each, perhaps again and again, at the moment that matters, where seeds hit upon it too
//! rarely.

use std::collections::VecDeque;
use std::fmt;

use tidemill_coordinator::engine::leader::JobMasterEvent;
use tidemill_coordinator::engine::replicated::JobState;
use tidemill_model::job::JobStatus;
use tidemill_model::job_graph::Partitioning;

use super::clock::{MILLISECOND, SECOND, Time};
use super::coordinator::Shell;
use super::event::{Event, Mail};
use super::network::Process;
use super::plan::{Plan, Profile};
use super::world::World;

/// How often it is looked at whether the moment has come: a message waits longer than that to be handled, mostly.
const LOOK: Time = 20;

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// The only coordinator is stopped for longer than task managers may be silent, and sees its timers first when it goes
    /// on: all of them have been heard of too long ago, and not one is dead.
    LeaderStopped,
    /// A task manager is stopped, its job is cancelled and has ended by the time it goes on: the order to take a checkpoint
    /// that was waiting for it reaches its tasks, and they write where everything has been deleted.
    JobEndedMeanwhile,
    /// A job's master panics over the grant of its slots, and the next one, and the one after that: nothing is scheduled in
    /// them yet.
    MasterPanicsOverGrant,
    /// A job's master panics again and again while its sinks commit.
    MasterPanicsOverCommit,
}

impl Scenario {
    /// Every one.
    pub const ALL: [Self; 4] =
        [Self::LeaderStopped, Self::JobEndedMeanwhile, Self::MasterPanicsOverGrant, Self::MasterPanicsOverCommit];
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeaderStopped => "leader-stopped",
            Self::JobEndedMeanwhile => "job-ended-meanwhile",
            Self::MasterPanicsOverGrant => "master-panics-over-grant",
            Self::MasterPanicsOverCommit => "master-panics-over-commit",
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
            Scenario::MasterPanicsOverGrant | Scenario::MasterPanicsOverCommit => (1, Profile::Coordinators),
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
        match scenario {
            Scenario::LeaderStopped | Scenario::JobEndedMeanwhile => {}
            Scenario::MasterPanicsOverGrant => plan.quiet_start = SECOND,
            Scenario::MasterPanicsOverCommit => {
                plan.quiet_start = SECOND;
                plan.jobs[0].records = Some(200);
            }
        }
        plan
    }
}

impl World {
    /// The one fault, or a look at whether its moment has come.
    pub(crate) fn enact(&mut self, scenario: Scenario) {
        match scenario {
            Scenario::LeaderStopped => self.stop_for_long(scenario, Process::Coordinator(0)),
            Scenario::JobEndedMeanwhile => self.stop_for_long(scenario, Process::TaskManager(0)),
            Scenario::MasterPanicsOverGrant => self.panic_when(scenario, 3, |_, mailbox| {
                let grant = |mail: &Mail| matches!(mail, Mail::Master(JobMasterEvent::SlotsGranted { .. }));
                mailbox.iter().position(grant).map(|before| before + 1)
            }),
            Scenario::MasterPanicsOverCommit => {
                self.panic_when(scenario, usize::MAX, |job, _| (job.status == JobStatus::Committing).then_some(1));
            }
        }
    }

    fn stop_for_long(&mut self, scenario: Scenario, process: Process) {
        self.watch.fault(self.now, &scenario.to_string());
        self.pause(process);
        self.after(8 * SECOND + 300 * MILLISECOND, Event::Resume(process));
    }

    /// The only job's master panics so often, whenever its job and its mailbox say over how many messages.
    fn panic_when(
        &mut self,
        scenario: Scenario,
        times: usize,
        over: impl Fn(&JobState, &VecDeque<Mail>) -> Option<usize>,
    ) {
        if self.now >= self.plan.duration {
            return;
        }
        self.after(LOOK, Event::Fault);
        let (node, id) = (0, self.plan.jobs[0].spec.id);
        let coordinator = &self.coordinators[node];
        let Shell::Leading(leadership) = &coordinator.shell else { return };
        let (Some(job), Some(master)) = (coordinator.state.jobs.get(&id), leadership.masters.get(&id)) else { return };
        let Some(lost) = over(job, &master.mailbox).filter(|_| master.panics.len() < times) else { return };
        let epoch = leadership.epoch;
        if self.panic_master(node, epoch, id, lost) {
            self.watch.fault(self.now, &scenario.to_string());
        }
    }
}
