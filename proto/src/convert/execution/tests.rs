//! Round trips of attempts and schedules, and the malformed ones.

use tidemill_model::checkpoint::{RestoreFrom, StateHandle, SubtaskState};
use tidemill_model::id::{BlobId, CheckpointId, JobId, TaskManagerId};
use uuid::Uuid;

use super::*;

pub(in crate::convert) fn collected(index: u32) -> CollectedPart {
    CollectedPart { collect_index: index, subtask: SubtaskIndex(3), blob: BlobId([7; 32]) }
}

pub(in crate::convert) fn failure() -> Failure {
    Failure {
        kind: FailureKind::Panic,
        vertex: Some(vertex(1, 2)),
        operator: Some("Map".into()),
        message: "divided by zero".into(),
    }
}

fn vertex(vertex: u32, subtask: u32) -> ExecutionVertexId {
    ExecutionVertexId { vertex: JobVertexId(vertex), subtask: SubtaskIndex(subtask) }
}

fn job() -> JobId {
    JobId(Uuid::from_u128(0x0123_4567))
}

pub(in crate::convert) fn attempt(subtask: u32) -> ExecutionAttemptId {
    ExecutionAttemptId { job: job(), vertex: vertex(0, subtask), attempt: AttemptNumber(4) }
}

fn schedule() -> Schedule {
    let manager = |number: u128| TaskManagerId(Uuid::from_u128(number));
    let location = |number: u128| TaskManagerLocation {
        id: manager(number),
        name: TaskManagerName(format!("tm-{number}")),
        data_address: format!("127.0.0.1:{number}"),
    };
    let place = |number, index| ScheduledAttempt {
        attempt: AttemptNumber(4),
        slot: SlotId { task_manager: manager(number), index },
    };
    Schedule {
        attempts: BTreeMap::from([
            (vertex(0, 0), place(1, 0)),
            (vertex(0, 1), place(2, 0)),
            (vertex(1, 0), place(1, 0)),
        ]),
        task_managers: BTreeMap::from([(manager(1), location(1)), (manager(2), location(2))]),
    }
}

fn deployment() -> JobDeployment {
    let restore = Some(RestoreFrom { checkpoint: CheckpointId(9), states: BTreeMap::new() });
    JobDeployment { job: job(), schedule: schedule(), start: vec![attempt(0), attempt(1)], restore }
}

fn refused(edit: impl FnOnce(&mut pb::JobDeployment)) -> Error {
    let mut message = pb::JobDeployment::from(deployment());
    edit(&mut message);
    JobDeployment::try_from(message).expect_err("a malformed message")
}

#[test]
fn a_deployment_round_trips() {
    assert_eq!(JobDeployment::try_from(pb::JobDeployment::from(deployment())), Ok(deployment()));
}

#[test]
fn every_state_round_trips() {
    let accumulators = BTreeMap::from([("rows".to_owned(), i64::MIN)]);
    let state = SubtaskState(vec![StateHandle::Inline(vec![7])]);
    let finished = TerminalState::Finished { accumulators, collected: vec![collected(0), collected(5)], state };
    let states = [
        ExecutionState::Created,
        ExecutionState::Scheduled,
        ExecutionState::Deploying,
        ExecutionState::Initializing,
        ExecutionState::Running,
        ExecutionState::Canceling,
        ExecutionState::Reconciling,
        ExecutionState::Terminal(finished),
        ExecutionState::Terminal(TerminalState::Canceled),
        ExecutionState::Terminal(TerminalState::Failed(failure())),
    ];
    for state in states {
        let report = AttemptReport { attempt: attempt(1), state };
        assert_eq!(AttemptReport::try_from(pb::AttemptReport::from(report.clone())), Ok(report));
    }
}

#[test]
fn every_failure_kind_round_trips() {
    let kinds = [
        FailureKind::Panic,
        FailureKind::InvalidInput,
        FailureKind::InvalidArtifact,
        FailureKind::GraphMismatch,
        FailureKind::ExecutorLost,
        FailureKind::TaskManagerLost,
        FailureKind::ConnectionLost,
        FailureKind::Io,
        FailureKind::Checkpoint,
    ];
    for kind in kinds {
        let bare = Failure { kind, vertex: None, operator: None, message: String::new() };
        assert_eq!(Failure::try_from(pb::Failure::from(bare.clone())), Ok(bare));
    }
}

