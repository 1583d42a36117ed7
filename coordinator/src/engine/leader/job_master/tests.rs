//! The job master by whole lists of actions.

mod activity;
mod checkpoints;
mod cleaning;
mod ending;
mod regions;
mod relocation;
mod restarting;
mod scheduling;
mod slot_sharing;
mod stopping;
mod takeover;

use std::time::Duration;

use expect_test::Expect;
use tidemill_model::execution::{ExecutionState, FailureKind, TerminalState};
use tidemill_model::id::TaskManagerId;
use tidemill_model::job::JobSpec;
use tidemill_model::slot::SlotId;
use tidemill_model::time::{Instant, Timestamp};

use super::{JobMaster, JobMasterAction, JobMasterEvent, JobMasterSettings};
use crate::engine::fixture::{attempt, failure, report, schedule, spec, task_manager};
use crate::engine::leader::message::{FinalizationKind, FinalizationReport, JobReport};
use crate::engine::leader::slot_pool::SlotRequestId;
use crate::engine::replicated::{CommandBody, JobState, Response};

const SETTINGS: JobMasterSettings = JobMasterSettings {
    reconcile_timeout: Duration::from_secs(10),
    history_size: 10,
    late_writes: Duration::from_secs(2),
};

/// A master whose proposals are applied at once, unless the test holds them back.
struct Harness {
    spec: JobSpec,
    master: JobMaster,
    now: Duration,
    /// The number of the last request for slots.
    request: SlotRequestId,
}

impl Harness {
    fn new() -> Self {
        Self::inherit(JobState::new(spec(5), Timestamp(1)))
    }

    fn inherit(job: JobState) -> Self {
        let spec = job.spec.clone();
        Self {
            spec,
            master: JobMaster::new(SETTINGS, job, Instant::default()),
            now: Duration::ZERO,
            request: SlotRequestId::default(),
        }
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
        Self::run(spec(5))
    }

    fn run(spec: JobSpec) -> Self {
        let mut harness = Self::inherit(JobState::new(spec, Timestamp(1)));
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
                if !is_note(&action) {
                    lines += &describe(&action);
                    lines.push('\n');
                }
                if let JobMasterAction::RequestSlots { request, .. } = action {
                    self.request = request;
                }
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
        let report = JobReport { attempts, ..JobReport::default() };
        self.step(JobMasterEvent::TaskManagerRegistered { location: task_manager(n), report })
    }

    fn grant(&mut self) -> String {
        self.step(granted_slots(self.request, &[(1, 0), (2, 0)]))
    }

    /// These slots, each of a task manager, as the answer to the last request.
    fn grant_slots(&mut self, slots: &[(u128, u32)]) -> String {
        self.step(granted_slots(self.request, slots))
    }

    /// Slots 0 and 1 of each of task managers 1 and 2, dealt out as the pool does.
    fn grant_four(&mut self) -> String {
        self.step(granted_slots(self.request, &[(1, 0), (2, 0), (1, 1), (2, 1)]))
    }

    /// What the master wants of its slots, with the answer to its proposal held back.
    fn grant_unapplied(&mut self) -> String {
        self.step_unapplied(granted_slots(self.request, &[(1, 0), (2, 0)]))
    }

    /// What the master wants, with the answer to its proposal held back.
    fn step_unapplied(&mut self, event: JobMasterEvent) -> String {
        let actions = self.master.step(Instant::from_origin(self.now), event);
        actions.iter().filter(|action| !is_note(action)).map(|action| describe(action) + "\n").collect()
    }

    fn change(&mut self, vertex: u32, subtask: u32, state: ExecutionState) -> String {
        let current = self.master.job().last_attempt.map_or(0, |attempt| attempt.0);
        let report = report(attempt(&self.spec, vertex, subtask, current), state);
        self.step(JobMasterEvent::AttemptChanged { task_manager: host(subtask), report })
    }

