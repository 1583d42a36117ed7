//! The entry of a program: collects its data flow, and runs it in the role that this process has.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_dataflow::flow::{Flow, FlowBuilder};
use tidemill_dataflow::runtime::counter::{Counter, Counters};
use tidemill_dataflow::runtime::process::{ExecutorRole, detect};
use tidemill_model::config::{CLIENT_TIMEOUT, Configuration, PARALLELISM_DEFAULT, Scope};
use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::id::JobId;
use tidemill_model::job::{JobResult, JobSettings, JobSpec, Program, RuntimeMode, StateBackend};
use tidemill_storage::CheckpointStorage;
use uuid::Uuid;

use crate::arguments::{Arguments, split_addresses};
use crate::error::Error;
use crate::result::{JobExecutionResult, Outcome};
use crate::submission::Submission;
use crate::{embedded, submission};

/// Names the coordinators when `--coordinators` does not.
const COORDINATORS_VARIABLE: &str = "TIDEMILL_COORDINATORS";

/// How many environments this process has begun to make.
///
/// An executor finds its job by counting the `execute` calls of the only one that it can have; so a job can be
/// submitted only by a program that has one, too.
static ENVIRONMENTS: AtomicU32 = AtomicU32::new(0);

/// What this process is for.
enum Role {
    /// Runs its jobs in an embedded cluster.
    Embedded,
    /// Submits its jobs.
    Client { coordinators: Vec<String>, timeout: Duration, detached: bool },
    /// Runs sub-tasks for a task manager; none: it was used up by a flow that could not be built.
    Executor(Option<Box<ExecutorRole>>),
    /// Prints what it would run.
    Plan,
}

/// What changes while the program describes its jobs.
struct State {
    role: Role,
    builder: FlowBuilder,
    runtime_mode: RuntimeMode,
    /// The results of the `execute` calls so far.
    results: Vec<JobResult>,
}

struct Inner {
    arguments: Vec<String>,
    parallelism: u32,
    settings: JobSettings,
    counters: Counters,
    state: Mutex<State>,
}

/// Where a program's streams begin, and what runs them.
///
/// The same program runs in three roles. Started plainly, it runs its jobs in an embedded cluster in its own process.
/// With `--coordinators host:port,...` (or the variable `TIDEMILL_COORDINATORS`) it submits itself and follows its
/// jobs. A task manager starts it once more, as an executor: then it must build the same flow from the same
/// arguments, and [`execute`](Self::execute) does not return.
///
/// A program that is to run on a cluster has one environment, for all its jobs: a second one in an executor, or one
/// that would submit jobs, is refused. Clones are handles to the same environment.
///
/// ```
/// use tidemill::Environment;
///
/// # fn main() -> Result<(), tidemill::Error> {
/// let env = Environment::from_args()?;
/// let lengths = env.from_collection(vec!["a".to_owned(), "bcd".to_owned()]).map(|word| word.len()).collect();
/// let result = env.execute("lengths")?;
/// let mut lengths = result.collected(&lengths)?;
/// lengths.sort();
/// assert_eq!(lengths, [1, 3]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Environment {
    inner: Arc<Inner>,
}

impl Environment {
    /// Reads the role of this process and the command line.
    ///
    /// Tidemill's own arguments are taken out: `--coordinators a,b,c`, `--parallelism N` or `-p N`, `-D key=value`,
    /// `--detached` (return once the job is accepted and, if it starts from a savepoint, has taken up its state) and
    /// `--plan` (print the plan and exit). Whatever follows `--` is left alone. Call it first: in an executor,
    /// whatever the program does before happens there too.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// let env = tidemill::Environment::from_args()?;
    /// println!("left for the program: {:?}", env.args());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// An argument or option is wrong, the task manager's orders cannot be read, or it is a second environment on a
    /// cluster.
    pub fn from_args() -> Result<Self, Error> {
        let role = inherited_role()?;
        let text = |argument: std::ffi::OsString| argument.to_string_lossy().into_owned();
        let mut arguments = Arguments::parse(std::env::args_os().skip(1).map(text))?;
        if arguments.coordinators.is_empty()
            && let Ok(addresses) = std::env::var(COORDINATORS_VARIABLE)
        {
            arguments.coordinators = split_addresses(&addresses);
        }
        Self::new(arguments, role)
    }

    /// Like [`from_args`](Self::from_args) with these arguments, whatever those and the variables of the process are.
    ///
    /// In an executor it has that role all the same.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// let env = tidemill::Environment::with_arguments(["-p", "2", "input.txt"])?;
    /// assert_eq!((env.parallelism(), env.args()), (2, &["input.txt".to_owned()][..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`from_args`](Self::from_args).
    pub fn with_arguments<A: Into<String>>(arguments: impl IntoIterator<Item = A>) -> Result<Self, Error> {
        let role = inherited_role()?;
        Self::new(Arguments::parse(arguments.into_iter().map(Into::into))?, role)
    }

