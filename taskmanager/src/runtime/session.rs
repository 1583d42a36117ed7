//! The one stream to the leader: finds it, says hello, and keeps the stream alive or looks anew.

use std::sync::Arc;
use std::time::Duration;

use tidemill_failpoint::FailPoint;
use tidemill_model::config::{
    Configuration, TASKMANAGER_REGISTRATION_INITIAL_BACKOFF, TASKMANAGER_REGISTRATION_MAX_BACKOFF,
};
use tidemill_model::id::LeaderEpoch;
use tidemill_proto::pb::coordinator_message::Message as FromLeader;
use tidemill_proto::pb::task_manager_message::Message as ToLeader;
use tidemill_proto::{convert, pb};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::{debug, info, warn};

use super::agent_loop::{Input, SessionHandle, Status};
use super::backoff::Backoff;
use super::coordinators::Coordinators;
use super::metrics::Metrics;
use super::{clock, wire};
use crate::engine::Event;

/// Messages that may wait for the leader; a leader that lets more pile up is left, and the next report says it all.
const OUTBOUND_CAPACITY: usize = 1024;

/// How long a coordinator may take to welcome or refuse: at first, doubled with each round over all of them, and at most.
/// The first is far below the silence after which a leader gives a task manager up: coordinators that answer nothing, tried
/// before the one that leads, must not cost the tasks that run here (`undisturbed`).
const WELCOME_TIMEOUTS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));

/// Why a session did not come about or has ended.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("connect to coordinator {address}: {reason}")]
    Connect { address: String, reason: String },
    #[error("register at coordinator {address}: {message}")]
    Refused { address: String, message: String, kind: pb::ErrorKind, leader: Option<String> },
    #[error("register at coordinator {address}: no welcome within {patience:?}")]
    NoWelcome { address: String, patience: Duration },
    #[error("hear the leader {address}: {reason}")]
    Lost { address: String, reason: String },
    #[error("leave coordinator {address}: the agent refused its leadership")]
    Left { address: String },
}

/// Everything that looking for leaders needs.
pub(crate) struct Sessions {
    pub(crate) coordinators: Arc<Coordinators>,
    /// What this incarnation says of itself; fence and cluster are filled in for each session.
    pub(crate) hello: pb::Hello,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) inbox: mpsc::Sender<Input>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) backoff: Backoff,
}

impl Sessions {
    pub(crate) fn backoff(configuration: &Configuration) -> Backoff {
        let initial = configuration.get(&TASKMANAGER_REGISTRATION_INITIAL_BACKOFF);
        Backoff::new(initial, configuration.get(&TASKMANAGER_REGISTRATION_MAX_BACKOFF))
    }

    /// One session after the other, until the agent ends.
    pub(crate) async fn run(mut self) {
        let count = self.coordinators.addresses().len();
        let mut turn = rand::random_range(0..count.max(1));
        let mut hint = None;
        let mut misses = 0;
        let mut patience = WELCOME_TIMEOUTS.0;
        let mut told = String::new();
        while !self.inbox.is_closed() {
            // A coordinator's hint is followed at once, but only once: two that name each other must not be believed.
            let followed = hint.is_some();
            let address = match hint.take() {
                Some(leader) => leader,
                None => {
                    turn = (turn + 1) % count.max(1);
                    self.coordinators.addresses().get(turn).cloned().unwrap_or_default()
                }
            };
            let error = self.session(&address, patience).await;
            // Asking again will not help: a person must look, and is told once.
            if let Error::Refused { kind: pb::ErrorKind::User, .. } = &error
                && told != error.to_string()
            {
                told = error.to_string();
                warn!("{error}");
            }
            match error {
                Error::Lost { address, reason } => {
                    warn!(%address, "session lost: {reason}");
                    self.metrics.session_losses.inc();
                    self.backoff.reset();
                    patience = WELCOME_TIMEOUTS.0;
                    misses = 0;
                    self.backoff.pause().await;
                }
                error @ Error::Refused { .. } if !followed => {
                    debug!("{error}");
                    if let Error::Refused { leader, .. } = error {
                        hint = leader.filter(|leader| *leader != address);
                    }
                    misses += usize::from(hint.is_none());
                }
                error @ (Error::Connect { .. }
                | Error::Refused { .. }
                | Error::NoWelcome { .. }
                | Error::Left { .. }) => {
                    debug!("{error}");
                    misses += 1;
                }
            }
            // Every coordinator is tried once before a pause.
            if misses >= count.max(1) {
                misses = 0;
                patience = (patience * 2).min(WELCOME_TIMEOUTS.1);
                self.backoff.pause().await;
            }
        }
    }

    /// Registers at one coordinator and serves the stream to its end.
    async fn session(&self, address: &str, patience: Duration) -> Error {
        match timeout(patience, self.open(address)).await {
            Err(_) => {
                // The agent may have taken the session for open already.
                let _agent_ended = self.inbox.send(Input::Event(Event::SessionLost)).await;
                Error::NoWelcome { address: address.to_owned(), patience }
            }
            Ok(Err(error)) => error,
            Ok(Ok(session)) => {
                let end = session.serve(self).await;
                self.coordinators.set_leader(None);
                let _agent_ended = self.inbox.send(Input::Event(Event::SessionLost)).await;
                let address = address.to_owned();
                match end {
                    End::Lost(reason) => Error::Lost { address, reason },
                    End::Left => Error::Left { address },
                }
            }
        }
    }

