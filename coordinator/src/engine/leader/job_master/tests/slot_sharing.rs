//! Jobs of several slot sharing groups.

use std::time::Duration;

use expect_test::expect;
use tidemill_model::execution::{ExecutionState, FailureKind};
use tidemill_model::time::Timestamp;

use super::super::AttemptObservation;
use super::{Harness, JobMasterEvent};
use crate::engine::fixture::grouped_spec;
use crate::engine::replicated::JobState;

fn harness() -> Harness {
    let mut harness = Harness::inherit(JobState::new(grouped_spec(5), Timestamp(1)));
    harness.register(1, vec![]);
    harness.register(2, vec![]);
    harness
}

#[test]
fn each_group_asks_for_slots_of_its_own_and_a_task_manager_gets_all_groups_in_one_deployment() {
    let mut harness = Harness::inherit(JobState::new(grouped_spec(5), Timestamp(1)));
    harness.check(
        JobMasterEvent::Started,
        expect![[r#"
            request 4 slots (2 for "default", 2 for "wide")
        "#]],
    );
    harness.register(1, vec![]);
    harness.register(2, vec![]);
    expect![[r#"
        propose schedule v0[0]#0@tm-1/0 v0[1]#0@tm-2/0 v1[0]#0@tm-1/1 v1[1]#0@tm-2/1
        tm-1 <- deploy v0[0]#0 v1[0]#0
        tm-2 <- deploy v0[1]#0 v1[1]#0
    "#]]
    .assert_eq(&harness.grant_four());
}

#[test]
fn after_a_failure_every_group_is_placed_like_before_on_the_slots_that_it_holds() {
    let mut harness = harness();
    harness.grant_four();
    harness.fail(0, 0, FailureKind::ExecutorLost);
    harness.tick_after(Duration::from_secs(1));
    expect![[r#"
        tm-1 <- acknowledge v0[0]#0
        tm-2 <- acknowledge v0[1]#0
        tm-1 <- acknowledge v1[0]#0
        tm-2 <- acknowledge v1[1]#0
        propose schedule v0[0]#1@tm-1/0 v0[1]#1@tm-2/0 v1[0]#1@tm-1/1 v1[1]#1@tm-2/1
        tm-1 <- deploy v0[0]#1 v1[0]#1
        tm-2 <- deploy v0[1]#1 v1[1]#1
    "#]]
    .assert_eq(&harness.stopped(0));
}

#[test]
fn a_new_leader_adopts_the_attempts_of_every_group() {
    let mut former = harness();
    former.grant_four();
    let mut harness = Harness::inherit(former.master.job().clone());
    let [first, second] = [0, 1].map(|subtask| harness.running_reports(subtask));
    assert_eq!(harness.register(1, first), "");
    expect![[r#"
        propose takeover adopted=4 restarted=0
    "#]]
    .assert_eq(&harness.register(2, second));
}

#[test]
fn people_see_the_slot_of_each_attempt() {
    let mut harness = harness();
    harness.grant_four();
    harness.change(1, 1, ExecutionState::Running);
    let line = |attempt: &AttemptObservation| {
        let name = attempt.task_manager.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{} {} {name}/{}\n", attempt.report.attempt.vertex, attempt.report.state.name(), attempt.slot)
    };
    expect![[r#"
        v0[0] SCHEDULED tm-1/0
        v0[1] SCHEDULED tm-2/0
        v1[0] SCHEDULED tm-1/1
        v1[1] RUNNING tm-2/1
    "#]]
    .assert_eq(&harness.master.observe().iter().map(line).collect::<String>());
}
