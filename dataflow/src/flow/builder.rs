//! Builds a flow: the program's operators, grouped into chains, and how chains are connected.

use std::sync::Arc;
use std::time::Duration;

use tidemill_model::execution::Failure;
use tidemill_model::job_graph::{self, Partitioning};

use super::{OperatorIndex, OutputIndex, OutputPort};
use crate::engine::window;
use crate::function::SidePortFactory;
use crate::pipe::{Input, Pipe};
use crate::record::Data;
use crate::runtime::counter::Counters;
use crate::runtime::partition::{RoundRobin, RoutePartitioner};
use crate::runtime::sink::staged::StagedOutput;
use crate::runtime::sink::{FileOutput, RollingOutput, Sink};
use crate::runtime::task::{Task, TaskContext};

/// Makes the chain of one sub-task, on its thread.
pub type TaskFactory = Arc<dyn Fn(&TaskContext) -> Result<Box<dyn Task>, Failure> + Send + Sync>;

/// A chain while the program is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VertexIndex(pub(super) usize);

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

/// What an operator does with event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TimeUse {
    /// It gives records their event times.
    pub(super) assigns: bool,
    /// It does something else depending on them.
    pub(super) needs: bool,
}

pub(super) struct OperatorPlan {
    pub(super) name: String,
    pub(super) uid: Option<String>,
    /// Record types and the parameters that change what the operator does.
    pub(super) details: Vec<String>,
    pub(super) time: TimeUse,
}

pub(super) struct VertexPlan {
    pub(super) operators: Vec<OperatorIndex>,
    pub(super) parallelism: u32,
    /// None while nothing consumes the chain.
    pub(super) factory: Option<TaskFactory>,
    /// Whether the chain ends in a sink.
    pub(super) ends_in_sink: bool,
    /// For a chain that ends in a sink: the chain before it and the sink alone, should they be parted.
    parts: Option<(TaskFactory, TaskFactory)>,
    /// None: that of its inputs.
    pub(super) slot_sharing_group: Option<String>,
    pub(super) co_location_group: Option<String>,
    /// The vertex that this one finds splits for: it is wherever that one is.
    pub(super) hidden_for: Option<VertexIndex>,
}

/// Where a link begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkSource {
    /// At the end of a chain.
    Chain(VertexIndex),
    /// At a side output, wherever its operator is placed.
    SideOutput { operator: OperatorIndex, port: OutputPort },
}

/// A side output that somebody asked for.
pub(super) struct SideOutputPlan {
    pub(super) operator: OperatorIndex,
    pub(super) tag: String,
    pub(super) port: OutputPort,
    pub(super) factory: SidePortFactory,
}

/// A link between two chains.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) source: LinkSource,
    pub(super) target: VertexIndex,
    pub(super) partitioning: Partitioning,
}

/// Collects what a program says.
pub struct FlowBuilder {
    pub(super) operators: Vec<OperatorPlan>,
    pub(super) vertices: Vec<VertexPlan>,
    pub(super) links: Vec<Link>,
    pub(super) side_outputs: Vec<SideOutputPlan>,
    pub(super) outputs: Vec<(FileOutput, VertexIndex)>,
    collect_count: u32,
    /// The sources that never end.
    pub(super) unbounded: Vec<OperatorIndex>,
    pub(super) counters: Counters,
    /// What was wrong when it was said, to be told by `build`.
    pub(super) defects: Vec<Error>,
}

impl FlowBuilder {
    /// An empty program that counts with `counters`.
    #[must_use]
    pub fn new(counters: Counters) -> Self {
        Self {
            operators: Vec::new(),
            vertices: Vec::new(),
            links: Vec::new(),
            side_outputs: Vec::new(),
            outputs: Vec::new(),
            collect_count: 0,
            unbounded: Vec::new(),
            counters,
            defects: Vec::new(),
        }
    }

    /// Says what is wrong with the program: it cannot be built.
    pub fn add_defect(&mut self, defect: Error) {
        self.defects.push(defect);
    }

    pub(super) fn vertex(&mut self, vertex: VertexIndex) -> &mut VertexPlan {
        &mut self.vertices[vertex.0]
    }

    /// How many sub-tasks a vertex has.
    #[must_use]
    pub fn parallelism(&self, vertex: VertexIndex) -> u32 {
        self.vertices[vertex.0].parallelism
    }

    pub(crate) fn set_parallelism(&mut self, vertex: VertexIndex, parallelism: u32) {
        self.vertex(vertex).parallelism = parallelism;
    }

    pub(crate) fn is_alone(&self, vertex: VertexIndex) -> bool {
        self.vertices[vertex.0].operators.len() == 1
    }

    /// A vertex without operators yet.
    pub fn add_vertex(&mut self, parallelism: u32) -> VertexIndex {
        self.vertices.push(VertexPlan {
            operators: Vec::new(),
            parallelism,
            factory: None,
            ends_in_sink: false,
            parts: None,
            slot_sharing_group: None,
            co_location_group: None,
            hidden_for: None,
        });
        VertexIndex(self.vertices.len() - 1)
    }

    /// Appends an operator to a chain; `details` are the record types and parameters that tell it from others.
    pub fn add_operator(&mut self, vertex: VertexIndex, name: &str, details: Vec<String>) -> OperatorIndex {
        self.operators.push(OperatorPlan { name: name.to_owned(), uid: None, details, time: TimeUse::default() });
        let operator = OperatorIndex(self.operators.len() - 1);
        self.vertex(vertex).operators.push(operator);
        operator
    }

    /// Says that a source never ends.
    pub fn mark_unbounded(&mut self, source: OperatorIndex) {
        self.unbounded.push(source);
    }

