//! What outlives processes: the output that sinks stage and publish, and the folders of jobs on task managers.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_model::id::{ExecutionAttemptId, JobId, TaskManagerId};

pub(crate) use super::fact::Written;

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
    pub(crate) staged: BTreeMap<ExecutionAttemptId, Vec<Written>>,
    pub(crate) published: BTreeMap<JobId, Vec<Written>>,
    /// Jobs of which something may stay staged: where removing has failed, which is tried once everywhere and then
    /// given up, and where a task manager that no leader reached began to write after the job's end.
    pub(crate) excused: BTreeSet<JobId>,
    /// Folders of jobs on task managers' own disks.
    pub(crate) local: BTreeSet<(TaskManagerId, JobId)>,
}

impl Storage {
    /// A sink begins: it makes its file.
    pub(crate) fn stage(&mut self, attempt: ExecutionAttemptId) {
        self.staged.entry(attempt).or_default();
    }

    /// A sink writes. Into a file that has been removed meanwhile it writes in vain, and does not notice.
    pub(crate) fn write(&mut self, attempt: ExecutionAttemptId, written: Written) {
        if let Some(file) = self.staged.get_mut(&attempt) {
            file.push(written);
        }
    }

    /// Publishes what these attempts have staged, and drops the rest of the job's.
    pub(crate) fn publish(&mut self, job: JobId, attempts: &[ExecutionAttemptId]) -> Publication {
        if attempts.iter().any(|attempt| !self.staged.contains_key(attempt)) {
            return if self.published.contains_key(&job) { Publication::Repeated } else { Publication::Missing };
        }
        let mut content: Vec<Written> = attempts.iter().flat_map(|attempt| self.staged[attempt].clone()).collect();
        content.sort_unstable();
        self.published.insert(job, content);
        self.drop_staged(job);
        Publication::Done
    }

    pub(crate) fn drop_staged(&mut self, job: JobId) {
        self.staged.retain(|attempt, _| attempt.job != job);
    }

    pub(crate) fn remove_local(&mut self, task_manager: TaskManagerId, job: JobId) {
        self.local.remove(&(task_manager, job));
    }
}
