//! V1: enough happened for the other verdicts to mean something.

use std::time::Duration;

use super::lead;
use super::timeline::Timeline;
use super::verdict::Verdict;
use crate::clock::nanos;
use crate::record::{PhaseTimes, Proof, Run};
use crate::schedule::{Minimum, Work};

/// How many answers each kind of operation needs in a run of a minute and a half, or longer.
const OK_PER_OP: u64 = 20;
/// A shorter run needs one in so many seconds.
const OK_PER_OP_S: u64 = 5;
/// How many answers a phase needs.
const OK_PER_PHASE: usize = 50;
/// Every kind of operation of the workload.
const OPS: [&str; 9] = ["read", "write", "cas", "append", "read-list", "submit", "cancel", "get", "list"];

/// Whether every fault of a phase fired, leaders changed as often as they had to, and clients got answers.
#[must_use]
pub fn phase(run: &Run, phase: &PhaseTimes) -> Verdict {
    let mut fired = 0;
    for fault in run.faults_of(&phase.name) {
        match &fault.proof {
            Proof::Fired(_) => fired += 1,
            Proof::NotFired(why) => return Verdict::unknown(format!("{} did not fire: {why}", fault.fault.name())),
            Proof::Skipped(why) => return Verdict::skipped(format!("{}: {why}", fault.fault.name())),
        }
    }
    let changes = lead::changes(run, phase.from, phase.to);
    let (mut checkpoints, mut restores) = (0, 0);
    for job in run.sequence(&phase.name).into_iter().flat_map(|sequence| &sequence.jobs) {
        let timeline = Timeline::of(&run.events, job.job);
        checkpoints += timeline.completed.len();
        restores += timeline.restores();
    }
    let Minimum { leader_changes, checkpoints: checkpoints_min, restores: restores_min } = phase.minimum;
    let counted = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    for (count, least, what) in [
        (changes, leader_changes, "leader changes"),
        (counted(checkpoints), checkpoints_min, "completed checkpoints"),
        (counted(restores), restores_min, "restores"),
    ] {
        if count < least {
            return Verdict::unknown(format!("{count} {what}, at least {least} were expected"));
        }
    }
    let answered = run.history.iter().filter(|op| op.phase == phase.name && op.is_ok()).count();
    if answered < OK_PER_PHASE {
        return Verdict::unknown(format!(
            "only {answered} operations were answered, at least {OK_PER_PHASE} are needed"
        ));
    }
    let of_jobs = match phase.work {
        Work::Stream => String::new(),
        Work::Sequence(_) => format!("{checkpoints} checkpoints, {restores} restores, "),
    };
    Verdict::valid(format!("{fired} faults fired, {changes} leader changes, {of_jobs}{answered} answers"))
}

/// Whether every kind of operation was answered often enough for the length of the run.
#[must_use]
pub fn operations(run: &Run) -> Verdict {
    let time: u64 = run.phases.iter().map(|phase| phase.to - phase.from).sum();
    let needed = OK_PER_OP.min(time / nanos(Duration::from_secs(OK_PER_OP_S))).max(1);
    let needed = usize::try_from(needed).unwrap_or(usize::MAX);
    let answered = |name: &str| run.history.iter().filter(|op| op.is_ok() && op.call_kind.name() == name).count();
    for name in OPS {
        let count = answered(name);
        if count < needed {
            return Verdict::unknown(format!("{name} was answered {count} times, at least {needed} are needed"));
        }
    }
    let counts: Vec<String> = OPS.iter().map(|name| format!("{name} {}", answered(name))).collect();
    Verdict::valid(format!("answers: {}", counts.join(", ")))
}
