//! Executor processes: the one thread that starts them, and the task that watches over each until it is reaped.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use command_fds::{CommandFdExt, FdMapping};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal};
use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::id::TaskManagerId;
use tidemill_model::job::Program;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::directory::Directory;
use super::memory_watch::MemoryWatch;
use super::{frame, wire};
use crate::engine::{ExecutorExit, ExecutorStart, ExitStatus};

/// The first bytes on descriptor 3: they tell a program that it is an executor.
pub(crate) const MAGIC: &[u8] = b"TIDEMILL-EXECUTOR-1\n";

/// The child's descriptor for commands and events.
const CONTROL_DESCRIPTOR: i32 = 3;

/// The child's descriptor for accepted data connections.
const CONNECTIONS_DESCRIPTOR: i32 = 4;

/// How many starts may wait for the spawning thread: more than there are slots.
const PENDING_STARTS: usize = 1024;

/// How often a start is tried again while another process, forked at an unlucky moment, still holds the
/// just-written artifact open for writing; it lets go within milliseconds.
const BUSY_TRIES: u32 = 100;

const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// How much of an executor's standard error is quoted in a failure.
const LAST_WORDS_BYTES: u64 = 2048;
const LAST_WORDS_LINES: usize = 8;

/// The agent's side of a process that runs.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// Its process.
    pub(crate) process_id: u32,
    /// Watches and ends it.
    pub(crate) process: Process,
    /// Commands out, events in.
    pub(crate) control: StdUnixStream,
    /// The part of the first frames that did not fit into the socket's buffer.
    pub(crate) unsent: Bytes,
    /// Accepted data connections.
    pub(crate) connections: OwnedFd,
}

struct Request {
    start: ExecutorStart,
    reply: oneshot::Sender<Result<Spawned, Failure>>,
}

/// Starts executors, all from one thread that lives as long as the agent: an executor asks the kernel to be killed
/// when its parent dies, and to the kernel the parent is the *thread* that made it.
#[derive(Debug, Clone)]
pub(crate) struct Spawner {
    requests: SyncSender<Request>,
}

impl Spawner {
    /// Starts the thread.
    pub(crate) fn new(directory: Arc<Directory>, task_manager: TaskManagerId) -> io::Result<Self> {
        let (requests, inbox) = sync_channel(PENDING_STARTS);
        std::thread::Builder::new().name("executor-spawner".into()).spawn(move || {
            serve(&inbox, &directory, task_manager);
        })?;
        Ok(Self { requests })
    }

    /// Starts one executor.
    pub(crate) async fn spawn(&self, start: ExecutorStart) -> Result<Spawned, Failure> {
        let (reply, answer) = oneshot::channel();
        let overloaded = |_| io_failure("start executor: too many starts wait already".into());
        self.requests.try_send(Request { start, reply }).map_err(overloaded)?;
        answer.await.map_err(|_| io_failure("start executor: the spawning thread has ended".into()))?
    }
}

fn serve(inbox: &Receiver<Request>, directory: &Directory, task_manager: TaskManagerId) {
    for Request { start, reply } in inbox {
        if let Err(Ok(mut orphan)) = reply.send(spawn(&start, directory, task_manager)) {
            // Nobody watches over it, so it must not live.
            orphan.process.kill();
            let _reaped = orphan.process.child.wait();
        }
    }
}

fn io_failure(message: String) -> Failure {
    Failure { kind: FailureKind::Io, vertex: None, operator: None, message }
}

fn spawn(start: &ExecutorStart, directory: &Directory, task_manager: TaskManagerId) -> Result<Spawned, Failure> {
    let failed = |step: &'static str| move |error: io::Error| io_failure(format!("start executor: {step}: {error}"));
    let (control, child_control) = StdUnixStream::pair().map_err(failed("make its control socket"))?;
    control.set_nonblocking(true).map_err(failed("make its control socket"))?;
    let flags = SocketFlags::CLOEXEC;
    let (connections, child_connections) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(io::Error::from)
            .map_err(failed("make its connection socket"))?;
    rustix::io::ioctl_fionbio(&connections, true)
        .map_err(io::Error::from)
        .map_err(failed("make its connection socket"))?;
    // Before the start: the program looks for these bytes first of all.
    let folder = directory.executor(start.spec.id, start.attempt);
    let folder = std::path::absolute(folder).map_err(failed("find its folder"))?;
    let local_state = directory.local_state(start.spec.id);
    let unsent = write_first_frames(&control, start, task_manager, (&folder, local_state.as_deref()))
        .map_err(failed("write its first frame"))?;
    let mut command = command(start, directory).map_err(failed("prepare its folder"))?;
    let mappings = vec![
        FdMapping { parent_fd: child_control.into(), child_fd: CONTROL_DESCRIPTOR },
        FdMapping { parent_fd: child_connections, child_fd: CONNECTIONS_DESCRIPTOR },
    ];
    command.fd_mappings(mappings).map_err(|error| failed("map its descriptors")(io::Error::other(error)))?;
    let child = start_process(&mut command).map_err(|error| exec_failure(start, &error))?;
    let process_id = child.id();
    let stderr = folder.join("stderr.log");
    let process = Process::new(child, stderr).map_err(failed("watch it"))?;
    Ok(Spawned { process_id, process, control, unsent, connections })
}

