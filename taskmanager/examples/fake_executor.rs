//! A program that speaks an executor's half of the descriptor protocol without running any flow; the tests of the
//! task manager submit it as an artifact. Its first argument says how it behaves.

use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use bytes::Bytes;
use command_fds::inherited::{init_inherited_fds, take_fd_ownership};
use prost::Message;
use rustix::io::FdFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{Signal, set_parent_process_death_signal};
use tidemill_model::job_graph::JobGraph;
use tidemill_proto::pb::execution_state::State;
use tidemill_proto::pb::executor_command::Command as Told;
use tidemill_proto::pb::executor_event::{AttemptChanged, Event, Finalized, Progress, Ready};
use tidemill_proto::{convert, pb};

const MAGIC: &[u8] = b"TIDEMILL-EXECUTOR-1\n";

fn read_frame<M: Message + Default>(reader: &mut impl Read) -> io::Result<M> {
    let mut prefix = [0; 4];
    reader.read_exact(&mut prefix)?;
    let mut body = vec![0; usize::try_from(u32::from_le_bytes(prefix)).map_err(io::Error::other)?];
    reader.read_exact(&mut body)?;
    M::decode(Bytes::from(body)).map_err(io::Error::other)
}

fn write_frame(writer: &mut impl Write, message: &impl Message) -> io::Result<()> {
    let length = u32::try_from(message.encoded_len()).map_err(io::Error::other)?;
    let bytes = [&length.to_le_bytes()[..], &message.encode_to_vec()].concat();
    writer.write_all(&bytes)
}

fn say(control: &mut UnixStream, event: Event) -> io::Result<()> {
    write_frame(control, &pb::ExecutorEvent { event: Some(event) })
}

fn change(
    control: &mut UnixStream,
    attempt: &pb::ExecutionAttemptId,
    state: State,
    collected: Vec<pb::CollectedRecords>,
) -> io::Result<()> {
    let state = Some(pb::ExecutionState { state: Some(state) });
    let report = Some(pb::AttemptReport { attempt: Some(attempt.clone()), state });
    say(control, Event::Attempt(AttemptChanged { report, collected }))
}

/// Accepts each data connection that the agent passes on, and sends back what comes on it.
fn serve_connections(connections: &OwnedFd) -> io::Result<()> {
    loop {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let buffers = &mut [IoSliceMut::new(&mut bytes)];
        let received = rustix::net::recvmsg(connections, buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        if received.bytes == 0 {
            return Ok(());
        }
        pb::DataHandshake::decode(&bytes[..received.bytes]).map_err(io::Error::other)?;
        for message in ancillary.drain() {
            let RecvAncillaryMessage::ScmRights(descriptors) = message else { continue };
            for descriptor in descriptors {
                let mut socket = TcpStream::from(descriptor);
                let answer = pb::data_handshake_answer::Answer::Accepted.into();
                write_frame(&mut socket, &pb::DataHandshakeAnswer { answer, reason: String::new() })?;
                let mut line = [0; 5];
                socket.read_exact(&mut line)?;
                socket.write_all(&line)?;
            }
        }
    }
}

fn deploy(control: &mut UnixStream, mode: &str, start: &[pb::ExecutionAttemptId]) -> io::Result<()> {
    for attempt in start {
        change(control, attempt, State::Initializing(pb::Empty {}), Vec::new())?;
        change(control, attempt, State::Running(pb::Empty {}), Vec::new())?;
        if mode == "crash" {
            eprintln!("the user's code aborts now");
            std::process::abort();
        }
        if mode == "finish" {
            let subtask = attempt.vertex.map(|vertex| vertex.subtask).unwrap_or_default();
            let records = Bytes::from_static(b"records");
            let collected = vec![pb::CollectedRecords { collect_index: 0, subtask, records }];
            change(control, attempt, State::Finished(pb::FinishedAttempt::default()), collected)?;
        }
    }
    say(control, Event::Progress(Progress { records_in: 7, records_out: 5 }))
}

fn serve(mut control: UnixStream, mode: &str, spec: pb::JobSpec) -> io::Result<()> {
    let graph = spec.graph.ok_or_else(|| io::Error::other("no graph"))?;
    let graph = JobGraph::try_from(graph).map_err(io::Error::other)?;
    let fingerprint = match mode {
        "mismatch" => Bytes::from(vec![0; 32]),
        _ => convert::fingerprint_bytes(graph.fingerprint()),
    };
    if mode != "hang" {
        say(&mut control, Event::Ready(Ready { fingerprint }))?;
    }
    loop {
        let command: pb::ExecutorCommand = read_frame(&mut control)?;
        match command.command {
            Some(Told::Deploy(deployment)) => deploy(&mut control, mode, &deployment.start)?,
            Some(Told::Cancel(cancel)) if mode != "deaf" => {
                for attempt in cancel.attempts {
                    change(&mut control, &attempt, State::Canceled(pb::Empty {}), Vec::new())?;
                }
            }
            Some(Told::Finalize(finalize)) => {
                say(&mut control, Event::Finalized(Finalized { action: finalize.action, failure: None }))?;
            }
            Some(Told::Start(_) | Told::Cancel(_) | Told::Checkpoint(_)) | None => {}
        }
    }
}

#[expect(unsafe_code, reason = "taking over inherited descriptors has no safe form")]
fn inherited() -> io::Result<(OwnedFd, OwnedFd)> {
    // SAFETY: the first thing that the program does; nothing else has opened or owns a descriptor yet.
    unsafe { init_inherited_fds() }.map_err(io::Error::other)?;
    Ok((take_fd_ownership(3).map_err(io::Error::other)?, take_fd_ownership(4).map_err(io::Error::other)?))
}

fn main() -> io::Result<()> {
    let (control, connections) = inherited()?;
    rustix::io::fcntl_setfd(&control, FdFlags::CLOEXEC)?;
    rustix::io::fcntl_setfd(&connections, FdFlags::CLOEXEC)?;
    let mut control = UnixStream::from(control);
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut magic = [0; MAGIC.len()];
    control.read_exact(&mut magic)?;
    assert_eq!(magic, MAGIC, "started by a task manager");
    let mode = std::env::args().nth(1).unwrap_or_default();
    if mode == "family" {
        let child = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn()?;
        println!("child {}", child.id());
    }
    let start: pb::ExecutorCommand = read_frame(&mut control)?;
    let Some(Told::Start(start)) = start.command else { return Err(io::Error::other("no start")) };
    let spec = start.spec.ok_or_else(|| io::Error::other("no spec"))?;
    std::thread::spawn(move || serve_connections(&connections));
    match serve(control, &mode, spec) {
        // The agent is gone.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        ended => ended,
    }
}
