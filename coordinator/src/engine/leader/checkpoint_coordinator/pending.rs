//! A checkpoint that has been triggered and not been acknowledged by all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidemill_model::checkpoint::{CheckpointKind, SubtaskState};
use tidemill_model::id::{CheckpointId, ExecutionAttemptId, ExecutionVertexId};
use tidemill_model::time::Instant;

use super::Participants;
use super::history::SubtaskSnapshot;

/// Who takes part, and what has come in.
#[derive(Debug)]
pub(super) struct PendingCheckpoint {
    pub(super) triggered: Instant,
    pub(super) kind: CheckpointKind,
    /// What every attempt had been told of when it was triggered: nothing older is built upon.
    pub(super) base: CheckpointId,
    /// Its completion is being decided.
    pub(super) proposed: bool,
    /// The attempts that were to take a snapshot. Those that had finished by then take part by what they left.
    expected: BTreeMap<ExecutionVertexId, ExecutionAttemptId>,
    acknowledged: BTreeMap<ExecutionVertexId, SubtaskState>,
    /// How long each took.
    took: BTreeMap<ExecutionVertexId, Duration>,
}

impl PendingCheckpoint {
    pub(super) fn triggered(
        now: Instant,
        kind: CheckpointKind,
        participants: &Participants,
        base: CheckpointId,
    ) -> Self {
        let (expected, acknowledged) = (participants.running.clone(), BTreeMap::new());
        Self { triggered: now, kind, base, proposed: false, expected, acknowledged, took: BTreeMap::new() }
    }

    /// One that an earlier leadership triggered, with what the scheduled attempts say of it: those that have finished,
    /// too. Nobody knows whether they had when it was triggered, and what they left may be of a later point than their
    /// barrier. It may have been meant as a savepoint, which is wanted again then.
    pub(super) fn inherited(
        now: Instant,
        participants: &Participants,
        acknowledged: BTreeMap<ExecutionAttemptId, SubtaskState>,
    ) -> Self {
        let mut pending = Self::triggered(now, CheckpointKind::Periodic, participants, CheckpointId::default());
        pending.expected.extend(participants.finished.iter().map(|(&vertex, (attempt, _))| (vertex, *attempt)));
        for (attempt, state) in acknowledged {
            pending.acknowledge(now, attempt, state);
        }
        pending
    }

    pub(super) fn expects(&self, attempt: ExecutionAttemptId) -> bool {
        self.expected.get(&attempt.vertex) == Some(&attempt)
    }

    /// `no-zombie`: only what an attempt that takes part says counts, and only once.
    pub(super) fn acknowledge(&mut self, now: Instant, attempt: ExecutionAttemptId, state: SubtaskState) {
        if self.expects(attempt) {
            self.took.entry(attempt.vertex).or_insert(now.since(self.triggered));
            self.acknowledged.entry(attempt.vertex).or_insert(state);
        }
    }

    /// Whether every sub-task has acknowledged it or finished.
    pub(super) fn is_complete(&self, participants: &Participants) -> bool {
        let there = |vertex: &ExecutionVertexId| {
            self.acknowledged.contains_key(vertex) || participants.finished.contains_key(vertex)
        };
        participants.unready == 0 && self.expected.keys().chain(participants.running.keys()).all(there)
    }

    pub(super) fn states(&self, participants: &Participants) -> BTreeMap<ExecutionVertexId, SubtaskState> {
        let finished = participants.finished.iter().map(|(&vertex, (_, state))| (vertex, state.clone()));
        let mut states: BTreeMap<ExecutionVertexId, SubtaskState> = finished.collect();
        // What it acknowledged before it finished is the state at this checkpoint; the rest is of later ones.
        states.extend(self.acknowledged.iter().map(|(&vertex, state)| (vertex, state.clone())));
        states
    }

    pub(super) fn missing(&self) -> Vec<ExecutionVertexId> {
        self.expected.keys().filter(|vertex| !self.acknowledged.contains_key(*vertex)).copied().collect()
    }

    /// What each sub-task's part took.
    pub(super) fn snapshots(&self) -> Vec<SubtaskSnapshot> {
        let snapshot = |(vertex, state): (&ExecutionVertexId, &SubtaskState)| SubtaskSnapshot {
            vertex: *vertex,
            duration: self.took.get(vertex).copied().unwrap_or_default(),
            size_bytes: state.size_bytes(),
        };
        self.acknowledged.iter().map(snapshot).collect()
    }

    pub(super) fn attempts(&self) -> BTreeSet<ExecutionAttemptId> {
        self.expected.values().copied().collect()
    }
}