    async fn open(&self, address: &str) -> Result<Session, Error> {
        let address = address.to_owned();
        let connect = |reason: String| Error::Connect { address: address.clone(), reason };
        let refused = |status: tonic::Status| {
            let detail = convert::error_detail(&status).unwrap_or_default();
            let (address, message) = (address.clone(), status.message().to_owned());
            Error::Refused { address, message, kind: detail.kind(), leader: detail.leader }
        };
        let broken = |reason: &str| connect(reason.to_owned());
        let mut client = self.coordinators.session(&address).await.map_err(|error| connect(error.to_string()))?;
        let (outbound, queue) = mpsc::channel(OUTBOUND_CAPACITY);
        let status = self.status.borrow().clone();
        let mut hello = self.hello.clone();
        hello.fence = status.fence.0;
        hello.cluster_id = status.cluster.map(|cluster| convert::uuid_bytes(cluster.0)).unwrap_or_default();
        let hello = pb::TaskManagerMessage { message: Some(ToLeader::Hello(hello)) };
        FailPoint::TaskManagerRegisterPre.check().map_err(|error| connect(error.to_string()))?;
        outbound.send(hello).await.map_err(|_| broken("the stream closed at once"))?;
        let mut inbound = client.session(ReceiverStream::new(queue)).await.map_err(refused)?.into_inner();
        let first = inbound.message().await.map_err(refused)?;
        let first = first.ok_or_else(|| broken("the stream ended before a welcome"))?;
        let Some(FromLeader::Welcome(welcome)) = first.message else {
            return Err(broken("its first message was no welcome"));
        };
        let epoch = LeaderEpoch(first.epoch);
        let named = convert::task_manager_id(&first.task_manager_id, "CoordinatorMessage.task_manager_id");
        let both = named.and_then(|task_manager| Ok((task_manager, wire::welcome_cluster(&welcome)?)));
        let (task_manager, cluster) = both.map_err(|error| broken(&error.to_string()))?;
        let (dropped, drop_signal) = oneshot::channel();
        let handle = SessionHandle { outbound: outbound.clone(), _dropped: dropped };
        let event = Event::Welcomed { epoch, task_manager, cluster };
        let (reported, report) = oneshot::channel();
        let opened = self.inbox.send(Input::SessionOpened { handle, event, reported }).await;
        opened.map_err(|_| broken("the agent has ended"))?;
        // Nothing may reach the leader before the report, and nothing at all one that the fence refuses.
        report.await.map_err(|_| Error::Left { address: address.clone() })?;
        info!(%address, leader_epoch = %epoch, "leader found");
        self.coordinators.set_leader(Some(address));
        Ok(Session { inbound, outbound, drop_signal, welcome })
    }
}

/// How a session ends.
enum End {
    /// The leader or the way to it is gone.
    Lost(String),
    /// The agent would not have it.
    Left,
}

/// A stream whose leader has said welcome.
struct Session {
    inbound: Streaming<pb::CoordinatorMessage>,
    outbound: mpsc::Sender<pb::TaskManagerMessage>,
    drop_signal: oneshot::Receiver<()>,
    welcome: pb::Welcome,
}

impl Session {
    /// Serves the stream to its end.
    async fn serve(mut self, sessions: &Sessions) -> End {
        // A leader's mistake must not make this a busy loop.
        let every = Duration::from_millis(self.welcome.heartbeat_interval_ms.max(10));
        let silence = Duration::from_millis(self.welcome.heartbeat_timeout_ms).max(every * 2);
        let mut beats = interval(every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sequence = 0;
        let heard = sleep_until(clock::deadline(silence));
        tokio::pin!(heard);
        loop {
            tokio::select! {
                // What has arrived is read before silence is believed: this process may itself have been stopped.
                biased;
                message = self.inbound.message() => {
                    heard.as_mut().reset(clock::deadline(silence));
                    match message {
                        Err(status) => return End::Lost(status.to_string()),
                        Ok(None) => return End::Lost("it closed the stream".into()),
                        Ok(Some(message)) => receive(message, sessions).await,
                    }
                }
                _ = &mut self.drop_signal => return End::Left,
                _ = beats.tick() => {
                    sequence += 1;
                    if self.outbound.try_send(heartbeat(sequence, &sessions.status.borrow())).is_err() {
                        return End::Lost(format!("it did not take {OUTBOUND_CAPACITY} messages"));
                    }
                    sessions.metrics.heartbeats.inc();
                }
                () = &mut heard => return End::Lost(format!("silent for {silence:?}")),
            }
        }
    }
}

fn heartbeat(sequence: u64, status: &Status) -> pb::TaskManagerMessage {
    let progress = status.progress().into_iter().map(|(job, progress)| pb::JobProgress {
        job: convert::uuid_bytes(job.0),
        records_in: progress.records_in,
        records_out: progress.records_out,
    });
    let beat = pb::Heartbeat { sequence, progress: progress.collect() };
    pb::TaskManagerMessage { message: Some(ToLeader::Heartbeat(beat)) }
}

/// Hands a leader's wish to the agent; one that cannot be read is left out, as it could not be read again either.
async fn receive(message: pb::CoordinatorMessage, sessions: &Sessions) {
    match directed(message) {
        Ok(Some(event)) => {
            let _agent_ended = sessions.inbox.send(Input::Event(event)).await;
        }
        Ok(None) => {}
        Err(error) => warn!("read message of the leader: {error}"),
    }
}

fn directed(message: pb::CoordinatorMessage) -> Result<Option<Event>, convert::Error> {
    let epoch = LeaderEpoch(message.epoch);
    let task_manager = convert::task_manager_id(&message.task_manager_id, "CoordinatorMessage.task_manager_id")?;
    let directive = message.message.map(wire::directive).transpose()?.flatten();
    Ok(directive.map(|directive| Event::Directed { epoch, task_manager, directive }))
}
