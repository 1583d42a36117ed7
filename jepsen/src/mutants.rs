//! Negative controls: known bugs, each with the schedule that shows it and the checker that has to find it.

use anyhow::bail;
use tidemill_model::mutant::Mutant;

use crate::check::verdict::{Finding, Verdict};
use crate::commands::{Placement, run_schedule};
use crate::schedule::{self, Schedule};

/// How often a bug may get away before it counts as not found: whether it shows is a matter of moments.
const TRIES: u64 = 3;

/// One row of the matrix.
struct Row {
    mutant: Mutant,
    schedule: fn(u64) -> Schedule,
    checker: &'static str,
}

const MATRIX: [Row; 2] = [
    Row { mutant: Mutant::RestartsAtTakeover, schedule: schedule::kill_once, checker: "D1" },
    Row { mutant: Mutant::ReadsWithoutQuorum, schedule: schedule::pause_often, checker: "K1" },
];

/// Puts the bugs back, one by one; the exit code is 0 when each is found and the same schedules pass without them.
///
/// # Errors
///
/// When a run cannot be carried out.
pub(crate) fn hunt(only: &[String], seed: u64, placement: &Placement) -> anyhow::Result<u8> {
    let known = |name: &&String| MATRIX.iter().any(|row| row.mutant.name() == name.as_str());
    if let Some(unknown) = only.iter().find(|name| !known(name)) {
        let names: Vec<&str> = MATRIX.iter().map(|row| row.mutant.name()).collect();
        bail!("find mutant {unknown}: there are {}", names.join(", "));
    }
    let mut lines = Vec::new();
    let (mut passed, mut failed) = (0, 0);
    for row in MATRIX.iter().filter(|row| only.is_empty() || only.iter().any(|name| name == row.mutant.name())) {
        let control = control(row, seed, placement)?;
        let killed = kill(row, seed, placement)?;
        let good = control.is_none() && killed.is_some();
        (passed, failed) = if good { (passed + 1, failed) } else { (passed, failed + 1) };
        let without = control.unwrap_or_else(|| "passes".to_owned());
        let with = killed.unwrap_or_else(|| format!("not found in {TRIES} tries"));
        lines.push(format!("{} by {}: {with}; without it the schedule {without}", row.mutant, row.checker));
    }
    for line in lines {
        println!("{line}");
    }
    println!("{passed} passed, {failed} failed, 0 skipped");
    Ok(u8::from(failed > 0))
}

/// The same schedule without the bug: none when nothing is found.
fn control(row: &Row, seed: u64, placement: &Placement) -> anyhow::Result<Option<String>> {
    let name = format!("{}-control", row.mutant);
    let verdicts = run_schedule(&(row.schedule)(seed), &placement.below(&name), None)?;
    let invalid = verdicts.findings.into_iter().find(|finding| matches!(finding.verdict, Verdict::Invalid { .. }));
    Ok(invalid.map(|finding| format!("fails: {} {}", finding.checker, finding.verdict.reason())))
}

/// What the named checker says of the bug, once it has found it.
fn kill(row: &Row, seed: u64, placement: &Placement) -> anyhow::Result<Option<String>> {
    for attempt in 0..TRIES {
        let seed = seed.wrapping_add(attempt);
        let folder = placement.below(&format!("{}-{seed}", row.mutant));
        let verdicts = run_schedule(&(row.schedule)(seed), &folder, Some(row.mutant))?;
        let by_checker =
            |finding: &&Finding| finding.checker == row.checker && matches!(finding.verdict, Verdict::Invalid { .. });
        if let Some(finding) = verdicts.findings.iter().find(by_checker) {
            return Ok(Some(format!("killed with seed {seed}: {}", finding.verdict.reason())));
        }
    }
    Ok(None)
}
