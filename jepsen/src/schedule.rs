//! What will be broken when: made from a seed before the run, stored, and the same when it is replayed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::seed::Stream;

pub mod sequence;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL; the process is started again when the fault ends.
    Kill,
    /// SIGKILL to one executor of a task manager, which stays.
    KillExecutor,
    /// What was not synced is lost on the host's disk, and everything on the host ends with it; both are back when the
    /// fault ends.
    PowerLoss,
    /// Each sync takes half a second.
    SlowSync,
    /// One sync fails; a server that ends by that is started again when the fault ends.
    FailSync,
    /// Writes find no room; when there is some again, the server is started anew.
    DiskFull,
    /// While a task manager is dead, by SIGKILL, the newest checkpoint of the job that runs is damaged on the disk.
    DamageCheckpoint,
    /// SIGSTOP until the fault ends.
    Pause,
    /// The host and all others but the clients lose each other's packets.
    Isolate,
    /// What the host sends to all others but the clients is lost.
    IsolateOut,
    /// What all others but the clients send to the host is lost.
    IsolateIn,
}

impl Fault {
    /// The package that it belongs to, which gives it its colour.
    #[must_use]
    pub fn package(self) -> &'static str {
        match self {
            Self::Kill | Self::KillExecutor => "kill",
            Self::PowerLoss | Self::SlowSync | Self::FailSync | Self::DiskFull | Self::DamageCheckpoint => "disk",
            Self::Pause => "pause",
            Self::Isolate | Self::IsolateOut | Self::IsolateIn => "partition",
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillExecutor => "kill-executor",
            Self::PowerLoss => "power-loss",
            Self::SlowSync => "slow-sync",
            Self::FailSync => "fail-sync",
            Self::DiskFull => "disk-full",
            Self::DamageCheckpoint => "damage-checkpoint",
            Self::Pause => "pause",
            Self::Isolate => "isolate",
            Self::IsolateOut => "isolate-out",
            Self::IsolateIn => "isolate-in",
        }
    }
}

/// Whom it hits; resolved when it fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The leading coordinator.
    Leader,
    /// A coordinator that follows.
    Follower,
    /// Every coordinator.
    AllCoordinators,
    /// A task manager.
    TaskManager,
    /// Every task manager.
    AllTaskManagers,
    /// The leading coordinator and a task manager.
    LeaderAndTaskManager,
    /// One host.
    Host(Host),
}

/// One fault of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Milliseconds after the phase began.
    pub at_ms: u64,
    /// What.
    pub fault: Fault,
    /// To whom.
    pub target: Target,
    /// For how many milliseconds; then it is undone.
    pub for_ms: u64,
}

impl Entry {
    /// When it begins, after the beginning of its phase.
    #[must_use]
    pub fn begins(&self) -> Duration {
        Duration::from_millis(self.at_ms)
    }

    /// How long it lasts.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        Duration::from_millis(self.for_ms)
    }
}

/// What the cluster does while a phase breaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// The streaming job, which nothing may disturb.
    #[default]
    Stream,
    /// A job whose output is checked record by record. The streaming job has ended by then.
    Sequence(Form),
}

/// How a job over a sequence ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// With its input.
    Finished,
    /// At a savepoint, from which another one goes on with more sub-tasks and finishes.
    Suspended,
    /// Cancelled in the middle.
    Canceled,
    /// It fails, since the checkpoint that it has to go on from is damaged.
    Damaged,
}

/// What has to happen in a phase, else it proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Minimum {
    /// How many changes of leader.
    pub leader_changes: u32,
    /// How many completed checkpoints.
    pub checkpoints: u32,
    /// How many times attempts were started from a checkpoint.
    pub restores: u32,
}

/// One part of a run: some faults, and what has to hold meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Its name, for the table of verdicts.
    pub name: String,
    /// How long it lasts, in milliseconds; a job over a sequence has to end afterwards.
    pub time_ms: u64,
    /// What breaks, in the order of time; faults of one phase do not overlap.
    pub faults: Vec<Entry>,
    /// What it has to see.
    pub minimum: Minimum,
    /// What runs meanwhile.
    #[serde(default)]
    pub work: Work,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The suite or scenario.
    pub suite: String,
    /// What it was made from.
    pub seed: u64,
    /// How many coordinators.
    pub coordinators: u8,
    /// How many task managers, with two slots each.
    pub task_managers: u8,
    /// In this order.
    pub phases: Vec<Phase>,
}

