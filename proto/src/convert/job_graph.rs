//! The job graph on the wire.
//!
//! Whether a graph makes sense is checked where it is submitted ([`JobGraph::validate`]); here only its form is.

use tidemill_model::id::JobVertexId;
use tidemill_model::job_graph::{
    CoLocationGroup, JobEdge, JobGraph, JobVertex, OperatorDescriptor, Partitioning, SlotSharingGroup,
};

use super::{Error, list};
use crate::pb;

impl From<Partitioning> for pb::Partitioning {
    fn from(partitioning: Partitioning) -> Self {
        match partitioning {
            Partitioning::Forward => Self::Forward,
            Partitioning::Hash => Self::Hash,
            Partitioning::Rebalance => Self::Rebalance,
            Partitioning::Rescale => Self::Rescale,
            Partitioning::Shuffle => Self::Shuffle,
            Partitioning::Broadcast => Self::Broadcast,
            Partitioning::Global => Self::Global,
            Partitioning::Custom => Self::Custom,
        }
    }
}

fn partitioning(value: i32) -> Result<Partitioning, Error> {
    match pb::Partitioning::try_from(value) {
        Ok(pb::Partitioning::Forward) => Ok(Partitioning::Forward),
        Ok(pb::Partitioning::Hash) => Ok(Partitioning::Hash),
        Ok(pb::Partitioning::Rebalance) => Ok(Partitioning::Rebalance),
        Ok(pb::Partitioning::Rescale) => Ok(Partitioning::Rescale),
        Ok(pb::Partitioning::Shuffle) => Ok(Partitioning::Shuffle),
        Ok(pb::Partitioning::Broadcast) => Ok(Partitioning::Broadcast),
        Ok(pb::Partitioning::Global) => Ok(Partitioning::Global),
        Ok(pb::Partitioning::Custom) => Ok(Partitioning::Custom),
        Ok(pb::Partitioning::Unspecified) | Err(_) => Err(Error::UnknownEnum { field: "JobEdge.partitioning", value }),
    }
}

impl From<OperatorDescriptor> for pb::OperatorDescriptor {
    fn from(operator: OperatorDescriptor) -> Self {
        Self { name: operator.name, uid: operator.uid }
    }
}

impl TryFrom<pb::OperatorDescriptor> for OperatorDescriptor {
    type Error = Error;

    fn try_from(operator: pb::OperatorDescriptor) -> Result<Self, Error> {
        Ok(Self { name: operator.name, uid: operator.uid })
    }
}

impl From<JobVertex> for pb::JobVertex {
    fn from(vertex: JobVertex) -> Self {
        Self {
            id: vertex.id.0,
            operators: vertex.operators.into_iter().map(Into::into).collect(),
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            record_types: vertex.record_types,
            slot_sharing_group: vertex.slot_sharing_group.0,
            co_location_group: vertex.co_location_group.map(|group| group.0),
        }
    }
}

impl TryFrom<pb::JobVertex> for JobVertex {
    type Error = Error;

    fn try_from(vertex: pb::JobVertex) -> Result<Self, Error> {
        if vertex.operators.is_empty() {
            return Err(Error::Empty { field: "JobVertex.operators" });
        }
        if vertex.slot_sharing_group.is_empty() {
            return Err(Error::Missing { field: "JobVertex.slot_sharing_group" });
        }
        if vertex.co_location_group.as_ref().is_some_and(String::is_empty) {
            return Err(Error::Empty { field: "JobVertex.co_location_group" });
        }
        Ok(Self {
            id: JobVertexId(vertex.id),
            operators: list(vertex.operators)?,
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            record_types: vertex.record_types,
            slot_sharing_group: SlotSharingGroup(vertex.slot_sharing_group),
            co_location_group: vertex.co_location_group.map(CoLocationGroup),
        })
    }
}

impl From<JobEdge> for pb::JobEdge {
    fn from(edge: JobEdge) -> Self {
        let partitioning = pb::Partitioning::from(edge.partitioning).into();
        Self { source: edge.source.0, target: edge.target.0, partitioning }
    }
}

impl TryFrom<pb::JobEdge> for JobEdge {
    type Error = Error;

    fn try_from(edge: pb::JobEdge) -> Result<Self, Error> {
        Ok(Self {
            source: JobVertexId(edge.source),
            target: JobVertexId(edge.target),
            partitioning: partitioning(edge.partitioning)?,
        })
    }
}

impl From<JobGraph> for pb::JobGraph {
    fn from(graph: JobGraph) -> Self {
        Self {
            vertices: graph.vertices.into_iter().map(Into::into).collect(),
            edges: graph.edges.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::JobGraph> for JobGraph {
    type Error = Error;

    fn try_from(graph: pb::JobGraph) -> Result<Self, Error> {
        Ok(Self { vertices: list(graph.vertices)?, edges: list(graph.edges)? })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::convert) fn graph() -> JobGraph {
        let vertex = |id: u32, names: &[&str]| JobVertex {
            id: JobVertexId(id),
            operators: names
                .iter()
                .map(|&name| OperatorDescriptor { name: name.into(), uid: format!("{id}") })
                .collect(),
            parallelism: 2,
            max_parallelism: 128,
            record_types: vec!["String".into(), "(String, u64)".into()],
            slot_sharing_group: if id == 0 { SlotSharingGroup::default() } else { SlotSharingGroup("wide".into()) },
            co_location_group: (id > 0).then(|| CoLocationGroup("pair".into())),
        };
        let edge = |source: u32, target: u32, partitioning| JobEdge {
            source: JobVertexId(source),
            target: JobVertexId(target),
            partitioning,
        };
        JobGraph {
            vertices: vec![vertex(0, &["Source", "FlatMap"]), vertex(1, &["Sum"]), vertex(7, &["Sink"])],
            edges: vec![
                edge(0, 1, Partitioning::Hash),
                edge(1, 7, Partitioning::Forward),
                edge(0, 7, Partitioning::Rebalance),
                edge(0, 1, Partitioning::Rescale),
                edge(0, 1, Partitioning::Shuffle),
                edge(0, 1, Partitioning::Broadcast),
                edge(0, 1, Partitioning::Global),
                edge(0, 1, Partitioning::Custom),
            ],
        }
    }

    #[test]
    fn a_graph_round_trips() {
        assert_eq!(JobGraph::try_from(pb::JobGraph::from(graph())), Ok(graph()));
    }

    #[test]
    fn an_unspecified_or_unknown_partitioning_is_refused() {
        for value in [0, 99] {
            let mut message = pb::JobGraph::from(graph());
            message.edges[1].partitioning = value;
            let expected = Error::UnknownEnum { field: "JobEdge.partitioning", value };
            assert_eq!(JobGraph::try_from(message), Err(expected));
        }
    }

    #[test]
    fn a_vertex_without_operators_is_refused() {
        let mut message = pb::JobGraph::from(graph());
        message.vertices[0].operators.clear();
        assert_eq!(JobGraph::try_from(message), Err(Error::Empty { field: "JobVertex.operators" }));
    }

    #[test]
    fn a_group_without_a_name_is_refused() {
        let mut message = pb::JobGraph::from(graph());
        message.vertices[1].slot_sharing_group.clear();
        assert_eq!(JobGraph::try_from(message), Err(Error::Missing { field: "JobVertex.slot_sharing_group" }));
        let mut message = pb::JobGraph::from(graph());
        message.vertices[1].co_location_group = Some(String::new());
        assert_eq!(JobGraph::try_from(message), Err(Error::Empty { field: "JobVertex.co_location_group" }));
    }
}
