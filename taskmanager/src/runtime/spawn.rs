//! The only place that starts asynchronous tasks, each with a kind and a name.

use std::fmt::Display;
use std::future::Future;

use tokio::task::JoinHandle;
use tracing::{Instrument, info_span};

/// What a task is for; says what its end means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskKind {
    /// Lives as long as the task manager; its end ends the task manager.
    Service,
    /// Serves one executor and ends with it.
    Executor,
    /// Serves one data connection until it is handed on or refused.
    Connection,
    /// Moves one blob and ends; an aborted one has left nothing behind that is used.
    Transfer,
}

/// Runs `future` on the runtime, in a span that names it.
#[expect(clippy::disallowed_methods, reason = "this is the function that the others must use")]
pub(crate) fn spawn<F>(kind: TaskKind, name: impl Display, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future.instrument(info_span!("task", ?kind, %name)))
}
