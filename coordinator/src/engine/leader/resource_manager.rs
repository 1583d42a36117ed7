//! Task managers, their sessions and heartbeats, and the slots that they offer.

mod draining;
mod event;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use tidemill_model::execution::{AttemptReport, TaskManagerLocation};
use tidemill_model::id::{JobId, TaskManagerId};
use tidemill_model::mutant::{self, Mutant};
use tidemill_model::slot::SlotId;
use tidemill_model::time::Instant;

pub use event::{DetectorSettings, ResourceManagerAction, ResourceManagerEvent, TaskManagerObservation};

use super::message::{
    ExecutorProcess, FinalizationReport, JobReport, SessionId, TaskManagerCommand, TaskManagerHello, TaskManagerMessage,
};
use super::slot_pool::{SlotPlacement, SlotPool};

#[derive(Debug, Clone)]
enum Link {
    /// Welcomed; has not reported yet.
    Greeting { session: SessionId },
    /// Reported: its slots count.
    Registered { session: SessionId },
    /// The stream broke; it may come back within the grace.
    Broken { since: Instant, probing: bool },
}

#[derive(Debug, Clone)]
struct TaskManager {
    hello: TaskManagerHello,
    link: Link,
    heard: Instant,
}

/// The engine over all task managers.
#[derive(Debug)]
pub struct ResourceManager {
    settings: DetectorSettings,
    task_managers: BTreeMap<TaskManagerId, TaskManager>,
    /// The jobs that have a master, each with the task managers that said to keep something of it.
    jobs: BTreeMap<JobId, BTreeSet<TaskManagerId>>,
    /// Those that are to be left, whether they are here or not.
    draining: BTreeSet<TaskManagerId>,
    pool: SlotPool,
    last_tick: Option<Instant>,
}

impl ResourceManager {
    /// A leader's resource manager; `allocated` are the slots that unfinished jobs hold by their schedules.
    #[must_use]
    pub fn new(settings: DetectorSettings, allocated: impl IntoIterator<Item = (SlotId, JobId)>) -> Self {
        let mut pool = SlotPool::default();
        allocated.into_iter().for_each(|(slot, job)| pool.adopt(slot, job));
        let (task_managers, jobs, draining) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { settings, task_managers, jobs, draining, pool, last_tick: None }
    }

    /// Chooses slots like this.
    #[must_use]
    pub fn with_placement(mut self, placement: SlotPlacement) -> Self {
        self.pool.set_placement(placement);
        self
    }

    /// The one door: what happened, and what is to be done.
    pub fn step(&mut self, now: Instant, event: ResourceManagerEvent) -> Vec<ResourceManagerAction> {
        let mut actions = Vec::new();
        match event {
            ResourceManagerEvent::Hello { session, hello } => self.greet(now, session, hello, &mut actions),
            ResourceManagerEvent::Message { session, message } => self.hear(now, session, message, &mut actions),
            ResourceManagerEvent::SessionClosed { session } => self.session_closed(now, session),
            ResourceManagerEvent::PortProbed { task_manager, refused } => {
                self.port_probed(task_manager, refused, &mut actions);
            }
            ResourceManagerEvent::SlotsRequested { job, request, requirements, former } => {
                self.pool.request(job, request, requirements, former);
            }
            ResourceManagerEvent::SlotsReturned { job, slots } => self.pool.give_back(job, &slots),
            ResourceManagerEvent::SlotsReleased { job } => self.pool.release(job),
            ResourceManagerEvent::DrainingSet { task_manager, draining } => {
                self.set_draining(task_manager, draining, &mut actions);
            }
            ResourceManagerEvent::JobStarted { job } => self.job_started(now, job, &mut actions),
            ResourceManagerEvent::JobEnded { job } => self.job_ended(job, &mut actions),
            ResourceManagerEvent::Tick => self.tick(now, &mut actions),
        }
        self.grant(&mut actions);
        actions
    }

