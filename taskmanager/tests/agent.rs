//! A real task manager process against a stand-in coordinator, with a real executor process.

mod data_port;
mod standin;

use std::collections::BTreeMap;
use std::fs;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use standin::{Agent, CLUSTER, Coordinator, Session, command, fake_executor, runs, until, uuid};
use tidemill_proto::pb;
use tidemill_proto::pb::coordinator_message::Message as FromLeader;
use tidemill_proto::pb::execution_state::State;
use tidemill_proto::pb::task_manager_message::Message as ToLeader;

const JOB: u128 = 4;
const EPOCH: u64 = 5;

fn spec(artifact: Bytes, mode: &str) -> pb::JobSpec {
    let operators = vec![pb::OperatorDescriptor { name: "Source".into(), uid: "source".into() }];
    let record_types = vec!["u64".into()];
    let vertices = vec![pb::JobVertex {
        id: 0,
        operators,
        parallelism: 1,
        max_parallelism: 128,
        record_types,
        slot_sharing_group: "default".into(),
        co_location_group: None,
    }];
    let program = pb::ArtifactProgram {
        artifact,
        name: "job".into(),
        args: vec![mode.into()],
        environment: BTreeMap::new(),
        working_directory: "/nowhere".into(),
        execute_index: 0,
        earlier_results: Vec::new(),
    };
    let settings = pb::JobSettings {
        runtime_mode: pb::RuntimeMode::Batch.into(),
        restart: Some(tidemill_model::restart::RestartStrategy::None.into()),
        checkpointing: None,
        executor_memory_bytes: None,
        savepoint: None,
        state_backend: pb::StateBackend::Heap.into(),
        state_slot_memory_bytes: None,
    };
    let graph = Some(pb::JobGraph { vertices, edges: Vec::new() });
    pb::JobSpec { id: uuid(JOB), name: "job".into(), graph, program: Some(program), settings: Some(settings) }
}

fn attempt(number: u32) -> pb::ExecutionAttemptId {
    let vertex = Some(pb::ExecutionVertexId { vertex: 0, subtask: 0 });
    pb::ExecutionAttemptId { job: uuid(JOB), vertex, attempt: number }
}

fn deploy(session: &Session, spec: &pb::JobSpec, number: u32) -> FromLeader {
    let task_manager = session.hello.task_manager_id.clone();
    let slot = Some(pb::SlotId { task_manager: task_manager.clone(), index: 0 });
    let vertex = attempt(number).vertex;
    let (name, data_address) = (session.hello.name.clone(), session.hello.data_address.clone());
    let schedule = pb::Schedule {
        attempts: vec![pb::ScheduledAttempt { vertex, attempt: number, slot }],
        task_managers: vec![pb::TaskManagerLocation { id: task_manager, name, data_address }],
    };
    let deployment =
        pb::JobDeployment { job: uuid(JOB), schedule: Some(schedule), start: vec![attempt(number)], restore: None };
    FromLeader::Deploy(pb::Deploy { spec: Some(spec.clone()), deployment: Some(deployment) })
}

fn release() -> FromLeader {
    FromLeader::Release(pb::ReleaseJob { job: uuid(JOB) })
}

/// Deploys and waits until the task runs; the executor's process.
async fn run(session: &mut Session, spec: &pb::JobSpec, number: u32) -> u32 {
    session.send(EPOCH, deploy(session, spec, number)).await;
    let mut process = None;
    loop {
        match session.next().await.expect("the stream goes on") {
            ToLeader::Executor(executor) => process = Some(executor.process_id),
            ToLeader::Attempt(report) => {
                let state = report.state.and_then(|state| state.state).expect("a state");
                if matches!(state, State::Running(_)) {
                    return process.expect("a process before a running task");
                }
                assert!(matches!(state, State::Deploying(_) | State::Initializing(_)), "{state:?}");
            }
            other @ (ToLeader::Hello(_)
            | ToLeader::Report(_)
            | ToLeader::Heartbeat(_)
            | ToLeader::Finalized(_)
            | ToLeader::Checkpoint(_)) => {
                panic!("expected an attempt or an executor, got {other:?}")
            }
        }
    }
}

