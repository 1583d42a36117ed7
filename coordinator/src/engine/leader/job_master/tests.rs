//! The job master by whole lists of actions.

use std::time::Duration;

use expect_test::{Expect, expect};
use tidemill_model::execution::{ExecutionState, FailureKind, Finalization, TerminalState};
use tidemill_model::id::TaskManagerId;
use tidemill_model::job::JobSpec;
use tidemill_model::slot::SlotId;
use tidemill_model::time::{Instant, Timestamp};

use super::{JobMaster, JobMasterAction, JobMasterEvent, JobMasterSettings};
use crate::engine::fixture::{attempt, failure, finished, report, schedule, spec, task_manager};
use crate::engine::leader::message::{FinalizationKind, FinalizationReport, JobReport, TaskManagerCommand};
use crate::engine::replicated::{CommandBody, JobState, Response};

const SETTINGS: JobMasterSettings = JobMasterSettings { reconcile_timeout: Duration::from_secs(10), history_size: 10 };

/// A master whose proposals are applied at once, unless the test holds them back.
struct Harness {
    spec: JobSpec,
    master: JobMaster,
    now: Duration,
}

impl Harness {
    fn new() -> Self {
        Self::inherit(JobState::new(spec(5), Timestamp(1)))
    }

    fn inherit(job: JobState) -> Self {
        let spec = job.spec.clone();
        Self { spec, master: JobMaster::new(SETTINGS, job, Instant::default()), now: Duration::ZERO }
    }

    /// The replicated state of a job that runs by [`schedule`] with attempt 0.
    fn running_job() -> JobState {
        let mut job = JobState::new(spec(5), Timestamp(1));
        let schedule = schedule(&job.spec, 0);
        let body = CommandBody::RecordSchedule { job: job.spec.id, schedule };
        assert_eq!(job.apply(&body, Timestamp(2)), Response::Done);
        job
    }

    /// A running job with both task managers there and all four attempts running.
    fn running() -> Self {
        let mut harness = Self::new();
        harness.register(1, vec![]);
        harness.register(2, vec![]);
        harness.grant();
        for (vertex, subtask) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            harness.change(vertex, subtask, ExecutionState::Running);
        }
        harness
    }

    fn step(&mut self, event: JobMasterEvent) -> String {
        let mut lines = String::new();
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.master.step(Instant::from_origin(self.now), event) {
                lines += &describe(&action);
                lines.push('\n');
                if let JobMasterAction::Propose(body) = action {
                    let mut replica = self.master.job().clone();
                    let response = replica.apply(&body, Timestamp(9));
                    events.insert(0, JobMasterEvent::Applied { body, stamp: Timestamp(9), response });
                }
            }
        }
        lines
    }

    fn check(&mut self, event: JobMasterEvent, expected: Expect) {
        expected.assert_eq(&self.step(event));
    }

    fn register(&mut self, n: u128, attempts: Vec<tidemill_model::execution::AttemptReport>) -> String {
        let report = JobReport { attempts, finalized: None };
        self.step(JobMasterEvent::TaskManagerRegistered { location: task_manager(n), report })
    }

    fn grant(&mut self) -> String {
        let slots = [1, 2].map(|n| SlotId { task_manager: task_manager(n).id, index: 0 }).into();
        let locations = [1, 2].map(|n| (task_manager(n).id, task_manager(n))).into();
        self.step(JobMasterEvent::SlotsGranted { slots, locations })
    }

    fn change(&mut self, vertex: u32, subtask: u32, state: ExecutionState) -> String {
        let current = self.master.job().current_attempt().map_or(0, |attempt| attempt.0);
        let report = report(attempt(&self.spec, vertex, subtask, current), state);
        self.step(JobMasterEvent::AttemptChanged { task_manager: host(subtask), report })
    }

    fn fail(&mut self, vertex: u32, subtask: u32, kind: FailureKind) -> String {
        self.change(vertex, subtask, ExecutionState::Terminal(TerminalState::Failed(failure(kind))))
    }

    fn finalized(&mut self, n: u128, kind: FinalizationKind, outcome: Option<FailureKind>) -> String {
        let report = FinalizationReport { job: self.spec.id, kind, failure: outcome.map(failure) };
        self.step(JobMasterEvent::Finalized { task_manager: task_manager(n).id, report })
    }

    fn running_reports(&self, subtask: u32) -> Vec<tidemill_model::execution::AttemptReport> {
        [0, 1].map(|vertex| report(attempt(&self.spec, vertex, subtask, 0), ExecutionState::Running)).into()
    }

    fn tick_after(&mut self, duration: Duration) -> String {
        self.now += duration;
        self.step(JobMasterEvent::Tick)
    }

    fn status(&self) -> &'static str {
        self.master.job().status.name()
    }
}

