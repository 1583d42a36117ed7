//! The transactions of one sub-task of a sink that are prepared and not committed.
//!
//! The protocol is two-phase commit with the checkpoint as coordinator, as in Flink's `TwoPhaseCommitSinkFunction`: what
//! was written up to a barrier is prepared with it, and committed when the checkpoint is known to be. A checkpoint that
//! came to nothing aborts no transaction: the next one that completes commits it.

use serde::{Deserialize, Serialize};

/// The checkpoint of what was written between the last barrier and the end of input: the job's final one.
const FINAL: u64 = u64::MAX;

/// Transactions that anybody may commit, each with the checkpoint that it waits for.
///
/// Invariant: in the order of their checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transactions<X>(Vec<(u64, X)>);

impl<X> Default for Transactions<X> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<X> Transactions<X> {
    /// A transaction is prepared, to be committed with this checkpoint.
    pub fn prepared(&mut self, checkpoint: u64, transaction: X) {
        self.0.push((checkpoint, transaction));
    }

    /// A transaction is prepared at the end of input, to be committed with the job.
    pub fn prepared_last(&mut self, transaction: X) {
        self.prepared(FINAL, transaction);
    }

    /// Takes out those that a completed checkpoint commits.
    pub fn take_committed(&mut self, checkpoint: u64) -> Vec<X> {
        let count = self.0.partition_point(|(waits_for, _)| *waits_for <= checkpoint);
        self.0.drain(..count).map(|(_, transaction)| transaction).collect()
    }

    /// Takes out those that wait for this checkpoint: what a sink must not do, whatever becomes of the checkpoint.
    pub fn forget(&mut self, checkpoint: u64) {
        self.0.retain(|(waits_for, _)| *waits_for != checkpoint);
    }

    /// All of a snapshot: the checkpoint that it belongs to is committed, and every transaction in it with it.
    #[must_use]
    pub fn into_committed(self) -> Vec<X> {
        self.0.into_iter().map(|(_, transaction)| transaction).collect()
    }

    /// Those that are prepared.
    pub fn iter(&self) -> impl Iterator<Item = &X> {
        self.0.iter().map(|(_, transaction)| transaction)
    }

    /// Those that are prepared, and for which checkpoint each waits; none: for the end of the job.
    pub fn waiting(&self) -> impl Iterator<Item = (Option<u64>, &X)> {
        self.0.iter().map(|(waits_for, transaction)| ((*waits_for != FINAL).then_some(*waits_for), transaction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completed_checkpoint_commits_everything_up_to_it_and_the_end_of_the_job_the_rest() {
        let mut transactions = Transactions::default();
        for (checkpoint, name) in [(1, "a"), (2, "b"), (3, "c")] {
            transactions.prepared(checkpoint, name);
        }
        transactions.prepared_last("d");
        assert_eq!(transactions.iter().count(), 4);
        let waiting: Vec<_> = transactions.waiting().collect();
        assert_eq!(waiting, [(Some(1), &"a"), (Some(2), &"b"), (Some(3), &"c"), (None, &"d")]);
        // Checkpoint 1 came to nothing.
        assert_eq!(transactions.take_committed(2), ["a", "b"]);
        assert_eq!(transactions.take_committed(2), Vec::<&str>::new());
        assert_eq!(transactions.into_committed(), ["c", "d"]);
    }
}
