//! The resource manager by whole lists of actions.

use std::time::Duration;

use tidemill_model::execution::{AttemptReport, ExecutionState, TaskManagerLocation};
use tidemill_model::id::JobId;
use tidemill_model::id::LeaderEpoch;
use tidemill_model::job_graph::{SlotRequirements, SlotSharingGroup};
use tidemill_model::slot::{SlotId, SlotOffer};
use tidemill_model::time::Instant;

use super::super::{
    Grant, JobReport, SessionId, SlotRequestId, TaskManagerCommand, TaskManagerHello, TaskManagerMessage,
};
use super::{DetectorSettings, ResourceManager, ResourceManagerAction as Action, ResourceManagerEvent as Event};
use crate::engine::fixture::{attempt, job_id, report, spec, task_manager};

fn at(ms: u64) -> Instant {
    Instant::from_origin(Duration::from_millis(ms))
}

fn manager() -> ResourceManager {
    ResourceManager::new(DetectorSettings::default(), [])
}

fn hello(n: u128, session: u64) -> Event {
    let slots = SlotOffer { count: 2, memory_bytes: 1024 };
    let hello = TaskManagerHello { location: task_manager(n), slots, process_id: 7, fence: LeaderEpoch(0) };
    Event::Hello { session: SessionId(session), hello }
}

fn report_message(attempts: Vec<AttemptReport>, hosted: Vec<JobId>) -> TaskManagerMessage {
    TaskManagerMessage::Report { attempts, executors: vec![], finalized: vec![], hosted, checkpoints: vec![] }
}

fn reported(session: u64, attempts: Vec<AttemptReport>) -> Event {
    let message = report_message(attempts, vec![]);
    Event::Message { session: SessionId(session), message }
}

fn request(job: u64, groups: &[(&str, u32)]) -> Event {
    let group = |&(name, count): &(&str, u32)| (SlotSharingGroup(name.into()), count);
    let requirements = SlotRequirements(groups.iter().map(group).collect());
    Event::SlotsRequested { job: job_id(job), request: SlotRequestId(1), requirements, former: vec![] }
}

fn heartbeat(session: u64) -> Event {
    let message = TaskManagerMessage::Heartbeat { sequence: 1, progress: vec![] };
    Event::Message { session: SessionId(session), message }
}

fn send(session: u64, n: u128, command: TaskManagerCommand) -> Action {
    Action::Send { session: SessionId(session), task_manager: task_manager(n).id, command }
}

fn registered(location: TaskManagerLocation, attempts: Vec<AttemptReport>) -> Action {
    Action::Registered { job: job_id(5), location, report: JobReport { attempts, ..JobReport::default() } }
}

/// Ticks every 100 ms from `from` to `to`; the last list of actions that is not empty.
fn ticks(manager: &mut ResourceManager, from: u64, to: u64) -> Vec<Action> {
    (from..=to)
        .step_by(100)
        .map(|ms| manager.step(at(ms), Event::Tick))
        .filter(|a| !a.is_empty())
        .last()
        .unwrap_or_default()
}

#[test]
fn a_task_manager_is_welcomed_first_and_counts_only_after_its_report() {
    let mut manager = manager();
    manager.step(at(0), Event::JobStarted { job: job_id(5) });
    manager.step(at(0), request(5, &[("default", 1)]));
    assert_eq!(manager.step(at(0), hello(1, 1)), vec![send(1, 1, TaskManagerCommand::Welcome)]);
    let slots = vec![SlotId { task_manager: task_manager(1).id, index: 0 }];
    let locations = [(task_manager(1).id, task_manager(1))].into();
    assert_eq!(
        manager.step(at(1), reported(1, vec![])),
        vec![
            registered(task_manager(1), vec![]),
            Action::Granted { grant: Grant { job: job_id(5), request: SlotRequestId(1), slots }, locations }
        ]
    );
}

/// What is left of a job goes, and what it may have written since.
fn released(n: u128, job: u64) -> Vec<Action> {
    let release = TaskManagerCommand::Release { job: job_id(job) };
    vec![send(1, n, release), Action::Straggled { job: job_id(job) }]
}