    /// The sessions of a registered task manager, for messages to it.
    #[must_use]
    pub fn session(&self, task_manager: TaskManagerId) -> Option<SessionId> {
        match self.task_managers.get(&task_manager)?.link {
            Link::Registered { session } => Some(session),
            Link::Greeting { .. } | Link::Broken { .. } => None,
        }
    }

    /// All task managers, for people.
    #[must_use]
    pub fn observe(&self, now: Instant) -> Vec<TaskManagerObservation> {
        let observe = |(&id, task_manager): (&TaskManagerId, &TaskManager)| TaskManagerObservation {
            location: task_manager.hello.location.clone(),
            slots: task_manager.hello.slots,
            free_slots: self.pool.free_of(id),
            heartbeat_age: now.since(task_manager.heard),
            process_id: task_manager.hello.process_id,
            draining: self.draining.contains(&id),
            jobs: self.pool.jobs_on(id),
        };
        self.task_managers.iter().map(observe).collect()
    }

    fn greet(
        &mut self,
        now: Instant,
        session: SessionId,
        hello: TaskManagerHello,
        actions: &mut Vec<ResourceManagerAction>,
    ) {
        let id = hello.location.id;
        let superseded: Vec<TaskManagerId> = self
            .task_managers
            .iter()
            .filter(|(other, known)| **other != id && known.hello.location.name == hello.location.name)
            .map(|(&other, _)| other)
            .collect();
        for other in superseded {
            if mutant::active(Mutant::ComparedByName) {
                self.task_managers.remove(&other);
                continue;
            }
            self.lose(other, "another incarnation of it has started".to_owned(), actions);
        }
        if let Some(known) = self.task_managers.get(&id) {
            actions.extend(known.link.session().map(|session| ResourceManagerAction::Close { session }));
        }
        self.pool.suspend(id);
        self.task_managers.insert(id, TaskManager { hello, link: Link::Greeting { session }, heard: now });
        actions.push(ResourceManagerAction::Send { session, task_manager: id, command: TaskManagerCommand::Welcome });
    }

    fn hear(
        &mut self,
        now: Instant,
        session: SessionId,
        message: TaskManagerMessage,
        actions: &mut Vec<ResourceManagerAction>,
    ) {
        let Some((&id, known)) = self.task_managers.iter_mut().find(|(_, known)| known.link.session() == Some(session))
        else {
            return;
        };
        known.heard = now;
        match message {
            TaskManagerMessage::Report { attempts, executors, finalized, hosted, checkpoints } => {
                known.link = Link::Registered { session };
                let (location, count) = (known.hello.location.clone(), known.hello.slots.count);
                self.pool.offer(id, count);
                for job in hosted.iter().chain(attempts.iter().map(|report| &report.attempt.job)) {
                    if let Some(hosts) = self.jobs.get_mut(job) {
                        hosts.insert(id);
                    }
                }
                let mut reports = self.split(attempts, finalized, hosted);
                for report in checkpoints {
                    reports.entry(report.attempt.job).or_default().checkpoints.push(report);
                }
                self.register(location, session, reports, executors, actions);
            }
            TaskManagerMessage::Heartbeat { sequence, progress } => {
                let command = TaskManagerCommand::HeartbeatAnswer { sequence };
                actions.push(ResourceManagerAction::Send { session, task_manager: id, command });
                for entry in progress {
                    let message = TaskManagerMessage::Heartbeat { sequence, progress: vec![entry] };
                    actions.push(ResourceManagerAction::Forward { job: entry.0, task_manager: id, message });
                }
            }
            TaskManagerMessage::Attempt(report) => {
                let (job, message) = (report.attempt.job, TaskManagerMessage::Attempt(report));
                self.forward_or_release(session, id, job, message, actions);
            }
            TaskManagerMessage::Finalized(report) => {
                let (job, message) = (report.job, TaskManagerMessage::Finalized(report));
                self.forward_or_release(session, id, job, message, actions);
            }
            TaskManagerMessage::Checkpoint(report) => {
                let (job, message) = (report.attempt.job, TaskManagerMessage::Checkpoint(report));
                self.forward_or_release(session, id, job, message, actions);
            }
            TaskManagerMessage::Executor(executor) => {
                let (job, message) = (executor.job, TaskManagerMessage::Executor(executor));
                self.forward_or_release(session, id, job, message, actions);
            }
        }
    }

