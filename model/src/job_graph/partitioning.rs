//! How the records of an edge find their consumer, and which sub-tasks such an edge joins.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::id::SubtaskIndex;

/// How the records of an edge find their consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Partitioning {
    /// Sub-task i to sub-task i.
    Forward,
    /// By the key group of the record's key.
    Hash,
    /// Round robin over all consumers.
    Rebalance,
    /// Round robin over a few consumers of one's own.
    Rescale,
    /// A consumer by chance.
    Shuffle,
    /// Each record to every consumer.
    Broadcast,
    /// All records to the first consumer.
    Global,
    /// By a function of the user's.
    Custom,
}

impl Partitioning {
    /// The consumers that sub-task `from` of the producing vertex has a channel to.
    ///
    /// Empty when there is no such sub-task. Together with [`Partitioning::producers`] this is the one place that says
    /// which channels an edge has.
    #[must_use]
    pub fn consumers(self, from: SubtaskIndex, upstream: u32, downstream: u32) -> Range<u32> {
        if from.0 >= upstream {
            return 0..0;
        }
        match self {
            Self::Forward => one(from.0, downstream),
            Self::Rescale if upstream >= downstream => one(last_start_up_to(from.0, upstream, downstream), downstream),
            Self::Rescale => div_ceil(from.0, downstream, upstream)..div_ceil(from.0 + 1, downstream, upstream),
            Self::Hash | Self::Rebalance | Self::Shuffle | Self::Broadcast | Self::Global | Self::Custom => {
                0..downstream
            }
        }
    }

    /// The producers that sub-task `to` of the consuming vertex has a channel from; the counterpart of
    /// [`Partitioning::consumers`].
    #[must_use]
    pub fn producers(self, to: SubtaskIndex, upstream: u32, downstream: u32) -> Range<u32> {
        if to.0 >= downstream {
            return 0..0;
        }
        match self {
            Self::Forward => one(to.0, upstream),
            Self::Rescale if upstream >= downstream => {
                div(to.0, upstream, downstream)..div(to.0 + 1, upstream, downstream)
            }
            Self::Rescale => one(div(to.0, upstream, downstream), upstream),
            Self::Hash | Self::Rebalance | Self::Shuffle | Self::Broadcast | Self::Global | Self::Custom => 0..upstream,
        }
    }
}

impl fmt::Display for Partitioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "FORWARD",
            Self::Hash => "HASH",
            Self::Rebalance => "REBALANCE",
            Self::Rescale => "RESCALE",
            Self::Shuffle => "SHUFFLE",
            Self::Broadcast => "BROADCAST",
            Self::Global => "GLOBAL",
            Self::Custom => "CUSTOM",
        })
    }
}

/// The sub-task of this index alone, if there is one.
fn one(index: u32, parallelism: u32) -> Range<u32> {
    if index < parallelism { index..index + 1 } else { 0..0 }
}

/// With more producers than consumers, consumer i takes those from `i * upstream / downstream` up to where consumer
/// i + 1 begins (so does Flink's pointwise distribution). This is the last consumer that begins at `from` or before.
fn last_start_up_to(from: u32, upstream: u32, downstream: u32) -> u32 {
    div_ceil(from + 1, downstream, upstream).saturating_sub(1)
}

/// `index * to / of`, rounded down; `index` is at most `of`.
fn div(index: u32, to: u32, of: u32) -> u32 {
    u32::try_from(u64::from(index) * u64::from(to) / u64::from(of)).expect("index is at most of")
}

/// `index * to / of`, rounded up; `index` is at most `of`.
fn div_ceil(index: u32, to: u32, of: u32) -> u32 {
    u32::try_from((u64::from(index) * u64::from(to)).div_ceil(u64::from(of))).expect("index is at most of")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Partitioning; 8] = [
        Partitioning::Forward,
        Partitioning::Hash,
        Partitioning::Rebalance,
        Partitioning::Rescale,
        Partitioning::Shuffle,
        Partitioning::Broadcast,
        Partitioning::Global,
        Partitioning::Custom,
    ];

    fn consumers(partitioning: Partitioning, upstream: u32, downstream: u32) -> Vec<Range<u32>> {
        (0..upstream).map(|from| partitioning.consumers(SubtaskIndex(from), upstream, downstream)).collect()
    }

    #[test]
    fn producers_and_consumers_agree_on_every_channel() {
        for partitioning in ALL {
            for (upstream, downstream) in (1..=8).flat_map(|up| (1..=8).map(move |down| (up, down))) {
                for (from, to) in (0..upstream).flat_map(|from| (0..downstream).map(move |to| (from, to))) {
                    let forth = partitioning.consumers(SubtaskIndex(from), upstream, downstream).contains(&to);
                    let back = partitioning.producers(SubtaskIndex(to), upstream, downstream).contains(&from);
                    assert_eq!(forth, back, "{partitioning} {from} of {upstream} -> {to} of {downstream}");
                }
            }
        }
    }

    #[test]
    fn rescale_leaves_nobody_out_and_divides_the_larger_side() {
        for (upstream, downstream) in (1..=8).flat_map(|up| (1..=8).map(move |down| (up, down))) {
            let consumers = consumers(Partitioning::Rescale, upstream, downstream);
            let producers: Vec<usize> = (0..downstream)
                .map(|to| Partitioning::Rescale.producers(SubtaskIndex(to), upstream, downstream).len())
                .collect();
            assert!(consumers.iter().all(|range| !range.is_empty()), "{upstream} -> {downstream}: {consumers:?}");
            assert!(producers.iter().all(|&count| count > 0), "{upstream} -> {downstream}: {producers:?}");
            let single = if upstream >= downstream {
                consumers.iter().all(|range| range.len() == 1)
            } else {
                producers.iter().all(|&count| count == 1)
            };
            assert!(single, "{upstream} -> {downstream}");
        }
    }

    #[test]
    fn rescale_joins_whom_flink_joins() {
        assert_eq!(consumers(Partitioning::Rescale, 2, 4), [0..2, 2..4]);
        assert_eq!(consumers(Partitioning::Rescale, 2, 3), [0..2, 2..3]);
        assert_eq!(consumers(Partitioning::Rescale, 4, 2), [0..1, 0..1, 1..2, 1..2]);
        assert_eq!(consumers(Partitioning::Rescale, 3, 2), [0..1, 1..2, 1..2]);
        assert_eq!(consumers(Partitioning::Rescale, 6, 4), [0..1, 1..2, 1..2, 2..3, 3..4, 3..4]);
        assert_eq!(consumers(Partitioning::Rescale, 3, 3), consumers(Partitioning::Forward, 3, 3));
    }

    #[test]
    fn a_subtask_that_does_not_exist_has_no_channel() {
        for partitioning in ALL {
            assert!(partitioning.consumers(SubtaskIndex(u32::MAX), 3, 2).is_empty(), "{partitioning}");
            assert!(partitioning.producers(SubtaskIndex(u32::MAX), 3, 2).is_empty(), "{partitioning}");
            assert!(partitioning.consumers(SubtaskIndex(0), 3, 0).is_empty(), "{partitioning}");
            assert!(partitioning.producers(SubtaskIndex(0), 0, 3).is_empty(), "{partitioning}");
        }
    }
}
