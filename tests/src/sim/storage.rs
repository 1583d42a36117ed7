//! What outlives processes: the transactions of sinks and what they have made visible, the files of checkpoints, and the
//! folders of jobs on task managers.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_model::checkpoint::{StateHandle, SubtaskState};
use tidemill_model::id::{CheckpointId, ExecutionAttemptId, ExecutionVertexId, JobId, TaskManagerId};

pub(crate) use super::fact::Written;

/// One transaction of a sink: what it wrote between two snapshots. The output of a job without checkpoints is a single
/// one for each attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Transaction {
    pub(crate) sink: ExecutionAttemptId,
    pub(crate) number: u64,
}

/// What a sub-task's snapshot says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Snapshot {
    Source {
        next: u64,
    },
    Sink {
        counts: BTreeMap<u32, u64>,
        /// Transactions that are written and not committed, with the checkpoint that commits them.
        open: Vec<(Transaction, CheckpointId)>,
    },
}

/// What became of an attempt to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publication {
    Done,
    /// It had been done before.
    Repeated,
    /// Something that is to be published is not there.
    Missing,
}

/// The shared file system.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    pending: BTreeMap<Transaction, Vec<Written>>,
    /// Attempts of sinks that have made their first transaction.
    begun: BTreeSet<ExecutionAttemptId>,
    /// What each sink sub-task has made visible, in the order in which that happened.
    visible: BTreeMap<(JobId, ExecutionVertexId), Vec<Written>>,
    published: BTreeSet<JobId>,
    snapshots: Vec<Snapshot>,
    /// The files of checkpoints, by job and path.
    files: BTreeMap<(JobId, String), usize>,
    /// Jobs of which something may stay staged: where removing has failed, which is tried once everywhere and then
    /// given up, and where a task manager that no leader reached began to write after the job's end.
    pub(crate) excused: BTreeSet<JobId>,
    /// Folders of jobs on task managers' own disks.
    pub(crate) local: BTreeSet<(TaskManagerId, JobId)>,
}

impl Storage {
    /// A sink begins a transaction: it makes its file.
    pub(crate) fn begin(&mut self, transaction: Transaction) {
        self.pending.entry(transaction).or_default();
        self.begun.insert(transaction.sink);
    }

    /// A sink writes. Into a file that has been removed meanwhile it writes in vain, and does not notice.
    pub(crate) fn write(&mut self, transaction: Transaction, written: Written) {
        if let Some(file) = self.pending.get_mut(&transaction) {
            file.push(written);
        }
    }

    /// Makes a transaction visible; nothing when that has been done, or it is not there.
    pub(crate) fn commit(&mut self, transaction: Transaction) -> Option<Vec<Written>> {
        let records = self.pending.remove(&transaction)?;
        let sink = (transaction.sink.job, transaction.sink.vertex);
        self.visible.entry(sink).or_default().extend(&records);
        Some(records)
    }

    /// A sink starts from a snapshot: whatever of its sub-task is pending and not in there is aborted. Not what newer
    /// attempts have begun: one that a late command starts although it was replaced must not undo their work.
    pub(crate) fn abort_all_but(&mut self, sink: ExecutionAttemptId, kept: &[Transaction]) {
        self.pending.retain(|transaction, _| {
            let own = transaction.sink.job == sink.job && transaction.sink.vertex == sink.vertex;
            !own || kept.contains(transaction) || transaction.sink.attempt > sink.attempt
        });
    }

    pub(crate) fn abort(&mut self, transaction: Transaction) {
        self.pending.remove(&transaction);
    }

    /// The transactions that publishing these attempts has to commit, in their order.
    pub(crate) fn of_attempts(&self, attempts: &[ExecutionAttemptId]) -> Vec<Transaction> {
        self.pending.keys().copied().filter(|transaction| attempts.contains(&transaction.sink)).collect()
    }

