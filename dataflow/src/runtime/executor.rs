//! All sub-tasks of one job and one attempt number on one task manager: starts them, stops them, publishes their output.

mod checkpoints;
mod finalization;
mod state;
mod subtask;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use crossbeam_utils::sync::WaitGroup;
use tidemill_model::checkpoint::{CheckpointReport, CheckpointSettings};
use tidemill_model::execution::{AttemptReport, ExecutionState, Failure, FailureKind, JobDeployment, TerminalState};
use tidemill_model::id::{AttemptNumber, ExecutionAttemptId, JobId, SubtaskIndex, TaskManagerId};
use tidemill_model::job::StateBackend;
use tidemill_model::savepoint::SavepointRestore;
use tidemill_storage::LocalCopy;

use self::subtask::run_subtask;
use crate::flow::Flow;
use crate::runtime::async_pool::AsyncPool;
use crate::runtime::checkpoint::{self, Checkpointing, Notices, SavepointSource, SnapshotWriter};
use crate::runtime::clock::ProcessingClock;
use crate::runtime::network::Network;
use crate::runtime::source::{AlignedSubtask, SharedGroup};
use crate::runtime::spawn::{TaskKind, spawn};
use crate::runtime::task::{Mail, ProgressCounters, TaskEnvironment, TaskWaker};
use crate::runtime::wiring::Wiring;

/// How much mail may wait: only cancellations, of which the first suffices.
const MAILBOX_CAPACITY: usize = 4;

/// What an executor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutorEvent {
    /// An attempt changed its state, or was asked for it.
    Attempt {
        /// The state.
        report: AttemptReport,
        /// What its `collect()` sinks gathered, with `Finished`.
        collected: Vec<CollectedRecords>,
    },
    /// What became of a checkpoint at an attempt. Before the end of an attempt is told, so is what it acknowledged.
    Checkpoint(CheckpointReport),
}

/// What one sub-task of a `collect()` sink gathered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectedRecords {
    /// Which of the program's `collect()` calls, from 0.
    pub collect_index: u32,
    /// Which sub-task of the sink.
    pub subtask: SubtaskIndex,
    /// The encoded records.
    pub records: Bytes,
}

/// How far an executor has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Records that sources emitted.
    pub records_in: u64,
    /// Records that sinks took.
    pub records_out: u64,
}

/// A view of an executor's progress; it asks nobody, so that it can be had at any time.
#[derive(Debug, Clone)]
pub struct ProgressWatch(Arc<ProgressCounters>);

impl ProgressWatch {
    /// How far the tasks have come.
    #[must_use]
    pub fn get(&self) -> Progress {
        Progress {
            records_in: self.0.records_in.load(Ordering::Relaxed),
            records_out: self.0.records_out.load(Ordering::Relaxed),
        }
    }
}

/// Passes an attempt's states on, and remembers the last.
struct Reporter {
    attempt: ExecutionAttemptId,
    last: Mutex<Option<ExecutorEvent>>,
    events: Sender<ExecutorEvent>,
}

impl Reporter {
    fn report(&self, state: ExecutionState, collected: Vec<CollectedRecords>) {
        let event = ExecutorEvent::Attempt { report: AttemptReport { attempt: self.attempt, state }, collected };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(event.clone());
        self.send(event);
    }

    fn repeat(&self) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(event) = last {
            self.send(event);
        }
    }

    fn send(&self, event: ExecutorEvent) {
        // Nobody listens any more: the executor is being dropped.
        let _ = self.events.send(event);
    }
}

struct RunningTask {
    mailbox: Arc<Sender<Mail>>,
    waker: TaskWaker,
    notices: Arc<Notices>,
    reporter: Arc<Reporter>,
}

/// A sub-task before it is started.
struct PreparedTask {
    attempt: ExecutionAttemptId,
    mailbox: Arc<Sender<Mail>>,
    mails: Receiver<Mail>,
    waker: TaskWaker,
    aligned: Option<AlignedSubtask>,
}