    fn new(arguments: Arguments, executor: Option<ExecutorRole>) -> Result<Self, Error> {
        let configuration = Configuration::parse(Scope::Job, [], &arguments.overrides)?;
        let role = if executor.is_some() {
            Role::Executor(executor.map(Box::new))
        } else if arguments.plan {
            Role::Plan
        } else if arguments.coordinators.is_empty() {
            Role::Embedded
        } else if ENVIRONMENTS.load(Ordering::SeqCst) > 1 {
            return Err(Error::SecondEnvironment);
        } else {
            let (coordinators, detached) = (arguments.coordinators.clone(), arguments.detached);
            Role::Client { coordinators, timeout: configuration.get(&CLIENT_TIMEOUT), detached }
        };
        let configured = configuration.get(&PARALLELISM_DEFAULT);
        let parallelism = match (&role, arguments.parallelism) {
            (_, Some(parallelism)) => parallelism,
            (Role::Embedded, None) if !arguments.is_set(PARALLELISM_DEFAULT.key()) => cores(),
            (Role::Embedded | Role::Client { .. } | Role::Executor(_) | Role::Plan, None) => configured,
        };
        let counters = Counters::default();
        let settings = configuration.job_settings();
        let (builder, runtime_mode) = (FlowBuilder::new(counters.clone()), settings.runtime_mode);
        let state = State { role, builder, runtime_mode, results: Vec::new() };
        Ok(Self {
            inner: Arc::new(Inner {
                arguments: arguments.rest,
                parallelism,
                settings,
                counters,
                state: Mutex::new(state),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the flow that is being described.
    pub(crate) fn build<R>(&self, change: impl FnOnce(&mut FlowBuilder) -> R) -> R {
        change(&mut self.state().builder)
    }

    /// The number of the next `execute`.
    pub(crate) fn execute_index(&self) -> u32 {
        execute_index(&self.state().results)
    }

    /// The arguments that are the program's own.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// let env = tidemill::Environment::with_arguments(["in", "-p", "2", "out"])?;
    /// assert_eq!(env.args(), ["in", "out"]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.inner.arguments
    }

    /// The parallelism of operators that do not have one of their own: `--parallelism`, else `parallelism.default`,
    /// else the number of processors in an embedded cluster and 1 on any other.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// let env = tidemill::Environment::with_arguments(["-D", "parallelism.default=3"])?;
    /// assert_eq!(env.parallelism(), 3);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn parallelism(&self) -> u32 {
        self.inner.parallelism
    }

    /// Sets whether aggregates give final results once (batch) or running updates (streaming), whatever
    /// `execution.runtime-mode` says: by default it depends on whether all sources end.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// let env = tidemill::Environment::from_args()?;
    /// env.set_runtime_mode(tidemill::RuntimeMode::Streaming);
    /// let counts = env.generate_sequence(0..3, None).key_by(|_| ()).count().collect();
    /// assert_eq!(env.execute("updates")?.collected(&counts)?, [((), 1), ((), 2), ((), 3)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_runtime_mode(&self, mode: RuntimeMode) {
        self.state().runtime_mode = mode;
    }

    /// A counter for the program's closures; its total over all sub-tasks is in the job's result.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// let env = tidemill::Environment::from_args()?;
    /// let numbers = env.counter("numbers");
    /// env.generate_sequence(0..100, None).map(move |number| { numbers.add(1); number }).discard();
    /// assert_eq!(env.execute("count")?.counter("numbers"), Some(100));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn counter(&self, name: &str) -> Counter {
        self.inner.counters.counter(name)
    }

    /// Runs what was described since the last call, and waits for its end.
    ///
    /// In an executor it does not return, except for the calls before the one that the executor was started for:
    /// those return the results that the client got.
    ///
    /// ```
    /// # fn main() -> Result<(), tidemill::Error> {
    /// let env = tidemill::Environment::from_args()?;
    /// env.generate_sequence(0..10, None).discard();
    /// let result = env.execute("ten numbers")?;
    /// assert!(result.accumulators().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The flow is not valid, the cluster cannot be reached or refuses, or the job failed or was cancelled.
    pub fn execute(&self, name: &str) -> Result<JobExecutionResult, Error> {
        let builder = FlowBuilder::new(self.inner.counters.clone());
        let (builder, runtime_mode) = {
            let mut state = self.state();
            (std::mem::replace(&mut state.builder, builder), state.runtime_mode)
        };
        let flow = match builder.build(runtime_mode) {
            Ok(flow) => Arc::new(flow),
            Err(error) => return Err(self.refuse(error.into())),
        };
        let execute_index = self.execute_index();
        let outcome = self.run(name, execute_index, flow)?;
        self.state().results.push(outcome.result.clone());
        Ok(JobExecutionResult::new(execute_index, outcome))
    }

    /// An executor does not return with an error: its task manager is told instead.
    fn refuse(&self, error: Error) -> Error {
        if let Role::Executor(role) = &mut self.state().role
            && let Some(role) = role.take()
        {
            let (kind, message) = (FailureKind::GraphMismatch, error.to_string());
            role.refuse(Failure { kind, vertex: None, operator: None, message });
        }
        error
    }

    fn run(&self, name: &str, execute_index: u32, flow: Arc<Flow>) -> Result<Outcome, Error> {
        let checkpointing = self.inner.settings.checkpointing.clone().filter(|_| flow.mode() != RuntimeMode::Batch);
        let settings = JobSettings { runtime_mode: flow.mode(), checkpointing, ..self.inner.settings.clone() };
        if cfg!(not(feature = "rocksdb")) && settings.state_backend != StateBackend::Heap {
            return Err(Error::NoRocksDb);
        }
        let mut state = self.state();
        if settings.checkpointing.is_some() && matches!(state.role, Role::Client { .. } | Role::Embedded) {
            flow.check_uids()?;
        }
        if let Some(checkpointing) = &settings.checkpointing
            && matches!(state.role, Role::Client { .. })
        {
            // Coordinators look at the storage itself; what they can use, the job's executors must be able to use, too.
            CheckpointStorage::check_url(&checkpointing.directory)?;
        }
        match &mut state.role {
            Role::Plan => {
                print!("{}", flow.graph());
                std::process::exit(0)
            }
            Role::Executor(role) => run_as_executor(role, execute_index, flow),
            Role::Client { coordinators, timeout, detached } => {
                let submission = Submission {
                    coordinators: coordinators.clone(),
                    name: name.to_owned(),
                    graph: flow.graph().clone(),
                    settings,
                    execute_index,
                    timeout: *timeout,
                    detached: *detached,
                    earlier_results: state.results.clone(),
                };
                drop(state);
                Ok(submission::run(submission)?.into())
            }
            Role::Embedded => {
                drop(state);
                let id = JobId(Uuid::now_v7());
                let graph = flow.graph().clone();
                let spec = JobSpec { id, name: name.to_owned(), graph, program: Program::InProcess, settings };
                Ok(embedded::run(spec, flow)?.into())
            }
        }
    }
}

/// The role that a task manager gave this process, whatever the arguments are.
fn inherited_role() -> Result<Option<ExecutorRole>, Error> {
    ENVIRONMENTS.fetch_add(1, Ordering::SeqCst);
    Ok(detect()?)
}

fn execute_index(results: &[JobResult]) -> u32 {
    u32::try_from(results.len()).expect("fewer jobs than u32::MAX in one program")
}

fn cores() -> u32 {
    std::thread::available_parallelism().ok().and_then(|cores| u32::try_from(cores.get()).ok()).unwrap_or(1)
}

fn run_as_executor(
    role: &mut Option<Box<ExecutorRole>>,
    execute_index: u32,
    flow: Arc<Flow>,
) -> Result<Outcome, Error> {
    let earlier = role.as_ref().and_then(|role| match &role.spec().program {
        Program::Artifact(program) if execute_index < program.execute_index => {
            usize::try_from(execute_index).ok().and_then(|index| program.earlier_results.get(index).cloned())
        }
        Program::Artifact(_) | Program::InProcess => None,
    });
    match (earlier, role.take()) {
        (Some(result), kept) => {
            *role = kept;
            Ok(Outcome { result, collected: None })
        }
        (None, Some(role)) => role.run(flow),
        (None, None) => Err(Error::Arguments("the role of this process was already taken".to_owned())),
    }
}

impl Drop for Inner {
    /// A program in an executor that ends, or fails, before the `execute` that it was started for says so.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Role::Executor(role) = &mut state.role
            && let Some(role) = role.take()
        {
            let advice = if ENVIRONMENTS.load(Ordering::SeqCst) > 1 {
                "it asked for more than one Environment: create one and keep it for the whole program"
            } else {
                "what it does must depend on nothing but its arguments and its recorded environment"
            };
            let calls = state.results.len();
            let message =
                format!("the program ended after {calls} execute() calls, before the one that was submitted; {advice}");
            role.refuse(Failure { kind: FailureKind::GraphMismatch, vertex: None, operator: None, message });
        }
    }
}
