//! The only place where the data flow starts threads: each has a name and a kind that says what its end means.

use std::io;
use std::thread::JoinHandle;

/// What a thread is for, and so what its failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// A sub-task; it catches panics and reports its own end.
    Subtask,
    /// A reader or writer of a data connection; its end fails the connection's channels.
    Connection,
    /// Control of this process; its end ends the process.
    Control,
}

/// Starts a thread.
///
/// # Errors
/// The operating system has none left.
pub fn spawn<F>(kind: TaskKind, name: &str, body: F) -> io::Result<JoinHandle<()>>
where
    F: FnOnce() + Send + 'static,
{
    tracing::trace!(?kind, name, "start thread");
    // A NUL byte, which a user's operator name may have, is not allowed in a thread's name.
    let name = name.replace('\0', " ");
    std::thread::Builder::new().name(name).spawn(body)
}
