//! Slots, the schedule, and the deployment of what is scheduled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidemill_model::execution::{ExecutionState, Failure, FailureKind, JobDeployment, Schedule, TaskManagerLocation};
use tidemill_model::id::{AttemptNumber, ExecutionAttemptId, ExecutionVertexId, TaskManagerId};
use tidemill_model::job_graph::SlotRequirements;
use tidemill_model::mutant::{self, Mutant};
use tidemill_model::slot::SlotId;
use tidemill_model::time::Instant;

use super::{JobMaster, JobMasterAction};
use crate::engine::leader::message::TaskManagerCommand;
use crate::engine::leader::placement::{HeldSlots, SlotKey, place};
use crate::engine::leader::slot_pool::SlotRequestId;
use crate::engine::replicated::{CommandBody, JobState};

/// The slots that the job holds, and where its request for more stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Slots {
    held: HeldSlots,
    /// Every slot that the resource manager takes for the job's, with the request that brought it. Invariant: each is held,
    /// scheduled, lost, or given back.
    owned: BTreeMap<SlotId, SlotRequestId>,
    /// Those of task managers that are gone. What has finished there is scheduled there still, and holds nothing: when the
    /// task manager comes back, they are anybody's.
    lost: BTreeSet<SlotId>,
    locations: BTreeMap<TaskManagerId, TaskManagerLocation>,
    /// What was asked for, in the order in which it is granted; none: nothing is asked for.
    requested: Option<Vec<SlotKey>>,
    last_request: SlotRequestId,
    /// The task manager on which the sub-tasks of each slot last were: it may have their state.
    former: BTreeMap<SlotKey, TaskManagerId>,
    /// Since when something waits for slots without a break.
    waiting_since: Option<Instant>,
}

/// How long a job that waits for more slots holds those in which nothing of it runs. Two jobs that each hold a part of what
/// the other needs would wait for ever; one that lets go gets the same slots again if nobody else wanted them.
const HOLDS_IN_VAIN: Duration = Duration::from_secs(5);

impl Slots {
    /// What the replicated schedule says that the job holds.
    pub(super) fn inherit(job: &JobState) -> Self {
        let mut slots = Self::default();
        let Some(schedule) = &job.schedule else { return slots };
        slots.locations.clone_from(&schedule.task_managers);
        slots.owned = schedule.attempts.values().map(|at| (at.slot, SlotRequestId::default())).collect();
        slots.hold_scheduled(job);
        slots
    }

    /// What is scheduled stays where it is, if the slot is the job's still.
    pub(super) fn hold_scheduled(&mut self, job: &JobState) {
        let Some(schedule) = &job.schedule else { return };
        for vertex in &job.spec.graph.vertices {
            for (id, scheduled) in &schedule.attempts {
                let owned = self.owned.contains_key(&scheduled.slot) && !self.lost.contains(&scheduled.slot);
                if id.vertex == vertex.id && owned {
                    let key = (vertex.slot_sharing_group.clone(), id.subtask.0);
                    self.former.insert(key.clone(), scheduled.slot.task_manager);
                    self.held.insert(key, scheduled.slot);
                }
            }
        }
    }

    /// What answers an earlier request than the last one serves no purpose any more.
    fn granted(
        &mut self,
        request: SlotRequestId,
        slots: &[SlotId],
        locations: BTreeMap<TaskManagerId, TaskManagerLocation>,
    ) {
        if request != self.last_request && mutant::active(Mutant::LateGrantDropped) {
            return;
        }
        self.owned.extend(slots.iter().map(|&slot| (slot, request)));
        self.lost.retain(|slot| !slots.contains(slot));
        self.locations.extend(locations);
        let Some(requested) = self.requested.take_if(|_| request == self.last_request) else { return };
        for (key, &slot) in requested.into_iter().zip(slots) {
            self.former.insert(key.clone(), slot.task_manager);
            self.held.insert(key, slot);
        }
    }

    /// What a master that begins anew holds: what is scheduled in slots that are the job's still. Whatever it asked for in
    /// the meantime is asked for again, by a greater number than its former self used.
    fn hold_again(&mut self, slots: BTreeMap<SlotId, SlotRequestId>, last_request: SlotRequestId) {
        self.held.retain(|_, slot| slots.contains_key(slot));
        if !mutant::active(Mutant::FormerSlotsForgotten) {
            self.owned = slots;
        }
        self.last_request = self.last_request.max(last_request);
        self.requested = None;
    }

    /// Whether there are slots in which nothing is scheduled.
    pub(super) fn hold_in_vain(&self, schedule: Option<&Schedule>) -> bool {
        let scheduled = scheduled_slots(schedule);
        self.held.values().any(|slot| !scheduled.contains(slot))
    }