impl Schedule {
    /// How long its phases last.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_millis(self.phases.iter().map(|phase| phase.time_ms).sum())
    }
}

/// Within how many milliseconds a moment is chosen by the seed: no run hits the same instruction twice.
const JITTER_MS: u64 = 800;

fn fault(chance: &mut Stream, at_ms: u64, fault: Fault, target: Target, for_ms: u64) -> Entry {
    Entry { at_ms: at_ms + chance.below(JITTER_MS), fault, target, for_ms }
}

fn phase(name: &str, time_ms: u64, leader_changes: u32, faults: Vec<Entry>) -> Phase {
    let minimum = Minimum { leader_changes, ..Minimum::default() };
    Phase { name: name.to_owned(), time_ms, faults, minimum, work: Work::Stream }
}

/// The suite of the continuous build: each fault of the leader once, on the product's default timers.
#[must_use]
pub fn smoke(seed: u64) -> Schedule {
    let mut chance = Stream::new(seed, "schedule");
    let chance = &mut chance;
    let kills = [1_000, 8_000, 15_000].map(|at| fault(chance, at, Fault::Kill, Target::Leader, 2_000));
    let mut phases = vec![
        phase("baseline", 8_000, 0, Vec::new()),
        phase("kill-leader", 23_000, 3, kills.to_vec()),
        phase("isolate-leader", 13_000, 1, vec![fault(chance, 1_000, Fault::Isolate, Target::Leader, 6_000)]),
        phase("isolate-out", 11_000, 1, vec![fault(chance, 1_000, Fault::IsolateOut, Target::Leader, 5_000)]),
        phase("isolate-in", 11_000, 1, vec![fault(chance, 1_000, Fault::IsolateIn, Target::Leader, 5_000)]),
        phase("pause-leader", 12_000, 1, vec![fault(chance, 1_000, Fault::Pause, Target::Leader, 5_000)]),
        phase("kill-all", 15_000, 1, vec![fault(chance, 1_000, Fault::Kill, Target::AllCoordinators, 5_000)]),
        power_loss(chance),
    ];
    phases.extend(sequence::phases(chance));
    Schedule { suite: "smoke".to_owned(), seed, coordinators: 3, task_managers: 2, phases }
}

/// The leader's power goes, and then that of all coordinators at once.
fn power_loss(chance: &mut Stream) -> Phase {
    let leader = fault(chance, 1_000, Fault::PowerLoss, Target::Leader, 2_000);
    let all = fault(chance, 8_000, Fault::PowerLoss, Target::AllCoordinators, 1_500);
    phase("power-loss", 18_500, 2, vec![leader, all])
}

/// All coordinators' power goes at once, while clients write.
#[must_use]
pub fn lose_power_of_all(seed: u64) -> Schedule {
    let mut chance = Stream::new(seed, "schedule");
    let all = fault(&mut chance, 3_000, Fault::PowerLoss, Target::AllCoordinators, 500);
    alone(seed, phase("power-loss", 10_000, 1, vec![all]))
}

/// A follower's power goes once.
#[must_use]
pub fn lose_power_of_follower(seed: u64) -> Schedule {
    let mut chance = Stream::new(seed, "schedule");
    let follower = fault(&mut chance, 1_000, Fault::PowerLoss, Target::Follower, 1_000);
    alone(seed, phase("power-loss", 8_000, 0, vec![follower]))
}

/// A leader that dies once.
#[must_use]
pub fn kill_once(seed: u64) -> Schedule {
    let mut chance = Stream::new(seed, "schedule");
    let kill = fault(&mut chance, 1_000, Fault::Kill, Target::Leader, 2_000);
    alone(seed, phase("kill-leader", 12_000, 1, vec![kill]))
}