#[test]
fn what_belongs_to_no_unfinished_job_is_released() {
    let mut manager = manager();
    manager.step(at(0), hello(1, 1));
    let running = report(attempt(&spec(5), 0, 0, 0), ExecutionState::Running);
    assert_eq!(manager.step(at(1), reported(1, vec![running.clone()])), released(1, 5));
    let late = Event::Message { session: SessionId(1), message: TaskManagerMessage::Attempt(running) };
    assert_eq!(manager.step(at(2), late), released(1, 5));
}

#[test]
fn the_folder_of_a_job_whose_release_was_lost_is_released_at_the_next_report() {
    let mut manager = manager();
    manager.step(at(0), hello(1, 1));
    let message = report_message(vec![], vec![job_id(5)]);
    let report = Event::Message { session: SessionId(1), message };
    assert_eq!(manager.step(at(1), report), released(1, 5));
}

#[test]
fn a_report_that_crosses_the_end_of_the_job_s_master_is_answered_by_a_release() {
    let mut manager = manager();
    manager.step(at(0), Event::JobStarted { job: job_id(5) });
    manager.step(at(0), hello(1, 1));
    manager.step(at(0), hello(2, 2));
    let hosts = Event::Message { session: SessionId(1), message: report_message(vec![], vec![job_id(5)]) };
    assert_eq!(manager.step(at(1), hosts), vec![registered(task_manager(1), vec![])]);
    assert_eq!(manager.step(at(1), reported(2, vec![])), vec![registered(task_manager(2), vec![])]);
    // The master has decided to go, and hears of no report any more.
    assert_eq!(manager.step(at(2), Event::JobEnded { job: job_id(5) }), released(1, 5));
}

#[test]
fn draining_is_told_to_every_job_and_to_each_that_starts_later() {
    let mut manager = manager().with_draining([task_manager(9).id]);
    let changed = |job: u64, n: u128, draining| Action::DrainingChanged {
        job: job_id(job),
        task_manager: task_manager(n).id,
        draining,
    };
    assert_eq!(manager.step(at(0), Event::JobStarted { job: job_id(5) }), vec![changed(5, 9, true)]);
    let set = |n, draining| Event::DrainingSet { task_manager: task_manager(n).id, draining };
    assert_eq!(manager.step(at(0), set(1, true)), vec![changed(5, 1, true)]);
    assert_eq!(manager.step(at(0), set(1, true)), vec![], "it is known");
    assert_eq!(manager.step(at(0), set(9, false)), vec![changed(5, 9, false)]);
    assert_eq!(manager.step(at(0), Event::JobStarted { job: job_id(6) }), vec![changed(6, 1, true)]);
}

#[test]
fn a_waiting_job_is_told_who_drains() {
    let mut manager = manager();
    manager.step(at(0), Event::JobStarted { job: job_id(5) });
    manager.step(at(0), hello(1, 1));
    manager.step(at(0), reported(1, vec![]));
    manager.step(at(0), Event::DrainingSet { task_manager: task_manager(1).id, draining: true });
    assert_eq!(manager.step(at(0), request(5, &[("default", 1)])), vec![]);
    let reason = &manager.waiting()[&job_id(5)];
    assert!(reason.ends_with("; task manager tm-1 is draining and gives none"), "{reason}");
    let observed = manager.observe(at(0)).remove(0);
    assert!(observed.draining && observed.free_slots == 2 && observed.jobs.is_empty());
    let granted = manager.step(at(0), Event::DrainingSet { task_manager: task_manager(1).id, draining: false });
    assert_eq!(granted.len(), 2, "the news, and a slot: {granted:?}");
}

#[test]
fn a_new_session_of_the_same_incarnation_supersedes_the_old_one() {
    let mut manager = manager();
    manager.step(at(0), hello(1, 1));
    manager.step(at(0), reported(1, vec![]));
    let closed = Action::Close { session: SessionId(1) };
    assert_eq!(manager.step(at(1), hello(1, 2)), vec![closed, send(2, 1, TaskManagerCommand::Welcome)]);
    assert_eq!(manager.step(at(2), Event::SessionClosed { session: SessionId(1) }), vec![]);
    assert_eq!(manager.step(at(2), heartbeat(1)), vec![]);
}

