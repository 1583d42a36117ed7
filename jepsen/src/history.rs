//! What clients did and what came of it: the history that checkers judge.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One call of one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// The logical process: a worker takes another one after each unknown outcome, since the old call may still run.
    pub client: u64,
    /// The phase of the run in which it was called.
    pub phase: String,
    /// What was called.
    #[serde(flatten)]
    pub call_kind: CallKind,
    /// On what: a register, a list, a job; empty for a call that is about all jobs.
    pub key: String,
    /// `CLOCK_MONOTONIC` before it was sent.
    pub call: u64,
    /// `CLOCK_MONOTONIC` after its answer; none when there was none.
    #[serde(rename = "return")]
    pub returned: Option<u64>,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Where in the log it was decided, or up to where the log was applied when it was read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub raft_index: Option<u64>,
    /// The coordinator that was asked.
    pub node: String,
}

/// What was called, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "op", content = "input")]
pub enum CallKind {
    /// Reads a register.
    Read,
    /// Sets a register.
    Write {
        /// To what.
        value: i64,
    },
    /// Sets a register if it has an expected value.
    Cas {
        /// What it must be; none: never written.
        expect: Option<i64>,
        /// To what.
        value: i64,
    },
    /// Adds to a list.
    Append {
        /// What.
        value: i64,
    },
    /// Reads a list.
    ReadList,
    /// Submits the job that is the key.
    Submit,
    /// Cancels the job that is the key.
    Cancel,
    /// Asks for the job that is the key.
    Get,
    /// Lists all jobs.
    List,
}

impl CallKind {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write { .. } => "write",
            Self::Cas { .. } => "cas",
            Self::Append { .. } => "append",
            Self::ReadList => "read-list",
            Self::Submit => "submit",
            Self::Cancel => "cancel",
            Self::Get => "get",
            Self::List => "list",
        }
    }

    /// Whether it changes nothing, so that a call without an answer says nothing.
    #[must_use]
    pub fn is_read(&self) -> bool {
        match self {
            Self::Read | Self::ReadList | Self::Get | Self::List => true,
            Self::Write { .. } | Self::Cas { .. } | Self::Append { .. } | Self::Submit | Self::Cancel => false,
        }
    }
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Outcome {
    /// Answered.
    Ok {
        /// What.
        output: Answer,
    },
    /// Surely without effect.
    Fail {
        /// Why.
        error: String,
    },
    /// It may have taken effect, or still will.
    Info {
        /// Why nobody knows.
        error: String,
    },
}

impl Outcome {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ok { .. } => "ok",
            Self::Fail { .. } => "fail",
            Self::Info { .. } => "info",
        }
    }

    /// The answer, if there is one.
    #[must_use]
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Ok { output } => Some(output),
            Self::Fail { .. } | Self::Info { .. } => None,
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done.
    Done,
    /// Whether a swap found what it expected, where nothing more is told.
    Swapped(bool),
    /// A swap found another value, and changed nothing.
    Mismatch(Option<i64>),
    /// A register's value; none: never written.
    Value(Option<i64>),
    /// A list's elements.
    Elements(Vec<i64>),
    /// Whether this submission made the job, or an earlier one.
    Created(bool),
    /// A job's status.
    Status(String),
    /// There is no such job.
    NotFound,
    /// The statuses of all jobs.
    Jobs(BTreeMap<String, String>),
}

impl Op {
    /// Whether it was answered.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self.outcome, Outcome::Ok { .. })
    }

    /// Whether it may have had an effect or has told something: everything but a sure failure and a lost read.
    #[must_use]
    pub fn counts(&self) -> bool {
        match self.outcome {
            Outcome::Ok { .. } => true,
            Outcome::Fail { .. } => false,
            Outcome::Info { .. } => !self.call_kind.is_read(),
        }
    }

    /// When it took effect at the latest: never known without an answer.
    #[must_use]
    pub fn latest(&self) -> u64 {
        match (&self.outcome, self.returned) {
            (Outcome::Ok { .. }, Some(returned)) => returned,
            (Outcome::Ok { .. } | Outcome::Fail { .. } | Outcome::Info { .. }, _) => u64::MAX,
        }
    }
}
