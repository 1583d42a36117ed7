//! Those who look on: the invariants, the totals, the trace, and what was found wrong.

use tidemill_coordinator::engine::replicated::ClusterState;
use tidemill_model::id::NodeId;

use super::clock::Time;
use super::fact::Fact;
use super::totals::Totals;
use super::trace::Trace;
use crate::invariants::{Invariants, Violation};

/// Sees every fact.
pub(crate) struct Watch {
    pub(crate) now: Time,
    invariants: Invariants,
    pub(crate) totals: Totals,
    pub(crate) trace: Trace,
    /// The first thing that was found wrong: when, and what.
    pub(crate) violation: Option<(Time, Violation)>,
}

impl Watch {
    pub(crate) fn new(invariants: Invariants, trace: Trace) -> Self {
        Self { now: 0, invariants, totals: Totals::default(), trace, violation: None }
    }

    pub(crate) fn observe(&mut self, fact: &Fact<'_>) {
        self.trace.fact(self.now, fact);
        self.totals.observe(fact);
        if self.violation.is_none()
            && let Err(violation) = self.invariants.observe(fact)
        {
            self.violation = Some((self.now, violation));
        }
    }

    /// Two replicas have applied the same entries.
    pub(crate) fn compare(&mut self, one: NodeId, other: NodeId, index: u64, a: &ClusterState, b: &ClusterState) {
        self.totals.comparisons += 1;
        if let Err(violation) = crate::invariants::replicas_agree::compare(one, other, index, a, b) {
            self.violation.get_or_insert((self.now, violation.into()));
        }
    }

    /// What the replicated state is, as far as anybody has applied it.
    pub(crate) fn truth(&self) -> &ClusterState {
        &self.invariants.truth.state
    }

    pub(crate) fn fault(&mut self, now: Time, what: &str) {
        self.totals.faults += 1;
        self.trace.fault(now, what);
    }

    pub(crate) fn wrong(&mut self, what: impl Into<Violation>) {
        let violation = what.into();
        self.violation.get_or_insert((self.now, violation));
    }
}