#[test]
fn another_incarnation_at_the_same_place_means_the_former_is_lost_at_once() {
    let mut manager = manager();
    manager.step(at(0), hello(1, 1));
    manager.step(at(0), reported(1, vec![]));
    assert_eq!(
        manager.step(at(1), hello(11, 2)),
        vec![
            Action::Close { session: SessionId(1) },
            Action::Lost {
                task_manager: task_manager(1).id,
                reason: "task manager tm-1 is lost: another incarnation of it has started".into()
            },
            send(2, 11, TaskManagerCommand::Welcome)
        ]
    );
}

#[test]
fn a_broken_stream_is_loss_after_the_grace_only_if_the_port_refuses() {
    let mut manager = manager();
    manager.step(at(0), hello(1, 1));
    manager.step(at(0), reported(1, vec![]));
    ticks(&mut manager, 0, 100);
    assert_eq!(manager.step(at(100), Event::SessionClosed { session: SessionId(1) }), vec![]);
    let id = task_manager(1).id;
    let probe = Action::ProbePort { task_manager: id, data_address: task_manager(1).data_address };
    assert_eq!(ticks(&mut manager, 200, 300), vec![]);
    assert_eq!(ticks(&mut manager, 400, 600), vec![probe.clone()]);
    assert_eq!(manager.step(at(700), Event::PortProbed { task_manager: id, refused: false }), vec![]);
    assert_eq!(ticks(&mut manager, 700, 700), vec![probe]);
    let lost = manager.step(at(800), Event::PortProbed { task_manager: id, refused: true });
    assert!(matches!(&lost[..], [Action::Lost { task_manager, .. }] if *task_manager == id), "{lost:?}");
}

#[test]
fn silence_is_loss_after_the_timeout_and_heartbeats_prevent_it() {
    let mut manager = manager();
    manager.step(at(0), hello(1, 1));
    manager.step(at(0), reported(1, vec![]));
    assert_eq!(ticks(&mut manager, 0, 2000), vec![]);
    assert_eq!(
        manager.step(at(2000), heartbeat(1)),
        vec![send(1, 1, TaskManagerCommand::HeartbeatAnswer { sequence: 1 })]
    );
    assert_eq!(ticks(&mut manager, 2100, 5000), vec![]);
    let lost = ticks(&mut manager, 5100, 5100);
    assert!(matches!(&lost[..], [Action::Close { .. }, Action::Lost { .. }]), "{lost:?}");
}

#[test]
fn a_gap_in_the_detectors_own_ticks_grants_everyone_a_full_timeout() {
    let mut manager = manager();
    manager.step(at(0), hello(1, 1));
    manager.step(at(0), reported(1, vec![]));
    ticks(&mut manager, 0, 500);
    assert_eq!(manager.step(at(60_000), Event::Tick), vec![]);
    assert_eq!(ticks(&mut manager, 60_100, 63_000), vec![]);
    assert_ne!(ticks(&mut manager, 63_100, 63_100), vec![]);
}

#[test]
fn slots_of_inherited_jobs_are_not_given_away_after_a_takeover() {
    let slot = |index| SlotId { task_manager: task_manager(1).id, index };
    let mut manager = ResourceManager::new(DetectorSettings::default(), [(slot(0), job_id(5))]);
    manager.step(at(0), Event::JobStarted { job: job_id(5) });
    manager.step(at(0), Event::JobStarted { job: job_id(6) });
    manager.step(at(0), request(6, &[("default", 2)]));
    manager.step(at(0), hello(1, 1));
    let actions = manager.step(at(0), reported(1, vec![]));
    assert!(!actions.iter().any(|action| matches!(action, Action::Granted { .. })), "{actions:?}");
    let actions = manager.step(at(1), Event::JobEnded { job: job_id(5) });
    assert!(
        matches!(&actions[..], [Action::Granted { grant, .. }] if grant.slots == [slot(0), slot(1)]),
        "{actions:?}"
    );
}

