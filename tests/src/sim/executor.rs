//! Executor processes: they start, prove their graph, obey their agent in order, and end.
//!
//! This imitates `taskmanager/src/runtime/executor.rs` and the program behind it: what an executor says reaches its
//! agent in order, and all of it before the news of its end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tidemill_model::execution::{
    AttemptReport, ExecutionState, Failure, FailureKind, Finalization, JobDeployment, TerminalState,
};
use tidemill_model::id::{ExecutionAttemptId, ExecutionVertexId, JobId};
use tidemill_model::job::JobSpec;
use tidemill_taskmanager::engine::{
    AttemptChange, Event as AgentEvent, ExecutorCommand, ExecutorExit, ExecutorId, ExecutorStart, ExitStatus,
    FinalizationStep,
};

use super::clock::{MILLISECOND, Time};
use super::event::{Event, ExecutorTimer};
use super::fact::Fact;
use super::plan::{Profile, SINKS};
use super::storage::Publication;
use super::task::{Task, expected_output};
use super::world::World;

/// How often tasks go on.
const STEP: Time = 40 * MILLISECOND;

/// One process.
#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) spec: Arc<JobSpec>,
    pub(crate) tasks: BTreeMap<ExecutionVertexId, Task>,
    /// Every attempt that it was ever given: what they sent is lost with it.
    hosted: BTreeSet<ExecutionAttemptId>,
    commands: VecDeque<ExecutorCommand>,
    stepping: bool,
    /// When the last thing that it has said arrives.
    said_at: Time,
    /// It has been killed, or has died: by this signal.
    dying: Option<i32>,
}

impl World {
    fn executor_later(&mut self, place: usize, executor: ExecutorId, delay: Time, timer: ExecutorTimer) {
        let boot = self.places[place].life.boot;
        self.after(delay, Event::Executor { place, boot, executor, timer });
    }

    fn executor(&mut self, place: usize, executor: ExecutorId) -> Option<&mut Executor> {
        self.places[place].executors.get_mut(&executor)
    }

    pub(crate) fn start_executor(&mut self, place: usize, start: ExecutorStart) {
        let (id, job) = (self.places[place].id, start.spec.id);
        self.storage.local.insert((id, job));
        let executor = Executor {
            spec: start.spec,
            tasks: BTreeMap::new(),
            hosted: BTreeSet::new(),
            commands: VecDeque::new(),
            stepping: false,
            said_at: self.now,
            dying: None,
        };
        self.places[place].executors.insert(start.executor, executor);
        let delay = self.random.between(2, 40) * MILLISECOND;
        self.executor_later(place, start.executor, delay, ExecutorTimer::Started);
    }

    /// Says something to its agent, after all that it has said before.
    pub(crate) fn say(&mut self, place: usize, executor: ExecutorId, event: AgentEvent) {
        let (now, delay) = (self.now, self.random.between(50, 900));
        let Some(process) = self.executor(place, executor) else { return };
        process.said_at = (now + delay).max(process.said_at + 1);
        let delay = process.said_at - now;
        let boot = self.places[place].life.boot;
        self.after(delay, Event::Agent { place, boot, event: Box::new(event) });
    }

    pub(crate) fn say_state(
        &mut self,
        place: usize,
        executor: ExecutorId,
        attempt: ExecutionAttemptId,
        state: ExecutionState,
    ) {
        let change = AttemptChange { report: AttemptReport { attempt, state }, collected: Vec::new() };
        self.say(place, executor, AgentEvent::AttemptChanged { executor, change });
    }

    pub(crate) fn tell_executor(&mut self, place: usize, executor: ExecutorId, command: ExecutorCommand) {
        let delay = self.random.between(1, 30) * MILLISECOND;
        let Some(process) = self.executor(place, executor) else { return };
        process.commands.push_back(command);
        if process.commands.len() == 1 {
            self.executor_later(place, executor, delay, ExecutorTimer::Obey);
        }
    }

    /// Ends a process by a signal, a little later.
    pub(crate) fn kill_executor(&mut self, place: usize, executor: ExecutorId, signal: i32) {
        let (now, delay) = (self.now, self.random.between(1, 40) * MILLISECOND);
        let Some(process) = self.executor(place, executor) else { return };
        if process.dying.replace(signal).is_none() {
            let delay = delay.max(process.said_at.saturating_sub(now) + 1);
            self.executor_later(place, executor, delay, ExecutorTimer::Exited);
        }
    }

