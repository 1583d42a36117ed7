//! Where the tasks of an executor keep their state, and in how much memory.

use tidemill_model::execution::Schedule;
use tidemill_model::id::{ExecutionAttemptId, JobVertexId};
use tidemill_model::job::StateBackend;
use tidemill_model::job_graph::Partitioning;

use super::Executor;
use crate::runtime::task::StatePlace;

/// The least memory for the store of a sub-task: what RocksDB cannot do without.
const STORE_BYTES_MIN: u64 = 1024 * 1024;

/// The memory for the store of a sub-task where no task manager says how much there is: in the embedded cluster.
const STORE_BYTES_EMBEDDED: u64 = 64 * 1024 * 1024;

impl Executor {
    /// Where an attempt that is being deployed keeps its state.
    pub(super) fn state_place(&self, attempt: ExecutionAttemptId, schedule: &Schedule) -> StatePlace {
        let StateBackend::RocksDb { slot_memory_bytes } = self.state else { return StatePlace::Heap };
        let ExecutionAttemptId { vertex, attempt: number, .. } = attempt;
        let folder =
            self.state_folder.join(format!("state-{}-{}-{}-{number}", self.job, vertex.vertex, vertex.subtask));
        let memory = self.store_bytes(slot_memory_bytes, schedule).max(STORE_BYTES_MIN);
        StatePlace::RocksDb { folder, memory_bytes: usize::try_from(memory).unwrap_or(usize::MAX) }
    }

    /// The memory of this process, or of its slots, in equal parts for the keyed sub-tasks that are scheduled here.
    fn store_bytes(&self, slot_memory_bytes: Option<u64>, schedule: &Schedule) -> u64 {
        let here = schedule.attempts.iter().filter(|(_, at)| at.slot.task_manager == self.task_manager);
        let mut slots: Vec<_> = here.clone().map(|(_, scheduled)| scheduled.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        let keyed = u64::try_from(here.filter(|(vertex, _)| self.is_keyed(vertex.vertex)).count().max(1)).unwrap_or(1);
        let slots = u64::try_from(slots.len().max(1)).unwrap_or(1);
        match slot_memory_bytes {
            Some(bytes) => bytes.saturating_mul(slots) / keyed,
            None if self.state_memory_bytes == 0 => STORE_BYTES_EMBEDDED,
            None => self.state_memory_bytes / keyed,
        }
    }

    fn is_keyed(&self, vertex: JobVertexId) -> bool {
        let mut edges = self.flow.graph().edges.iter().filter(|edge| edge.target == vertex);
        edges.any(|edge| edge.partitioning == Partitioning::Hash)
    }
}
