//! Several attempt numbers of a job at once: failover regions, each in an executor of its own.

use super::*;

/// Sub-task 0 runs as attempt 0, sub-task 1 was replaced by attempt 1 while attempt 0 of it is still being stopped.
fn two_generations() -> (Bench, String) {
    let mut bench = Bench::running();
    bench.directed(Directive::Cancel { attempts: vec![id(1, 0)] });
    let mut text = bench.deploy(1, &[1]);
    text += &bench.bring_up(TWO);
    bench.change(TWO, 1, 1, ExecutionState::Running);
    (bench, text)
}

fn acknowledge(bench: &mut Bench, attempts: &[ExecutionAttemptId]) -> String {
    bench.directed(Directive::Acknowledge { attempts: attempts.to_vec() })
}

fn canceled() -> ExecutionState {
    ExecutionState::Terminal(TerminalState::Canceled)
}

#[test]
fn a_higher_attempt_number_gets_an_executor_of_its_own_and_leaves_others_alone() {
    let (mut bench, text) = two_generations();
    check(
        text,
        expect![[r#"
            tell leader: v0[1]#1 DEPLOYING
            fetch artifact abababab
            start executor-2 attempt=1 memory=100 limit=1000
            tell leader: executor process 102
            tell executor-2: deploy v0[1]#1
        "#]],
    );
    check(
        bench.reconnect(5),
        expect![[r#"
        tell leader: report attempts=["v0[0]#0 RUNNING", "v0[1]#0 CANCELING", "v0[1]#1 RUNNING"] executors=[101, 102] finalized=[]
    "#]],
    );
    assert_eq!(bench.agent.slots_used(), 2);
    let overview: Vec<_> = bench.agent.overview().iter().map(|one| (one.generation.attempt, one.process_id)).collect();
    assert_eq!(overview, [(AttemptNumber(0), Some(101)), (AttemptNumber(1), Some(102))]);
}

#[test]
fn each_executor_gets_the_memory_of_its_own_attempts_slots() {
    let mut bench = Bench::registered();
    bench.deploy(0, &[0]);
    check(
        bench.bring_up(ONE),
        expect![[r#"
            start executor-1 attempt=0 memory=100 limit=1000
            tell leader: executor process 101
            tell executor-1: deploy v0[0]#0
        "#]],
    );
    bench.deploy(1, &[0, 1]);
    check(
        bench.step(Event::ArtifactReady { artifact: ARTIFACT }),
        expect![[r#"
            start executor-2 attempt=1 memory=200 limit=2000
        "#]],
    );
}

#[test]
fn the_exit_of_one_executor_fails_the_attempts_of_its_number_only() {
    let (mut bench, _) = two_generations();
    check(
        bench.exit(TWO, ExitStatus::Signal(9)),
        expect![[r#"
        tell leader: v0[1]#1 FAILED (executor lost: executor process 102 was killed by signal 9 (SIGKILL))
    "#]],
    );
    check(
        bench.change(ONE, 0, 0, finished()),
        expect![[r#"
        tell leader: v0[0]#0 FINISHED accumulators=0 collected=0
    "#]],
    );
}

#[test]
fn a_generation_ends_when_all_its_attempts_are_acknowledged_and_a_newer_one_is_here() {
    let (mut bench, _) = two_generations();
    bench.change(ONE, 1, 0, canceled());
    check(acknowledge(&mut bench, &[id(1, 0)]), expect![[""]]);
    bench.change(ONE, 0, 0, finished());
    check(
        acknowledge(&mut bench, &[id(0, 0)]),
        expect![[r#"
        kill executor-1
    "#]],
    );
    check(
        bench.exit(ONE, ExitStatus::Signal(9)),
        expect![[r#"
        remove files of attempt 0
    "#]],
    );
    // The newest stays, to publish or drop what the job staged.
    bench.change(TWO, 1, 1, finished());
    check(acknowledge(&mut bench, &[id(1, 1)]), expect![[""]]);
    let attempts = BTreeMap::from([(vertex(0), AttemptNumber(0)), (vertex(1), AttemptNumber(1))]);
    check(
        bench.finalize(Finalization::Commit { attempts, checkpoint: None }),
        expect![[r#"
        tell executor-2: commit of attempts 0 to 1
    "#]],
    );
}

#[test]
fn a_generation_whose_executor_is_gone_already_leaves_no_folder() {
    let (mut bench, _) = two_generations();
    bench.exit(ONE, ExitStatus::Code(1));
    check(
        acknowledge(&mut bench, &[id(0, 0), id(1, 0)]),
        expect![[r#"
        remove files of attempt 0
    "#]],
    );
}

#[test]
fn an_attempt_that_is_ended_and_acknowledged_is_not_run_again_when_its_generation_is_gone() {
    let (mut bench, _) = two_generations();
    bench.change(ONE, 1, 0, canceled());
    bench.change(ONE, 0, 0, finished());
    acknowledge(&mut bench, &[id(0, 0), id(1, 0)]);
    check(
        bench.deploy(0, &[0]),
        expect![[r#"
        refuse: deploy attempt 0 of job 00000000000000000000000000000004: attempt 0 of sub-task v0[0] is or was here
    "#]],
    );
    check(
        bench.deploy(0, &[1]),
        expect![[r#"
        refuse: deploy attempt 0 of job 00000000000000000000000000000004: attempt 1 of sub-task v0[1] is or was here
    "#]],
    );
    check(
        bench.directed(Directive::Cancel { attempts: vec![id(0, 0)] }),
        expect![[r#"
        tell leader: v0[0]#0 CANCELED
    "#]],
    );
}

#[test]
fn a_lower_number_of_another_region_is_deployed_beside_a_higher_one() {
    let mut bench = Bench::registered();
    bench.deploy(4, &[0]);
    bench.bring_up(ONE);
    check(
        bench.deploy(2, &[1]),
        expect![[r#"
        tell leader: v0[1]#2 DEPLOYING
        fetch artifact abababab
    "#]],
    );
    check(
        bench.deploy(3, &[0]),
        expect![[r#"
        refuse: deploy attempt 3 of job 00000000000000000000000000000004: attempt 4 of sub-task v0[0] is or was here
    "#]],
    );
}

#[test]
fn a_cancel_reaches_the_executor_of_each_attempts_number() {
    let (mut bench, _) = two_generations();
    check(
        bench.directed(Directive::Cancel { attempts: vec![id(0, 0), id(1, 1)] }),
        expect![[r#"
        tell leader: v0[0]#0 CANCELING
        tell executor-1: cancel v0[0]#0
        tell leader: v0[1]#1 CANCELING
        tell executor-2: cancel v0[1]#1
    "#]],
    );
}

#[test]
fn a_release_ends_all_generations_and_removes_the_folder_once() {
    let (mut bench, _) = two_generations();
    check(
        bench.release(),
        expect![[r#"
        kill executor-1
        kill executor-2
    "#]],
    );
    check(bench.exit(TWO, ExitStatus::Signal(9)), expect![[""]]);
    check(
        bench.exit(ONE, ExitStatus::Signal(9)),
        expect![[r#"
        remove the job's files
    "#]],
    );
    assert_eq!(bench.agent.report(), Report::default());
}

#[test]
fn a_release_removes_the_folder_of_a_generation_that_is_still_ending() {
    let (mut bench, _) = two_generations();
    bench.change(ONE, 1, 0, canceled());
    bench.change(ONE, 0, 0, finished());
    acknowledge(&mut bench, &[id(0, 0), id(1, 0)]);
    check(
        bench.release(),
        expect![[r#"
        kill executor-2
    "#]],
    );
    check(bench.exit(ONE, ExitStatus::Signal(9)), expect![[""]]);
    check(
        bench.exit(TWO, ExitStatus::Signal(9)),
        expect![[r#"
        remove the job's files
    "#]],
    );
}

#[test]
fn a_data_connection_reaches_the_executor_of_its_attempt_number() {
    let (mut bench, _) = two_generations();
    let to = |attempt| Handshake { cluster: CLUSTER, job: JOB, attempt: AttemptNumber(attempt), to: HERE };
    assert_eq!(bench.agent.admit(&to(0)), Admission::Accepted(ONE));
    assert_eq!(bench.agent.admit(&to(1)), Admission::Accepted(TWO));
    assert_eq!(bench.agent.admit(&to(2)), Admission::NotYet);
    bench.change(ONE, 1, 0, canceled());
    bench.change(ONE, 0, 0, finished());
    acknowledge(&mut bench, &[id(0, 0), id(1, 0)]);
    let Admission::Refused(reason) = bench.agent.admit(&to(0)) else { panic!("attempt 0 has ended here") };
    check(reason, expect!["attempt 0 of job 00000000000000000000000000000004 was superseded and has ended here"]);
    let elsewhere = Handshake { to: ELSEWHERE, ..to(1) };
    assert!(matches!(bench.agent.admit(&elsewhere), Admission::Refused(_)));
}
