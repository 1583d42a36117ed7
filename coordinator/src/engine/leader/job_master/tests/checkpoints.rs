//! Checkpoints as a job's master coordinates them.

use std::time::Duration;

use expect_test::expect;
use tidemill_model::checkpoint::{
    CheckpointKind, CheckpointOutcome, CheckpointReport, CheckpointSettings, StateHandle, SubtaskState,
};
use tidemill_model::execution::{ExecutionState, FailureKind, TerminalState};
use tidemill_model::id::CheckpointId;
use tidemill_model::job::JobSpec;
use tidemill_model::time::{Instant, Timestamp};

use super::{CommandBody, Harness, JobMasterAction, JobMasterEvent, Response, describe};
use crate::engine::fixture::{attempt, spec, task_manager};
use crate::engine::leader::job_master::StorageAnswer;
use crate::engine::leader::message::JobReport;
use crate::engine::replicated::Garbage;

pub(super) const ALL: [(u32, u32); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];
pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn checkpointed() -> JobSpec {
    let mut spec = spec(5);
    spec.settings.checkpointing =
        Some(CheckpointSettings { timeout: SECOND * 5, failures_tolerable: 1, ..CheckpointSettings::default() });
    spec
}

/// A sub-task's file of its own for a checkpoint.
fn state(vertex: u32, subtask: u32, id: u64) -> SubtaskState {
    let path = format!("{id}/{vertex}-{subtask}");
    SubtaskState(vec![StateHandle::File { path, offset: 0, length: 8, checksum: 7 }])
}

pub(super) fn last_snapshot(vertex: u32, subtask: u32, id: u64) -> ExecutionState {
    let state = state(vertex, subtask, id);
    ExecutionState::Terminal(TerminalState::Finished { accumulators: [].into(), collected: vec![], state })
}

fn reported(
    spec: &JobSpec,
    (vertex, subtask): (u32, u32),
    number: u32,
    id: u64,
    outcome: CheckpointOutcome,
) -> CheckpointReport {
    CheckpointReport { attempt: attempt(spec, vertex, subtask, number), checkpoint: CheckpointId(id), outcome }
}

impl Harness {
    pub(super) fn acknowledge(&mut self, (vertex, subtask): (u32, u32), number: u32, id: u64) -> String {
        let outcome = CheckpointOutcome::Acknowledged(state(vertex, subtask, id));
        let report = reported(&self.spec, (vertex, subtask), number, id, outcome);
        self.step(JobMasterEvent::CheckpointReported { report })
    }

    pub(super) fn notified(&mut self, place: (u32, u32), id: u64) -> String {
        let report = reported(&self.spec, place, 0, id, CheckpointOutcome::Notified);
        self.step(JobMasterEvent::CheckpointReported { report })
    }

    /// All attempts of number 0 acknowledge it and confirm its completion.
    pub(super) fn complete(&mut self, id: u64) {
        ALL.iter().for_each(|&place| drop(self.acknowledge(place, 0, id)));
        ALL.iter().for_each(|&place| drop(self.notified(place, id)));
        assert_eq!(self.master.job().checkpoints.notified, CheckpointId(id));
    }

    pub(super) fn latest(&self) -> Option<u64> {
        self.master.job().checkpoints.latest().map(|id| id.0)
    }

    fn register_with(&mut self, n: u128, subtask: u32, acknowledged: &[(u32, u64)]) -> String {
        let outcome = |vertex, id| CheckpointOutcome::Acknowledged(state(vertex, subtask, id));
        let acknowledged =
            acknowledged.iter().map(|&(v, id)| reported(&self.spec, (v, subtask), 0, id, outcome(v, id)));
        let attempts = self.running_reports(subtask);
        let report = JobReport { attempts, checkpoints: acknowledged.collect(), ..JobReport::default() };
        self.step(JobMasterEvent::TaskManagerRegistered { location: task_manager(n), report })
    }
}

