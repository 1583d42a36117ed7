//! Which slot runs which sub-task.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use tidemill_model::execution::{Schedule, ScheduledAttempt, TaskManagerLocation};
use tidemill_model::id::{AttemptNumber, ExecutionVertexId, SubtaskIndex, TaskManagerId};
use tidemill_model::job_graph::{JobGraph, SlotSharingGroup};
use tidemill_model::slot::SlotId;

/// A slot of a job: which of the slots of which slot sharing group.
pub(crate) type SlotKey = (SlotSharingGroup, u32);

/// The slots that a job holds.
pub(crate) type HeldSlots = BTreeMap<SlotKey, SlotId>;

/// Puts sub-task i of every vertex of a slot sharing group into the group's slot i: a record that is not re-partitioned
/// stays in its slot. Only the sub-tasks that await an attempt are placed.
///
/// Co-location holds by construction: co-located vertices are of one slot sharing group and equal parallelism
/// ([`JobGraph::validate`]), so that their i-th sub-tasks are in the same slot anyway.
///
/// `held` has the slot of each of these sub-tasks, `locations` its task manager.
#[must_use]
pub(crate) fn place(
    graph: &JobGraph,
    attempt: AttemptNumber,
    awaiting: &BTreeSet<ExecutionVertexId>,
    held: &HeldSlots,
    locations: &BTreeMap<TaskManagerId, TaskManagerLocation>,
) -> Schedule {
    let mut schedule = Schedule::default();
    for vertex in &graph.vertices {
        for index in 0..vertex.parallelism {
            let id = ExecutionVertexId { vertex: vertex.id, subtask: SubtaskIndex(index) };
            let slot = held.get(&(vertex.slot_sharing_group.clone(), index)).filter(|_| awaiting.contains(&id));
            if let Some(&slot) = slot {
                schedule.attempts.insert(id, ScheduledAttempt { attempt, slot });
                let location = locations.get(&slot.task_manager);
                schedule.task_managers.extend(location.map(|location| (slot.task_manager, location.clone())));
            }
        }
    }
    schedule
}
