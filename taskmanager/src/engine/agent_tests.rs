//! The agent, event by event, with the whole list of actions each time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use tidemill_model::execution::{
    AttemptReport, CollectedPart, ExecutionState, Failure, FailureKind, Finalization, JobDeployment, Schedule,
    ScheduledAttempt, TaskManagerLocation, TerminalState,
};
use tidemill_model::id::{
    AttemptNumber, BlobId, ClusterId, ExecutionAttemptId, ExecutionVertexId, JobId, JobVertexId, LeaderEpoch,
    SubtaskIndex, TaskManagerId, TaskManagerName,
};
use tidemill_model::job::{ArtifactProgram, JobSettings, JobSpec, Program};
use tidemill_model::job_graph::{Fingerprint, JobGraph, JobVertex, OperatorDescriptor};
use tidemill_model::slot::{SlotId, SlotOffer};
use tidemill_model::time::Instant;
use uuid::Uuid;

use super::*;

const HERE: TaskManagerId = TaskManagerId(Uuid::from_u128(1));
const ELSEWHERE: TaskManagerId = TaskManagerId(Uuid::from_u128(2));
const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(3));
const JOB: JobId = JobId(Uuid::from_u128(4));
const ARTIFACT: BlobId = BlobId([0xab; 32]);
const ONE: ExecutorId = ExecutorId(1);
const TWO: ExecutorId = ExecutorId(2);

fn vertex(subtask: u32) -> ExecutionVertexId {
    ExecutionVertexId { vertex: JobVertexId(0), subtask: SubtaskIndex(subtask) }
}

fn id(subtask: u32, attempt: u32) -> ExecutionAttemptId {
    ExecutionAttemptId { job: JOB, vertex: vertex(subtask), attempt: AttemptNumber(attempt) }
}

fn spec() -> JobSpec {
    let operators = vec![OperatorDescriptor { name: "Source".into(), uid: "source".into() }];
    let record_types = vec!["u64".into()];
    let id = JobVertexId(0);
    let vertices = vec![JobVertex { id, operators, parallelism: 2, max_parallelism: 128, record_types }];
    let program = ArtifactProgram {
        artifact: ARTIFACT,
        name: "job".into(),
        args: Vec::new(),
        environment: BTreeMap::new(),
        working_directory: "/".into(),
        execute_index: 0,
        earlier_results: Vec::new(),
    };
    JobSpec {
        id: JOB,
        name: "job".into(),
        graph: JobGraph { vertices, edges: Vec::new() },
        program: Program::Artifact(program),
        settings: JobSettings::default(),
    }
}

fn deployment(attempt: u32, subtasks: &[u32]) -> JobDeployment {
    let scheduled = |index: u32| {
        let slot = SlotId { task_manager: HERE, index };
        (vertex(index), ScheduledAttempt { attempt: AttemptNumber(attempt), slot })
    };
    let location =
        TaskManagerLocation { id: HERE, name: TaskManagerName("tm".into()), data_address: "127.0.0.1:1".into() };
    let schedule =
        Schedule { attempts: (0..2).map(scheduled).collect(), task_managers: BTreeMap::from([(HERE, location)]) };
    JobDeployment { job: JOB, schedule, start: subtasks.iter().map(|&subtask| id(subtask, attempt)).collect() }
}

