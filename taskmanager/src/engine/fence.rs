//! The highest leadership that this incarnation has obeyed.

use tidemill_model::id::LeaderEpoch;
use tidemill_model::mutant::{self, Mutant};

/// What the fence says of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceOutcome {
    /// The highest seen so far, or higher: obey.
    Current,
    /// A later leadership has been seen: refuse.
    Stale {
        /// The highest that was seen.
        fence: LeaderEpoch,
    },
}

/// Promise `one-leader`: an epoch lower than the highest seen is refused, whoever sends it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fence {
    highest: LeaderEpoch,
}

impl Fence {
    /// Raises the fence to `epoch`, or says that a later leadership was seen.
    pub fn admit(&mut self, epoch: LeaderEpoch) -> FenceOutcome {
        if epoch < self.highest && !mutant::active(Mutant::LowerEpochAccepted) {
            return FenceOutcome::Stale { fence: self.highest };
        }
        self.highest = epoch;
        FenceOutcome::Current
    }

    /// The highest epoch seen.
    #[must_use]
    pub fn highest(&self) -> LeaderEpoch {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fence_only_rises() {
        let mut fence = Fence::default();
        assert_eq!(fence.admit(LeaderEpoch(4)), FenceOutcome::Current);
        assert_eq!(fence.admit(LeaderEpoch(4)), FenceOutcome::Current);
        assert_eq!(fence.admit(LeaderEpoch(9)), FenceOutcome::Current);
        assert_eq!(fence.admit(LeaderEpoch(8)), FenceOutcome::Stale { fence: LeaderEpoch(9) });
        assert_eq!(fence.highest(), LeaderEpoch(9));
    }
}
