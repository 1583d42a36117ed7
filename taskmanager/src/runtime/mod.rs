//! What a task manager does: sockets, processes, files and time around the [`engine`](crate::engine).

mod agent_loop;
mod artifacts;
mod backoff;
mod clock;
mod collected;
mod coordinators;
mod data_port;
mod directory;
mod executor;
mod frame;
mod http;
mod memory_watch;
mod metrics;
mod process;
mod session;
mod spawn;
mod task_manager;
mod wire;
mod witness;

pub use directory::Error as DirectoryError;
pub use task_manager::{Error, Exposure, TaskManager};