#[test]
fn the_restarted_master_of_a_job_learns_what_runs_from_fresh_reports_only() {
    let mut manager = manager();
    manager.step(at(0), Event::JobStarted { job: job_id(5) });
    manager.step(at(0), hello(1, 1));
    let running = report(attempt(&spec(5), 0, 0, 0), ExecutionState::Running);
    manager.step(at(0), reported(1, vec![running.clone()]));
    let again = manager.step(at(1), Event::JobStarted { job: job_id(5) });
    let none = Action::SlotsHeld { job: job_id(5), slots: [].into(), last_request: SlotRequestId(0) };
    assert_eq!(again, vec![none, Action::Close { session: SessionId(1) }]);
    manager.step(at(2), hello(1, 2));
    assert_eq!(
        manager.step(at(3), reported(2, vec![running.clone()])),
        vec![registered(task_manager(1), vec![running])]
    );
}

#[test]
fn slots_of_a_broken_stream_are_granted_after_the_next_report_and_what_is_held_stays_held() {
    let slot = |index| SlotId { task_manager: task_manager(1).id, index };
    let mut manager = ResourceManager::new(DetectorSettings::default(), [(slot(0), job_id(6))]);
    manager.step(at(0), hello(1, 1));
    manager.step(at(0), reported(1, vec![]));
    manager.step(at(1), Event::SessionClosed { session: SessionId(1) });
    manager.step(at(1), Event::JobStarted { job: job_id(5) });
    assert_eq!(manager.step(at(1), request(5, &[("default", 1)])), vec![]);
    manager.step(at(2), hello(1, 2));
    let actions = manager.step(at(3), reported(2, vec![]));
    assert!(
        matches!(&actions[..], [Action::Registered { .. }, Action::Granted { grant, .. }] if grant.slots == [slot(1)]),
        "{actions:?}"
    );
}

#[test]
fn a_job_whose_groups_need_more_slots_than_there_are_waits_with_the_reason_until_they_are_there() {
    let mut manager = manager();
    manager.step(at(0), Event::JobStarted { job: job_id(5) });
    manager.step(at(0), hello(1, 1));
    manager.step(at(0), reported(1, vec![]));
    assert_eq!(manager.step(at(1), request(5, &[("default", 2), ("wide", 1)])), vec![]);
    let reason = &manager.waiting()[&job_id(5)];
    let expected = r#"needs 3 slots (2 for "default", 1 for "wide"); 2 of 2 are free on 1 task managers: "#;
    assert!(reason.starts_with(expected), "{reason}");
    manager.step(at(2), hello(2, 2));
    let actions = manager.step(at(3), reported(2, vec![]));
    let slot = |n, index| SlotId { task_manager: task_manager(n).id, index };
    let granted = Action::Granted {
        grant: Grant { job: job_id(5), request: SlotRequestId(1), slots: vec![slot(1, 0), slot(2, 0), slot(1, 1)] },
        locations: [1, 2].map(|n| (task_manager(n).id, task_manager(n))).into(),
    };
    assert_eq!(actions, vec![registered(task_manager(2), vec![]), granted]);
    assert!(manager.waiting().is_empty());
}

#[test]
fn the_restarted_master_of_a_job_is_told_which_slots_it_has_and_waits_for_none() {
    let mut manager = manager();
    manager.step(at(0), Event::JobStarted { job: job_id(5) });
    manager.step(at(0), hello(1, 1));
    manager.step(at(0), reported(1, vec![]));
    manager.step(at(0), request(5, &[("default", 1)]));
    let more = SlotRequirements([(SlotSharingGroup("default".into()), 9)].into());
    let job = job_id(5);
    let more = Event::SlotsRequested { job, request: SlotRequestId(2), requirements: more, former: vec![] };
    manager.step(at(0), more);
    assert_eq!(manager.waiting().len(), 1);
    let again = manager.step(at(1), Event::JobStarted { job });
    let slots = [(SlotId { task_manager: task_manager(1).id, index: 0 }, SlotRequestId(1))].into();
    assert_eq!(again[0], Action::SlotsHeld { job, slots, last_request: SlotRequestId(2) });
    assert_eq!(manager.waiting().len(), 0);
}
