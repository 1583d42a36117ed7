//! What a run records beside the history: faults, looks at the cluster, processes, output.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::process::procfs::ProcessKey;
use crate::schedule::{Fault, Minimum, Work};
use crate::sequence::record::SequenceRecord;

/// A phase as it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTimes {
    /// Its name.
    pub name: String,
    /// When it began.
    pub from: u64,
    /// When it ended.
    pub to: u64,
    /// What it has to see.
    pub minimum: Minimum,
    /// What ran meanwhile.
    pub work: Work,
}

/// A fault as it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRecord {
    /// In which phase.
    pub phase: String,
    /// What.
    pub fault: Fault,
    /// Whom it hit.
    pub targets: Vec<Host>,
    /// When it began.
    pub from: u64,
    /// When it was undone.
    pub to: u64,
    /// The proof that it fired.
    pub proof: Proof,
}

/// Whether a fault fired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// It did, as this shows.
    Fired(Vec<String>),
    /// Nothing shows that it did.
    NotFired(String),
    /// It could not be tried here.
    Skipped(String),
}

/// One look at a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusLook {
    /// When the answer came.
    pub at: u64,
    /// Who answered.
    pub node: Host,
    /// The leader that it named.
    pub leader: Option<Host>,
    /// The epoch that it named.
    pub epoch: Option<u64>,
    /// Up to where it had applied the log.
    pub applied: u64,
    /// The checksum of its state there.
    pub checksum: u64,
    /// What the last leaderships found of the streaming job: epoch, adopted, restarted.
    pub takeovers: Vec<(u64, u32, u32)>,
}

/// One look at the streaming job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLook {
    /// When the answer came.
    pub at: u64,
    /// Its status.
    pub status: String,
    /// Its attempts: name, state, process id.
    pub attempts: Vec<(String, String, Option<u32>)>,
    /// How often it was started again.
    pub restarts: u32,
}

/// The executors that lived on a host from some moment on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorsLook {
    /// Since when.
    pub at: u64,
    /// On which host.
    pub host: Host,
    /// Its task manager's process, if it lived.
    pub task_manager: Option<ProcessKey>,
    /// The executors.
    pub executors: Vec<ProcessKey>,
}

/// How busy the machine was at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadLook {
    /// When.
    pub at: u64,
    /// How many threads of the whole machine ran or wanted to.
    pub runnable: u32,
    /// How many can run at once.
    pub processors: u32,
}

/// What one sub-task's sink put out: for each bucket of 100 ms in which there was anything, how many records.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Output {
    /// By writer: sub-task and process.
    pub buckets: BTreeMap<String, BTreeMap<u64, u64>>,
}

/// How long a bucket is, in nanoseconds.
pub const BUCKET: u64 = 100_000_000;

impl Output {
    /// Reads one writer's file: a bucket and a count a line. A line that was cut off is ignored.
    pub fn read(&mut self, writer: &str, text: &str) {
        let buckets = self.buckets.entry(writer.to_owned()).or_default();
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in complete.lines() {
            let numbers: Option<(u64, u64)> =
                line.split_once(' ').and_then(|(bucket, count)| Some((bucket.parse().ok()?, count.parse().ok()?)));
            if let Some((bucket, count)) = numbers {
                let total: &mut u64 = buckets.entry(bucket).or_default();
                *total += count;
            }
        }
    }
}

/// Everything that checkers look at.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The phases, in order.
    pub phases: Vec<PhaseTimes>,
    /// The faults, in order.
    pub faults: Vec<FaultRecord>,
    /// What clients did.
    pub history: Vec<crate::history::Op>,
    /// Looks at coordinators.
    pub statuses: Vec<StatusLook>,
    /// Looks at the streaming job.
    pub jobs: Vec<JobLook>,
    /// Changes of the executors.
    pub executors: Vec<ExecutorsLook>,
    /// How busy the machine was.
    pub loads: Vec<LoadLook>,
    /// What coordinators and task managers wrote down themselves.
    pub events: Vec<tidemill_model::event::EventRecord>,
    /// What came out of the streaming job.
    pub output: Output,
    /// Jobs whose output is checked record by record.
    pub sequences: Vec<SequenceRecord>,
    /// What processes wrote: by host and incarnation, the ends of their logs that look like a defect.
    pub complaints: Vec<String>,
    /// What was left when everything had been stopped.
    pub leftovers: Vec<String>,
}

impl Run {
    /// The phase of this name.
    #[must_use]
    pub fn phase(&self, name: &str) -> Option<&PhaseTimes> {
        self.phases.iter().find(|phase| phase.name == name)
    }

    /// The jobs over a sequence of a phase.
    #[must_use]
    pub fn sequence(&self, phase: &str) -> Option<&SequenceRecord> {
        self.sequences.iter().find(|sequence| sequence.phase == phase)
    }

    /// The faults of a phase.
    pub fn faults_of<'a>(&'a self, phase: &'a str) -> impl Iterator<Item = &'a FaultRecord> + 'a {
        self.faults.iter().filter(move |fault| fault.phase == phase)
    }
}
