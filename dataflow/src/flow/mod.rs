//! The executable form of a job graph: for each vertex the means to make its tasks.

mod builder;

use tidemill_model::execution::Failure;
use tidemill_model::id::JobVertexId;
use tidemill_model::job::RuntimeMode;
use tidemill_model::job_graph::{JobEdge, JobGraph, Partitioning};

use crate::runtime::counter::Counters;
use crate::runtime::sink::staged::StagedOutput;
use crate::runtime::task::{Task, TaskContext};

pub(crate) use builder::rebalance_factory;
pub use builder::{Error, FlowBuilder, TaskFactory, VertexIndex};

/// An operator of a program, in the order in which the program made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperatorIndex(pub(crate) usize);

/// One staged output of a program, in the order in which the program made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutputIndex(pub(crate) usize);

/// What one `execute` runs.
pub struct Flow {
    graph: JobGraph,
    mode: RuntimeMode,
    /// By vertex id.
    factories: Vec<TaskFactory>,
    operator_names: Vec<String>,
    outputs: Vec<(StagedOutput, JobVertexId)>,
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

    /// The staged outputs, each with its sink's parallelism.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = (&StagedOutput, u32)> {
        let parallelism = |vertex| self.graph.vertex(vertex).map_or(1, |vertex| vertex.parallelism);
        self.outputs.iter().map(move |(output, vertex)| (output, parallelism(*vertex)))
    }

    pub(crate) fn output(&self, index: OutputIndex) -> &StagedOutput {
        &self.outputs[index.0].0
    }

    pub(crate) fn operator_name(&self, operator: OperatorIndex) -> &str {
        &self.operator_names[operator.0]
    }

    /// Makes the chain of one sub-task, on its thread.
    pub(crate) fn task(&self, context: &TaskContext) -> Result<Box<dyn Task>, Failure> {
        let vertex = usize::try_from(context.attempt().vertex.vertex.0).expect("a u32 fits");
        self.factories[vertex](context)
    }

    /// The edge that a vertex's records leave on.
    ///
    /// # Panics
    /// The vertex has none: only chains that end in a partitioner ask.
    pub(crate) fn output_edge(&self, vertex: JobVertexId) -> (u32, JobEdge) {
        self.edge(|edge| edge.source == vertex)
    }

    /// The edge that a vertex's records arrive on.
    ///
    /// # Panics
    /// The vertex has none: only chains that begin with an exchange ask.
    pub(crate) fn input_edge(&self, vertex: JobVertexId) -> (u32, JobEdge) {
        self.edge(|edge| edge.target == vertex)
    }

    pub(crate) fn output_max_parallelism(&self, vertex: JobVertexId) -> u32 {
        let (_, edge) = self.output_edge(vertex);
        debug_assert_eq!(edge.partitioning, Partitioning::Hash);
        self.graph.vertex(edge.target).map_or(1, |vertex| vertex.max_parallelism)
    }

    fn edge(&self, wanted: impl Fn(&JobEdge) -> bool) -> (u32, JobEdge) {
        let mut edges = (0u32..).zip(&self.graph.edges);
        let (index, edge) = edges.find(|(_, edge)| wanted(edge)).expect("the builder makes an edge with each exchange");
        (index, *edge)
    }
}
