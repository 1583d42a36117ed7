//! The leader's view of all slots: who holds which, and who waits for how many.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidemill_model::id::{JobId, TaskManagerId};
use tidemill_model::job_graph::SlotRequirements;
use tidemill_model::mutant::{self, Mutant};
use tidemill_model::slot::SlotId;

/// One request of a job for slots: its later ones have greater numbers. 0 stands for the replicated schedule, by which a
/// job holds slots without having asked this leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct SlotRequestId(pub u64);

/// Slots given to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// To whom.
    pub job: JobId,
    /// Which of its requests this answers.
    pub request: SlotRequestId,
    /// Which.
    pub slots: Vec<SlotId>,
}

/// Which task manager gives the next slot, among those that are as close to the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlotPlacement {
    /// The one with the most free slots: work is spread over all.
    #[default]
    Spread,
    /// The one with the fewest free slots: few are filled, and others can be taken away.
    Pack,
}

/// A job that waits: what it wants, and where the sub-tasks of each slot last were, in the order of the grant.
#[derive(Debug, Clone)]
struct Waiting {
    asking: Allocation,
    requirements: SlotRequirements,
    former: Vec<Option<TaskManagerId>>,
}

/// Who has a slot, or waits for some, and by which of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Allocation {
    job: JobId,
    request: SlotRequestId,
}

/// Registered task managers' slots, allocations, and waiting jobs in the order of their requests.
#[derive(Debug, Clone, Default)]
pub struct SlotPool {
    placement: SlotPlacement,
    /// Of task managers whose stream stands.
    offers: BTreeMap<TaskManagerId, u32>,
    /// Those that give no slots, whether they are here or not.
    draining: BTreeSet<TaskManagerId>,
    /// May name slots of task managers that have not registered with this leader yet.
    allocated: BTreeMap<SlotId, Allocation>,
    /// What jobs want beside what they hold. Invariant: a job waits at most once.
    waiting: VecDeque<Waiting>,
    /// How many at the end of `waiting` have not been looked at since slots last became free.
    untried: usize,
}

impl SlotPool {
    /// Chooses slots like this from now on.
    pub fn set_placement(&mut self, placement: SlotPlacement) {
        self.placement = placement;
    }

    /// Notes that a job holds a slot, as the replicated schedule says.
    pub fn adopt(&mut self, slot: SlotId, job: JobId) {
        self.allocated.insert(slot, Allocation { job, request: SlotRequestId::default() });
    }

    /// A task manager offers its slots.
    pub fn offer(&mut self, task_manager: TaskManagerId, count: u32) {
        self.offers.insert(task_manager, count);
        self.untried = self.waiting.len();
    }

    /// A task manager gives no slots from now on, or gives them again. Jobs keep what they hold there.
    pub fn set_draining(&mut self, task_manager: TaskManagerId, draining: bool) {
        if draining {
            self.draining.insert(task_manager);
        } else if self.draining.remove(&task_manager) {
            self.untried = self.waiting.len();
        }
    }

    /// The jobs that hold slots of a task manager.
    #[must_use]
    pub fn jobs_on(&self, task_manager: TaskManagerId) -> BTreeSet<JobId> {
        let here = self.allocated.iter().filter(|(slot, _)| slot.task_manager == task_manager);
        here.map(|(_, holder)| holder.job).collect()
    }

    /// A task manager's stream broke: jobs keep its slots, but nobody gets new ones before it has reported again. (A
    /// job's master may not know it yet, and would only give them back.)
    pub fn suspend(&mut self, task_manager: TaskManagerId) {
        self.offers.remove(&task_manager);
    }

    /// A task manager is gone, with its slots.
    pub fn withdraw(&mut self, task_manager: TaskManagerId) {
        self.offers.remove(&task_manager);
        self.allocated.retain(|slot, _| slot.task_manager != task_manager);
    }

    /// A job asks for slots beside those that it holds, for all its slot sharing groups at once or none. A later request
    /// replaces the job's earlier one; one for no slots withdraws it.
    ///
    /// `former` names for each slot, in the order of the grant, the task manager that has its sub-tasks' local state.
    pub fn request(
        &mut self,
        job: JobId,
        request: SlotRequestId,
        requirements: SlotRequirements,
        former: Vec<Option<TaskManagerId>>,
    ) {
        self.waiting.retain(|waiting| waiting.asking.job != job);
        self.untried = self.untried.min(self.waiting.len());
        if requirements.total() == 0 {
            return;
        }
        self.waiting.push_back(Waiting { asking: Allocation { job, request }, requirements, former });
        // A repeated request may have replaced one that nobody had looked at.
        self.untried = (self.untried + 1).min(self.waiting.len());
    }

    /// A job's master begins anew and has asked for nothing yet: what the job holds, each slot with the request that brought
    /// it, and the last request known.
    pub fn begin_again(&mut self, job: JobId) -> (BTreeMap<SlotId, SlotRequestId>, SlotRequestId) {
        let own = |holder: &Allocation| (holder.job == job).then_some(holder.request);
        let held = self.allocated.iter().filter_map(|(&slot, holder)| Some((slot, own(holder)?)));
        let held: BTreeMap<SlotId, SlotRequestId> = held.collect();
        let waited = self.waiting.iter().filter_map(|waiting| own(&waiting.asking));
        let last = held.values().copied().chain(waited).max().unwrap_or_default();
        self.waiting.retain(|waiting| waiting.asking.job != job);
        self.untried = self.untried.min(self.waiting.len());
        (held, last)
    }

