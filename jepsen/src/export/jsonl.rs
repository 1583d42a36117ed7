//! One JSON object a line: what a run stores, and what a Porcupine program reads.

use std::io::{BufRead, Write};

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes the items, one a line.
///
/// # Errors
///
/// When the writer refuses.
pub fn write<'a, T: Serialize + 'a>(mut to: impl Write, items: impl IntoIterator<Item = &'a T>) -> anyhow::Result<()> {
    for item in items {
        serde_json::to_writer(&mut to, item).context("write a line of JSON")?;
        to.write_all(b"\n").context("write a line of JSON")?;
    }
    to.flush().context("write lines of JSON")
}

/// Reads what [`write`] wrote. A last line without an end is ignored: its writer was killed.
///
/// # Errors
///
/// When a line does not fit.
pub fn read<T: DeserializeOwned>(mut from: impl BufRead) -> anyhow::Result<Vec<T>> {
    let mut items = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        let length = from.read_line(&mut line).context("read a line of JSON")?;
        if length == 0 || !line.ends_with('\n') {
            return Ok(items);
        }
        let number = items.len() + 1;
        items.push(serde_json::from_str(&line).with_context(|| format!("line {number} does not fit: {line}"))?);
    }
}
