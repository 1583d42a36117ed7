//! Task managers that drain: what runs there moves to others as soon as these have room for it.

use std::collections::BTreeSet;

use tidemill_model::id::{ExecutionVertexId, TaskManagerId};
use tidemill_model::slot::SlotId;

use super::{JobMaster, JobMasterAction};
use crate::engine::replicated::CommandBody;

impl JobMaster {
    /// A task manager is to be left, or may be used again.
    pub(super) fn draining_changed(
        &mut self,
        task_manager: TaskManagerId,
        draining: bool,
        actions: &mut Vec<JobMasterAction>,
    ) {
        if draining {
            self.draining.insert(task_manager);
        } else if self.draining.remove(&task_manager) {
            // Slots elsewhere that the job got for a move which is off now.
            self.slots.hold_scheduled(&self.job);
            self.return_surplus(actions);
        }
    }

    /// A slot that the job may put something into: of a task manager that is here and is not to be left.
    pub(super) fn usable(&self, slot: SlotId) -> bool {
        self.registered.contains_key(&slot.task_manager) && !self.draining.contains(&slot.task_manager)
    }

    /// Has what runs on draining task managers replaced, with the regions that it is in, once there are slots elsewhere for
    /// all of it. Until then it runs on where it is.
    pub(super) fn drive_relocation(&mut self, actions: &mut Vec<JobMasterAction>) {
        // Attempts that were adopted and then move at once would count as restarted by the takeover.
        let idle = self.draining.is_empty() && !self.slots.are_awaited();
        if idle || self.reconciliation.is_some() {
            return;
        }
        let leaving = self.leaving();
        if leaving.is_empty() {
            return self.withdraw_request(actions);
        }
        let missing = self.missing_slots(&self.job.spec.graph.regions_of(&leaving));
        if missing.is_empty() {
            self.withdraw_request(actions);
            let job = self.job.spec.id;
            let reason = self.draining_names(&leaving);
            return self.decide(CommandBody::Relocate { job, leaving, reason }, actions);
        }
        self.request_missing(missing, actions);
    }

    /// The sub-tasks that run on draining task managers. What has finished needs no other place.
    fn leaving(&self) -> BTreeSet<ExecutionVertexId> {
        let Some(schedule) = &self.job.schedule else { return BTreeSet::new() };
        let live = |vertex: &ExecutionVertexId| self.executions.get(vertex).is_some_and(|state| !state.is_terminal());
        let drains = schedule.attempts.iter().filter(|(_, at)| self.draining.contains(&at.slot.task_manager));
        drains.map(|(&vertex, _)| vertex).filter(live).collect()
    }

    /// Which task managers these leave, in words.
    fn draining_names(&self, leaving: &BTreeSet<ExecutionVertexId>) -> String {
        let attempts = self.job.schedule.iter().flat_map(|schedule| &schedule.attempts);
        let hosts: BTreeSet<TaskManagerId> =
            attempts.filter(|(vertex, _)| leaving.contains(vertex)).map(|(_, at)| at.slot.task_manager).collect();
        let names: Vec<String> = hosts.into_iter().filter_map(|id| self.name_of(id)).map(ToString::to_string).collect();
        match &names[..] {
            [name] => format!("task manager {name} is draining"),
            _ => format!("task managers {} are draining", names.join(", ")),
        }
    }
}
