//! What can go wrong with a cluster of processes on this machine.

use std::io;
use std::path::PathBuf;

use super::layout::ProcessName;
use crate::job_client;

/// Why a local cluster does not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused something.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// A verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// No ports are free.
    #[error("choose ports of 127.0.0.1: {source}")]
    Ports {
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A number of processes that makes no sense.
    #[error(
        "start local cluster: {coordinators} coordinators and {task_managers} task managers are not possible; at least \
         1 coordinator and at most {limit} processes are"
    )]
    Size {
        /// How many coordinators were asked for.
        coordinators: u32,
        /// How many task managers were asked for.
        task_managers: u32,
        /// The largest sum.
        limit: u32,
    },
    /// `cluster.toml` is not ours.
    #[error("read {}: {reason}; restore the file, or use another --dir", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// There is no cluster in the folder.
    #[error("open local cluster in {}: there is none; start one with `tidemill cluster start --dir {}`", dir.display(), dir.display())]
    Absent {
        /// The folder.
        dir: PathBuf,
    },
    /// The cluster runs already.
    #[error(
        "start local cluster in {}: it runs already ({processes}); stop it first with `tidemill cluster stop --dir {}`",
        dir.display(), dir.display()
    )]
    AlreadyRunning {
        /// The folder.
        dir: PathBuf,
        /// Names and pids.
        processes: String,
    },
    /// Another command works on the folder.
    #[error("lock {}: another `tidemill cluster` command works on this folder; try again when it is done", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// A stopped cluster was asked to become another one.
    #[error(
        "start local cluster in {}: it was made with {existing} {what}, not {given}; leave the option out, or use \
         another --dir",
        dir.display()
    )]
    Different {
        /// The folder.
        dir: PathBuf,
        /// What differs.
        what: &'static str,
        /// What it was made with.
        existing: u32,
        /// What was asked for.
        given: u32,
    },
    /// A `-D` option is wrong.
    #[error(transparent)]
    Setting(#[from] tidemill_model::config::Error),
    /// A server's binary is not there.
    #[error(
        "find program {name}: it is not in {}; build it with `cargo build` or set TIDEMILL_BIN_DIR to its folder",
        tried.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    ProgramMissing {
        /// The binary.
        name: &'static str,
        /// The folders that were looked at.
        tried: Vec<PathBuf>,
    },
    /// The cluster has no such process.
    #[error("find process {name}: this cluster has none of that name")]
    UnknownProcess {
        /// The name.
        name: ProcessName,
    },
    /// A process ended instead of listening.
    #[error("start {name}: it ended with {status}; its log {} ends with:\n{tail}", log.display())]
    Exited {
        /// The process.
        name: ProcessName,
        /// How it ended.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A process does not listen.
    #[error("start {name}: it is not ready after {seconds} s; its log {} ends with:\n{tail}", log.display())]
    NotReady {
        /// The process.
        name: ProcessName,
        /// How long it was waited for.
        seconds: u64,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// Task managers that listen do not show up at the leader.
    #[error("wait for task slots: {registered} of {wanted} are registered after {seconds} s; see the logs in {}", logs.display())]
    NotRegistered {
        /// Slots that the leader knows.
        registered: u32,
        /// Slots that were started.
        wanted: u32,
        /// How long it was waited for.
        seconds: u64,
        /// The folder of logs.
        logs: PathBuf,
    },
    /// A process does not end.
    #[error("stop {name}: process {pid} still runs after SIGKILL; its state is in /proc/{pid}/status")]
    Unstoppable {
        /// The process.
        name: ProcessName,
        /// Its pid.
        pid: u32,
    },
    /// The coordinators run, but cannot be asked.
    #[error(transparent)]
    Client(#[from] job_client::Error),
}

impl Error {
    /// An operating system's refusal as an error of ours.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
