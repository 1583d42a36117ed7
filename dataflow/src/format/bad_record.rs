//! Input that is no record: what is wrong, and where it stands.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much of a bad line is kept.
const TEXT_BYTES_MAX: usize = 4096;

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// The field, where one is to blame.
    pub field: Option<String>,
    /// What is wrong with it.
    pub reason: String,
}

impl BadLine {
    pub(crate) fn new(field: Option<String>, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}

/// A line of an input file that is no record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct BadRecord {
    /// The file.
    pub file: String,
    /// The byte of the file at which the line begins.
    pub byte: u64,
    /// The number of the line, from 1; unknown in the later parts of a file that is read in parallel.
    pub line: Option<u64>,
    /// The field that is to blame, where there is one: its name, or its number from 1.
    pub field: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// The line, at most its first 4096 bytes, with U+FFFD for what is no UTF-8.
    pub text: String,
}

impl BadRecord {
    pub(crate) fn new(file: String, (byte, line): (u64, Option<u64>), bad: BadLine, text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&text[..text.len().min(TEXT_BYTES_MAX)]).into_owned();
        Self { file, byte, line, field: bad.field, reason: bad.reason, text }
    }
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "parse {}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ", byte {}", self.byte)?;
        if let Some(field) = &self.field {
            write!(f, ", field {field}")?;
        }
        write!(f, ": {}", self.reason)
    }
}
