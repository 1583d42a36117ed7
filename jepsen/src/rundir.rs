//! A run's folder: everything that was recorded, so that it can be judged and drawn again.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidemill_model::event::EventRecord;

use crate::check::verdict::{Finding, Totals};
use crate::export::{edn, jsonl};
use crate::record::Run;
use crate::schedule::Schedule;
use crate::sequence::record::SequenceRecord;

/// What the run ran on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The seed.
    pub seed: u64,
    /// The network.
    pub net: String,
    /// How processes were contained.
    pub containment: String,
    /// The kernel.
    pub kernel: String,
    /// The repository's commit, when the harness runs in it.
    pub commit: String,
    /// How busy the machine was when the run began, as `/proc/loadavg` says.
    pub load: String,
    /// What the machine lacks.
    pub missing: Vec<String>,
    /// The command that makes the same run again.
    pub command: String,
}

/// `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdicts {
    /// The counts.
    pub totals: Totals,
    /// The cells of the table.
    pub findings: Vec<Finding>,
    /// What was measured.
    pub figures: Vec<(String, f64)>,
}

/// The folder.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// A folder that need not be there.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// A file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Stores what is known before the run.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn begin(&self, schedule: &Schedule, environment: &Environment) -> anyhow::Result<()> {
        fs::create_dir_all(&self.path).with_context(|| format!("make {}", self.path.display()))?;
        self.write("schedule.json", schedule)?;
        self.write("env.json", environment)
    }

    /// Stores what the run recorded.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn store(&self, run: &Run) -> anyhow::Result<()> {
        self.lines("history.jsonl", &run.history)?;
        self.lines("statuses.jsonl", &run.statuses)?;
        self.lines("jobs.jsonl", &run.jobs)?;
        self.lines("executors.jsonl", &run.executors)?;
        self.lines("loads.jsonl", &run.loads)?;
        self.lines("phases.jsonl", &run.phases)?;
        self.lines("faults.jsonl", &run.faults)?;
        self.lines("sequences.jsonl", &run.sequences)?;
        self.write("output.json", &run.output)?;
        self.write("complaints.json", &run.complaints)?;
        self.write("leftovers.json", &run.leftovers)?;
        self.export_edn(run)
    }

    /// Stores the history in Jepsen's form.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn export_edn(&self, run: &Run) -> anyhow::Result<()> {
        let path = self.file("history.edn");
        fs::write(&path, edn::write(&run.history)).with_context(|| format!("write {}", path.display()))
    }

    /// Reads what a run recorded.
    ///
    /// # Errors
    ///
    /// When something is missing or does not fit.
    pub fn load(&self) -> anyhow::Result<Run> {
        Ok(Run {
            history: self.read_lines("history.jsonl")?,
            statuses: self.read_lines("statuses.jsonl")?,
            jobs: self.read_lines("jobs.jsonl")?,
            executors: self.read_lines("executors.jsonl")?,
            loads: self.read_lines("loads.jsonl")?,
            phases: self.read_lines("phases.jsonl")?,
            faults: self.read_lines("faults.jsonl")?,
            output: self.read("output.json")?,
            complaints: self.read("complaints.json")?,
            leftovers: self.read("leftovers.json")?,
            events: self.events()?,
            sequences: self.sequences()?,
        })
    }

    fn sequences(&self) -> anyhow::Result<Vec<SequenceRecord>> {
        let mut sequences: Vec<SequenceRecord> = self.read_lines("sequences.jsonl")?;
        sequences.iter_mut().try_for_each(|sequence| sequence.read_output(&self.path))?;
        Ok(sequences)
    }

    /// What servers wrote down about themselves. Processes that were killed leave a last line without an end.
    ///
    /// # Errors
    ///
    /// When a line does not fit.
    pub fn events(&self) -> anyhow::Result<Vec<EventRecord>> {
        let folder = self.file("events");
        let mut events: Vec<EventRecord> = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
            let records: Vec<EventRecord> =
                jsonl::read(BufReader::new(file)).with_context(|| format!("read {}", path.display()))?;
            events.extend(records);
        }
        events.sort_by_key(|record| record.mono_ns);
        Ok(events)
    }

    /// Stores a value as JSON.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn write<T: Serialize>(&self, name: &str, value: &T) -> anyhow::Result<()> {
        let path = self.file(name);
        let text = serde_json::to_string_pretty(value).with_context(|| format!("write {name} as JSON"))?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Reads a value.
    ///
    /// # Errors
    ///
    /// When it is missing or does not fit.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<T> {
        let path = self.file(name);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))
    }

    fn lines<T: Serialize>(&self, name: &str, items: &[T]) -> anyhow::Result<()> {
        let path = self.file(name);
        let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
        jsonl::write(BufWriter::new(file), items)
    }

    fn read_lines<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Vec<T>> {
        let path = self.file(name);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        jsonl::read(BufReader::new(file)).with_context(|| format!("read {}", path.display()))
    }
}