    /// A report by job: all unfinished ones, and whatever else the task manager keeps something of.
    fn split(
        &self,
        attempts: Vec<AttemptReport>,
        finalized: Vec<FinalizationReport>,
        hosted: Vec<JobId>,
    ) -> BTreeMap<JobId, JobReport> {
        let jobs = self.jobs.keys().copied().chain(hosted);
        let mut reports: BTreeMap<JobId, JobReport> = jobs.map(|job| (job, JobReport::default())).collect();
        for report in attempts {
            reports.entry(report.attempt.job).or_default().attempts.push(report);
        }
        for report in finalized {
            let job = report.job;
            reports.entry(job).or_default().finalized = Some(report);
        }
        reports
    }

    /// Job masters are told; whatever belongs to no unfinished job is released.
    fn register(
        &mut self,
        location: TaskManagerLocation,
        session: SessionId,
        reports: BTreeMap<JobId, JobReport>,
        executors: Vec<ExecutorProcess>,
        actions: &mut Vec<ResourceManagerAction>,
    ) {
        let id = location.id;
        for (job, report) in reports {
            if self.jobs.contains_key(&job) {
                actions.push(ResourceManagerAction::Registered { job, location: location.clone(), report });
            } else {
                release_straggler(session, id, job, actions);
            }
        }
        for executor in executors.into_iter().filter(|executor| self.jobs.contains_key(&executor.job)) {
            let (job, message) = (executor.job, TaskManagerMessage::Executor(executor));
            actions.push(ResourceManagerAction::Forward { job, task_manager: id, message });
        }
    }

    fn forward_or_release(
        &self,
        session: SessionId,
        task_manager: TaskManagerId,
        job: JobId,
        message: TaskManagerMessage,
        actions: &mut Vec<ResourceManagerAction>,
    ) {
        if self.jobs.contains_key(&job) {
            actions.push(ResourceManagerAction::Forward { job, task_manager, message });
        } else {
            release_straggler(session, task_manager, job, actions);
        }
    }

    fn session_closed(&mut self, now: Instant, session: SessionId) {
        let known = self.task_managers.iter_mut().find(|(_, known)| known.link.session() == Some(session));
        if let Some((&id, known)) = known {
            known.link = Link::Broken { since: now, probing: false };
            self.pool.suspend(id);
        }
    }

    fn port_probed(&mut self, id: TaskManagerId, refused: bool, actions: &mut Vec<ResourceManagerAction>) {
        let Some(TaskManager { link: Link::Broken { probing, .. }, .. }) = self.task_managers.get_mut(&id) else {
            return;
        };
        *probing = false;
        if refused {
            self.lose(id, "its stream broke and its port refuses connections".to_owned(), actions);
        }
    }

    /// A job master starts from the replicated state; what registered task managers have reported of an unknown
    /// job was released, so they run nothing of it. Of a known job, whose master starts again, only their own reports
    /// can say what they run.
    fn job_started(&mut self, now: Instant, job: JobId, actions: &mut Vec<ResourceManagerAction>) {
        let draining = |&task_manager| ResourceManagerAction::DrainingChanged { job, task_manager, draining: true };
        actions.extend(self.draining.iter().map(draining));
        if self.jobs.contains_key(&job) {
            let (slots, last_request) = self.pool.begin_again(job);
            actions.push(ResourceManagerAction::SlotsHeld { job, slots, last_request });
            return self.have_reported_again(now, actions);
        }
        self.jobs.insert(job, BTreeSet::new());
        for known in self.task_managers.values() {
            if matches!(known.link, Link::Registered { .. }) {
                let (location, report) = (known.hello.location.clone(), JobReport::default());
                actions.push(ResourceManagerAction::Registered { job, location, report });
            }
        }
    }

