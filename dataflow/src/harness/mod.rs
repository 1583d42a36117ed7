//! Runs a flow under a test's control: elements in, one by one, everything out, and a clock that is set by hand.
//!
//! The operators, chains, exchanges and tasks are the real ones, in the real executor. What makes a test repeatable is
//! that each call feeds one element, followed by a mark (a barrier), and waits until every output has got the mark:
//! then every task has done all that the element caused, and waits.

mod input;
mod output;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use tidemill_model::execution::{
    ExecutionState, Failure, JobDeployment, Schedule, ScheduledAttempt, TaskManagerLocation, TerminalState,
};
use tidemill_model::id::{AttemptNumber, ExecutionVertexId, JobId, TaskManagerId, TaskManagerName};
use tidemill_model::slot::SlotId;

use self::input::{Fed, Feed};
use self::output::{Place, Reached, Report};
use crate::flow::Flow;
use crate::record::{Control, END_OF_TIME, NO_TIME, Timestamp};
use crate::runtime::clock::ProcessingClock;
use crate::runtime::executor::{Executor, ExecutorEvent};
use crate::runtime::network::NoNetwork;

pub use input::{Feeder, FromTest};
pub use output::{Observations, TestEvent, TestWriter, ToTest};

/// How long one element may take: long enough for any machine, so that a flow that never comes to rest is an error.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many reports of outputs may wait; an output whose report does not fit waits for the test to look.
const PROGRESS_REPORTS: usize = 64;

/// How many states an attempt has at most, so that no task ever waits to tell one.
const STATES_PER_ATTEMPT: usize = 4;

/// Why a flow under test cannot be fed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A task failed.
    #[error("run job under test: it failed: {0}")]
    Failed(Failure),
    /// The input was ended before.
    #[error("feed job under test: this input was ended before; nothing may follow")]
    Ended,
    /// The input is not one of this flow's.
    #[error("feed job under test: the input belongs to another job")]
    Foreign,
    /// The flow did not come to rest.
    #[error("run job under test: it does not come to rest; are there other sources in it, without an end?")]
    Stuck,
}

/// The outputs and inputs of a flow that is being built, to be run by [`Harness::start`].
pub struct Bench {
    inputs: Vec<Input>,
    /// How many sub-tasks each output has.
    outputs: Vec<u32>,
    progress: (Sender<Report>, Receiver<Report>),
}

struct Input {
    feed: Box<dyn Feed>,
    /// To be compared with a handle's.
    feeder: Box<dyn std::any::Any + Send>,
    open: bool,
}

impl Default for Bench {
    fn default() -> Self {
        Self { inputs: Vec::new(), outputs: Vec::new(), progress: bounded(PROGRESS_REPORTS) }
    }
}

impl Bench {
    /// A further input.
    pub fn input<T: Send + 'static>(&mut self) -> (FromTest<T>, Feeder<T>) {
        let (pipe, feeder) = FromTest::new();
        let input = Input { feed: Box::new(feeder.clone()), feeder: Box::new(feeder.clone()), open: true };
        self.inputs.push(input);
        (pipe, feeder)
    }

    /// A further output, of so many sub-tasks.
    pub fn output<T>(&mut self, parallelism: u32) -> (ToTest<T>, Observations<T>) {
        let (number, observations) = (u32::try_from(self.outputs.len()).unwrap_or(u32::MAX), Observations::new());
        self.outputs.push(parallelism);
        (ToTest::new(number, observations.clone(), self.progress.0.clone()), observations)
    }
}

/// A flow that runs under a test's control; dropping it ends it.
pub struct Harness {
    executor: Executor,
    deployment: JobDeployment,
    events: Receiver<ExecutorEvent>,
    inputs: Vec<Input>,
    progress: Receiver<Report>,
    reached: BTreeMap<Place, Reached>,
    mark: u64,
    clock: Arc<AtomicI64>,
    /// How many attempts have not ended.
    running: usize,
    failure: Option<Failure>,
}

impl Harness {
    /// Starts every sub-task of a flow whose inputs and outputs are those of `bench`, at time 0 by its clock.
    #[must_use]
    pub fn start(flow: Flow, bench: Bench) -> Self {
        let deployment = deployment(&flow);
        let running = deployment.start.len();
        let (events_tx, events) = bounded(STATES_PER_ATTEMPT * running);
        let clock = Arc::new(AtomicI64::new(0));
        let (job, task_manager) = (deployment.job, task_manager());
        let executor = Executor::new(job, Arc::new(flow), task_manager, Arc::new(NoNetwork), events_tx)
            .with_clock(ProcessingClock::Manual(Arc::clone(&clock)));
        let places = (0u32..).zip(&bench.outputs).flat_map(|(output, &parallelism)| {
            (0..parallelism).map(move |subtask| (Place { output, subtask }, Reached::Mark(0)))
        });
        let (reached, progress) = (places.collect(), bench.progress.1);
        let (inputs, mark, failure) = (bench.inputs, 0, None);
        let mut harness =
            Self { executor, deployment, events, inputs, progress, reached, mark, clock, running, failure };
        harness.executor.deploy(&harness.deployment);
        // All tasks begin at time 0, before the first call can set the clock; that call tells of a failure.
        let _ = harness.settle();
        harness
    }

