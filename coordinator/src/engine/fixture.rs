//! Small jobs, task managers and commands for the engines' tests.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_model::checkpoint::SubtaskState;
use tidemill_model::execution::{
    AttemptReport, ExecutionState, Failure, FailureKind, Schedule, TaskManagerLocation, TerminalState,
};
use tidemill_model::id::{
    AttemptNumber, ExecutionAttemptId, ExecutionVertexId, JobId, JobVertexId, SubtaskIndex, TaskManagerId,
    TaskManagerName,
};
use tidemill_model::job::{JobSettings, JobSpec, Program};
use tidemill_model::job_graph::{JobEdge, JobGraph, JobVertex, OperatorDescriptor, Partitioning, SlotSharingGroup};
use tidemill_model::restart::RestartStrategy;
use tidemill_model::slot::SlotId;
use uuid::Uuid;

use super::leader::place;

/// A job id made at the given millisecond.
pub(crate) fn job_id(ms: u64) -> JobId {
    let timestamp =
        uuid::Timestamp::from_unix(uuid::NoContext, ms / 1000, u32::try_from(ms % 1000).unwrap() * 1_000_000);
    let mut id = Uuid::new_v7(timestamp).as_u128();
    // The random part of a UUIDv7 would make action lists differ between runs.
    id &= !0x0FFF_3FFF_FFFF_FFFF_FFFF;
    JobId(Uuid::from_u128(id))
}

/// Task manager incarnation `n`, at place `tm-<n % 10>`.
pub(crate) fn task_manager(n: u128) -> TaskManagerLocation {
    TaskManagerLocation {
        id: TaskManagerId(Uuid::from_u128(n)),
        name: TaskManagerName(format!("tm-{}", n % 10)),
        data_address: format!("127.0.0.1:{}", 7000 + n),
    }
}

/// `Source` of parallelism 2, hashed to `Sum` of parallelism 2: two slots, four attempts.
pub(crate) fn spec(ms: u64) -> JobSpec {
    let vertex = |id, name: &str| JobVertex {
        id: JobVertexId(id),
        operators: vec![OperatorDescriptor { name: name.into(), uid: name.into() }],
        parallelism: 2,
        max_parallelism: 128,
        record_types: vec![],
        slot_sharing_group: SlotSharingGroup::default(),
        co_location_group: None,
    };
    let restart = RestartStrategy::FixedDelay { attempts: 3, delay: Duration::from_millis(200) };
    let edge = JobEdge { source: JobVertexId(0), target: JobVertexId(1), partitioning: Partitioning::Hash };
    JobSpec {
        id: job_id(ms),
        name: "job".into(),
        graph: JobGraph { vertices: vec![vertex(0, "Source"), vertex(1, "Sum")], edges: vec![edge] },
        program: Program::InProcess,
        settings: JobSettings { restart, ..JobSettings::default() },
    }
}

/// The same, with `Sum` in the slot sharing group "wide": four slots.
pub(crate) fn grouped_spec(ms: u64) -> JobSpec {
    let mut spec = spec(ms);
    spec.graph.vertices[1].slot_sharing_group = SlotSharingGroup("wide".into());
    spec
}

/// The job's schedule on the first slots of task managers 1 and 2.
pub(crate) fn schedule(spec: &JobSpec, attempt: u32) -> Schedule {
    let locations: BTreeMap<_, _> = [1, 2].map(|n| (task_manager(n).id, task_manager(n))).into();
    let slots = [1, 2].map(|n| SlotId { task_manager: task_manager(n).id, index: 0 });
    place_all(&spec.graph, AttemptNumber(attempt), &slots, &locations)
}

/// All sub-tasks on slots that were granted for all groups at once.
pub(crate) fn place_all(
    graph: &JobGraph,
    attempt: AttemptNumber,
    slots: &[SlotId],
    locations: &BTreeMap<TaskManagerId, TaskManagerLocation>,
) -> Schedule {
    let needed = graph.slot_requirements().0.into_iter();
    let keys = needed.flat_map(|(group, count)| (0..count).map(move |index| (group.clone(), index)));
    let held = keys.zip(slots.iter().copied()).collect();
    place(graph, attempt, &graph.execution_vertices().collect(), &held, locations)
}

pub(crate) fn attempt(spec: &JobSpec, vertex: u32, subtask: u32, attempt: u32) -> ExecutionAttemptId {
    let vertex = ExecutionVertexId { vertex: JobVertexId(vertex), subtask: SubtaskIndex(subtask) };
    ExecutionAttemptId { job: spec.id, vertex, attempt: AttemptNumber(attempt) }
}

pub(crate) fn report(attempt: ExecutionAttemptId, state: ExecutionState) -> AttemptReport {
    AttemptReport { attempt, state }
}

pub(crate) fn finished() -> TerminalState {
    TerminalState::Finished {
        accumulators: [("lines".to_owned(), 2)].into(),
        collected: vec![],
        state: SubtaskState::default(),
    }
}

pub(crate) fn failure(kind: FailureKind) -> Failure {
    Failure { kind, vertex: None, operator: None, message: "broken".into() }
}