/// Sub-task i runs on task manager i + 1.
fn host(subtask: u32) -> TaskManagerId {
    task_manager(u128::from(subtask) + 1).id
}

fn name(id: TaskManagerId) -> String {
    format!("tm-{}", id.0.as_u128())
}

fn describe(action: &JobMasterAction) -> String {
    match action {
        JobMasterAction::Propose(body) => match body {
            CommandBody::RecordSchedule { schedule, .. } => format!("propose schedule {schedule}"),
            CommandBody::RecordTerminal { ended, .. } => {
                let ended: Vec<_> = ended.iter().map(|(a, _)| format!("{}#{}", a.vertex, a.attempt)).collect();
                format!("propose terminal {}", ended.join(" "))
            }
            CommandBody::RecordTakeover { adopted, restarted, .. } => {
                format!("propose takeover adopted={adopted} restarted={restarted}")
            }
            CommandBody::RestartJob { cause, .. } => format!("propose restart: {cause}"),
            CommandBody::FailJob { cause, .. } => format!("propose fail: {cause}"),
            CommandBody::EndJob { ending, .. } => format!("propose end {ending:?}"),
            CommandBody::StartCommitting { .. }
            | CommandBody::CancelJob { .. }
            | CommandBody::LeaderStarted { .. }
            | CommandBody::RegisterBlob { .. }
            | CommandBody::SubmitJob { .. } => format!("propose {}", body.name()),
        },
        JobMasterAction::RequestSlots { count } => format!("request {count} slots"),
        JobMasterAction::ReleaseSlots => "release slots".to_owned(),
        JobMasterAction::Ended => "ended".to_owned(),
        JobMasterAction::Send { task_manager, command } => {
            let list = |attempts: &[tidemill_model::id::ExecutionAttemptId]| {
                attempts.iter().map(|a| format!("{}#{}", a.vertex, a.attempt)).collect::<Vec<_>>().join(" ")
            };
            let command = match command {
                TaskManagerCommand::Deploy { deployment, .. } => format!("deploy {}", list(&deployment.start)),
                TaskManagerCommand::Cancel { attempts } => format!("cancel {}", list(attempts)),
                TaskManagerCommand::Acknowledge { attempts } => format!("acknowledge {}", list(attempts)),
                TaskManagerCommand::Finalize { finalization: Finalization::Commit { attempt }, .. } => {
                    format!("commit #{attempt}")
                }
                TaskManagerCommand::Finalize { finalization: Finalization::Abort, .. } => "abort".to_owned(),
                TaskManagerCommand::Release { .. } => "release".to_owned(),
                TaskManagerCommand::Welcome | TaskManagerCommand::HeartbeatAnswer { .. } => "?".to_owned(),
            };
            format!("{} <- {command}", name(*task_manager))
        }
    }
}

