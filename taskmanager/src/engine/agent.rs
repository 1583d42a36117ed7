//! The agent: which jobs this task manager hosts, and what follows from each event.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidemill_model::id::{BlobId, ClusterId, ExecutionAttemptId, JobId, LeaderEpoch, TaskManagerId};
use tidemill_model::mutant::{self, Mutant};
use tidemill_model::slot::SlotOffer;
use tidemill_model::time::Instant;

use super::action::{Action, ExecutorReport, Outbound, Report};
use super::event::{Event, Progress};
use super::executor_lifecycle::ExecutorId;
use super::executor_lifecycle::GenerationId;
use super::fence::{Fence, FenceOutcome};
use super::generation::Generation;
use super::hosted_job::HostedJob;
use super::outbox::Outbox;

/// What an agent is told once.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// This incarnation.
    pub task_manager: TaskManagerId,
    /// What it offers.
    pub offer: SlotOffer,
    /// The memory that executors may use for each of their slots; none: whatever there is.
    pub slot_process_bytes: Option<u64>,
    /// How long executors go on without any coordinator.
    pub orphan_timeout: Duration,
    /// How long an executor may take to stop an attempt, or to become ready for the removal of staged output.
    pub cancellation_timeout: Duration,
}

/// One hosted generation, for metrics and heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationOverview {
    /// Which.
    pub generation: GenerationId,
    /// How far its executor has counted.
    pub progress: Progress,
    /// Its executor's process, when there is one.
    pub process_id: Option<u32>,
}

/// Whether a leader is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contact {
    Connected,
    Lost { since: Instant },
}

/// Everything that a task manager decides.
#[derive(Debug)]
pub struct Agent {
    pub(super) settings: Settings,
    fence: Fence,
    pub(super) cluster: Option<ClusterId>,
    contact: Contact,
    pub(super) jobs: BTreeMap<JobId, HostedJob>,
    /// Executors that were killed and whose exit has not been seen.
    pub(super) dying: BTreeMap<ExecutorId, GenerationId>,
    /// Jobs whose files go when the last of their executors has exited.
    pub(super) released: BTreeSet<JobId>,
    /// Generations of jobs that go on, whose files go likewise.
    pub(super) retired: BTreeSet<GenerationId>,
    pub(super) fetching: BTreeSet<BlobId>,
    pub(super) last_executor: u64,
}

