//! P1: no process panicked, failed an assertion, found its disk damaged, ended by itself, or stayed behind the others.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::verdict::Verdict;

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

/// Judges what was found.
#[must_use]
pub fn check(complaints: &[String]) -> Verdict {
    match complaints.first() {
        None => Verdict::valid(
            "no log has a panic, a failed assertion or damage, no server ended by itself, all coordinators follow",
        ),
        Some(first) => {
            let why = format!("{} complaints, the first: {first}", complaints.len());
            Verdict::invalid(why, complaints.to_vec(), (0, 0))
        }
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
        assert_eq!(check(&[]).name(), "valid");
        assert_eq!(check(&["c1-1.err: panicked at".to_owned()]).name(), "invalid");
    }
}
