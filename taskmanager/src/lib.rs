//! The task manager: an agent that offers slots to the leader and owns the executor processes of the jobs it hosts.
//!
//! Architecture invariant: no user code runs in the agent's process, and the agent decides in [`engine`] alone.

pub mod engine;
pub mod runtime;
