//! The pure vocabulary of Tidemill: ids, time, the job graph, keys, schedules and configuration.
//!
//! Architecture invariant: nothing here reads a clock, a file, a socket, a random source or hash order,
//! and nothing here knows the wire format.

pub mod checkpoint;
pub mod config;
pub mod event;
pub mod execution;
pub mod id;
pub mod job;
pub mod job_graph;
pub mod key;
pub mod key_group;
pub mod mutant;
pub mod restart;
pub mod savepoint;
pub mod slot;
pub mod time;
