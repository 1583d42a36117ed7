//! Slots, schedules and restarts.

use std::time::Duration;

use expect_test::expect;
use tidemill_model::execution::{ExecutionState, FailureKind};
use tidemill_model::time::{Instant, Timestamp};

use super::{Harness, JobMasterEvent, granted_slots, host};
use crate::engine::fixture::{attempt, finished, report, schedule, task_manager};
use crate::engine::leader::{JobMasterAction, SlotRequestId};
use crate::engine::replicated::{CommandBody, Response};

#[test]
fn a_new_job_asks_for_slots_and_deploys_only_what_is_applied() {
    let mut harness = Harness::new();
    harness.check(
        JobMasterEvent::Started,
        expect![[r#"
        request 2 slots
    "#]],
    );
    harness.register(1, vec![]);
    harness.register(2, vec![]);
    let granted = harness.grant();
    expect![[r#"
        propose schedule v0[0]#0@tm-1/0 v0[1]#0@tm-2/0 v1[0]#0@tm-1/0 v1[1]#0@tm-2/0
        tm-1 <- deploy v0[0]#0 v1[0]#0
        tm-2 <- deploy v0[1]#0 v1[1]#0
    "#]]
    .assert_eq(&granted);
    assert_eq!(harness.status(), "RUNNING");
}

#[test]
fn a_job_that_only_waits_for_slots_needs_no_ticks() {
    let mut harness = Harness::new();
    assert!(harness.master.depends_on_time(), "it has not asked yet");
    harness.step(JobMasterEvent::Started);
    assert!(!harness.master.depends_on_time());
    harness.register(1, vec![]);
    harness.register(2, vec![]);
    harness.grant();
    assert!(harness.master.depends_on_time(), "it runs");
    harness.fail(0, 0, FailureKind::ExecutorLost);
    assert!(harness.master.depends_on_time(), "the restart delay has to pass");
    harness.stopped(0);
    harness.tick_after(Duration::from_secs(1));
    assert!(harness.master.depends_on_time(), "it runs again, on the slots that it holds");
    let body = CommandBody::CancelJob { job: harness.spec.id };
    harness
        .master
        .step(Instant::default(), JobMasterEvent::Applied { body, stamp: Timestamp(9), response: Response::Done });
    assert!(harness.master.depends_on_time(), "it is being stopped");
}

#[test]
fn a_lost_executor_restarts_its_region_after_the_delay_and_when_the_old_attempts_have_stopped() {
    let mut harness = Harness::running();
    let failed = harness.fail(0, 0, FailureKind::ExecutorLost);
    expect![[r#"
        propose terminal v0[0]#0
        propose failover of v0[0]: executor lost: broken
        tm-1 <- acknowledge v0[0]#0
        tm-1 <- cancel v1[0]#0
        tm-2 <- cancel v0[1]#0 v1[1]#0
        tm-1 <- acknowledge v0[0]#0
    "#]]
    .assert_eq(&failed);
    assert_eq!(harness.tick_after(Duration::from_secs(1)), "", "the old attempts may run still");
    let deployed = harness.stopped(0);
    expect![[r#"
        tm-1 <- acknowledge v0[0]#0
        tm-2 <- acknowledge v0[1]#0
        tm-1 <- acknowledge v1[0]#0
        tm-2 <- acknowledge v1[1]#0
        propose schedule v0[0]#1@tm-1/0 v0[1]#1@tm-2/0 v1[0]#1@tm-1/0 v1[1]#1@tm-2/0
        tm-1 <- deploy v0[0]#1 v1[0]#1
        tm-2 <- deploy v0[1]#1 v1[1]#1
    "#]]
    .assert_eq(&deployed);
}

#[test]
fn restarts_are_counted_and_the_last_failure_is_final() {
    let mut harness = Harness::running();
    for number in 0..3 {
        harness.fail(0, 0, FailureKind::ExecutorLost);
        harness.tick_after(Duration::from_secs(1));
        harness.stopped(number);
    }
    let failed = harness.fail(0, 0, FailureKind::ExecutorLost);
    assert_eq!(harness.status(), "FAILING");
    assert!(failed.contains("propose failover of v0[0]: executor lost: broken"), "{failed}");
}

#[test]
fn a_late_state_of_a_superseded_attempt_changes_nothing() {
    let mut harness = Harness::running();
    harness.fail(0, 0, FailureKind::ExecutorLost);
    harness.stopped(0);
    harness.tick_after(Duration::from_secs(1));
    let late = report(attempt(&harness.spec, 1, 1, 0), ExecutionState::Terminal(finished()));
    harness.check(
        JobMasterEvent::AttemptChanged { task_manager: host(1), report: late },
        expect![[r#"
        tm-2 <- acknowledge v1[1]#0
    "#]],
    );
}

#[test]
fn a_lost_task_manager_restarts_the_region_with_a_slot_for_what_was_there() {
    let mut harness = Harness::running();
    let lost = JobMasterEvent::TaskManagerLost { task_manager: task_manager(2).id, reason: "gone".into() };
    harness.check(
        lost,
        expect![[r#"
            propose failover of v0[1] v1[1]: task manager lost (vertex v0, sub-task 1): gone
            tm-1 <- cancel v0[0]#0 v1[0]#0
            return tm-2/0
        "#]],
    );
    harness.stopped(0);
    assert_eq!(harness.tick_after(Duration::from_secs(1)), "request 1 slots\n");
    harness.register(3, vec![]);
    expect![[r#"
        propose schedule v0[0]#1@tm-1/0 v0[1]#1@tm-3/1 v1[0]#1@tm-1/0 v1[1]#1@tm-3/1
        tm-1 <- deploy v0[0]#1 v1[0]#1
        tm-3 <- deploy v0[1]#1 v1[1]#1
    "#]]
    .assert_eq(&harness.grant_slots(&[(3, 1)]));
}

#[test]
fn a_grant_on_a_task_manager_that_has_left_is_given_back() {
    let mut harness = Harness::new();
    harness.step(JobMasterEvent::Started);
    harness.register(1, vec![]);
    assert_eq!(harness.grant(), "request 1 slots\n", "for the one that is gone");
}

#[test]
fn a_grant_that_answers_an_earlier_request_is_given_back() {
    let mut harness = Harness::running();
    let lost = |n| JobMasterEvent::TaskManagerLost { task_manager: task_manager(n).id, reason: "gone".into() };
    harness.step(lost(2));
    harness.stopped(0);
    assert_eq!(harness.tick_after(Duration::from_secs(1)), "request 1 slots\n");
    let first = harness.request;
    assert_eq!(harness.step(lost(1)), "request 2 slots\n");
    harness.register(3, vec![]);
    assert_eq!(harness.step(granted_slots(first, &[(3, 0)])), "return tm-1/0 tm-3/0\n");
    let deployed = harness.grant_slots(&[(3, 1), (3, 2)]);
    assert!(deployed.starts_with("propose schedule v0[0]#1@tm-3/1 v0[1]#1@tm-3/2"), "{deployed}");
}

#[test]
fn a_request_is_withdrawn_and_its_late_grant_given_back_once_the_held_slots_are_usable_again() {
    let mut harness = Harness::new();
    harness.step(JobMasterEvent::Started);
    harness.register(1, vec![]);
    assert_eq!(harness.grant(), "request 1 slots\n", "task manager 2 is not here yet");
    let scheduled = harness.register(2, vec![]);
    assert!(scheduled.starts_with("request 0 slots\npropose schedule"), "{scheduled}");
    let late = granted_slots(SlotRequestId(2), &[(1, 1)]);
    assert_eq!(harness.step(late), "return tm-1/1\n");
}

#[test]
fn a_schedule_that_a_cancellation_came_before_is_never_deployed() {
    let mut harness = Harness::new();
    harness.register(1, vec![]);
    harness.register(2, vec![]);
    let proposed = harness.grant_unapplied();
    assert!(proposed.starts_with("propose schedule"), "{proposed}");
    let job = harness.spec.id;
    let refused = JobMasterEvent::Applied {
        body: CommandBody::RecordSchedule { job, schedule: schedule(&harness.spec, 0) },
        stamp: Timestamp(9),
        response: Response::Refused { status: "CANCELLING".into() },
    };
    let body = CommandBody::CancelJob { job };
    let cancel = JobMasterEvent::Applied { body, stamp: Timestamp(9), response: Response::Done };
    // The answers may come in either order; here the refusal is heard first.
    assert_eq!(harness.step(refused), "", "neither deployed nor proposed again and again");
    let ended = harness.step(cancel);
    assert!(ended.contains("propose end Canceled") && !ended.contains("deploy"), "{ended}");
}

#[test]
fn a_job_that_waits_for_more_slots_lets_go_of_those_in_which_nothing_runs_and_asks_for_its_former_ones() {
    let mut harness = Harness::running();
    harness.step(JobMasterEvent::TaskManagerLost { task_manager: host(1), reason: "silent".into() });
    harness.stopped(0);
    assert_eq!(harness.tick_after(Duration::from_secs(1)), "request 1 slots\n", "it holds the other one");
    assert!(harness.master.depends_on_time());
    assert_eq!(harness.tick_after(Duration::from_secs(4)), "");
    let event = JobMasterEvent::Tick;
    let actions = harness.master.step(Instant::from_origin(harness.now + Duration::from_secs(1)), event);
    let [JobMasterAction::ReturnSlots { slots }, JobMasterAction::RequestSlots { former, requirements, .. }] =
        &actions[..]
    else {
        panic!("{actions:?}");
    };
    assert_eq!(slots.keys().map(|slot| slot.task_manager).collect::<Vec<_>>(), [host(0)]);
    assert_eq!((requirements.total(), &former[..]), (2, &[Some(host(0)), Some(host(1))][..]));
    assert!(!harness.master.depends_on_time(), "others must do something first");
}
