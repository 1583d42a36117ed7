//! What follows from a leader's directives.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_model::checkpoint::CheckpointCommand;
use tidemill_model::execution::{ExecutionState, Failure, FailureKind, Finalization, JobDeployment, TerminalState};
use tidemill_model::id::{AttemptNumber, ExecutionAttemptId, JobId};
use tidemill_model::job::JobSpec;
use tidemill_model::time::Instant;

use super::action::{Action, ExecutorCommand, FinalizationOutcome, Outbound};
use super::agent::Agent;
use super::event::Directive;
use super::executor_lifecycle::ExecutorPhase;
use super::hosted_job::{FinalizationWish, HostedJob};
use super::outbox::Outbox;

impl Agent {
    /// Does what a lawful leader wants.
    pub(super) fn directed(&mut self, now: Instant, directive: Directive, outbox: &mut Outbox) {
        match directive {
            Directive::Deploy { spec, deployment } => self.deploy(*spec, deployment, outbox),
            Directive::Cancel { attempts } => self.cancel(now, &attempts, outbox),
            Directive::Acknowledge { attempts } => {
                for attempt in &attempts {
                    let hosted = self.jobs.get_mut(&attempt.job);
                    if let Some(hosted) = hosted.filter(|hosted| hosted.attempt == attempt.attempt) {
                        hosted.acknowledge(attempt);
                    }
                }
            }
            Directive::Finalize { spec, finalization } => self.finalize(*spec, finalization, outbox),
            Directive::Release { job } => self.release(job, outbox),
            Directive::Checkpoint(command) => self.checkpoint(command, outbox),
        }
    }

    fn deploy(&mut self, spec: JobSpec, deployment: JobDeployment, outbox: &mut Outbox) {
        if spec.artifact().is_none() {
            // Said to the leader, which would wait for these attempts for ever.
            for &id in &deployment.start {
                outbox.report(id, ExecutionState::Terminal(TerminalState::Failed(no_artifact(spec.id))));
            }
            return;
        }
        let number = match self.checked_number(&spec, &deployment) {
            Ok(number) => number,
            Err(reason) => return outbox.refuse(format!("deploy job {}: {reason}", spec.id)),
        };
        let job = spec.id;
        if let Some(hosted) = self.jobs.get(&job)
            && number < hosted.attempt
        {
            let current = hosted.attempt;
            return outbox.refuse(format!("deploy attempt {number} of job {job}: superseded by attempt {current}"));
        }
        let hosted = self.host(spec, number, outbox);
        hosted.deploy(deployment, outbox);
        self.ensure_executor(job, outbox);
    }

    /// The one attempt number of a deployment that fits this task manager.
    fn checked_number(&self, spec: &JobSpec, deployment: &JobDeployment) -> Result<AttemptNumber, String> {
        let first = deployment.start.first().ok_or("no attempt to start")?;
        for id in &deployment.start {
            let scheduled = deployment.schedule.attempts.get(&id.vertex);
            let here = scheduled.is_some_and(|scheduled| {
                scheduled.attempt == id.attempt
                    && scheduled.slot.task_manager == self.settings.task_manager
                    && scheduled.slot.index < self.settings.offer.count
            });
            if !here || id.job != spec.id || deployment.job != spec.id || id.attempt != first.attempt {
                return Err(format!("attempt {id} has no slot here in the schedule {}", deployment.schedule));
            }
        }
        Ok(first.attempt)
    }

    /// The hosted job at this attempt number; whatever ran under a lower one is ended and forgotten.
    fn host(&mut self, spec: JobSpec, number: AttemptNumber, outbox: &mut Outbox) -> &mut HostedJob {
        let job = spec.id;
        if self.jobs.get(&job).is_none_or(|hosted| hosted.attempt < number) {
            self.end(job, outbox);
            self.released.remove(&job);
            self.jobs.insert(job, HostedJob::new(Arc::new(spec), number));
        }
        self.jobs.get_mut(&job).expect("inserted above")
    }

    fn cancel(&mut self, now: Instant, attempts: &[ExecutionAttemptId], outbox: &mut Outbox) {
        let mut by_job: BTreeMap<JobId, Vec<ExecutionAttemptId>> = BTreeMap::new();
        for &attempt in attempts {
            by_job.entry(attempt.job).or_default().push(attempt);
        }
        let deadline = now + self.settings.cancellation_timeout;
        for (job, attempts) in by_job {
            let number = self.jobs.get(&job).map(|hosted| hosted.attempt);
            let (current, unknown): (Vec<_>, Vec<_>) =
                attempts.into_iter().partition(|attempt| Some(attempt.attempt) == number);
            // Nothing of that name runs here, which is all that the leader wants to know.
            for attempt in unknown {
                outbox.report(attempt, ExecutionState::Terminal(TerminalState::Canceled));
            }
            let Some(hosted) = self.jobs.get_mut(&job).filter(|_| !current.is_empty()) else { continue };
            hosted.cancel(&current, deadline, outbox);
            // An executor that is not ready hears nothing: the only way to stop it is to end it.
            if hosted.phase.ready().is_none() && !hosted.needs_executor() {
                let executor = hosted.phase.executor();
                hosted.phase = ExecutorPhase::Exited;
                if let Some(executor) = executor {
                    self.kill(executor, job, outbox);
                }
            }
        }
    }

    fn finalize(&mut self, spec: JobSpec, finalization: Finalization, outbox: &mut Outbox) {
        let job = spec.id;
        if spec.artifact().is_none() {
            let failure = Some(no_artifact(job));
            return outbox.tell(Outbound::Finalized(FinalizationOutcome { job, finalization, failure }));
        }
        let hosted_number = self.jobs.get(&job).map(|hosted| hosted.attempt);
        let number = match finalization {
            Finalization::Commit { attempt } => attempt,
            Finalization::Abort => hosted_number.unwrap_or_default(),
        };
        if let Some(current) = hosted_number.filter(|&current| number < current) {
            return outbox.refuse(format!("publish attempt {number} of job {job}: superseded by attempt {current}"));
        }
        match self.host(spec, number, outbox).finalize(finalization, outbox) {
            FinalizationWish::Settled => {}
            FinalizationWish::NeedsExecutor => self.ensure_executor(job, outbox),
        }
    }

    /// Passed on to the executor that runs these attempts; where none does, a trigger is declined, so that the leader
    /// need not wait for an answer that cannot come.
    fn checkpoint(&self, command: CheckpointCommand, outbox: &mut Outbox) {
        let first = command.attempts.first().copied();
        let hosted = first.and_then(|attempt| self.jobs.get(&attempt.job).filter(|job| job.attempt == attempt.attempt));
        match hosted.and_then(|hosted| hosted.phase.ready()) {
            Some(executor) => {
                outbox.push(Action::SendToExecutor { executor, command: ExecutorCommand::Checkpoint(command) });
            }
            None => {
                for report in command.declined("no executor runs the attempt here") {
                    outbox.tell(Outbound::Checkpoint(report));
                }
            }
        }
    }

    fn release(&mut self, job: JobId, outbox: &mut Outbox) {
        self.end(job, outbox);
        self.released.insert(job);
        self.remove_files(job, outbox);
    }
}

fn no_artifact(job: JobId) -> Failure {
    let message =
        format!("start job {job}: it has no artifact, so no executor can be started; submit it by its program");
    Failure { kind: FailureKind::InvalidArtifact, vertex: None, operator: None, message }
}
