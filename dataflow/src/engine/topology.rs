//! Which channels a job has, and between which task managers: what a peer may speak of.

use std::collections::BTreeMap;

use tidemill_model::execution::Schedule;
use tidemill_model::id::{ExecutionVertexId, TaskManagerId};
use tidemill_model::job_graph::{JobEdge, JobGraph, Partitioning};

use super::frame::ChannelId;

/// The channels of a scheduled job.
#[derive(Debug, Clone)]
pub struct Topology {
    edges: Vec<JobEdge>,
    places: BTreeMap<ExecutionVertexId, TaskManagerId>,
}

impl Topology {
    /// The channels of `graph` as `schedule` places their ends.
    #[must_use]
    pub fn new(graph: &JobGraph, schedule: &Schedule) -> Self {
        let places = schedule.attempts.iter().map(|(&vertex, attempt)| (vertex, attempt.slot.task_manager));
        Self { edges: graph.edges.clone(), places: places.collect() }
    }

    /// Whether the job has this channel, with its producer on the one and its consumer on the other task manager.
    #[must_use]
    pub fn has(&self, channel: ChannelId, producer: TaskManagerId, consumer: TaskManagerId) -> bool {
        let Some(edge) = usize::try_from(channel.edge).ok().and_then(|index| self.edges.get(index)) else {
            return false;
        };
        let joined = match edge.partitioning {
            Partitioning::Forward => channel.from == channel.to,
            Partitioning::Hash | Partitioning::Rebalance => true,
        };
        let from = ExecutionVertexId { vertex: edge.source, subtask: channel.from };
        let to = ExecutionVertexId { vertex: edge.target, subtask: channel.to };
        joined && self.places.get(&from) == Some(&producer) && self.places.get(&to) == Some(&consumer)
    }
}
