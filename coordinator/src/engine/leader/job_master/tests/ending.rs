//! How a job commits, fails and is cancelled.

use std::time::Duration;

use expect_test::expect;
use tidemill_model::execution::{ExecutionState, FailureKind, TerminalState};
use tidemill_model::time::Timestamp;

use super::{CommandBody, FinalizationKind, FinalizationReport, Harness, JobMasterEvent, Response};
use crate::engine::fixture::{finished, task_manager};
use crate::engine::replicated::Ending;

#[test]
fn a_job_commits_when_all_tasks_have_finished_and_ends_when_its_sinks_have_committed() {
    let mut harness = Harness::running();
    for (vertex, subtask) in [(0, 0), (0, 1), (1, 0)] {
        harness.change(vertex, subtask, ExecutionState::Terminal(finished()));
    }
    let last = harness.change(1, 1, ExecutionState::Terminal(finished()));
    expect![[r#"
        propose terminal v1[1]#0
        tm-2 <- acknowledge v1[1]#0
        propose StartCommitting
        tm-1 <- commit #0
    "#]]
    .assert_eq(&last);
    assert_eq!(harness.status(), "COMMITTING");
    let committed = harness.finalized(1, FinalizationKind::Commit, None);
    expect![[r#"
        propose end Finished
        tm-1 <- release
        tm-2 <- release
        release slots
        ended
    "#]]
    .assert_eq(&committed);
    assert_eq!(harness.status(), "FINISHED");
}

#[test]
fn a_panic_fails_the_job_without_a_restart_and_removes_what_is_staged() {
    let mut harness = Harness::running();
    let failed = harness.fail(1, 0, FailureKind::Panic);
    expect![[r#"
        propose terminal v1[0]#0
        propose failover of v1[0]: panic: broken
        tm-1 <- acknowledge v1[0]#0
        tm-1 <- cancel v0[0]#0
        tm-2 <- cancel v0[1]#0 v1[1]#0
    "#]]
    .assert_eq(&failed);
    let mut stopped = String::new();
    for (vertex, subtask) in [(0, 0), (0, 1), (1, 1)] {
        stopped += &harness.change(vertex, subtask, ExecutionState::Terminal(TerminalState::Canceled));
    }
    expect![[r#"
        propose terminal v0[0]#0
        tm-1 <- acknowledge v0[0]#0
        propose terminal v0[1]#0
        tm-2 <- acknowledge v0[1]#0
        propose terminal v1[1]#0
        tm-1 <- abort
        tm-2 <- acknowledge v1[1]#0
    "#]]
    .assert_eq(&stopped);
    let aborted = harness.finalized(1, FinalizationKind::Abort, None);
    expect![[r#"
        propose end Failed
        tm-1 <- release
        tm-2 <- release
        release slots
        ended
    "#]]
    .assert_eq(&aborted);
    assert_eq!(harness.status(), "FAILED");
}

#[test]
fn a_commit_is_repeated_elsewhere_when_its_task_manager_is_lost() {
    let mut harness = Harness::running();
    for (vertex, subtask) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        harness.change(vertex, subtask, ExecutionState::Terminal(finished()));
    }
    let lost = JobMasterEvent::TaskManagerLost { task_manager: task_manager(1).id, reason: "gone".into() };
    harness.check(
        lost,
        expect![[r#"
        tm-2 <- commit #0
    "#]],
    );
    assert_eq!(harness.status(), "COMMITTING");
}

#[test]
fn a_commit_that_cannot_succeed_fails_the_job() {
    let mut harness = Harness::running();
    for (vertex, subtask) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        harness.change(vertex, subtask, ExecutionState::Terminal(finished()));
    }
    let failed = harness.finalized(1, FinalizationKind::Commit, Some(FailureKind::InvalidInput));
    expect![[r#"
        propose fail: invalid input: broken
        tm-1 <- abort
    "#]]
    .assert_eq(&failed);
}

#[test]
fn a_cancelled_job_stops_its_tasks_first() {
    let mut harness = Harness::running();
    let body = CommandBody::CancelJob { job: harness.spec.id };
    let cancel = JobMasterEvent::Applied { body, stamp: Timestamp(9), response: Response::Done };
    harness.check(
        cancel,
        expect![[r#"
        tm-1 <- cancel v0[0]#0 v1[0]#0
        tm-2 <- cancel v0[1]#0 v1[1]#0
    "#]],
    );
    assert_eq!(harness.tick_after(Duration::from_secs(60)), "");
    assert_eq!(harness.status(), "CANCELLING");
}

#[test]
fn a_removal_that_fails_everywhere_does_not_keep_a_cancelled_job_from_its_end() {
    let mut harness = Harness::running();
    let body = CommandBody::CancelJob { job: harness.spec.id };
    harness.step(JobMasterEvent::Applied { body, stamp: Timestamp(9), response: Response::Done });
    let mut told = String::new();
    for (vertex, subtask) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        told += &harness.change(vertex, subtask, ExecutionState::Terminal(TerminalState::Canceled));
    }
    assert!(told.contains("tm-1 <- abort\n"), "{told}");
    let told = harness.finalized(1, FinalizationKind::Abort, Some(FailureKind::InvalidArtifact));
    assert_eq!(told, "tm-2 <- abort\n");
    let told = harness.finalized(2, FinalizationKind::Abort, Some(FailureKind::ExecutorLost));
    assert!(told.starts_with("propose end Canceled\n"), "{told}");
    assert_eq!(harness.status(), "CANCELED");
}

#[test]
fn a_job_cancelled_before_it_had_slots_ends_at_once() {
    let mut harness = Harness::new();
    harness.step(JobMasterEvent::Started);
    let body = CommandBody::CancelJob { job: harness.spec.id };
    let cancel = JobMasterEvent::Applied { body, stamp: Timestamp(9), response: Response::Done };
    harness.check(
        cancel,
        expect![[r#"
        propose end Canceled
        release slots
        ended
    "#]],
    );
    assert_eq!(harness.status(), "CANCELED");
}

#[test]
fn a_job_cancelled_between_two_schedules_waits_for_nobody() {
    let mut harness = Harness::running();
    harness.fail(0, 0, FailureKind::ExecutorLost);
    harness.stopped(0);
    let body = CommandBody::CancelJob { job: harness.spec.id };
    let cancel = JobMasterEvent::Applied { body, stamp: Timestamp(9), response: Response::Done };
    harness.check(
        cancel,
        expect![[r#"
        tm-1 <- abort
    "#]],
    );
}

#[test]
fn a_commit_that_was_lost_with_its_stream_is_asked_for_again_of_the_same_task_manager() {
    let mut harness = Harness::running();
    for (vertex, subtask) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        harness.change(vertex, subtask, ExecutionState::Terminal(finished()));
    }
    assert_eq!(harness.register(2, vec![]), "");
    assert_eq!(harness.register(1, vec![]), "tm-1 <- commit #0\n");
    harness.finalized(1, FinalizationKind::Commit, None);
    assert_eq!(harness.status(), "FINISHED");
}

#[test]
fn an_abort_that_was_lost_with_its_stream_is_asked_for_again() {
    let mut harness = Harness::running();
    harness.fail(0, 0, FailureKind::ExecutorLost);
    harness.stopped(0);
    let body = CommandBody::CancelJob { job: harness.spec.id };
    harness.step(JobMasterEvent::Applied { body, stamp: Timestamp(9), response: Response::Done });
    assert_eq!(harness.register(1, vec![]), "tm-1 <- abort\n");
    harness.finalized(1, FinalizationKind::Abort, None);
    assert_eq!(harness.status(), "CANCELED");
}

#[test]
fn attempts_that_were_replaced_before_a_cancellation_are_told_again_to_stop() {
    let mut harness = Harness::running();
    harness.fail(0, 0, FailureKind::ExecutorLost);
    let body = CommandBody::CancelJob { job: harness.spec.id };
    let mut replica = harness.master.job().clone();
    let response = replica.apply(&body, Timestamp(9));
    harness.step(JobMasterEvent::Applied { body, stamp: Timestamp(9), response });
    // Their streams broke, and the order with them: one has stopped by itself, the other has not.
    let reports = harness.running_reports(1);
    assert_eq!(harness.register(2, reports), "tm-2 <- cancel v0[1]#0 v1[1]#0\n");
    harness.register(1, vec![]);
    let ended = harness.stopped(0);
    assert!(ended.contains("<- abort"), "{ended}");
}

#[test]
fn output_is_removed_again_when_a_task_manager_that_was_given_up_comes_back() {
    let mut harness = Harness::running();
    let body = CommandBody::CancelJob { job: harness.spec.id };
    harness.step(JobMasterEvent::Applied { body, stamp: Timestamp(9), response: Response::Done });
    for vertex in [0, 1] {
        harness.change(vertex, 0, ExecutionState::Terminal(TerminalState::Canceled));
    }
    let asked =
        harness.step(JobMasterEvent::TaskManagerLost { task_manager: super::host(1), reason: "silent".to_owned() });
    assert!(asked.ends_with("tm-1 <- abort\n"), "{asked}");
    let reports = harness.running_reports(1);
    assert_eq!(harness.register(2, reports), "tm-2 <- cancel v0[1]#0 v1[1]#0\n");
    assert_eq!(harness.finalized(1, FinalizationKind::Abort, None), "", "it knows nothing of what tm-2 has staged");
    let mut told = String::new();
    for vertex in [0, 1] {
        told += &harness.change(vertex, 1, ExecutionState::Terminal(TerminalState::Canceled));
    }
    assert!(told.contains("tm-1 <- abort\n"), "{told}");
    harness.finalized(1, FinalizationKind::Abort, None);
    assert_eq!(harness.status(), "CANCELED");
}

#[test]
fn what_is_staged_while_the_end_is_being_decided_is_removed_before_the_job_is_released() {
    let mut harness = Harness::running();
    let job = harness.spec.id;
    let (body, response) = (CommandBody::CancelJob { job }, Response::Done);
    harness.step(JobMasterEvent::Applied { body, stamp: Timestamp(9), response: response.clone() });
    for vertex in [0, 1] {
        harness.change(vertex, 0, ExecutionState::Terminal(TerminalState::Canceled));
    }
    harness.step(JobMasterEvent::TaskManagerLost { task_manager: super::host(1), reason: "silent".to_owned() });
    // The answer to the proposal takes its time, and meanwhile one that had been given up comes back.
    let report = FinalizationReport { job, kind: FinalizationKind::Abort, failure: None };
    let done = JobMasterEvent::Finalized { task_manager: super::host(0), report };
    assert_eq!(harness.step_unapplied(done), "propose end Canceled\n");
    let reports = harness.running_reports(1);
    assert_eq!(harness.register(2, reports), "tm-2 <- cancel v0[1]#0 v1[1]#0\n");
    let body = CommandBody::EndJob { job, ending: Ending::Canceled, history_size: 9 };
    let ended = harness.step(JobMasterEvent::Applied { body, stamp: Timestamp(9), response });
    assert_eq!(ended, "tm-1 <- abort\n");
    let released = harness.finalized(1, FinalizationKind::Abort, None);
    assert_eq!(released, "tm-1 <- release\ntm-2 <- release\nrelease slots\nended\n");
}
