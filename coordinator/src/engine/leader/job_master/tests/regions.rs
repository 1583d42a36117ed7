//! Failover regions: what is not tied to a failure runs on.

use std::time::Duration;

use expect_test::expect;
use tidemill_model::execution::{ExecutionState, FailureKind, TerminalState};
use tidemill_model::id::AttemptNumber;
use tidemill_model::job::JobSpec;
use tidemill_model::job_graph::Partitioning;
use tidemill_model::time::{Instant, Timestamp};

use super::{Harness, JobMasterAction, JobMasterEvent, host};
use crate::engine::fixture::{attempt, failure, finished, report, spec};
use crate::engine::leader::ExecutorProcess;
use crate::engine::replicated::{CommandBody, JobState, Response};

/// Two pipelines side by side: `v0[i]` forwards to `v1[i]`.
fn pipelines() -> JobSpec {
    let mut spec = spec(5);
    spec.graph.edges[0].partitioning = Partitioning::Forward;
    spec
}

#[test]
fn only_the_region_of_a_failure_is_replaced() {
    let mut harness = Harness::run(pipelines());
    expect![[r#"
        propose terminal v0[1]#0
        propose failover of v0[1]: executor lost: broken
        tm-2 <- acknowledge v0[1]#0
        tm-2 <- cancel v1[1]#0
        tm-2 <- acknowledge v0[1]#0
    "#]]
    .assert_eq(&harness.fail(0, 1, FailureKind::ExecutorLost));
    assert_eq!(harness.status(), "RESTARTING");
    let stopped = ExecutionState::Terminal(finished());
    let stopped = report(attempt(&harness.spec, 1, 1, 0), stopped);
    harness.step(JobMasterEvent::AttemptChanged { task_manager: host(1), report: stopped });
    expect![[r#"
        propose schedule v0[1]#1@tm-2/0 v1[1]#1@tm-2/0
        tm-2 <- deploy v0[1]#1 v1[1]#1
    "#]]
    .assert_eq(&harness.tick_after(Duration::from_secs(1)));
    assert_eq!(harness.status(), "RUNNING");
    let numbers: Vec<u32> =
        harness.master.job().schedule.iter().flat_map(|s| s.attempts.values().map(|a| a.attempt.0)).collect();
    assert_eq!(numbers, [0, 1, 0, 1]);
}

#[test]
fn people_see_the_process_of_each_attempt_number() {
    let mut harness = Harness::run(pipelines());
    let process = |attempt, process_id| JobMasterEvent::ExecutorStarted {
        task_manager: host(1),
        executor: ExecutorProcess { job: spec(5).id, attempt: AttemptNumber(attempt), process_id },
    };
    harness.step(process(0, 70));
    harness.step(process(1, 71));
    let processes: Vec<Option<u32>> = harness.master.observe().iter().map(|attempt| attempt.process_id).collect();
    assert_eq!(processes, [None, Some(70), None, Some(70)]);
}

#[test]
fn a_region_that_fails_while_another_waits_is_replaced_with_it() {
    let mut harness = Harness::run(pipelines());
    harness.fail(0, 1, FailureKind::ExecutorLost);
    harness.fail(1, 0, FailureKind::ExecutorLost);
    assert_eq!(harness.master.job().awaiting.len(), 4);
    harness.stopped(0);
    expect![[r#"
        propose schedule v0[0]#1@tm-1/0 v0[1]#1@tm-2/0 v1[0]#1@tm-1/0 v1[1]#1@tm-2/0
        tm-1 <- deploy v0[0]#1 v1[0]#1
        tm-2 <- deploy v0[1]#1 v1[1]#1
    "#]]
    .assert_eq(&harness.tick_after(Duration::from_secs(1)));
}

#[test]
fn what_else_fails_of_a_region_that_is_about_to_be_replaced_causes_no_second_failover() {
    let mut harness = Harness::run(spec(5));
    let failed = |harness: &Harness, vertex, kind| {
        let state = ExecutionState::Terminal(TerminalState::Failed(failure(kind)));
        let report = report(attempt(&harness.spec, vertex, 0, 0), state);
        JobMasterEvent::AttemptChanged { task_manager: host(0), report }
    };
    let first = failed(&harness, 0, FailureKind::ExecutorLost);
    let decided = harness.master.step(Instant::default(), first);
    let [JobMasterAction::Propose(_), JobMasterAction::Propose(body @ CommandBody::FailOver { .. })] = &decided[..]
    else {
        panic!("the end and the failover are proposed: {decided:?}");
    };
    let second = failed(&harness, 1, FailureKind::ConnectionLost);
    assert_eq!(harness.master.step(Instant::default(), second).len(), 1, "its end is proposed, and nothing else");
    let applied = JobMasterEvent::Applied { body: body.clone(), stamp: Timestamp(9), response: Response::Done };
    let actions = harness.step(applied);
    assert!(!actions.contains("failover"), "{actions}");
    assert!(!harness.tick_after(Duration::from_secs(1)).contains("failover"));
    assert_eq!(harness.master.job().restarts, 1);
}

#[test]
fn a_region_that_has_finished_is_not_run_again_when_its_task_manager_is_lost() {
    let mut harness = Harness::run(pipelines());
    for vertex in [0, 1] {
        harness.change(vertex, 1, ExecutionState::Terminal(finished()));
    }
    let lost = JobMasterEvent::TaskManagerLost { task_manager: host(1), reason: "gone".into() };
    assert_eq!(harness.step(lost), "");
    assert_eq!(harness.status(), "RUNNING");
}

#[test]
fn a_new_leader_adopts_one_region_and_goes_on_replacing_the_other() {
    let mut former = Harness::run(pipelines());
    former.fail(0, 1, FailureKind::ExecutorLost);
    let mut harness = Harness::inherit(former.master.job().clone());
    expect![[r#"
        request 1 slots
    "#]]
    .assert_eq(&harness.step(JobMasterEvent::Started));
    let running = harness.running_reports(0);
    harness.register(1, running);
    // Its release or cancellation was lost with the former leader.
    let zombie = vec![report(attempt(&harness.spec, 1, 1, 0), ExecutionState::Running)];
    expect![[r#"
        tm-2 <- release
    "#]]
    .assert_eq(&harness.register(2, zombie));
    let job: &JobState = harness.master.job();
    assert_eq!((job.status.name(), job.restarts, job.awaiting.len()), ("RESTARTING", 1, 2));
    expect![[r#"
        propose schedule v0[1]#1@tm-2/1 v1[1]#1@tm-2/1
        tm-2 <- deploy v0[1]#1 v1[1]#1
    "#]]
    .assert_eq(&harness.grant_slots(&[(2, 1)]));
}