/// An agent with a clock that a test moves by hand.
struct Bench {
    agent: Agent,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let settings = Settings {
            task_manager: HERE,
            offer: SlotOffer { count: 4, memory_bytes: 100 },
            orphan_timeout: Duration::from_secs(600),
            cancellation_timeout: Duration::from_secs(30),
        };
        let now = Instant::default();
        Self { agent: Agent::new(settings, now), now }
    }

    /// Registered at the leader of epoch 5.
    fn registered() -> Self {
        let mut bench = Self::new();
        bench.step(Event::Welcomed { epoch: LeaderEpoch(5), task_manager: HERE, cluster: CLUSTER });
        bench
    }

    /// Runs both sub-tasks of attempt 0.
    fn running() -> Self {
        let mut bench = Self::registered();
        bench.deploy(0, &[0, 1]);
        bench.bring_up(ONE);
        for subtask in 0..2 {
            bench.change(ONE, subtask, 0, ExecutionState::Running);
        }
        bench
    }

    fn bring_up(&mut self, executor: ExecutorId) -> String {
        let mut text = self.step(Event::ArtifactReady { artifact: ARTIFACT });
        let process_id = 100 + u32::try_from(executor.0).expect("small");
        text += &self.step(Event::ExecutorStarted { executor, process_id });
        text + &self.step(Event::ExecutorReady { executor, fingerprint: spec().fingerprint() })
    }

    fn step(&mut self, event: Event) -> String {
        self.agent.step(self.now, event).iter().map(|action| format!("{action}\n")).collect()
    }

    fn directed(&mut self, directive: Directive) -> String {
        self.step(Event::Directed { epoch: LeaderEpoch(5), task_manager: HERE, directive })
    }

    fn deploy(&mut self, attempt: u32, subtasks: &[u32]) -> String {
        let deployment = deployment(attempt, subtasks);
        self.directed(Directive::Deploy { spec: Box::new(spec()), deployment })
    }

    fn cancel(&mut self, attempt: u32) -> String {
        self.directed(Directive::Cancel { attempts: vec![id(0, attempt), id(1, attempt)] })
    }

    fn finalize(&mut self, finalization: Finalization) -> String {
        self.directed(Directive::Finalize { spec: Box::new(spec()), finalization })
    }

    fn release(&mut self) -> String {
        self.directed(Directive::Release { job: JOB })
    }

    fn change(&mut self, executor: ExecutorId, subtask: u32, attempt: u32, state: ExecutionState) -> String {
        self.change_with(executor, subtask, attempt, state, Vec::new())
    }

    fn change_with(
        &mut self,
        executor: ExecutorId,
        subtask: u32,
        attempt: u32,
        state: ExecutionState,
        collected: Vec<Collected>,
    ) -> String {
        let report = AttemptReport { attempt: id(subtask, attempt), state };
        self.step(Event::AttemptChanged { executor, change: AttemptChange { report, collected } })
    }

    fn exit(&mut self, executor: ExecutorId, status: ExitStatus) -> String {
        self.step(Event::ExecutorExited { executor, status, last_words: String::new() })
    }

    fn reconnect(&mut self, epoch: u64) -> String {
        let mut text = self.step(Event::SessionLost);
        text += &self.step(Event::Welcomed { epoch: LeaderEpoch(epoch), task_manager: HERE, cluster: CLUSTER });
        text
    }
}

fn finished() -> ExecutionState {
    ExecutionState::Terminal(TerminalState::Finished { accumulators: BTreeMap::new(), collected: Vec::new() })
}

fn check(actual: String, expected: Expect) {
    expected.assert_eq(&actual);
}

