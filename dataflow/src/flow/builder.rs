//! Builds a flow: the program's operators, grouped into chains, and how chains are connected.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidemill_model::execution::Failure;
use tidemill_model::id::JobVertexId;
use tidemill_model::job::RuntimeMode;
use tidemill_model::job_graph::{self, JobEdge, JobGraph, JobVertex, OperatorDescriptor, Partitioning};
use tidemill_model::key_group::DEFAULT_MAX_PARALLELISM;

use super::{Flow, OperatorIndex, OutputIndex};
use crate::key_selector::KeySelector;
use crate::operator::Combine;
use crate::pipe::{Input, Pipe};
use crate::record::Data;
use crate::runtime::counter::Counters;
use crate::runtime::partition::{HashPartitioner, RebalancePartitioner};
use crate::runtime::sink::Sink;
use crate::runtime::sink::staged::StagedOutput;
use crate::runtime::task::{Task, TaskContext};

/// Makes the chain of one sub-task, on its thread.
pub type TaskFactory = Arc<dyn Fn(&TaskContext) -> Result<Box<dyn Task>, Failure> + Send + Sync>;

/// A chain while the program is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VertexIndex(usize);

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
    /// Batch mode for a source that never ends.
    #[error("build job graph: execution.runtime-mode is batch, but source {source_name:?} has no end; use streaming")]
    UnboundedBatch {
        /// The name of the source.
        source_name: String,
    },
}

struct OperatorPlan {
    name: String,
    uid: Option<String>,
    /// Record types and the parameters that change what the operator does.
    details: Vec<String>,
}

struct VertexPlan {
    operators: Vec<OperatorIndex>,
    parallelism: u32,
    /// None while nothing consumes the chain.
    factory: Option<TaskFactory>,
    /// For a chain that ends in a sink: the chain before it and the sink alone, should they be parted.
    parts: Option<(TaskFactory, TaskFactory)>,
}

/// Collects what a program says.
pub struct FlowBuilder {
    operators: Vec<OperatorPlan>,
    vertices: Vec<VertexPlan>,
    edges: Vec<(VertexIndex, VertexIndex, Partitioning)>,
    outputs: Vec<(StagedOutput, VertexIndex)>,
    collect_count: u32,
    /// The sources that never end.
    unbounded: Vec<OperatorIndex>,
    counters: Counters,
}

impl FlowBuilder {
    /// An empty program that counts with `counters`.
    #[must_use]
    pub fn new(counters: Counters) -> Self {
        Self {
            operators: Vec::new(),
            vertices: Vec::new(),
            edges: Vec::new(),
            outputs: Vec::new(),
            collect_count: 0,
            unbounded: Vec::new(),
            counters,
        }
    }

    fn vertex(&mut self, vertex: VertexIndex) -> &mut VertexPlan {
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
        self.vertices.push(VertexPlan { operators: Vec::new(), parallelism, factory: None, parts: None });
        VertexIndex(self.vertices.len() - 1)
    }

    /// Appends an operator to a chain; `details` are the record types and parameters that tell it from others.
    pub fn add_operator(&mut self, vertex: VertexIndex, name: &str, details: Vec<String>) -> OperatorIndex {
        self.operators.push(OperatorPlan { name: name.to_owned(), uid: None, details });
        let operator = OperatorIndex(self.operators.len() - 1);
        self.vertex(vertex).operators.push(operator);
        operator
    }

    /// Says that a source never ends.
    pub fn mark_unbounded(&mut self, source: OperatorIndex) {
        self.unbounded.push(source);
    }

    /// Names an operator for people.
    pub fn set_name(&mut self, operator: OperatorIndex, name: &str) {
        name.clone_into(&mut self.operators[operator.0].name);
    }

    /// Gives an operator a stable identity.
    pub fn set_uid(&mut self, operator: OperatorIndex, uid: &str) {
        self.operators[operator.0].uid = Some(uid.to_owned());
    }

    /// The number of the next `collect()`.
    pub fn next_collect_index(&mut self) -> u32 {
        self.collect_count += 1;
        self.collect_count - 1
    }

    /// Adds an output that the sink at the end of `vertex` stages.
    pub fn add_output(&mut self, output: StagedOutput, vertex: VertexIndex) -> OutputIndex {
        self.outputs.push((output, vertex));
        OutputIndex(self.outputs.len() - 1)
    }

    /// Lets an output replace what exists.
    pub fn set_overwrite(&mut self, output: OutputIndex) {
        self.outputs[output.0].0.overwrite = true;
    }

    /// Ends a chain in a keyed exchange; answers the vertex behind it, which has no operator yet.
    ///
    /// In batch mode `function` combines records before the exchange, on behalf of `operator`.
    pub fn exchange_by_key<P, S, F>(
        &mut self,
        from: VertexIndex,
        pipe: P,
        selector: S,
        function: F,
        parallelism: u32,
    ) -> VertexIndex
    where
        P: Pipe,
        S: KeySelector<P::Out>,
        F: FnMut(&mut P::Out, P::Out) + Clone + Send + Sync + 'static,
    {
        let target = self.add_vertex(parallelism);
        // The operator that is added to the new vertex next.
        let operator = OperatorIndex(self.operators.len());
        let factory = move |context: &TaskContext| {
            let name = context.operator_name(operator);
            let exchange = HashPartitioner::new(selector.clone(), name.clone(), context)?;
            match context.mode() {
                RuntimeMode::Batch => {
                    pipe.fuse(Combine::new(selector.clone(), function.clone(), name, exchange), context)
                }
                RuntimeMode::Streaming | RuntimeMode::Automatic => pipe.fuse(exchange, context),
            }
        };
        self.vertex(from).factory = Some(Arc::new(factory));
        self.edges.push((from, target, Partitioning::Hash));
        target
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
        self.edges.push((vertex, target, Partitioning::Rebalance));
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
        let before: TaskFactory =
            Arc::new(move |context: &TaskContext| pipe.fuse(RebalancePartitioner::new(context)?, context));
        self.vertex(vertex).factory = Some(fused);
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
        self.vertex(target).factory = Some(alone);
        for (_, output_vertex) in self.outputs.iter_mut().filter(|(_, output_vertex)| *output_vertex == vertex) {
            *output_vertex = target;
        }
        target
    }

