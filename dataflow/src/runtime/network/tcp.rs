//! The network of one executor: a link per peer, the threads that serve them, and who dials whom.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tidemill_model::execution::{Schedule, TaskManagerLocation};
use tidemill_model::id::{AttemptNumber, ClusterId, JobId, TaskManagerId};
use tidemill_model::job_graph::JobGraph;

use super::connection::{self, read_frames, write_frames};
use super::handshake::{self, Answer, Handshake};
use super::link::{self, Acceptance, Generation, Link};
use super::{ChannelId, ConnectionLost, Network, RemoteReceiver, RemoteSender, socket};
use crate::engine::frame::Frame;
use crate::engine::topology::Topology;
use crate::runtime::clock::Stopwatch;
use crate::runtime::spawn::{TaskKind, spawn};

/// How long a dialler tries before its channels are lost: longer than a task manager takes to start an executor.
const DIAL_LIMIT: Duration = Duration::from_secs(30);

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one answer may take; a later one is dropped with its connection, and the next dial replaces it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The pauses between two dials: doubled from the first up to the last.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(200);

/// Which executor this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The job.
    pub job: JobId,
    /// The attempt number of all its tasks.
    pub attempt: AttemptNumber,
    /// Its task manager.
    pub task_manager: TaskManagerId,
}

/// The data connections of one executor to the other executors of its job and attempt.
///
/// Dropping it closes them: what has not been written by then is lost, so it must outlive the tasks *and* their peers'
/// need of them. An executor keeps it until its process ends.
#[derive(Debug)]
pub struct TcpNetwork {
    identity: Identity,
    links: BTreeMap<TaskManagerId, Arc<Link>>,
}

impl TcpNetwork {
    /// The network of the executor `identity`; connects to a peer when the first channel to it is opened.
    #[must_use]
    pub fn new(identity: Identity, graph: &JobGraph, schedule: &Schedule) -> Self {
        let topology = Arc::new(Topology::new(graph, schedule));
        let peers = schedule.task_managers.values().filter(|peer| peer.id != identity.task_manager);
        let link = |peer: &TaskManagerLocation| {
            (peer.id, Arc::new(Link::new(identity.task_manager, peer.clone(), Arc::clone(&topology))))
        };
        Self { identity, links: peers.map(link).collect() }
    }

    /// Takes a connection that a peer dialled and whose handshake has been read; answers it.
    pub fn accept(&self, handshake: Handshake, stream: TcpStream) {
        if let Err(error) = self.try_accept(handshake, stream) {
            // The dialler notices and dials again.
            tracing::warn!(task_manager_id = %handshake.from, "accept data connection: {error}");
        }
    }

    fn try_accept(&self, handshake: Handshake, stream: TcpStream) -> Result<(), Error> {
        socket::prepare(&stream)?;
        let link = match self.check(handshake) {
            Ok(link) => link,
            Err(reason) => return Ok(handshake::answer(&stream, Answer::Refused(reason))?),
        };
        if is_closed(&stream)? {
            // Its dialler gave it up, perhaps for a newer one that must not be replaced by this.
            return Ok(());
        }
        match link.accept(stream.try_clone()?) {
            Acceptance::Refused(reason) => Ok(handshake::answer(&stream, Answer::Refused(reason))?),
            Acceptance::Answer(generation) => {
                let serving = Arc::clone(link);
                let name = format!("exchange {}", link.peer().name);
                let started = spawn(TaskKind::Connection, &name, move || serve_accepted(&serving, generation, &stream));
                started.map(drop).map_err(|error| {
                    link.unconfirmed(generation);
                    error.into()
                })
            }
        }
    }

    /// The link that the handshake is for, or why there is none.
    fn check(&self, handshake: Handshake) -> Result<&Arc<Link>, String> {
        let Identity { cluster, job, attempt, task_manager } = self.identity;
        let expected = Handshake { cluster, job, attempt, from: handshake.from, to: task_manager };
        if handshake != expected {
            return Err(format!("this executor runs attempt {attempt} of job {job} on task manager {task_manager}"));
        }
        let link = self.links.get(&handshake.from).ok_or("the schedule does not name the dialling task manager")?;
        if link.dials() { Err("this side dials".into()) } else { Ok(link) }
    }

    /// The link to a peer, dialling it if that is this side's to do and has not been done.
    fn link(&self, peer: TaskManagerId) -> Result<&Arc<Link>, ConnectionLost> {
        let link = self.links.get(&peer).ok_or_else(|| ConnectionLost {
            peer: peer.to_string(),
            reason: "the schedule does not name this task manager".into(),
        })?;
        if link.start_dialling() {
            let dialling = Arc::clone(link);
            let identity = self.identity;
            let name = format!("exchange {}", link.peer().name);
            if let Err(error) = spawn(TaskKind::Connection, &name, move || serve_dialled(&dialling, identity)) {
                link.lose(format!("start thread: {error}"));
            }
        }
        Ok(link)
    }
}

