//! What can be wrong with a program.

use tidemill_model::job_graph;

use crate::engine::window;

/// What is wrong with a program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing leads from a source to a sink, or a parallelism is out of range.
    #[error(transparent)]
    Graph(#[from] job_graph::Error),
    /// Two operators have the same uid.
    #[error("build job graph: operators {first:?} and {second:?} both have the uid {uid:?}; give one of them another")]
    DuplicateUid {
        /// The uid.
        uid: String,
        /// The name of the first operator.
        first: String,
        /// The name of the second operator.
        second: String,
    },
    /// Operators have no uid, and checkpoints are on.
    #[error(
        "build job graph: with checkpoints each operator needs a uid of its own, by which its state is found again when \
         the program has changed; these have none, add:{operators}"
    )]
    MissingUids {
        /// A line for each.
        operators: String,
    },
    /// A side output that is used, of an operator that is not run.
    #[error(
        "build job graph: side output {tag:?} of operator {operator:?} is used, but the operator's main output leads \
         nowhere; end it in a sink, such as discard()"
    )]
    DanglingMainOutput {
        /// The side output.
        tag: String,
        /// The operator's name.
        operator: String,
    },
    /// A side output of an operator that never emits to one.
    #[error(
        "build job graph: operator {operator:?} has no side outputs, but {tag:?} is used; call side_output() on the \
         stream that process() or a window returned"
    )]
    NoSideOutputs {
        /// The side output.
        tag: String,
        /// The operator's name.
        operator: String,
    },
    /// A side output with records of two types.
    #[error("build job graph: side output {tag:?} is read as {first} and as {second}; use one tag for each type")]
    SideOutputTypes {
        /// The side output.
        tag: String,
        /// A type.
        first: &'static str,
        /// Another one.
        second: &'static str,
    },
    /// A name or uid for no operator.
    #[error(
        "build job graph: {call}({given:?}) is called on a stream that begins with an exchange, such as one of union(), \
         rebalance(), share() or side_output(); call it on the operator behind"
    )]
    NothingToName {
        /// `name` or `uid`.
        call: &'static str,
        /// What it was called with.
        given: String,
    },
    /// Batch mode for a source that never ends.
    #[error("build job graph: execution.runtime-mode is batch, but source {source_name:?} has no end; use streaming")]
    UnboundedBatch {
        /// The name of the source.
        source_name: String,
    },
    /// Windows that make no sense.
    #[error("build job graph: operator {operator:?}: {reason}")]
    Window {
        /// The operator's name.
        operator: String,
        /// Why not.
        reason: window::Error,
    },
    /// An operator that is no source shall wait for others of a group.
    #[error(
        "build job graph: operator {operator:?}: align watermarks in group {group:?}: only a source can wait, give the \
         strategy to from_source_with_watermarks"
    )]
    AlignedOperator {
        /// The operator's name.
        operator: String,
        /// The group.
        group: String,
    },
    /// An interval join whose bounds no pair of records can keep.
    #[error(
        "build job graph: operator {operator:?}: join records from {lower} ms to {upper} ms apart: no pair fits, make \
         the lower bound less than the upper one"
    )]
    EmptyInterval {
        /// The operator's name.
        operator: String,
        /// The lower bound, inclusive.
        lower: i64,
        /// The upper bound, inclusive.
        upper: i64,
    },
}
