//! The executor role: what a user's program does when a task manager started it.
//!
//! ```text
//!  agent --fd 3: commands-->  this thread  --deploy, cancel, finalize--> Executor
//!        <--fd 3: events---  "executor events"  <--reports, progress---
//!        --fd 4: sockets-->  "executor connections"  --accept--> TcpNetwork
//! ```

mod control;
mod descriptor;
mod limits;
mod service;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::id::{ClusterId, TaskManagerId};
use tidemill_model::job::JobSpec;

use self::control::{ControlSocket, Event};
use self::descriptor::Descriptors;
use super::network::message;
use crate::flow::Flow;

/// The first bytes on descriptor 3 of an executor.
pub const MAGIC: &[u8] = b"TIDEMILL-EXECUTOR-1\n";

/// How a process ends that cannot be an executor any longer (`EX_SOFTWARE`).
const EXIT_FAILURE: i32 = 70;

/// Why a process cannot take up, or go on in, the executor role.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The role was taken before.
    #[error("detect executor role: it was taken before; create one Environment and keep it for the whole program")]
    Taken,
    /// A descriptor does not work.
    #[error("set up executor: {action}: {source}")]
    SetUp {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The agent does not follow the protocol, or closed the socket within a message.
    #[error("read command of the task manager: {reason}")]
    Protocol {
        /// What was wrong.
        reason: String,
    },
}

impl Error {
    fn set_up(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::SetUp { action, source }
    }
}

impl From<message::Error> for Error {
    fn from(error: message::Error) -> Self {
        Self::Protocol { reason: error.to_string() }
    }
}

impl From<tidemill_proto::convert::Error> for Error {
    fn from(error: tidemill_proto::convert::Error) -> Self {
        Self::Protocol { reason: error.to_string() }
    }
}

/// What the agent says before it starts the process.
#[derive(Debug)]
struct Start {
    spec: JobSpec,
    cluster: ClusterId,
    task_manager: TaskManagerId,
    memory_bytes: u64,
    memory_limit_bytes: Option<u64>,
    /// Where copies of state are kept on this machine; none: nowhere.
    local_state: Option<PathBuf>,
    /// Of this process alone, deleted after its end.
    folder: PathBuf,
}

/// The role of a process that a task manager started.
#[derive(Debug)]
pub struct ExecutorRole {
    start: Start,
    control: ControlSocket,
    /// Sockets of data connections come here.
    connections: OwnedFd,
}

/// Takes up the executor role, if a task manager started this process.
///
/// This wins over every argument and variable: descriptor 3 is a Unix socket on which [`MAGIC`] waits. The process
/// then dies with its task manager, runs at a lower priority, is first to go when memory runs out, and obeys the job's
/// memory limit; child processes do not inherit the descriptors.
///
/// # Errors
/// The process was started as an executor, but the descriptors or limits do not work, or the role was taken before.
pub fn detect() -> Result<Option<ExecutorRole>, Error> {
    let Some(Descriptors { control, connections }) = descriptor::inherited()? else { return Ok(None) };
    let role = ExecutorRole::new(control, connections)?;
    limits::die_with_parent()?;
    if role.control.is_closed()? {
        // The agent ended before the death signal was set.
        std::process::exit(0);
    }
    limits::yield_to_servers()?;
    let points = tidemill_failpoint::set_from_environment();
    points.map_err(|error| Error::set_up("set its fail points")(io::Error::other(error)))?;
    if let Some(bytes) = role.start.memory_limit_bytes {
        limits::limit_memory(bytes)?;
    }
    Ok(Some(role))
}

impl ExecutorRole {
    /// Reads the magic and the start message from `control`.
    fn new(mut control: UnixStream, connections: OwnedFd) -> Result<Self, Error> {
        let mut magic = [0; MAGIC.len()];
        control.set_nonblocking(false).map_err(Error::set_up("make the control socket blocking"))?;
        control.read_exact(&mut magic).map_err(Error::set_up("read the control socket"))?;
        if magic != MAGIC {
            return Err(Error::Protocol { reason: "the control socket does not begin with the magic".into() });
        }
        let control = ControlSocket::new(control);
        let start = control.read_start()?;
        Ok(Self { start, control, connections })
    }

    /// The job that this process is an executor of.
    #[must_use]
    pub fn spec(&self) -> &JobSpec {
        &self.start.spec
    }

    /// The share of the task manager's network and state memory that the job has here, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.start.memory_bytes
    }

    /// Proves that `flow` is what was submitted, and runs what the task manager says until it closes the socket.
    pub fn run(self, flow: Arc<Flow>) -> ! {
        if let Some(failure) = mismatch(self.spec(), &flow) {
            self.refuse(failure);
        }
        match service::serve(self, flow) {
            Ok(()) => std::process::exit(0),
            Err(error) => {
                eprintln!("tidemill executor: {error}");
                std::process::exit(EXIT_FAILURE)
            }
        }
    }

    /// Tells the task manager that the program cannot be what was submitted, and ends the process.
    pub fn refuse(self, failure: Failure) -> ! {
        eprintln!("tidemill executor: {failure}");
        if let Err(error) = self.control.write(Event::Refused(failure)) {
            eprintln!("tidemill executor: {error}");
        }
        std::process::exit(EXIT_FAILURE)
    }
}

/// Why the flow is not the submitted one, if so.
fn mismatch(spec: &JobSpec, flow: &Flow) -> Option<Failure> {
    let built = flow.graph();
    if built.fingerprint() == spec.fingerprint() {
        return None;
    }
    let message = format!(
        "the program built another graph in the executor than when it was submitted; a graph must depend on nothing but \
         the program's arguments and its recorded environment. Submitted ({}):\n{}built ({}):\n{built}",
        spec.fingerprint(),
        spec.graph,
        built.fingerprint(),
    );
    Some(Failure { kind: FailureKind::GraphMismatch, vertex: None, operator: None, message })
}
