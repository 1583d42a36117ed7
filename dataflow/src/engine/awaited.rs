//! Which checkpoints somebody may still wait for.

use std::collections::BTreeSet;

use tidemill_model::id::CheckpointId;

/// The checkpoints that a process was told of and that are not known to have ended.
///
/// A leader has no more under way than the job allows, and a new leader gives up those of its predecessor before it
/// triggers its own. So when more are known here, the older ones are nobody's: to write them would only make the newer
/// ones late, and with leaders that change faster than a snapshot is written, every one of them.
#[derive(Debug)]
pub(crate) struct Awaited {
    /// How many may be under way at once.
    most: usize,
    /// Invariant: at most `most`.
    known: BTreeSet<CheckpointId>,
}

impl Awaited {
    /// None at first; at most so many.
    pub(crate) fn new(concurrent_max: u32) -> Self {
        Self { most: usize::try_from(concurrent_max).unwrap_or(usize::MAX).max(1), known: BTreeSet::new() }
    }

    /// A checkpoint is wanted; answers those that nobody waits for any more.
    pub(crate) fn triggered(&mut self, checkpoint: CheckpointId) -> Vec<CheckpointId> {
        self.known.insert(checkpoint);
        let mut superseded = Vec::new();
        while self.known.len() > self.most {
            superseded.extend(self.known.pop_first());
        }
        superseded
    }

    /// A checkpoint came to nothing.
    pub(crate) fn aborted(&mut self, checkpoint: CheckpointId) {
        self.known.remove(&checkpoint);
    }

    /// A checkpoint is committed, and no older one will be.
    pub(crate) fn completed(&mut self, checkpoint: CheckpointId) {
        self.known.retain(|known| *known > checkpoint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superseded(awaited: &mut Awaited, id: u64) -> Vec<u64> {
        awaited.triggered(CheckpointId(id)).into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn a_new_leaders_checkpoint_makes_its_predecessors_nobodys() {
        let mut awaited = Awaited::new(1);
        assert_eq!(superseded(&mut awaited, 1), [0; 0]);
        assert_eq!(superseded(&mut awaited, 1), [0; 0], "told twice");
        assert_eq!(superseded(&mut awaited, 65), [1]);
        assert_eq!(superseded(&mut awaited, 1), [1], "told late");
    }

    #[test]
    fn what_may_be_under_way_at_once_is_waited_for() {
        let mut awaited = Awaited::new(2);
        assert_eq!(superseded(&mut awaited, 1), [0; 0]);
        assert_eq!(superseded(&mut awaited, 2), [0; 0]);
        awaited.aborted(CheckpointId(2));
        assert_eq!(superseded(&mut awaited, 3), [0; 0], "the second has ended");
        assert_eq!(superseded(&mut awaited, 4), [1]);
        awaited.completed(CheckpointId(3));
        assert_eq!(superseded(&mut awaited, 5), [0; 0]);
    }
}
