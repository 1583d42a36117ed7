//! Task slots: the unit in which task managers offer their resources.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::TaskManagerId;

/// One slot of one incarnation of a task manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotId {
    /// The incarnation that offers it.
    pub task_manager: TaskManagerId,
    /// Which of its slots, from 0.
    pub index: u32,
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.task_manager, self.index)
    }
}

/// What a task manager offers, the same for each of its slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotOffer {
    /// How many slots.
    pub count: u32,
    /// The share of managed memory (state and network buffers) of one slot, in bytes.
    pub memory_bytes: u64,
}