    /// The id that failures name.
    #[must_use]
    pub fn job(&self) -> JobId {
        self.deployment.job
    }

    /// Feeds a record with its event time, and waits until all that it causes has happened.
    ///
    /// # Errors
    /// A task failed, the input was ended, or the flow does not come to rest.
    pub fn push<T: 'static>(&mut self, feeder: &Feeder<T>, record: T, time: Option<Timestamp>) -> Result<(), Error> {
        self.open_input(feeder)?;
        feeder.feed(Fed::Record(record, time.unwrap_or(NO_TIME)))?;
        self.settle()
    }

    /// Feeds control, as [`push`](Self::push) does a record; the end of input comes after the end of event time.
    ///
    /// # Errors
    /// As those of `push`.
    pub fn control<T: 'static>(&mut self, feeder: &Feeder<T>, control: Control) -> Result<(), Error> {
        let index = self.open_input(feeder)?;
        if control == Control::EndOfInput {
            self.inputs[index].feed.control(Control::Watermark(END_OF_TIME))?;
            self.inputs[index].open = false;
        }
        self.inputs[index].feed.control(control)?;
        self.settle()
    }

    /// Sets the clock, and waits until all that is due has happened.
    ///
    /// # Errors
    /// A task failed, or the flow does not come to rest.
    pub fn set_processing_time(&mut self, time: Timestamp) -> Result<(), Error> {
        self.clock.store(time, Ordering::Relaxed);
        self.settle()
    }

    fn open_input<T: 'static>(&mut self, feeder: &Feeder<T>) -> Result<usize, Error> {
        self.check()?;
        let is_it = |input: &Input| input.feeder.downcast_ref::<Feeder<T>>().is_some_and(|own| own.is_same(feeder));
        let index = self.inputs.iter().position(is_it).ok_or(Error::Foreign)?;
        if self.inputs[index].open { Ok(index) } else { Err(Error::Ended) }
    }

    fn check(&self) -> Result<(), Error> {
        self.failure.clone().map_or(Ok(()), |failure| Err(Error::Failed(failure)))
    }

    /// Waits until every output has got a new mark or has ended; all tasks, when all inputs have.
    fn settle(&mut self) -> Result<(), Error> {
        self.check()?;
        self.mark += 1;
        for input in self.inputs.iter().filter(|input| input.open) {
            input.feed.control(Control::Barrier(self.mark))?;
        }
        let all_ended = self.inputs.iter().all(|input| !input.open);
        while !self.is_settled(all_ended) {
            select! {
                recv(self.events) -> event => self.on_event(event.ok())?,
                recv(self.progress) -> report => self.reached.extend(report),
                default(PATIENCE) => return Err(Error::Stuck),
            }
        }
        Ok(())
    }

    fn is_settled(&self, all_ended: bool) -> bool {
        let mark = Reached::Mark(self.mark);
        self.reached.values().all(|reached| *reached >= mark) && !(all_ended && self.running > 0)
    }

    fn on_event(&mut self, event: Option<ExecutorEvent>) -> Result<(), Error> {
        let Some(ExecutorEvent::Attempt { report, .. }) = event else { return Err(Error::Stuck) };
        match report.state {
            ExecutionState::Terminal(TerminalState::Failed(failure)) => {
                self.executor.cancel(&self.deployment.start);
                self.failure = Some(failure.clone());
                Err(Error::Failed(failure))
            }
            ExecutionState::Terminal(TerminalState::Finished { .. } | TerminalState::Canceled) => {
                self.running = self.running.saturating_sub(1);
                Ok(())
            }
            ExecutionState::Created
            | ExecutionState::Scheduled
            | ExecutionState::Deploying
            | ExecutionState::Initializing
            | ExecutionState::Running
            | ExecutionState::Canceling
            | ExecutionState::Reconciling => Ok(()),
        }
    }
}

fn task_manager() -> TaskManagerId {
    "00000000000000000000000000000001".parse().expect("it is an id")
}

/// Everything on one task manager.
fn deployment(flow: &Flow) -> JobDeployment {
    let job = "00000000000000000000000000000001".parse().expect("it is an id");
    let id = task_manager();
    let place = |vertex: ExecutionVertexId| {
        let slot = SlotId { task_manager: id, index: vertex.subtask.0 };
        (vertex, ScheduledAttempt { attempt: AttemptNumber(0), slot })
    };
    let location = TaskManagerLocation { id, name: TaskManagerName("test".to_owned()), data_address: String::new() };
    let attempts = flow.graph().execution_vertices().map(place).collect();
    let schedule = Schedule { attempts, task_managers: BTreeMap::from([(id, location)]) };
    let start = schedule.attempt_ids(job).map(|(attempt, _)| attempt).collect();
    JobDeployment { job, schedule, start, restore: None }
}
