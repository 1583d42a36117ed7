//! One task manager: binds its ports, and runs its parts until it is told to stop.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_event_log::EventLog;
use tidemill_model::config::{
    Configuration, EVENTS_DIR, EXECUTION_STATE_RECOVERY_FROM_LOCAL, TASK_CANCELLATION_TIMEOUT, TASKMANAGER_BIND_HOST,
    TASKMANAGER_DATA_PORT, TASKMANAGER_DIR, TASKMANAGER_HOST, TASKMANAGER_HTTP_PORT, TASKMANAGER_MEMORY_MANAGED_SIZE,
    TASKMANAGER_MEMORY_PROCESS_SIZE, TASKMANAGER_NUMBER_OF_TASK_SLOTS, TASKMANAGER_ORPHAN_TIMEOUT,
    TASKMANAGER_RESOURCE_ID,
};
use tidemill_model::event::EventRole;
use tidemill_model::id::{TaskManagerId, TaskManagerName};
use tidemill_model::slot::SlotOffer;
use tidemill_proto::version::PROTOCOL_VERSION;
use tidemill_proto::{convert, pb};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tracing::error;
use uuid::Uuid;

use super::agent_loop::{AgentLoop, Channels, Status};
use super::coordinators::Coordinators;
use super::directory::{self, Directory, LocalState};
use super::metrics::Metrics;
use super::process::Spawner;
use super::session::Sessions;
use super::spawn::{TaskKind, spawn};
use super::witness::Witness;
use super::{clock, data_port, http, memory_watch};
use crate::engine::{Agent, Settings};

/// Inputs that may wait for the agent; beyond that, sockets are read more slowly.
const INBOX_CAPACITY: usize = 1024;

/// Who may reach a task manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Programs on this machine only.
    Loopback,
    /// Whoever the network lets through.
    Network,
}