#[test]
fn an_unspecified_failure_kind_is_refused() {
    let message = pb::Failure { kind: 0, ..pb::Failure::from(failure()) };
    assert_eq!(Failure::try_from(message), Err(Error::UnknownEnum { field: "Failure.kind", value: 0 }));
}

#[test]
fn a_report_without_its_parts_is_refused() {
    let whole = pb::AttemptReport::from(AttemptReport { attempt: attempt(0), state: ExecutionState::Running });
    let refused = |message| AttemptReport::try_from(message).expect_err("a malformed message");
    let no_attempt = refused(pb::AttemptReport { attempt: None, ..whole.clone() });
    assert_eq!(no_attempt, Error::Missing { field: "AttemptReport.attempt" });
    let no_state = refused(pb::AttemptReport { state: None, ..whole.clone() });
    assert_eq!(no_state, Error::Missing { field: "AttemptReport.state" });
    let empty_state = refused(pb::AttemptReport { state: Some(pb::ExecutionState { state: None }), ..whole });
    assert_eq!(empty_state, Error::Missing { field: "ExecutionState.state" });
}

#[test]
fn a_malformed_schedule_names_the_field() {
    let edit = |edit: fn(&mut pb::Schedule)| refused(|message| edit(message.schedule.as_mut().expect("set")));
    let twice = edit(|schedule| schedule.attempts.push(schedule.attempts[0].clone()));
    assert_eq!(twice, Error::Duplicate { field: "Schedule.attempts", key: "v0[0]".into() });
    let twice = edit(|schedule| schedule.task_managers.push(schedule.task_managers[0].clone()));
    assert!(matches!(twice, Error::Duplicate { field: "Schedule.task_managers", .. }), "{twice}");
    let homeless = edit(|schedule| drop(schedule.task_managers.pop()));
    assert!(matches!(homeless, Error::Unknown { field: "ScheduledAttempt.slot", .. }), "{homeless}");
    let slotless = edit(|schedule| schedule.attempts[0].slot = None);
    assert_eq!(slotless, Error::Missing { field: "ScheduledAttempt.slot" });
    let nameless = edit(|schedule| schedule.task_managers[0].id.clear());
    assert_eq!(nameless, Error::Length { field: "TaskManagerLocation.id", actual: 0, expected: 16 });
}

#[test]
fn a_malformed_deployment_names_the_field() {
    assert_eq!(refused(|message| message.schedule = None), Error::Missing { field: "JobDeployment.schedule" });
    let twice = refused(|message| message.start.push(message.start[0].clone()));
    assert!(matches!(twice, Error::Duplicate { field: "JobDeployment.start", .. }), "{twice}");
    let foreign = refused(|message| message.start[0].job = uuid_bytes(Uuid::from_u128(9)));
    assert!(matches!(foreign, Error::Unknown { field: "JobDeployment.start", .. }), "{foreign}");
    let vertexless = refused(|message| message.start[1].vertex = None);
    assert_eq!(vertexless, Error::Missing { field: "ExecutionAttemptId.vertex" });
}

#[test]
fn finalizations_round_trip_and_an_unspecified_one_is_refused() {
    let vertex = |subtask| ExecutionVertexId { vertex: JobVertexId(1), subtask: SubtaskIndex(subtask) };
    let attempts = BTreeMap::from([(vertex(0), AttemptNumber(2)), (vertex(1), AttemptNumber(3))]);
    let checkpoint = Some(RestoreFrom { checkpoint: CheckpointId(9), states: BTreeMap::new() });
    let abort = Finalization::Abort { checkpoint: checkpoint.clone() };
    for finalization in [Finalization::Commit { attempts, checkpoint }, abort] {
        let (action, attempts, checkpoint) = finalization_to_pb(finalization.clone());
        assert_eq!(finalization_from_pb(action.into(), attempts, checkpoint), Ok(finalization));
    }
    let nameless = vec![pb::StagedAttempt { vertex: None, attempt: 1 }];
    let refused = finalization_from_pb(pb::Finalization::Commit.into(), nameless, None).expect_err("no sub-task");
    assert_eq!(refused, Error::Missing { field: "StagedAttempt.vertex" });
    let refused = finalization_from_pb(0, Vec::new(), None).expect_err("unspecified");
    assert_eq!(refused, Error::UnknownEnum { field: "Finalization.action", value: 0 });
}
