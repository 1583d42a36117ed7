//! The independent count: coreutils over the same text, compared line by line.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::text::Text;
use crate::cluster::sorted_lines;

/// Lower-case, split at whatever is no ASCII letter, digit or underscore, count.
const COUNT: &str =
    r"cat -- %FILES% | LC_ALL=C tr A-Z a-z | LC_ALL=C tr -cs 'a-z0-9_' '\n' | LC_ALL=C sort -S 2G | uniq -c";

/// Compares the job's output with what coreutils count, and prints the top words.
pub(super) fn check_counts(text: &Text, output: &Path) -> Result<()> {
    let generated = text.generated();
    let mut expected = count(&format!("'{}'/real-*.txt", text.folder().display()))?;
    for (word, occurrences) in count(&format!("'{}'", generated.display()))? {
        *expected.entry(word).or_default() += occurrences * u64::from(text.copies);
    }
    let mut counted = BTreeMap::new();
    for line in sorted_lines(output)? {
        let (word, occurrences) = line.rsplit_once(' ').with_context(|| format!("a line of the output: {line:?}"))?;
        let before = counted.insert(word.to_owned(), occurrences.parse::<u64>()?);
        ensure!(before.is_none(), "the word {word:?} occurs twice in the output");
    }
    if counted != expected {
        let differing = expected.iter().find(|(word, occurrences)| counted.get(*word) != Some(occurrences));
        bail!(
            "the counts differ from coreutils': first {differing:?}; {} words, {} expected",
            counted.len(),
            expected.len()
        );
    }
    let mut top: Vec<_> = counted.iter().collect();
    top.sort_by_key(|(_, occurrences)| std::cmp::Reverse(**occurrences));
    let top: Vec<String> = top.iter().take(10).map(|(word, occurrences)| format!("{word} {occurrences}")).collect();
    println!("top words: {}", top.join(", "));
    let words: u64 = counted.values().sum();
    println!("output equals coreutils' count: {} different words, {words} in all", counted.len());
    Ok(())
}

fn count(files: &str) -> Result<BTreeMap<String, u64>> {
    let command = format!("set -o pipefail; {}", COUNT.replace("%FILES%", files));
    let output = Command::new("bash").args(["-c", &command]).output().context("run coreutils")?;
    ensure!(output.status.success(), "coreutils failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let parse = |line: &str| -> Option<Result<(String, u64)>> {
        let (occurrences, word) = line.trim_start().split_once(' ')?;
        (!word.is_empty()).then(|| Ok((word.to_owned(), occurrences.parse()?)))
    };
    text.lines().filter_map(parse).collect()
}
