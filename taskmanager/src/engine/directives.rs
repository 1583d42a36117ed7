//! What follows from a leader's directives.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_model::execution::{ExecutionState, Failure, FailureKind, Finalization, JobDeployment, TerminalState};
use tidemill_model::id::{AttemptNumber, ExecutionAttemptId, JobId};
use tidemill_model::job::JobSpec;
use tidemill_model::time::Instant;

use super::action::{FinalizationOutcome, Outbound};
use super::agent::Agent;
use super::event::Directive;
use super::executor_lifecycle::ExecutorPhase;
use super::executor_lifecycle::GenerationId;
use super::generation::FinalizationWish;
use super::outbox::Outbox;

impl Agent {
    /// Does what a lawful leader wants.
    pub(super) fn directed(&mut self, now: Instant, directive: Directive, outbox: &mut Outbox) {
        match directive {
            Directive::Deploy { spec, deployment } => self.deploy(*spec, deployment, outbox),
            Directive::Cancel { attempts } => self.cancel(now, &attempts, outbox),
            Directive::Acknowledge { attempts } => self.acknowledge(&attempts, outbox),
            Directive::Finalize { spec, finalization } => self.finalize(*spec, finalization, outbox),
            Directive::Release { job } => self.release(job, outbox),
            Directive::Checkpoint(command) => self.checkpoint(&command, outbox),
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
        let name = GenerationId { job: spec.id, attempt: number };
        let hosted = self.jobs.entry(name.job).or_default();
        let superseded =
            deployment.start.iter().find_map(|id| Some((id.vertex, hosted.superseded(id.vertex, number)?)));
        if let Some((vertex, current)) = superseded {
            let reason = format!("deploy {name}: attempt {current} of sub-task {vertex} is or was here");
            return outbox.refuse(reason);
        }
        hosted.know(&deployment.start);
        hosted.generation(spec, number).deploy(deployment, outbox);
        self.released.remove(&name.job);
        self.retired.remove(&name);
        self.ensure_executor(name, outbox);
        self.retire(name.job, outbox);
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

    fn acknowledge(&mut self, attempts: &[ExecutionAttemptId], outbox: &mut Outbox) {
        for attempt in attempts {
            if let Some(generation) = self.generation_of(attempt) {
                generation.acknowledge(attempt);
            }
        }
        for job in attempts.iter().map(|attempt| attempt.job).collect::<BTreeSet<_>>() {
            self.retire(job, outbox);
        }
    }

    fn cancel(&mut self, now: Instant, attempts: &[ExecutionAttemptId], outbox: &mut Outbox) {
        let deadline = now + self.settings.cancellation_timeout;
        for (name, attempts) in by_generation(attempts) {
            let Some(generation) = self.generation(name) else {
                // Nothing of that name runs here, which is all that the leader wants to know.
                for attempt in attempts {
                    outbox.report(attempt, ExecutionState::Terminal(TerminalState::Canceled));
                }
                continue;
            };
            generation.cancel(&attempts, deadline, outbox);
            // An executor that is not ready hears nothing: the only way to stop it is to end it.
            if generation.phase.ready().is_none() && !generation.needs_executor() {
                let executor = generation.phase.executor();
                generation.phase = ExecutorPhase::Exited;
                if let Some(executor) = executor {
                    self.kill(executor, name, outbox);
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
        let hosted = self.jobs.entry(job).or_default();
        let mut number = AttemptNumber::default();
        if let Finalization::Commit { attempts, .. } = &finalization {
            let superseded = |(&vertex, &attempt)| Some((vertex, attempt, hosted.higher(vertex, attempt)?));
            if let Some((vertex, attempt, current)) = attempts.iter().find_map(superseded) {
                let reason =
                    format!("publish attempt {attempt} of sub-task {vertex} of job {job}: superseded by {current}");
                return outbox.refuse(reason);
            }
            number = attempts.values().max().copied().unwrap_or_default();
        }
        // Any executor of the job can do it: the newest has the best chance to run still.
        let name = GenerationId { job, attempt: hosted.newest().unwrap_or(number) };
        let wish = hosted.generation(spec, name.attempt).finalize(finalization, outbox);
        self.released.remove(&job);
        self.retired.remove(&name);
        match wish {
            FinalizationWish::Settled => {}
            FinalizationWish::NeedsExecutor => self.ensure_executor(name, outbox),
        }
    }

    fn release(&mut self, job: JobId, outbox: &mut Outbox) {
        if let Some(hosted) = self.jobs.remove(&job) {
            for generation in hosted.generations.values() {
                self.end(generation, outbox);
            }
        }
        self.retired.retain(|name| name.job != job);
        self.released.insert(job);
        self.remove_job_files(job, outbox);
    }
}

pub(super) fn by_generation(attempts: &[ExecutionAttemptId]) -> BTreeMap<GenerationId, Vec<ExecutionAttemptId>> {
    let mut generations: BTreeMap<GenerationId, Vec<ExecutionAttemptId>> = BTreeMap::new();
    for &id in attempts {
        generations.entry(GenerationId { job: id.job, attempt: id.attempt }).or_default().push(id);
    }
    generations
}

fn no_artifact(job: JobId) -> Failure {
    let message =
        format!("start job {job}: it has no artifact, so no executor can be started; submit it by its program");
    Failure { kind: FailureKind::InvalidArtifact, vertex: None, operator: None, message }
}