    fn fail(&mut self, vertex: u32, subtask: u32, kind: FailureKind) -> String {
        self.change(vertex, subtask, ExecutionState::Terminal(TerminalState::Failed(failure(kind))))
    }

    /// Every attempt of this number that runs says that it has stopped.
    fn stopped(&mut self, number: u32) -> String {
        let mut lines = String::new();
        for (vertex, subtask) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let state = ExecutionState::Terminal(TerminalState::Canceled);
            let report = report(attempt(&self.spec, vertex, subtask, number), state);
            lines += &self.step(JobMasterEvent::AttemptChanged { task_manager: host(subtask), report });
        }
        lines
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

/// The answer to a request.
fn granted_slots(request: SlotRequestId, slots: &[(u128, u32)]) -> JobMasterEvent {
    let slot = |&(n, index): &(u128, u32)| SlotId { task_manager: task_manager(n).id, index };
    let slots = slots.iter().map(slot).collect();
    let locations = [1, 2, 3].map(|n| (task_manager(n).id, task_manager(n))).into();
    JobMasterEvent::SlotsGranted { request, slots, locations }
}

/// Sub-task i runs on task manager i + 1.
fn host(subtask: u32) -> TaskManagerId {
    task_manager(u128::from(subtask) + 1).id
}

fn name(id: TaskManagerId) -> String {
    format!("tm-{}", id.0.as_u128())
}

/// Notes repeat what other actions say; `checkpoints.rs` looks at them.
fn is_note(action: &JobMasterAction) -> bool {
    matches!(action, JobMasterAction::Note(_))
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
            CommandBody::FailOver { failed, cause, .. } => {
                let failed: Vec<String> = failed.iter().map(ToString::to_string).collect();
                format!("propose failover of {}: {cause}", failed.join(" "))
            }
            CommandBody::Relocate { leaving, reason, .. } => {
                let leaving: Vec<String> = leaving.iter().map(ToString::to_string).collect();
                format!("propose relocation of {}: {reason}", leaving.join(" "))
            }
            CommandBody::ReserveCheckpoints { upto, .. } => format!("propose reserve checkpoints up to {upto}"),
            CommandBody::CompleteCheckpoint { id, .. } => format!("propose complete checkpoint {id}"),
            CommandBody::RecordNotified { checkpoint, .. } => format!("propose notified {checkpoint}"),
            CommandBody::RecordGarbageDeleted { garbage, .. } => format!("propose deleted {garbage}"),
            CommandBody::StartCommitting { checkpoint: Some(id), .. } => format!("propose StartCommitting {id}"),
            CommandBody::FailJob { cause, .. } => format!("propose fail: {cause}"),
            CommandBody::EndJob { ending, .. } => format!("propose end {ending:?}"),
            CommandBody::StartCommitting { checkpoint: None, .. }
            | CommandBody::CancelJob { .. }
            | CommandBody::StopJob { .. }
            | CommandBody::LeaderStarted { .. }
            | CommandBody::RegisterBlob { .. }
            | CommandBody::SubmitJob { .. }
            | CommandBody::SetDraining { .. }
            | CommandBody::RecordStraggler { .. }
            | CommandBody::Chaos(_) => format!("propose {}", body.name()),
        },
        JobMasterAction::RequestSlots { requirements, .. } => format!("request {requirements}"),
        JobMasterAction::ReturnSlots { slots } => {
            let slots: Vec<String> =
                slots.keys().map(|slot| format!("{}/{}", name(slot.task_manager), slot.index)).collect();
            format!("return {}", slots.join(" "))
        }
        JobMasterAction::DeleteFiles(garbage) => format!("delete {garbage}"),
        JobMasterAction::ListFiles => "list files".to_owned(),
        JobMasterAction::Note(note) => format!("note {note:?}"),
        JobMasterAction::ReleaseSlots => "release slots".to_owned(),
        JobMasterAction::Ended => "ended".to_owned(),
        JobMasterAction::Send { task_manager, command } => {
            format!("{} <- {command}", name(*task_manager))
        }
    }
}