/// All sub-tasks of one job and one attempt number on one task manager.
///
/// Dropping it cancels them.
pub struct Executor {
    job: JobId,
    flow: Arc<Flow>,
    task_manager: TaskManagerId,
    network: Arc<dyn Network>,
    events: Sender<ExecutorEvent>,
    progress: Arc<ProgressCounters>,
    clock: ProcessingClock,
    async_pool: Arc<AsyncPool>,
    wirings: BTreeMap<AttemptNumber, Arc<Wiring>>,
    /// By name: sources whose watermarks are kept close to each other.
    groups: BTreeMap<(AttemptNumber, String), SharedGroup>,
    tasks: BTreeMap<ExecutionAttemptId, RunningTask>,
    /// None: the job takes no checkpoints. An error: it cannot.
    checkpointing: Result<Option<Checkpointing>, Failure>,
    writers: BTreeMap<AttemptNumber, SnapshotWriter>,
    /// What the job starts from before it has a checkpoint.
    savepoint: Option<SavepointRestore>,
    savepoint_source: Option<SavepointSource>,
    state: StateBackend,
    /// Where state on disk is, and the memory for it.
    state_folder: PathBuf,
    state_memory_bytes: u64,
    /// Each thread of a task holds it until its end.
    threads: WaitGroup,
}

impl Executor {
    /// An executor without tasks.
    ///
    /// `events` must be drained by another thread than the one that calls `deploy`, or have room for four events an
    /// attempt: reports wait for room.
    pub fn new(
        job: JobId,
        flow: Arc<Flow>,
        task_manager: TaskManagerId,
        network: Arc<dyn Network>,
        events: Sender<ExecutorEvent>,
    ) -> Self {
        // What an earlier attempt in this process counted is not this one's.
        let _ = flow.counters().take();
        let (progress, clock) = (Arc::default(), ProcessingClock::System);
        Self {
            job,
            flow,
            task_manager,
            network,
            events,
            progress,
            clock,
            async_pool: Arc::default(),
            wirings: BTreeMap::new(),
            groups: BTreeMap::new(),
            tasks: BTreeMap::new(),
            checkpointing: Ok(None),
            writers: BTreeMap::new(),
            savepoint: None,
            savepoint_source: None,
            state: StateBackend::Heap,
            state_folder: std::env::temp_dir(),
            state_memory_bytes: 0,
            threads: WaitGroup::new(),
        }
    }

    /// Has tasks that are deployed from now on take checkpoints, if the job's settings say so. They fail when the place
    /// for checkpoints is none that this program can use.
    #[must_use]
    pub fn with_checkpoints(self, settings: Option<&CheckpointSettings>) -> Self {
        let open = |settings| Checkpointing::open(settings, self.job);
        let checkpointing = settings.map(open).transpose().map_err(|error| checkpoint_failure(&error));
        Self { checkpointing, ..self }
    }

    /// Keeps copies of the state in this folder of the machine's own, and reads them first.
    #[must_use]
    pub fn with_local_state(mut self, folder: Option<&Path>) -> Self {
        if let Ok(Some(checkpointing)) = &mut self.checkpointing {
            let copy = folder.map(|folder| LocalCopy::new(folder.to_owned()));
            checkpointing.storage = checkpointing.storage.clone().with_local_copy(copy);
        }
        self
    }

    /// Has tasks that are deployed from now on go by this clock.
    #[must_use]
    pub fn with_clock(self, clock: ProcessingClock) -> Self {
        Self { clock, ..self }
    }

    /// Has tasks that are deployed without a checkpoint start from a savepoint.
    #[must_use]
    pub fn with_savepoint(self, savepoint: Option<&SavepointRestore>) -> Self {
        Self { savepoint: savepoint.cloned(), ..self }
    }

    /// Has tasks that are deployed from now on keep their state in this back-end: below this folder, if on disk, and in
    /// this much memory for all tasks of the job on this task manager.
    #[must_use]
    pub fn with_state(self, state: StateBackend, folder: &Path, memory_bytes: u64) -> Self {
        Self { state, state_folder: folder.to_owned(), state_memory_bytes: memory_bytes, ..self }
    }

    /// Has threads of tasks that are deployed from now on hold this until their end, which comes after the report of it:
    /// what a task has open is closed then, and its state on disk deleted.
    #[must_use]
    pub fn with_threads(self, threads: WaitGroup) -> Self {
        Self { threads, ..self }
    }

    /// Starts the named attempts; one already known is not started again, its state is reported again.
    pub fn deploy(&mut self, deployment: &JobDeployment) {
        let mut prepared = Vec::new();
        for &attempt in &deployment.start {
            match self.tasks.get(&attempt) {
                Some(task) => task.reporter.repeat(),
                None => prepared.push(self.prepare(attempt)),
            }
        }
        for task in prepared {
            self.start(task, deployment);
        }
    }

