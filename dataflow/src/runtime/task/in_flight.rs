//! What was in flight to a sub-task at the checkpoint that it starts from.

use std::collections::BTreeMap;

use tidemill_model::execution::{Failure, FailureKind};
use tidemill_model::job_graph::JobVertex;

use super::TaskContext;
use crate::engine::in_flight::InFlight;
use crate::engine::snapshot::StateId;
use crate::runtime::checkpoint::{Error, Restored, StateName};
use crate::runtime::network::{ChannelId, WireElement};

/// How the names of states begin that are what was in flight on an edge.
const IN_FLIGHT: &str = "in flight from ";

impl TaskContext {
    /// The name of what is in flight on an edge to this sub-task: it says where the edge comes from, which outlives
    /// changes of the program elsewhere.
    pub(crate) fn in_flight_state(&self, edge: u32) -> StateId {
        let flow = self.flow();
        let origin = |index: u32| (flow.edge(index).source, flow.port(index));
        let before = flow.input_edges(self.attempt().vertex.vertex).take_while(|index| *index < edge);
        let number = before.filter(|index| origin(*index) == origin(edge)).count();
        let (source, port) = origin(edge);
        let last = flow.graph().vertex(source).and_then(|vertex: &JobVertex| vertex.operators.last());
        let uid = last.map(|operator| operator.uid.as_str()).unwrap_or_default();
        self.first_uid().state(&format!("{IN_FLIGHT}{uid:?}, output {}, edge {number}", port.0))
    }

    /// What was in flight goes to the sub-tasks that it was on its way to, or nowhere.
    pub(super) fn check_in_flight(&self, restored: &Restored) -> Result<(), Error> {
        let edges = self.flow().input_edges(self.attempt().vertex.vertex);
        let known: Vec<StateId> = edges.map(|edge| self.in_flight_state(edge)).collect();
        for id in restored.states().filter(|id| id.name.starts_with(IN_FLIGHT)) {
            let reason = match restored.other_parallelism() {
                Some(before) => format!("its {before} sub-tasks are {} now", self.parallelism()),
                None if known.contains(id) => continue,
                None => "the program has no such edge any more".to_owned(),
            };
            return Err(Error::InFlight { state: StateName(id.clone()), reason });
        }
        Ok(())
    }

    /// What was in flight on the channels of an edge of this sub-task.
    pub(super) fn restored_in_flight<T>(&self, edge: u32) -> Result<BTreeMap<u32, Vec<WireElement>>, Failure> {
        let id = self.in_flight_state(edge);
        let mut channels: BTreeMap<u32, Vec<WireElement>> = BTreeMap::new();
        for value in self.kept_values::<T>(&id)? {
            let elements = InFlight::decode(&value.bytes).map_err(|error| {
                let state = StateName(id.clone());
                self.restore_failure(&Error::Content { state, reason: error.to_string() })
            })?;
            for (ChannelId { from, .. }, element) in elements {
                channels.entry(from.0).or_default().push(element);
            }
        }
        Ok(channels)
    }

    /// Something was in flight from a sub-task that there is not any more.
    #[cold]
    pub(super) fn gone_producer(&self, edge: u32, from: u32) -> Failure {
        let (state, reason) = (self.in_flight_state(edge), format!("the producer has no sub-task {from} any more"));
        let error = Error::InFlight { state: StateName(state), reason };
        self.failure(FailureKind::InvalidInput, None, format!("restore from checkpoint: {error}"))
    }
}
