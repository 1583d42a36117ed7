//! The phases in which jobs over a sequence lose executors, task managers and leaders.

use super::{Entry, Fault, Form, Minimum, Phase, Schedule, Target, Work, fault};
use crate::seed::Stream;

/// The part of the smoke suite in which every record is counted: a job that runs to its end while everything that runs
/// it is killed, one that is suspended and goes on with more sub-tasks, one that is cancelled, one whose newest checkpoint
/// is damaged.
#[must_use]
pub fn phases(chance: &mut Stream) -> Vec<Phase> {
    let finished = vec![
        fault(chance, 500, Fault::Kill, Target::TaskManager, 1_000),
        fault(chance, 5_500, Fault::KillExecutor, Target::TaskManager, 100),
        fault(chance, 9_000, Fault::Kill, Target::Leader, 1_500),
        fault(chance, 13_500, Fault::Kill, Target::LeaderAndTaskManager, 1_500),
    ];
    let minimum = Minimum { leader_changes: 2, checkpoints: 6, restores: 2 };
    let suspended = vec![fault(chance, 200, Fault::KillExecutor, Target::TaskManager, 100)];
    let canceled = vec![fault(chance, 200, Fault::KillExecutor, Target::TaskManager, 100)];
    let damaged = vec![fault(chance, 200, Fault::DamageCheckpoint, Target::AllTaskManagers, 1_000)];
    let few = Minimum { leader_changes: 0, checkpoints: 2, restores: 1 };
    vec![
        phase("exactly-once", 16_500, finished, minimum, Form::Finished),
        phase("stop-and-rescale", 2_000, suspended, few, Form::Suspended),
        phase("cancel", 2_000, canceled, few, Form::Canceled),
        phase("damaged-checkpoint", 3_000, damaged, few, Form::Damaged),
    ]
}

/// A job over a sequence whose executors are killed again and again.
#[must_use]
pub fn kill_executors(seed: u64) -> Schedule {
    let mut chance = Stream::new(seed, "schedule");
    let kill = |number: u64| fault(&mut chance, 500 + number * 2_000, Fault::KillExecutor, Target::TaskManager, 100);
    alone(seed, 12_500, (0..6).map(kill).collect(), 0)
}

/// A job over a sequence whose leader is killed, and then an executor.
#[must_use]
pub fn kill_leader_and_executors(seed: u64) -> Schedule {
    let mut chance = Stream::new(seed, "schedule");
    let faults = vec![
        fault(&mut chance, 500, Fault::Kill, Target::Leader, 1_500),
        fault(&mut chance, 5_000, Fault::KillExecutor, Target::TaskManager, 100),
    ];
    alone(seed, 9_500, faults, 1)
}

fn alone(seed: u64, time_ms: u64, faults: Vec<Entry>, leader_changes: u32) -> Schedule {
    let minimum = Minimum { leader_changes, checkpoints: 2, restores: 1 };
    let phases = vec![phase("exactly-once", time_ms, faults, minimum, Form::Finished)];
    Schedule { suite: "directed".to_owned(), seed, coordinators: 3, task_managers: 2, phases }
}

fn phase(name: &str, time_ms: u64, faults: Vec<Entry>, minimum: Minimum, form: Form) -> Phase {
    Phase { name: name.to_owned(), time_ms, faults, minimum, work: Work::Sequence(form) }
}