    pub(crate) fn executor_timer(&mut self, place: usize, boot: u64, executor: ExecutorId, timer: ExecutorTimer) {
        if self.places[place].life.boot != boot || self.executor(place, executor).is_none() {
            return;
        }
        match timer {
            ExecutorTimer::Started => {
                self.last_process += 1;
                let process_id = self.last_process;
                self.say(place, executor, AgentEvent::ExecutorStarted { executor, process_id });
                let delay = self.random.between(5, 120) * MILLISECOND;
                self.executor_later(place, executor, delay, ExecutorTimer::Ready);
            }
            ExecutorTimer::Ready => {
                let Some(process) = self.executor(place, executor) else { return };
                let fingerprint = process.spec.fingerprint();
                self.say(place, executor, AgentEvent::ExecutorReady { executor, fingerprint });
            }
            ExecutorTimer::Step => self.step_tasks(place, executor),
            ExecutorTimer::Obey => self.obey(place, executor),
            ExecutorTimer::Exited => self.executor_exited(place, executor),
        }
    }

    fn executor_exited(&mut self, place: usize, executor: ExecutorId) {
        let now = self.now;
        let Some(process) = self.executor(place, executor) else { return };
        // It may have spoken since it was killed.
        let said_at = process.said_at;
        let status = ExitStatus::Signal(process.dying.unwrap_or(9));
        self.executor_gone(place, executor);
        self.places[place].executors.remove(&executor);
        let exit = ExecutorExit { status, last_words: String::new(), memory_peak_bytes: 0 };
        let event = AgentEvent::ExecutorExited { executor, exit };
        let boot = self.places[place].life.boot;
        let delay = said_at.saturating_sub(now) + 1;
        self.after(delay, Event::Agent { place, boot, event: Box::new(event) });
    }

    /// The process is no more: its tasks have stopped, and nothing that they sent arrives any more.
    pub(crate) fn executor_gone(&mut self, place: usize, executor: ExecutorId) {
        let Some(process) = self.executor(place, executor) else { return };
        let running: Vec<ExecutionAttemptId> = process.tasks.values().map(|task| task.attempt).collect();
        let hosted = std::mem::take(&mut process.hosted);
        process.tasks.clear();
        for attempt in running {
            self.task_stopped(place, attempt);
        }
        self.plane.lose(&hosted);
    }

    /// A sink runs although its job has ended: on a task manager that no leader reaches, and that everybody else has given
    /// up. What it stages once the others have removed theirs stays.
    fn excuse_if_ended(&mut self, attempt: ExecutionAttemptId) {
        let ended = self.watch.truth().jobs.get(&attempt.job).is_none_or(|state| state.status.is_terminal());
        if ended && attempt.vertex.vertex == SINKS {
            self.storage.excused.insert(attempt.job);
        }
    }

    pub(crate) fn task_stopped(&mut self, place: usize, attempt: ExecutionAttemptId) {
        self.excuse_if_ended(attempt);
        let task_manager = self.places[place].id;
        self.note(&Fact::TaskStopped { attempt, task_manager });
    }

    fn obey(&mut self, place: usize, executor: ExecutorId) {
        let Some(process) = self.executor(place, executor) else { return };
        let Some(command) = process.commands.pop_front() else { return };
        let more = !process.commands.is_empty();
        if more {
            let delay = self.random.between(1, 20) * MILLISECOND;
            self.executor_later(place, executor, delay, ExecutorTimer::Obey);
        }
        match command {
            ExecutorCommand::Deploy(deployment) => self.deploy(place, executor, &deployment),
            ExecutorCommand::Cancel(attempts) => self.cancel(place, executor, &attempts),
            ExecutorCommand::Checkpoint(command) => self.checkpoint_command(place, executor, &command),
            ExecutorCommand::Finalize(finalization) => self.finalize(place, executor, finalization),
        }
    }

