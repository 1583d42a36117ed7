//! The leader's view of all slots: who holds which, and who waits for how many.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidemill_model::id::{JobId, TaskManagerId};
use tidemill_model::job_graph::SlotRequirements;
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
    waiting: VecDeque<(Allocation, SlotRequirements)>,
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
    pub fn request(&mut self, job: JobId, request: SlotRequestId, requirements: SlotRequirements) {
        self.waiting.retain(|(waiting, _)| waiting.job != job);
        self.untried = self.untried.min(self.waiting.len());
        if requirements.total() == 0 {
            return;
        }
        self.waiting.push_back((Allocation { job, request }, requirements));
        // A repeated request may have replaced one that nobody had looked at.
        self.untried = (self.untried + 1).min(self.waiting.len());
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
        self.waiting.retain(|(waiting, _)| waiting.job != job);
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
        for (asking, requirements) in self.waiting.split_off(self.waiting.len() - untried) {
            let wanted = usize::try_from(requirements.total()).unwrap_or(usize::MAX);
            if free < wanted {
                self.waiting.push_back((asking, requirements));
                continue;
            }
            let slots = self.choose(asking.job, requirements.total());
            free -= wanted;
            self.allocated.extend(slots.iter().map(|&slot| (slot, asking)));
            grants.push(Grant { job: asking.job, request: asking.request, slots });
        }
        grants
    }

    /// Up to `count` free slots: on task managers that host the job already, where its inputs are, before others.
    fn choose(&self, job: JobId, count: u32) -> Vec<SlotId> {
        let hosts: BTreeSet<TaskManagerId> =
            self.allocated.iter().filter(|(_, holder)| holder.job == job).map(|(slot, _)| slot.task_manager).collect();
        let mut free: BTreeMap<TaskManagerId, VecDeque<SlotId>> = BTreeMap::new();
        for slot in self.grantable() {
            free.entry(slot.task_manager).or_default().push_back(slot);
        }
        let mut chosen = Vec::new();
        for _ in 0..count {
            let best = free.iter().min_by_key(|(id, slots)| {
                let rank = match self.placement {
                    SlotPlacement::Spread => usize::MAX - slots.len(),
                    SlotPlacement::Pack => slots.len(),
                };
                (!hosts.contains(id), rank)
            });
            let Some(task_manager) = best.map(|(&id, _)| id) else { break };
            let Some(slots) = free.get_mut(&task_manager) else { break };
            chosen.extend(slots.pop_front());
            if slots.is_empty() {
                free.remove(&task_manager);
            }
        }
        chosen
    }

    fn free(&self) -> impl Iterator<Item = SlotId> + '_ {
        self.offers
            .iter()
            .flat_map(|(&task_manager, &count)| (0..count).map(move |index| SlotId { task_manager, index }))
            .filter(|slot| !self.allocated.contains_key(slot))
    }

    /// The free slots that may be given to a job.
    fn grantable(&self) -> impl Iterator<Item = SlotId> + '_ {
        self.free().filter(|slot| !self.draining.contains(&slot.task_manager))
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
        self.waiting.iter().map(|(waiting, requirements)| (waiting.job, reason(requirements))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use tidemill_model::job_graph::SlotSharingGroup;
    use uuid::Uuid;

    const FIRST: SlotRequestId = SlotRequestId(1);

    fn tm(n: u128) -> TaskManagerId {
        TaskManagerId(Uuid::from_u128(n))
    }

    fn job(n: u128) -> JobId {
        JobId(Uuid::from_u128(n))
    }

    fn slot(n: u128, index: u32) -> SlotId {
        SlotId { task_manager: tm(n), index }
    }

    fn slots(count: u32) -> SlotRequirements {
        SlotRequirements([(SlotSharingGroup::default(), count)].into())
    }

    fn groups(first: u32, second: u32) -> SlotRequirements {
        let group = |name: &str, count| (SlotSharingGroup(name.into()), count);
        SlotRequirements([group("default", first), group("wide", second)].into())
    }

    #[test]
    fn slots_are_spread_over_task_managers() {
        let mut pool = SlotPool::default();
        pool.offer(tm(1), 2);
        pool.offer(tm(2), 2);
        pool.request(job(1), FIRST, slots(3));
        assert_eq!(
            pool.grant(),
            vec![Grant { job: job(1), request: FIRST, slots: vec![slot(1, 0), slot(2, 0), slot(1, 1)] }]
        );
        assert_eq!((pool.free_of(tm(1)), pool.free_of(tm(2))), (0, 1));
    }

    #[test]
    fn a_request_that_is_repeated_before_it_is_looked_at_counts_once() {
        let mut pool = SlotPool::default();
        pool.request(job(1), FIRST, slots(1));
        pool.request(job(1), SlotRequestId(2), slots(2));
        pool.offer(tm(1), 2);
        pool.request(job(1), SlotRequestId(3), slots(1));
        assert_eq!(pool.grant(), vec![Grant { job: job(1), request: SlotRequestId(3), slots: vec![slot(1, 0)] }]);
    }

    #[test]
    fn a_request_that_is_withdrawn_is_not_met() {
        let mut pool = SlotPool::default();
        pool.request(job(1), FIRST, slots(2));
        pool.request(job(1), SlotRequestId(2), SlotRequirements::default());
        pool.offer(tm(1), 2);
        assert_eq!((pool.grant(), pool.missing()), (vec![], vec![]));
    }

    #[test]
    fn a_slot_that_is_given_back_goes_to_who_waits_for_it() {
        let mut pool = SlotPool::default();
        pool.offer(tm(1), 2);
        pool.request(job(1), FIRST, slots(2));
        pool.request(job(2), FIRST, slots(1));
        assert_eq!(pool.grant().len(), 1);
        pool.give_back(job(2), &[(slot(1, 1), FIRST)].into());
        assert_eq!(pool.grant(), vec![], "nobody gives back what another one holds");
        pool.give_back(job(1), &[(slot(1, 1), FIRST)].into());
        assert_eq!(pool.grant(), vec![Grant { job: job(2), request: FIRST, slots: vec![slot(1, 1)] }]);
    }

    #[test]
    fn a_slot_that_came_anew_with_its_task_manager_is_not_given_back_by_an_older_request() {
        let mut pool = SlotPool::default();
        pool.offer(tm(1), 1);
        pool.request(job(1), FIRST, slots(1));
        pool.grant();
        pool.withdraw(tm(1));
        pool.request(job(1), SlotRequestId(2), slots(1));
        pool.offer(tm(1), 1);
        pool.grant();
        pool.give_back(job(1), &[(slot(1, 0), FIRST)].into());
        assert_eq!(pool.free_of(tm(1)), 0);
    }

    #[test]
    fn a_draining_task_manager_gives_no_slots_and_its_jobs_keep_theirs() {
        let mut pool = SlotPool::default();
        pool.offer(tm(1), 2);
        pool.request(job(1), FIRST, slots(1));
        assert_eq!(pool.grant().len(), 1);
        pool.set_draining(tm(1), true);
        pool.request(job(2), FIRST, slots(1));
        assert_eq!(pool.grant(), vec![]);
        let missing = pool.missing();
        assert!(missing[0].1.starts_with("needs 1 slots; 0 of 0 are free on 0 task managers"), "{}", missing[0].1);
        assert_eq!((pool.free_of(tm(1)), pool.jobs_on(tm(1))), (1, [job(1)].into()));
        pool.set_draining(tm(1), false);
        assert_eq!(pool.grant(), vec![Grant { job: job(2), request: FIRST, slots: vec![slot(1, 1)] }]);
    }

    #[test]
    fn packed_slots_fill_the_fullest_task_manager_first() {
        let mut pool = SlotPool::default();
        pool.set_placement(SlotPlacement::Pack);
        pool.offer(tm(1), 3);
        pool.offer(tm(2), 2);
        pool.request(job(1), FIRST, slots(3));
        assert_eq!(
            pool.grant(),
            vec![Grant { job: job(1), request: FIRST, slots: vec![slot(2, 0), slot(2, 1), slot(1, 0)] }]
        );
    }

    #[test]
    fn a_job_that_asks_for_more_gets_it_where_it_is_already() {
        for placement in [SlotPlacement::Spread, SlotPlacement::Pack] {
            let mut pool = SlotPool::default();
            pool.set_placement(placement);
            pool.adopt(slot(2, 0), job(1));
            pool.adopt(slot(3, 0), job(2));
            (1..=3).for_each(|n| pool.offer(tm(n), 3));
            pool.request(job(1), FIRST, slots(2));
            let granted = Grant { job: job(1), request: FIRST, slots: vec![slot(2, 1), slot(2, 2)] };
            assert_eq!(pool.grant(), vec![granted], "{placement:?}");
        }
    }

    #[test]
    fn a_job_waits_for_all_its_slots_and_says_what_is_missing() {
        let mut pool = SlotPool::default();
        pool.offer(tm(1), 1);
        pool.request(job(1), FIRST, slots(2));
        pool.request(job(2), FIRST, slots(1));
        assert_eq!(pool.grant(), vec![Grant { job: job(2), request: FIRST, slots: vec![slot(1, 0)] }]);
        let missing = pool.missing();
        assert_eq!(missing.len(), 1);
        assert!(missing[0].1.starts_with("needs 2 slots; 0 of 1 are free on 1 task managers"), "{}", missing[0].1);
        pool.offer(tm(2), 2);
        assert_eq!(pool.grant(), vec![Grant { job: job(1), request: FIRST, slots: vec![slot(2, 0), slot(2, 1)] }]);
    }

    #[test]
    fn a_later_request_is_met_at_once_and_earlier_ones_when_slots_become_free() {
        let mut pool = SlotPool::default();
        pool.offer(tm(1), 1);
        pool.request(job(1), FIRST, slots(2));
        pool.request(job(2), FIRST, slots(3));
        assert_eq!(pool.grant(), vec![]);
        pool.request(job(3), FIRST, slots(1));
        assert_eq!(pool.grant(), vec![Grant { job: job(3), request: FIRST, slots: vec![slot(1, 0)] }]);
        assert_eq!(pool.grant(), vec![]);
        pool.offer(tm(2), 1);
        assert_eq!(pool.grant(), vec![]);
        pool.release(job(3));
        assert_eq!(pool.grant(), vec![Grant { job: job(1), request: FIRST, slots: vec![slot(1, 0), slot(2, 0)] }]);
        let waiting: Vec<JobId> = pool.missing().into_iter().map(|(waiting, _)| waiting).collect();
        assert_eq!(waiting, [job(2)]);
    }

    #[test]
    fn slots_of_the_replicated_schedule_stay_taken_until_released() {
        let mut pool = SlotPool::default();
        pool.adopt(slot(1, 0), job(1));
        pool.offer(tm(1), 1);
        pool.request(job(2), FIRST, slots(1));
        assert_eq!(pool.grant(), vec![]);
        pool.release(job(1));
        assert_eq!(pool.grant(), vec![Grant { job: job(2), request: FIRST, slots: vec![slot(1, 0)] }]);
    }

    #[test]
    fn a_lost_task_manager_takes_its_slots_along() {
        let mut pool = SlotPool::default();
        pool.offer(tm(1), 1);
        pool.request(job(1), FIRST, slots(1));
        pool.grant();
        pool.withdraw(tm(1));
        pool.request(job(1), FIRST, slots(1));
        assert_eq!(pool.grant(), vec![]);
    }

    #[test]
    fn a_job_of_several_groups_gets_the_slots_of_all_or_none_and_says_what_each_needs() {
        let mut pool = SlotPool::default();
        pool.offer(tm(1), 2);
        pool.offer(tm(2), 2);
        pool.request(job(1), FIRST, groups(2, 3));
        assert_eq!(pool.grant(), vec![]);
        assert_eq!((pool.free_of(tm(1)), pool.free_of(tm(2))), (2, 2));
        expect![[r#"
            needs 5 slots (2 for "default", 3 for "wide"); 4 of 4 are free on 2 task managers: add task managers, wait for other jobs to end, or submit with a lower parallelism or fewer slot sharing groups
        "#]]
        .assert_eq(&(pool.missing()[0].1.clone() + "\n"));
        pool.offer(tm(3), 1);
        let granted = vec![slot(1, 0), slot(2, 0), slot(1, 1), slot(2, 1), slot(3, 0)];
        assert_eq!(pool.grant(), vec![Grant { job: job(1), request: FIRST, slots: granted }]);
        assert_eq!(pool.missing(), vec![]);
    }
}
