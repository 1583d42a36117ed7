//! P1: no process panicked, failed an assertion, found its disk damaged, ended by itself, or stayed behind the others.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::verdict::Verdict;
use crate::record::{FaultRecord, Proof};
use crate::schedule::Fault;

/// What a defect looks like in a log.
const MARKS: [&str; 5] = ["panicked at", "assertion failed", "invariant", " FATAL ", "is damaged"];
/// How many lines are kept.
const LINES_MAX: usize = 50;

/// The lines of all logs in a folder that look like a defect, each with its file's name.
///
/// # Errors
///
/// When a log cannot be read.
pub fn complaints(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        found.extend(in_text(&text).map(|line| format!("{name}: {line}")));
    }
    found.truncate(LINES_MAX);
    Ok(found)
}

fn in_text(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| MARKS.iter().any(|mark| line.contains(mark)))
}

/// Judges what was found. That a file is damaged which a fault damaged has to be said.
#[must_use]
pub fn check(complaints: &[String], faults: &[FaultRecord]) -> Verdict {
    let damaged: Vec<&str> = faults.iter().flat_map(damaged).collect();
    let is_due = |line: &&String| damaged.iter().any(|path| line.contains(path));
    let suspicious: Vec<String> = complaints.iter().filter(|line| !is_due(line)).cloned().collect();
    match suspicious.first() {
        None => Verdict::valid(
            "no log has a panic, a failed assertion or damage that was not done on purpose, no server ended by itself, all coordinators follow",
        ),
        Some(first) => {
            let why = format!("{} complaints, the first: {first}", suspicious.len());
            Verdict::invalid(why, suspicious, (0, 0))
        }
    }
}

/// The files that a fault damaged: the absolute paths in its proof.
fn damaged(fault: &FaultRecord) -> Vec<&str> {
    match (&fault.proof, fault.fault) {
        (Proof::Fired(evidence), Fault::DamageCheckpoint) => {
            evidence.iter().flat_map(|line| line.split_whitespace()).filter(|word| word.starts_with('/')).collect()
        }
        (Proof::Fired(_) | Proof::NotFired(_) | Proof::Skipped(_), _) => Vec::new(),
    }
}

/// Z1: nothing was left when everything had been stopped.
#[must_use]
pub fn nothing_left(leftovers: &[String]) -> Verdict {
    match leftovers.first() {
        None => Verdict::valid("the cancelled job's executors ended, and no process was left on any host"),
        Some(first) => {
            Verdict::invalid(format!("{} things were left: {first}", leftovers.len()), leftovers.to_vec(), (0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found_and_a_quiet_log_is_not() {
        let text = "INFO leads\nthread 'main' panicked at src/x.rs:3:1:\nWARN slow\n";
        assert_eq!(in_text(text).count(), 1);
        assert_eq!(check(&[], &[]).name(), "valid");
        assert_eq!(check(&["c1-1.err: panicked at".to_owned()], &[]).name(), "invalid");
    }

    #[test]
    fn damage_that_was_done_on_purpose_is_expected_and_other_damage_is_not() {
        let fault = FaultRecord {
            phase: "damaged".to_owned(),
            fault: Fault::DamageCheckpoint,
            targets: Vec::new(),
            from: 1,
            to: 2,
            proof: Proof::Fired(vec!["byte 7 of /run/3/a was turned".to_owned()]),
        };
        let complaint = |path: &str| vec![format!("c1-1.err: read file://{path}: it is damaged")];
        assert_eq!(check(&complaint("/run/3/a"), std::slice::from_ref(&fault)).name(), "valid");
        assert_eq!(check(&complaint("/run/2/b"), &[fault]).name(), "invalid");
    }
}