fn write_first_frames(
    control: &StdUnixStream,
    start: &ExecutorStart,
    task_manager: TaskManagerId,
    folders: (&Path, Option<&Path>),
) -> io::Result<Bytes> {
    let frame = frame::encode(&wire::executor_start(start, task_manager, folders))?;
    let mut bytes = BytesMut::with_capacity(MAGIC.len() + frame.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&frame);
    let mut unsent = bytes.freeze();
    while !unsent.is_empty() {
        match (&*control).write(&unsent) {
            Ok(written) => drop(unsent.split_to(written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(unsent)
}

fn command(start: &ExecutorStart, directory: &Directory) -> io::Result<Command> {
    let Program::Artifact(program) = &start.spec.program else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the job has no artifact"));
    };
    let folder = directory.executor(start.spec.id, start.attempt);
    fs::create_dir_all(&folder)?;
    let log = |name: &str| OpenOptions::new().create(true).append(true).open(folder.join(name));
    let recorded = PathBuf::from(&program.working_directory);
    let working_directory = if recorded.is_absolute() && recorded.is_dir() { recorded } else { folder.clone() };
    let mut command = Command::new(directory.artifact(program.artifact));
    command
        .arg0(&program.name)
        .args(&program.args)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(&program.environment)
        .envs(storage_access())
        .envs(fail_points().map(|settings| (tidemill_failpoint::VARIABLE, settings)))
        .current_dir(working_directory)
        .stdin(Stdio::null())
        .stdout(log("stdout.log")?)
        .stderr(log("stderr.log")?)
        .process_group(0);
    Ok(command)
}

/// How to get at the checkpoint storage is the task manager's own knowledge: what a job's client has in its environment
/// is replicated, and secrets must not be.
fn storage_access() -> impl Iterator<Item = (OsString, OsString)> {
    let of_storage = |name: &OsStr| {
        let name = name.to_str().unwrap_or_default();
        name.starts_with("AWS_") || matches!(name, "SSL_CERT_FILE" | "SSL_CERT_DIR")
    };
    std::env::vars_os().filter(move |(name, _)| of_storage(name))
}

/// An executor has the fail points that its agent has at its start.
fn fail_points() -> Option<String> {
    Some(tidemill_failpoint::settings()).filter(|settings| !settings.is_empty())
}

fn start_process(command: &mut Command) -> io::Result<Child> {
    let mut tries = 0;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                std::thread::sleep(BUSY_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// Tells a program that cannot run from a machine that is short of something.
fn exec_failure(start: &ExecutorStart, error: &io::Error) -> Failure {
    let artifact = start.spec.artifact().map(|artifact| artifact.to_string()).unwrap_or_default();
    let errno = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    let (kind, hint) = match errno {
        Some(rustix::io::Errno::NOEXEC) => {
            (FailureKind::InvalidArtifact, "it is no executable for this machine; build it for this target")
        }
        Some(rustix::io::Errno::ACCESS) => (
            FailureKind::InvalidArtifact,
            "executing it is not permitted; is taskmanager.dir on a file system mounted noexec?",
        ),
        Some(rustix::io::Errno::NOENT) => (
            FailureKind::InvalidArtifact,
            "its program interpreter does not exist on this machine; link it statically or install the loader",
        ),
        _ => (FailureKind::Io, "the machine refused; see the limits on processes and memory"),
    };
    let message = format!("start artifact {artifact}: {error}; {hint}");
    Failure { kind, vertex: None, operator: None, message }
}

/// One process from its start until it is reaped; its number is not reused before that, so a signal cannot reach
/// another one.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    pidfd: OwnedFd,
    stderr: PathBuf,
}

impl Process {
    fn new(mut child: Child, stderr: PathBuf) -> io::Result<Self> {
        let opened = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::other("the process has no valid number"))
            .and_then(|pid| Ok((pid, rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?)));
        match opened {
            Ok((pid, pidfd)) => Ok(Self { child, pid, pidfd, stderr }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    /// Ends the whole group, children of the user's program included.
    fn kill(&self) {
        // The only possible error is that nothing is left of the group, which is what is wanted.
        let _gone = rustix::process::kill_process_group(self.pid, Signal::KILL);
    }

    /// Waits for the end, which `kill` brings about at once, and for the whole group's.
    pub(crate) async fn wait(mut self, mut kill: tokio::sync::watch::Receiver<bool>) -> io::Result<ExecutorExit> {
        let mut memory = MemoryWatch::new(self.child.id());
        let pidfd = watch(self.pidfd.try_clone()?, Interest::READABLE)?;
        let killed = async {
            // A sender that is gone means that nobody can want the process any more.
            let _wanted = kill.wait_for(|&kill| kill).await;
        };
        tokio::select! {
            biased;
            exited = pidfd.readable() => drop(exited?),
            () = memory.watch() => {}
            () = killed => {
                self.kill();
                drop(pidfd.readable().await?);
            }
        }
        // Not reaped yet, so the group's number is still its own.
        self.kill();
        let status = self.child.wait()?;
        let status = match (status.code(), status.signal()) {
            (Some(code), _) => ExitStatus::Code(code),
            (None, signal) => ExitStatus::Signal(signal.unwrap_or_default()),
        };
        Ok(ExecutorExit { status, last_words: last_words(&self.stderr), memory_peak_bytes: memory.peak_bytes() })
    }
}

/// Lets a task wait for a descriptor.
#[expect(
    deprecated,
    reason = "its successor is unsafe because of types that lie about their descriptor; this one is owned"
)]
pub(crate) fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, interest)
}

/// The last lines of a log; nothing when it cannot be read.
fn last_words(path: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LAST_WORDS_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_WORDS_LINES)..].join("\n")
}
