//! The tasks that serve one executor: commands to it, events from it, data connections to it, and its end.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tidemill_model::execution::{Failure, FailureKind};
use tidemill_proto::pb;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::agent_loop::Input;
use super::process::{Process, Spawned, Spawner};
use super::spawn::{TaskKind, spawn};
use super::{frame, process, wire};
use crate::engine::{Event, ExecutorCommand, ExecutorId, ExecutorStart};

/// Commands that may wait for an executor: a handful a job, so a full queue means that it does not read.
const COMMAND_CAPACITY: usize = 256;

/// Data connections that may wait for an executor; it takes each at once, so more than a cluster has peers.
const CONNECTION_CAPACITY: usize = 256;

/// How long the events of a process that has exited are read: a descendant that left its process group could keep the
/// socket open for ever.
const LAST_EVENTS_TIMEOUT: Duration = Duration::from_secs(2);

/// A data connection on its way to its executor.
pub(crate) struct Connection {
    pub(crate) handshake: pb::DataHandshake,
    pub(crate) socket: TcpStream,
}

/// What the agent holds of one executor.
pub(crate) struct ExecutorHandle {
    commands: mpsc::Sender<ExecutorCommand>,
    connections: mpsc::Sender<Connection>,
    kill: watch::Sender<bool>,
}

impl ExecutorHandle {
    /// Starts the process and the tasks that serve it; events go to `inbox`.
    pub(crate) fn start(start: ExecutorStart, spawner: Spawner, inbox: mpsc::Sender<Input>) -> Self {
        let (commands, command_queue) = mpsc::channel(COMMAND_CAPACITY);
        let (connections, connection_queue) = mpsc::channel(CONNECTION_CAPACITY);
        let (kill, kill_signal) = watch::channel(false);
        let executor = start.executor;
        let queues = Queues { commands: command_queue, connections: connection_queue, kill: kill_signal };
        spawn(TaskKind::Executor, executor, async move {
            let event = supervise(start, spawner, queues, &inbox).await;
            let _agent_ended = inbox.send(Input::Event(event)).await;
        });
        Self { commands, connections, kill }
    }

    /// Tells the executor; one that does not read its commands is killed.
    pub(crate) fn tell(&self, executor: ExecutorId, command: ExecutorCommand) {
        match self.commands.try_send(command) {
            Ok(()) => {}
            // It is exiting: its exit says everything.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                warn!(%executor, "kill executor: it has not read {COMMAND_CAPACITY} commands");
                self.kill();
            }
        }
    }

    /// Ends the whole process group.
    pub(crate) fn kill(&self) {
        self.kill.send_replace(true);
    }

    /// Where data connections go.
    pub(crate) fn connections(&self) -> mpsc::Sender<Connection> {
        self.connections.clone()
    }
}

struct Queues {
    commands: mpsc::Receiver<ExecutorCommand>,
    connections: mpsc::Receiver<Connection>,
    kill: watch::Receiver<bool>,
}

fn lost(message: String) -> Failure {
    Failure { kind: FailureKind::ExecutorLost, vertex: None, operator: None, message }
}

/// Starts the process, serves it, and returns how it ended, after everything that it said.
async fn supervise(start: ExecutorStart, spawner: Spawner, queues: Queues, inbox: &mpsc::Sender<Input>) -> Event {
    let executor = start.executor;
    let Spawned { process_id, process, control, unsent, connections } = match spawner.spawn(start).await {
        Ok(spawned) => spawned,
        Err(failure) => return Event::ExecutorStartFailed { executor, failure },
    };
    let _agent_ended = inbox.send(Input::Event(Event::ExecutorStarted { executor, process_id })).await;
    let control = match UnixStream::from_std(control) {
        Ok(control) => control,
        Err(error) => {
            let failure = lost(format!("use control socket of executor process {process_id}: {error}"));
            return end(executor, process, failure).await;
        }
    };
    let (reader, writer) = control.into_split();
    let commands = spawn(TaskKind::Executor, executor, write_commands(writer, unsent, queues.commands));
    let passing = spawn(TaskKind::Executor, executor, pass_connections(connections, queues.connections));
    let events = spawn(TaskKind::Executor, executor, read_events(executor, reader, inbox.clone()));
    let exited = process.wait(queues.kill).await;
    commands.abort();
    passing.abort();
    // What it said before its end is read to the end first: a finished attempt must not look lost.
    let mut events = events;
    if tokio::time::timeout(LAST_EVENTS_TIMEOUT, &mut events).await.is_err() {
        events.abort();
    }
    match exited {
        Ok(exit) => Event::ExecutorExited { executor, exit },
        Err(error) => {
            let failure = lost(format!("wait for executor process {process_id}: {error}"));
            Event::ExecutorStartFailed { executor, failure }
        }
    }
}

/// Ends a process that cannot be served.
async fn end(executor: ExecutorId, process: Process, failure: Failure) -> Event {
    let (kill, signal) = watch::channel(true);
    let _ended = process.wait(signal).await;
    drop(kill);
    Event::ExecutorStartFailed { executor, failure }
}

async fn write_commands(mut writer: OwnedWriteHalf, unsent: Bytes, mut commands: mpsc::Receiver<ExecutorCommand>) {
    let write = async {
        writer.write_all(&unsent).await?;
        while let Some(command) = commands.recv().await {
            writer.write_all(&frame::encode(&wire::executor_command(command))?).await?;
        }
        io::Result::Ok(())
    };
    if let Err(error) = write.await {
        warn!("write command: {error}; the executor's exit will say more");
    }
}

async fn read_events(executor: ExecutorId, mut reader: OwnedReadHalf, inbox: mpsc::Sender<Input>) {
    loop {
        let event = match frame::read::<pb::ExecutorEvent>(&mut reader, frame::CONTROL_LIMIT).await {
            Ok(None) => return,
            Ok(Some(event)) => wire::executor_event(executor, event).map_err(|error| error.to_string()),
            // Killed in the middle of a frame: the exit says more.
            Err(error) if error.kind() != io::ErrorKind::InvalidData => return,
            Err(error) => Err(error.to_string()),
        };
        let (event, good) = match event {
            Ok(event) => (event, true),
            Err(error) => {
                let failure =
                    lost(format!("read event of the executor: {error}; was the artifact built for another release?"));
                (Event::ExecutorRefused { executor, failure }, false)
            }
        };
        if inbox.send(Input::Event(event)).await.is_err() || !good {
            return;
        }
    }
}

async fn pass_connections(socket: OwnedFd, mut queue: mpsc::Receiver<Connection>) {
    let Ok(socket) = process::watch(socket, Interest::WRITABLE) else { return };
    while let Some(connection) = queue.recv().await {
        let bytes = connection.handshake.encode_to_vec();
        let sent = socket.async_io(Interest::WRITABLE, |socket| pass(socket, &bytes, &connection.socket)).await;
        if let Err(error) = sent {
            warn!("pass data connection to the executor: {error}; its peer dials again");
        }
    }
}

/// One message: the handshake, with the connection itself beside it.
fn pass(socket: &OwnedFd, bytes: &[u8], connection: &TcpStream) -> io::Result<()> {
    let descriptors = [connection.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)), "the space was made for one descriptor");
    let flags = SendFlags::NOSIGNAL;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags)?;
    Ok(())
}
