//! How an agent starts executors, and what follows from their end.

use std::sync::Arc;

use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::id::{BlobId, JobId};
use tidemill_model::job_graph::Fingerprint;
use tidemill_model::time::Instant;

use super::action::{Action, ExecutorReport, ExecutorStart, Outbound};
use super::agent::Agent;
use super::event::ExitStatus;
use super::executor_lifecycle::{ExecutorId, ExecutorPhase};
use super::hosted_job::HostedJob;
use super::outbox::Outbox;

impl Agent {
    /// Forgets a job and ends whatever works for it.
    pub(super) fn end(&mut self, job: JobId, outbox: &mut Outbox) {
        let Some(hosted) = self.jobs.remove(&job) else { return };
        for attempt in hosted.storing() {
            outbox.push(Action::AbandonCollected { attempt });
        }
        if let Some(executor) = hosted.phase.executor() {
            self.kill(executor, job, outbox);
        }
    }

    pub(super) fn kill(&mut self, executor: ExecutorId, job: JobId, outbox: &mut Outbox) {
        outbox.push(Action::KillExecutor { executor });
        self.dying.insert(executor, job);
    }

    /// Starts what a job needs and does not have.
    pub(super) fn ensure_executor(&mut self, job: JobId, outbox: &mut Outbox) {
        let Some(hosted) = self.jobs.get_mut(&job) else { return };
        if hosted.phase != ExecutorPhase::Exited || !hosted.needs_executor() {
            return;
        }
        let Some(artifact) = hosted.spec.artifact() else { return };
        hosted.phase = ExecutorPhase::WaitingForArtifact;
        if self.fetching.insert(artifact) {
            outbox.push(Action::FetchArtifact { artifact });
        }
    }

    fn waiting_for(&self, artifact: BlobId) -> Vec<JobId> {
        let waits = |hosted: &HostedJob| {
            hosted.phase == ExecutorPhase::WaitingForArtifact && hosted.spec.artifact() == Some(artifact)
        };
        self.jobs.iter().filter(|(_, hosted)| waits(hosted)).map(|(&job, _)| job).collect()
    }

    pub(super) fn artifact_ready(&mut self, now: Instant, artifact: BlobId, outbox: &mut Outbox) {
        self.fetching.remove(&artifact);
        let Some(cluster) = self.cluster else { return };
        for job in self.waiting_for(artifact) {
            let Some(hosted) = self.jobs.get_mut(&job) else { continue };
            self.last_executor += 1;
            let executor = ExecutorId(self.last_executor);
            hosted.starting(executor, now + self.settings.cancellation_timeout);
            let slots = u64::try_from(hosted.slots().len()).unwrap_or(u64::MAX).max(1);
            let memory_bytes = self.settings.offer.memory_bytes.saturating_mul(slots);
            let (spec, attempt) = (Arc::clone(&hosted.spec), hosted.attempt);
            outbox.push(Action::StartExecutor(ExecutorStart { executor, spec, attempt, memory_bytes, cluster }));
        }
    }

    pub(super) fn artifact_failed(&mut self, artifact: BlobId, failure: &Failure, outbox: &mut Outbox) {
        self.fetching.remove(&artifact);
        for job in self.waiting_for(artifact) {
            if let Some(hosted) = self.jobs.get_mut(&job) {
                hosted.executor_gone(failure, outbox);
            }
        }
    }

    pub(super) fn started(&mut self, executor: ExecutorId, process_id: u32, outbox: &mut Outbox) {
        if let Some(hosted) = self.hosted_by(executor) {
            hosted.phase = ExecutorPhase::WaitingReady { executor, process_id };
            outbox.tell(Outbound::Executor(ExecutorReport { job: hosted.spec.id, process_id }));
        }
    }

    pub(super) fn ready(&mut self, executor: ExecutorId, fingerprint: Fingerprint, outbox: &mut Outbox) {
        let Some(hosted) = self.hosted_by(executor) else { return };
        let Some(process_id) = hosted.phase.process_id() else { return };
        let wanted = hosted.spec.fingerprint();
        if fingerprint == wanted {
            return hosted.ready(executor, process_id, outbox);
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
        let Some(hosted) = self.hosted_by(executor) else { return };
        let job = hosted.spec.id;
        hosted.executor_gone(failure, outbox);
        self.kill(executor, job, outbox);
    }

    pub(super) fn exited(&mut self, executor: ExecutorId, status: ExitStatus, last_words: &str, outbox: &mut Outbox) {
        let process = self.hosted_by(executor).and_then(|hosted| hosted.phase.process_id());
        let process = process.map_or_else(|| "of unknown id".to_owned(), |id| id.to_string());
        let mut message = format!("executor process {process} {status}");
        if !last_words.is_empty() {
            message += &format!("; the end of its standard error: {last_words}");
        }
        let failure = executor_lost(message);
        self.ended(executor, &failure, outbox);
    }

    /// The process is gone, or never came.
    pub(super) fn ended(&mut self, executor: ExecutorId, failure: &Failure, outbox: &mut Outbox) {
        if let Some(hosted) = self.hosted_by(executor) {
            hosted.executor_gone(failure, outbox);
        }
        if let Some(job) = self.dying.remove(&executor) {
            self.remove_files(job, outbox);
        }
    }

    /// Removes a released job's folder once none of its processes can write there.
    pub(super) fn remove_files(&mut self, job: JobId, outbox: &mut Outbox) {
        if !self.dying.values().any(|&dying| dying == job) && self.released.remove(&job) {
            outbox.push(Action::RemoveJobFiles { job });
        }
    }

    /// Ends the executors that have not stopped an attempt, or are not ready to remove staged output, in time.
    pub(super) fn end_overdue(&mut self, now: Instant, outbox: &mut Outbox) {
        let limit = self.settings.cancellation_timeout;
        let overdue = |hosted: &HostedJob| {
            let what = if hosted.cancellation_overdue(now) {
                format!("a task did not stop within {limit:?} of its cancellation")
            } else if hosted.removal_overdue(now) {
                format!("the program did not reach execute() within {limit:?}, to remove staged output")
            } else {
                return None;
            };
            hosted.phase.executor().map(|executor| (executor, what))
        };
        let overdue: Vec<(ExecutorId, String)> = self.jobs.values().filter_map(overdue).collect();
        for (executor, what) in overdue {
            self.give_up(executor, &executor_lost(format!("the executor was killed: {what}")), outbox);
        }
    }

    /// Ends every executor; the jobs stay, to be reported.
    pub(super) fn end_all(&mut self, reason: &str, outbox: &mut Outbox) {
        let failure = executor_lost(reason.to_owned());
        let jobs: Vec<JobId> = self.jobs.keys().copied().collect();
        for job in jobs {
            let Some(hosted) = self.jobs.get_mut(&job) else { continue };
            let executor = hosted.phase.executor();
            if hosted.phase != ExecutorPhase::Exited {
                hosted.executor_gone(&failure, outbox);
            }
            if let Some(executor) = executor {
                self.kill(executor, job, outbox);
            }
        }
    }
}

fn executor_lost(message: String) -> Failure {
    Failure { kind: FailureKind::ExecutorLost, vertex: None, operator: None, message }
}
