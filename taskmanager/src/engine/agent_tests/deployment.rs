//! From a deployment to a running executor.

use super::*;

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
            start executor-1 attempt=0 memory=200 limit=2000
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
fn a_lower_attempt_number_is_refused() {
    let mut bench = Bench::registered();
    bench.deploy(3, &[0, 1]);
    check(
        bench.deploy(2, &[0, 1]),
        expect![
            "refuse: deploy attempt 2 of job 00000000000000000000000000000004: attempt 3 of sub-task v0[0] is or was here\n"
        ],
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
    assert_eq!(bench.agent.admit(&Handshake { attempt: AttemptNumber(0), ..here }), Admission::NotYet);
    assert!(refused(bench.agent.admit(&Handshake { to: ELSEWHERE, ..here })).contains("is not here"));
    let foreign = ClusterId(Uuid::from_u128(77));
    assert!(refused(bench.agent.admit(&Handshake { cluster: foreign, ..here })).contains("cluster"));
}

#[test]
fn a_job_without_an_artifact_fails_in_words_and_nobody_waits_for_it() {
    let mut bench = Bench::registered();
    let in_process = || Box::new(JobSpec { program: Program::InProcess, ..spec() });
    let told = bench.directed(Directive::Deploy { spec: in_process(), deployment: deployment(0, &[0]) });
    assert!(
        told.starts_with("tell leader: v0[0]#0 FAILED (invalid artifact: ") && told.contains("no artifact"),
        "{told}"
    );
    let told = bench
        .directed(Directive::Finalize { spec: in_process(), finalization: Finalization::Abort { checkpoint: None } });
    assert!(told.starts_with("tell leader: ") && told.contains("no artifact"), "{told}");
    assert!(bench.agent.report().finalized.is_empty() && bench.agent.is_idle());
}