/// A leader that stands still again and again, and wakes up when another one leads.
#[must_use]
pub fn pause_often(seed: u64) -> Schedule {
    let mut chance = Stream::new(seed, "schedule");
    let pauses = (0..6).map(|number| fault(&mut chance, 1_000 + number * 6_000, Fault::Pause, Target::Leader, 3_000));
    let pauses = pauses.collect();
    alone(seed, phase("pause-leader", 42_000, 3, pauses))
}

/// A phase behind a short one that is the measure of its output.
fn alone(seed: u64, phase_of_faults: Phase) -> Schedule {
    let phases = vec![phase("baseline", 4_000, 0, Vec::new()), phase_of_faults];
    Schedule { suite: "directed".to_owned(), seed, coordinators: 3, task_managers: 2, phases }
}

/// How long before its end a phase begins no fault: the longest fault, and time to recover.
const RECOVERY_MS: u64 = 12_000;

/// One phase of faults that the seed chooses, and a quiet one behind it.
#[must_use]
pub fn random(seed: u64, time: Duration) -> Schedule {
    let mut chance = Stream::new(seed, "schedule");
    let total = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let faults = [
        Fault::Kill,
        Fault::PowerLoss,
        Fault::SlowSync,
        Fault::FailSync,
        Fault::DiskFull,
        Fault::Pause,
        Fault::Isolate,
        Fault::IsolateOut,
        Fault::IsolateIn,
    ];
    let targets = [Target::Leader, Target::Leader, Target::Follower];
    let mut entries = Vec::new();
    let mut at_ms = 1_000 + chance.below(JITTER_MS);
    while at_ms + RECOVERY_MS < total {
        let for_ms = 1_000 + chance.below(5_000);
        let fault = chance.pick(&faults).copied().unwrap_or(Fault::Kill);
        let ends = matches!(fault, Fault::Kill | Fault::PowerLoss);
        let target = if ends && chance.below(6) == 0 {
            Target::AllCoordinators
        } else {
            chance.pick(&targets).copied().unwrap_or(Target::Leader)
        };
        entries.push(Entry { at_ms, fault, target, for_ms });
        at_ms += for_ms + chance.pause_ms();
    }
    let phases = vec![phase("baseline", 8_000, 0, Vec::new()), phase("random", total, 1, entries)];
    Schedule { suite: "random".to_owned(), seed, coordinators: 3, task_managers: 2, phases }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schedule: &Schedule) {
        for phase in &schedule.phases {
            for pair in phase.faults.windows(2) {
                assert!(pair[0].at_ms + pair[0].for_ms < pair[1].at_ms, "{}: {pair:?} overlap", phase.name);
            }
            let end = phase.faults.last().map_or(0, |entry| entry.at_ms + entry.for_ms);
            // Behind the faults of a job over a sequence, the harness waits until it has recovered.
            let recovery = if phase.work == Work::Stream { 3_000 } else { 0 };
            assert!(end + recovery < phase.time_ms, "{}: no time to recover", phase.name);
        }
    }

    #[test]
    fn faults_of_a_phase_do_not_overlap_and_leave_time_to_recover() {
        for seed in 0..200 {
            check(&smoke(seed));
            check(&random(seed, Duration::from_secs(60)));
            check(&kill_once(seed));
            check(&pause_often(seed));
            check(&sequence::kill_executors(seed));
            check(&sequence::kill_leader_and_executors(seed));
            check(&lose_power_of_all(seed));
            check(&lose_power_of_follower(seed));
        }
    }

    #[test]
    fn a_seed_names_a_schedule_which_reads_back() {
        assert_eq!(smoke(3), smoke(3));
        assert_ne!(smoke(3), smoke(4));
        let text = serde_json::to_string(&smoke(3)).expect("JSON");
        assert_eq!(serde_json::from_str::<Schedule>(&text).expect("the same form"), smoke(3));
    }

    #[test]
    fn the_smoke_suite_fits_the_continuous_build() {
        assert!(smoke(0).time() < Duration::from_secs(169), "{:?}", smoke(0).time());
    }
}
