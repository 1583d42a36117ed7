//! The logical data flow that a client submits: chains of operators and the edges between them.

mod error;
mod partitioning;
mod region;
mod slot_sharing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::{ExecutionVertexId, JobVertexId, SubtaskIndex};
use crate::key_group::MAX_PARALLELISM_LIMIT;

pub use error::Error;
pub use partitioning::Partitioning;
pub use slot_sharing::{CoLocationGroup, MAX_GROUP_NAME_BYTES, SlotRequirements, SlotSharingGroup};

/// The largest number of vertices that a graph may have: a bound on what a request can make a coordinator expand.
pub const MAX_VERTICES: usize = 10_000;

/// One operator of a chain, as people and savepoints know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorDescriptor {
    /// What `info`, errors and metrics call it, such as `Map` or `Source: text file`.
    pub name: String,
    /// The stable identity of its state; given by the user or derived from the graph.
    pub uid: String,
}

/// A chain of operators that runs on one thread per sub-task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobVertex {
    /// Its id, unique in the graph.
    pub id: JobVertexId,
    /// Its operators, upstream first; never empty.
    pub operators: Vec<OperatorDescriptor>,
    /// How many sub-tasks.
    pub parallelism: u32,
    /// How many key groups, and so the largest parallelism it can be rescaled to.
    pub max_parallelism: u32,
    /// The types of the records that enter and leave, so that a differing executor is noticed.
    pub record_types: Vec<String>,
    /// With whom it shares slots.
    pub slot_sharing_group: SlotSharingGroup,
    /// With whom its sub-tasks must run together.
    pub co_location_group: Option<CoLocationGroup>,
}

impl JobVertex {
    /// The names of the chain's operators, joined as Flink's web page shows them.
    #[must_use]
    pub fn name(&self) -> String {
        let names: Vec<&str> = self.operators.iter().map(|operator| operator.name.as_str()).collect();
        names.join(" -> ")
    }

    fn check_group_names(&self) -> Result<(), Error> {
        let co_location = self.co_location_group.as_ref().map(|group| &group.0);
        let usable = |name: &str| (1..=MAX_GROUP_NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control);
        match co_location.into_iter().chain([&self.slot_sharing_group.0]).find(|name| !usable(name)) {
            Some(name) => Err(Error::GroupName { vertex: self.id, name: name.clone() }),
            None => Ok(()),
        }
    }
}

/// A link from one vertex to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEdge {
    /// The producer.
    pub source: JobVertexId,
    /// The consumer.
    pub target: JobVertexId,
    /// How records are distributed.
    pub partitioning: Partitioning,
}

/// Proof that two processes built the same graph: a SHA-256 over everything in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The submitted logical flow.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobGraph {
    /// The vertices, in the order in which the program made them.
    pub vertices: Vec<JobVertex>,
    /// The edges, in the order in which the program made them.
    pub edges: Vec<JobEdge>,
}

impl JobGraph {
    /// Checks what a coordinator relies on.
    ///
    /// # Errors
    ///
    /// The first defect found, naming the vertex.
    pub fn validate(&self) -> Result<(), Error> {
        if self.vertices.is_empty() {
            return Err(Error::Empty);
        }
        if self.vertices.len() > MAX_VERTICES {
            return Err(Error::TooManyVertices { count: self.vertices.len() });
        }
        let mut by_id = BTreeMap::new();
        for vertex in &self.vertices {
            let max_parallelism = vertex.max_parallelism.min(MAX_PARALLELISM_LIMIT);
            if vertex.parallelism == 0 || vertex.parallelism > max_parallelism {
                let parallelism = vertex.parallelism;
                return Err(Error::Parallelism { vertex: vertex.id, parallelism, max_parallelism });
            }
            if by_id.insert(vertex.id, vertex).is_some() {
                return Err(Error::DuplicateVertex { vertex: vertex.id });
            }
            vertex.check_group_names()?;
        }
        self.check_co_location()?;
        for edge in &self.edges {
            let find = |id| by_id.get(&id).ok_or(Error::UnknownVertex { vertex: id });
            let (upstream, downstream) = (find(edge.source)?.parallelism, find(edge.target)?.parallelism);
            if edge.partitioning == Partitioning::Forward && upstream != downstream {
                let (source_vertex, target) = (edge.source, edge.target);
                return Err(Error::ForwardMismatch { source_vertex, target, upstream, downstream });
            }
        }
        self.check_acyclic()
    }

