//! V1: enough happened for the other verdicts to mean something.

use super::lead;
use super::verdict::Verdict;
use crate::history::Op;
use crate::record::{PhaseTimes, Proof, Run};

/// How many answers each kind of operation needs in a whole run.
const OK_PER_OP: usize = 20;
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
    if changes < phase.leader_changes {
        return Verdict::unknown(format!("{changes} leader changes, at least {} were expected", phase.leader_changes));
    }
    let answered = run.history.iter().filter(|op| op.phase == phase.name && op.is_ok()).count();
    if answered < OK_PER_PHASE {
        return Verdict::unknown(format!(
            "only {answered} operations were answered, at least {OK_PER_PHASE} are needed"
        ));
    }
    Verdict::valid(format!("{fired} faults fired, {changes} leader changes, {answered} answers"))
}

/// Whether every kind of operation was answered often enough.
#[must_use]
pub fn operations(history: &[Op]) -> Verdict {
    let answered = |name: &str| history.iter().filter(|op| op.is_ok() && op.call_kind.name() == name).count();
    for name in OPS {
        let count = answered(name);
        if count < OK_PER_OP {
            return Verdict::unknown(format!("{name} was answered {count} times, at least {OK_PER_OP} are needed"));
        }
    }
    let counts: Vec<String> = OPS.iter().map(|name| format!("{name} {}", answered(name))).collect();
    Verdict::valid(format!("answers: {}", counts.join(", ")))
}
