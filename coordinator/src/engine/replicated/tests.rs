//! The rules of apply, each by the entries that would break it.

use std::collections::BTreeSet;
use std::time::Duration;

use expect_test::expect;
use tidemill_model::execution::{FailureKind, TerminalState};
use tidemill_model::id::{BlobId, CheckpointId, ExecutionVertexId, LeaderEpoch, NodeId, TaskManagerId};
use tidemill_model::job::{JobSpec, JobStatus, Program};
use tidemill_model::time::Timestamp;
use uuid::Uuid;

use super::{ClusterState, Command, CommandBody, Ending, Response};
use crate::engine::fixture::{attempt, failure, finished, job_id, schedule, spec};
use crate::runtime::codec;

struct Log {
    state: ClusterState,
    index: u64,
}

impl Log {
    /// A state whose leadership began at index 1, in term 1.
    fn led() -> Self {
        let mut log = Self { state: ClusterState::default(), index: 0 };
        assert_eq!(log.lead(1, 1), Response::Started(LeaderEpoch(1)));
        log
    }

    fn lead(&mut self, term: u64, elected: u64) -> Response {
        let body = CommandBody::LeaderStarted { node: NodeId(1), term: elected };
        self.entry(term, Command { epoch: LeaderEpoch(0), stamp: Timestamp(1000), body })
    }

    fn entry(&mut self, term: u64, command: Command) -> Response {
        self.index += 1;
        let response = self.state.apply(self.index, term, &command);
        self.state.check_invariants().expect("invariants hold after each entry");
        response
    }

    fn apply(&mut self, body: CommandBody) -> Response {
        let stamp = Timestamp(1000 + self.index);
        self.entry(1, Command { epoch: self.state.epoch, stamp, body })
    }

    fn submit(&mut self, spec: &JobSpec) -> Response {
        self.apply(CommandBody::SubmitJob { spec: Box::new(spec.clone()) })
    }

    fn status(&self, spec: &JobSpec) -> &'static str {
        self.state.jobs[&spec.id].status.name()
    }

    fn run(&mut self, spec: &JobSpec) {
        self.submit(spec);
        let schedule = schedule(spec, 0);
        assert_eq!(self.apply(CommandBody::RecordSchedule { job: spec.id, schedule }), Response::Done);
    }

    fn finish_all(&mut self, spec: &JobSpec) {
        let ended = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(v, s)| (attempt(spec, v, s, 0), finished()));
        assert_eq!(self.apply(CommandBody::RecordTerminal { job: spec.id, ended: ended.into() }), Response::Done);
    }

    fn end(&mut self, spec: &JobSpec, ending: Ending, history_size: u32) -> Response {
        self.apply(CommandBody::EndJob { job: spec.id, ending, history_size })
    }
}

/// The first sub-task of the first vertex.
fn one() -> BTreeSet<ExecutionVertexId> {
    [attempt(&spec(5), 0, 0, 0).vertex].into()
}

#[test]
fn a_command_of_an_older_leadership_is_stale() {
    let mut log = Log::led();
    let old = log.state.epoch;
    assert_eq!(log.lead(2, 2), Response::Started(LeaderEpoch(2)));
    let body = CommandBody::SubmitJob { spec: Box::new(spec(5)) };
    let response = log.entry(2, Command { epoch: old, stamp: Timestamp(1), body });
    assert_eq!(response, Response::Stale { current: LeaderEpoch(2) });
    assert!(log.state.jobs.is_empty());
}

#[test]
fn a_lingering_leader_started_does_not_fence_the_live_leader() {
    let mut log = Log::led();
    log.lead(3, 3);
    assert_eq!(log.lead(3, 2), Response::Lingered);
    assert_eq!(log.state.epoch, LeaderEpoch(2));
}

#[test]
fn the_replicated_clock_never_goes_back() {
    let mut log = Log::led();
    log.submit(&spec(5));
    let before = log.state.now;
    let body = CommandBody::SubmitJob { spec: Box::new(spec(6)) };
    log.entry(1, Command { epoch: log.state.epoch, stamp: Timestamp(1), body });
    assert_eq!(log.state.now, before);
}

#[test]
fn a_repeated_submission_gets_the_first_answer_and_another_content_conflicts() {
    let mut log = Log::led();
    assert_eq!(log.submit(&spec(5)), Response::Submitted { created: true });
    assert_eq!(log.submit(&spec(5)), Response::Submitted { created: false });
    let other = JobSpec { name: "other".into(), ..spec(5) };
    assert_eq!(log.submit(&other), Response::Conflict);
    assert_eq!(log.state.jobs.len(), 1);
}

#[test]
fn a_job_whose_artifact_no_majority_holds_is_refused() {
    let mut log = Log::led();
    let artifact = BlobId([7; 32]);
    let program = tidemill_model::job::ArtifactProgram {
        artifact,
        name: "p".into(),
        args: vec![],
        environment: Default::default(),
        working_directory: "/".into(),
        execute_index: 0,
        earlier_results: vec![],
    };
    let spec = JobSpec { program: Program::Artifact(program), ..spec(5) };
    assert_eq!(log.submit(&spec), Response::BlobMissing(artifact));
    log.apply(CommandBody::RegisterBlob { blob: artifact, size_bytes: 3, holders: [NodeId(1)].into() });
    assert_eq!(log.submit(&spec), Response::Submitted { created: true });
}