/// A leader, a registered task manager, and a job of which it runs the task in this mode.
async fn running(mode: &str) -> (Coordinator, Agent, Session, pb::JobSpec, u32) {
    let mut leader = Coordinator::leader().await;
    let spec = spec(leader.put(fake_executor()), mode);
    let agent = Agent::start(&[&leader.address], &[]);
    let mut session = leader.session().await;
    session.register(EPOCH).await;
    let process = run(&mut session, &spec, 0).await;
    (leader, agent, session, spec, process)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fence_comes_first_and_the_report_second() {
    let mut leader = Coordinator::leader().await;
    let _agent = Agent::start(&[&leader.address], &[]);
    {
        let mut first = leader.session().await;
        assert_eq!((first.hello.fence, first.hello.slots, &first.hello.cluster_id[..]), (0, 2, &[][..]));
        assert_eq!(first.hello.slot_memory_bytes, 256 << 20);
        assert_eq!(first.register(EPOCH).await, pb::Report::default());
    }
    {
        let mut stale = leader.session().await;
        assert_eq!((stale.hello.fence, &stale.hello.cluster_id), (EPOCH, &uuid(CLUSTER)));
        stale.welcome(EPOCH - 1).await;
        assert_eq!(stale.next().await, None, "an older leader gets no report");
    }
    let mut later = leader.session().await;
    later.register(EPOCH + 3).await;
    drop(later);
    assert_eq!(leader.session().await.hello.fence, EPOCH + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_leader_finds_the_executor_as_it_runs_and_older_or_misled_commands_are_refused() {
    let (mut first, _agent, session, _, process) = running("run").await;
    // Commands for another incarnation or from an older epoch end nothing.
    session.send_as(EPOCH + 9, uuid(77), release()).await;
    session.send(EPOCH - 1, release()).await;
    drop(session);
    let mut session = first.session().await;
    let report = session.register(EPOCH + 1).await;
    assert_eq!(report.executors, [pb::ExecutorReport { job: uuid(JOB), process_id: process, attempt: 0 }]);
    assert_eq!(
        report.attempts[0].state.as_ref().and_then(|state| state.state.clone()),
        Some(State::Running(pb::Empty {}))
    );
    assert!(runs(process));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_names_the_leader_is_followed_and_a_dead_coordinator_is_passed_over() {
    let mut leader = Coordinator::leader().await;
    let follower = Coordinator::start(leader.blobs(), Some(leader.address.clone())).await;
    // Bound, so that nobody else is given the port meanwhile, and never listening.
    let reserved = tokio::net::TcpSocket::new_v4().expect("a socket");
    reserved.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let dead = reserved.local_addr().expect("bound").to_string();
    let agent = Agent::start(&[&dead, &follower.address], &[]);
    let mut session = leader.session().await;
    session.register(EPOCH).await;
    let answer = agent.get("/ready");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ready\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_carry_the_progress_of_executors() {
    let (_leader, _agent, mut session, _, _) = running("run").await;
    session.heartbeat(|beat| beat.progress.iter().any(|job| (job.records_in, job.records_out) == (7, 5))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_falls_silent_is_left_and_sought_anew() {
    let mut leader = Coordinator::leader().await;
    let _agent = Agent::start(&[&leader.address], &[]);
    let silent = leader.session().await;
    silent.welcome_with_timeout(EPOCH, 100).await;
    assert_eq!(leader.session().await.hello.fence, EPOCH);
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_larger_than_a_sockets_buffer_reaches_its_executor() {
    let mut leader = Coordinator::leader().await;
    let mut spec = spec(leader.put(fake_executor()), "run");
    let graph = spec.graph.as_mut().expect("a graph");
    graph.vertices[0].operators[0].name = "x".repeat(4 << 20);
    let _agent = Agent::start(&[&leader.address], &[]);
    let mut session = leader.session().await;
    session.register(EPOCH).await;
    run(&mut session, &spec, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_aborts_fails_its_attempt_with_signal_and_last_words() {
    let (_leader, _agent, mut session, _, process) = running("crash").await;
    let State::Failed(failure) = session.state_of(&attempt(0)).await else { panic!("expected a failure") };
    assert_eq!(failure.kind(), pb::FailureKind::ExecutorLost);
    assert_eq!(
        failure.message,
        format!(
            "executor process {process} was killed by signal 6 (SIGABRT); the end of its standard error: \
             the user's code aborts now"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_ends_the_whole_process_group_and_removes_the_jobs_files() {
    let (_leader, agent, session, _, process) = running("family").await;
    let log = agent.job_folder(JOB).join("0/stdout.log");
    let child = until("the executor has named its child", || {
        fs::read_to_string(&log).ok()?.trim().strip_prefix("child ")?.parse::<u32>().ok()
    })
    .await;
    assert!(runs(process) && runs(child));
    session.send(EPOCH, release()).await;
    until("both processes are gone", || (!runs(process) && !runs(child)).then_some(())).await;
    until("the job's folder is gone", || (!agent.job_folder(JOB).exists()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_attempt_number_has_an_executor_of_its_own_and_the_old_one_ends_when_it_is_acknowledged() {
    let (_leader, _agent, mut session, spec, old) = running("run").await;
    let new = run(&mut session, &spec, 1).await;
    assert_ne!(old, new);
    assert!(runs(old) && runs(new));
    session.send(EPOCH, FromLeader::Cancel(pb::CancelTasks { attempts: vec![attempt(0)] })).await;
    while !matches!(session.state_of(&attempt(0)).await, State::Canceled(_)) {}
    assert!(runs(old) && runs(new));
    let acknowledged = pb::AcknowledgeTerminal { attempts: vec![attempt(0)] };
    session.send(EPOCH, FromLeader::Acknowledge(acknowledged)).await;
    until("the old executor is gone", || (!runs(old)).then_some(())).await;
    assert!(runs(new));
}

#[tokio::test(flavor = "multi_thread")]
async fn executors_die_with_a_killed_agent() {
    let (_leader, mut agent, _session, _, process) = running("run").await;
    agent.kill();
    until("the executor is gone", || (!runs(process)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_agent_ends_its_executors_and_exits_well() {
    let (_leader, mut agent, _session, _, process) = running("family").await;
    assert!(agent.terminate().await.success());
    assert!(!runs(process));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_does_not_obey_a_cancel_is_killed() {
    let mut leader = Coordinator::leader().await;
    let spec = spec(leader.put(fake_executor()), "deaf");
    let _agent = Agent::start(&[&leader.address], &["task.cancellation.timeout=1 ms"]);
    let mut session = leader.session().await;
    session.register(EPOCH).await;
    let process = run(&mut session, &spec, 0).await;
    session.send(EPOCH, FromLeader::Cancel(pb::CancelTasks { attempts: vec![attempt(0)] })).await;
    assert_eq!(session.state_of(&attempt(0)).await, State::Canceling(pb::Empty {}));
    assert_eq!(session.state_of(&attempt(0)).await, State::Canceled(pb::Empty {}));
    until("the executor is gone", || (!runs(process)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_hangs_before_its_execute_is_ended_by_a_cancel_and_does_not_hold_up_the_jobs_end() {
    let mut leader = Coordinator::leader().await;
    let spec = spec(leader.put(fake_executor()), "hang");
    let _agent = Agent::start(&[&leader.address], &["task.cancellation.timeout=1 ms"]);
    let mut session = leader.session().await;
    session.register(EPOCH).await;
    session.send(EPOCH, deploy(&session, &spec, 0)).await;
    assert_eq!(session.state_of(&attempt(0)).await, State::Deploying(pb::Empty {}));
    let Some(ToLeader::Executor(hanging)) = session.next().await else { panic!("expected its process") };
    session.send(EPOCH, FromLeader::Cancel(pb::CancelTasks { attempts: vec![attempt(0)] })).await;
    assert_eq!(session.state_of(&attempt(0)).await, State::Canceled(pb::Empty {}));
    until("the executor is gone", || (!runs(hanging.process_id)).then_some(())).await;
    let action = pb::Finalization::Abort.into();
    session
        .send(
            EPOCH,
            FromLeader::Finalize(pb::FinalizeJob { spec: Some(spec), action, attempts: Vec::new(), checkpoint: None }),
        )
        .await;
    let finalized = loop {
        match session.next().await.expect("the stream goes on") {
            ToLeader::Finalized(finalized) => break finalized,
            ToLeader::Executor(_) => {}
            other @ (ToLeader::Hello(_)
            | ToLeader::Report(_)
            | ToLeader::Heartbeat(_)
            | ToLeader::Attempt(_)
            | ToLeader::Checkpoint(_)) => {
                panic!("expected the end of the removal, got {other:?}")
            }
        }
    };
    let failure = finalized.failure.expect("nobody removed anything");
    assert_eq!(failure.kind(), pb::FailureKind::ExecutorLost);
    assert!(failure.message.contains("did not reach execute()"), "{}", failure.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn collected_records_are_at_the_leader_before_the_attempt_is_finished_and_the_job_can_be_finalized() {
    let (leader, _agent, mut session, spec, _) = running("finish").await;
    let State::Finished(finished) = session.state_of(&attempt(0)).await else { panic!("expected its end") };
    let blob = Bytes::copy_from_slice(&Sha256::digest(b"records"));
    assert_eq!(finished.collected, [pb::CollectedPart { collect_index: 0, subtask: 0, blob: blob.clone() }]);
    assert_eq!(leader.blobs().lock().expect("not poisoned").get(&blob).map(|data| &data[..]), Some(&b"records"[..]));
    let action = pb::Finalization::Commit.into();
    session
        .send(
            EPOCH,
            FromLeader::Finalize(pb::FinalizeJob { spec: Some(spec), action, attempts: Vec::new(), checkpoint: None }),
        )
        .await;
    let finalized = pb::JobFinalized { job: uuid(JOB), action, failure: None };
    assert_eq!(session.next().await, Some(ToLeader::Finalized(finalized)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_that_is_no_executable_or_builds_another_graph_fails_the_attempt_clearly() {
    let mut leader = Coordinator::leader().await;
    let script = leader.put(Bytes::from_static(b"#!/bin/sh\nsleep 1000\n"));
    let program = leader.put(fake_executor());
    let _agent = Agent::start(&[&leader.address], &[]);
    let mut session = leader.session().await;
    session.register(EPOCH).await;
    for (number, spec, kind, words) in [
        (0, spec(script, "run"), pb::FailureKind::InvalidArtifact, "it is no Linux executable (ELF)"),
        (1, spec(program, "mismatch"), pb::FailureKind::GraphMismatch, "was submitted"),
    ] {
        session.send(EPOCH, deploy(&session, &spec, number)).await;
        assert_eq!(session.state_of(&attempt(number)).await, State::Deploying(pb::Empty {}));
        let State::Failed(failure) = session.state_of(&attempt(number)).await else { panic!("expected a failure") };
        assert_eq!(failure.kind(), kind);
        assert!(failure.message.contains(words), "{}", failure.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_one_directory_and_an_exposed_port_are_refused_with_a_reason() {
    let leader = Coordinator::leader().await;
    let agent = Agent::start(&[&leader.address], &[]);
    let failure = |arguments: &[&str]| {
        let mut command = command(&agent.directory, &[&leader.address]);
        let output = command.args(arguments).output().expect("it starts");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = failure(&[]);
    assert!(text.contains("another process uses it") && text.contains("taskmanager.dir"), "{text}");
    let text = failure(&["-D", "taskmanager.bind-host=0.0.0.0"]);
    assert!(text.contains("run native code here") && text.contains("--insecure"), "{text}");
}
