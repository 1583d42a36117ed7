//! Which vertices share slots, and how many slots that takes.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name of a group, in bytes: it is part of messages for people and of every copy of the graph.
pub const MAX_GROUP_NAME_BYTES: usize = 255;

/// How many groups a message for people lists: a graph may have as many as it has vertices.
const LISTED_GROUPS: usize = 8;

/// The name of a set of vertices whose sub-tasks share slots: sub-task i of each runs in the group's slot i. Vertices
/// of different groups never share one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotSharingGroup(pub String);

impl SlotSharingGroup {
    /// The name of the group of whoever names none.
    pub const DEFAULT: &'static str = "default";

    /// Whether it is the group of whoever names none.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0 == Self::DEFAULT
    }
}

impl Default for SlotSharingGroup {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl fmt::Display for SlotSharingGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// The name of a set of vertices whose i-th sub-tasks run together.
///
/// They are of one slot sharing group and equal parallelism, so that slot sharing by index alone puts them into the
/// same slot: nothing that places sub-tasks has to look at this.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CoLocationGroup(pub String);

impl fmt::Display for CoLocationGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// How many slots a job needs: for each slot sharing group as many as its largest parallelism.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotRequirements(pub BTreeMap<SlotSharingGroup, u32>);

impl SlotRequirements {
    /// All groups' slots together.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.0.values().fold(0, |total, &count| total.saturating_add(count))
    }
}

impl fmt::Display for SlotRequirements {
    /// `5 slots (2 for "default", 3 for "wide")`; the groups only when there are several.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} slots", self.total())?;
        if self.0.len() > 1 {
            let listed = self.0.iter().take(LISTED_GROUPS).map(|(group, count)| format!("{count} for {group}"));
            write!(f, " ({}", listed.collect::<Vec<_>>().join(", "))?;
            if self.0.len() > LISTED_GROUPS {
                let others = self.0.len() - LISTED_GROUPS;
                let count = self.0.values().skip(LISTED_GROUPS).fold(0u32, |sum, &count| sum.saturating_add(count));
                write!(f, ", {count} for {others} more groups")?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}
