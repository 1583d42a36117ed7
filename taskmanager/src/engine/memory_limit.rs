//! How much memory an executor may use, and whether that is what it died of.

use std::fmt;

use tidemill_model::config::{EXECUTOR_MEMORY_LIMIT, TASKMANAGER_MEMORY_PROCESS_SIZE};

const MEBIBYTE: u64 = 1 << 20;

/// What Rust programs write when an allocation fails, before they abort.
const FAILED_ALLOCATION: &str = "memory allocation of";

/// Which setting a limit comes from: the one to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitSource {
    /// The job's own.
    Job,
    /// The task manager's, divided among its slots.
    TaskManager,
}

/// The most memory that one executor may use.
///
/// Promise `job-isolation`: a job that allocates without bound is ended by its own limit, before the machine is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Private, writable memory: heap and stacks, in bytes.
    pub bytes: u64,
    /// Where it comes from.
    pub source: LimitSource,
}

impl MemoryLimit {
    /// The lower one of what the job wants and of what its slots are worth here.
    #[must_use]
    pub fn lowest(job: Option<u64>, slots_share: Option<u64>) -> Option<Self> {
        let job = job.map(|bytes| Self { bytes, source: LimitSource::Job });
        let share = slots_share.map(|bytes| Self { bytes, source: LimitSource::TaskManager });
        job.into_iter().chain(share).min_by_key(|limit| limit.bytes)
    }

    /// What to say of an executor that died, if it seems to have died of this.
    #[must_use]
    pub fn blame(&self, peak_bytes: u64, last_words: &str) -> Option<String> {
        let near = peak_bytes >= self.bytes - self.bytes / 10;
        let blamed = near || last_words.contains(FAILED_ALLOCATION);
        blamed.then(|| format!("it reached {self}; the most that it was seen to use is {} mb", peak_bytes / MEBIBYTE))
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.bytes / MEBIBYTE;
        match self.source {
            LimitSource::Job => {
                write!(f, "its memory limit of {size} mb ({} of the job)", EXECUTOR_MEMORY_LIMIT.key())
            }
            LimitSource::TaskManager => write!(
                f,
                "its memory limit of {size} mb (its slots' share of {} of the task manager)",
                TASKMANAGER_MEMORY_PROCESS_SIZE.key()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_limit_counts() {
        let limit = |job, share| MemoryLimit::lowest(job, share).map(|limit| (limit.bytes, limit.source));
        assert_eq!(limit(None, None), None);
        assert_eq!(limit(Some(5), None), Some((5, LimitSource::Job)));
        assert_eq!(limit(Some(5), Some(9)), Some((5, LimitSource::Job)));
        assert_eq!(limit(Some(9), Some(5)), Some((5, LimitSource::TaskManager)));
    }

    #[test]
    fn a_process_that_was_far_from_its_limit_did_not_die_of_it() {
        let limit = MemoryLimit { bytes: 100 * MEBIBYTE, source: LimitSource::Job };
        assert_eq!(limit.blame(50 * MEBIBYTE, "a panic"), None);
        let seen = limit.blame(95 * MEBIBYTE, "").expect("near it");
        assert_eq!(
            seen,
            "it reached its memory limit of 100 mb (executor.memory.limit of the job); the most that it was seen to \
             use is 95 mb"
        );
        assert!(limit.blame(20 * MEBIBYTE, "memory allocation of 1048576 bytes failed").is_some());
    }
}
