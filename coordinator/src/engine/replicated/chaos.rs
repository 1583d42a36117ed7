//! Registers and lists that only the chaos harness uses: their operations go the way of every other decision, and their
//! histories show whether that way is linearizable.
//!
//! A real metadata operation says little about the order in which it was decided; a register says everything. The
//! option `coordinator.chaos-api` lets them in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many keys there may be: a harness that runs for days must not fill the state.
const KEYS_MAX: usize = 20_000;
/// How long one list may grow.
const LIST_MAX: usize = 2_000;
/// How long a key may be, in bytes.
const KEY_BYTES_MAX: usize = 64;

/// One operation that changes something. Reads are no decisions: they wait for a read index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChaosCommand {
    /// Sets a register.
    Write {
        /// Which.
        key: String,
        /// To what.
        value: i64,
    },
    /// Sets a register if it has an expected value.
    CompareAndSet {
        /// Which.
        key: String,
        /// What it must be; none: never written.
        expect: Option<i64>,
        /// To what.
        value: i64,
    },
    /// Adds to the end of a list.
    Append {
        /// Which.
        key: String,
        /// What.
        value: i64,
    },
}

impl ChaosCommand {
    fn key(&self) -> &str {
        match self {
            Self::Write { key, .. } | Self::CompareAndSet { key, .. } | Self::Append { key, .. } => key,
        }
    }
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChaosAnswer {
    /// Done.
    Done,
    /// The register had another value.
    Mismatch {
        /// Which.
        found: Option<i64>,
    },
    /// A limit is reached: without effect.
    Full,
}

/// The registers and lists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChaosState {
    /// Invariant: at most `KEYS_MAX`.
    registers: BTreeMap<String, i64>,
    /// Invariant: at most `KEYS_MAX`, none longer than `LIST_MAX`.
    lists: BTreeMap<String, Vec<i64>>,
}

impl ChaosState {
    /// A register's value.
    #[must_use]
    pub fn register(&self, key: &str) -> Option<i64> {
        self.registers.get(key).copied()
    }

    /// A list's elements.
    #[must_use]
    pub fn list(&self, key: &str) -> &[i64] {
        self.lists.get(key).map_or(&[], Vec::as_slice)
    }

    /// Applies an operation. Deterministic; never fails.
    pub(super) fn apply(&mut self, command: &ChaosCommand) -> ChaosAnswer {
        if !self.has_room(command) {
            return ChaosAnswer::Full;
        }
        match command {
            ChaosCommand::Write { key, value } => {
                self.registers.insert(key.clone(), *value);
            }
            ChaosCommand::CompareAndSet { key, expect, value } => {
                let found = self.register(key);
                if found != *expect {
                    return ChaosAnswer::Mismatch { found };
                }
                self.registers.insert(key.clone(), *value);
            }
            ChaosCommand::Append { key, value } => self.lists.entry(key.clone()).or_default().push(*value),
        }
        ChaosAnswer::Done
    }

    fn has_room(&self, command: &ChaosCommand) -> bool {
        let key = command.key();
        let room = match command {
            ChaosCommand::Write { .. } | ChaosCommand::CompareAndSet { .. } => {
                self.registers.contains_key(key) || self.registers.len() < KEYS_MAX
            }
            ChaosCommand::Append { .. } => match self.lists.get(key) {
                Some(list) => list.len() < LIST_MAX,
                None => self.lists.len() < KEYS_MAX,
            },
        };
        room && key.len() <= KEY_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> String {
        "k".to_owned()
    }

    #[test]
    fn a_register_is_what_was_last_written() {
        let mut state = ChaosState::default();
        assert_eq!(state.register("k"), None);
        assert_eq!(state.apply(&ChaosCommand::Write { key: key(), value: 3 }), ChaosAnswer::Done);
        assert_eq!(state.register("k"), Some(3));
    }

    #[test]
    fn a_swap_needs_the_expected_value() {
        let mut state = ChaosState::default();
        let swap = |expect, value| ChaosCommand::CompareAndSet { key: key(), expect, value };
        assert_eq!(state.apply(&swap(Some(1), 2)), ChaosAnswer::Mismatch { found: None });
        assert_eq!(state.apply(&swap(None, 2)), ChaosAnswer::Done);
        assert_eq!(state.apply(&swap(None, 3)), ChaosAnswer::Mismatch { found: Some(2) });
        assert_eq!(state.register("k"), Some(2));
    }

    #[test]
    fn lists_and_registers_of_one_key_are_apart_and_bounded() {
        let mut state = ChaosState::default();
        for value in 0..i64::try_from(LIST_MAX).unwrap() {
            assert_eq!(state.apply(&ChaosCommand::Append { key: key(), value }), ChaosAnswer::Done);
        }
        assert_eq!(state.apply(&ChaosCommand::Append { key: key(), value: 0 }), ChaosAnswer::Full);
        assert_eq!((state.register("k"), state.list("k").len()), (None, LIST_MAX));
        let long = "k".repeat(KEY_BYTES_MAX + 1);
        assert_eq!(state.apply(&ChaosCommand::Write { key: long, value: 0 }), ChaosAnswer::Full);
    }
}