    /// Says that an operator gives records their event times.
    pub fn mark_assigns_time(&mut self, operator: OperatorIndex) {
        self.operators[operator.0].time.assigns = true;
    }

    /// Says that what an operator does depends on the event times of its records.
    pub fn mark_needs_time(&mut self, operator: OperatorIndex) {
        self.operators[operator.0].time.needs = true;
    }

    /// Names an operator for people.
    pub fn set_name(&mut self, operator: OperatorIndex, name: &str) {
        name.clone_into(&mut self.operators[operator.0].name);
    }

    /// Gives an operator a stable identity.
    pub fn set_uid(&mut self, operator: OperatorIndex, uid: &str) {
        self.operators[operator.0].uid = Some(uid.to_owned());
    }

    /// Names the group whose vertices share slots with this one.
    pub fn set_slot_sharing_group(&mut self, vertex: VertexIndex, group: &str) {
        self.vertex(vertex).slot_sharing_group = Some(group.to_owned());
    }

    /// Says that a vertex is no part of what the user wrote, but works for another one, whose slots it shares.
    pub(crate) fn hide(&mut self, vertex: VertexIndex, served: VertexIndex) {
        self.vertex(vertex).hidden_for = Some(served);
    }

    /// Has the i-th sub-tasks of two vertices run in one slot.
    pub fn co_locate(&mut self, vertex: VertexIndex, other: VertexIndex) {
        let group = self.vertices[other.0].co_location_group.clone().unwrap_or_else(|| format!("with-{}", other.0));
        self.vertex(other).co_location_group = Some(group.clone());
        self.vertex(vertex).co_location_group = Some(group);
    }

    /// The number of the next `collect()`.
    pub fn next_collect_index(&mut self) -> u32 {
        self.collect_count += 1;
        self.collect_count - 1
    }

    /// Adds an output that the sink at the end of `vertex` stages.
    pub fn add_output(&mut self, output: StagedOutput, vertex: VertexIndex) -> OutputIndex {
        self.outputs.push((FileOutput::Staged(output), vertex));
        OutputIndex(self.outputs.len() - 1)
    }

    /// Lets an output replace what exists.
    pub fn set_overwrite(&mut self, output: OutputIndex) {
        match &mut self.outputs[output.0].0 {
            FileOutput::Staged(output) => output.overwrite = true,
            FileOutput::Rolling(_) => {}
        }
    }

    /// Has a sink write its output part by part, instead of staging it.
    pub fn set_rolling(&mut self, output: OutputIndex, bytes: u64, interval: Duration) {
        let folder = match &self.outputs[output.0].0 {
            FileOutput::Staged(output) => output.path.clone(),
            FileOutput::Rolling(output) => output.folder.clone(),
        };
        self.outputs[output.0].0 = FileOutput::Rolling(RollingOutput { folder, bytes, interval });
    }

    /// Moves the last operator of a chain to a vertex of its own, behind `rest` and an exchange.
    pub(crate) fn cut_last_operator(
        &mut self,
        vertex: VertexIndex,
        rest: TaskFactory,
        parallelism: u32,
    ) -> VertexIndex {
        let target = self.add_vertex(parallelism);
        let last = self.vertex(vertex).operators.pop();
        self.vertex(target).operators.extend(last);
        self.vertex(vertex).factory = Some(rest);
        let same = self.parallelism(vertex) == parallelism;
        let partitioning = if same { Partitioning::Forward } else { Partitioning::Rebalance };
        self.link(vertex, target, partitioning);
        target
    }

    /// Ends a chain in a sink, whose operator was added last.
    pub fn end_in_sink<P: Pipe, K: Sink<P::Out>>(&mut self, vertex: VertexIndex, pipe: P, sink: K) {
        let pipe = Arc::new(pipe);
        let (fused_pipe, fused_sink) = (Arc::clone(&pipe), sink.clone());
        let fused: TaskFactory =
            Arc::new(move |context: &TaskContext| fused_pipe.fuse(fused_sink.open(context)?, context));
        let alone: TaskFactory =
            Arc::new(move |context: &TaskContext| Input::<P::Out>::new().fuse(sink.open(context)?, context));
        let before: TaskFactory = Arc::new(move |context: &TaskContext| pipe.fuse(round_robin(context)?, context));
        self.vertex(vertex).factory = Some(fused);
        self.vertex(vertex).ends_in_sink = true;
        self.vertex(vertex).parts = Some((before, alone));
    }

    /// Gives the sink at the end of a chain its own parallelism; answers the vertex that it is in then.
    pub fn place_sink(&mut self, vertex: VertexIndex, parallelism: u32) -> VertexIndex {
        if self.parallelism(vertex) == parallelism {
            return vertex;
        }
        let Some((before, alone)) = self.vertex(vertex).parts.take() else {
            // Parted already.
            self.set_parallelism(vertex, parallelism);
            return vertex;
        };
        let target = self.cut_last_operator(vertex, before, parallelism);
        self.vertex(vertex).ends_in_sink = false;
        self.vertex(target).ends_in_sink = true;
        self.vertex(target).factory = Some(alone);
        for (_, output_vertex) in self.outputs.iter_mut().filter(|(_, output_vertex)| *output_vertex == vertex) {
            *output_vertex = target;
        }
        target
    }
}

pub(super) fn round_robin<T: Data>(context: &TaskContext) -> Result<RoutePartitioner<T, RoundRobin>, Failure> {
    RoutePartitioner::new(RoundRobin::new(context), context)
}

/// The factory of a chain that ends in a round-robin exchange.
pub(crate) fn rebalance_factory<P: Pipe>(pipe: P) -> TaskFactory {
    Arc::new(move |context: &TaskContext| pipe.fuse(round_robin(context)?, context))
}
