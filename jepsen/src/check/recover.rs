//! R1: how long clients waited after each fault, and that it was not too long.

use super::plane;
use super::timeline::Timeline;
use super::verdict::Verdict;
use crate::clock::seconds;
use crate::history::Op;
use crate::host::Role;
use crate::record::{FaultRecord, PhaseTimes, Run};
use crate::schedule::Fault;

/// The longest that 95 of 100 writes may wait after the leader died.
const WRITE_P95_S: f64 = 5.0;

/// Seconds from a fault to the first acknowledged change that was asked for after it. What hosts acknowledge that live
/// and are cut off, or will be, does not count: they lead until their lease ends.
#[must_use]
pub fn until_write(run: &Run, fault: &FaultRecord) -> Option<f64> {
    let hit: Vec<String> = match fault.fault {
        Fault::Kill
        | Fault::KillExecutor
        | Fault::PowerLoss
        | Fault::SlowSync
        | Fault::FailSync
        | Fault::DiskFull
        | Fault::DamageCheckpoint => Vec::new(),
        Fault::Pause | Fault::Isolate | Fault::IsolateOut | Fault::IsolateIn => {
            fault.targets.iter().map(ToString::to_string).collect()
        }
    };
    let counts = |op: &&Op| op.is_ok() && !op.call_kind.is_read() && op.call > fault.from && !hit.contains(&op.node);
    let after = run.history.iter().filter(counts);
    after.map(|op| op.latest()).min().map(|latest| seconds(fault.from, latest))
}

/// Seconds from a fault to the next checkpoint that a job over a sequence completed which was triggered after it: all of
/// its sub-tasks are back, and what came out by then is visible.
#[must_use]
pub fn until_checkpoint(run: &Run, fault: &FaultRecord) -> Option<f64> {
    let record = run.sequence(&fault.phase)?;
    let completed = record.jobs.iter().flat_map(|job| {
        let timeline = Timeline::of(&run.events, job.job);
        let after =
            |id: &u64| timeline.triggered.get(id).is_some_and(|times| times.iter().all(|(at, _)| *at > fault.from));
        let completed = timeline.completed.values().filter(|completion| after(&completion.id));
        completed.map(|completion| completion.at).collect::<Vec<u64>>()
    });
    completed.min().map(|at| seconds(fault.from, at))
}

/// Whether writes were possible soon enough after each fault that leaves a majority, or after its end.
#[must_use]
pub fn check(run: &Run, phase: &PhaseTimes) -> Verdict {
    let mut times = Vec::new();
    for fault in run.faults_of(&phase.name) {
        let Some(took) = until_write(run, fault) else {
            return Verdict::invalid("no write was acknowledged after a fault", Vec::new(), (fault.from, fault.to));
        };
        // Without a majority nothing can be acknowledged before the fault has ended.
        let no_majority = fault.targets.iter().filter(|host| host.role == Role::Coordinator).count() > 1;
        times.push(if no_majority { took - seconds(fault.from, fault.to) } else { took });
    }
    if times.is_empty() {
        return Verdict::skipped("there was no fault");
    }
    times.sort_by(f64::total_cmp);
    // In hundredths of the way through the sorted times.
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    let figures = format!("first write after {} faults: p50 {:.2} s, max {:.2} s", times.len(), at(50), at(100));
    match (at(95) < WRITE_P95_S, plane::busy(run, phase.from, phase.to)) {
        (true, _) => Verdict::valid(figures),
        (false, Some(busy)) => Verdict::skipped(format!("{figures}: {busy}")),
        (false, None) => Verdict::invalid(figures, Vec::new(), (phase.from, phase.to)),
    }
}
