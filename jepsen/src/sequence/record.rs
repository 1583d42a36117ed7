//! What is recorded of the jobs over a sequence in one phase.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tidemill_model::event::EventFile;
use tidemill_model::id::{CheckpointId, JobId};

use super::note::{self, Note};
use super::{COUNTS, NOTES, NUMBERS};
use crate::schedule::Form;

/// One phase's jobs: the later ones go on from where the one before was suspended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceRecord {
    /// The phase.
    pub phase: String,
    /// How the first of them ends.
    pub form: Form,
    /// How many numbers there are.
    pub records: u64,
    /// How many splits.
    pub splits: u64,
    /// How many checkpoints are kept at most.
    pub retained_max: usize,
    /// The jobs, in their order.
    pub jobs: Vec<JobRecord>,
    /// Looks at the output, in the order of time; the last one is from after the end of everything.
    pub output_looks: Vec<OutputLook>,
    /// Looks at the checkpoints, in the order of time.
    pub checkpoint_looks: Vec<CheckpointLook>,
    /// What was still there long after the end of the last job.
    pub left: Vec<String>,
    /// What readers wrote down. Stored where they wrote it.
    #[serde(skip)]
    pub notes: Vec<Note>,
    /// What is in the sink of numbers at the end: committed files, by name.
    #[serde(skip)]
    pub numbers: BTreeMap<String, String>,
    /// What is in the sink of counts.
    #[serde(skip)]
    pub counts: BTreeMap<String, String>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Which.
    pub job: JobId,
    /// How it had to end.
    pub wanted: String,
    /// How it ended; none: it did not.
    pub ended: Option<String>,
    /// What it says of a failure, and how its program ended.
    pub words: String,
}

/// The committed files at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputLook {
    /// When.
    pub at: u64,
    /// Those that appeared, changed or vanished since the look before, by name; none: it is gone.
    pub changed: BTreeMap<String, Option<FileLook>>,
}

/// A file's content, as far as it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLook {
    /// Its length.
    pub bytes: u64,
    /// A hash of its content.
    pub hash: u64,
}

/// The checkpoints of a job at one time. What was listed on disk lies between two answers of the leader that agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointLook {
    /// The job.
    pub job: JobId,
    /// Before the first answer was asked for.
    pub from: u64,
    /// After the last one had come.
    pub to: u64,
    /// The newest completed one.
    pub latest: Option<CheckpointId>,
    /// Those that are kept.
    pub retained: Vec<CheckpointId>,
    /// The files in the job's folder; none: they were not looked at, or the leader's answers differ.
    pub files: Option<Vec<EventFile>>,
}

impl SequenceRecord {
    /// The folder of a phase's jobs, in a run's folder.
    #[must_use]
    pub fn folder(run: &Path, phase: &str) -> PathBuf {
        run.join("sequence").join(phase)
    }

    /// Reads what the jobs left in the run's folder: committed output, and notes.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn read_output(&mut self, run: &Path) -> anyhow::Result<()> {
        let folder = Self::folder(run, &self.phase);
        self.numbers = committed(&folder.join(NUMBERS))?;
        self.counts = committed(&folder.join(COUNTS))?;
        self.notes = note::read_all(&folder.join(NOTES))?;
        Ok(())
    }
}

/// The files of a folder that are not hidden, with their content.
///
/// # Errors
///
/// When they cannot be read.
pub fn committed(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    Ok(read_files(folder)?.into_iter().filter(|(name, _)| !name.starts_with('.')).collect())
}

/// All files of a folder with their content, one that vanishes meanwhile excepted; none, when there is no such folder.
///
/// # Errors
///
/// When they cannot be read.
pub fn read_files(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for name in names(folder)? {
        let path = folder.join(&name);
        match fs::read(&path) {
            Ok(bytes) => drop(files.insert(name, String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        }
    }
    Ok(files)
}

/// The names in a folder; none, when there is no such folder.
///
/// # Errors
///
/// When it cannot be listed.
pub fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("list {}", folder.display())),
    };
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}