#[test]
fn a_deployment_starts_an_executor_and_hands_it_the_attempts_when_it_has_proved_its_graph() {
    let mut bench = Bench::registered();
    check(
        bench.deploy(0, &[0, 1]),
        expect![[r#"
            tell leader: v0[0]#0 DEPLOYING
            tell leader: v0[1]#0 DEPLOYING
            fetch artifact abababab
        "#]],
    );
    check(
        bench.bring_up(ONE),
        expect![[r#"
            start executor-1 attempt=0 memory=200
            tell leader: executor process 101
            tell executor-1: deploy v0[0]#0 v0[1]#0
        "#]],
    );
    check(bench.change(ONE, 0, 0, ExecutionState::Initializing), expect!["tell leader: v0[0]#0 INITIALIZING\n"]);
    check(bench.change(ONE, 0, 0, ExecutionState::Running), expect!["tell leader: v0[0]#0 RUNNING\n"]);
    check(bench.change(ONE, 0, 0, finished()), expect!["tell leader: v0[0]#0 FINISHED accumulators=0 collected=0\n"]);
    assert_eq!(bench.agent.slots_used(), 1);
}

#[test]
fn a_repeated_deployment_starts_nothing_and_reports_again() {
    let mut bench = Bench::running();
    check(
        bench.deploy(0, &[0, 1]),
        expect![[r#"
            tell leader: v0[0]#0 RUNNING
            tell leader: v0[1]#0 RUNNING
        "#]],
    );
}

#[test]
fn an_attempt_that_arrives_later_joins_the_running_executor() {
    let mut bench = Bench::registered();
    bench.deploy(0, &[0]);
    bench.bring_up(ONE);
    check(
        bench.deploy(0, &[1]),
        expect![[r#"
            tell leader: v0[1]#0 DEPLOYING
            tell executor-1: deploy v0[1]#0
        "#]],
    );
}

#[test]
fn a_higher_attempt_number_kills_the_old_executor_first_and_drops_its_attempts() {
    let mut bench = Bench::running();
    check(
        bench.deploy(1, &[0, 1]),
        expect![[r#"
            kill executor-1
            tell leader: v0[0]#1 DEPLOYING
            tell leader: v0[1]#1 DEPLOYING
            fetch artifact abababab
        "#]],
    );
    check(bench.exit(ONE, ExitStatus::Signal(9)), expect![""]);
    check(bench.change(ONE, 0, 0, ExecutionState::Running), expect![""]);
    check(
        bench.bring_up(TWO),
        expect![[r#"
            start executor-2 attempt=1 memory=200
            tell leader: executor process 102
            tell executor-2: deploy v0[0]#1 v0[1]#1
        "#]],
    );
}

#[test]
fn a_lower_attempt_number_is_refused() {
    let mut bench = Bench::registered();
    bench.deploy(3, &[0, 1]);
    check(
        bench.deploy(2, &[0, 1]),
        expect!["refuse: deploy attempt 2 of job 00000000000000000000000000000004: superseded by attempt 3\n"],
    );
}

#[test]
fn a_deployment_without_a_slot_here_is_refused() {
    let mut bench = Bench::registered();
    let mut deployment = deployment(0, &[0]);
    deployment.schedule.attempts.get_mut(&vertex(0)).expect("scheduled").slot.task_manager = ELSEWHERE;
    let text = bench.directed(Directive::Deploy { spec: Box::new(spec()), deployment });
    assert!(text.starts_with("refuse: deploy job") && text.contains("has no slot here"), "{text}");
}

#[test]
fn the_fence_rises_before_the_report_and_older_leaders_are_refused_from_then_on() {
    let mut bench = Bench::running();
    check(
        bench.reconnect(9),
        expect![[r#"
            tell leader: report attempts=["v0[0]#0 RUNNING", "v0[1]#0 RUNNING"] executors=[101] finalized=[]
        "#]],
    );
    assert_eq!(bench.agent.fence(), LeaderEpoch(9));
    check(bench.cancel(0), expect!["refuse: a command of leader epoch 5, epoch 9 has begun\n"]);
    check(bench.reconnect(8), expect!["drop session: the leader has epoch 8, epoch 9 has begun\n"]);
    assert!(!bench.agent.connected());
}

#[test]
fn what_happens_without_a_leader_is_in_the_next_report() {
    let mut bench = Bench::running();
    check(bench.step(Event::SessionLost), expect![""]);
    check(bench.change(ONE, 0, 0, finished()), expect![""]);
    check(
        bench.reconnect(6),
        expect![[r#"
            tell leader: report attempts=["v0[0]#0 FINISHED accumulators=0 collected=0", "v0[1]#0 RUNNING"] executors=[101] finalized=[]
        "#]],
    );
    let attempts = vec![id(0, 0)];
    let directive = Directive::Acknowledge { attempts };
    check(bench.step(Event::Directed { epoch: LeaderEpoch(6), task_manager: HERE, directive }), expect![""]);
    check(
        bench.reconnect(6),
        expect![[r#"
            tell leader: report attempts=["v0[1]#0 RUNNING"] executors=[101] finalized=[]
        "#]],
    );
}

#[test]
fn an_acknowledged_attempt_is_not_run_again() {
    let mut bench = Bench::running();
    bench.change(ONE, 0, 0, finished());
    bench.directed(Directive::Acknowledge { attempts: vec![id(0, 0)] });
    check(bench.deploy(0, &[0]), expect![""]);
}

#[test]
fn a_running_attempt_is_not_forgotten_by_an_acknowledgement() {
    let mut bench = Bench::running();
    bench.directed(Directive::Acknowledge { attempts: vec![id(0, 0)] });
    assert_eq!(bench.agent.report().attempts.len(), 2);
}

#[test]
fn a_message_for_another_incarnation_is_refused() {
    let mut bench = Bench::registered();
    let directive = Directive::Release { job: JOB };
    let text = bench.step(Event::Directed { epoch: LeaderEpoch(7), task_manager: ELSEWHERE, directive });
    assert!(text.starts_with("refuse: a command for task manager"), "{text}");
    assert_eq!(bench.agent.fence(), LeaderEpoch(5), "another incarnation's epoch moves no fence");
    let text = bench.step(Event::Welcomed { epoch: LeaderEpoch(7), task_manager: ELSEWHERE, cluster: CLUSTER });
    assert!(text.starts_with("drop session: a welcome for task manager"), "{text}");
}

#[test]
fn a_leader_of_another_cluster_is_left() {
    let mut bench = Bench::registered();
    let cluster = ClusterId(Uuid::from_u128(99));
    let text = bench.step(Event::Welcomed { epoch: LeaderEpoch(50), task_manager: HERE, cluster });
    assert!(text.starts_with("drop session: this task manager belongs to cluster"), "{text}");
    assert_eq!(bench.agent.fence(), LeaderEpoch(5));
}

#[test]
fn an_executor_that_dies_fails_its_live_attempts_in_words() {
    let mut bench = Bench::running();
    bench.change(ONE, 0, 0, finished());
    let last_words = "thread main overflowed its stack".to_owned();
    check(
        bench.step(Event::ExecutorExited { executor: ONE, status: ExitStatus::Signal(9), last_words }),
        expect![[r#"
            tell leader: v0[1]#0 FAILED (executor lost: executor process 101 was killed by signal 9 (SIGKILL); the end of its standard error: thread main overflowed its stack)
        "#]],
    );
    assert!(bench.agent.is_idle());
}

#[test]
fn another_graph_fails_the_attempts_and_ends_the_executor() {
    let mut bench = Bench::registered();
    bench.deploy(0, &[0]);
    bench.step(Event::ArtifactReady { artifact: ARTIFACT });
    bench.step(Event::ExecutorStarted { executor: ONE, process_id: 1 });
    let text = bench.step(Event::ExecutorReady { executor: ONE, fingerprint: Fingerprint([0; 32]) });
    assert!(text.starts_with("tell leader: v0[0]#0 FAILED (graph mismatch: the program built graph"), "{text}");
    assert!(text.ends_with("kill executor-1\n"), "{text}");
}

#[test]
fn a_program_that_refuses_to_be_an_executor_fails_the_attempts() {
    let mut bench = Bench::registered();
    bench.deploy(0, &[0]);
    bench.step(Event::ArtifactReady { artifact: ARTIFACT });
    bench.step(Event::ExecutorStarted { executor: ONE, process_id: 1 });
    let message = "the program ended before its first execute()".to_owned();
    let failure = Failure { kind: FailureKind::GraphMismatch, vertex: None, operator: None, message };
    check(
        bench.step(Event::ExecutorRefused { executor: ONE, failure }),
        expect![[r#"
            tell leader: v0[0]#0 FAILED (graph mismatch: the program ended before its first execute())
            kill executor-1
        "#]],
    );
}

#[test]
fn a_bad_artifact_fails_every_waiting_attempt_and_can_be_fetched_again() {
    let mut bench = Bench::registered();
    bench.deploy(0, &[0]);
    let message = "it is no Linux executable".to_owned();
    let failure = Failure { kind: FailureKind::InvalidArtifact, vertex: None, operator: None, message };
    check(
        bench.step(Event::ArtifactFailed { artifact: ARTIFACT, failure }),
        expect!["tell leader: v0[0]#0 FAILED (invalid artifact: it is no Linux executable)\n"],
    );
    check(
        bench.deploy(1, &[0]),
        expect![[r#"
            tell leader: v0[0]#1 DEPLOYING
            fetch artifact abababab
        "#]],
    );
}

#[test]
fn a_ready_executor_is_told_to_cancel_and_killed_when_it_does_not() {
    let mut bench = Bench::running();
    check(
        bench.cancel(0),
        expect![[r#"
            tell leader: v0[0]#0 CANCELING
            tell leader: v0[1]#0 CANCELING
            tell executor-1: cancel v0[0]#0 v0[1]#0
        "#]],
    );
    let canceled = ExecutionState::Terminal(TerminalState::Canceled);
    check(bench.change(ONE, 0, 0, canceled), expect!["tell leader: v0[0]#0 CANCELED\n"]);
    bench.now = bench.now + Duration::from_secs(29);
    check(bench.step(Event::Tick), expect![""]);
    bench.cancel(0);
    bench.now = bench.now + Duration::from_secs(1);
    check(
        bench.step(Event::Tick),
        expect![[r#"
            tell leader: v0[1]#0 CANCELED
            kill executor-1
        "#]],
    );
}

#[test]
fn an_executor_that_is_not_ready_is_killed_by_a_cancel() {
    let mut bench = Bench::registered();
    bench.deploy(0, &[0, 1]);
    bench.step(Event::ArtifactReady { artifact: ARTIFACT });
    check(
        bench.cancel(0),
        expect![[r#"
            tell leader: v0[0]#0 CANCELED
            tell leader: v0[1]#0 CANCELED
            kill executor-1
        "#]],
    );
    check(bench.step(Event::ExecutorStarted { executor: ONE, process_id: 7 }), expect![""]);
    assert!(!bench.agent.is_idle());
    bench.exit(ONE, ExitStatus::Signal(9));
    assert!(bench.agent.is_idle());
}

#[test]
fn a_cancel_before_the_artifact_is_there_starts_nothing() {
    let mut bench = Bench::registered();
    bench.deploy(0, &[0, 1]);
    bench.cancel(0);
    check(bench.step(Event::ArtifactReady { artifact: ARTIFACT }), expect![""]);
}

#[test]
fn a_cancel_of_what_never_arrived_is_answered() {
    let mut bench = Bench::registered();
    check(
        bench.cancel(0),
        expect![[r#"
            tell leader: v0[0]#0 CANCELED
            tell leader: v0[1]#0 CANCELED
        "#]],
    );
    check(bench.reconnect(5), expect!["tell leader: report attempts=[] executors=[] finalized=[]\n"]);
}

#[test]
fn collected_records_are_stored_before_the_attempt_is_finished() {
    let mut bench = Bench::running();
    let records: Arc<[u8]> = Arc::from(&b"abc"[..]);
    let collected = Collected { collect_index: 0, subtask: SubtaskIndex(1), records };
    check(
        bench.change_with(ONE, 1, 0, finished(), vec![collected]),
        expect!["store collected of v0[1]#0: [collect 0[1]: 3 bytes]\n"],
    );
    bench.exit(ONE, ExitStatus::Code(1));
    check(
        bench.reconnect(6),
        expect![[r#"
            tell leader: report attempts=["v0[0]#0 FAILED (executor lost: executor process 101 exited with status 1)", "v0[1]#0 RUNNING"] executors=[] finalized=[]
        "#]],
    );
    let part = CollectedPart { collect_index: 0, subtask: SubtaskIndex(1), blob: BlobId([1; 32]) };
    check(
        bench.step(Event::CollectedStored { attempt: id(1, 0), parts: vec![part] }),
        expect!["tell leader: v0[1]#0 FINISHED accumulators=0 collected=1\n"],
    );
}

#[test]
fn a_release_abandons_what_was_being_stored() {
    let mut bench = Bench::running();
    let collected = Collected { collect_index: 0, subtask: SubtaskIndex(1), records: Arc::from(&b"abc"[..]) };
    bench.change_with(ONE, 1, 0, finished(), vec![collected]);
    check(
        bench.release(),
        expect![[r#"
            abandon collected of v0[1]#0
            kill executor-1
        "#]],
    );
    check(bench.step(Event::CollectedStored { attempt: id(1, 0), parts: Vec::new() }), expect![""]);
}

#[test]
fn files_are_removed_when_the_last_process_has_exited() {
    let mut bench = Bench::running();
    bench.deploy(1, &[0]);
    bench.bring_up(TWO);
    check(bench.release(), expect!["kill executor-2\n"]);
    check(bench.exit(TWO, ExitStatus::Signal(9)), expect![""]);
    check(bench.exit(ONE, ExitStatus::Signal(9)), expect!["remove the job's files\n"]);
    assert_eq!(bench.agent.report(), Report::default());
    check(bench.release(), expect!["remove the job's files\n"]);
}

#[test]
fn a_job_is_finalized_by_its_executor_and_the_outcome_is_kept_until_release() {
    let mut bench = Bench::running();
    bench.change(ONE, 0, 0, finished());
    bench.change(ONE, 1, 0, finished());
    let commit = Finalization::Commit { attempt: AttemptNumber(0) };
    check(bench.finalize(commit), expect!["tell executor-1: commit of attempt 0\n"]);
    check(bench.finalize(commit), expect![""]);
    let done = Event::ExecutorFinalized { executor: ONE, step: FinalizationStep::Commit, failure: None };
    check(bench.step(done), expect!["tell leader: commit of attempt 0 done\n"]);
    check(bench.finalize(commit), expect!["tell leader: commit of attempt 0 done\n"]);
    bench.directed(Directive::Acknowledge { attempts: vec![id(0, 0), id(1, 0)] });
    check(
        bench.reconnect(6),
        expect![[r#"
            tell leader: report attempts=[] executors=[101] finalized=["commit of attempt 0 done"]
        "#]],
    );
}

#[test]
fn a_task_manager_without_an_executor_starts_one_to_finalize() {
    let mut bench = Bench::registered();
    check(bench.finalize(Finalization::Abort), expect!["fetch artifact abababab\n"]);
    check(
        bench.bring_up(ONE),
        expect![[r#"
            start executor-1 attempt=0 memory=100
            tell leader: executor process 101
            tell executor-1: abort
        "#]],
    );
    check(
        bench.exit(ONE, ExitStatus::Signal(11)),
        expect![[r#"
            tell leader: abort failed (executor lost: executor process 101 was killed by signal 11 (SIGSEGV))
        "#]],
    );
    // Asked again, it tries again: the failure may pass.
    check(bench.finalize(Finalization::Abort), expect!["fetch artifact abababab\n"]);
}

#[test]
fn an_executor_that_exited_is_started_again_to_finalize() {
    let mut bench = Bench::running();
    bench.change(ONE, 0, 0, finished());
    bench.change(ONE, 1, 0, finished());
    check(bench.exit(ONE, ExitStatus::Code(0)), expect![""]);
    let commit = Finalization::Commit { attempt: AttemptNumber(0) };
    check(bench.finalize(commit), expect!["fetch artifact abababab\n"]);
    check(
        bench.bring_up(TWO),
        expect![[r#"
            start executor-2 attempt=0 memory=100
            tell leader: executor process 102
            tell executor-2: commit of attempt 0
        "#]],
    );
}

#[test]
fn a_finalization_that_can_never_succeed_is_not_tried_again() {
    let mut bench = Bench::running();
    let commit = Finalization::Commit { attempt: AttemptNumber(0) };
    bench.finalize(commit);
    let message = "the output exists".to_owned();
    let failure = Failure { kind: FailureKind::InvalidInput, vertex: None, operator: None, message };
    let step = FinalizationStep::Commit;
    let expected = "tell leader: commit of attempt 0 failed (invalid input: the output exists)\n";
    assert_eq!(bench.step(Event::ExecutorFinalized { executor: ONE, step, failure: Some(failure) }), expected);
    assert_eq!(bench.finalize(commit), expected);
}

#[test]
fn the_output_of_a_superseded_attempt_is_not_published() {
    let mut bench = Bench::registered();
    bench.deploy(2, &[0]);
    check(
        bench.finalize(Finalization::Commit { attempt: AttemptNumber(1) }),
        expect!["refuse: publish attempt 1 of job 00000000000000000000000000000004: superseded by attempt 2\n"],
    );
}

#[test]
fn executors_outlive_their_leader_until_the_orphan_timeout() {
    let mut bench = Bench::running();
    bench.step(Event::SessionLost);
    bench.now = bench.now + Duration::from_secs(599);
    check(bench.step(Event::Tick), expect![""]);
    bench.step(Event::Welcomed { epoch: LeaderEpoch(1), task_manager: HERE, cluster: CLUSTER });
    bench.step(Event::SessionLost);
    bench.now = bench.now + Duration::from_secs(1);
    check(bench.step(Event::Tick), expect!["kill executor-1\n"]);
    check(bench.step(Event::Tick), expect![""]);
    bench.exit(ONE, ExitStatus::Signal(9));
    let text = bench.reconnect(6);
    assert!(text.contains("no coordinator was reachable for 600s (taskmanager.orphan-timeout)"), "{text}");
}

#[test]
fn a_shutdown_ends_every_executor() {
    let mut bench = Bench::running();
    let text = bench.step(Event::Shutdown);
    assert!(text.ends_with("kill executor-1\n"), "{text}");
    assert!(!bench.agent.is_idle());
    bench.exit(ONE, ExitStatus::Signal(9));
    assert!(bench.agent.is_idle());
}

#[test]
fn data_connections_reach_the_ready_executor_of_their_attempt_only() {
    let mut bench = Bench::new();
    let here = Handshake { cluster: CLUSTER, job: JOB, attempt: AttemptNumber(1), to: HERE };
    let refused = |admission: Admission| match admission {
        Admission::Refused(reason) => reason,
        Admission::Accepted(_) | Admission::NotYet => panic!("{admission:?}"),
    };
    assert_eq!(bench.agent.admit(&here), Admission::NotYet);
    bench.step(Event::Welcomed { epoch: LeaderEpoch(5), task_manager: HERE, cluster: CLUSTER });
    assert_eq!(bench.agent.admit(&here), Admission::NotYet);
    bench.deploy(1, &[0]);
    assert_eq!(bench.agent.admit(&here), Admission::NotYet);
    bench.bring_up(ONE);
    assert_eq!(bench.agent.admit(&here), Admission::Accepted(ONE));
    assert_eq!(bench.agent.admit(&Handshake { attempt: AttemptNumber(2), ..here }), Admission::NotYet);
    let old = bench.agent.admit(&Handshake { attempt: AttemptNumber(0), ..here });
    assert!(refused(old).contains("superseded"));
    assert!(refused(bench.agent.admit(&Handshake { to: ELSEWHERE, ..here })).contains("is not here"));
    let foreign = ClusterId(Uuid::from_u128(77));
    assert!(refused(bench.agent.admit(&Handshake { cluster: foreign, ..here })).contains("cluster"));
}