impl Agent {
    /// An agent that hosts nothing and knows no leader.
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            fence: Fence::default(),
            cluster: None,
            contact: Contact::Lost { since: now },
            jobs: BTreeMap::new(),
            dying: BTreeMap::new(),
            released: BTreeSet::new(),
            retired: BTreeSet::new(),
            fetching: BTreeSet::new(),
            last_executor: 0,
        }
    }

    /// The highest epoch seen.
    #[must_use]
    pub fn fence(&self) -> LeaderEpoch {
        self.fence.highest()
    }

    /// The cluster, once a leader has named it.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Whether a leader is there.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.contact == Contact::Connected
    }

    /// The hosted generations, by job and attempt number.
    #[must_use]
    pub fn overview(&self) -> Vec<GenerationOverview> {
        let overview = |generation: &Generation| GenerationOverview {
            generation: generation.name(),
            progress: generation.progress,
            process_id: generation.phase.process_id(),
        };
        self.generations().map(overview).collect()
    }

    /// How many slots have attempts that have not ended.
    #[must_use]
    pub fn slots_used(&self) -> usize {
        self.generations().flat_map(Generation::slots).collect::<BTreeSet<_>>().len()
    }

    /// Whether no executor is left, not even a dying one.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.dying.is_empty() && self.generations().all(|generation| generation.phase.executor().is_none())
    }

    /// The complete truth of this incarnation.
    #[must_use]
    pub fn report(&self) -> Report {
        let executor = |generation: &Generation| {
            let report = |process_id| ExecutorReport { generation: generation.name(), process_id };
            generation.phase.process_id().map(report)
        };
        Report {
            attempts: self.generations().flat_map(Generation::attempt_reports).collect(),
            executors: self.generations().filter_map(executor).collect(),
            finalized: self.generations().filter_map(Generation::outcome).cloned().collect(),
            hosted: self.jobs.keys().copied().collect(),
            checkpoints: self.generations().flat_map(Generation::unconfirmed).collect(),
        }
    }

    /// The one door: changes the state and returns what to do, in order.
    #[must_use]
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut outbox = Outbox::new(self.connected());
        match event {
            Event::Welcomed { epoch, task_manager, cluster } => {
                self.welcomed(epoch, task_manager, cluster, &mut outbox);
            }
            Event::Directed { epoch, task_manager, directive } => {
                if self.lawful(epoch, task_manager, &mut outbox) {
                    self.directed(now, directive, &mut outbox);
                }
            }
            // A leader that was refused was no contact: losing it leaves the orphan timer where it is.
            Event::SessionLost if self.connected() => {
                self.contact = Contact::Lost { since: now };
                if mutant::active(Mutant::ResultDroppedAtFlap) {
                    let hosted = self.jobs.values_mut().flat_map(|job| job.generations.values_mut());
                    hosted.for_each(Generation::forget_ended);
                }
            }
            Event::SessionLost => {}
            Event::ArtifactReady { artifact } => self.artifact_ready(now, artifact, &mut outbox),
            Event::ArtifactFailed { artifact, failure } => self.artifact_failed(artifact, &failure, &mut outbox),
            Event::CollectedStored { attempt, parts } => {
                if let Some(generation) = self.generation_of(&attempt) {
                    generation.collected_stored(attempt, parts, &mut outbox);
                }
            }
            Event::CollectedRefused { attempt, failure } => {
                if let Some(generation) = self.generation_of(&attempt) {
                    generation.collected_refused(attempt, failure, &mut outbox);
                }
            }
            Event::ExecutorStarted { executor, process_id } => self.started(executor, process_id, &mut outbox),
            Event::ExecutorStartFailed { executor, failure } => self.ended(executor, &failure, &mut outbox),
            Event::ExecutorReady { executor, fingerprint } => self.ready(executor, fingerprint, &mut outbox),
            Event::ExecutorRefused { executor, failure } => self.give_up(executor, &failure, &mut outbox),
            Event::AttemptChanged { executor, change } => {
                if let Some(generation) = self.served_by(executor) {
                    generation.attempt_changed(change, &mut outbox);
                }
            }
            Event::ExecutorFinalized { executor, step, failure } => {
                if let Some(generation) = self.served_by(executor) {
                    generation.finalized(step, failure, &mut outbox);
                }
            }
            Event::CheckpointReported { executor, report } => {
                if let Some(generation) = self.served_by(executor) {
                    generation.checkpoint_reported(report, &mut outbox);
                }
            }
            Event::Progressed { executor, progress } => {
                if let Some(generation) = self.served_by(executor) {
                    generation.progress = progress;
                }
            }
            Event::ExecutorExited { executor, exit } => self.exited(executor, &exit, &mut outbox),
            Event::Tick => self.tick(now, &mut outbox),
            Event::Shutdown => self.end_all("the task manager was shut down", &mut outbox),
        }
        if cfg!(debug_assertions) {
            self.generations().for_each(Generation::check_invariants);
        }
        outbox.into_actions()
    }

    /// All generations, by job and attempt number.
    pub(super) fn generations(&self) -> impl Iterator<Item = &Generation> {
        self.jobs.values().flat_map(|job| job.generations.values())
    }

    /// A generation by its name.
    pub(super) fn generation(&mut self, name: GenerationId) -> Option<&mut Generation> {
        self.jobs.get_mut(&name.job)?.generations.get_mut(&name.attempt)
    }

    /// The generation that an attempt belongs to.
    pub(super) fn generation_of(&mut self, id: &ExecutionAttemptId) -> Option<&mut Generation> {
        self.generation(GenerationId { job: id.job, attempt: id.attempt })
    }

    /// The generation whose current executor this is; none for one that was given up.
    pub(super) fn served_by(&mut self, executor: ExecutorId) -> Option<&mut Generation> {
        let mut generations = self.jobs.values_mut().flat_map(|job| job.generations.values_mut());
        generations.find(|generation| generation.phase.executor() == Some(executor))
    }

    fn lawful(&mut self, epoch: LeaderEpoch, task_manager: TaskManagerId, outbox: &mut Outbox) -> bool {
        let here = self.settings.task_manager;
        if task_manager != here {
            outbox.refuse(format!("a command for task manager {task_manager} reached {here}"));
            return false;
        }
        match self.fence.admit(epoch) {
            FenceOutcome::Current => true,
            FenceOutcome::Stale { fence } => {
                outbox.refuse(format!("a command of leader epoch {epoch}, epoch {fence} has begun"));
                false
            }
        }
    }

    fn welcomed(&mut self, epoch: LeaderEpoch, to: TaskManagerId, cluster: ClusterId, outbox: &mut Outbox) {
        let here = self.settings.task_manager;
        if to != here {
            let reason = format!("a welcome for task manager {to} reached {here}");
            return outbox.push(Action::DropSession { reason });
        }
        if let Some(known) = self.cluster.filter(|&known| known != cluster) {
            let reason = format!(
                "this task manager belongs to cluster {known}, the leader to {cluster}: \
                 check coordinator.addresses, or restart it to join the other cluster"
            );
            return outbox.push(Action::DropSession { reason });
        }
        // Fence first, report second: what the report says must not be changed by an older leader any more.
        let mut raised = self.fence;
        if let FenceOutcome::Stale { fence } = raised.admit(epoch) {
            let reason = format!("the leader has epoch {epoch}, epoch {fence} has begun");
            return outbox.push(Action::DropSession { reason });
        }
        if !mutant::active(Mutant::ReportBeforeFence) {
            self.fence = raised;
        }
        self.cluster = Some(cluster);
        self.contact = Contact::Connected;
        outbox.connect();
        outbox.tell(Outbound::Report(self.report()));
    }

    fn tick(&mut self, now: Instant, outbox: &mut Outbox) {
        self.end_overdue(now, outbox);
        if let Contact::Lost { since } = self.contact
            && now.since(since) >= self.settings.orphan_timeout
        {
            let limit = self.settings.orphan_timeout;
            let reason = format!(
                "no coordinator was reachable for {limit:?} (taskmanager.orphan-timeout), so the executors were ended"
            );
            self.end_all(&reason, outbox);
        }
    }
}
