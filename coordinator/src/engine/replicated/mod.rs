//! The state that every replica holds, and the commands that change it in log order.

mod chaos;
mod checkpoints;
mod cluster_state;
mod command;
mod job_state;

pub use chaos::{ChaosAnswer, ChaosCommand, ChaosState};
pub use checkpoints::{Checkpoints, Garbage};
pub use cluster_state::{BlobState, ClusterState, Takeover};
pub use command::{Command, CommandBody, Ending, Response};
pub use job_state::JobState;

#[cfg(test)]
mod tests;