    /// What all have before the first one runs.
    fn prepare(&mut self, attempt: ExecutionAttemptId) -> PreparedTask {
        let (mailbox, mails) = bounded(MAILBOX_CAPACITY);
        let mailbox = Arc::new(mailbox);
        let waker = TaskWaker::new(&mailbox);
        let aligned = self.flow.alignment(attempt.vertex.vertex).map(|alignment| {
            let group = self.groups.entry((attempt.attempt, alignment.group.clone())).or_default();
            AlignedSubtask::new(group, alignment.drift_max_ms, waker.clone())
        });
        PreparedTask { attempt, mailbox, mails, waker, aligned }
    }

    fn start(&mut self, task: PreparedTask, deployment: &JobDeployment) {
        let PreparedTask { attempt, mailbox, mails, waker, aligned } = task;
        let reporter = Arc::new(Reporter { attempt, last: Mutex::default(), events: self.events.clone() });
        let notices = Arc::new(Notices::default());
        let running = RunningTask {
            mailbox,
            waker: waker.clone(),
            notices: Arc::clone(&notices),
            reporter: Arc::clone(&reporter),
        };
        self.tasks.insert(attempt, running);
        let flow = Arc::clone(&self.flow);
        let vertex = flow.graph().vertex(attempt.vertex.vertex);
        let known = vertex.filter(|vertex| attempt.job == self.job && attempt.vertex.subtask.0 < vertex.parallelism);
        let Some(vertex) = known else {
            let message = format!("start attempt {attempt}: this program's graph has no such sub-task");
            return reporter.report(failed(FailureKind::GraphMismatch, attempt, message), Vec::new());
        };
        let restore = self.restore_source(attempt, vertex, deployment);
        let prepared = restore.and_then(|restore| Ok((self.checkpoints(attempt.attempt)?, restore)));
        let (checkpoints, restore) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => {
                let failure = Failure { vertex: Some(attempt.vertex), ..failure };
                return reporter.report(ExecutionState::Terminal(TerminalState::Failed(failure)), Vec::new());
            }
        };
        let wiring = self.wirings.entry(attempt.attempt).or_insert_with(|| {
            let schedule = deployment.schedule.clone();
            Arc::new(Wiring::new(self.task_manager, schedule, Arc::clone(&self.network)))
        });
        let environment = TaskEnvironment {
            attempt,
            flow: Arc::clone(&self.flow),
            mailbox: mails,
            wiring: Arc::clone(wiring),
            progress: Arc::clone(&self.progress),
            clock: self.clock.clone(),
            waker,
            async_pool: Arc::clone(&self.async_pool),
            aligned,
            notices,
            checkpoints,
            state: self.state_place(attempt, &deployment.schedule),
        };
        let name = format!("{} #{}", vertex.name(), attempt.vertex.subtask);
        let subtask_reporter = Arc::clone(&reporter);
        let thread = self.threads.clone();
        let body = move || {
            run_subtask(environment, restore, &subtask_reporter);
            drop(thread);
        };
        if let Err(error) = spawn(TaskKind::Subtask, &name, body) {
            let message = format!("start thread {name:?}: {error}; lower the job's parallelism or raise the limit");
            reporter.report(failed(FailureKind::Io, attempt, message), Vec::new());
        }
    }

    /// Stops the named attempts, even while they wait for input or output; unknown ones are ignored.
    pub fn cancel(&mut self, attempts: &[ExecutionAttemptId]) {
        for task in attempts.iter().filter_map(|attempt| self.tasks.get(attempt)) {
            // Full: a cancellation waits there already. Disconnected: the task has ended.
            let _ = task.mailbox.try_send(Mail::Cancel);
        }
    }

    /// How far the tasks have come, now and later.
    #[must_use]
    pub fn watch(&self) -> ProgressWatch {
        ProgressWatch(Arc::clone(&self.progress))
    }
}

fn failed(kind: FailureKind, attempt: ExecutionAttemptId, message: String) -> ExecutionState {
    let failure = Failure { kind, vertex: Some(attempt.vertex), operator: None, message };
    ExecutionState::Terminal(TerminalState::Failed(failure))
}

fn checkpoint_failure(error: &checkpoint::Error) -> Failure {
    Failure { kind: error.kind(), vertex: None, operator: None, message: format!("use checkpoints: {error}") }
}

pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "the panic has no message".to_owned())
}

#[cfg(test)]
mod tests;
