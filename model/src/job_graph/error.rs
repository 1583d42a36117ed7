//! What is wrong with a graph.

use super::{CoLocationGroup, MAX_GROUP_NAME_BYTES, MAX_VERTICES, SlotSharingGroup};
use crate::id::JobVertexId;

/// What is wrong with a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is nothing to run.
    #[error("check job graph: it has no vertices; add a source and a sink before execute()")]
    Empty,
    /// Too many vertices.
    #[error("check job graph: {count} vertices, at most {MAX_VERTICES} are allowed")]
    TooManyVertices {
        /// How many there are.
        count: usize,
    },
    /// Two vertices share an id.
    #[error("check job graph: vertex {vertex} occurs twice")]
    DuplicateVertex {
        /// The id.
        vertex: JobVertexId,
    },
    /// A parallelism out of range.
    #[error("check job graph: vertex {vertex} has parallelism {parallelism}, allowed are 1 to {max_parallelism}")]
    Parallelism {
        /// The vertex.
        vertex: JobVertexId,
        /// What it asked for.
        parallelism: u32,
        /// The most that it may ask for.
        max_parallelism: u32,
    },
    /// An edge to a vertex that does not exist.
    #[error("check job graph: an edge names vertex {vertex}, which does not exist")]
    UnknownVertex {
        /// The missing vertex.
        vertex: JobVertexId,
    },
    /// The edges go round in a circle.
    #[error("check job graph: vertex {vertex} is reachable from itself; a data flow has no cycles")]
    Cycle {
        /// A vertex of the circle.
        vertex: JobVertexId,
    },
    /// A one-to-one edge between vertices of different parallelism.
    #[error(
        "check job graph: the forward edge {source_vertex} -> {target} joins parallelism {upstream} to {downstream}"
    )]
    ForwardMismatch {
        /// The producing vertex.
        source_vertex: JobVertexId,
        /// The consuming vertex.
        target: JobVertexId,
        /// Parallelism of the producer.
        upstream: u32,
        /// Parallelism of the consumer.
        downstream: u32,
    },
    /// A group without a usable name.
    #[error(
        "check job graph: vertex {vertex} is in a group named {name:?}; a name has 1 to {MAX_GROUP_NAME_BYTES} bytes \
         and no control characters"
    )]
    GroupName {
        /// The vertex.
        vertex: JobVertexId,
        /// The name.
        name: String,
    },
    /// Co-located vertices that do not share slots.
    #[error(
        "check job graph: vertices {first} and {second} are co-located by {group}, but their slot sharing groups are \
         {first_sharing} and {second_sharing}; put both into one"
    )]
    CoLocationSharing {
        /// What should keep them together.
        group: CoLocationGroup,
        /// The one vertex.
        first: JobVertexId,
        /// Its slot sharing group.
        first_sharing: SlotSharingGroup,
        /// The other vertex.
        second: JobVertexId,
        /// Its slot sharing group.
        second_sharing: SlotSharingGroup,
    },
    /// Co-located vertices of different parallelism.
    #[error(
        "check job graph: vertices {first} and {second} are co-located by {group}, but their parallelism is \
         {first_parallelism} and {second_parallelism}; give both the same"
    )]
    CoLocationParallelism {
        /// What should keep them together.
        group: CoLocationGroup,
        /// The one vertex.
        first: JobVertexId,
        /// How many sub-tasks it has.
        first_parallelism: u32,
        /// The other vertex.
        second: JobVertexId,
        /// How many sub-tasks it has.
        second_parallelism: u32,
    },
}