    /// Keeps the slots in which something is scheduled.
    fn let_go(&mut self, schedule: Option<&Schedule>) {
        let scheduled = scheduled_slots(schedule);
        self.held.retain(|_, slot| scheduled.contains(slot));
    }

    /// Takes out what is neither held nor scheduled, and what is lost.
    fn surplus(&mut self, schedule: Option<&Schedule>) -> BTreeMap<SlotId, SlotRequestId> {
        let used: BTreeSet<SlotId> = self.held.values().copied().chain(scheduled_slots(schedule)).collect();
        let lost = std::mem::take(&mut self.lost);
        let keeps = |slot: &SlotId| used.contains(slot) && !lost.contains(slot);
        let (owned, surplus) = std::mem::take(&mut self.owned).into_iter().partition(|(slot, _)| keeps(slot));
        self.owned = owned;
        self.locations.retain(|id, _| self.owned.keys().any(|slot| slot.task_manager == *id));
        surplus
    }

    /// Whether some were asked for and have not been granted.
    pub(super) fn are_awaited(&self) -> bool {
        self.requested.is_some()
    }

    /// A task manager is gone, with its slots. They are given back all the same: one that stays silent after a takeover is
    /// given up by the job alone, and offers them to all when it comes back.
    pub(super) fn lose(&mut self, task_manager: TaskManagerId) {
        self.held.retain(|_, slot| slot.task_manager != task_manager);
        self.lost.extend(self.owned.keys().filter(|slot| slot.task_manager == task_manager));
    }
}

fn scheduled_slots(schedule: Option<&Schedule>) -> BTreeSet<SlotId> {
    schedule.iter().flat_map(|schedule| schedule.attempts.values().map(|at| at.slot)).collect()
}

impl JobMaster {
    pub(super) fn slots_granted(
        &mut self,
        request: SlotRequestId,
        slots: &[SlotId],
        locations: BTreeMap<TaskManagerId, TaskManagerLocation>,
        actions: &mut Vec<JobMasterAction>,
    ) {
        self.slots.granted(request, slots, locations);
        self.return_surplus(actions);
    }

    pub(super) fn slots_held(
        &mut self,
        slots: BTreeMap<SlotId, SlotRequestId>,
        last_request: SlotRequestId,
        actions: &mut Vec<JobMasterAction>,
    ) {
        self.slots.hold_again(slots, last_request);
        self.return_surplus(actions);
    }

    /// Slots that the job has no use for are others' at once.
    pub(super) fn return_surplus(&mut self, actions: &mut Vec<JobMasterAction>) {
        let slots = self.slots.surplus(self.job.schedule.as_ref());
        if !slots.is_empty() {
            actions.push(JobMasterAction::ReturnSlots { slots });
        }
    }

    /// Once the pause is over and what is replaced has stopped, slots for what awaits an attempt, and then attempts.
    pub(super) fn drive_scheduling(&mut self, now: Instant, actions: &mut Vec<JobMasterAction>) {
        if self.start_at.is_some_and(|start_at| now < start_at) || !self.stopping.is_empty() {
            return;
        }
        let mut missing = self.missing_slots(&self.job.awaiting);
        if missing.is_empty() {
            self.slots.waiting_since = None;
            self.withdraw_request(actions);
            let (next, awaiting) = (self.job.next_attempt(), &self.job.awaiting);
            let schedule = place(&self.job.spec.graph, next, awaiting, &self.slots.held, &self.slots.locations);
            tracing::debug!(job_id = %self.job.spec.id, plan = %schedule, "schedule");
            return self.decide(CommandBody::RecordSchedule { job: self.job.spec.id, schedule }, actions);
        }
        let since = *self.slots.waiting_since.get_or_insert(now);
        if now.since(since) >= HOLDS_IN_VAIN && self.slots.hold_in_vain(self.job.schedule.as_ref()) {
            self.slots.let_go(self.job.schedule.as_ref());
            self.return_surplus(actions);
            missing = self.missing_slots(&self.job.awaiting);
        }
        self.request_missing(missing, actions);
    }

    /// Asks for these slots, unless that has been done.
    pub(super) fn request_missing(&mut self, missing: Vec<SlotKey>, actions: &mut Vec<JobMasterAction>) {
        if self.slots.requested.as_ref() == Some(&missing) {
            return;
        }
        let mut requirements = SlotRequirements::default();
        for (group, _) in &missing {
            *requirements.0.entry(group.clone()).or_default() += 1;
        }
        let former = missing.iter().map(|key| self.slots.former.get(key).copied()).collect();
        self.slots.requested = Some(missing);
        self.request_slots(requirements, former, actions);
    }