    /// `nothing-left`: a report may have crossed the end of the job's master, which had released it only where it knew of
    /// a task manager.
    fn job_ended(&mut self, job: JobId, actions: &mut Vec<ResourceManagerAction>) {
        self.pool.release(job);
        for task_manager in self.jobs.remove(&job).unwrap_or_default() {
            if let Some(session) = self.session(task_manager) {
                release_straggler(session, task_manager, job, actions);
            }
        }
    }

    /// A task manager reports once a session: with a new one.
    fn have_reported_again(&mut self, now: Instant, actions: &mut Vec<ResourceManagerAction>) {
        for (&id, known) in &mut self.task_managers {
            if let Some(session) = known.link.session() {
                known.link = Link::Broken { since: now, probing: false };
                self.pool.suspend(id);
                actions.push(ResourceManagerAction::Close { session });
            }
        }
    }

    fn tick(&mut self, now: Instant, actions: &mut Vec<ResourceManagerAction>) {
        // After a gap in its own ticks (a suspended host, SIGSTOP) the detector has heard nobody because it did not
        // listen: it grants a full time-out.
        let gap = self.last_tick.is_some_and(|last| now.since(last) > self.settings.tick * 5);
        self.last_tick = Some(now);
        if gap && !mutant::active(Mutant::ExpiryAfterPause) {
            for known in self.task_managers.values_mut() {
                known.heard = now;
                if let Link::Broken { since, .. } = &mut known.link {
                    *since = now;
                }
            }
            return;
        }
        let settings = self.settings;
        let silent = |known: &TaskManager| now.since(known.heard) > settings.timeout;
        let lost: Vec<TaskManagerId> =
            self.task_managers.iter().filter(|(_, known)| silent(known)).map(|(&id, _)| id).collect();
        for id in lost {
            self.lose(id, format!("no heartbeat for {} ms", settings.timeout.as_millis()), actions);
        }
        for (&id, known) in &mut self.task_managers {
            let Link::Broken { since, probing } = &mut known.link else { continue };
            if !*probing && now.since(*since) >= settings.grace {
                *probing = true;
                let data_address = known.hello.location.data_address.clone();
                actions.push(ResourceManagerAction::ProbePort { task_manager: id, data_address });
            }
        }
    }

    fn lose(&mut self, id: TaskManagerId, reason: String, actions: &mut Vec<ResourceManagerAction>) {
        let Some(known) = self.task_managers.remove(&id) else { return };
        self.pool.withdraw(id);
        actions.extend(known.link.session().map(|session| ResourceManagerAction::Close { session }));
        let reason = format!("task manager {} is lost: {reason}", known.hello.location.name);
        actions.push(ResourceManagerAction::Lost { task_manager: id, reason });
    }

    fn grant(&mut self, actions: &mut Vec<ResourceManagerAction>) {
        for grant in self.pool.grant() {
            let location = |slot: &SlotId| self.task_managers.get(&slot.task_manager).map(|k| k.hello.location.clone());
            let locations = grant.slots.iter().filter_map(location).map(|location| (location.id, location)).collect();
            actions.push(ResourceManagerAction::Granted { grant, locations });
        }
    }
}

impl Link {
    fn session(&self) -> Option<SessionId> {
        match self {
            Self::Greeting { session } | Self::Registered { session } => Some(*session),
            Self::Broken { .. } => None,
        }
    }
}

/// `nothing-left`: of a job that has ended, what is left on a task manager goes, and so does what it wrote since.
fn release_straggler(
    session: SessionId,
    task_manager: TaskManagerId,
    job: JobId,
    actions: &mut Vec<ResourceManagerAction>,
) {
    let command = TaskManagerCommand::Release { job };
    actions.push(ResourceManagerAction::Send { session, task_manager, command });
    actions.push(ResourceManagerAction::Straggled { job });
}
