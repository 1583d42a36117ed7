//! Failover regions: sub-tasks that exchange records fail and are replaced together.

use std::collections::{BTreeMap, BTreeSet};

use super::JobGraph;
use crate::id::{ExecutionVertexId, SubtaskIndex};

impl JobGraph {
    /// All sub-tasks tied to one of these by exchanges, these included: what has to be replaced when they fail.
    ///
    /// Every exchange is pipelined, so that a failover region is a connected part of the graph of sub-tasks.
    #[must_use]
    pub fn regions_of(&self, failed: &BTreeSet<ExecutionVertexId>) -> BTreeSet<ExecutionVertexId> {
        let neighbours = self.neighbours();
        let mut tied = BTreeSet::new();
        let mut open: Vec<ExecutionVertexId> = failed.iter().copied().collect();
        while let Some(vertex) = open.pop() {
            if tied.insert(vertex) {
                open.extend(neighbours.get(&vertex).into_iter().flatten().filter(|next| !tied.contains(*next)));
            }
        }
        tied
    }

    /// Who exchanges records with whom. Of sub-tasks that all exchange with one another only as much is listed as
    /// connects them, so that this stays linear in the number of sub-tasks and edges.
    fn neighbours(&self) -> BTreeMap<ExecutionVertexId, Vec<ExecutionVertexId>> {
        let mut neighbours: BTreeMap<ExecutionVertexId, Vec<ExecutionVertexId>> = BTreeMap::new();
        let mut tie = |one: ExecutionVertexId, other: ExecutionVertexId| {
            neighbours.entry(one).or_default().push(other);
            neighbours.entry(other).or_default().push(one);
        };
        for edge in &self.edges {
            let Some((upstream, downstream)) = self.edge_parallelism(edge) else { continue };
            let source = |subtask| ExecutionVertexId { vertex: edge.source, subtask: SubtaskIndex(subtask) };
            let target = |subtask| ExecutionVertexId { vertex: edge.target, subtask: SubtaskIndex(subtask) };
            for from in 0..upstream {
                let consumers = edge.partitioning.consumers(SubtaskIndex(from), upstream, downstream);
                if from > 0 && consumers == (0..downstream) && downstream > 0 {
                    // Its consumers are tied already, through sub-task 0.
                    tie(source(from), target(0));
                } else {
                    consumers.for_each(|to| tie(source(from), target(to)));
                }
            }
        }
        neighbours
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JobVertexId;
    use crate::job_graph::{JobEdge, JobVertex, OperatorDescriptor, Partitioning, SlotSharingGroup};

    fn graph(parallelism: &[u32], edges: &[(u32, u32, Partitioning)]) -> JobGraph {
        let vertex = |(id, &parallelism): (u32, &u32)| JobVertex {
            id: JobVertexId(id),
            operators: vec![OperatorDescriptor { name: "o".into(), uid: "o".into() }],
            parallelism,
            max_parallelism: 128,
            record_types: vec![],
            slot_sharing_group: SlotSharingGroup::default(),
            co_location_group: None,
        };
        let edge = |&(source, target, partitioning): &(u32, u32, Partitioning)| JobEdge {
            source: JobVertexId(source),
            target: JobVertexId(target),
            partitioning,
        };
        JobGraph { vertices: (0..).zip(parallelism).map(vertex).collect(), edges: edges.iter().map(edge).collect() }
    }

    fn region(graph: &JobGraph, vertex: u32, subtask: u32) -> String {
        let id = ExecutionVertexId { vertex: JobVertexId(vertex), subtask: SubtaskIndex(subtask) };
        let names: Vec<String> = graph.regions_of(&BTreeSet::from([id])).iter().map(ToString::to_string).collect();
        names.join(" ")
    }

    #[test]
    fn subtasks_that_are_only_forwarded_to_are_regions_of_their_own() {
        let graph = graph(&[3, 3], &[(0, 1, Partitioning::Forward)]);
        assert_eq!(region(&graph, 0, 1), "v0[1] v1[1]");
        assert_eq!(region(&graph, 1, 2), "v0[2] v1[2]");
    }

    #[test]
    fn a_repartitioning_ties_everything_together() {
        for partitioning in [Partitioning::Hash, Partitioning::Broadcast, Partitioning::Global, Partitioning::Custom] {
            let graph = graph(&[2, 3, 1], &[(0, 1, partitioning)]);
            assert_eq!(region(&graph, 0, 1), "v0[0] v0[1] v1[0] v1[1] v1[2]", "{partitioning}");
            assert_eq!(region(&graph, 1, 2), "v0[0] v0[1] v1[0] v1[1] v1[2]", "{partitioning}");
            assert_eq!(region(&graph, 2, 0), "v2[0]");
        }
    }

    #[test]
    fn rescaling_ties_the_parts_that_it_joins() {
        let graph = graph(&[2, 4], &[(0, 1, Partitioning::Rescale)]);
        assert_eq!(region(&graph, 1, 3), "v0[1] v1[2] v1[3]");
    }

    #[test]
    fn parts_without_an_exchange_between_them_do_not_share_their_failures() {
        let graph = graph(&[2, 2, 1], &[(0, 1, Partitioning::Hash)]);
        assert_eq!(region(&graph, 2, 0), "v2[0]");
        let both = [(0, 0), (2, 0)]
            .map(|(vertex, subtask)| ExecutionVertexId { vertex: JobVertexId(vertex), subtask: SubtaskIndex(subtask) });
        assert_eq!(graph.regions_of(&both.into()).len(), 5);
    }
}
