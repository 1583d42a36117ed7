//! The one task manager of an embedded cluster: a thread that obeys the leader and drives an executor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use crossbeam_utils::sync::WaitGroup;
use sha2::{Digest, Sha256};
use tidemill_coordinator::engine::leader::{
    AddressedCommand, FinalizationKind, FinalizationReport, TaskManagerCommand, TaskManagerHello, TaskManagerMessage,
};
use tidemill_coordinator::runtime::leader::{LeaderHandle, SessionInbox};
use tidemill_dataflow::flow::Flow;
use tidemill_dataflow::runtime::executor::{CollectedRecords, Executor, ExecutorEvent, Progress};
use tidemill_dataflow::runtime::network::NoNetwork;
use tidemill_model::checkpoint::CheckpointCommand;
use tidemill_model::execution::{
    AttemptReport, CollectedPart, ExecutionState, Finalization, TaskManagerLocation, TerminalState,
};
use tidemill_model::id::{AttemptNumber, BlobId, ExecutionAttemptId, JobId, TaskManagerId, TaskManagerName};
use tidemill_model::job::{JobSettings, JobSpec};
use tidemill_model::slot::SlotOffer;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::submission::Error;

/// Commands and events on their way to the thread: a few for each attempt of the one job.
const INBOX_CAPACITY: usize = 1024;
/// How often progress is told.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

/// Collected records by content: the embedded cluster's blob store.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(Arc<Mutex<BTreeMap<BlobId, Bytes>>>);

impl Memory {
    pub(super) fn get(&self, blob: BlobId) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&blob).cloned()
    }

    fn put(&self, records: Bytes) -> BlobId {
        let blob = BlobId(Sha256::digest(&records).into());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(blob, records);
        blob
    }
}

enum Input {
    Command(AddressedCommand),
    Event(ExecutorEvent),
    Stop,
}

/// A running embedded task manager.
pub(super) struct EmbeddedTaskManager {
    inputs: Sender<Input>,
    thread: std::thread::JoinHandle<()>,
    /// Its sender goes with the session.
    session: oneshot::Receiver<()>,
    tasks: WaitGroup,
}

impl EmbeddedTaskManager {
    /// Opens a session with as many slots as the job needs.
    pub(super) async fn start(
        leader: &LeaderHandle,
        spec: &JobSpec,
        flow: Arc<Flow>,
        memory: Memory,
    ) -> Result<Self, Error> {
        let id = TaskManagerId(Uuid::new_v4());
        let name = TaskManagerName("embedded".to_owned());
        let hello = TaskManagerHello {
            location: TaskManagerLocation { id, name, data_address: String::new() },
            slots: SlotOffer { count: spec.graph.slots_needed(), memory_bytes: 0 },
            process_id: std::process::id(),
            fence: leader.epoch(),
        };
        let (outbound, mut commands) = mpsc::channel(INBOX_CAPACITY);
        let inbox = leader
            .open_session(hello, outbound)
            .await
            .map_err(|error| Error::Runtime(std::io::Error::other(error.to_string())))?;
        let (inputs, received) = bounded(INBOX_CAPACITY);
        let (events, executor_events) = bounded(INBOX_CAPACITY);
        let forward = inputs.clone();
        let (open, session) = oneshot::channel();
        spawn_thread("tidemill-embedded-commands", move || {
            let _open: oneshot::Sender<()> = open;
            while let Some(command) = commands.blocking_recv() {
                if forward.send(Input::Command(command)).is_err() {
                    return;
                }
            }
        })?;
        let forward = inputs.clone();
        spawn_thread("tidemill-embedded-events", move || {
            for event in executor_events {
                if forward.send(Input::Event(event)).is_err() {
                    return;
                }
            }
        })?;
        let (job, runtime) = (spec.id, Handle::current());
        let settings = spec.settings.clone();
        let generations = BTreeMap::new();
        let tasks = WaitGroup::new();
        let threads = tasks.clone();
        let agent = Agent { id, job, flow, settings, memory, inbox, runtime, events, generations, threads };
        let thread = spawn_thread("tidemill-embedded-agent", move || agent.run(&received))?;
        Ok(Self { inputs, thread, session, tasks })
    }

    /// Waits until the leader has ended the session, which it does only when something in it has panicked.
    pub(super) async fn cut_off(&mut self) {
        // Nothing is ever sent.
        let _ = (&mut self.session).await;
    }

    /// Ends the thread and tells whatever still runs to end; the threads of tasks have ended once the result does not
    /// wait any more.
    pub(super) fn stop(self) -> WaitGroup {
        // It has ended already when the leadership has.
        let _ = self.inputs.send(Input::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the embedded task manager panicked");
        }
        self.tasks
    }
}

fn spawn_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, Error> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(Error::Runtime)
}

struct Agent {
    id: TaskManagerId,
    job: JobId,
    flow: Arc<Flow>,
    settings: JobSettings,
    memory: Memory,
    inbox: SessionInbox,
    runtime: Handle,
    events: Sender<ExecutorEvent>,
    /// By attempt number: a failover replaces one region's attempts, and those of others go on.
    generations: BTreeMap<AttemptNumber, Generation>,
    threads: WaitGroup,
}

/// The attempts of one number.
struct Generation {
    executor: Executor,
    /// As last reported, until their ends are acknowledged.
    known: BTreeMap<ExecutionAttemptId, ExecutionState>,
}

