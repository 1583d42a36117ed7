//! The checkers: pure functions of what a run recorded. No clock, no process.

pub mod append;
pub mod checkpoints;
pub mod fence;
pub mod lead;
pub mod linearizable;
pub mod logs;
pub mod models;
pub mod offsets;
pub mod once;
pub mod plane;
pub mod recover;
pub mod replay;
pub mod replicas;
pub mod retained;
pub mod timeline;
pub mod vacuity;
pub mod verdict;
pub mod wgl;

use crate::record::Run;
use crate::schedule::{Form, Work};
use verdict::{Finding, Verdict};

/// The column of findings that are about the whole run.
pub const WHOLE: &str = "run";

/// What each checker is about, in the order of the table.
pub const CHECKERS: [(&str, &str); 21] = [
    ("K1", "registers and jobs are linearizable"),
    ("K2", "answers agree with a replay of the log's order; replicas agree"),
    ("K3", "lists are chains of prefixes"),
    ("L1", "one leader for each epoch"),
    ("L2", "a task manager obeys no older epoch"),
    ("L3", "no older epoch decides after a newer one"),
    ("L4", "each attempt is started once"),
    ("L5", "a leader that is cut off acknowledges nothing"),
    ("D1", "attempts and processes of the running job stay"),
    ("D2", "its output goes on"),
    ("D3", "its rate stays"),
    ("X1", "every record is in the output once"),
    ("C1", "a checkpoint id names one checkpoint, and ids only grow"),
    ("C2", "the newest checkpoint never goes back"),
    ("C3", "the newest completed checkpoint is restored"),
    ("C4", "readers go on where their checkpoint was"),
    ("C5", "retained checkpoints are complete on the disk"),
    ("R1", "writes are possible again soon"),
    ("P1", "no panic and no damage in any log; servers live and follow"),
    ("Z1", "nothing is left behind"),
    ("V1", "enough happened to prove something"),
];

/// Everything that can be said about a run.
#[must_use]
pub fn all(run: &Run) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |checker: &str, phase: &str, verdict: Verdict| {
        findings.push(Finding { checker: checker.to_owned(), phase: phase.to_owned(), verdict });
    };
    for phase in &run.phases {
        let name = phase.name.as_str();
        say("K1", name, linearizable::check(&run.history, name));
        say("K2", name, replay::check(&run.history, name));
        say("K3", name, append::check(&run.history, name));
        if run.faults_of(name).next().is_some() {
            say("R1", name, recover::check(run, phase));
        }
        if run.faults_of(name).any(|fault| fault.fault.package() == "partition") {
            say("L5", name, lead::isolated_leader_is_silent(run, name));
        }
        match phase.work {
            Work::Stream => {
                say("D1", name, plane::undisturbed(run, phase));
                say("D2", name, plane::output_goes_on(run, phase));
                say("D3", name, plane::rate_goes_on(run, phase));
            }
            Work::Sequence(_) => sequence(run, name, &mut say),
        }
        say("V1", name, vacuity::phase(run, phase));
    }
    say("K2", WHOLE, replicas::check(run));
    say("L1", WHOLE, lead::one_leader(&run.events));
    say("L2", WHOLE, fence::no_older_epoch(&run.events));
    say("L3", WHOLE, lead::no_older_decision(&run.events));
    say("L4", WHOLE, fence::one_execution(&run.events));
    say("P1", WHOLE, logs::check(&run.complaints, &run.faults));
    say("Z1", WHOLE, logs::nothing_left(&run.leftovers));
    say("V1", WHOLE, vacuity::operations(run));
    findings
}

/// What is said of the jobs over a sequence in one phase.
fn sequence(run: &Run, phase: &str, say: &mut impl FnMut(&str, &str, Verdict)) {
    let Some(record) = run.sequence(phase) else {
        return say("X1", phase, Verdict::unknown("no job ran"));
    };
    say("X1", phase, once::check(record));
    say("C1", phase, checkpoints::ids(record, &run.events));
    say("C2", phase, checkpoints::newest(record));
    say("C3", phase, checkpoints::restores(record, &run.events));
    if record.form == Form::Damaged {
        // No reader gets so far as to go on.
        say("C5", phase, retained::loud(record, &run.events));
    } else {
        say("C4", phase, offsets::check(record, &run.events));
        say("C5", phase, retained::complete(record, &run.events));
    }
    say("Z1", phase, retained::nothing_left(record, &run.events));
}
