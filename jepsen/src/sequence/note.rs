//! What readers of a sequence write down themselves: where they began, where they were at barriers, when they ended.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::export::jsonl;

/// What a reader did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Did {
    /// It began to read here.
    Open,
    /// A checkpoint wanted to know how far it had come.
    Snapshot,
    /// It had nothing more.
    End,
}

/// One line of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When, by the machine's monotonic clock.
    pub at: u64,
    /// The executor that the reader is in.
    pub process: u32,
    /// Its split.
    pub split: u64,
    /// How many numbers of it had been read.
    pub offset: u64,
    /// What it did.
    pub did: Did,
}

impl Note {
    /// Of this process, now.
    #[must_use]
    pub fn now(split: u64, offset: u64, did: Did) -> Self {
        Self { at: clock::now(), process: std::process::id(), split, offset, did }
    }

    /// Appends it to the process's own file in a folder, in one write, so that a reader sees all of it or nothing unless
    /// the process dies within it.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn write(self, folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut line = serde_json::to_string(&self).map_err(std::io::Error::other)?;
        line.push('\n');
        let mut file = OpenOptions::new().create(true).append(true).open(folder.join(self.process.to_string()))?;
        file.write_all(line.as_bytes())
    }
}

/// All notes in a folder, in the order of time.
///
/// # Errors
///
/// When a file cannot be read or a line does not fit.
pub fn read_all(folder: &Path) -> anyhow::Result<Vec<Note>> {
    let mut notes: Vec<Note> = Vec::new();
    for (name, text) in super::record::read_files(folder)? {
        notes.extend(jsonl::read::<Note>(text.as_bytes()).with_context(|| format!("read notes {name}"))?);
    }
    notes.sort_by_key(|note| note.at);
    Ok(notes)
}
