//! The whole replicated state: a function of the log alone.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill_model::id::{BlobId, JobId, LeaderEpoch, NodeId, TaskManagerId};
use tidemill_model::job::JobSpec;
use tidemill_model::mutant::{self, Mutant};
use tidemill_model::slot::SlotId;
use tidemill_model::time::Timestamp;

use super::chaos::ChaosState;
use super::command::{Command, CommandBody, Response};
use super::job_state::JobState;

/// How many takeovers are remembered.
const TAKEOVERS_KEPT: usize = 64;

/// A blob that nothing refers to is kept this long: the job or the result that it was stored for comes after it.
const UNREFERENCED_KEPT: Duration = Duration::from_secs(600);

/// How many draining task managers are remembered. Nobody can tell one that is gone for good from one that is cut off, so
/// that those which drained first are forgotten first.
const DRAINING_KEPT: usize = 1024;

/// A blob that a majority holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobState {
    /// Its length.
    pub size_bytes: u64,
    /// Who stored it when it was registered.
    pub holders: BTreeSet<NodeId>,
    /// When it was last registered: what will refer to it may still be on its way.
    pub registered: Timestamp,
}

/// What a leadership found of one running job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeover {
    /// The leadership.
    pub epoch: LeaderEpoch,
    /// The job.
    pub job: JobId,
    /// Attempts that ran on undisturbed.
    pub adopted: u32,
    /// Attempts that had to be replaced.
    pub restarted: u32,
}

/// What every replica holds, byte for byte the same at the same log index.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClusterState {
    /// The newest leadership. Invariant: never goes back.
    pub epoch: LeaderEpoch,
    /// Who leads it.
    pub leader: Option<NodeId>,
    /// The replicated clock. Invariant: never goes back.
    pub now: Timestamp,
    /// Unfinished jobs and the kept history.
    pub jobs: BTreeMap<JobId, JobState>,
    /// Ended jobs, oldest first. Invariant: exactly the terminal ones of `jobs`.
    pub ended: VecDeque<JobId>,
    /// Ids made up to this time may be of jobs that have been forgotten.
    pub purge_horizon_ms: u64,
    /// Blobs that jobs may refer to.
    pub blobs: BTreeMap<BlobId, BlobState>,
    /// The last takeovers, oldest first.
    pub takeovers: VecDeque<Takeover>,
    /// What only the chaos harness uses.
    pub chaos: ChaosState,
    /// Task manager incarnations that drain, and since when.
    pub draining: BTreeMap<TaskManagerId, Timestamp>,
}

impl ClusterState {
    /// Applies the entry at `index`, appended in Raft term `term`. Deterministic; never fails.
    pub fn apply(&mut self, index: u64, term: u64, command: &Command) -> Response {
        let response = self.decide(index, term, command);
        debug_assert_eq!(self.check_invariants(), Ok(()));
        response
    }

    fn decide(&mut self, index: u64, term: u64, command: &Command) -> Response {
        if let CommandBody::LeaderStarted { node, term: elected } = &command.body {
            return self.start_leadership(index, term, *node, *elected, command.stamp);
        }
        // The fence at apply: a proposal that lingered in a queue is not lawful under a later leadership.
        if command.epoch != self.epoch && !mutant::active(Mutant::LateProposalAccepted) {
            return Response::Stale { current: self.epoch };
        }
        self.now = self.now.max(command.stamp);
        match &command.body {
            CommandBody::LeaderStarted { .. } => Response::Lingered,
            CommandBody::RegisterBlob { blob, size_bytes, holders } => {
                let (size_bytes, holders) = (*size_bytes, holders.clone());
                self.blobs.insert(*blob, BlobState { size_bytes, holders, registered: self.now });
                Response::Done
            }
            CommandBody::SubmitJob { spec } => self.submit(spec),
            CommandBody::Chaos(command) => Response::Chaos(self.chaos.apply(command)),
            CommandBody::SetDraining { task_manager, draining } => self.set_draining(*task_manager, *draining),
            CommandBody::RecordTakeover { job, adopted, restarted } => self.record_takeover(*job, *adopted, *restarted),
            CommandBody::EndJob { job, history_size, .. } => self.end_job(*job, *history_size, &command.body),
            CommandBody::CancelJob { job }
            | CommandBody::StopJob { job, .. }
            | CommandBody::RecordSchedule { job, .. }
            | CommandBody::RecordTerminal { job, .. }
            | CommandBody::FailOver { job, .. }
            | CommandBody::Relocate { job, .. }
            | CommandBody::ReserveCheckpoints { job, .. }
            | CommandBody::CompleteCheckpoint { job, .. }
            | CommandBody::RecordNotified { job, .. }
            | CommandBody::RecordGarbageDeleted { job, .. }
            | CommandBody::RecordStraggler { job }
            | CommandBody::FailJob { job, .. }
            | CommandBody::StartCommitting { job, .. } => self.apply_to_job(*job, &command.body),
        }
    }

    fn start_leadership(&mut self, index: u64, term: u64, node: NodeId, elected: u64, stamp: Timestamp) -> Response {
        if term != elected && !mutant::active(Mutant::LingeringLeaderStarted) {
            return Response::Lingered;
        }
        self.now = self.now.max(stamp);
        self.epoch = LeaderEpoch(index);
        self.leader = Some(node);
        Response::Started(self.epoch)
    }

