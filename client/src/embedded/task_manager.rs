//! The one task manager of an embedded cluster: a thread that obeys the leader and drives an executor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use sha2::{Digest, Sha256};
use tidemill_coordinator::engine::leader::{
    AddressedCommand, FinalizationKind, FinalizationReport, TaskManagerCommand, TaskManagerHello, TaskManagerMessage,
};
use tidemill_coordinator::runtime::leader::{LeaderHandle, SessionInbox};
use tidemill_dataflow::flow::Flow;
use tidemill_dataflow::runtime::executor::{CollectedRecords, Executor, ExecutorEvent};
use tidemill_dataflow::runtime::network::NoNetwork;
use tidemill_model::execution::{
    AttemptReport, CollectedPart, ExecutionState, Finalization, TaskManagerLocation, TerminalState,
};
use tidemill_model::id::{AttemptNumber, BlobId, JobId, TaskManagerId, TaskManagerName};
use tidemill_model::job::JobSpec;
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
        let agent = Agent { id, job, flow, memory, inbox, runtime, events, executor: None, known: BTreeMap::new() };
        let thread = spawn_thread("tidemill-embedded-agent", move || agent.run(&received))?;
        Ok(Self { inputs, thread, session })
    }

    /// Waits until the leader has ended the session, which it does only when something in it has panicked.
    pub(super) async fn cut_off(&mut self) {
        // Nothing is ever sent.
        let _ = (&mut self.session).await;
    }

    /// Ends the thread, and with it whatever still runs.
    pub(super) fn stop(self) {
        // It has ended already when the leadership has.
        let _ = self.inputs.send(Input::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the embedded task manager panicked");
        }
    }
}

fn spawn_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, Error> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(Error::Runtime)
}

struct Agent {
    id: TaskManagerId,
    job: JobId,
    flow: Arc<Flow>,
    memory: Memory,
    inbox: SessionInbox,
    runtime: Handle,
    events: Sender<ExecutorEvent>,
    executor: Option<(AttemptNumber, Executor)>,
    /// The attempts of the current executor as last reported.
    known: BTreeMap<tidemill_model::id::ExecutionAttemptId, ExecutionState>,
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
                let attempts = self.known.iter().map(report).collect();
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
                self.executor_for(attempt).deploy(&deployment);
            }
            TaskManagerCommand::Cancel { attempts } => {
                if let Some((_, executor)) = &mut self.executor {
                    executor.cancel(&attempts);
                }
            }
            TaskManagerCommand::Finalize { finalization, .. } => {
                let (kind, attempt) = match finalization {
                    Finalization::Commit { attempt } => (FinalizationKind::Commit, attempt),
                    Finalization::Abort => (FinalizationKind::Abort, AttemptNumber::default()),
                };
                let current = self.executor.as_ref().map_or(attempt, |(current, _)| *current);
                let failure = self.executor_for(current).finalize(finalization).err();
                return Some(TaskManagerMessage::Finalized(FinalizationReport { job: self.job, kind, failure }));
            }
            TaskManagerCommand::Release { .. } => {
                self.executor = None;
                self.known.clear();
            }
            TaskManagerCommand::Checkpoint(command) => {
                for report in command.declined("an embedded cluster takes no checkpoints") {
                    let message = TaskManagerMessage::Checkpoint(report);
                    if self.runtime.block_on(self.inbox.deliver(message)).is_err() {
                        tracing::debug!("the leadership ended before the answer");
                    }
                }
            }
            TaskManagerCommand::HeartbeatAnswer { .. } | TaskManagerCommand::Acknowledge { .. } => {}
        }
        None
    }

    /// The executor of this attempt number; a higher one replaces, and thereby cancels, the former.
    fn executor_for(&mut self, attempt: AttemptNumber) -> &mut Executor {
        if self.executor.as_ref().is_none_or(|(current, _)| *current < attempt) {
            self.known.clear();
            let network = Arc::new(NoNetwork);
            let fresh = Executor::new(self.job, self.flow.clone(), self.id, network, self.events.clone());
            self.executor = Some((attempt, fresh));
        }
        let (_, executor) = self.executor.as_mut().expect("it was set above");
        executor
    }

    fn report(&mut self, event: ExecutorEvent) -> Option<TaskManagerMessage> {
        let ExecutorEvent::Attempt { mut report, collected } = event;
        if self.executor.as_ref().is_none_or(|(current, _)| *current != report.attempt.attempt) {
            return None;
        }
        if let ExecutionState::Terminal(TerminalState::Finished { collected: parts, .. }) = &mut report.state {
            parts.extend(collected.into_iter().map(|records| self.keep(records)));
        }
        self.known.insert(report.attempt, report.state.clone());
        Some(TaskManagerMessage::Attempt(report))
    }

    fn keep(&self, collected: CollectedRecords) -> CollectedPart {
        let CollectedRecords { collect_index, subtask, records } = collected;
        CollectedPart { collect_index, subtask, blob: self.memory.put(records) }
    }

    fn progress(&self) -> Vec<(JobId, u64, u64)> {
        let progress = self.executor.as_ref().map(|(_, executor)| executor.watch().get());
        progress.map(|progress| (self.job, progress.records_in, progress.records_out)).into_iter().collect()
    }
}
