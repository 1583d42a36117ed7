//! How an agent starts executors, and what follows from their end.

use std::sync::Arc;

use tidemill_model::config::STATE_BACKEND_TYPE;
use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::id::{BlobId, JobId};
use tidemill_model::job::StateBackend;
use tidemill_model::job_graph::Fingerprint;
use tidemill_model::time::Instant;

use super::action::{Action, ExecutorReport, ExecutorStart, Outbound};
use super::agent::Agent;
use super::event::ExecutorExit;
use super::executor_lifecycle::GenerationId;
use super::executor_lifecycle::{ExecutorId, ExecutorPhase};
use super::generation::Generation;
use super::memory_limit::MemoryLimit;
use super::outbox::Outbox;

impl Agent {
    /// Ends whatever works for a generation that was taken out.
    pub(super) fn end(&mut self, generation: &Generation, outbox: &mut Outbox) {
        for attempt in generation.storing() {
            outbox.push(Action::AbandonCollected { attempt });
        }
        if let Some(executor) = generation.phase.executor() {
            self.kill(executor, generation.name(), outbox);
        }
    }

    /// Ends the generations of a job of which nothing is left to do, since a newer one is here.
    pub(super) fn retire(&mut self, job: JobId, outbox: &mut Outbox) {
        let Some(hosted) = self.jobs.get_mut(&job) else { return };
        for generation in hosted.take_settled() {
            self.end(&generation, outbox);
            self.retired.insert(generation.name());
            self.remove_files(generation.name(), outbox);
        }
    }

    pub(super) fn kill(&mut self, executor: ExecutorId, generation: GenerationId, outbox: &mut Outbox) {
        outbox.push(Action::KillExecutor { executor });
        self.dying.insert(executor, generation);
    }

    /// Starts what a generation needs and does not have.
    pub(super) fn ensure_executor(&mut self, name: GenerationId, outbox: &mut Outbox) {
        let Some(generation) = self.generation(name) else { return };
        if generation.phase != ExecutorPhase::Exited || !generation.needs_executor() {
            return;
        }
        let Some(artifact) = generation.spec.artifact() else { return };
        generation.phase = ExecutorPhase::WaitingForArtifact;
        if self.fetching.insert(artifact) {
            outbox.push(Action::FetchArtifact { artifact });
        }
    }

    fn waiting_for(&self, artifact: BlobId) -> Vec<GenerationId> {
        let waits = |generation: &&Generation| {
            generation.phase == ExecutorPhase::WaitingForArtifact && generation.spec.artifact() == Some(artifact)
        };
        self.generations().filter(waits).map(Generation::name).collect()
    }

    pub(super) fn artifact_ready(&mut self, now: Instant, artifact: BlobId, outbox: &mut Outbox) {
        self.fetching.remove(&artifact);
        let Some(cluster) = self.cluster else { return };
        let settings = self.settings;
        let ready_by = now + settings.cancellation_timeout;
        for name in self.waiting_for(artifact) {
            let executor = ExecutorId(self.last_executor + 1);
            let Some(generation) = self.generation(name) else { continue };
            generation.starting(executor, ready_by);
            let slots = u64::try_from(generation.slots().len()).unwrap_or(u64::MAX).max(1);
            let memory_bytes = settings.offer.memory_bytes.saturating_mul(slots);
            let share = settings.slot_process_bytes.map(|bytes| bytes.saturating_mul(slots));
            let memory_limit = MemoryLimit::lowest(generation.spec.settings.executor_memory_bytes, share);
            generation.memory_limit = memory_limit;
            let (spec, attempt) = (Arc::clone(&generation.spec), generation.attempt);
            self.last_executor = executor.0;
            let start = ExecutorStart { executor, spec, attempt, memory_bytes, memory_limit, cluster };
            outbox.push(Action::StartExecutor(start));
        }
    }

    pub(super) fn artifact_failed(&mut self, artifact: BlobId, failure: &Failure, outbox: &mut Outbox) {
        self.fetching.remove(&artifact);
        for name in self.waiting_for(artifact) {
            if let Some(generation) = self.generation(name) {
                generation.executor_gone(failure, outbox);
            }
        }
    }

    pub(super) fn started(&mut self, executor: ExecutorId, process_id: u32, outbox: &mut Outbox) {
        if let Some(generation) = self.served_by(executor) {
            generation.phase = ExecutorPhase::WaitingReady { executor, process_id };
            outbox.tell(Outbound::Executor(ExecutorReport { generation: generation.name(), process_id }));
        }
    }

