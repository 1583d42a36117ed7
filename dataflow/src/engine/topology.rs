//! Which channels a job has, and between which task managers: what a peer may speak of.

use std::collections::BTreeMap;

use tidemill_model::execution::Schedule;
use tidemill_model::id::{ExecutionVertexId, TaskManagerId};
use tidemill_model::job_graph::{JobEdge, JobGraph};

use super::frame::ChannelId;

/// The channels of a scheduled job.
#[derive(Debug, Clone)]
pub struct Topology {
    /// Each with the parallelism of its producer and of its consumer.
    edges: Vec<(JobEdge, u32, u32)>,
    places: BTreeMap<ExecutionVertexId, TaskManagerId>,
}

impl Topology {
    /// The channels of `graph` as `schedule` places their ends.
    #[must_use]
    pub fn new(graph: &JobGraph, schedule: &Schedule) -> Self {
        let places = schedule.attempts.iter().map(|(&vertex, attempt)| (vertex, attempt.slot.task_manager));
        // The executor's graph has been validated; an edge to nowhere would have no channels.
        let sized = |edge: &JobEdge| {
            let (upstream, downstream) = graph.edge_parallelism(edge).unwrap_or_default();
            (*edge, upstream, downstream)
        };
        Self { edges: graph.edges.iter().map(sized).collect(), places: places.collect() }
    }

    /// Whether the job has this channel, with its producer on the one and its consumer on the other task manager.
    #[must_use]
    pub fn has(&self, channel: ChannelId, producer: TaskManagerId, consumer: TaskManagerId) -> bool {
        let index = usize::try_from(channel.edge).ok();
        let Some(&(edge, upstream, downstream)) = index.and_then(|index| self.edges.get(index)) else {
            return false;
        };
        let joined = edge.partitioning.consumers(channel.from, upstream, downstream).contains(&channel.to.0);
        let from = ExecutionVertexId { vertex: edge.source, subtask: channel.from };
        let to = ExecutionVertexId { vertex: edge.target, subtask: channel.to };
        joined && self.places.get(&from) == Some(&producer) && self.places.get(&to) == Some(&consumer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_model::execution::ScheduledAttempt;
    use tidemill_model::id::{AttemptNumber, JobVertexId, SubtaskIndex};
    use tidemill_model::job_graph::{JobVertex, OperatorDescriptor, Partitioning, SlotSharingGroup};
    use tidemill_model::slot::SlotId;

    fn here() -> TaskManagerId {
        "00000000000000000000000000000001".parse().unwrap()
    }

    fn elsewhere() -> TaskManagerId {
        "00000000000000000000000000000002".parse().unwrap()
    }

    /// Three sub-tasks here, joined to two elsewhere.
    fn topology(partitioning: Partitioning) -> Topology {
        let vertex = |id, parallelism| JobVertex {
            id: JobVertexId(id),
            operators: vec![OperatorDescriptor { name: "Operator".into(), uid: format!("operator-{id}") }],
            parallelism,
            max_parallelism: 128,
            record_types: vec![],
            slot_sharing_group: SlotSharingGroup::default(),
            co_location_group: None,
        };
        let edge = JobEdge { source: JobVertexId(0), target: JobVertexId(1), partitioning };
        let graph = JobGraph { vertices: vec![vertex(0, 3), vertex(1, 2)], edges: vec![edge] };
        let place = |id: ExecutionVertexId| {
            let task_manager = if id.vertex == JobVertexId(0) { here() } else { elsewhere() };
            (id, ScheduledAttempt { attempt: AttemptNumber(0), slot: SlotId { task_manager, index: id.subtask.0 } })
        };
        let attempts = graph.execution_vertices().map(place).collect();
        Topology::new(&graph, &Schedule { attempts, ..Schedule::default() })
    }

    fn channels(topology: &Topology) -> Vec<(u32, u32)> {
        let pairs = (0..4).flat_map(|from| (0..3).map(move |to| (from, to)));
        let channel = |from, to| ChannelId { edge: 0, from: SubtaskIndex(from), to: SubtaskIndex(to) };
        pairs.filter(|&(from, to)| topology.has(channel(from, to), here(), elsewhere())).collect()
    }

    #[test]
    fn an_edge_has_the_channels_that_its_partitioning_joins() {
        assert_eq!(channels(&topology(Partitioning::Rescale)), [(0, 0), (1, 1), (2, 1)]);
        assert_eq!(channels(&topology(Partitioning::Broadcast)), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
    }

    #[test]
    fn a_channel_of_another_edge_or_between_others_does_not_exist() {
        let topology = topology(Partitioning::Hash);
        let channel = |edge| ChannelId { edge, from: SubtaskIndex(0), to: SubtaskIndex(0) };
        assert!(topology.has(channel(0), here(), elsewhere()));
        assert!(!topology.has(channel(0), elsewhere(), here()));
        assert!(!topology.has(channel(1), here(), elsewhere()));
    }
}