    /// What was asked for is not needed any more: a task manager with held slots has come back, or drains no more.
    pub(super) fn withdraw_request(&mut self, actions: &mut Vec<JobMasterAction>) {
        if self.slots.requested.take().is_some() {
            self.request_slots(SlotRequirements::default(), Vec::new(), actions);
        }
    }

    fn request_slots(
        &mut self,
        requirements: SlotRequirements,
        former: Vec<Option<TaskManagerId>>,
        actions: &mut Vec<JobMasterAction>,
    ) {
        let request = SlotRequestId(self.slots.last_request.0 + 1);
        self.slots.last_request = request;
        actions.push(JobMasterAction::RequestSlots { request, requirements, former });
    }

    /// The slots that these sub-tasks need for their next attempts and the job does not hold, group by group.
    pub(super) fn missing_slots(&self, vertices: &BTreeSet<ExecutionVertexId>) -> Vec<SlotKey> {
        let group = |id: &ExecutionVertexId| Some(self.job.spec.graph.vertex(id.vertex)?.slot_sharing_group.clone());
        let needed = vertices.iter().filter_map(|id| Some((group(id)?, id.subtask.0)));
        let usable = |key: &SlotKey| self.slots.held.get(key).is_some_and(|slot| self.usable(*slot));
        needed.collect::<BTreeSet<SlotKey>>().into_iter().filter(|key| !usable(key)).collect()
    }

    /// Persist, then act: the schedule is applied, so its attempts may start.
    pub(super) fn deploy_all(&mut self, schedule: &Schedule, actions: &mut Vec<JobMasterAction>) {
        for &vertex in schedule.attempts.keys() {
            self.executions.insert(vertex, ExecutionState::Scheduled);
        }
        for (&task_manager, location) in &schedule.task_managers {
            self.hosts.insert(task_manager);
            if self.registered.contains_key(&task_manager) {
                self.deploy_on(task_manager, |attempt| schedule.wants(attempt), actions);
            } else {
                self.lost(task_manager, &format!("task manager {} left before the deployment", location.name));
            }
        }
        self.release_unused_hosts(actions);
        self.return_surplus(actions);
    }

    /// Task managers that have nothing scheduled any more drop what they have of the job.
    fn release_unused_hosts(&mut self, actions: &mut Vec<JobMasterAction>) {
        let Some(schedule) = &self.job.schedule else { return };
        let used = &schedule.task_managers;
        let unused: Vec<TaskManagerId> = self.hosts.iter().filter(|id| !used.contains_key(id)).copied().collect();
        for task_manager in unused {
            self.hosts.remove(&task_manager);
            self.send(task_manager, TaskManagerCommand::Release { job: self.job.spec.id }, actions);
        }
    }

    /// Sends a task manager those of its scheduled attempts that pass the filter, each attempt number by itself: all
    /// of a region have the same one, so that each deployment names all peers of its tasks.
    pub(super) fn deploy_on(
        &mut self,
        task_manager: TaskManagerId,
        wanted: impl Fn(&ExecutionAttemptId) -> bool,
        actions: &mut Vec<JobMasterAction>,
    ) {
        let Some(schedule) = &self.job.schedule else { return };
        let job = self.job.spec.id;
        let mut by_number: BTreeMap<AttemptNumber, Vec<ExecutionAttemptId>> = BTreeMap::new();
        for (attempt, slot) in schedule.attempt_ids(job) {
            if slot.task_manager == task_manager && wanted(&attempt) {
                by_number.entry(attempt.attempt).or_default().push(attempt);
            }
        }
        let mut irretrievable = Vec::new();
        for (number, start) in by_number {
            let here = |scheduled: &&ExecutionVertexId| schedule.attempts[*scheduled].slot.task_manager == task_manager;
            let own = schedule.attempts.iter().filter(|(_, scheduled)| scheduled.attempt == number);
            let schedule = Schedule {
                attempts: own.clone().map(|(vertex, scheduled)| (*vertex, *scheduled)).collect(),
                task_managers: schedule.task_managers.clone(),
            };
            let vertices: Vec<ExecutionVertexId> = own.map(|(vertex, _)| vertex).filter(here).copied().collect();
            match self.job.restore(&vertices) {
                Ok(restore) => {
                    let deployment = JobDeployment { job, schedule, start, restore };
                    let command = TaskManagerCommand::Deploy { spec: Box::new(self.job.spec.clone()), deployment };
                    self.send(task_manager, command, actions);
                }
                Err(_) => irretrievable.extend(start),
            }
        }
        for attempt in irretrievable {
            let message =
                "the attempt is gone, although it took part in checkpoints after the one that it started from";
            let cause = Failure {
                kind: FailureKind::ExecutorLost,
                vertex: Some(attempt.vertex),
                operator: None,
                message: message.to_owned(),
            };
            self.attempt_lost(attempt.vertex, cause);
        }
    }
}
