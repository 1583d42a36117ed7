//! What a task manager decides: events and the time go in, actions come out.
//!
//! Architecture invariant: pure. No clock, socket, file, thread or hash order, and nothing of the wire format.

mod action;
mod action_text;
mod admission;
mod agent;
mod checkpoints;
mod directives;
mod event;
mod executor_lifecycle;
mod executors;
mod fence;
mod generation;
mod hosted_attempt;
mod hosted_job;
mod memory_limit;
mod outbox;

#[cfg(test)]
mod agent_tests;

pub use action::{Action, ExecutorCommand, ExecutorReport, ExecutorStart, FinalizationOutcome, Outbound, Report};
pub use admission::{Admission, Handshake};
pub use agent::{Agent, GenerationOverview, Settings};
pub use event::{AttemptChange, Collected, Directive, Event, ExecutorExit, ExitStatus, FinalizationStep, Progress};
pub use executor_lifecycle::{ExecutorId, ExecutorPhase, GenerationId};
pub use fence::{Fence, FenceOutcome};
pub use memory_limit::{LimitSource, MemoryLimit};
