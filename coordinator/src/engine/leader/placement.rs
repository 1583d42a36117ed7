//! Which slot runs which sub-task.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_model::execution::{Schedule, ScheduledAttempt, TaskManagerLocation};
use tidemill_model::id::{AttemptNumber, TaskManagerId};
use tidemill_model::job_graph::JobGraph;
use tidemill_model::slot::SlotId;

/// Puts sub-task i of every vertex into slot i (slot sharing): a record that is not re-partitioned stays in its slot.
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
    for vertex in graph.execution_vertices() {
        let index = usize::try_from(vertex.subtask.0).expect("u32 fits usize");
        schedule.attempts.insert(vertex, ScheduledAttempt { attempt, slot: slots[index] });
    }
    let used: BTreeSet<TaskManagerId> =
        schedule.attempts.values().map(|scheduled| scheduled.slot.task_manager).collect();
    schedule.task_managers =
        locations.iter().filter(|(id, _)| used.contains(id)).map(|(&id, location)| (id, location.clone())).collect();
    schedule
}
