//! The executable form of a job graph: for each vertex the means to make its tasks.

mod builder;
mod error;
mod exchange;
mod resolve;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;

use tidemill_model::execution::Failure;
use tidemill_model::id::{ExecutionVertexId, JobVertexId, SubtaskIndex};
use tidemill_model::job::RuntimeMode;
use tidemill_model::job_graph::{JobEdge, JobGraph};

use self::builder::SideOutputPlan;
use crate::function::SidePortFactory;
use crate::record::Timestamp;
use crate::runtime::counter::Counters;
use crate::runtime::sink::{Committer, FileOutput};
use crate::runtime::task::{Task, TaskContext};

pub(crate) use builder::rebalance_factory;
pub use builder::{FlowBuilder, TaskFactory, VertexIndex};
pub use error::Error;
pub use exchange::UnkeyedPartitioning;

/// An operator of a program, in the order in which the program made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperatorIndex(pub(crate) usize);

/// One output of a program, in the order in which the program made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutputIndex(pub(crate) usize);

/// Where records leave a vertex: at the end of its chain, or by a side output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutputPort(pub(crate) u32);

impl OutputPort {
    /// The end of the chain.
    pub const MAIN: Self = Self(0);
}

/// How far a source may be ahead of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatermarkAlignment {
    /// The name that the sources share that wait for each other.
    pub group: String,
    /// How many milliseconds a split's watermark may be ahead of the group's lowest.
    pub drift_max_ms: Timestamp,
}

/// What the runtime knows of an edge beyond the graph.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EdgePlan {
    pub(crate) port: OutputPort,
    /// Whether a producer gives records event times that something behind the edge needs.
    pub(crate) timed: bool,
}

/// What one `execute` runs.
pub struct Flow {
    graph: JobGraph,
    /// By the index of the graph's edge.
    edges: Vec<EdgePlan>,
    mode: RuntimeMode,
    /// By vertex id.
    factories: Vec<TaskFactory>,
    operator_names: Vec<String>,
    operator_uids: Vec<String>,
    /// The operators to which the program gives no uid. Those of hidden vertices follow the ones that they serve.
    without_uid: Vec<OperatorIndex>,
    outputs: Vec<(FileOutput, JobVertexId)>,
    committers: Vec<(Committer, OperatorIndex)>,
    side_outputs: Vec<SideOutputPlan>,
    /// The vertices whose sources wait for others; none in batch mode.
    aligned: BTreeMap<JobVertexId, WatermarkAlignment>,
    counters: Counters,
}

impl Flow {
    /// The graph; every process that runs the program builds the same one.
    #[must_use]
    pub fn graph(&self) -> &JobGraph {
        &self.graph
    }

    /// `Batch` or `Streaming`.
    #[must_use]
    pub fn mode(&self) -> RuntimeMode {
        self.mode
    }