impl Agent {
    fn run(mut self, inputs: &Receiver<Input>) {
        let mut sequence = 0;
        loop {
            let message = match inputs.recv_timeout(HEARTBEAT_INTERVAL) {
                Ok(Input::Command(command)) => self.obey(command.command),
                Ok(Input::Event(event)) => self.report(event),
                Err(RecvTimeoutError::Timeout) => {
                    sequence += 1;
                    Some(TaskManagerMessage::Heartbeat { sequence, progress: self.progress() })
                }
                Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            };
            let Some(message) = message else { continue };
            if self.runtime.block_on(self.inbox.deliver(message)).is_err() {
                return;
            }
        }
    }

    fn obey(&mut self, command: TaskManagerCommand) -> Option<TaskManagerMessage> {
        match command {
            TaskManagerCommand::Welcome => {
                let report = |(&attempt, state): (_, &ExecutionState)| AttemptReport { attempt, state: state.clone() };
                let known = self.generations.values().flat_map(|generation| &generation.known);
                let attempts = known.map(report).collect();
                return Some(TaskManagerMessage::Report {
                    attempts,
                    executors: Vec::new(),
                    finalized: Vec::new(),
                    hosted: Vec::new(),
                    checkpoints: Vec::new(),
                });
            }
            TaskManagerCommand::Deploy { deployment, .. } => {
                let attempt = deployment.start.first().map(|attempt| attempt.attempt).unwrap_or_default();
                let generation = self.generation(attempt);
                let deploying = |&id: &ExecutionAttemptId| (id, ExecutionState::Deploying);
                for (id, state) in deployment.start.iter().map(deploying) {
                    generation.known.entry(id).or_insert(state);
                }
                generation.executor.deploy(&deployment);
            }
            TaskManagerCommand::Cancel { attempts } => {
                for generation in self.generations.values_mut() {
                    generation.executor.cancel(&attempts);
                }
            }
            TaskManagerCommand::Finalize { finalization, .. } => {
                let kind = match finalization {
                    Finalization::Commit { .. } => FinalizationKind::Commit,
                    Finalization::Abort { .. } => FinalizationKind::Abort,
                };
                let newest = self.generations.keys().next_back().copied().unwrap_or_default();
                let failure = self.generation(newest).executor.finalize(&finalization).err();
                return Some(TaskManagerMessage::Finalized(FinalizationReport { job: self.job, kind, failure }));
            }
            TaskManagerCommand::Release { .. } => {
                self.generations.clear();
            }
            TaskManagerCommand::Checkpoint(command) => {
                let numbers: BTreeSet<AttemptNumber> = command.attempts.iter().map(|attempt| attempt.attempt).collect();
                for number in numbers {
                    let attempts = command.attempts.iter().filter(|attempt| attempt.attempt == number);
                    let command = CheckpointCommand { attempts: attempts.copied().collect(), ..command.clone() };
                    self.generation(number).executor.checkpoint(&command);
                }
            }
            TaskManagerCommand::Acknowledge { attempts } => self.acknowledge(&attempts),
            TaskManagerCommand::HeartbeatAnswer { .. } => {}
        }
        None
    }

    /// The generation of this attempt number; others go on beside it.
    fn generation(&mut self, attempt: AttemptNumber) -> &mut Generation {
        let (job, id) = (self.job, self.id);
        let (flow, events, settings, threads) = (&self.flow, &self.events, &self.settings, &self.threads);
        self.generations.entry(attempt).or_insert_with(|| {
            let executor = Executor::new(job, flow.clone(), id, Arc::new(NoNetwork), events.clone())
                .with_checkpoints(settings.checkpointing.as_ref())
                .with_savepoint(settings.savepoint.as_ref())
                .with_state(settings.state_backend, &std::env::temp_dir(), 0)
                .with_threads(threads.clone());
            Generation { executor, known: BTreeMap::new() }
        })
    }

    /// Forgets attempts whose ends are replicated, and generations of which none is left, unless it is the newest.
    fn acknowledge(&mut self, attempts: &[ExecutionAttemptId]) {
        for id in attempts {
            let Some(generation) = self.generations.get_mut(&id.attempt) else { continue };
            if generation.known.get(id).is_some_and(ExecutionState::is_terminal) {
                generation.known.remove(id);
            }
        }
        let newest = self.generations.keys().next_back().copied();
        self.generations.retain(|number, generation| Some(*number) == newest || !generation.known.is_empty());
    }

    fn report(&mut self, event: ExecutorEvent) -> Option<TaskManagerMessage> {
        let (mut report, collected) = match event {
            ExecutorEvent::Attempt { report, collected } => (report, collected),
            ExecutorEvent::Checkpoint(report) => return Some(TaskManagerMessage::Checkpoint(report)),
        };
        if !self.generations.contains_key(&report.attempt.attempt) {
            return None;
        }
        if let ExecutionState::Terminal(TerminalState::Finished { collected: parts, .. }) = &mut report.state {
            parts.extend(collected.into_iter().map(|records| self.keep(records)));
        }
        let generation = self.generations.get_mut(&report.attempt.attempt)?;
        generation.known.insert(report.attempt, report.state.clone());
        Some(TaskManagerMessage::Attempt(report))
    }

    fn keep(&self, collected: CollectedRecords) -> CollectedPart {
        let CollectedRecords { collect_index, subtask, records } = collected;
        CollectedPart { collect_index, subtask, blob: self.memory.put(records) }
    }

    fn progress(&self) -> Vec<(JobId, u64, u64)> {
        if self.generations.is_empty() {
            return Vec::new();
        }
        let progress = self.generations.values().map(|generation| generation.executor.watch().get());
        let sum = |(all_in, all_out), one: Progress| (all_in + one.records_in, all_out + one.records_out);
        let (records_in, records_out) = progress.fold((0, 0), sum);
        vec![(self.job, records_in, records_out)]
    }
}
