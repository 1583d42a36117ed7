//! Decisions: plain state machines that are told the time and return actions.
//!
//! Architecture invariant: nothing here performs an effect, reads a clock or depends on hash order.

#[cfg(test)]
pub(crate) mod fixture;
pub mod leader;
pub mod replicated;
