//! The control socket: the agent's commands in the model's terms, and the executor's events on the wire.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::net::RecvFlags;
use tidemill_model::checkpoint::{CheckpointCommand, CheckpointReport};
use tidemill_model::execution::{
    AttemptReport, ExecutionState, Failure, FailureKind, Finalization, JobDeployment, TerminalState,
};
use tidemill_model::id::ExecutionAttemptId;
use tidemill_model::job_graph::Fingerprint;
use tidemill_proto::{convert, pb};

use super::{Error, Start};
use crate::runtime::executor::{CollectedRecords, Progress};
use crate::runtime::network::message;

/// The largest message in either direction.
pub(super) const MAX_MESSAGE_BYTES: usize = 128 * 1024 * 1024;

/// What the agent wants.
#[derive(Debug)]
pub(super) enum Command {
    /// Start tasks.
    Deploy(JobDeployment),
    /// Stop tasks.
    Cancel(Vec<ExecutionAttemptId>),
    /// Publish or drop what the sinks staged.
    Finalize(Finalization),
    /// Take part in a checkpoint.
    Checkpoint(CheckpointCommand),
}

/// What the executor says.
#[derive(Debug)]
pub(super) enum Event {
    /// The graph is the submitted one.
    Ready(Fingerprint),
    /// An attempt's state changed.
    Attempt { report: AttemptReport, collected: Vec<CollectedRecords> },
    /// A finalization ended.
    Finalized { finalization: Finalization, result: Result<(), Failure> },
    /// What became of a checkpoint at an attempt.
    Checkpoint(CheckpointReport),
    /// Records went by.
    Progress(Progress),
    /// The program is not what was submitted.
    Refused(Failure),
}

/// One end of the control socket: read by one thread, written by several.
#[derive(Debug)]
pub(super) struct ControlSocket {
    stream: UnixStream,
    /// Held while a message is written, so that messages do not mix.
    writing: Mutex<()>,
}

impl ControlSocket {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, writing: Mutex::new(()) }
    }

    /// Whether the agent has closed its end.
    pub(super) fn is_closed(&self) -> Result<bool, Error> {
        match rustix::net::recv(&self.stream, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, length)) => Ok(length == 0),
            Err(rustix::io::Errno::AGAIN) => Ok(false),
            Err(error) => Err(Error::set_up("look at the control socket")(error.into())),
        }
    }

    /// Reads the first message.
    pub(super) fn read_start(&self) -> Result<Start, Error> {
        use pb::executor_command::Command as Pb;
        match self.read_command()?.and_then(|command| command.command) {
            Some(Pb::Start(start)) => start.try_into(),
            Some(Pb::Deploy(_) | Pb::Cancel(_) | Pb::Finalize(_) | Pb::Checkpoint(_)) | None => {
                Err(Error::Protocol { reason: "the first message is not a start".into() })
            }
        }
    }

    /// Reads the next command; none when the agent closed its end.
    pub(super) fn read(&self) -> Result<Option<Command>, Error> {
        self.read_command()?.map(Command::try_from).transpose()
    }

    fn read_command(&self) -> Result<Option<pb::ExecutorCommand>, Error> {
        Ok(message::read(&self.stream, MAX_MESSAGE_BYTES)?)
    }

    /// Writes an event.
    pub(super) fn write(&self, event: Event) -> Result<(), Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let event = pb::ExecutorEvent::from(event);
        match message::write(&self.stream, &event, MAX_MESSAGE_BYTES) {
            Err(message::Error::TooLarge { length, limit }) => {
                let event = too_large(event, length, limit)?;
                Ok(message::write(&self.stream, &event, MAX_MESSAGE_BYTES)?)
            }
            result => Ok(result?),
        }
    }

    /// Makes the reader see the end: after a failed write there is no use in going on.
    pub(super) fn shut_down(&self) {
        // An error means that it is closed already, which is what is wanted.
        drop(self.stream.shutdown(Shutdown::Both));
    }
}

