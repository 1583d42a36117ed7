//! Builds a flow: the program's operators, grouped into chains, and how chains are connected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidemill_model::execution::Failure;
use tidemill_model::job_graph::Partitioning;

use super::{Error, OperatorIndex, OutputIndex, OutputPort, WatermarkAlignment};
use crate::function::SidePortFactory;
use crate::pipe::{Input, Pipe};
use crate::record::Data;
use crate::runtime::counter::Counters;
use crate::runtime::partition::{RoundRobin, RoutePartitioner};
use crate::runtime::sink::staged::StagedOutput;
use crate::runtime::sink::{Committer, FileOutput, RollingOutput, Sink, TransactionSink, TransactionalSink};
use crate::runtime::task::{Task, TaskContext};

/// Makes the chain of one sub-task, on its thread.
pub type TaskFactory = Arc<dyn Fn(&TaskContext) -> Result<Box<dyn Task>, Failure> + Send + Sync>;

/// How many programs this process has begun to read.
static PROGRAMS: AtomicU64 = AtomicU64::new(0);

/// A chain while the program is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VertexIndex {
    /// Which program it is of: a stream may be used where it does not belong.
    program: u64,
    pub(super) index: usize,
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
    /// Whether it emits to the side outputs that somebody asked for.
    pub(super) has_side_outputs: bool,
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
    /// The vertex that this one finds splits for: it is wherever that one is.
    pub(super) hidden_for: Option<VertexIndex>,
}

/// What is to run beside something else: the operator, wherever it is placed, or a vertex that has none yet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Neighbour {
    Operator(OperatorIndex),
    Vertex(VertexIndex),
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
    pub(super) record_type: &'static str,
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
    program: u64,
    pub(super) operators: Vec<OperatorPlan>,
    pub(super) vertices: Vec<VertexPlan>,
    pub(super) links: Vec<Link>,
    pub(super) side_outputs: Vec<SideOutputPlan>,
    pub(super) co_located: Vec<[Neighbour; 2]>,
    pub(super) outputs: Vec<(FileOutput, VertexIndex)>,
    /// The sinks that write in transactions of the user's.
    pub(super) committers: Vec<(Committer, OperatorIndex)>,
    collect_count: u32,
    /// The sources that never end.
    pub(super) unbounded: Vec<OperatorIndex>,
    /// The sources that wait for others of their group.
    pub(super) aligned: BTreeMap<OperatorIndex, WatermarkAlignment>,
    pub(super) counters: Counters,
    /// What was wrong when it was said, to be told by `build`.
    pub(super) defects: Vec<Error>,
}

impl FlowBuilder {
    /// An empty program that counts with `counters`.
    #[must_use]
    pub fn new(counters: Counters) -> Self {
        Self {
            program: PROGRAMS.fetch_add(1, Ordering::Relaxed),
            operators: Vec::new(),
            vertices: Vec::new(),
            links: Vec::new(),
            side_outputs: Vec::new(),
            co_located: Vec::new(),
            outputs: Vec::new(),
            committers: Vec::new(),
            collect_count: 0,
            unbounded: Vec::new(),
            aligned: BTreeMap::new(),
            counters,
            defects: Vec::new(),
        }
    }

    /// Says what is wrong with the program: it cannot be built.
    pub fn add_defect(&mut self, defect: Error) {
        self.defects.push(defect);
    }

    pub(super) fn vertex(&mut self, vertex: VertexIndex) -> &mut VertexPlan {
        self.check(vertex);
        &mut self.vertices[vertex.index]
    }

    pub(super) fn plan(&self, vertex: VertexIndex) -> &VertexPlan {
        self.check(vertex);
        &self.vertices[vertex.index]
    }

    pub(super) fn vertex_index(&self, index: usize) -> VertexIndex {
        VertexIndex { program: self.program, index }
    }

    pub(super) fn check(&self, vertex: VertexIndex) {
        assert!(
            vertex.program == self.program,
            "build job graph: a stream is used in a program that it is not of; take all streams of a job from one \
             Environment, and new ones after execute()"
        );
    }

    /// How many sub-tasks a vertex has.
    ///
    /// # Panics
    /// The vertex is of another program.
    #[must_use]
    pub fn parallelism(&self, vertex: VertexIndex) -> u32 {
        self.plan(vertex).parallelism
    }

    pub(crate) fn set_parallelism(&mut self, vertex: VertexIndex, parallelism: u32) {
        self.vertex(vertex).parallelism = parallelism;
    }

    pub(crate) fn is_alone(&self, vertex: VertexIndex) -> bool {
        self.plan(vertex).operators.len() == 1
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
            hidden_for: None,
        });
        self.vertex_index(self.vertices.len() - 1)
    }

    /// Appends an operator to a chain; `details` are the record types and parameters that tell it from others.
    pub fn add_operator(&mut self, vertex: VertexIndex, name: &str, details: Vec<String>) -> OperatorIndex {
        let (name, time) = (name.to_owned(), TimeUse::default());
        self.operators.push(OperatorPlan { name, uid: None, details, time, has_side_outputs: false });
        let operator = OperatorIndex(self.operators.len() - 1);
        self.vertex(vertex).operators.push(operator);
        operator
    }

    /// Says that a source never ends.
    pub fn mark_unbounded(&mut self, source: OperatorIndex) {
        self.unbounded.push(source);
    }

    /// Says that a source waits for others of a group; in batch mode it does not.
    pub fn align_watermarks(&mut self, source: OperatorIndex, alignment: WatermarkAlignment) {
        let WatermarkAlignment { group, drift_max_ms } = &alignment;
        self.operators[source.0].details.push(format!("aligned in {group:?} within {drift_max_ms} ms"));
        self.aligned.insert(source, alignment);
    }

    /// Says that an operator gives records their event times.
    pub fn mark_assigns_time(&mut self, operator: OperatorIndex) {
        self.operators[operator.0].time.assigns = true;
    }

    /// Says that what an operator does depends on the event times of its records.
    pub fn mark_needs_time(&mut self, operator: OperatorIndex) {
        self.operators[operator.0].time.needs = true;
    }

    /// Says that an operator emits to side outputs.
    pub fn mark_has_side_outputs(&mut self, operator: OperatorIndex) {
        self.operators[operator.0].has_side_outputs = true;
    }

    /// Whether `operator` is in this vertex, so that `call` means it: behind an exchange there may be none yet.
    ///
    /// # Errors
    /// It is not; `given` is what it was called with.
    pub fn check_last(
        &self,
        vertex: VertexIndex,
        operator: OperatorIndex,
        call: &'static str,
        given: &str,
    ) -> Result<(), Error> {
        if self.plan(vertex).operators.contains(&operator) {
            return Ok(());
        }
        Err(Error::NothingToName { call, given: given.to_owned() })
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

    /// Has the i-th sub-tasks of the operators at the ends of two chains run in one slot.
    pub fn co_locate(&mut self, vertex: VertexIndex, other: VertexIndex) {
        let last = |vertex| self.plan(vertex).operators.last().copied();
        let neighbour = |vertex| last(vertex).map_or(Neighbour::Vertex(vertex), Neighbour::Operator);
        let pair = [neighbour(vertex), neighbour(other)];
        self.co_located.push(pair);
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

    /// Adds a sink that writes in transactions: what its sub-tasks had prepared when they finished is committed by
    /// `function`.
    pub fn add_transactions<T, F: TransactionalSink<T>>(&mut self, operator: OperatorIndex, function: F) {
        self.committers.push((TransactionSink::committer(function), operator));
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
