//! A new leadership meets what still runs.

use std::time::Duration;

use expect_test::expect;
use tidemill_model::execution::{ExecutionState, FailureKind, TerminalState};
use tidemill_model::time::{Instant, Timestamp};

use super::{CommandBody, Harness, JobMasterAction, JobMasterEvent, Response};
use crate::engine::fixture::{attempt, failure, finished, report, task_manager};

#[test]
fn a_new_leader_adopts_every_running_attempt_and_restarts_none() {
    let mut harness = Harness::inherit(Harness::running_job());
    harness.check(JobMasterEvent::Started, expect![[""]]);
    let reports = harness.running_reports(0);
    assert_eq!(harness.register(1, reports), "");
    let reports = harness.running_reports(1);
    let adopted = harness.register(2, reports);
    expect![[r#"
        propose takeover adopted=4 restarted=0
    "#]]
    .assert_eq(&adopted);
    assert_eq!(harness.tick_after(Duration::from_secs(20)), "");
    assert_eq!(harness.status(), "RUNNING");
}

#[test]
fn what_never_arrived_is_deployed_again_under_the_same_id() {
    let mut harness = Harness::inherit(Harness::running_job());
    let reports = harness.running_reports(0);
    harness.register(1, reports[..1].to_vec());
    let again = harness.register(2, vec![]);
    expect![[r#"
        tm-2 <- deploy v0[1]#0 v1[1]#0
        propose takeover adopted=1 restarted=0
    "#]]
    .assert_eq(&again);
    assert_eq!(harness.status(), "RUNNING");
}

#[test]
fn another_incarnation_at_the_same_place_has_lost_what_was_scheduled() {
    let mut harness = Harness::inherit(Harness::running_job());
    let reports = harness.running_reports(0);
    harness.register(1, reports);
    let restarted = harness.register(12, vec![]);
    expect![[r#"
        propose failover of v0[1] v1[1]: task manager lost (vertex v0, sub-task 1): task manager tm-2 was restarted
        tm-1 <- cancel v0[0]#0 v1[0]#0
        return tm-2/0
        propose takeover adopted=0 restarted=4
    "#]]
    .assert_eq(&restarted);
}

#[test]
fn a_task_manager_that_stays_silent_is_given_up_after_the_reconcile_timeout() {
    let mut harness = Harness::inherit(Harness::running_job());
    let reports = harness.running_reports(0);
    harness.register(1, reports);
    assert_eq!(harness.tick_after(Duration::from_secs(9)), "");
    let given_up = harness.tick_after(Duration::from_secs(1));
    expect![[r#"
        propose failover of v0[1] v1[1]: task manager lost (vertex v0, sub-task 1): task manager tm-2 did not report to the new leader
        tm-1 <- cancel v0[0]#0 v1[0]#0
        return tm-2/0
        propose takeover adopted=0 restarted=4
    "#]]
    .assert_eq(&given_up);
}

#[test]
fn an_attempt_that_ended_while_nobody_led_is_recorded_and_not_restarted() {
    let mut harness = Harness::inherit(Harness::running_job());
    let ended = [0, 1].map(|vertex| report(attempt(&harness.spec, vertex, 0, 0), ExecutionState::Terminal(finished())));
    let recorded = harness.register(1, ended.into());
    expect![[r#"
        propose terminal v0[0]#0
        propose terminal v1[0]#0
        tm-1 <- acknowledge v0[0]#0
        tm-1 <- acknowledge v1[0]#0
    "#]]
    .assert_eq(&recorded);
}

#[test]
fn a_new_leader_repeats_the_commit() {
    let mut job = Harness::running_job();
    let ended = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(v, s)| (attempt(&job.spec, v, s, 0), finished())).into();
    job.apply(&CommandBody::RecordTerminal { job: job.spec.id, ended }, Timestamp(3));
    job.apply(&CommandBody::StartCommitting { job: job.spec.id, checkpoint: None }, Timestamp(3));
    let mut harness = Harness::inherit(job);
    let repeated = harness.register(2, vec![]);
    expect![[r#"
        tm-2 <- commit #0
    "#]]
    .assert_eq(&repeated);
}

#[test]
fn a_failure_that_was_replicated_but_not_decided_about_restarts_the_job() {
    let mut job = Harness::running_job();
    let failed = TerminalState::Failed(failure(FailureKind::ExecutorLost));
    let ended = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(v, s)| (attempt(&job.spec, v, s, 0), failed.clone())).into();
    job.apply(&CommandBody::RecordTerminal { job: job.spec.id, ended }, Timestamp(3));
    let mut harness = Harness::inherit(job);
    harness.check(
        JobMasterEvent::Started,
        expect![[r#"
            propose failover of v0[0] v0[1] v1[0] v1[1]: executor lost: broken
        "#]],
    );
    assert_eq!(harness.status(), "RESTARTING");
}

#[test]
fn a_panic_that_was_replicated_but_not_decided_about_fails_the_job() {
    let mut job = Harness::running_job();
    let failed = TerminalState::Failed(failure(FailureKind::Panic));
    let ended = vec![(attempt(&job.spec, 1, 0, 0), failed)];
    job.apply(&CommandBody::RecordTerminal { job: job.spec.id, ended }, Timestamp(3));
    let mut harness = Harness::inherit(job);
    harness.check(
        JobMasterEvent::Started,
        expect![[r#"
            propose failover of v1[0]: panic: broken
        "#]],
    );
    assert_eq!(harness.status(), "FAILING");
}

#[test]
fn what_is_left_of_a_superseded_attempt_is_cancelled_beside_the_deployment_or_else_released() {
    let mut harness = Harness::running();
    harness.fail(0, 0, FailureKind::ExecutorLost);
    harness.tick_after(Duration::from_secs(1));
    harness.stopped(0);
    let superseded = harness.running_reports(1);
    expect![[r#"
        tm-2 <- cancel v0[1]#0 v1[1]#0
        tm-2 <- deploy v0[1]#1 v1[1]#1
    "#]]
    .assert_eq(&harness.register(2, superseded.clone()));
    assert_eq!(harness.register(3, superseded), "tm-3 <- release\n");
}

#[test]
fn an_attempt_whose_task_manager_returns_before_the_failover_is_applied_is_told_to_stop() {
    let mut harness = Harness::running();
    let lost = JobMasterEvent::TaskManagerLost { task_manager: task_manager(2).id, reason: "silent".into() };
    let proposed = harness.master.step(Instant::default(), lost);
    let Some(JobMasterAction::Propose(body)) = proposed.into_iter().next() else { panic!("a failover") };
    let running = harness.running_reports(1);
    harness.register(2, running);
    let applied = JobMasterEvent::Applied { body, stamp: Timestamp(9), response: Response::Done };
    let told = harness.step(applied);
    assert!(told.contains("tm-2 <- cancel v0[1]#0 v1[1]#0\n"), "{told}");
}
