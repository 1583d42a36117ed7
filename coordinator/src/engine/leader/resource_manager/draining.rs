//! Task managers that are to be left: who is told, and how a job hears why it waits.

use std::collections::BTreeMap;

use tidemill_model::id::{JobId, TaskManagerId};

use super::{ResourceManager, ResourceManagerAction};

impl ResourceManager {
    /// These drain already.
    #[must_use]
    pub fn with_draining(mut self, draining: impl IntoIterator<Item = TaskManagerId>) -> Self {
        for task_manager in draining {
            self.draining.insert(task_manager);
            self.pool.set_draining(task_manager, true);
        }
        self
    }

    /// Why each waiting job waits. One that runs waits to leave task managers that drain.
    #[must_use]
    pub fn waiting(&self) -> BTreeMap<JobId, String> {
        let here = self.draining.iter().filter_map(|id| self.task_managers.get(id));
        let names: Vec<String> = here.map(|known| known.hello.location.name.to_string()).collect();
        let draining = match &names[..] {
            [] => String::new(),
            [name] => format!("; task manager {name} is draining and gives none"),
            _ => format!("; task managers {} are draining and give none", names.join(", ")),
        };
        self.pool.missing().into_iter().map(|(job, missing)| (job, missing + &draining)).collect()
    }

    pub(super) fn set_draining(&mut self, id: TaskManagerId, draining: bool, actions: &mut Vec<ResourceManagerAction>) {
        let changed = if draining { self.draining.insert(id) } else { self.draining.remove(&id) };
        if changed {
            self.pool.set_draining(id, draining);
            let tell = |&job| ResourceManagerAction::DrainingChanged { job, task_manager: id, draining };
            actions.extend(self.jobs.keys().map(tell));
        }
    }
}
