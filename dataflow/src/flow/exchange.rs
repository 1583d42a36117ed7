//! How chains are led to each other: partitioned, by key, through ports.

use std::sync::Arc;

use tidemill_model::execution::Failure;
use tidemill_model::job::RuntimeMode;
use tidemill_model::job_graph::Partitioning;

use super::builder::{Link, LinkSource, SideOutputPlan, round_robin};
use super::{FlowBuilder, OperatorIndex, OutputPort, VertexIndex};
use crate::function::{OutputTag, open_side_port};
use crate::key_selector::KeySelector;
use crate::operator::Combine;
use crate::pipe::Pipe;
use crate::push::Push;
use crate::record::Data;
use crate::runtime::partition::{
    BroadcastPartitioner, Custom, Global, HashPartitioner, PortPartitioner, RoutePartitioner, Shuffle,
};
use crate::runtime::task::{Task, TaskContext};

/// How records find their consumer when no key decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnkeyedPartitioning {
    /// The consumer of the same number.
    Forward,
    /// Round robin among all.
    Rebalance,
    /// Round robin among a share of the consumers.
    Rescale,
    /// By chance.
    Shuffle,
    /// The first.
    Global,
    /// All.
    Broadcast,
}

impl FlowBuilder {
    /// Leads what leaves the chain `source` to `target`.
    pub fn link(&mut self, source: VertexIndex, target: VertexIndex, partitioning: Partitioning) {
        self.check(source);
        self.links.push(Link { source: LinkSource::Chain(source), target, partitioning });
    }

    /// Leads a side output of an operator to `target`, one to one or round robin.
    pub fn link_side_output<T: Data>(
        &mut self,
        operator: OperatorIndex,
        tag: &OutputTag<T>,
        target: VertexIndex,
        partitioning: Partitioning,
    ) {
        let record_type = std::any::type_name::<T>();
        let known = self.side_outputs.iter().find(|side| side.operator == operator && side.tag == tag.name());
        let port = match known {
            Some(known) => {
                let (port, first) = (known.port, known.record_type);
                if first != record_type {
                    let tag = tag.name().to_owned();
                    self.add_defect(super::Error::SideOutputTypes { tag, first, second: record_type });
                }
                port
            }
            None => {
                // The main port is 0, and each side output of the program has a number of its own.
                let port = OutputPort(u32::try_from(self.side_outputs.len() + 1).expect("fewer than u32::MAX"));
                let (tag, factory) = (tag.name().to_owned(), open_side_port::<T>());
                self.side_outputs.push(SideOutputPlan { operator, tag, record_type, port, factory });
                port
            }
        };
        self.links.push(Link { source: LinkSource::SideOutput { operator, port }, target, partitioning });
    }

    /// Ends a chain in what `end` makes, which leads its records to `target`.
    pub fn end_in_exchange<P: Pipe, N: Push<P::Out> + 'static>(
        &mut self,
        from: VertexIndex,
        pipe: P,
        (target, partitioning): (VertexIndex, Partitioning),
        end: impl Fn(&TaskContext) -> Result<N, Failure> + Send + Sync + 'static,
    ) {
        self.vertex(from).factory = Some(Arc::new(move |context: &TaskContext| pipe.fuse(end(context)?, context)));
        self.link(from, target, partitioning);
    }

    /// Has a vertex run a task of its own kind, which leads its records to `target` itself.
    pub(crate) fn run_task<K: Task + 'static>(
        &mut self,
        from: VertexIndex,
        (target, partitioning): (VertexIndex, Partitioning),
        open: impl Fn(&TaskContext) -> Result<K, Failure> + Send + Sync + 'static,
    ) {
        self.vertex(from).factory = Some(Arc::new(move |context: &TaskContext| Ok(Box::new(open(context)?))));
        self.link(from, target, partitioning);
    }

    /// Ends a chain in an exchange that looks at no record: to one consumer each, or to all.
    pub fn exchange<P: Pipe>(
        &mut self,
        from: VertexIndex,
        pipe: P,
        target: VertexIndex,
        partitioning: UnkeyedPartitioning,
    ) {
        use UnkeyedPartitioning as Unkeyed;
        match partitioning {
            Unkeyed::Forward => self.end_in_exchange(from, pipe, (target, Partitioning::Forward), round_robin),
            Unkeyed::Rebalance => self.end_in_exchange(from, pipe, (target, Partitioning::Rebalance), round_robin),
            Unkeyed::Rescale => self.end_in_exchange(from, pipe, (target, Partitioning::Rescale), round_robin),
            Unkeyed::Shuffle => {
                let end = |context: &TaskContext| RoutePartitioner::new(Shuffle::new(context), context);
                self.end_in_exchange(from, pipe, (target, Partitioning::Shuffle), end);
            }
            Unkeyed::Global => {
                let end = |context: &TaskContext| RoutePartitioner::new(Global, context);
                self.end_in_exchange(from, pipe, (target, Partitioning::Global), end);
            }
            Unkeyed::Broadcast => {
                self.end_in_exchange(from, pipe, (target, Partitioning::Broadcast), BroadcastPartitioner::new);
            }
        }
    }

    /// Ends a chain in an exchange in which `function` chooses the consumer, among so many, of each record; `operator`,
    /// the last one before it, is blamed when it panics.
    pub fn exchange_custom<P: Pipe, F>(
        &mut self,
        (from, operator): (VertexIndex, OperatorIndex),
        pipe: P,
        target: VertexIndex,
        function: F,
    ) where
        F: FnMut(&P::Out, usize) -> usize + Clone + Send + Sync + 'static,
    {
        let end = move |context: &TaskContext| {
            RoutePartitioner::new(Custom::new(function.clone(), context.operator_name(operator)), context)
        };
        self.end_in_exchange(from, pipe, (target, Partitioning::Custom), end);
    }

    /// Ends a chain in a port that any number of vertices may be linked to.
    pub fn end_in_port<P: Pipe>(&mut self, from: VertexIndex, pipe: P) {
        let factory = move |context: &TaskContext| pipe.fuse(PortPartitioner::new(OutputPort::MAIN, context)?, context);
        self.vertex(from).factory = Some(Arc::new(factory));
    }

    /// Ends a chain in a keyed exchange to `target`; the operator that is added to the program next is blamed when the
    /// selector panics.
    pub fn exchange_hashed<P, S>(&mut self, from: VertexIndex, pipe: P, selector: S, target: VertexIndex)
    where
        P: Pipe,
        S: KeySelector<P::Out>,
    {
        let operator = OperatorIndex(self.operators.len());
        let end = move |context: &TaskContext| {
            HashPartitioner::new(selector.clone(), context.operator_name(operator), context)
        };
        self.end_in_exchange(from, pipe, (target, Partitioning::Hash), end);
    }

    /// Ends a chain in a keyed exchange; answers the vertex behind it, which has no operator yet.
    ///
    /// In batch mode `function` combines records before the exchange, on behalf of the operator that is added to the
    /// new vertex next.
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
        self.link(from, target, Partitioning::Hash);
        target
    }
}
