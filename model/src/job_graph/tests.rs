//! What a graph says of itself, and what is wrong with others.

use super::*;
use expect_test::{Expect, expect};

fn vertex(id: u32, name: &str, parallelism: u32) -> JobVertex {
    let operators = vec![OperatorDescriptor { name: name.into(), uid: format!("{name}-{id}") }];
    let id = JobVertexId(id);
    JobVertex {
        id,
        operators,
        parallelism,
        max_parallelism: 128,
        record_types: vec!["u64".into()],
        slot_sharing_group: SlotSharingGroup::default(),
        co_location_group: None,
    }
}

fn edge(source: u32, target: u32, partitioning: Partitioning) -> JobEdge {
    JobEdge { source: JobVertexId(source), target: JobVertexId(target), partitioning }
}

fn sharing(name: &str) -> SlotSharingGroup {
    SlotSharingGroup(name.into())
}

/// Three vertices of parallelism 2, 3 and 3; the last two are of the group "wide" and co-located.
fn grouped() -> JobGraph {
    let mut graph = graph();
    graph.vertices.push(vertex(2, "Sink", 3));
    graph.edges.push(edge(1, 2, Partitioning::Rescale));
    for vertex in &mut graph.vertices[1..] {
        vertex.slot_sharing_group = sharing("wide");
        vertex.co_location_group = Some(CoLocationGroup("pair".into()));
    }
    graph
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
    change(|graph| graph.vertices[0].slot_sharing_group = sharing("wide"));
    change(|graph| graph.vertices[0].co_location_group = Some(CoLocationGroup("pair".into())));
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

#[test]
fn the_plan_shows_groups_that_somebody_named() {
    expect![[r#"
        v0: Source (parallelism 2)
        v1: Sum (parallelism 3, slot sharing group "wide", co-location group "pair") <- HASH v0
        v2: Sink (parallelism 3, slot sharing group "wide", co-location group "pair") <- RESCALE v1
    "#]]
    .assert_eq(&grouped().to_string());
    assert_eq!(grouped().validate(), Ok(()));
}

#[test]
fn a_job_needs_the_largest_parallelism_of_each_slot_sharing_group() {
    assert_eq!(graph().slot_requirements().to_string(), "3 slots");
    assert_eq!(grouped().slot_requirements().to_string(), r#"5 slots (2 for "default", 3 for "wide")"#);
    assert_eq!(grouped().slots_needed(), 5);
    assert_eq!(JobGraph::default().slots_needed(), 0);
}

#[test]
fn the_requirements_of_many_groups_stay_readable() {
    let requirements = SlotRequirements((0..11).map(|number| (sharing(&format!("g{number:02}")), 2)).collect());
    expect![[
        r#"22 slots (2 for "g00", 2 for "g01", 2 for "g02", 2 for "g03", 2 for "g04", 2 for "g05", 2 for "g06", 2 for "g07", 6 for 3 more groups)"#
    ]]
    .assert_eq(&requirements.to_string());
}

#[test]
fn co_located_vertices_share_slots_and_have_equal_parallelism() {
    let check = |bad: &JobGraph, expected: Expect| expected.assert_eq(&bad.validate().unwrap_err().to_string());
    let mut bad = grouped();
    bad.vertices[2].slot_sharing_group = SlotSharingGroup::default();
    check(
        &bad,
        expect![[
            r#"check job graph: vertices v1 and v2 are co-located by "pair", but their slot sharing groups are "wide" and "default"; put both into one"#
        ]],
    );
    let mut bad = grouped();
    bad.vertices[2].parallelism = 4;
    check(
        &bad,
        expect![[
            r#"check job graph: vertices v1 and v2 are co-located by "pair", but their parallelism is 3 and 4; give both the same"#
        ]],
    );
}

#[test]
fn a_group_has_a_name_that_people_can_read() {
    for name in ["", "a\nb", &"x".repeat(256)] {
        let mut bad = graph();
        bad.vertices[1].slot_sharing_group = sharing(name);
        let expected = Err(Error::GroupName { vertex: JobVertexId(1), name: name.into() });
        assert_eq!(bad.validate(), expected);
        let mut bad = graph();
        bad.vertices[1].co_location_group = Some(CoLocationGroup(name.into()));
        assert_eq!(bad.validate(), expected);
    }
}
