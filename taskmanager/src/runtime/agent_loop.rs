//! The one loop around the agent's engine: events in, actions carried out, in order.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidemill_model::execution::{ExecutionState, TerminalState};
use tidemill_model::id::{ClusterId, ExecutionAttemptId, JobId, LeaderEpoch};
use tidemill_proto::pb;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, error, info, warn};

use super::artifacts::Artifacts;
use super::coordinators::Coordinators;
use super::directory::Directory;
use super::executor::{Connection, ExecutorHandle};
use super::metrics::Metrics;
use super::process::Spawner;
use super::spawn::{TaskKind, spawn};
use super::witness::Witness;
use super::{clock, collected, wire};
use crate::engine::{
    Action, Admission, Agent, Event, ExecutorId, GenerationId, GenerationOverview, Handshake, Progress,
};

/// How often the engine looks at its timers, which are all longer than seconds.
const TICK: Duration = Duration::from_millis(100);

/// How long a killed process may take to go before this one goes without it.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// What the rest of the process may know of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) fence: LeaderEpoch,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) connected: bool,
    pub(crate) slots_used: usize,
    pub(crate) generations: Vec<GenerationOverview>,
}

impl Status {
    /// How far each job has come in all its executors here.
    pub(crate) fn progress(&self) -> BTreeMap<JobId, Progress> {
        let mut jobs: BTreeMap<JobId, Progress> = BTreeMap::new();
        for overview in &self.generations {
            let job = jobs.entry(overview.generation.job).or_default();
            job.records_in += overview.progress.records_in;
            job.records_out += overview.progress.records_out;
        }
        jobs
    }
}

/// The agent's end of a session; dropping it ends the session.
pub(crate) struct SessionHandle {
    pub(crate) outbound: mpsc::Sender<pb::TaskManagerMessage>,
    pub(crate) _dropped: oneshot::Sender<()>,
}

/// What becomes of a data connection.
pub(crate) enum Ruling {
    /// Hand it to its executor through this.
    Pass(mpsc::Sender<Connection>),
    NotYet,
    Refused(String),
}

/// Everything that reaches the loop.
pub(crate) enum Input {
    Event(Event),
    /// `reported` is answered once the report is on its way, and dropped when the leader was refused.
    SessionOpened {
        handle: SessionHandle,
        event: Event,
        reported: oneshot::Sender<()>,
    },
    Admit {
        handshake: Handshake,
        reply: oneshot::Sender<Ruling>,
    },
}

/// The engine and what its actions need.
pub(crate) struct AgentLoop {
    agent: Agent,
    coordinators: Arc<Coordinators>,
    directory: Arc<Directory>,
    artifacts: Arc<Artifacts>,
    spawner: Spawner,
    sender: mpsc::Sender<Input>,
    inbox: mpsc::Receiver<Input>,
    status: watch::Sender<Status>,
    metrics: Arc<Metrics>,
    session: Option<SessionHandle>,
    executors: BTreeMap<ExecutorId, ExecutorHandle>,
    uploads: BTreeMap<ExecutionAttemptId, AbortHandle>,
    witness: Witness,
}

/// The inbox's two ends, and where the status, the counts and the events are shown.
pub(crate) struct Channels {
    pub(crate) sender: mpsc::Sender<Input>,
    pub(crate) inbox: mpsc::Receiver<Input>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) witness: Witness,
}

impl AgentLoop {
    pub(crate) fn new(
        agent: Agent,
        coordinators: Arc<Coordinators>,
        directory: Arc<Directory>,
        spawner: Spawner,
        channels: Channels,
    ) -> Self {
        let Channels { sender, inbox, status, metrics, witness } = channels;
        let (executors, uploads) = (BTreeMap::new(), BTreeMap::new());
        let session = None;
        let artifacts = Arc::new(Artifacts::new(Arc::clone(&coordinators), Arc::clone(&directory)));
        Self {
            agent,
            coordinators,
            directory,
            artifacts,
            spawner,
            sender,
            inbox,
            status,
            metrics,
            session,
            executors,
            uploads,
            witness,
        }
    }