    fn submit(&mut self, spec: &JobSpec) -> Response {
        if let Some(known) = self.jobs.get(&spec.id) {
            return if known.spec == *spec { Response::Submitted { created: false } } else { Response::Conflict };
        }
        if spec.id.unix_ms().unwrap_or(0) <= self.purge_horizon_ms {
            return Response::Expired;
        }
        if let Some(artifact) = spec.artifact().filter(|artifact| !self.blobs.contains_key(artifact)) {
            return Response::BlobMissing(artifact);
        }
        self.jobs.insert(spec.id, JobState::new(spec.clone(), self.now));
        Response::Submitted { created: true }
    }

    fn apply_to_job(&mut self, job: JobId, body: &CommandBody) -> Response {
        let now = self.now;
        self.jobs.get_mut(&job).map_or(Response::UnknownJob, |state| state.apply(body, now))
    }

    fn set_draining(&mut self, task_manager: TaskManagerId, draining: bool) -> Response {
        if !draining {
            self.draining.remove(&task_manager);
        } else if let Entry::Vacant(entry) = self.draining.entry(task_manager) {
            entry.insert(self.now);
        }
        if self.draining.len() > DRAINING_KEPT {
            let oldest = self.draining.iter().min_by_key(|(id, since)| (**since, **id)).map(|(&id, _)| id);
            self.draining.remove(&oldest.unwrap_or(task_manager));
        }
        Response::Done
    }

    fn record_takeover(&mut self, job: JobId, adopted: u32, restarted: u32) -> Response {
        let epoch = self.epoch;
        if self.takeovers.iter().any(|takeover| takeover.epoch == epoch && takeover.job == job) {
            return Response::Done;
        }
        self.takeovers.push_back(Takeover { epoch, job, adopted, restarted });
        if self.takeovers.len() > TAKEOVERS_KEPT {
            self.takeovers.pop_front();
        }
        Response::Done
    }

    fn end_job(&mut self, job: JobId, history_size: u32, body: &CommandBody) -> Response {
        let was_terminal = self.jobs.get(&job).is_some_and(|state| state.status.is_terminal());
        let response = self.apply_to_job(job, body);
        if response == Response::Done && !was_terminal {
            self.ended.push_back(job);
            self.forget_beyond(history_size);
        }
        response
    }

    /// Drops the oldest ended jobs and the blobs that nothing refers to, and nothing is about to.
    fn forget_beyond(&mut self, history_size: u32) {
        let keep = usize::try_from(history_size).unwrap_or(usize::MAX);
        let mut forgot = false;
        while self.ended.len() > keep {
            // A job with files to delete is remembered until they are gone.
            let tidy = |job: &JobId| self.jobs.get(job).is_none_or(|state| !state.needs_master());
            let Some(oldest) = self.ended.iter().position(tidy) else { break };
            let Some(job) = self.ended.remove(oldest) else { break };
            self.jobs.remove(&job);
            self.purge_horizon_ms = self.purge_horizon_ms.max(job.unix_ms().unwrap_or(0));
            forgot = true;
        }
        if forgot {
            let (referenced, now) = (self.referenced_blobs(), self.now);
            let fresh = |blob: &BlobState| now.since(blob.registered) < UNREFERENCED_KEPT;
            self.blobs.retain(|id, blob| referenced.contains(id) || fresh(blob));
        }
    }

    fn referenced_blobs(&self) -> BTreeSet<BlobId> {
        use tidemill_model::execution::TerminalState;
        let mut referenced = BTreeSet::new();
        for job in self.jobs.values() {
            referenced.extend(job.spec.artifact());
            for state in job.terminal.values() {
                if let TerminalState::Finished { collected, .. } = state {
                    referenced.extend(collected.iter().map(|part| part.blob));
                }
            }
        }
        referenced
    }

    /// The jobs that a leader has to look after: those that have not ended, and those that left files to delete.
    pub fn unfinished(&self) -> impl Iterator<Item = &JobState> + '_ {
        self.jobs.values().filter(|job| job.needs_master())
    }

    /// The slots that jobs hold by their schedules. One that has ended and left files to delete has a schedule still, and
    /// holds nothing: its slots may be others' by now.
    pub fn scheduled_slots(&self) -> impl Iterator<Item = (SlotId, JobId)> + '_ {
        let holders = self.jobs.values().filter(|job| !job.status.is_terminal());
        let schedules = holders.filter_map(|job| Some((job.spec.id, job.schedule.as_ref()?)));
        schedules.flat_map(|(job, schedule)| schedule.attempts.values().map(move |attempt| (attempt.slot, job)))
    }

    /// Checks what the fields promise.
    ///
    /// # Errors
    ///
    /// The broken invariant, in words.
    pub fn check_invariants(&self) -> Result<(), String> {
        let ended: BTreeSet<JobId> = self.ended.iter().copied().collect();
        for (id, job) in &self.jobs {
            if job.status.is_terminal() != ended.contains(id) {
                return Err(format!("job {id} is {} but its place among the ended differs", job.status));
            }
            job.check_invariants().map_err(|broken| format!("job {id}: {broken}"))?;
        }
        if ended.iter().any(|job| !self.jobs.contains_key(job)) {
            return Err("an ended job has been forgotten without leaving the list".to_owned());
        }
        Ok(())
    }
}
