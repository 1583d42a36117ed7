//! The threads that run users' asynchronous calls, for all tasks of an executor.

use std::future::Future;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;

/// Calls wait far more than they work.
const WORKER_THREADS: usize = 2;

/// A runtime that is started when the first call is made.
#[derive(Debug, Default)]
pub(crate) struct AsyncPool {
    runtime: OnceLock<Result<Runtime, String>>,
}

impl AsyncPool {
    /// Runs a future beside the tasks; it ends unfinished when it is aborted, or the pool is dropped.
    ///
    /// # Errors
    /// The operating system has no thread left, or the like.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<AbortHandle, String> {
        let start = || {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(WORKER_THREADS).thread_name("async calls").enable_all();
            builder.build().map_err(|error| format!("start threads for asynchronous calls: {error}"))
        };
        match self.runtime.get_or_init(start) {
            Ok(runtime) => Ok(runtime.spawn(future).abort_handle()),
            Err(message) => Err(message.clone()),
        }
    }
}

impl Drop for AsyncPool {
    /// Waits for nothing: an executor may be dropped on a thread of another runtime, which must not block.
    fn drop(&mut self) {
        if let Some(Ok(runtime)) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