    /// Placement puts sub-task i of a slot sharing group's vertices into its slot i; co-location relies on that.
    fn check_co_location(&self) -> Result<(), Error> {
        let mut firsts: BTreeMap<&CoLocationGroup, &JobVertex> = BTreeMap::new();
        for vertex in &self.vertices {
            let Some(group) = &vertex.co_location_group else { continue };
            let first = *firsts.entry(group).or_insert(vertex);
            if first.slot_sharing_group != vertex.slot_sharing_group {
                return Err(Error::CoLocationSharing {
                    group: group.clone(),
                    first: first.id,
                    first_sharing: first.slot_sharing_group.clone(),
                    second: vertex.id,
                    second_sharing: vertex.slot_sharing_group.clone(),
                });
            }
            if first.parallelism != vertex.parallelism {
                return Err(Error::CoLocationParallelism {
                    group: group.clone(),
                    first: first.id,
                    first_parallelism: first.parallelism,
                    second: vertex.id,
                    second_parallelism: vertex.parallelism,
                });
            }
        }
        Ok(())
    }

    /// Kahn's algorithm: what cannot be ordered lies on or behind a circle.
    fn check_acyclic(&self) -> Result<(), Error> {
        let mut open: BTreeSet<JobVertexId> = self.vertices.iter().map(|vertex| vertex.id).collect();
        loop {
            let fed: BTreeSet<JobVertexId> =
                self.edges.iter().filter(|edge| open.contains(&edge.source)).map(|edge| edge.target).collect();
            let ready: Vec<JobVertexId> = open.difference(&fed).copied().collect();
            if ready.is_empty() {
                return open.first().map_or(Ok(()), |&vertex| Err(Error::Cycle { vertex }));
            }
            for vertex in ready {
                open.remove(&vertex);
            }
        }
    }

    /// The vertex with this id.
    #[must_use]
    pub fn vertex(&self, id: JobVertexId) -> Option<&JobVertex> {
        self.vertices.iter().find(|vertex| vertex.id == id)
    }

    /// The parallelism of an edge's producer and consumer, if the graph has both.
    #[must_use]
    pub fn edge_parallelism(&self, edge: &JobEdge) -> Option<(u32, u32)> {
        Some((self.vertex(edge.source)?.parallelism, self.vertex(edge.target)?.parallelism))
    }

    /// Every sub-task, vertex by vertex.
    pub fn execution_vertices(&self) -> impl Iterator<Item = ExecutionVertexId> + '_ {
        self.vertices.iter().flat_map(|vertex| {
            (0..vertex.parallelism).map(|index| ExecutionVertexId { vertex: vertex.id, subtask: SubtaskIndex(index) })
        })
    }

    /// How many slots each slot sharing group needs: its largest parallelism, since sub-task i of each of its vertices
    /// runs in its slot i.
    #[must_use]
    pub fn slot_requirements(&self) -> SlotRequirements {
        let mut requirements = SlotRequirements::default();
        for vertex in &self.vertices {
            let count = requirements.0.entry(vertex.slot_sharing_group.clone()).or_default();
            *count = vertex.parallelism.max(*count);
        }
        requirements
    }

    /// How many slots the job needs, over all slot sharing groups.
    #[must_use]
    pub fn slots_needed(&self) -> u32 {
        self.slot_requirements().total()
    }

    /// The fingerprint of this graph.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hasher = Sha256::new();
        let mut field = |text: &str| {
            hasher.update(u64::try_from(text.len()).expect("usize fits u64").to_le_bytes());
            hasher.update(text.as_bytes());
        };
        for vertex in &self.vertices {
            field(&format!("{} {} {}", vertex.id, vertex.parallelism, vertex.max_parallelism));
            for operator in &vertex.operators {
                field(&operator.name);
                field(&operator.uid);
            }
            for record_type in &vertex.record_types {
                field(record_type);
            }
            field(&vertex.slot_sharing_group.0);
            // An empty name is not valid, so it can stand for none.
            field(vertex.co_location_group.as_ref().map_or("", |group| &group.0));
        }
        for edge in &self.edges {
            field(&format!("{} -> {} {}", edge.source, edge.target, edge.partitioning));
        }
        Fingerprint(hasher.finalize().into())
    }
}

impl fmt::Display for JobGraph {
    /// One line a vertex, its inputs behind it: what `tidemill info` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for vertex in &self.vertices {
            write!(f, "{}: {} (parallelism {}", vertex.id, vertex.name(), vertex.parallelism)?;
            if !vertex.slot_sharing_group.is_default() {
                write!(f, ", slot sharing group {}", vertex.slot_sharing_group)?;
            }
            if let Some(group) = &vertex.co_location_group {
                write!(f, ", co-location group {group}")?;
            }
            f.write_str(")")?;
            for edge in self.edges.iter().filter(|edge| edge.target == vertex.id) {
                write!(f, " <- {} {}", edge.partitioning, edge.source)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