    /// Publishes a job's output as a whole, once all transactions are visible.
    pub(crate) fn publish(&mut self, job: JobId, attempts: &[ExecutionAttemptId]) -> Publication {
        if self.published.contains(&job) {
            return Publication::Repeated;
        }
        if attempts.iter().any(|attempt| !self.begun.contains(attempt)) {
            return Publication::Missing;
        }
        self.published.insert(job);
        Publication::Done
    }

    /// Everything of a job that is visible, sorted.
    pub(crate) fn content(&self, job: JobId) -> Vec<Written> {
        let sinks = self.visible.iter().filter(|((of, _), _)| *of == job);
        let mut content: Vec<Written> = sinks.flat_map(|(_, records)| records).copied().collect();
        content.sort_unstable();
        content
    }

    pub(crate) fn drop_pending(&mut self, job: JobId) {
        self.pending.retain(|transaction, _| transaction.sink.job != job);
    }

    /// The sinks that have something pending.
    pub(crate) fn pending(&self) -> impl Iterator<Item = ExecutionAttemptId> + '_ {
        self.pending.keys().map(|transaction| transaction.sink)
    }

    pub(crate) fn remove_local(&mut self, task_manager: TaskManagerId, job: JobId) {
        self.local.remove(&(task_manager, job));
    }

    /// Stores a snapshot: small ones in the metadata, others in a file; an incremental one also needs older files.
    pub(crate) fn store(
        &mut self,
        job: JobId,
        path: Option<String>,
        snapshot: Snapshot,
        bases: Vec<StateHandle>,
    ) -> SubtaskState {
        let place = self.snapshots.len();
        self.snapshots.push(snapshot);
        let number = u64::try_from(place).expect("a list in memory");
        let own = match path {
            None => StateHandle::Inline(number.to_le_bytes().to_vec()),
            Some(path) => {
                self.files.insert((job, path.clone()), place);
                StateHandle::File { path, offset: 0, length: 8, checksum: 0 }
            }
        };
        SubtaskState([own].into_iter().chain(bases).collect())
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    ///
    /// The file of it that is not there.
    pub(crate) fn load(&self, job: JobId, state: &SubtaskState) -> Result<Option<Snapshot>, String> {
        let mut first = None;
        for handle in &state.0 {
            let place = match handle {
                StateHandle::Inline(bytes) => {
                    let number = bytes.as_slice().try_into().map(u64::from_le_bytes);
                    number.ok().and_then(|number| usize::try_from(number).ok())
                }
                StateHandle::File { path, .. } => {
                    let found = self.files.get(&(job, path.clone())).copied();
                    Some(found.ok_or_else(|| path.clone())?)
                }
            };
            first = first.or(place);
        }
        Ok(first.and_then(|place| self.snapshots.get(place)).cloned())
    }

    /// The newest snapshot file of a sub-task, whatever became of its checkpoint: what a mutant restores.
    pub(crate) fn newest(&self, job: JobId, vertex: ExecutionVertexId) -> Option<Snapshot> {
        let of_vertex = |path: &str| path.ends_with(&format!("/{vertex}"));
        let files = self.files.iter().filter(|((of, path), _)| *of == job && of_vertex(path));
        files.map(|(_, &place)| place).max().and_then(|place| self.snapshots.get(place)).cloned()
    }

    /// The files of a job's checkpoints.
    pub(crate) fn files_of(&self, job: JobId) -> Vec<String> {
        self.files.keys().filter(|(of, _)| *of == job).map(|(_, path)| path.clone()).collect()
    }

    /// All files of checkpoints.
    pub(crate) fn files(&self) -> impl Iterator<Item = (JobId, &str)> + '_ {
        self.files.keys().map(|(job, path)| (*job, path.as_str()))
    }

    pub(crate) fn delete(&mut self, job: JobId, paths: &[String]) {
        for path in paths {
            self.files.remove(&(job, path.clone()));
        }
    }
}
