//! Makes the executable flow of what a program said: what is run at all, the graph, identities, and where time flows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemill_model::id::JobVertexId;
use tidemill_model::job::RuntimeMode;
use tidemill_model::job_graph::{
    CoLocationGroup, JobEdge, JobGraph, JobVertex, OperatorDescriptor, Partitioning, SlotSharingGroup,
};
use tidemill_model::key_group::DEFAULT_MAX_PARALLELISM;

use super::builder::{Link, LinkSource, Neighbour};
use super::{EdgePlan, Error, Flow, FlowBuilder, OperatorIndex, OutputPort, VertexIndex};

impl FlowBuilder {
    /// The vertex that a link begins at.
    fn source(&self, link: &Link) -> VertexIndex {
        match link.source {
            LinkSource::Chain(vertex) => vertex,
            LinkSource::SideOutput { operator, .. } => self.vertex_of(operator),
        }
    }

    fn vertex_of(&self, operator: OperatorIndex) -> VertexIndex {
        let index = self.vertices.iter().position(|vertex| vertex.operators.contains(&operator));
        self.vertex_index(index.expect("each operator is in a vertex"))
    }

    /// One to one becomes round robin where the parallelism differs.
    fn partitioning(&self, link: &Link) -> Partitioning {
        let differs = self.parallelism(self.source(link)) != self.parallelism(link.target);
        if link.partitioning == Partitioning::Forward && differs { Partitioning::Rebalance } else { link.partitioning }
    }

    /// The chains that lead to a sink: what nothing consumes is not run.
    fn useful(&self) -> BTreeSet<VertexIndex> {
        let indices = (0..self.vertices.len()).map(|index| self.vertex_index(index));
        let mut useful: BTreeSet<_> = indices.filter(|index| self.plan(*index).factory.is_some()).collect();
        loop {
            let leads_on = |vertex: &VertexIndex| {
                let mut links = self.links.iter().filter(|link| self.source(link) == *vertex);
                self.plan(*vertex).ends_in_sink || links.any(|link| useful.contains(&link.target))
            };
            let dangling: Vec<_> = useful.iter().copied().filter(|vertex| !leads_on(vertex)).collect();
            if dangling.is_empty() {
                return useful;
            }
            for vertex in dangling {
                useful.remove(&vertex);
            }
        }
    }

