//! Which slot runs which sub-task.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use tidemill_model::execution::{Schedule, ScheduledAttempt, TaskManagerLocation};
use tidemill_model::id::{AttemptNumber, ExecutionVertexId, SubtaskIndex, TaskManagerId};
use tidemill_model::job_graph::{JobGraph, SlotSharingGroup};
use tidemill_model::slot::SlotId;

/// Gives each slot sharing group slots of its own, and puts sub-task i of every vertex of a group into the group's slot
/// i: a record that is not re-partitioned stays in its slot.
///
/// Co-location holds by construction: co-located vertices are of one slot sharing group and equal parallelism
/// ([`JobGraph::validate`]), so that their i-th sub-tasks are in the same slot anyway.
///
/// `slots` has at least [`JobGraph::slots_needed`] entries, `locations` the task manager of each.
#[must_use]
pub fn place(
    graph: &JobGraph,
    attempt: AttemptNumber,
    slots: &[SlotId],
    locations: &BTreeMap<TaskManagerId, TaskManagerLocation>,
) -> Schedule {
    let mut schedule = Schedule::default();
    let by_group = divide(graph, slots);
    for vertex in &graph.vertices {
        for (index, &slot) in (0..vertex.parallelism).zip(by_group[&vertex.slot_sharing_group]) {
            let id = ExecutionVertexId { vertex: vertex.id, subtask: SubtaskIndex(index) };
            schedule.attempts.insert(id, ScheduledAttempt { attempt, slot });
        }
    }
    let used: BTreeSet<TaskManagerId> =
        schedule.attempts.values().map(|scheduled| scheduled.slot.task_manager).collect();
    schedule.task_managers =
        locations.iter().filter(|(id, _)| used.contains(id)).map(|(&id, location)| (id, location.clone())).collect();
    schedule
}

/// The slots of each group: consecutive ones, since the pool deals them out evenly over the task managers.
fn divide<'a>(graph: &JobGraph, mut slots: &'a [SlotId]) -> BTreeMap<SlotSharingGroup, &'a [SlotId]> {
    let mut by_group = BTreeMap::new();
    for (group, count) in graph.slot_requirements().0 {
        let (own, others) = slots.split_at(usize::try_from(count).expect("u32 fits usize"));
        by_group.insert(group, own);
        slots = others;
    }
    by_group
}
