//! Where the checkpoints of jobs are kept: a folder that a URL names, on any store that the crate `object_store` speaks to.
//!
//! What is written is durable when [`StateWriter::finish`] returns (on a file system: file and folders are synced, and the
//! file appears under its name by a rename), and what is read is verified by its length and checksum.

mod error;
mod job;
mod local;
mod local_copy;
mod location;
#[cfg(feature = "s3")]
mod s3;
mod savepoint;
mod writer;

pub use error::Error;
pub use job::JobStorage;
pub use local_copy::LocalCopy;
pub use location::{CheckpointStorage, Patience};
pub use writer::StateWriter;