/// What is said instead of an attempt's end whose collected records are too many.
fn too_large(event: pb::ExecutorEvent, length: usize, limit: usize) -> Result<pb::ExecutorEvent, Error> {
    use pb::executor_event::Event as Pb;
    let message = format!(
        "collect() gathered {length} bytes in one sub-task, at most {limit} can be handed over; write to a file sink"
    );
    let Some(Pb::Attempt(changed)) = event.event else { return Err(Error::Protocol { reason: message }) };
    let Some(report) = changed.report else { return Err(Error::Protocol { reason: message }) };
    let attempt = AttemptReport::try_from(report)?.attempt;
    let kind = FailureKind::InvalidInput;
    let failure = Failure { kind, vertex: Some(attempt.vertex), operator: None, message };
    let state = ExecutionState::Terminal(TerminalState::Failed(failure));
    Ok(Event::Attempt { report: AttemptReport { attempt, state }, collected: Vec::new() }.into())
}

impl TryFrom<pb::ExecutorStart> for Start {
    type Error = Error;

    fn try_from(start: pb::ExecutorStart) -> Result<Self, Error> {
        let spec = start.spec.ok_or_else(|| Error::Protocol { reason: "ExecutorStart.spec is missing".into() })?;
        Ok(Self {
            spec: spec.try_into()?,
            cluster: convert::cluster_id(&start.cluster_id, "ExecutorStart.cluster_id")?,
            task_manager: convert::task_manager_id(&start.task_manager_id, "ExecutorStart.task_manager_id")?,
            memory_bytes: start.memory_bytes,
            memory_limit_bytes: start.memory_limit_bytes,
            local_state: start.local_state_folder.map(PathBuf::from),
            folder: start.folder.into(),
        })
    }
}

impl TryFrom<pb::ExecutorCommand> for Command {
    type Error = Error;

    fn try_from(command: pb::ExecutorCommand) -> Result<Self, Error> {
        use pb::executor_command::Command as Pb;
        match command.command {
            Some(Pb::Deploy(deployment)) => Ok(Self::Deploy(deployment.try_into()?)),
            Some(Pb::Cancel(cancel)) => {
                let attempts = cancel.attempts.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
                Ok(Self::Cancel(attempts))
            }
            Some(Pb::Finalize(finalize)) => Ok(Self::Finalize(convert::finalization_from_pb(
                finalize.action,
                finalize.attempts,
                finalize.checkpoint,
            )?)),
            Some(Pb::Checkpoint(checkpoint)) => Ok(Self::Checkpoint(checkpoint.try_into()?)),
            Some(Pb::Start(_)) => Err(Error::Protocol { reason: "a second start".into() }),
            None => Err(Error::Protocol { reason: "a command of an unknown kind".into() }),
        }
    }
}

impl From<Event> for pb::ExecutorEvent {
    fn from(event: Event) -> Self {
        use pb::executor_event::Event as Pb;
        use pb::executor_event::{AttemptChanged, Finalized, Progress, Ready};
        let event = match event {
            Event::Ready(fingerprint) => Pb::Ready(Ready { fingerprint: convert::fingerprint_bytes(fingerprint) }),
            Event::Attempt { report, collected } => {
                let collected = collected.into_iter().map(collected_to_pb).collect();
                Pb::Attempt(AttemptChanged { report: Some(report.into()), collected })
            }
            Event::Finalized { finalization, result } => {
                let (action, ..) = convert::finalization_to_pb(finalization);
                Pb::Finalized(Finalized { action: action.into(), failure: result.err().map(Into::into) })
            }
            Event::Checkpoint(report) => Pb::Checkpoint(report.into()),
            Event::Progress(progress) => {
                Pb::Progress(Progress { records_in: progress.records_in, records_out: progress.records_out })
            }
            Event::Refused(failure) => Pb::Refused(failure.into()),
        };
        Self { event: Some(event) }
    }
}

fn collected_to_pb(collected: CollectedRecords) -> pb::CollectedRecords {
    let CollectedRecords { collect_index, subtask, records } = collected;
    pb::CollectedRecords { collect_index, subtask: subtask.0, records }
}
