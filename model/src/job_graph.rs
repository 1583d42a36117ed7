//! The logical data flow that a client submits: chains of operators and the edges between them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::{ExecutionVertexId, JobVertexId, SubtaskIndex};
use crate::key_group::MAX_PARALLELISM_LIMIT;

/// The largest number of vertices that a graph may have: a bound on what a request can make a coordinator expand.
pub const MAX_VERTICES: usize = 10_000;

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
}

/// How the records of an edge find their consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Partitioning {
    /// Sub-task i to sub-task i.
    Forward,
    /// By the key group of the record's key.
    Hash,
    /// Round robin.
    Rebalance,
}

impl fmt::Display for Partitioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "FORWARD",
            Self::Hash => "HASH",
            Self::Rebalance => "REBALANCE",
        })
    }
}

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
}

impl JobVertex {
    /// The names of the chain's operators, joined as Flink's web page shows them.
    #[must_use]
    pub fn name(&self) -> String {
        let names: Vec<&str> = self.operators.iter().map(|operator| operator.name.as_str()).collect();
        names.join(" -> ")
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
        }
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

    /// Every sub-task, vertex by vertex.
    pub fn execution_vertices(&self) -> impl Iterator<Item = ExecutionVertexId> + '_ {
        self.vertices.iter().flat_map(|vertex| {
            (0..vertex.parallelism).map(|index| ExecutionVertexId { vertex: vertex.id, subtask: SubtaskIndex(index) })
        })
    }

    /// How many slots the job needs: its largest parallelism, since sub-tasks of different vertices share slots.
    #[must_use]
    pub fn slots_needed(&self) -> u32 {
        self.vertices.iter().map(|vertex| vertex.parallelism).max().unwrap_or(0)
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
            write!(f, "{}: {} (parallelism {})", vertex.id, vertex.name(), vertex.parallelism)?;
            for edge in self.edges.iter().filter(|edge| edge.target == vertex.id) {
                write!(f, " <- {} {}", edge.partitioning, edge.source)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn vertex(id: u32, name: &str, parallelism: u32) -> JobVertex {
        let operators = vec![OperatorDescriptor { name: name.into(), uid: format!("{name}-{id}") }];
        let id = JobVertexId(id);
        JobVertex { id, operators, parallelism, max_parallelism: 128, record_types: vec!["u64".into()] }
    }

    fn edge(source: u32, target: u32, partitioning: Partitioning) -> JobEdge {
        JobEdge { source: JobVertexId(source), target: JobVertexId(target), partitioning }
    }

    fn graph() -> JobGraph {
        JobGraph {
            vertices: vec![vertex(0, "Source", 2), vertex(1, "Sum", 3)],
            edges: vec![edge(0, 1, Partitioning::Hash)],
        }
    }

    #[test]
    fn a_graph_prints_as_its_plan() {
        expect![[r#"
            v0: Source (parallelism 2)
            v1: Sum (parallelism 3) <- HASH v0
        "#]]
        .assert_eq(&graph().to_string());
        assert_eq!(graph().validate(), Ok(()));
        assert_eq!(graph().slots_needed(), 3);
        assert_eq!(graph().execution_vertices().count(), 5);
    }

    #[test]
    fn the_fingerprint_sees_every_part() {
        let base = graph().fingerprint();
        let change = |edit: fn(&mut JobGraph)| {
            let mut changed = graph();
            edit(&mut changed);
            assert_ne!(changed.fingerprint(), base);
        };
        change(|graph| graph.vertices[0].parallelism = 1);
        change(|graph| graph.vertices[1].operators[0].uid.push('x'));
        change(|graph| graph.vertices[1].record_types[0] = "i64".into());
        change(|graph| graph.edges[0].partitioning = Partitioning::Rebalance);
    }

    #[test]
    fn defects_are_named() {
        assert_eq!(JobGraph::default().validate(), Err(Error::Empty));
        let mut bad = graph();
        bad.edges.push(edge(1, 0, Partitioning::Hash));
        assert_eq!(bad.validate(), Err(Error::Cycle { vertex: JobVertexId(0) }));
        let mut bad = graph();
        bad.edges[0].partitioning = Partitioning::Forward;
        assert!(matches!(bad.validate(), Err(Error::ForwardMismatch { upstream: 2, downstream: 3, .. })));
        let mut bad = graph();
        bad.vertices[0].parallelism = 0;
        assert!(matches!(bad.validate(), Err(Error::Parallelism { .. })));
        let mut bad = graph();
        bad.edges[0].target = JobVertexId(9);
        assert_eq!(bad.validate(), Err(Error::UnknownVertex { vertex: JobVertexId(9) }));
    }
}
