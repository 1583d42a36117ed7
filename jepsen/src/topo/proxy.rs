//! A network without root: hosts are addresses of the loopback interface, and every connection between them goes
//! through this process, which holds back what is sent over a link that is cut.
//!
//! Nothing is lost as the kernel would lose it: what was sent over a cut link arrives when it is whole again, as after
//! retransmissions, and a new connection is accepted but goes nowhere until then. Where one direction is cut, the other
//! one stalls as well once a window has been sent, since its acknowledgements are lost.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::sockets;
use super::{Entrance, Net};
use crate::host::{Host, Role};

/// The ports that other hosts dial.
const COORDINATOR_PORTS: [u16; 2] = [6123, 6124];
const TASK_MANAGER_PORTS: [u16; 1] = [6121];
/// How much is read at once.
const CHUNK: usize = 64 * 1024;
/// How many messages go over a connection whose acknowledgements are lost: the kernel's initial window.
const WINDOW: u32 = 10;

/// The proxies of one run.
pub struct ProxyNet {
    subnet: u8,
    shared: Arc<Shared>,
    /// Dropped first to last: the proxies end with it.
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Shared {
    links: Mutex<BTreeMap<(Host, Host), Arc<Link>>>,
    /// Which process is on which host.
    processes: Mutex<BTreeMap<u32, Host>>,
}

/// One direction between two hosts.
struct Link {
    whole: watch::Sender<bool>,
    held_back: AtomicU64,
}

impl Link {
    fn is_whole(&self) -> bool {
        *self.whole.borrow()
    }

    /// Waits until the link is whole; counts what has to wait.
    async fn pass(&self) {
        let mut whole = self.whole.subscribe();
        if !*whole.borrow_and_update() {
            self.held_back.fetch_add(1, Ordering::Relaxed);
        }
        // The sender lives as long as the link.
        drop(whole.wait_for(|whole| *whole).await);
    }
}

impl Shared {
    fn link(&self, from: Host, to: Host) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Arc::new(Link { whole: watch::Sender::new(true), held_back: AtomicU64::new(0) });
        links.entry((from, to)).or_insert_with(fresh).clone()
    }

    /// Whose connection comes from this address. What belongs to no known process is a client's.
    fn host_of(&self, peer: SocketAddr) -> Host {
        let processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sockets::owner(peer, &processes).unwrap_or_else(Host::client)
    }
}

impl ProxyNet {
    /// Listens for every host.
    ///
    /// # Errors
    ///
    /// When an address is taken: another run has the same subnet.
    pub fn build(subnet: u8, hosts: &[Host]) -> anyhow::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).thread_name("jepsen-proxy").enable_all().build();
        let runtime = runtime.context("start the proxies' runtime")?;
        let net = Self { subnet, shared: Arc::default(), runtime: Some(runtime) };
        for host in hosts {
            let ports: &[u16] = match host.role {
                Role::Coordinator => &COORDINATOR_PORTS,
                Role::TaskManager => &TASK_MANAGER_PORTS,
                Role::Client => &[],
            };
            for port in ports {
                net.listen(*host, *port)?;
            }
        }
        Ok(net)
    }

    fn listen(&self, host: Host, port: u16) -> anyhow::Result<()> {
        let runtime = self.runtime.as_ref().context("the proxies have been stopped")?;
        let (address, target) = (self.address(host), SocketAddr::from((self.listens(host), port)));
        let listener =
            std::net::TcpListener::bind((address, port)).with_context(|| format!("listen on {address}:{port}"))?;
        listener.set_nonblocking(true).context("listen without blocking")?;
        let shared = self.shared.clone();
        let handle = runtime.handle().clone();
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((stream, peer)) = listener.accept().await {
                handle.spawn(carry(stream, peer, host, target, shared.clone()));
            }
        });
        Ok(())
    }
}

/// Carries one connection to its host, both ways.
async fn carry(stream: TcpStream, peer: SocketAddr, to: Host, target: SocketAddr, shared: Arc<Shared>) {
    let known = shared.clone();
    let from = tokio::task::spawn_blocking(move || known.host_of(peer)).await.unwrap_or_else(|_| Host::client());
    let (there, back) = (shared.link(from, to), shared.link(to, from));
    // A handshake needs both directions.
    there.pass().await;
    back.pass().await;
    let Ok(onwards) = TcpStream::connect(target).await else { return };
    // Small messages must not wait for each other.
    drop(stream.set_nodelay(true).and_then(|()| onwards.set_nodelay(true)));
    let ((near_in, near_out), (far_in, far_out)) = (stream.into_split(), onwards.into_split());
    tokio::join!(copy(near_in, far_out, &there, &back), copy(far_in, near_out, &back, &there));
}

/// Copies until the end, as far as the links let it: the end itself also has to pass.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, link: &Link, acknowledgements: &Link) {
    let mut chunk = vec![0; CHUNK];
    let mut window = WINDOW;
    loop {
        let length = from.read(&mut chunk).await.unwrap_or(0);
        link.pass().await;
        window = if acknowledgements.is_whole() { WINDOW } else { window.saturating_sub(1) };
        if window == 0 {
            acknowledgements.pass().await;
        }
        if length == 0 || to.write_all(&chunk[..length]).await.is_err() {
            // Whoever reads on the other side sees the end, unless it has gone.
            drop(to.shutdown().await);
            return;
        }
    }
}

impl Net for ProxyNet {
    fn name(&self) -> &'static str {
        "proxy"
    }

    fn listens(&self, host: Host) -> Ipv4Addr {
        Ipv4Addr::new(127, 77, self.subnet, host.octet())
    }

    fn address(&self, host: Host) -> Ipv4Addr {
        Ipv4Addr::new(127, 78, self.subnet, host.octet())
    }

    fn entrance(&self, _host: Host) -> Entrance {
        Entrance::Here
    }

    fn cut(&mut self, from: Host, to: Host) -> anyhow::Result<()> {
        self.shared.link(from, to).whole.send_replace(false);
        Ok(())
    }

    fn lost(&self, at: Host) -> anyhow::Result<u64> {
        let links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
        let towards = links.iter().filter(|((_, to), _)| *to == at);
        Ok(towards.map(|(_, link)| link.held_back.load(Ordering::Relaxed)).sum())
    }

    fn heal(&mut self) -> anyhow::Result<()> {
        let links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
        for link in links.values() {
            link.whole.send_replace(true);
        }
        Ok(())
    }

    fn started(&mut self, host: Host, process_id: u32) {
        self.shared.processes.lock().unwrap_or_else(PoisonError::into_inner).insert(process_id, host);
    }

    fn remove(&mut self) -> anyhow::Result<()> {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        Ok(())
    }
}

impl Drop for ProxyNet {
    fn drop(&mut self) {
        // A runtime must not be dropped by one of its own threads; nobody else has this one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