impl Network for TcpNetwork {
    fn sender(&self, peer: TaskManagerId, channel: ChannelId) -> Result<RemoteSender, ConnectionLost> {
        let link = self.link(peer)?;
        let credits = link.open_outbound(channel)?;
        Ok(RemoteSender::new(Arc::clone(link), channel, credits))
    }

    fn receiver(&self, peer: TaskManagerId, channel: ChannelId) -> Result<RemoteReceiver, ConnectionLost> {
        let link = self.link(peer)?;
        let elements = link.open_inbound(channel)?;
        Ok(RemoteReceiver::new(Arc::clone(link), channel, elements))
    }
}

impl Drop for TcpNetwork {
    fn drop(&mut self) {
        for link in self.links.values() {
            link.lose("this executor closed its network".into());
        }
    }
}

/// Why a connection could not be set up.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("set up the data connection: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Message(#[from] super::message::Error),
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error("the peer's executor is not ready: {0}")]
    NotYet(String),
    #[error("the peer refused: {0}")]
    Refused(String),
    #[error("no connection within {DIAL_LIMIT:?}: {last}")]
    GaveUp { last: String },
}

/// Whether the other side has closed the connection.
fn is_closed(stream: &TcpStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    match peeked {
        Ok(length) => Ok(length == 0),
        Err(error) => Ok(error.kind() != io::ErrorKind::WouldBlock),
    }
}

/// The life of a dialled connection; this thread becomes its reader.
fn serve_dialled(link: &Arc<Link>, identity: Identity) {
    let opened = dial(link, identity).and_then(|stream| {
        link.dialled(stream.try_clone()?)?;
        Ok(stream)
    });
    match opened {
        Ok(stream) => serve(link, &stream, None),
        Err(error) => link.lose(error.to_string()),
    }
}

/// The life of an accepted connection; this thread becomes its reader.
fn serve_accepted(link: &Arc<Link>, generation: Generation, stream: &TcpStream) {
    if handshake::answer(stream, Answer::Accepted).is_err() {
        return link.unconfirmed(generation);
    }
    serve(link, stream, Some(generation));
}

/// Reads and writes until the connection ends. An accepted one that awaits confirmation is opened by its first frame.
fn serve(link: &Arc<Link>, stream: &TcpStream, mut awaiting: Option<Generation>) {
    if awaiting.is_none()
        && let Err(error) = start_writer(link, stream)
    {
        return link.lose(error.to_string());
    }
    let ended = read_frames(stream, |frame| match awaiting {
        None => Ok(link.receive(frame)?),
        Some(generation) if frame == Frame::Open => {
            link.confirmed(generation, stream.try_clone().map_err(connection::Error::Read)?)?;
            awaiting = None;
            start_writer(link, stream).map_err(connection::Error::Write)
        }
        Some(_) => Err(link::Error::Open.into()),
    });
    match awaiting {
        Some(generation) => link.unconfirmed(generation),
        None => link.lose(ended.to_string()),
    }
}

fn start_writer(link: &Arc<Link>, stream: &TcpStream) -> io::Result<()> {
    let stream = stream.try_clone()?;
    let writing = Arc::clone(link);
    let name = format!("exchange {} writer", link.peer().name);
    spawn(TaskKind::Connection, &name, move || {
        if let Err(error) = write_frames(&stream, &writing) {
            writing.lose(error.to_string());
        }
    })
    .map(drop)
}

/// Dials until the peer accepts or refuses, or the limit is reached.
fn dial(link: &Link, identity: Identity) -> Result<TcpStream, Error> {
    let started = Stopwatch::start();
    let mut pause = BACKOFF_MIN;
    loop {
        let error = match dial_once(link, identity) {
            Ok(stream) => return Ok(stream),
            Err(error @ (Error::Refused(_) | Error::GaveUp { .. })) => return Err(error),
            Err(error @ (Error::Io(_) | Error::Message(_) | Error::Link(_) | Error::NotYet(_))) => error,
        };
        tracing::debug!(task_manager_id = %link.peer().id, "dial again in {pause:?}: {error}");
        if started.elapsed() + pause > DIAL_LIMIT {
            return Err(Error::GaveUp { last: error.to_string() });
        }
        if !link.dial_again_after(pause) {
            return Err(link::Error::Superseded.into());
        }
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

fn dial_once(link: &Link, identity: Identity) -> Result<TcpStream, Error> {
    let stream = connect(&link.peer().data_address)?;
    socket::prepare(&stream)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let Identity { cluster, job, attempt, task_manager } = identity;
    let handshake = Handshake { cluster, job, attempt, from: task_manager, to: link.peer().id };
    match handshake::ask(&stream, handshake)? {
        Answer::Accepted => {
            socket::prepare(&stream)?;
            Ok(stream)
        }
        Answer::NotYet(reason) => Err(Error::NotYet(reason)),
        Answer::Refused(reason) => Err(Error::Refused(reason)),
    }
}

/// Connects to the first of the name's addresses that answers.
fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"));
    for address in address.to_socket_addrs()?.collect::<Vec<SocketAddr>>() {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
