//! An executor at work: the agent's commands in, the tasks' events and the job's progress out.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, tick};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tidemill_model::execution::{Failure, Finalization, JobDeployment};
use tidemill_model::id::AttemptNumber;

use super::control::{Command, ControlSocket, Event};
use super::{Error, ExecutorRole, Start};
use crate::flow::Flow;
use crate::runtime::executor::{Executor, ExecutorEvent, ProgressWatch};
use crate::runtime::network::{Handshake, Identity, NoNetwork, TcpNetwork};
use crate::runtime::spawn::{TaskKind, spawn};

/// How many events may wait for the agent; a task that ends then waits too.
const EVENTS: usize = 256;

/// How often progress is told, when there is any.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// How many data connections may wait for the deployment that says what they are for; the dialler of one that is
/// dropped dials again.
const WAITING_CONNECTIONS: usize = 256;

/// The most bytes of a handshake message.
const MAX_HANDSHAKE_BYTES: usize = 4 * 1024;

/// Serves the agent until it closes the control socket.
pub(super) fn serve(role: ExecutorRole, flow: Arc<Flow>) -> Result<(), Error> {
    let ExecutorRole { start, control, connections } = role;
    let fingerprint = flow.graph().fingerprint();
    let (events, reports) = bounded(EVENTS);
    let control = Arc::new(control);
    let service = Arc::new(Service::new(start, flow));
    let (door, forwarding, telling) = (Arc::clone(&service), Arc::clone(&service), Arc::clone(&control));
    spawn(TaskKind::Control, "executor connections", move || accept_connections(&door, &connections))
        .map_err(Error::set_up("start a thread"))?;
    spawn(TaskKind::Control, "executor events", move || {
        if let Err(error) = forward_events(&forwarding, &telling, &reports) {
            tracing::debug!("tell the task manager: {error}");
            telling.shut_down();
        }
    })
    .map_err(Error::set_up("start a thread"))?;
    control.write(Event::Ready(fingerprint))?;
    while let Some(command) = control.read()? {
        match command {
            Command::Deploy(deployment) => service.deploy(&deployment, &events)?,
            Command::Cancel(attempts) => {
                if let Some(deployed) = &mut *service.deployed() {
                    deployed.executor.cancel(&attempts);
                }
            }
            Command::Finalize(finalization) => {
                let result = service.finalize(&finalization, &events);
                control.write(Event::Finalized { finalization, result })?;
            }
            Command::Checkpoint(checkpoint) => {
                let mut deployed = service.deployed();
                match &mut *deployed {
                    Some(deployed) => deployed.executor.checkpoint(&checkpoint),
                    None => {
                        for report in checkpoint.declined("nothing runs in this process") {
                            control.write(Event::Checkpoint(report))?;
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// What the threads of an executor share.
pub(super) struct Service {
    start: Start,
    flow: Arc<Flow>,
    deployed: Mutex<Option<Deployed>>,
    /// Since the first deployment. Beside the lock: tasks may end while the deployment that started them holds it.
    progress: OnceLock<ProgressWatch>,
    door: Mutex<Door>,
}

struct Deployed {
    attempt: AttemptNumber,
    executor: Executor,
}

/// Where accepted data connections go.
enum Door {
    /// No deployment yet.
    Waiting(Vec<(Handshake, TcpStream)>),
    /// To the network of the deployed attempt.
    Open(Arc<TcpNetwork>),
}

impl Service {
    pub(super) fn new(start: Start, flow: Arc<Flow>) -> Self {
        let (deployed, progress) = (Mutex::new(None), OnceLock::new());
        Self { start, flow, deployed, progress, door: Mutex::new(Door::Waiting(Vec::new())) }
    }

    /// Starts tasks; the first deployment decides which attempt this process belongs to.
    pub(super) fn deploy(&self, deployment: &JobDeployment, events: &Sender<ExecutorEvent>) -> Result<(), Error> {
        // Not the schedule's: other regions may be at other numbers, in processes of their own.
        let first = deployment.start.first().map(|attempt| attempt.attempt);
        let attempt = first.ok_or_else(|| Error::Protocol { reason: "a deployment of no attempts".into() })?;
        if deployment.start.iter().any(|other| other.attempt != attempt) {
            return Err(Error::Protocol { reason: "a deployment of several attempt numbers".into() });
        }
        if deployment.job != self.start.spec.id {
            return Err(Error::Protocol { reason: format!("a deployment of job {}", deployment.job) });
        }
        let mut deployed = self.deployed();
        let deployed = deployed.get_or_insert_with(|| self.first_deployment(attempt, deployment, events));
        if deployed.attempt != attempt {
            let reason = format!("a deployment of attempt {attempt} in a process of attempt {}", deployed.attempt);
            return Err(Error::Protocol { reason });
        }
        deployed.executor.deploy(deployment);
        Ok(())
    }

    fn first_deployment(
        &self,
        attempt: AttemptNumber,
        deployment: &JobDeployment,
        events: &Sender<ExecutorEvent>,
    ) -> Deployed {
        let Start { spec, cluster, task_manager, folder, memory_bytes, .. } = &self.start;
        let identity = Identity { cluster: *cluster, job: spec.id, attempt, task_manager: *task_manager };
        let network = Arc::new(TcpNetwork::new(identity, self.flow.graph(), &deployment.schedule));
        let before = std::mem::replace(&mut *self.door(), Door::Open(Arc::clone(&network)));
        if let Door::Waiting(waiting) = before {
            waiting.into_iter().for_each(|(handshake, stream)| network.accept(handshake, stream));
        }
        let executor = Executor::new(spec.id, Arc::clone(&self.flow), *task_manager, network, events.clone())
            .with_checkpoints(spec.settings.checkpointing.as_ref())
            .with_local_state(self.start.local_state.as_deref())
            .with_savepoint(spec.settings.savepoint.as_ref())
            .with_state(spec.settings.state_backend, folder, *memory_bytes);
        self.progress.get_or_init(|| executor.watch());
        Deployed { attempt, executor }
    }

    /// Finalizes, also in a process that was started for nothing else.
    fn finalize(&self, finalization: &Finalization, events: &Sender<ExecutorEvent>) -> Result<(), Failure> {
        if let Some(deployed) = &*self.deployed() {
            return deployed.executor.finalize(finalization);
        }
        let Start { spec, task_manager, .. } = &self.start;
        let network = Arc::new(NoNetwork);
        let executor = Executor::new(spec.id, Arc::clone(&self.flow), *task_manager, network, events.clone())
            .with_checkpoints(spec.settings.checkpointing.as_ref())
            .with_savepoint(spec.settings.savepoint.as_ref());
        executor.finalize(finalization)
    }

    /// Takes in a data connection, now or when there is a deployment.
    pub(super) fn accept(&self, handshake: Handshake, stream: TcpStream) {
        let network = match &mut *self.door() {
            Door::Waiting(waiting) if waiting.len() < WAITING_CONNECTIONS => {
                waiting.push((handshake, stream));
                return;
            }
            Door::Waiting(_) => return,
            Door::Open(network) => Arc::clone(network),
        };
        network.accept(handshake, stream);
    }

    fn deployed(&self) -> MutexGuard<'_, Option<Deployed>> {
        self.deployed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes on what the tasks report, and now and then how far they are.
fn forward_events(service: &Service, control: &ControlSocket, reports: &Receiver<ExecutorEvent>) -> Result<(), Error> {
    let ticks = tick(PROGRESS_INTERVAL);
    let mut told = (0, 0);
    let mut tell_progress = || match service.progress.get().map(ProgressWatch::get) {
        Some(progress) if (progress.records_in, progress.records_out) != told => {
            told = (progress.records_in, progress.records_out);
            control.write(Event::Progress(progress))
        }
        Some(_) | None => Ok(()),
    };
    loop {
        select! {
            recv(reports) -> report => {
                match report {
                    Ok(ExecutorEvent::Attempt { report, collected }) => {
                        // Before an end is known, so that the last count of a finished job is the whole count.
                        if report.state.is_terminal() {
                            tell_progress()?;
                        }
                        control.write(Event::Attempt { report, collected })?;
                    }
                    Ok(ExecutorEvent::Checkpoint(report)) => control.write(Event::Checkpoint(report))?,
                    Err(_) => return Ok(()),
                }
            }
            recv(ticks) -> _ => tell_progress()?,
        }
    }
}

/// Takes in the data connections that the agent accepted, until it closes the socket.
fn accept_connections(service: &Service, connections: &OwnedFd) {
    loop {
        match receive_connection(connections) {
            Ok(Some(Some((handshake, stream)))) => service.accept(handshake, stream),
            Ok(Some(None)) => tracing::warn!("a data connection without a socket or a handshake was dropped"),
            Ok(None) => return,
            Err(error) => {
                // Peers of this executor dial again, in vain, and report it; the tasks that need none go on.
                tracing::error!("receive data connections: {error}");
                return;
            }
        }
    }
}

/// The next connection; the outer none is the end, the inner one a message that is none.
fn receive_connection(connections: &OwnedFd) -> io::Result<Option<Option<(Handshake, TcpStream)>>> {
    let mut bytes = [0; MAX_HANDSHAKE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match rustix::net::recvmsg(connections, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let socket = ancillary.drain().find_map(|message| {
        if let RecvAncillaryMessage::ScmRights(mut sockets) = message { sockets.next() } else { None }
    });
    let handshake = Handshake::decode(&bytes[..received.bytes]);
    Ok(Some(socket.zip(handshake.ok()).map(|(socket, handshake)| (handshake, TcpStream::from(socket)))))
}
