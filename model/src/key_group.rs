//! Key groups: the atoms in which keyed state is distributed and moved.

use std::fmt;
use std::ops::Range;

use crate::id::SubtaskIndex;
use crate::key::KeyHash;

/// How many key groups a job has when nothing else is asked for.
pub const DEFAULT_MAX_PARALLELISM: u32 = 128;

/// The largest number of key groups, and so of sub-tasks of one vertex (as in Flink).
pub const MAX_PARALLELISM_LIMIT: u32 = 32_768;

/// The atom of keyed state: every key belongs to one, for the whole life of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyGroup(pub u32);

impl KeyGroup {
    /// The group of a key: multiply-shift of the hash's *high* half, so that the low half stays free for tables.
    #[must_use]
    #[inline]
    pub fn of(hash: KeyHash, max_parallelism: u32) -> Self {
        let high = hash.0 >> 32;
        Self(u32::try_from((high * u64::from(max_parallelism)) >> 32).expect("below max_parallelism"))
    }

    /// The lowest hash of this group; groups are in the order of their hashes.
    #[must_use]
    pub fn first_hash(self, max_parallelism: u32) -> KeyHash {
        let high = (u64::from(self.0) << 32).div_ceil(u64::from(max_parallelism));
        KeyHash(high << 32)
    }

    /// The sub-task that owns this group when `parallelism` of them share `max_parallelism` groups.
    #[must_use]
    #[inline]
    pub fn subtask(self, parallelism: u32, max_parallelism: u32) -> SubtaskIndex {
        let index = u64::from(self.0) * u64::from(parallelism) / u64::from(max_parallelism);
        SubtaskIndex(u32::try_from(index).expect("below parallelism"))
    }
}

impl fmt::Display for KeyGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kg{}", self.0)
    }
}

/// The contiguous key groups that one sub-task owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyGroupRange(pub Range<u32>);

impl KeyGroupRange {
    /// The range of `subtask`, such that [`KeyGroup::subtask`] maps exactly these groups to it.
    #[must_use]
    pub fn of(subtask: SubtaskIndex, parallelism: u32, max_parallelism: u32) -> Self {
        let first = |index: u32| {
            let first = (u64::from(index) * u64::from(max_parallelism)).div_ceil(u64::from(parallelism));
            u32::try_from(first).expect("at most max_parallelism")
        };
        Self(first(subtask.0)..first(subtask.0 + 1))
    }

    /// Whether the range owns this group.
    #[must_use]
    pub fn contains(&self, group: KeyGroup) -> bool {
        self.0.contains(&group.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_the_mapping_of_groups_agree() {
        for max_parallelism in [1, 7, 128, 1000] {
            for parallelism in (1..=max_parallelism).step_by(3) {
                for group in (0..max_parallelism).map(KeyGroup) {
                    let owner = group.subtask(parallelism, max_parallelism);
                    for subtask in (0..parallelism).map(SubtaskIndex) {
                        let range = KeyGroupRange::of(subtask, parallelism, max_parallelism);
                        assert_eq!(range.contains(group), subtask == owner, "{group} {parallelism}/{max_parallelism}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_highest_hash_falls_into_the_last_group() {
        assert_eq!(KeyGroup::of(KeyHash(u64::MAX), 128), KeyGroup(127));
        assert_eq!(KeyGroup::of(KeyHash(0), 128), KeyGroup(0));
    }
}
