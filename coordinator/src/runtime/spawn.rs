//! The only place that spawns tasks.

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::Instrument;

/// Starts a named task. Its end by panic is logged; it is cancelled by aborting the handle.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future.instrument(tracing::info_span!("task", name)))
}

/// A task that ends with its owner.
#[derive(Debug)]
pub struct OwnedTask(JoinHandle<()>);

impl OwnedTask {
    /// Starts a named task.
    pub fn spawn(name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(spawn(name, future))
    }
}

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}
