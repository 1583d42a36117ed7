//! A running coordinator: its listeners, its node, and how it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidemill_event_log::EventLog;
use tidemill_model::event::EventRole;
use tidemill_proto::pb::client_server::ClientServer;
use tidemill_proto::pb::raft_server::RaftServer;
use tidemill_proto::pb::task_manager_server::TaskManagerServer;
use tidemill_proto::version::CheckVersion;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::blob_exchange::sweep_regularly;
use super::blob_store::{self, BlobStore};
use super::client_service::ClientService;
use super::data_directory::{self, DataDirectory};
use super::http;
use super::node::{self, Node};
use super::raft_service::RaftService;
use super::settings::{CoordinatorSettings, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT};
use super::task_manager_service::TaskManagerService;
use crate::runtime::raft::{Failure, Member, RAFT_MESSAGE_BYTES_MAX};
use crate::runtime::spawn::spawn;

/// How long connections may take to end after they were told to.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a coordinator does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port is taken or not allowed.
    #[error("listen on {address} for {purpose}: {source}; choose another port or stop whoever has it")]
    Listen {
        /// `host:port`.
        address: String,
        /// Who would connect.
        purpose: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] data_directory::Error),
    /// The blobs' folder cannot be used.
    #[error(transparent)]
    Blobs(#[from] blob_store::Error),
    /// The events cannot be written.
    #[error(transparent)]
    Events(#[from] tidemill_event_log::Error),
    /// The replica does not start.
    #[error(transparent)]
    Node(#[from] node::Error),
}

/// A coordinator that listens.
pub struct Coordinator {
    node: Arc<Node>,
    http_address: SocketAddr,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
}

struct Listeners {
    client: TcpListener,
    raft: TcpListener,
    http: TcpListener,
}

impl Listeners {
    async fn bind(settings: &CoordinatorSettings) -> Result<Self, Error> {
        let host = &settings.bind_host;
        Ok(Self {
            client: listen(host, settings.client_port, "clients").await?,
            raft: listen(host, settings.raft_port, "coordinators").await?,
            http: listen(host, settings.http_port, "health checks").await?,
        })
    }
}

async fn listen(host: &str, port: u16, purpose: &'static str) -> Result<TcpListener, Error> {
    let listener = TcpListener::bind((host, port)).await;
    listener.map_err(|source| Error::Listen { address: format!("{host}:{port}"), purpose, source })
}

impl Coordinator {
    /// Listens, takes the data directory, and serves; with its replica when the directory is a member.
    ///
    /// # Errors
    ///
    /// When a port, the directory or the log cannot be used.
    pub async fn start(settings: CoordinatorSettings) -> Result<Self, Error> {
        let directory = DataDirectory::open(&settings.dir)?;
        let blobs = BlobStore::open(&settings.dir.join("blobs"), settings.blob_size_max)?;
        let listeners = Listeners::bind(&settings).await?;
        let port = |listener: &TcpListener, wanted: u16| listener.local_addr().map_or(wanted, |address| address.port());
        let client_address = format!("{}:{}", settings.host, port(&listeners.client, settings.client_port));
        let raft_address = format!("{}:{}", settings.host, port(&listeners.raft, settings.raft_port));
        let name = settings.name.clone().unwrap_or_else(|| raft_address.clone());
        let events = EventLog::open(settings.events_dir.as_deref(), EventRole::Coordinator, &name)?;
        let own = Member { name, raft_address, client_address };
        let unbound = SocketAddr::from(([127, 0, 0, 1], settings.http_port));
        let http_address = listeners.http.local_addr().unwrap_or(unbound);
        let (stop, stopping) = watch::channel(false);
        let node = Node::start(settings, own, directory, blobs, stopping.clone(), events).await?;
        let servers = serve(&node, listeners, &stopping);
        spawn("sweep-blobs", sweep_regularly(node.clone()));
        Ok(Self { node, http_address, stop, servers })
    }

    /// What its services share.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Where it answers health checks.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Waits until the log has failed for good; why. A replica whose disk is full has stopped, but the process goes on
    /// and says so wherever it is asked: what starts it again does not make room.
    pub async fn failed(&self) -> String {
        let mut replicas = self.node.replicas();
        loop {
            let replica = replicas.borrow_and_update().clone();
            if let Some(replica) = replica {
                let mut failure = replica.log.failure();
                let failed = failure.wait_for(Option::is_some).await.ok().and_then(|failed| failed.clone());
                match failed {
                    Some(Failure::Broken { reason }) => return reason,
                    Some(full @ Failure::DiskFull { .. }) => tracing::error!("the replica has stopped: {full}"),
                    None => {}
                }
                // Stopped by request: there will be no failure.
                std::future::pending::<()>().await;
            }
            if replicas.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Hands leadership over if it is here, then stops as [`stop`](Self::stop) does.
    pub async fn shutdown(self) {
        if let Some(replica) = self.node.replica() {
            replica.log.transfer_leadership().await;
        }
        self.stop().await;
    }

    /// Ends the streams, stops the replica and closes its database.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.node.stop().await;
        for server in self.servers {
            // A connection that does not end in time is cut when the process ends.
            drop(tokio::time::timeout(DRAIN_TIMEOUT, server).await);
        }
    }
}

fn serve(node: &Arc<Node>, listeners: Listeners, stopping: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
    let stopped = || {
        let mut stopping = stopping.clone();
        async move { drop(stopping.wait_for(|stopping| *stopping).await) }
    };
    let limit = node.settings().message_size_max;
    let clients = ClientServer::new(ClientService::new(node.clone()))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let clients = InterceptedService::new(clients, CheckVersion);
    let task_managers = TaskManagerServer::new(TaskManagerService::new(node.clone()))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let raft = RaftServer::new(RaftService::new(node.clone()))
        .max_decoding_message_size(RAFT_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(RAFT_MESSAGE_BYTES_MAX);
    let incoming = |listener| TcpIncoming::from(listener).with_nodelay(Some(true));
    let client_server = server()
        .add_service(clients)
        .add_service(task_managers)
        .serve_with_incoming_shutdown(incoming(listeners.client), stopped());
    let raft_server = server().add_service(raft).serve_with_incoming_shutdown(incoming(listeners.raft), stopped());
    let http_server = axum::serve(listeners.http, http::router(node.clone())).with_graceful_shutdown(stopped());
    vec![
        spawn("serve-clients", async move { ended("clients", client_server.await) }),
        spawn("serve-raft", async move { ended("coordinators", raft_server.await) }),
        spawn("serve-http", async move { ended("health checks", http_server.await) }),
    ]
}

fn server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
}

fn ended<E: std::fmt::Display>(purpose: &str, result: Result<(), E>) {
    if let Err(error) = result {
        tracing::error!(%error, purpose, "a server ended");
    }
}