#[test]
fn ids_are_reserved_first_and_a_completion_is_made_known_after_it_is_applied() {
    let mut harness = Harness::inherit(super::JobState::new(checkpointed(), Timestamp(1)));
    harness.register(1, vec![]);
    harness.register(2, vec![]);
    harness.grant();
    let started: String = ALL.iter().map(|&(v, s)| harness.change(v, s, ExecutionState::Running)).collect();
    expect![[r#"
        propose reserve checkpoints up to 64
        tm-1 <- trigger checkpoint 1 v0[0]#0 v1[0]#0
        tm-2 <- trigger checkpoint 1 v0[1]#0 v1[1]#0
    "#]]
    .assert_eq(&started);
    let acknowledged: String = ALL[..3].iter().map(|&place| harness.acknowledge(place, 0, 1)).collect();
    assert_eq!(acknowledged, "", "one is missing");
    expect![[r#"
        propose complete checkpoint 1
        tm-1 <- notify checkpoint 1 v0[0]#0 v1[0]#0
        tm-2 <- notify checkpoint 1 v0[1]#0 v1[1]#0
    "#]]
    .assert_eq(&harness.acknowledge(ALL[3], 0, 1));
    assert_eq!(harness.latest(), Some(1));
    let confirmed: String = ALL.iter().map(|&place| harness.notified(place, 1)).collect();
    assert_eq!(confirmed, "propose notified 1\n");
    expect![[r#"
        tm-1 <- trigger checkpoint 2 v0[0]#0 v1[0]#0
        tm-2 <- trigger checkpoint 2 v0[1]#0 v1[1]#0
    "#]]
    .assert_eq(&harness.tick_after(SECOND));
}

#[test]
fn a_late_repeated_or_foreign_acknowledgement_changes_nothing() {
    let mut harness = Harness::run(checkpointed());
    for _ in 0..5 {
        assert_eq!(harness.acknowledge(ALL[0], 0, 1), "");
    }
    assert_eq!(harness.acknowledge(ALL[1], 7, 1), "", "of an attempt that does not exist");
    assert_eq!(harness.acknowledge(ALL[1], 0, 99), "", "of a checkpoint that does not exist");
    assert_eq!(harness.latest(), None);
    harness.complete(1);
    assert_eq!(harness.acknowledge(ALL[0], 0, 1), "");
    assert_eq!(harness.latest(), Some(1));
}

#[test]
fn a_subsumed_checkpoints_files_go_when_everybody_has_heard_of_the_one_after_it() {
    let mut harness = Harness::run(checkpointed());
    harness.complete(1);
    harness.tick_after(SECOND);
    ALL.iter().for_each(|&place| drop(harness.acknowledge(place, 0, 2)));
    assert_eq!(harness.latest(), Some(2));
    assert_eq!(harness.master.job().checkpoints.garbage.len(), 4);
    let heard: String = ALL[..3].iter().map(|&place| harness.notified(place, 2)).collect();
    assert_eq!(heard, "", "one may still build on the older files");
    expect![[r#"
        propose notified 2
        delete 1/0-0 1/0-1 1/1-0 1/1-1
    "#]]
    .assert_eq(&harness.notified(ALL[3], 2));
    let paths: Vec<String> = harness.master.job().checkpoints.garbage.keys().cloned().collect();
    for pause in [100, 200, 400] {
        assert_eq!(harness.step(JobMasterEvent::StorageAnswered(StorageAnswer::Failed)), "");
        let pause = Duration::from_millis(pause);
        assert_eq!(harness.tick_after(pause - Duration::from_millis(1)), "", "not at once");
        assert_eq!(harness.tick_after(Duration::from_millis(1)), "delete 1/0-0 1/0-1 1/1-0 1/1-1\n", "tried again");
    }
    let gone = JobMasterEvent::StorageAnswered(StorageAnswer::Deleted(Garbage::Files(paths)));
    assert_eq!(harness.step(gone), "propose deleted 1/0-0 1/0-1 1/1-0 1/1-1\n");
    assert!(harness.master.job().checkpoints.garbage.is_empty());
}

#[test]
fn attempts_that_are_replaced_start_from_the_newest_completed_checkpoint_and_void_what_is_pending() {
    let mut harness = Harness::run(checkpointed());
    harness.complete(1);
    harness.tick_after(SECOND);
    ALL[..3].iter().for_each(|&place| drop(harness.acknowledge(place, 0, 2)));
    let failed = harness.fail(1, 1, FailureKind::ExecutorLost);
    expect![[r#"
        propose terminal v1[1]#0
        propose failover of v1[1]: executor lost: broken
        tm-2 <- acknowledge v1[1]#0
        tm-1 <- cancel v0[0]#0 v1[0]#0
        tm-2 <- cancel v0[1]#0
        tm-2 <- acknowledge v1[1]#0
    "#]]
    .assert_eq(&failed);
    assert_eq!(harness.acknowledge(ALL[3], 0, 2), "", "too late");
    harness.stopped(0);
    let actions = harness.master.step(Instant::from_origin(harness.now + SECOND), JobMasterEvent::Tick);
    let proposed: Vec<String> = actions.iter().map(describe).collect();
    assert_eq!(proposed, ["propose schedule v0[0]#1@tm-1/0 v0[1]#1@tm-2/0 v1[0]#1@tm-1/0 v1[1]#1@tm-2/0"]);
    let Some(JobMasterAction::Propose(body)) = actions.into_iter().next() else { panic!("a proposal") };
    let applied = JobMasterEvent::Applied { body, stamp: Timestamp(9), response: Response::Done };
    let deployed = harness.master.step(Instant::from_origin(harness.now + SECOND), applied);
    for action in deployed {
        let JobMasterAction::Send { command, .. } = action else { panic!("{action:?}") };
        let super::super::TaskManagerCommand::Deploy { deployment, .. } = command else { panic!("{command}") };
        let restore = deployment.restore.expect("from a checkpoint");
        assert_eq!((restore.checkpoint, restore.states.len()), (CheckpointId(1), 2));
    }
}

#[test]
fn a_completion_that_comes_after_a_failover_is_refused_at_apply() {
    let mut harness = Harness::run(checkpointed());
    harness.complete(1);
    let mut replica = harness.master.job().clone();
    let states = ALL.map(|(v, s)| (attempt(&harness.spec, v, s, 0).vertex, state(v, s, 2)));
    let complete = CommandBody::CompleteCheckpoint {
        job: harness.spec.id,
        id: CheckpointId(2),
        attempts: states.clone().map(|(vertex, _)| (vertex, tidemill_model::id::AttemptNumber(0))).into(),
        states: states.into(),
        duration: SECOND,
        kind: CheckpointKind::Periodic,
    };
    assert_eq!(replica.clone().apply(&complete, Timestamp(9)), Response::Done, "nothing else is in its way");
    let cause = crate::engine::fixture::failure(FailureKind::ExecutorLost);
    let failed = [attempt(&harness.spec, 0, 0, 0).vertex].into();
    replica.apply(&CommandBody::FailOver { job: harness.spec.id, failed, cause }, Timestamp(9));
    assert_ne!(replica.apply(&complete, Timestamp(9)), Response::Done);
    let schedule = crate::engine::fixture::schedule(&harness.spec, 1);
    replica.apply(&CommandBody::RecordSchedule { job: harness.spec.id, schedule }, Timestamp(9));
    assert_eq!(replica.apply(&complete, Timestamp(9)), Response::Superseded);
    assert_eq!(replica.checkpoints.latest(), Some(CheckpointId(1)));
}

#[test]
fn checkpoints_fail_the_job_when_more_fail_in_a_row_than_it_tolerates() {
    let mut harness = Harness::run(checkpointed());
    let outcome = CheckpointOutcome::Declined("the disk is full".into());
    let declined = reported(&harness.spec, ALL[2], 0, 1, outcome);
    let aborted = harness.step(JobMasterEvent::CheckpointReported { report: declined });
    expect![[r#"
        tm-1 <- abort checkpoint 1 v0[0]#0 v1[0]#0
        tm-2 <- abort checkpoint 1 v0[1]#0 v1[1]#0
    "#]]
    .assert_eq(&aborted);
    harness.tick_after(SECOND);
    let expired = harness.tick_after(SECOND * 5);
    expect![[r#"
        tm-1 <- abort checkpoint 2 v0[0]#0 v1[0]#0
        tm-2 <- abort checkpoint 2 v0[1]#0 v1[1]#0
    "#]]
    .assert_eq(&expired);
    let failed = harness.tick_after(Duration::ZERO);
    assert!(failed.starts_with("propose failover of v0[0] v0[1] v1[0] v1[1]: checkpoints failed"), "{failed}");
}

#[test]
fn a_new_leader_completes_what_every_attempt_had_acknowledged() {
    let former = Harness::run(checkpointed());
    let mut harness = Harness::inherit(former.master.job().clone());
    assert_eq!(harness.register_with(1, 0, &[(0, 1), (1, 1)]), "");
    let both = harness.register_with(2, 1, &[(0, 1), (1, 1)]);
    expect![[r#"
        propose complete checkpoint 1
        propose takeover adopted=4 restarted=0
        tm-1 <- notify checkpoint 1 v0[0]#0 v1[0]#0
        tm-2 <- notify checkpoint 1 v0[1]#0 v1[1]#0
        propose reserve checkpoints up to 128
        tm-1 <- trigger checkpoint 65 v0[0]#0 v1[0]#0
        tm-2 <- trigger checkpoint 65 v0[1]#0 v1[1]#0
    "#]]
    .assert_eq(&both);
    assert_eq!(harness.latest(), Some(1));
}

#[test]
fn a_new_leader_aborts_what_some_attempts_had_not_acknowledged_and_uses_none_of_the_former_ids() {
    let former = Harness::run(checkpointed());
    let mut harness = Harness::inherit(former.master.job().clone());
    harness.register_with(1, 0, &[(0, 1), (1, 1)]);
    let aborted = harness.register_with(2, 1, &[(0, 1)]);
    expect![[r#"
        tm-1 <- abort checkpoint 1 v0[0]#0 v1[0]#0
        tm-2 <- abort checkpoint 1 v0[1]#0 v1[1]#0
        propose reserve checkpoints up to 128
        propose takeover adopted=4 restarted=0
        tm-1 <- trigger checkpoint 65 v0[0]#0 v1[0]#0
        tm-2 <- trigger checkpoint 65 v0[1]#0 v1[1]#0
    "#]]
    .assert_eq(&aborted);
    assert_eq!(harness.acknowledge(ALL[3], 0, 1), "", "too late");
    assert_eq!(harness.latest(), None);
}

#[test]
fn a_checkpoint_whose_trigger_may_be_lost_with_a_stream_is_given_up_and_the_next_one_begins_at_once() {
    let mut harness = Harness::run(checkpointed());
    ALL[..2].iter().for_each(|&place| drop(harness.acknowledge(place, 0, 1)));
    // Sub-task 0 of vertex 1 is on the same task manager, and says nothing.
    let back = harness.register_with(1, 0, &[(0, 1)]);
    expect![[r#"
        tm-1 <- abort checkpoint 1 v0[0]#0 v1[0]#0
        tm-2 <- abort checkpoint 1 v0[1]#0 v1[1]#0
        tm-1 <- trigger checkpoint 2 v0[0]#0 v1[0]#0
        tm-2 <- trigger checkpoint 2 v0[1]#0 v1[1]#0
    "#]]
    .assert_eq(&back);
    // What all of them had acknowledged goes on.
    let back = harness.register_with(1, 0, &[(0, 2), (1, 2)]);
    assert_eq!(back, "");
    ALL[2..].iter().for_each(|&place| drop(harness.acknowledge(place, 0, 2)));
    let completed = harness.acknowledge(ALL[1], 0, 2);
    assert!(completed.starts_with("propose complete checkpoint 2\n"), "{completed}");
}

#[test]
fn a_new_leader_takes_of_a_task_that_has_finished_since_what_it_had_acknowledged() {
    for acknowledged in [true, false] {
        let mut former = Harness::run(checkpointed());
        former.change(0, 0, last_snapshot(0, 0, 9));
        let mut harness = Harness::inherit(former.master.job().clone());
        if acknowledged {
            harness.register_with(1, 0, &[(0, 1), (1, 1)]);
        } else {
            harness.register_with(1, 0, &[(1, 1)]);
        }
        let both = harness.register_with(2, 1, &[(0, 1), (1, 1)]);
        assert_eq!(both.contains("propose complete checkpoint 1\n"), acknowledged, "{both}");
        assert_eq!(both.contains("abort checkpoint 1"), !acknowledged, "{both}");
        let completed = harness.master.job().checkpoints.completed.get(&CheckpointId(1));
        let paths: Vec<&str> = completed.iter().flat_map(|completed| completed.paths()).collect();
        assert_eq!(paths.first(), acknowledged.then_some(&"1/0-0"), "not what it left in the end");
    }
}

#[test]
fn a_new_leader_makes_a_completion_known_until_everybody_has_confirmed_it() {
    let mut former = Harness::run(checkpointed());
    ALL.iter().for_each(|&place| drop(former.acknowledge(place, 0, 1)));
    let mut harness = Harness::inherit(former.master.job().clone());
    harness.register_with(1, 0, &[]);
    let known = harness.register_with(2, 1, &[]);
    assert!(known.contains("tm-1 <- notify checkpoint 1 v0[0]#0 v1[0]#0\n"), "{known}");
    assert!(known.contains("tm-2 <- notify checkpoint 1 v0[1]#0 v1[1]#0\n"), "{known}");
    harness.notified(ALL[1], 1);
    let again = harness.register_with(2, 1, &[]);
    let notified: Vec<&str> = again.lines().filter(|line| line.contains("notify")).collect();
    assert_eq!(notified, ["tm-2 <- notify checkpoint 1 v1[1]#0"], "its stream was lost and is back");
}

#[test]
fn a_task_that_has_finished_takes_part_by_what_it_left() {
    let mut harness = Harness::run(checkpointed());
    harness.acknowledge(ALL[2], 0, 1);
    harness.acknowledge(ALL[3], 0, 1);
    harness.acknowledge(ALL[1], 0, 1);
    let finished = harness.change(0, 0, last_snapshot(0, 0, 9));
    assert!(finished.contains("propose complete checkpoint 1\n"), "{finished}");
    let completed = &harness.master.job().checkpoints.completed[&CheckpointId(1)];
    let paths: Vec<&str> = completed.paths().collect();
    assert_eq!(paths, ["9/0-0", "1/0-1", "1/1-0", "1/1-1"]);
}

#[test]
fn a_bounded_job_ends_with_a_final_checkpoint_of_what_its_tasks_left() {
    let mut harness = Harness::run(checkpointed());
    harness.complete(1);
    let ended: String = ALL.iter().map(|&(v, s)| harness.change(v, s, last_snapshot(v, s, 9))).collect();
    expect![[r#"
        propose terminal v0[0]#0
        tm-1 <- acknowledge v0[0]#0
        propose terminal v0[1]#0
        tm-2 <- acknowledge v0[1]#0
        propose terminal v1[0]#0
        tm-1 <- acknowledge v1[0]#0
        propose terminal v1[1]#0
        tm-2 <- acknowledge v1[1]#0
        propose StartCommitting 2
        tm-1 <- commit #0
    "#]]
    .assert_eq(&ended);
    assert_eq!(harness.status(), "COMMITTING");
    let checkpoints = &harness.master.job().checkpoints;
    assert_eq!(checkpoints.final_checkpoint, checkpoints.latest());
    let committed = harness.master.job().final_checkpoint().expect("it takes checkpoints");
    assert_eq!(committed.states.len(), 4, "any task manager can commit what they left");
    let finished = harness.finalized(1, super::FinalizationKind::Commit, None);
    expect![[r#"
        propose end Finished
        tm-1 <- release
        tm-2 <- release
        release slots
        delete the folder
    "#]]
    .assert_eq(&finished);
    assert_eq!(harness.step(JobMasterEvent::StorageAnswered(StorageAnswer::Deleted(Garbage::Folder))), "");
    assert_eq!(harness.tick_after(SECOND * 2), "delete the folder\n", "what a snapshot under way wrote late goes, too");
    expect![[r#"
        propose deleted the folder
        ended
    "#]]
    .assert_eq(&harness.step(JobMasterEvent::StorageAnswered(StorageAnswer::Deleted(Garbage::Folder))));
}