    pub(super) fn ready(&mut self, executor: ExecutorId, fingerprint: Fingerprint, outbox: &mut Outbox) {
        let Some(generation) = self.served_by(executor) else { return };
        let Some(process_id) = generation.phase.process_id() else { return };
        let wanted = generation.spec.fingerprint();
        if fingerprint == wanted {
            return generation.ready(executor, process_id, outbox);
        }
        let message = format!(
            "the program built graph {fingerprint} here, but {wanted} was submitted: build the flow from the \
             arguments alone, not from the clock, the machine or the environment"
        );
        let failure = Failure { kind: FailureKind::GraphMismatch, vertex: None, operator: None, message };
        self.give_up(executor, &failure, outbox);
    }

    /// Ends an executor that is of no use, with a reason of its own.
    pub(super) fn give_up(&mut self, executor: ExecutorId, failure: &Failure, outbox: &mut Outbox) {
        let Some(generation) = self.served_by(executor) else { return };
        let name = generation.name();
        generation.executor_gone(failure, outbox);
        self.kill(executor, name, outbox);
    }

    pub(super) fn exited(&mut self, executor: ExecutorId, exit: &ExecutorExit, outbox: &mut Outbox) {
        let ExecutorExit { status, last_words, memory_peak_bytes } = exit;
        let generation = self.served_by(executor);
        let process = generation.as_ref().and_then(|generation| generation.phase.process_id());
        let process = process.map_or_else(|| "of unknown id".to_owned(), |id| id.to_string());
        let mut message = format!("executor process {process} {status}");
        let limit = generation.as_ref().and_then(|generation| generation.memory_limit);
        if let Some(blame) = limit.and_then(|limit| limit.blame(*memory_peak_bytes, last_words)) {
            message += &format!(": {blame}");
            if generation.is_some_and(|generation| generation.spec.settings.state_backend == StateBackend::Heap) {
                message += &format!(
                    "; keyed state that does not fit into memory can be on disk: {} = rocksdb",
                    STATE_BACKEND_TYPE.key()
                );
            }
        }
        if !last_words.is_empty() {
            message += &format!("; the end of its standard error: {last_words}");
        }
        let failure = executor_lost(message);
        self.ended(executor, &failure, outbox);
    }

    /// The process is gone, or never came.
    pub(super) fn ended(&mut self, executor: ExecutorId, failure: &Failure, outbox: &mut Outbox) {
        if let Some(generation) = self.served_by(executor) {
            generation.executor_gone(failure, outbox);
        }
        if let Some(name) = self.dying.remove(&executor) {
            self.remove_files(name, outbox);
            self.remove_job_files(name.job, outbox);
        }
    }

    /// Removes an ended generation's folder once none of its processes can write there.
    fn remove_files(&mut self, name: GenerationId, outbox: &mut Outbox) {
        if !self.dying.values().any(|&dying| dying == name) && self.retired.remove(&name) {
            outbox.push(Action::RemoveGenerationFiles { generation: name });
        }
    }

    /// Removes a released job's folder once none of its processes can write there.
    pub(super) fn remove_job_files(&mut self, job: JobId, outbox: &mut Outbox) {
        if !self.dying.values().any(|dying| dying.job == job) && self.released.remove(&job) {
            outbox.push(Action::RemoveJobFiles { job });
        }
    }

    /// Ends the executors that have not stopped an attempt, or are not ready to remove staged output, in time.
    pub(super) fn end_overdue(&mut self, now: Instant, outbox: &mut Outbox) {
        let limit = self.settings.cancellation_timeout;
        let overdue = |generation: &Generation| {
            let what = if generation.cancellation_overdue(now) {
                format!("a task did not stop within {limit:?} of its cancellation")
            } else if generation.removal_overdue(now) {
                format!("the program did not reach execute() within {limit:?}, to remove staged output")
            } else {
                return None;
            };
            generation.phase.executor().map(|executor| (executor, what))
        };
        let overdue: Vec<(ExecutorId, String)> = self.generations().filter_map(overdue).collect();
        for (executor, what) in overdue {
            self.give_up(executor, &executor_lost(format!("the executor was killed: {what}")), outbox);
        }
    }

    /// Ends every executor; the jobs stay, to be reported.
    pub(super) fn end_all(&mut self, reason: &str, outbox: &mut Outbox) {
        let failure = executor_lost(reason.to_owned());
        let names: Vec<GenerationId> = self.generations().map(Generation::name).collect();
        for name in names {
            let Some(generation) = self.generation(name) else { continue };
            let executor = generation.phase.executor();
            if generation.phase != ExecutorPhase::Exited {
                generation.executor_gone(&failure, outbox);
            }
            if let Some(executor) = executor {
                self.kill(executor, name, outbox);
            }
        }
    }
}

fn executor_lost(message: String) -> Failure {
    Failure { kind: FailureKind::ExecutorLost, vertex: None, operator: None, message }
}