    /// The chains that lead to a sink: what nothing consumes is not run.
    fn useful(&self) -> BTreeSet<VertexIndex> {
        let indices = (0..self.vertices.len()).map(VertexIndex);
        let mut useful: BTreeSet<_> = indices.filter(|index| self.vertices[index.0].factory.is_some()).collect();
        loop {
            let dangling = self.edges.iter().find(|edge| useful.contains(&edge.0) && !useful.contains(&edge.1));
            match dangling {
                Some((source, _, _)) => useful.remove(source),
                None => return useful,
            };
        }
    }

    /// `Batch` or `Streaming`.
    fn resolve(&self, mode: RuntimeMode, useful: &BTreeSet<VertexIndex>) -> Result<RuntimeMode, Error> {
        let used = |operator| useful.iter().any(|vertex| self.vertices[vertex.0].operators.contains(operator));
        match (mode, self.unbounded.iter().find(|operator| used(operator))) {
            (RuntimeMode::Automatic | RuntimeMode::Batch, None) => Ok(RuntimeMode::Batch),
            (RuntimeMode::Automatic | RuntimeMode::Streaming, _) => Ok(RuntimeMode::Streaming),
            (RuntimeMode::Batch, Some(source)) => {
                Err(Error::UnboundedBatch { source_name: self.operators[source.0].name.clone() })
            }
        }
    }

    /// The uid of each operator: the user's, or its place in the program.
    fn uids(&self) -> Result<Vec<String>, Error> {
        let derived = |index: usize, name: &str| {
            let dashed = name.to_lowercase().replace(|letter: char| !letter.is_alphanumeric(), "-");
            format!("{index}-{dashed}")
        };
        let mut uids: Vec<String> = Vec::new();
        for (index, operator) in self.operators.iter().enumerate() {
            let uid = operator.uid.clone().unwrap_or_else(|| derived(index, &operator.name));
            if let Some(first) = uids.iter().position(|other| *other == uid) {
                let first = self.operators[first].name.clone();
                return Err(Error::DuplicateUid { uid, first, second: operator.name.clone() });
            }
            uids.push(uid);
        }
        Ok(uids)
    }

    /// The executable flow.
    ///
    /// # Errors
    /// The program makes no valid graph.
    pub fn build(self, mode: RuntimeMode) -> Result<Flow, Error> {
        let useful = self.useful();
        let mode = self.resolve(mode, &useful)?;
        let uids = self.uids()?;
        let ids: Vec<VertexIndex> = useful.iter().copied().collect();
        let id = |vertex: VertexIndex| {
            let position = ids.binary_search(&vertex).ok()?;
            Some(JobVertexId(u32::try_from(position).ok()?))
        };
        let mut graph = JobGraph::default();
        let mut factories = Vec::new();
        for (&index, plan) in ids.iter().map(|index| (index, &self.vertices[index.0])) {
            let (Some(id), Some(factory)) = (id(index), &plan.factory) else { continue };
            graph.vertices.push(self.job_vertex(id, plan, &uids, mode));
            factories.push(Arc::clone(factory));
        }
        for &(source, target, partitioning) in &self.edges {
            if let (Some(source), Some(target)) = (id(source), id(target)) {
                graph.edges.push(JobEdge { source, target, partitioning });
            }
        }
        graph.validate()?;
        let outputs = self.outputs.into_iter();
        let outputs = outputs.filter_map(|(output, vertex)| Some((output, id(vertex)?))).collect();
        let operator_names = self.operators.into_iter().map(|operator| operator.name).collect();
        Ok(Flow { graph, mode, factories, operator_names, outputs, counters: self.counters })
    }

    fn job_vertex(&self, id: JobVertexId, plan: &VertexPlan, uids: &[String], mode: RuntimeMode) -> JobVertex {
        let descriptor = |operator: &OperatorIndex| OperatorDescriptor {
            name: self.operators[operator.0].name.clone(),
            uid: uids[operator.0].clone(),
        };
        let details = plan.operators.iter().flat_map(|operator| self.operators[operator.0].details.clone());
        let overwrites = self
            .outputs
            .iter()
            .filter(|(output, vertex)| output.overwrite && self.vertices[vertex.0].operators == plan.operators);
        let overwrites = overwrites.map(|(output, _)| format!("overwrite {}", output.path.display()));
        let mode = std::iter::once(format!("mode {mode:?}"));
        JobVertex {
            id,
            operators: plan.operators.iter().map(descriptor).collect(),
            parallelism: plan.parallelism,
            max_parallelism: DEFAULT_MAX_PARALLELISM.max(plan.parallelism),
            record_types: details.chain(overwrites).chain(mode).collect(),
        }
    }
}

/// The factory of a chain that ends in a round-robin exchange.
pub(crate) fn rebalance_factory<P: Pipe>(pipe: P) -> TaskFactory
where
    P::Out: Data,
{
    Arc::new(move |context: &TaskContext| pipe.fuse(RebalancePartitioner::new(context)?, context))
}
