//! The clients' host: a runtime whose threads are all in its network.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::topo::Entrance;

/// How many threads serve the clients.
const THREADS: usize = 2;
/// How long one look over HTTP may take.
const HTTP_TIMEOUT: Duration = Duration::from_secs(1);

/// The runtime on the clients' host.
#[derive(Debug)]
pub struct Clients {
    runtime: Runtime,
}

impl Clients {
    /// Starts the runtime.
    ///
    /// # Errors
    ///
    /// When the host cannot be entered.
    pub fn start(entrance: &Entrance) -> anyhow::Result<Self> {
        // Threads are born where their parent is: the runtime is built by one that has moved.
        let built = std::thread::scope(|scope| {
            let build = || -> anyhow::Result<Runtime> {
                entrance.enter()?;
                let mut builder = tokio::runtime::Builder::new_multi_thread();
                builder.worker_threads(THREADS).thread_name("jepsen-client").enable_all();
                builder.build().context("start the clients' runtime")
            };
            scope.spawn(build).join()
        });
        let runtime = built.map_err(|_| anyhow::anyhow!("starting the clients' runtime panicked"))??;
        Ok(Self { runtime })
    }

    /// Has something done beside everything else.
    pub fn spawn<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.runtime.spawn(what)
    }

    /// Has something done there and waits for it.
    ///
    /// # Errors
    ///
    /// When it panics.
    pub fn run<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> anyhow::Result<T> {
        let (tell, told) = tokio::sync::oneshot::channel();
        // The receiver waits just below.
        self.runtime.spawn(async move { drop(tell.send(what.await)) });
        told.blocking_recv().context("a client's task ended without an answer")
    }

    /// Stops everything that still runs there.
    pub fn stop(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(2));
    }
}

/// What an HTTP server answers to a GET: the status and the body.
///
/// # Errors
///
/// When there is no answer in time.
pub async fn http_get(address: Ipv4Addr, port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    let ask = async {
        let mut stream = TcpStream::connect(SocketAddr::from((address, port))).await.context("connect")?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.context("ask")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.context("read")?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("no HTTP: {answer}") };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status")?;
        Ok((status, body.to_owned()))
    };
    tokio::time::timeout(HTTP_TIMEOUT, ask).await.with_context(|| format!("GET {path} of {address}"))?
}
