//! Negative controls: known bugs, each with the schedule that shows it and the checker that has to find it.

use anyhow::bail;
use tidemill_model::mutant::Mutant;

use crate::bug::{Bug, DiskBug};
use crate::check::verdict::{Finding, Totals, Verdict};
use crate::commands::{Placement, run_schedule};
use crate::schedule::{self, Schedule, sequence};

/// How often a bug may get away before it counts as not found: whether it shows is a matter of moments.
const TRIES: u64 = 3;

/// The exit code of a harness that finds nothing where there is something.
const NOTHING_PROVEN: u8 = 2;

/// One row of the matrix.
struct Row {
    bug: Bug,
    schedule: fn(u64) -> Schedule,
    checker: &'static str,
}

/// The bug that the smoke suite puts back in each run.
const UNSYNCED_LOG: Row =
    Row { bug: Bug::Disk(DiskBug::UnsyncedLog), schedule: schedule::lose_power_of_all, checker: "K3" };

const MATRIX: [Row; 8] = [
    Row { bug: Bug::Server(Mutant::RestartsAtTakeover), schedule: schedule::kill_once, checker: "D1" },
    Row { bug: Bug::Server(Mutant::ReadsWithoutQuorum), schedule: schedule::pause_often, checker: "K1" },
    UNSYNCED_LOG,
    Row { bug: Bug::Disk(DiskBug::UnsyncedIdentity), schedule: schedule::lose_power_of_follower, checker: "P1" },
    Row { bug: Bug::Server(Mutant::SourceOffsetOffByOne), schedule: sequence::kill_executors, checker: "X1" },
    Row { bug: Bug::Server(Mutant::SinkCommitsAtBarrier), schedule: sequence::kill_executors, checker: "X1" },
    Row { bug: Bug::Server(Mutant::RestoresSecondNewest), schedule: sequence::kill_executors, checker: "C3" },
    Row {
        bug: Bug::Server(Mutant::CheckpointCounterInMemory),
        schedule: sequence::kill_leader_and_executors,
        checker: "C1",
    },
];

/// Puts the bugs back, one by one; the exit code is 0 when each is found and the same schedules pass without them.
///
/// # Errors
///
/// When a run cannot be carried out.
pub(crate) fn hunt(only: &[String], seed: u64, placement: &Placement) -> anyhow::Result<u8> {
    let known = |name: &&String| MATRIX.iter().any(|row| row.bug.to_string() == **name);
    if let Some(unknown) = only.iter().find(|name| !known(name)) {
        let names: Vec<String> = MATRIX.iter().map(|row| row.bug.to_string()).collect();
        bail!("find mutant {unknown}: there are {}", names.join(", "));
    }
    let mut lines = Vec::new();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for row in MATRIX.iter().filter(|row| only.is_empty() || only.contains(&row.bug.to_string())) {
        if let Some(missing) = row.bug.missing() {
            skipped += 1;
            lines.push(format!("{}: SKIPPED({missing})", row.bug));
            continue;
        }
        let control = control(row, seed, placement)?;
        let killed = kill(row, seed, placement)?;
        let good = control.is_none() && killed.is_some();
        (passed, failed) = if good { (passed + 1, failed) } else { (passed, failed + 1) };
        let without = control.unwrap_or_else(|| "passes".to_owned());
        let with = killed.unwrap_or_else(|| format!("not found in {TRIES} tries"));
        lines.push(format!("{} by {}: {with}; without it the schedule {without}", row.bug, row.checker));
    }
    for line in lines {
        println!("{line}");
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(u8::from(failed > 0))
}

/// Puts one bug back and counts whether it is found along with what a suite found without it; the exit code of both.
///
/// # Errors
///
/// When the run cannot be carried out.
pub(crate) fn with_negative_control(mut totals: Totals, seed: u64, placement: &Placement) -> anyhow::Result<u8> {
    let row = &UNSYNCED_LOG;
    println!("negative control: {} is put back, {} has to find it", row.bug, row.checker);
    let line = match row.bug.missing() {
        Some(missing) => {
            totals.skipped += 1;
            format!("{}: SKIPPED({missing})", row.bug)
        }
        None => {
            let killed = kill(row, seed, placement)?;
            (totals.passed, totals.failed) = match killed {
                Some(_) => (totals.passed + 1, totals.failed),
                None => (totals.passed, totals.failed + 1),
            };
            if killed.is_none() && totals.exit_code == 0 {
                totals.exit_code = NOTHING_PROVEN;
            }
            format!(
                "{} by {}: {}",
                row.bug,
                row.checker,
                killed.unwrap_or_else(|| format!("not found in {TRIES} tries"))
            )
        }
    };
    println!("{line}");
    println!("{} passed, {} failed, {} skipped", totals.passed, totals.failed, totals.skipped);
    Ok(totals.exit_code)
}

/// The same schedule without the bug: none when nothing is found.
fn control(row: &Row, seed: u64, placement: &Placement) -> anyhow::Result<Option<String>> {
    let name = format!("{}-control", row.bug);
    let verdicts = run_schedule(&(row.schedule)(seed), &placement.below(&name), None)?;
    let invalid = verdicts.findings.into_iter().find(|finding| matches!(finding.verdict, Verdict::Invalid { .. }));
    Ok(invalid.map(|finding| format!("fails: {} {}", finding.checker, finding.verdict.reason())))
}

/// What the named checker says of the bug, once it has found it.
fn kill(row: &Row, seed: u64, placement: &Placement) -> anyhow::Result<Option<String>> {
    for attempt in 0..TRIES {
        let seed = seed.wrapping_add(attempt);
        let folder = placement.below(&format!("{}-{seed}", row.bug));
        let verdicts = run_schedule(&(row.schedule)(seed), &folder, Some(row.bug))?;
        let by_checker =
            |finding: &&Finding| finding.checker == row.checker && matches!(finding.verdict, Verdict::Invalid { .. });
        if let Some(finding) = verdicts.findings.iter().find(by_checker) {
            return Ok(Some(format!("killed with seed {seed}: {}", finding.verdict.reason())));
        }
    }
    Ok(None)
}