    /// A job gives back slots that it has no use for, each by the request that brought it: a slot that has come to it anew
    /// meanwhile, with its task manager, is its own still.
    pub fn give_back(&mut self, job: JobId, slots: &BTreeMap<SlotId, SlotRequestId>) {
        let held = self.allocated.len();
        let returned =
            |slot: &SlotId, holder: &Allocation| holder.job == job && slots.get(slot) == Some(&holder.request);
        self.allocated.retain(|slot, holder| !returned(slot, holder));
        if held != self.allocated.len() {
            self.untried = self.waiting.len();
        }
    }

    /// A job gives back what it holds and stops waiting.
    pub fn release(&mut self, job: JobId) {
        let (held, waited) = (self.allocated.len(), self.waiting.len());
        self.allocated.retain(|_, holder| holder.job != job);
        self.waiting.retain(|waiting| waiting.asking.job != job);
        if (held, waited) != (self.allocated.len(), self.waiting.len()) {
            self.untried = self.waiting.len();
        }
    }

    /// Grants what can be granted, first come first served; a small request may overtake one that cannot be met.
    pub fn grant(&mut self) -> Vec<Grant> {
        let mut grants = Vec::new();
        let untried = std::mem::take(&mut self.untried);
        if untried == 0 {
            return grants;
        }
        let mut free = self.grantable().count();
        // The others were looked at when as many slots were free, or more.
        for waiting in self.waiting.split_off(self.waiting.len() - untried) {
            let wanted = usize::try_from(waiting.requirements.total()).unwrap_or(usize::MAX);
            if free < wanted {
                self.waiting.push_back(waiting);
                continue;
            }
            let asking = waiting.asking;
            let slots = self.choose(asking.job, wanted, &waiting.former);
            free -= wanted;
            self.allocated.extend(slots.iter().map(|&slot| (slot, asking)));
            grants.push(Grant { job: asking.job, request: asking.request, slots });
        }
        grants
    }

    /// Up to `count` free slots: each where its sub-tasks were before, and have left their state; else on task managers that
    /// host the job already, where its inputs are; else as the placement says.
    fn choose(&self, job: JobId, count: usize, former: &[Option<TaskManagerId>]) -> Vec<SlotId> {
        let hosts: BTreeSet<TaskManagerId> =
            self.allocated.iter().filter(|(_, holder)| holder.job == job).map(|(slot, _)| slot.task_manager).collect();
        let mut free: BTreeMap<TaskManagerId, VecDeque<SlotId>> = BTreeMap::new();
        for slot in self.grantable() {
            free.entry(slot.task_manager).or_default().push_back(slot);
        }
        let mut chosen: Vec<Option<SlotId>> = vec![None; count];
        for (slot, former) in chosen.iter_mut().zip(former) {
            *slot = former.and_then(|task_manager| free.get_mut(&task_manager)?.pop_front());
        }
        free.retain(|_, slots| !slots.is_empty());
        for slot in chosen.iter_mut().filter(|slot| slot.is_none()) {
            let best = free.iter().min_by_key(|(id, slots)| {
                let rank = match self.placement {
                    SlotPlacement::Spread => usize::MAX - slots.len(),
                    SlotPlacement::Pack => slots.len(),
                };
                (!hosts.contains(id), rank)
            });
            let Some(task_manager) = best.map(|(&id, _)| id) else { break };
            let Some(slots) = free.get_mut(&task_manager) else { break };
            *slot = slots.pop_front();
            if slots.is_empty() {
                free.remove(&task_manager);
            }
        }
        chosen.into_iter().flatten().collect()
    }

    fn free(&self) -> impl Iterator<Item = SlotId> + '_ {
        self.offers
            .iter()
            .flat_map(|(&task_manager, &count)| (0..count).map(move |index| SlotId { task_manager, index }))
            .filter(|slot| !self.allocated.contains_key(slot))
    }

    /// The free slots that may be given to a job.
    fn grantable(&self) -> impl Iterator<Item = SlotId> + '_ {
        let drains = |slot: &SlotId| self.draining.contains(&slot.task_manager);
        self.free().filter(move |slot| !drains(slot) || mutant::active(Mutant::DrainingGivesSlots))
    }

    /// How many slots of a task manager nobody holds.
    #[must_use]
    pub fn free_of(&self, task_manager: TaskManagerId) -> u32 {
        let free = self.free().filter(|slot| slot.task_manager == task_manager).count();
        u32::try_from(free).unwrap_or(u32::MAX)
    }

    /// Each waiting job with what it lacks, in words.
    #[must_use]
    pub fn missing(&self) -> Vec<(JobId, String)> {
        let free = self.grantable().count();
        let offers = self.offers.iter().filter(|(id, _)| !self.draining.contains(*id));
        let (task_managers, total) = offers.fold((0, 0), |(count, total), (_, slots)| (count + 1, total + slots));
        let reason = |requirements: &SlotRequirements| {
            let fewer_groups = if requirements.0.len() > 1 { " or fewer slot sharing groups" } else { "" };
            format!(
                "needs {requirements}; {free} of {total} are free on {task_managers} task managers: add task managers, wait for \
                 other jobs to end, or submit with a lower parallelism{fewer_groups}"
            )
        };
        self.waiting.iter().map(|waiting| (waiting.asking.job, reason(&waiting.requirements))).collect()
    }
}
