//! Jobs that are to stop without losing what they have done.

use tidemill_model::checkpoint::{CheckpointKind, CheckpointSettings};
use tidemill_model::execution::{ExecutionState, TerminalState};
use tidemill_model::id::CheckpointId;
use tidemill_model::job::{JobStatus, StopMode};
use tidemill_model::time::Timestamp;

use expect_test::expect;

use super::checkpoints::{ALL, SECOND, checkpointed};
use super::{CommandBody, Harness, JobMasterEvent, JobState, Response};

impl Harness {
    fn want_stop(&mut self, how: StopMode) -> String {
        let body = CommandBody::StopJob { job: self.spec.id, how };
        self.step(JobMasterEvent::Applied { body, stamp: Timestamp(9), response: Response::Done })
    }
}

#[test]
fn a_job_is_suspended_by_the_entry_that_completes_its_savepoint() {
    let mut harness = Harness::run(checkpointed());
    harness.complete(1);
    expect![[r#"
        tm-1 <- trigger savepoint checkpoint 2 v0[0]#0 v1[0]#0
        tm-2 <- trigger savepoint checkpoint 2 v0[1]#0 v1[1]#0
    "#]]
    .assert_eq(&harness.want_stop(StopMode::Suspend));
    ALL[..3].iter().for_each(|&place| assert_eq!(harness.acknowledge(place, 0, 2), ""));
    assert_eq!(harness.status(), "RUNNING");
    expect![[r#"
        propose complete checkpoint 2
        tm-1 <- notify checkpoint 2 v0[0]#0 v1[0]#0
        tm-2 <- notify checkpoint 2 v0[1]#0 v1[1]#0
        tm-1 <- cancel v0[0]#0 v1[0]#0
        tm-2 <- cancel v0[1]#0 v1[1]#0
    "#]]
    .assert_eq(&harness.acknowledge(ALL[3], 0, 2));
    let job = harness.master.job();
    assert_eq!((job.status.clone(), job.suspended_at), (JobStatus::Cancelling, Some(CheckpointId(2))));
    ALL.iter().for_each(|&(v, s)| drop(harness.change(v, s, ExecutionState::Terminal(TerminalState::Canceled))));
    assert_eq!(harness.latest(), Some(2), "it is gone on from");
}

#[test]
fn a_savepoint_that_fails_does_not_stop_the_job_and_is_tried_again_at_the_interval() {
    let mut harness = Harness::run(checkpointed());
    harness.complete(1);
    harness.want_stop(StopMode::Suspend);
    let aborted = harness.tick_after(SECOND * 5);
    assert!(aborted.contains("abort checkpoint 2"), "{aborted}");
    assert_eq!(harness.status(), "RUNNING");
    let again = format!("{aborted}{}", harness.tick_after(SECOND));
    assert!(again.contains("trigger savepoint checkpoint 3"), "{again}");
}

#[test]
fn a_savepoint_that_somebody_wants_comes_at_once_and_stops_nothing() {
    let mut harness = Harness::run(checkpointed());
    harness.complete(1);
    let wanted = harness.step(JobMasterEvent::SavepointWanted);
    assert!(wanted.contains("trigger savepoint checkpoint 2"), "{wanted}");
    assert_eq!(harness.step(JobMasterEvent::SavepointWanted), "", "it is under way");
    harness.complete(2);
    assert_eq!(harness.status(), "RUNNING");
    let periodic = harness.tick_after(SECOND);
    assert!(periodic.contains("trigger checkpoint 3"), "{periodic}");
    harness.complete(3);
    let checkpoints = &harness.master.job().checkpoints;
    let kinds: Vec<_> = checkpoints.completed.values().map(|completed| (completed.id.0, completed.kind)).collect();
    assert_eq!(kinds, [(2, CheckpointKind::Savepoint), (3, CheckpointKind::Periodic)], "somebody copies it");
    assert!(harness.master.job().spec.settings.checkpointing.as_ref().is_some_and(|settings| settings.retained == 1));
}

#[test]
fn a_job_without_checkpoints_is_not_suspended_but_drains() {
    let mut harness = Harness::running();
    let mut replica: JobState = harness.master.job().clone();
    let suspend = CommandBody::StopJob { job: harness.spec.id, how: StopMode::Suspend };
    assert!(matches!(replica.apply(&suspend, Timestamp(9)), Response::Refused { .. }));
    expect![[r#"
        tm-1 <- drain checkpoint 0 v0[0]#0 v1[0]#0
        tm-2 <- drain checkpoint 0 v0[1]#0 v1[1]#0
    "#]]
    .assert_eq(&harness.want_stop(StopMode::Drain));
    assert_eq!(harness.tick_after(SECOND), "", "all have been told");
}

#[test]
fn the_wish_to_stop_outlives_a_leader_and_a_failure() {
    let mut spec = checkpointed();
    spec.settings.checkpointing = Some(CheckpointSettings { interval: SECOND * 60, ..CheckpointSettings::default() });
    let mut harness = Harness::run(spec);
    harness.complete(1);
    harness.want_stop(StopMode::Suspend);
    let mut harness = Harness::inherit(harness.master.job().clone());
    let registered: String = [1, 2]
        .into_iter()
        .map(|n| {
            let reports = harness.running_reports(u32::try_from(n - 1).expect("small"));
            harness.register(n, reports)
        })
        .collect();
    assert!(registered.contains("trigger savepoint checkpoint"), "{registered}");
}
