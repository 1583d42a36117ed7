//! The data flow at work: tasks on their threads, the channels between them, sources, sinks, and the executor role.

pub(crate) mod async_pool;
pub(crate) mod checkpoint;
pub mod clock;
pub mod counter;
pub mod executor;
pub mod gate;
pub mod local_channel;
pub mod network;
pub(crate) mod output;
pub mod partition;
pub mod process;
pub mod sink;
pub mod source;
pub mod spawn;
pub mod task;
pub mod wiring;
