//! What runs on a draining task manager moves when there is room elsewhere, and not before.

use std::time::Duration;

use expect_test::expect;
use tidemill_model::execution::{ExecutionState, FailureKind};
use tidemill_model::job::JobSpec;
use tidemill_model::job_graph::Partitioning;
use tidemill_model::time::Timestamp;

use super::{CommandBody, Harness, JobMasterEvent, host};
use crate::engine::fixture::{failure, spec, task_manager};

/// Two pipelines side by side, one on each task manager.
fn pipelines() -> JobSpec {
    let mut spec = spec(5);
    spec.graph.edges[0].partitioning = Partitioning::Forward;
    spec
}

impl Harness {
    fn drain(&mut self, n: u128, draining: bool) -> String {
        self.step(JobMasterEvent::DrainingChanged { task_manager: task_manager(n).id, draining })
    }
}

#[test]
fn a_job_runs_on_where_it_drains_until_there_are_slots_elsewhere_and_that_is_no_failure() {
    let mut harness = Harness::run(spec(5));
    assert_eq!(harness.drain(2, true), "request 1 slots\n");
    assert_eq!(harness.status(), "RUNNING");
    assert_eq!(harness.tick_after(Duration::from_secs(60)), "", "it waits");
    harness.register(3, vec![]);
    expect![[r#"
        propose relocation of v0[1] v1[1]: task manager tm-2 is draining
        tm-1 <- cancel v0[0]#0 v1[0]#0
        tm-2 <- cancel v0[1]#0 v1[1]#0
        return tm-2/0
    "#]]
    .assert_eq(&harness.grant_slots(&[(3, 0)]));
    let moved = harness.stopped(0);
    assert!(moved.contains("propose schedule v0[0]#1@tm-1/0 v0[1]#1@tm-3/0 v1[0]#1@tm-1/0 v1[1]#1@tm-3/0"), "{moved}");
    assert!(moved.contains("tm-2 <- release"), "{moved}");
    let job = harness.master.job();
    assert_eq!((job.status.name(), job.restarts), ("RUNNING", 1));
    assert_eq!(job.failures, Default::default(), "its restart strategy has not heard of it");
    let cause = job.history.iter().find_map(|entry| entry.cause.clone()).expect("it says why");
    assert_eq!((cause.kind, cause.message.as_str()), (FailureKind::Drained, "task manager tm-2 is draining"));
}

#[test]
fn only_the_regions_that_have_to_leave_are_replaced() {
    let mut harness = Harness::run(pipelines());
    harness.register(3, vec![]);
    assert_eq!(harness.drain(2, true), "request 1 slots\n");
    expect![[r#"
        propose relocation of v0[1] v1[1]: task manager tm-2 is draining
        tm-2 <- cancel v0[1]#0 v1[1]#0
        return tm-2/0
    "#]]
    .assert_eq(&harness.grant_slots(&[(3, 0)]));
}

#[test]
fn a_drain_that_is_taken_back_before_there_was_room_moves_nothing() {
    let mut harness = Harness::run(spec(5));
    harness.drain(2, true);
    assert_eq!(harness.drain(2, false), "request 0 slots\n");
    harness.register(3, vec![]);
    assert_eq!(harness.grant_slots(&[(3, 0)]), "return tm-3/0\n", "it comes too late");
}

#[test]
fn slots_for_a_move_that_is_taken_back_before_it_is_decided_are_given_back() {
    let mut harness = Harness::inherit(Harness::running_job());
    let reports = harness.running_reports(0);
    harness.register(1, reports);
    assert_eq!(harness.drain(1, true), "", "the takeover comes first");
    let reports = harness.running_reports(1);
    let taken_over = harness.register(2, reports);
    assert_eq!(taken_over, "propose takeover adopted=4 restarted=0\nrequest 1 slots\n");
    harness.register(3, vec![]);
    let failed = harness.fail(0, 1, FailureKind::ExecutorLost);
    assert!(failed.contains("propose failover of v0[1]"), "{failed}");
    assert_eq!(harness.grant_slots(&[(3, 0)]), "return tm-1/0\n", "the next attempts go there");
    harness.drain(1, false);
    harness.stopped(0);
    let moved = harness.tick_after(Duration::from_secs(1));
    assert!(moved.starts_with("propose schedule v0[0]#1@tm-3/0 v0[1]#1@tm-2/0"), "{moved}");
}

#[test]
fn what_fails_on_a_draining_task_manager_is_not_started_there_again() {
    let mut harness = Harness::run(spec(5));
    harness.drain(2, true);
    harness.fail(0, 1, FailureKind::ExecutorLost);
    harness.stopped(0);
    assert_eq!(harness.tick_after(Duration::from_secs(1)), "", "it has asked for a slot elsewhere");
    assert_eq!(harness.status(), "RESTARTING");
    harness.register(3, vec![]);
    let moved = harness.grant_slots(&[(3, 1)]);
    assert!(moved.contains("propose schedule v0[0]#1@tm-1/0 v0[1]#1@tm-3/1"), "{moved}");
    assert!(moved.contains("return tm-2/0"), "{moved}");
}

#[test]
fn what_has_finished_needs_no_other_place() {
    let mut harness = Harness::run(pipelines());
    for vertex in [0, 1] {
        harness.change(vertex, 1, ExecutionState::Terminal(crate::engine::fixture::finished()));
    }
    assert_eq!(harness.drain(2, true), "");
}

#[test]
fn a_draining_task_manager_is_not_asked_to_remove_output_of_others_when_there_is_another() {
    let mut harness = Harness::run(spec(5));
    harness.register(3, vec![]);
    harness.register(4, vec![]);
    harness.drain(3, true);
    for n in [1, 2] {
        let lost = JobMasterEvent::TaskManagerLost { task_manager: task_manager(n).id, reason: "gone".into() };
        harness.step(lost);
    }
    let job = harness.spec.id;
    let body = super::CommandBody::CancelJob { job };
    let mut replica = harness.master.job().clone();
    let response = replica.apply(&body, tidemill_model::time::Timestamp(9));
    let canceled = harness.step(JobMasterEvent::Applied { body, stamp: tidemill_model::time::Timestamp(9), response });
    assert!(canceled.contains("tm-4 <- abort"), "{canceled}");
}

#[test]
fn slots_that_are_lost_are_not_held_again_when_a_drain_is_taken_back_before_the_failover() {
    let mut harness = Harness::running();
    let lost = JobMasterEvent::TaskManagerLost { task_manager: host(1), reason: "silent".into() };
    assert!(harness.step_unapplied(lost).contains("propose failover of v0[1] v1[1]"));
    // It comes back before that is applied, and offers its slots to all.
    let reports = harness.running_reports(1);
    harness.register(2, reports);
    harness.drain(1, true);
    harness.drain(1, false);
    let mut replica = harness.master.job().clone();
    let (job, kind) = (harness.spec.id, FailureKind::TaskManagerLost);
    let failed = replica.spec.graph.execution_vertices().filter(|vertex| vertex.subtask.0 == 1).collect();
    let body = CommandBody::FailOver { job, failed, cause: failure(kind) };
    let response = replica.apply(&body, Timestamp(9));
    harness.step(JobMasterEvent::Applied { body, stamp: Timestamp(9), response });
    harness.stopped(0);
    assert_eq!(harness.tick_after(Duration::from_secs(1)), "request 1 slots\n");
    let scheduled = harness.grant_slots(&[(2, 1)]);
    assert!(scheduled.contains("tm-2 <- deploy v0[1]#1 v1[1]#1\n"), "{scheduled}");
}