#[test]
fn finished_follows_only_committing_and_nothing_follows_finished() {
    let mut log = Log::led();
    let spec = spec(5);
    log.run(&spec);
    let refused = |status: &str| Response::Refused { status: status.into() };
    assert_eq!(log.end(&spec, Ending::Finished, 10), refused("RUNNING"));
    assert_eq!(log.apply(CommandBody::StartCommitting { job: spec.id, checkpoint: None }), refused("RUNNING"));
    log.finish_all(&spec);
    assert_eq!(log.apply(CommandBody::StartCommitting { job: spec.id, checkpoint: None }), Response::Done);
    assert_eq!(log.apply(CommandBody::CancelJob { job: spec.id }), refused("COMMITTING"));
    assert_eq!(log.end(&spec, Ending::Finished, 10), Response::Done);
    let cause = failure(FailureKind::Io);
    for body in [
        CommandBody::CancelJob { job: spec.id },
        CommandBody::FailJob { job: spec.id, cause: cause.clone() },
        CommandBody::FailOver { job: spec.id, failed: one(), cause },
        CommandBody::RecordSchedule { job: spec.id, schedule: schedule(&spec, 1) },
        CommandBody::EndJob { job: spec.id, ending: Ending::Failed, history_size: 10 },
    ] {
        assert_eq!(log.apply(body), refused("FINISHED"));
    }
    let JobStatus::Finished(result) = &log.state.jobs[&spec.id].status else { panic!("it is finished") };
    assert_eq!(result.accumulators["lines"], 8);
    expect![[r#"[("CREATED", 1001), ("RUNNING", 1002), ("COMMITTING", 1006), ("FINISHED", 1008)]"#]].assert_eq(
        &format!("{:?}", log.state.jobs[&spec.id].history.iter().map(|e| (&e.status, e.at.0)).collect::<Vec<_>>()),
    );
}

#[test]
fn terminal_states_of_superseded_attempts_are_dropped_and_known_ones_never_change() {
    let mut log = Log::led();
    let spec = spec(5);
    log.run(&spec);
    let first = attempt(&spec, 0, 0, 0);
    log.apply(CommandBody::RecordTerminal { job: spec.id, ended: vec![(first, finished())] });
    log.apply(CommandBody::RecordTerminal { job: spec.id, ended: vec![(first, TerminalState::Canceled)] });
    assert_eq!(log.state.jobs[&spec.id].terminal[&first.vertex], finished());
    log.apply(CommandBody::FailOver { job: spec.id, failed: one(), cause: failure(FailureKind::ExecutorLost) });
    assert_eq!(log.apply(CommandBody::RecordSchedule { job: spec.id, schedule: schedule(&spec, 1) }), Response::Done);
    log.apply(CommandBody::RecordTerminal { job: spec.id, ended: vec![(first, finished())] });
    assert!(log.state.jobs[&spec.id].terminal.is_empty());
}

#[test]
fn attempt_numbers_are_never_used_twice() {
    let mut log = Log::led();
    let spec = spec(5);
    log.run(&spec);
    log.apply(CommandBody::FailOver { job: spec.id, failed: one(), cause: failure(FailureKind::ExecutorLost) });
    let again = log.apply(CommandBody::RecordSchedule { job: spec.id, schedule: schedule(&spec, 0) });
    assert_eq!(again, Response::Refused { status: "RESTARTING".into() });
    assert_eq!(log.status(&spec), "RESTARTING");
}

#[test]
fn a_relocation_replaces_regions_of_a_running_job_and_counts_for_no_restart_strategy() {
    let mut log = Log::led();
    let spec = spec(5);
    log.run(&spec);
    let relocate = |leaving| CommandBody::Relocate { job: spec.id, leaving, reason: "tm-1 is draining".into() };
    // More often than the strategy lets it fail.
    for attempt in 1..=5 {
        assert_eq!(log.apply(relocate(one())), Response::Done);
        let job = &log.state.jobs[&spec.id];
        assert_eq!((job.status.name(), job.awaiting.len(), job.pause), ("RESTARTING", 4, Duration::ZERO));
        assert_eq!(log.apply(relocate(one())), Response::Refused { status: "RESTARTING".into() });
        let schedule = schedule(&spec, attempt);
        assert_eq!(log.apply(CommandBody::RecordSchedule { job: spec.id, schedule }), Response::Done);
    }
    assert_eq!(log.state.jobs[&spec.id].restarts, 5);
}

#[test]
fn a_task_manager_drains_until_it_is_told_otherwise_and_the_oldest_drains_are_forgotten() {
    let mut log = Log::led();
    let id = |n| TaskManagerId(Uuid::from_u128(n));
    let set = |n, draining| CommandBody::SetDraining { task_manager: id(n), draining };
    for n in [7, 8, 7] {
        assert_eq!(log.apply(set(n, true)), Response::Done);
    }
    let since: Vec<_> = log.state.draining.iter().map(|(&id, &since)| (id, since)).collect();
    assert_eq!(since, [(id(7), Timestamp(1001)), (id(8), Timestamp(1002))], "the repetition changes nothing");
    log.apply(set(8, false));
    log.apply(set(9, false));
    assert!(log.state.draining.keys().eq([&id(7)]));
    for n in 100..1124 {
        log.apply(set(n, true));
    }
    assert_eq!(log.state.draining.len(), 1024);
    assert!(!log.state.draining.contains_key(&id(7)));
}

#[test]
fn a_job_that_has_ended_and_left_files_to_delete_holds_no_slots() {
    let mut log = Log::led();
    let [spec, later] = [5, 6].map(spec);
    log.run(&spec);
    log.apply(CommandBody::CancelJob { job: spec.id });
    log.state.jobs.get_mut(&spec.id).unwrap().checkpoints.garbage.insert("1/0/v0[0]".into(), CheckpointId(1));
    assert_eq!(log.state.scheduled_slots().count(), 4, "it is being cancelled");
    log.end(&spec, Ending::Canceled, 10);
    assert_eq!((log.state.unfinished().count(), log.state.scheduled_slots().count()), (1, 0));
    log.run(&later);
    assert!(log.state.scheduled_slots().all(|(_, holder)| holder == later.id), "they are another's now");
}

#[test]
fn forgotten_jobs_leave_a_horizon_behind_which_ids_are_refused() {
    let mut log = Log::led();
    for ms in [5, 6] {
        let spec = spec(ms);
        log.submit(&spec);
        log.apply(CommandBody::CancelJob { job: spec.id });
        assert_eq!(log.end(&spec, Ending::Canceled, 1), Response::Done);
    }
    assert_eq!(log.state.jobs.keys().copied().collect::<Vec<_>>(), vec![job_id(6)]);
    assert_eq!(log.submit(&spec(5)), Response::Expired);
    assert_eq!(log.submit(&spec(7)), Response::Submitted { created: true });
}

#[test]
fn a_blob_outlives_the_history_while_what_refers_to_it_may_be_on_its_way() {
    let mut log = Log::led();
    let (old, fresh) = (BlobId([1; 32]), BlobId([2; 32]));
    log.apply(CommandBody::RegisterBlob { blob: old, size_bytes: 3, holders: [NodeId(1)].into() });
    log.state.now = Timestamp(700_000);
    log.apply(CommandBody::RegisterBlob { blob: fresh, size_bytes: 3, holders: [NodeId(1)].into() });
    let spec = spec(5);
    log.submit(&spec);
    log.apply(CommandBody::CancelJob { job: spec.id });
    assert_eq!(log.end(&spec, Ending::Canceled, 0), Response::Done);
    assert_eq!(log.state.blobs.keys().copied().collect::<Vec<_>>(), vec![fresh]);
}

#[test]
fn a_takeover_is_recorded_once_per_leadership_and_job() {
    let mut log = Log::led();
    let spec = spec(5);
    log.run(&spec);
    log.apply(CommandBody::RecordTakeover { job: spec.id, adopted: 4, restarted: 0 });
    log.apply(CommandBody::RecordTakeover { job: spec.id, adopted: 0, restarted: 0 });
    assert_eq!(log.state.takeovers.len(), 1);
    assert_eq!(log.state.takeovers[0].adopted, 4);
}

#[test]
fn durable_bytes_of_commands_and_state_never_change() {
    let mut log = Log::led();
    let spec = spec(5);
    log.run(&spec);
    log.finish_all(&spec);
    let command = Command {
        epoch: LeaderEpoch(3),
        stamp: Timestamp(4),
        body: CommandBody::FailOver { job: spec.id, failed: one(), cause: failure(FailureKind::TaskManagerLost) },
    };
    let bytes = codec::encode(&command);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    expect!["0103040610000000000005700080000000000000000100000500000662726f6b656e"].assert_eq(&hex);
    assert_eq!(codec::decode::<Command>("command", &bytes).expect("decodes"), command);
    expect!["52a3ff31a16d197c"].assert_eq(&format!("{:016x}", codec::checksum(&log.state)));
    let state: ClusterState = codec::decode("state", &codec::encode(&log.state)).expect("decodes");
    assert_eq!(state, log.state);
}

#[test]
fn damaged_durable_bytes_are_refused_by_name() {
    let bytes = codec::encode(&Log::led().state);
    let error = |bytes: &[u8]| codec::decode::<ClusterState>("snapshot", bytes).expect_err("damaged").to_string();
    assert!(error(&[]).starts_with("decode snapshot: it is empty"));
    assert!(error(&[9, 0]).contains("format version 9 is newer than 1"));
    assert!(error(&bytes[..bytes.len() - 1]).starts_with("decode snapshot: "));
}
