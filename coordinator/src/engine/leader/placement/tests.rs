//! Who shares a slot with whom.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect;
use tidemill_model::execution::Schedule;
use tidemill_model::id::{AttemptNumber, JobVertexId, SubtaskIndex};
use tidemill_model::job_graph::{CoLocationGroup, JobGraph, JobVertex, SlotSharingGroup};
use tidemill_model::slot::SlotId;

use crate::engine::fixture::{place_all, spec, task_manager};
use crate::engine::leader::slot_pool::{SlotPool, SlotRequestId};

/// A vertex of each given group and parallelism, unconnected.
fn graph(vertices: &[(&str, u32)]) -> JobGraph {
    let template = spec(5).graph.vertices[0].clone();
    let vertex = |(id, &(group, parallelism)): (u32, &(&str, u32))| JobVertex {
        id: JobVertexId(id),
        parallelism,
        slot_sharing_group: SlotSharingGroup(group.into()),
        ..template.clone()
    };
    JobGraph { vertices: (0..).zip(vertices).map(vertex).collect(), edges: vec![] }
}

/// The graph on what a pool grants of `count` slots on each of task managers 1 to `hosts`.
fn schedule(graph: &JobGraph, hosts: u128, count: u32) -> Schedule {
    let mut pool = SlotPool::default();
    (1..=hosts).for_each(|n| pool.offer(task_manager(n).id, count));
    pool.request(spec(5).id, SlotRequestId(1), graph.slot_requirements(), vec![]);
    let grants = pool.grant();
    let locations = (1..=hosts).map(|n| (task_manager(n).id, task_manager(n))).collect();
    place_all(graph, AttemptNumber(0), &grants[0].slots, &locations)
}

/// The groups that have sub-tasks in each slot, with the sub-tasks' indices.
fn tenants(graph: &JobGraph, schedule: &Schedule) -> BTreeMap<SlotId, BTreeSet<(SlotSharingGroup, SubtaskIndex)>> {
    let mut tenants: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (vertex, scheduled) in &schedule.attempts {
        let group = graph.vertex(vertex.vertex).unwrap().slot_sharing_group.clone();
        tenants.entry(scheduled.slot).or_default().insert((group, vertex.subtask));
    }
    tenants
}

#[test]
fn each_group_has_slots_of_its_own_and_its_members_share_them() {
    let graph = graph(&[("default", 1), ("wide", 3), ("default", 2), ("wide", 2)]);
    expect!["v0[0]#0@tm-1/0 v1[0]#0@tm-1/1 v1[1]#0@tm-2/1 v1[2]#0@tm-1/2 v2[0]#0@tm-1/0 v2[1]#0@tm-2/0 v3[0]#0@tm-1/1 v3[1]#0@tm-2/1"]
    .assert_eq(&schedule(&graph, 2, 3).to_string());
}

#[test]
fn several_groups_may_be_on_one_task_manager() {
    let graph = graph(&[("default", 2), ("wide", 1)]);
    let schedule = schedule(&graph, 1, 3);
    assert_eq!(schedule.to_string(), "v0[0]#0@tm-1/0 v0[1]#0@tm-1/1 v1[0]#0@tm-1/2");
    assert_eq!(schedule.task_managers.len(), 1);
}

#[test]
fn a_slot_serves_one_group_and_one_index_for_all_sizes() {
    for (first, second, third) in (1..=4).flat_map(|a| (1..=4).flat_map(move |b| (1..=4).map(move |c| (a, b, c)))) {
        let graph = graph(&[("default", first), ("wide", second), ("default", third)]);
        let schedule = schedule(&graph, 3, 3);
        assert_eq!(schedule.attempts.len(), graph.execution_vertices().count());
        let tenants = tenants(&graph, &schedule);
        assert!(tenants.values().all(|served| served.len() == 1), "{schedule}");
        let expected = usize::try_from(graph.slots_needed()).unwrap();
        assert_eq!(tenants.len(), expected, "members of one group share their slots: {schedule}");
    }
}

#[test]
fn co_located_subtasks_are_in_the_same_slot() {
    let mut graph = graph(&[("default", 2), ("wide", 3), ("wide", 3)]);
    for vertex in &mut graph.vertices[1..] {
        vertex.co_location_group = Some(CoLocationGroup("pair".into()));
    }
    assert_eq!(graph.validate(), Ok(()));
    let schedule = schedule(&graph, 2, 3);
    let slots = |vertex: u32| {
        let of_vertex = schedule.attempts.iter().filter(move |(id, _)| id.vertex == JobVertexId(vertex));
        of_vertex.map(|(_, scheduled)| scheduled.slot).collect::<Vec<_>>()
    };
    assert_eq!(slots(1), slots(2));
}