    /// Serves until `shutdown`, then ends every executor.
    pub(crate) async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(input) = self.inbox.recv() => self.receive(input),
                _ = ticks.tick() => self.step(Event::Tick),
            }
        }
        info!(executors = self.executors.len(), "shutting down");
        self.step(Event::Shutdown);
        let limit = sleep(SHUTDOWN_LIMIT);
        tokio::pin!(limit);
        while !self.agent.is_idle() {
            tokio::select! {
                biased;
                Some(input) = self.inbox.recv() => self.receive(input),
                () = &mut limit => {
                    error!("end executors: some have not exited within {SHUTDOWN_LIMIT:?} of SIGKILL");
                    return;
                }
            }
        }
    }

    fn receive(&mut self, input: Input) {
        match input {
            Input::SessionOpened { handle, event, reported } => {
                self.session = Some(handle);
                self.step(event);
                if self.session.is_some() {
                    // Nobody listens when the session has ended meanwhile, which an event of its own says.
                    let _ended = reported.send(());
                }
            }
            Input::Admit { handshake, reply } => {
                // A dialler that has left needs no answer.
                let _left = reply.send(self.rule(&handshake));
            }
            Input::Event(event) => {
                self.forget(&event);
                self.count(&event);
                self.step(event);
            }
        }
    }

    /// Lets go of what an event says has ended.
    fn forget(&mut self, event: &Event) {
        if let Event::ExecutorExited { executor, .. } | Event::ExecutorStartFailed { executor, .. } = event {
            self.executors.remove(executor);
        }
        if let Event::CollectedStored { attempt, .. } | Event::CollectedRefused { attempt, .. } = event {
            self.uploads.remove(attempt);
        }
        if *event == Event::SessionLost {
            self.session = None;
        }
    }

    /// Counts what an event says has failed.
    fn count(&self, event: &Event) {
        if let Event::AttemptChanged { change, .. } = event
            && let ExecutionState::Terminal(TerminalState::Failed(failure)) = &change.report.state
        {
            self.metrics.fail_attempt(failure.kind);
        }
    }

    fn rule(&self, handshake: &Handshake) -> Ruling {
        match self.agent.admit(handshake) {
            Admission::NotYet => Ruling::NotYet,
            Admission::Refused(reason) => Ruling::Refused(reason),
            Admission::Accepted(executor) => match self.executors.get(&executor) {
                Some(handle) => Ruling::Pass(handle.connections()),
                None => Ruling::NotYet,
            },
        }
    }

    fn step(&mut self, event: Event) {
        let seen = self.witness.before(&event);
        let actions = self.agent.step(clock::now(), event);
        if let Some(seen) = seen {
            self.witness.after(seen, &actions, &self.agent);
        }
        for action in actions {
            debug!("{action}");
            self.dispatch(action);
        }
        let status = Status {
            fence: self.agent.fence(),
            cluster: self.agent.cluster(),
            connected: self.agent.connected(),
            slots_used: self.agent.slots_used(),
            generations: self.agent.overview(),
        };
        self.status.send_if_modified(|known| {
            let modified = *known != status;
            *known = status;
            modified
        });
    }

    /// Carries an action out, or hands it to a task that does: nothing here waits.
    fn dispatch(&mut self, action: Action) {
        match action {
            Action::FetchArtifact { artifact } => {
                let fetch = Arc::clone(&self.artifacts).fetch(artifact);
                self.transfer(format_args!("fetch {artifact}"), fetch);
            }
            Action::StartExecutor(start) => {
                info!(job_id = %start.spec.id, attempt = %start.attempt, "starting {}", start.executor);
                let executor = start.executor;
                let handle = ExecutorHandle::start(start, self.spawner.clone(), self.sender.clone());
                self.executors.insert(executor, handle);
            }
            Action::SendToExecutor { executor, command } => {
                if let Some(handle) = self.executors.get(&executor) {
                    handle.tell(executor, command);
                }
            }
            Action::KillExecutor { executor } => {
                if let Some(handle) = self.executors.get(&executor) {
                    info!("killing {executor}");
                    handle.kill();
                }
            }
            Action::SendToCoordinator(outbound) => {
                if let Some(session) = &self.session
                    && let Err(error) = session.outbound.try_send(wire::outbound(outbound))
                {
                    warn!("send to the leader: {error}; the next session's report will say it");
                    self.session = None;
                }
            }
            Action::StoreCollected { attempt, collected } => {
                let store = collected::store(attempt, collected, Arc::clone(&self.coordinators));
                let upload = self.transfer(format_args!("store {attempt}"), store);
                self.uploads.insert(attempt, upload);
            }
            Action::AbandonCollected { attempt } => {
                if let Some(upload) = self.uploads.remove(&attempt) {
                    upload.abort();
                }
            }
            Action::RemoveJobFiles { job } => remove_files(self.directory.job(job)),
            Action::RemoveGenerationFiles { generation: GenerationId { job, attempt } } => {
                remove_files(self.directory.executor(job, attempt));
            }
            Action::DropSession { reason } => {
                warn!("leave the leader: {reason}");
                self.session = None;
            }
            Action::Refuse { reason } => warn!("refused: {reason}"),
        }
    }

    fn transfer(
        &self,
        name: std::fmt::Arguments<'_>,
        transfer: impl Future<Output = Event> + Send + 'static,
    ) -> AbortHandle {
        let inbox = self.sender.clone();
        let task = spawn(TaskKind::Transfer, name, async move {
            let event = transfer.await;
            let _agent_ended = inbox.send(Input::Event(event)).await;
        });
        task.abort_handle()
    }
}

fn remove_files(folder: PathBuf) {
    let name = folder.display().to_string();
    spawn(TaskKind::Transfer, format_args!("remove {name}"), async move {
        match tokio::fs::remove_dir_all(&folder).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                warn!("remove {folder:?}: {error}; it goes when the task manager is restarted");
            }
            Ok(()) | Err(_) => {}
        }
    });
}