#[test]
fn a_new_job_asks_for_slots_and_deploys_only_what_is_applied() {
    let mut harness = Harness::new();
    harness.check(JobMasterEvent::Started, expect![[r#"
        request 2 slots
    "#]]);
    harness.register(1, vec![]);
    harness.register(2, vec![]);
    let granted = harness.grant();
    expect![[r#"
        propose schedule v0[0]#0@tm-1/0 v0[1]#0@tm-2/0 v1[0]#0@tm-1/0 v1[1]#0@tm-2/0
        tm-1 <- deploy v0[0]#0 v1[0]#0
        tm-2 <- deploy v0[1]#0 v1[1]#0
    "#]].assert_eq(&granted);
    assert_eq!(harness.status(), "RUNNING");
}

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
    "#]].assert_eq(&last);
    assert_eq!(harness.status(), "COMMITTING");
    let committed = harness.finalized(1, FinalizationKind::Commit, None);
    expect![[r#"
        propose end Finished
        tm-1 <- release
        tm-2 <- release
        release slots
        ended
    "#]].assert_eq(&committed);
    assert_eq!(harness.status(), "FINISHED");
}

#[test]
fn a_panic_fails_the_job_without_a_restart_and_removes_what_is_staged() {
    let mut harness = Harness::running();
    let failed = harness.fail(1, 0, FailureKind::Panic);
    expect![[r#"
        propose terminal v1[0]#0
        propose fail: panic: broken
        tm-1 <- acknowledge v1[0]#0
        tm-1 <- cancel v0[0]#0
        tm-2 <- cancel v0[1]#0 v1[1]#0
    "#]].assert_eq(&failed);
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
    "#]].assert_eq(&stopped);
    let aborted = harness.finalized(1, FinalizationKind::Abort, None);
    expect![[r#"
        propose end Failed
        tm-1 <- release
        tm-2 <- release
        release slots
        ended
    "#]].assert_eq(&aborted);
    assert_eq!(harness.status(), "FAILED");
}

#[test]
fn a_lost_executor_restarts_the_whole_job_after_the_delay_with_new_attempts() {
    let mut harness = Harness::running();
    let failed = harness.fail(0, 0, FailureKind::ExecutorLost);
    expect![[r#"
        propose terminal v0[0]#0
        propose restart: executor lost: broken
        tm-1 <- acknowledge v0[0]#0
        tm-1 <- release
        tm-2 <- release
        release slots
    "#]].assert_eq(&failed);
    assert_eq!(harness.tick_after(Duration::from_millis(100)), "");
    let asked = harness.tick_after(Duration::from_millis(100));
    expect![[r#"
        request 2 slots
    "#]].assert_eq(&asked);
    let granted = harness.grant();
    expect![[r#"
        propose schedule v0[0]#1@tm-1/0 v0[1]#1@tm-2/0 v1[0]#1@tm-1/0 v1[1]#1@tm-2/0
        tm-1 <- deploy v0[0]#1 v1[0]#1
        tm-2 <- deploy v0[1]#1 v1[1]#1
    "#]].assert_eq(&granted);
}

#[test]
fn restarts_are_counted_and_the_last_failure_is_final() {
    let mut harness = Harness::running();
    for _ in 0..3 {
        harness.fail(0, 0, FailureKind::ExecutorLost);
        harness.tick_after(Duration::from_secs(1));
        harness.grant();
    }
    let failed = harness.fail(0, 0, FailureKind::ExecutorLost);
    assert!(failed.contains("propose fail: executor lost: broken (after 3 restarts)"), "{failed}");
}

#[test]
fn a_late_state_of_a_superseded_attempt_changes_nothing() {
    let mut harness = Harness::running();
    harness.fail(0, 0, FailureKind::ExecutorLost);
    harness.tick_after(Duration::from_secs(1));
    harness.grant();
    let late = report(attempt(&harness.spec, 1, 1, 0), ExecutionState::Terminal(finished()));
    harness.check(JobMasterEvent::AttemptChanged { task_manager: host(1), report: late }, expect![[r#"
        tm-2 <- acknowledge v1[1]#0
    "#]]);
}

#[test]
fn a_lost_task_manager_restarts_the_job() {
    let mut harness = Harness::running();
    let lost = JobMasterEvent::TaskManagerLost { task_manager: task_manager(2).id, reason: "gone".into() };
    harness.check(lost, expect![[r#"
        propose restart: task manager lost (vertex v0, sub-task 1): gone
        tm-1 <- release
        release slots
    "#]]);
}

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
    "#]].assert_eq(&adopted);
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
    "#]].assert_eq(&again);
    assert_eq!(harness.status(), "RUNNING");
}

#[test]
fn another_incarnation_at_the_same_place_has_lost_what_was_scheduled() {
    let mut harness = Harness::inherit(Harness::running_job());
    let reports = harness.running_reports(0);
    harness.register(1, reports);
    let restarted = harness.register(12, vec![]);
    expect![[r#"
        propose restart: task manager lost (vertex v0, sub-task 1): task manager tm-2 was restarted
        tm-1 <- release
        release slots
        propose takeover adopted=0 restarted=4
    "#]].assert_eq(&restarted);
}

#[test]
fn a_task_manager_that_stays_silent_is_given_up_after_the_reconcile_timeout() {
    let mut harness = Harness::inherit(Harness::running_job());
    let reports = harness.running_reports(0);
    harness.register(1, reports);
    assert_eq!(harness.tick_after(Duration::from_secs(9)), "");
    let given_up = harness.tick_after(Duration::from_secs(1));
    expect![[r#"
        propose restart: task manager lost (vertex v0, sub-task 1): task manager tm-2 did not report to the new leader
        tm-1 <- release
        release slots
        propose takeover adopted=0 restarted=4
    "#]].assert_eq(&given_up);
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
    "#]].assert_eq(&recorded);
}

#[test]
fn a_commit_is_repeated_elsewhere_when_its_task_manager_is_lost() {
    let mut harness = Harness::running();
    for (vertex, subtask) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        harness.change(vertex, subtask, ExecutionState::Terminal(finished()));
    }
    let lost = JobMasterEvent::TaskManagerLost { task_manager: task_manager(1).id, reason: "gone".into() };
    harness.check(lost, expect![[r#"
        tm-2 <- commit #0
    "#]]);
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
    "#]].assert_eq(&failed);
}

#[test]
fn a_new_leader_repeats_the_commit() {
    let mut job = Harness::running_job();
    let ended = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(v, s)| (attempt(&job.spec, v, s, 0), finished())).into();
    job.apply(&CommandBody::RecordTerminal { job: job.spec.id, ended }, Timestamp(3));
    job.apply(&CommandBody::StartCommitting { job: job.spec.id }, Timestamp(3));
    let mut harness = Harness::inherit(job);
    let repeated = harness.register(2, vec![]);
    expect![[r#"
        tm-2 <- commit #0
    "#]].assert_eq(&repeated);
}

#[test]
fn a_cancelled_job_stops_its_tasks_first() {
    let mut harness = Harness::running();
    let body = CommandBody::CancelJob { job: harness.spec.id };
    let cancel = JobMasterEvent::Applied { body, stamp: Timestamp(9), response: Response::Done };
    harness.check(cancel, expect![[r#"
        tm-1 <- cancel v0[0]#0 v1[0]#0
        tm-2 <- cancel v0[1]#0 v1[1]#0
    "#]]);
    assert_eq!(harness.tick_after(Duration::from_secs(60)), "");
    assert_eq!(harness.status(), "CANCELLING");
}

#[test]
fn a_job_cancelled_before_it_had_slots_ends_at_once() {
    let mut harness = Harness::new();
    harness.step(JobMasterEvent::Started);
    let body = CommandBody::CancelJob { job: harness.spec.id };
    let cancel = JobMasterEvent::Applied { body, stamp: Timestamp(9), response: Response::Done };
    harness.check(cancel, expect![[r#"
        propose end Canceled
        release slots
        ended
    "#]]);
    assert_eq!(harness.status(), "CANCELED");
}

#[test]
fn a_job_cancelled_between_two_schedules_waits_for_nobody() {
    let mut harness = Harness::running();
    harness.fail(0, 0, FailureKind::ExecutorLost);
    let body = CommandBody::CancelJob { job: harness.spec.id };
    let cancel = JobMasterEvent::Applied { body, stamp: Timestamp(9), response: Response::Done };
    harness.check(cancel, expect![[r#"
        tm-1 <- abort
    "#]]);
}

#[test]
fn a_grant_on_a_task_manager_that_has_left_is_given_back() {
    let mut harness = Harness::new();
    harness.step(JobMasterEvent::Started);
    harness.register(1, vec![]);
    assert_eq!(harness.grant(), "request 2 slots\n");
}
