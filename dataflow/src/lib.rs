//! What runs inside a Tidemill job: records, fused operators, tasks and their exchange, sources and sinks.
//!
//! A chain of operators is one typed value ([`pipe::Pipe`]) that is fused, for each sub-task, into one push-based
//! loop ([`push::Push`]); dynamic dispatch happens once per batch, at a chain's border.

pub mod engine;
pub mod flow;
pub mod format;
pub mod function;
pub mod harness;
pub mod key_selector;
#[cfg(test)]
mod known_bug;
pub mod operator;
pub mod pipe;
pub mod push;
pub mod record;
mod record_text;
pub mod runtime;
pub mod state;