/// Why a task manager cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address that others can reach, without consent to that.
    #[error(
        "bind {host}: it is no loopback address, and there is no authentication: whoever reaches the port can run \
         native code here; start with --insecure if the network is closed to others"
    )]
    Exposed {
        /// The host.
        host: String,
    },
    /// An address that cannot be listened on.
    #[error("bind {host}:{port} ({key}): {source}; choose another with -D {key}=...")]
    Bind {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The option that chose the port.
        key: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Others could not dial the address.
    #[error("advertise {host}: it stands for every address of this machine; set taskmanager.host to one of them")]
    Unspecified {
        /// The host.
        host: String,
    },
    /// The directory is not usable.
    #[error(transparent)]
    Directory(#[from] directory::Error),
    /// The events cannot be written.
    #[error(transparent)]
    Events(#[from] tidemill_event_log::Error),
    /// The machine refuses what every process needs.
    #[error("start task manager: {0}")]
    Start(#[from] io::Error),
}

/// A task manager that listens and does not yet serve.
pub struct TaskManager {
    settings: Settings,
    name: TaskManagerName,
    data_address: String,
    http_address: SocketAddr,
    data_listener: TcpListener,
    http_listener: TcpListener,
    coordinators: Arc<Coordinators>,
    directory: Arc<Directory>,
    backoff: super::backoff::Backoff,
    events: EventLog,
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What all executors may use together: most of the machine, unless it is said.
fn process_bytes(configuration: &Configuration) -> Option<u64> {
    let said = configuration.get(&TASKMANAGER_MEMORY_PROCESS_SIZE);
    said.or_else(|| Some(memory_watch::machine_bytes()? / 4 * 3))
}

async fn listen(configuration: &Configuration, port: u16, key: &'static str) -> Result<TcpListener, Error> {
    let host = configuration.get(&TASKMANAGER_BIND_HOST);
    let bound = TcpListener::bind((host.as_str(), port)).await;
    bound.map_err(|source| Error::Bind { host, port, key, source })
}

impl TaskManager {
    /// Takes the directory and the ports.
    ///
    /// # Errors
    ///
    /// When one of them cannot be had, or listening would expose this machine without consent.
    pub async fn bind(configuration: &Configuration, exposure: Exposure) -> Result<Self, Error> {
        let bind_host = configuration.get(&TASKMANAGER_BIND_HOST);
        let data_port = configuration.get(&TASKMANAGER_DATA_PORT);
        let data_listener = listen(configuration, data_port, TASKMANAGER_DATA_PORT.key()).await?;
        let bound = data_listener.local_addr()?;
        // What the name resolved to counts, not what it looks like; nothing has been accepted yet.
        if exposure == Exposure::Loopback && !bound.ip().is_loopback() {
            return Err(Error::Exposed { host: bind_host });
        }
        let http_port = configuration.get(&TASKMANAGER_HTTP_PORT);
        let http_listener = listen(configuration, http_port, TASKMANAGER_HTTP_PORT.key()).await?;
        let host = configuration.get(&TASKMANAGER_HOST).unwrap_or(bind_host);
        if host.parse().is_ok_and(|address: IpAddr| address.is_unspecified()) {
            return Err(Error::Unspecified { host });
        }
        let data_address = with_port(&host, bound.port());
        let slots = configuration.get(&TASKMANAGER_NUMBER_OF_TASK_SLOTS);
        let memory_bytes = configuration.get(&TASKMANAGER_MEMORY_MANAGED_SIZE) / u64::from(slots.max(1));
        let settings = Settings {
            task_manager: TaskManagerId(Uuid::new_v4()),
            offer: SlotOffer { count: slots, memory_bytes },
            slot_process_bytes: process_bytes(configuration).map(|bytes| bytes / u64::from(slots.max(1))),
            orphan_timeout: configuration.get(&TASKMANAGER_ORPHAN_TIMEOUT),
            cancellation_timeout: configuration.get(&TASK_CANCELLATION_TIMEOUT),
        };
        let local_state = match configuration.get(&EXECUTION_STATE_RECOVERY_FROM_LOCAL) {
            true => LocalState::Kept,
            false => LocalState::None,
        };
        let directory = Directory::open(&PathBuf::from(configuration.get(&TASKMANAGER_DIR)), local_state)?;
        let name = configuration.get(&TASKMANAGER_RESOURCE_ID).unwrap_or_else(|| data_address.clone());
        let events_dir = configuration.get(&EVENTS_DIR).map(PathBuf::from);
        Ok(Self {
            settings,
            events: EventLog::open(events_dir.as_deref(), EventRole::TaskManager, &name)?,
            name: TaskManagerName(name),
            data_address,
            http_address: http_listener.local_addr()?,
            data_listener,
            http_listener,
            coordinators: Arc::new(Coordinators::new(configuration)),
            directory: Arc::new(directory),
            backoff: Sessions::backoff(configuration),
        })
    }

    /// This incarnation.
    #[must_use]
    pub fn id(&self) -> TaskManagerId {
        self.settings.task_manager
    }

    /// The stable name.
    #[must_use]
    pub fn name(&self) -> &TaskManagerName {
        &self.name
    }

    /// `host:port` under which other task managers reach this one.
    #[must_use]
    pub fn data_address(&self) -> &str {
        &self.data_address
    }

    /// Where health checks and metrics are served.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    fn hello(&self) -> pb::Hello {
        pb::Hello {
            cluster_id: Bytes::new(),
            task_manager_id: convert::uuid_bytes(self.settings.task_manager.0),
            name: self.name.0.clone(),
            data_address: self.data_address.clone(),
            slots: self.settings.offer.count,
            slot_memory_bytes: self.settings.offer.memory_bytes,
            process_id: std::process::id(),
            fence: 0,
            protocol_version: PROTOCOL_VERSION,
        }
    }

    /// Serves until `shutdown`, then ends every executor.
    ///
    /// # Errors
    ///
    /// When the machine refuses what every process needs.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let hello = self.hello();
        let (sender, inbox) = mpsc::channel(INBOX_CAPACITY);
        let (status_sender, status) = watch::channel(Status::default());
        let metrics = Arc::new(Metrics::new(self.settings.offer.count));
        let spawner = Spawner::new(Arc::clone(&self.directory), self.settings.task_manager)?;
        let agent = Agent::new(self.settings, clock::now());
        let witness = Witness::new(self.events, self.settings.task_manager);
        let channels =
            Channels { sender: sender.clone(), inbox, status: status_sender, metrics: Arc::clone(&metrics), witness };
        let agent_loop =
            AgentLoop::new(agent, Arc::clone(&self.coordinators), Arc::clone(&self.directory), spawner, channels);
        let sessions = Sessions {
            coordinators: self.coordinators,
            hello,
            status: status.clone(),
            inbox: sender.clone(),
            metrics: Arc::clone(&metrics),
            backoff: self.backoff,
        };
        let data_listener = self.data_listener;
        let services = [
            spawn(TaskKind::Service, "session", sessions.run()),
            spawn(TaskKind::Service, "data port", data_port::run(data_listener, sender, Arc::clone(&metrics))),
            spawn(TaskKind::Service, "http", async move {
                if let Err(error) = http::run(self.http_listener, metrics, status).await {
                    error!("serve http: {error}");
                }
            }),
        ];
        agent_loop.run(shutdown).await;
        for service in services {
            service.abort();
        }
        Ok(())
    }
}