    /// The program's counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The outputs, each with the sub-tasks of its sink, in order.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = (&FileOutput, Vec<ExecutionVertexId>)> {
        let parallelism = |vertex| self.graph.vertex(vertex).map_or(1, |vertex| vertex.parallelism);
        let subtasks = move |vertex| {
            let subtask = move |index| ExecutionVertexId { vertex, subtask: SubtaskIndex(index) };
            (0..parallelism(vertex)).map(subtask).collect()
        };
        self.outputs.iter().map(move |(output, vertex)| (output, subtasks(*vertex)))
    }

    /// What commits the transactions of each sink of the user's, by the sink's uid.
    pub(crate) fn committers(&self) -> impl Iterator<Item = (&str, &Committer)> {
        self.committers.iter().map(|(committer, operator)| (self.operator_uid(*operator), committer))
    }

    pub(crate) fn alignment(&self, vertex: JobVertexId) -> Option<&WatermarkAlignment> {
        self.aligned.get(&vertex)
    }

    pub(crate) fn output(&self, index: OutputIndex) -> &FileOutput {
        &self.outputs[index.0].0
    }

    pub(crate) fn operator_name(&self, operator: OperatorIndex) -> &str {
        &self.operator_names[operator.0]
    }

    /// Whether the program gives each operator a uid, which outlives changes of the program.
    ///
    /// # Errors
    /// It does not: a line for each operator without one, to be pasted.
    pub fn check_uids(&self) -> Result<(), Error> {
        if self.without_uid.is_empty() {
            return Ok(());
        }
        let mut taken: BTreeSet<String> = self.operator_uids.iter().cloned().collect();
        let mut operators = String::new();
        for operator in &self.without_uid {
            let name = &self.operator_names[operator.0];
            let words = name.to_lowercase();
            let words = words.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
            let plain = words.collect::<Vec<_>>().join("-");
            let mut uid = plain.clone();
            let mut number = 2;
            while !taken.insert(uid.clone()) {
                uid = format!("{plain}-{number}");
                number += 1;
            }
            // Writing to a string cannot fail.
            let _ = write!(operators, "\n  .uid({uid:?}) after {name}");
        }
        Err(Error::MissingUids { operators })
    }

    pub(crate) fn operator_uid(&self, operator: OperatorIndex) -> &str {
        &self.operator_uids[operator.0]
    }

    /// The side outputs of an operator that lead somewhere: tag, port, and how the port is opened.
    pub(crate) fn side_outputs(
        &self,
        operator: OperatorIndex,
    ) -> impl Iterator<Item = (&str, OutputPort, &SidePortFactory)> {
        let sides = self.side_outputs.iter().filter(move |side| side.operator == operator);
        sides.map(|side| (side.tag.as_str(), side.port, &side.factory))
    }

    /// Makes the chain of one sub-task, on its thread.
    pub(crate) fn task(&self, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        let vertex = usize::try_from(context.attempt().vertex.vertex.0).expect("a u32 fits");
        self.factories[vertex](context)
    }

    /// The graph's edge of this index.
    ///
    /// # Panics
    /// There is none: indices come from this flow.
    pub(crate) fn edge(&self, index: u32) -> JobEdge {
        self.graph.edges[usize::try_from(index).expect("a u32 fits")]
    }

    /// Whether records carry their event times over this edge.
    pub(crate) fn is_timed(&self, index: u32) -> bool {
        self.edges[usize::try_from(index).expect("a u32 fits")].timed
    }

    /// By which output of its source records come to this edge.
    pub(crate) fn port(&self, index: u32) -> OutputPort {
        self.edges[usize::try_from(index).expect("a u32 fits")].port
    }

    /// The edges on which records leave a vertex by this port.
    pub(crate) fn output_edges(&self, vertex: JobVertexId, port: OutputPort) -> impl Iterator<Item = u32> {
        let edges = (0u32..).zip(self.graph.edges.iter().zip(&self.edges));
        edges.filter(move |(_, (edge, plan))| edge.source == vertex && plan.port == port).map(|(index, _)| index)
    }

    /// The edges on which records arrive at a vertex.
    pub(crate) fn input_edges(&self, vertex: JobVertexId) -> impl Iterator<Item = u32> {
        (0u32..).zip(&self.graph.edges).filter(move |(_, edge)| edge.target == vertex).map(|(index, _)| index)
    }

    /// The consumers on this edge of what a producer sends.
    pub(crate) fn consumers(&self, index: u32, from: SubtaskIndex) -> Range<u32> {
        let edge = self.edge(index);
        edge.partitioning.consumers(from, self.parallelism(edge.source), self.parallelism(edge.target))
    }

    /// The producers on this edge of what a consumer gets.
    pub(crate) fn producers(&self, index: u32, to: SubtaskIndex) -> Range<u32> {
        let edge = self.edge(index);
        edge.partitioning.producers(to, self.parallelism(edge.source), self.parallelism(edge.target))
    }

    fn parallelism(&self, vertex: JobVertexId) -> u32 {
        self.graph.vertex(vertex).map_or(1, |vertex| vertex.parallelism)
    }

    /// How many key groups a vertex has.
    pub(crate) fn max_parallelism(&self, vertex: JobVertexId) -> u32 {
        self.graph.vertex(vertex).map_or(1, |vertex| vertex.max_parallelism)
    }
}