    fn deploy(&mut self, place: usize, executor: ExecutorId, deployment: &JobDeployment) {
        let task_manager = self.places[place].id;
        for &attempt in &deployment.start {
            let job = self.plan.jobs.iter().find(|job| job.spec.id == attempt.job).expect("only planned jobs run");
            let mut task = Task::new(attempt, job, deployment);
            if let Err(failure) = self.restore(&mut task, deployment.restore.as_ref()) {
                let failed = ExecutionState::Terminal(TerminalState::Failed(failure));
                self.say_state(place, executor, attempt, failed);
                continue;
            }
            let Some(process) = self.executor(place, executor) else { return };
            process.hosted.insert(attempt);
            process.tasks.insert(attempt.vertex, task);
            self.excuse_if_ended(attempt);
            self.note(&Fact::TaskStarted { attempt, task_manager });
            self.say_state(place, executor, attempt, ExecutionState::Initializing);
        }
        let Some(process) = self.executor(place, executor) else { return };
        if !std::mem::replace(&mut process.stepping, true) {
            self.executor_later(place, executor, STEP, ExecutorTimer::Step);
        }
    }

    fn step_tasks(&mut self, place: usize, executor: ExecutorId) {
        let Some(process) = self.executor(place, executor) else { return };
        let mut tasks = std::mem::take(&mut process.tasks);
        for task in tasks.values_mut() {
            if let Some(state) = self.step_task((place, executor), task) {
                let attempt = task.attempt;
                if state.is_terminal() {
                    task.ended = true;
                    self.task_stopped(place, attempt);
                }
                if let ExecutionState::Terminal(TerminalState::Failed(_)) = state {
                    self.plane.lose(&BTreeSet::from([attempt]));
                }
                self.say_state(place, executor, attempt, state);
            }
        }
        tasks.retain(|_, task| !task.ended);
        let Some(process) = self.executor(place, executor) else { return };
        process.tasks = tasks;
        process.stepping = !process.tasks.is_empty();
        if process.stepping {
            self.executor_later(place, executor, STEP, ExecutorTimer::Step);
        }
    }

    fn cancel(&mut self, place: usize, executor: ExecutorId, attempts: &[ExecutionAttemptId]) {
        for &attempt in attempts {
            // Some user code does not stop when it is told to: its executor will be killed.
            let stuck = self.plan.profile == Profile::Everything && self.nemesis.active && self.random.chance(30);
            let Some(process) = self.executor(place, executor) else { return };
            let runs = process.tasks.get(&attempt.vertex).is_some_and(|task| task.attempt == attempt);
            if runs && !stuck {
                process.tasks.remove(&attempt.vertex);
                self.task_stopped(place, attempt);
                self.say_state(place, executor, attempt, ExecutionState::Terminal(TerminalState::Canceled));
            }
        }
    }

    fn finalize(&mut self, place: usize, executor: ExecutorId, finalization: Finalization) {
        let Some(process) = self.executor(place, executor) else { return };
        let spec = Arc::clone(&process.spec);
        let step = FinalizationStep::of(&finalization);
        let failure = if self.nemesis.active && self.plan.profile == Profile::Everything && self.random.chance(60) {
            Some(io_failure("the disk is full"))
        } else {
            match finalization {
                Finalization::Commit { attempts, .. } => {
                    let sinks = attempts.into_iter().filter(|(vertex, _)| vertex.vertex == SINKS);
                    let id = |(vertex, attempt)| ExecutionAttemptId { job: spec.id, vertex, attempt };
                    let attempts = sinks.map(id).collect();
                    self.publish(spec.id, attempts)
                }
                Finalization::Abort { .. } => {
                    self.storage.drop_pending(spec.id);
                    None
                }
            }
        };
        self.say(place, executor, AgentEvent::ExecutorFinalized { executor, step, failure });
    }

    fn publish(&mut self, job: JobId, attempts: Vec<ExecutionAttemptId>) -> Option<Failure> {
        match self.storage.publish(job, &attempts) {
            Publication::Done => {
                for transaction in self.storage.of_attempts(&attempts) {
                    self.commit(transaction);
                }
                self.storage.drop_pending(job);
                let planned = self.plan.jobs.iter().find(|planned| planned.spec.id == job);
                let (content, expected) = (self.storage.content(job), planned.map(expected_output).unwrap_or_default());
                let attempts = &attempts;
                self.note(&Fact::Published { job, attempts, content: &content, expected: &expected });
                None
            }
            Publication::Repeated => None,
            Publication::Missing => Some(io_failure("something that was to be published is not there")),
        }
    }
}

pub(crate) fn io_failure(message: &str) -> Failure {
    Failure { kind: FailureKind::Io, vertex: None, operator: None, message: message.to_owned() }
}