    /// `Batch` or `Streaming`.
    fn mode(&self, mode: RuntimeMode, useful: &BTreeSet<VertexIndex>) -> Result<RuntimeMode, Error> {
        let used = |operator| useful.iter().any(|vertex| self.plan(*vertex).operators.contains(operator));
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
            let given = operator.uid.clone().or_else(|| self.hidden_uid(OperatorIndex(index)));
            let uid = given.unwrap_or_else(|| derived(index, &operator.name));
            if let Some(first) = uids.iter().position(|other| *other == uid) {
                let first = self.operators[first].name.clone();
                return Err(Error::DuplicateUid { uid, first, second: operator.name.clone() });
            }
            uids.push(uid);
        }
        Ok(uids)
    }

    /// The uid of an operator in a hidden vertex: that of the one that it works for, if the user gave it one.
    fn hidden_uid(&self, operator: OperatorIndex) -> Option<String> {
        let vertex = self.vertices.iter().find(|vertex| vertex.operators.contains(&operator))?;
        let served = self.plan(vertex.hidden_for?).operators.first()?;
        self.operators[served.0].uid.as_ref().map(|uid| format!("{uid}-splits"))
    }

    /// All vertices that can be reached from this one, itself among them, over links read as `step` does.
    fn reachable(
        &self,
        from: VertexIndex,
        step: impl Fn(&Link) -> (VertexIndex, VertexIndex),
    ) -> BTreeSet<VertexIndex> {
        let mut seen = BTreeSet::from([from]);
        let mut open = vec![from];
        while let Some(vertex) = open.pop() {
            let next = self.links.iter().map(&step).filter(|(near, _)| *near == vertex).map(|(_, far)| far);
            open.extend(next.filter(|far| seen.insert(*far)));
        }
        seen
    }

    fn any_operator(&self, vertices: &BTreeSet<VertexIndex>, has: impl Fn(OperatorIndex) -> bool) -> bool {
        vertices.iter().flat_map(|vertex| &self.plan(*vertex).operators).any(|operator| has(*operator))
    }

    /// Whether records carry event times over this link: they were given some, and somebody behind it needs them.
    fn is_timed(&self, link: &Link) -> bool {
        let upstream = self.reachable(self.source(link), |link| (link.target, self.source(link)));
        let downstream = self.reachable(link.target, |link| (self.source(link), link.target));
        self.any_operator(&upstream, |operator| self.operators[operator.0].time.assigns)
            && self.any_operator(&downstream, |operator| self.operators[operator.0].time.needs)
    }

    /// The executable flow.
    ///
    /// # Errors
    /// The program makes no valid graph.
    pub fn build(mut self, mode: RuntimeMode) -> Result<Flow, Error> {
        if !self.defects.is_empty() {
            return Err(self.defects.swap_remove(0));
        }
        let useful = self.useful();
        let mode = self.mode(mode, &useful)?;
        let uids = self.uids()?;
        let own = useful.iter().map(|vertex| self.plan(*vertex)).filter(|plan| plan.hidden_for.is_none());
        let mut without_uid: Vec<OperatorIndex> = own.flat_map(|plan| plan.operators.iter().copied()).collect();
        without_uid.retain(|operator| self.operators[operator.0].uid.is_none());
        let ids: Vec<VertexIndex> = useful.iter().copied().collect();
        let id = |vertex: VertexIndex| {
            let position = ids.binary_search(&vertex).ok()?;
            Some(JobVertexId(u32::try_from(position).ok()?))
        };
        let (co_location, mut slot_sharing) = (self.co_location_groups(), BTreeMap::new());
        let mut graph = JobGraph::default();
        let (mut factories, mut aligned) = (Vec::new(), BTreeMap::new());
        for (&index, plan) in ids.iter().map(|index| (index, self.plan(*index))) {
            let (Some(id), Some(factory)) = (id(index), &plan.factory) else { continue };
            let groups = (self.slot_sharing_group(index, &mut slot_sharing), co_location.get(&index).cloned());
            graph.vertices.push(self.job_vertex(id, index, (&uids, mode), groups));
            factories.push(Arc::clone(factory));
            if mode == RuntimeMode::Streaming {
                let alignment = plan.operators.iter().find_map(|operator| self.aligned.get(operator));
                aligned.extend(alignment.map(|alignment| (id, alignment.clone())));
            }
        }
        let mut edges = Vec::new();
        for link in &self.links {
            match (id(self.source(link)), id(link.target)) {
                (Some(source), Some(target)) => {
                    self.check_side_output(link)?;
                    graph.edges.push(JobEdge { source, target, partitioning: self.partitioning(link) });
                    edges.push(EdgePlan { port: link.port(), timed: self.is_timed(link) });
                }
                (None, Some(_)) => return Err(self.dangling(link)),
                (Some(_) | None, None) => {}
            }
        }
        graph.validate()?;
        let side_outputs = self.side_outputs;
        let outputs = self.outputs.into_iter();
        let outputs = outputs.filter_map(|(output, vertex)| Some((output, id(vertex)?))).collect();
        let committers = self.committers;
        let operator_names = self.operators.into_iter().map(|operator| operator.name).collect();
        let counters = self.counters;
        Ok(Flow {
            graph,
            edges,
            mode,
            factories,
            operator_names,
            operator_uids: uids,
            without_uid,
            outputs,
            committers,
            side_outputs,
            aligned,
            counters,
        })
    }

    /// Of an operator that never emits to it, a side output would have no end either.
    fn check_side_output(&self, link: &Link) -> Result<(), Error> {
        let LinkSource::SideOutput { operator, port } = link.source else { return Ok(()) };
        let plan = &self.operators[operator.0];
        if plan.has_side_outputs {
            return Ok(());
        }
        let side = self.side_outputs.iter().find(|side| side.port == port);
        let tag = side.map(|side| side.tag.clone()).unwrap_or_default();
        Err(Error::NoSideOutputs { tag, operator: plan.name.clone() })
    }

    /// A link into what is run, from what is not.
    fn dangling(&self, link: &Link) -> Error {
        let side = self.side_outputs.iter().find(|side| link.port() == side.port);
        let operator = side.map(|side| self.operators[side.operator.0].name.clone()).unwrap_or_default();
        Error::DanglingMainOutput { tag: side.map(|side| side.tag.clone()).unwrap_or_default(), operator }
    }

    /// The group that a vertex was given, else the one that all its inputs are in, else the default. `known` are those
    /// found before: paths that part and meet again are many.
    fn slot_sharing_group(
        &self,
        vertex: VertexIndex,
        known: &mut BTreeMap<VertexIndex, SlotSharingGroup>,
    ) -> SlotSharingGroup {
        if let Some(group) = &self.plan(vertex).slot_sharing_group {
            return SlotSharingGroup(group.clone());
        }
        if let Some(served) = self.plan(vertex).hidden_for {
            return self.slot_sharing_group(served, known);
        }
        if let Some(group) = known.get(&vertex) {
            return group.clone();
        }
        let inputs = self.links.iter().filter(|link| link.target == vertex).map(|link| self.source(link));
        let inputs = inputs.filter(|input| self.plan(*input).hidden_for.is_none());
        let mut groups = inputs.map(|input| self.slot_sharing_group(input, known));
        let group = match groups.next() {
            Some(first) if groups.all(|other| other == first) => first,
            Some(_) | None => SlotSharingGroup::default(),
        };
        known.insert(vertex, group.clone());
        group
    }

    /// The vertices that were said to run beside others, each with the first of those that it is with.
    fn co_location_groups(&self) -> BTreeMap<VertexIndex, CoLocationGroup> {
        let place = |neighbour| match neighbour {
            Neighbour::Operator(operator) => self.vertex_of(operator),
            Neighbour::Vertex(vertex) => vertex,
        };
        let mut firsts: BTreeMap<VertexIndex, VertexIndex> = BTreeMap::new();
        for pair in &self.co_located {
            let [one, other] = pair.map(|neighbour| {
                let vertex = place(neighbour);
                *firsts.entry(vertex).or_insert(vertex)
            });
            firsts.values_mut().filter(|first| **first == one.max(other)).for_each(|first| *first = one.min(other));
        }
        let group = |first: VertexIndex| CoLocationGroup(format!("with-{}", first.index));
        firsts.into_iter().map(|(vertex, first)| (vertex, group(first))).collect()
    }

    fn job_vertex(
        &self,
        id: JobVertexId,
        index: VertexIndex,
        (uids, mode): (&[String], RuntimeMode),
        (slot_sharing_group, co_location_group): (SlotSharingGroup, Option<CoLocationGroup>),
    ) -> JobVertex {
        let plan = self.plan(index);
        let descriptor = |operator: &OperatorIndex| OperatorDescriptor {
            name: self.operators[operator.0].name.clone(),
            uid: uids[operator.0].clone(),
        };
        let details = plan.operators.iter().flat_map(|operator| self.operators[operator.0].details.clone());
        let own = self.outputs.iter().filter(|(_, vertex)| self.plan(*vertex).operators == plan.operators);
        let manners = own.filter_map(|(output, _)| output.manner());
        let mode = std::iter::once(format!("mode {mode:?}"));
        JobVertex {
            id,
            operators: if plan.operators.is_empty() {
                // Records only pass through, from one exchange to the next.
                vec![OperatorDescriptor { name: "Exchange".to_owned(), uid: format!("exchange-{}", index.index) }]
            } else {
                plan.operators.iter().map(descriptor).collect()
            },
            parallelism: plan.parallelism,
            max_parallelism: DEFAULT_MAX_PARALLELISM.max(plan.parallelism),
            record_types: details.chain(manners).chain(mode).collect(),
            slot_sharing_group,
            co_location_group,
        }
    }
}

impl Link {
    fn port(&self) -> OutputPort {
        match self.source {
            LinkSource::Chain(_) => OutputPort::MAIN,
            LinkSource::SideOutput { port, .. } => port,
        }
    }
}
