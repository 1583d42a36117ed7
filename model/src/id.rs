//! The ids of everything that has one, each a type of its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Text that should have been an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parse {kind} {text:?}: expected {expected}")]
pub struct ParseIdError {
    kind: &'static str,
    text: String,
    expected: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Uuid::try_parse(text).map($name).map_err(|_| ParseIdError {
                    kind: $kind,
                    text: text.to_owned(),
                    expected: "32 hexadecimal digits",
                })
            }
        }
    };
}

uuid_id! {
    /// One cluster, for its whole life; created once by `tidemill cluster init`.
    ClusterId, "cluster id"
}
uuid_id! {
    /// One submitted job: a UUIDv7 that the *client* chooses, so that a repeated submission is recognised.
    JobId, "job id"
}
uuid_id! {
    /// One *incarnation* of a task manager: each start of an agent process has a fresh id.
    ///
    /// A schedule names incarnations, never machines: a restarted agent has lost its executors and its fence,
    /// so a command meant for its predecessor must not reach it.
    TaskManagerId, "task manager id"
}
uuid_id! {
    /// One life of a coordinator's data directory, made when the directory is first used.
    DirectoryId, "directory id"
}

impl JobId {
    /// The milliseconds since the Unix epoch at which the client made this id, when it is a UUIDv7.
    #[must_use]
    pub fn unix_ms(&self) -> Option<u64> {
        let timestamp = self.0.get_timestamp()?;
        let (seconds, nanos) = timestamp.to_unix();
        Some(seconds * 1000 + u64::from(nanos) / 1_000_000)
    }
}

/// A Raft replica's number, allotted by the cluster and never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The fencing token of one leadership: the log index of its `LeaderStarted` entry.
///
/// Promise `one-leader`: a command of a lower epoch than the highest seen is refused everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct LeaderEpoch(pub u64);

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The stable name of a task manager's place (a machine and its data port), kept over restarts of the agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskManagerName(pub String);

impl fmt::Display for TaskManagerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A vertex of a [`JobGraph`](crate::job_graph::JobGraph): one chain of operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobVertexId(pub u32);

impl fmt::Display for JobVertexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// Which of a vertex's parallel sub-tasks, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubtaskIndex(pub u32);

impl fmt::Display for SubtaskIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How often a vertex was scheduled before this try, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct AttemptNumber(pub u32);

impl AttemptNumber {
    /// The number of the following try.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for AttemptNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A checkpoint of a job. Ids of a job only grow, are reserved in the replicated state before they are used, and never
/// used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct CheckpointId(pub u64);

impl CheckpointId {
    /// The id after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One parallel sub-task of a job: a vertex and an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExecutionVertexId {
    /// The chain of operators.
    pub vertex: JobVertexId,
    /// Which of its sub-tasks.
    pub subtask: SubtaskIndex,
}

impl fmt::Display for ExecutionVertexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.vertex, self.subtask)
    }
}

/// One try to run one sub-task; addresses every message about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExecutionAttemptId {
    /// The job.
    pub job: JobId,
    /// The sub-task.
    pub vertex: ExecutionVertexId,
    /// The try.
    pub attempt: AttemptNumber,
}

impl fmt::Display for ExecutionAttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", self.job, self.vertex, self.attempt)
    }
}

/// A blob's content address: the SHA-256 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobId(pub [u8; 32]);

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlobId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError { kind: "blob id", text: text.to_owned(), expected: "64 hexadecimal digits" };
        if text.len() != 64 || !text.is_ascii() {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_through_text() {
        let job = JobId(Uuid::now_v7());
        assert_eq!(job.to_string().parse(), Ok(job));
        let blob = BlobId(std::array::from_fn(|index| u8::try_from(index * 7).expect("below 256")));
        assert_eq!(blob.to_string().parse(), Ok(blob));
    }

    #[test]
    fn a_wrong_id_says_what_was_expected() {
        let error = "zz".parse::<JobId>().expect_err("not hexadecimal");
        assert_eq!(error.to_string(), "parse job id \"zz\": expected 32 hexadecimal digits");
        assert!("ab".parse::<BlobId>().is_err());
    }
}
