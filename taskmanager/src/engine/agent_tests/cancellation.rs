//! Attempts that a leader stops.

use super::*;

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
fn a_program_that_hangs_before_its_execute_is_killed_by_a_cancel_and_its_output_is_given_up() {
    let mut bench = Bench::registered();
    bench.deploy(0, &[0, 1]);
    bench.step(Event::ArtifactReady { artifact: ARTIFACT });
    bench.step(Event::ExecutorStarted { executor: ONE, process_id: 7 });
    bench.now = bench.now + Duration::from_secs(3600);
    check(bench.step(Event::Tick), expect![""]);
    check(
        bench.cancel(0),
        expect![[r#"
            tell leader: v0[0]#0 CANCELED
            tell leader: v0[1]#0 CANCELED
            kill executor-1
        "#]],
    );
    bench.exit(ONE, ExitStatus::Signal(9));
    bench.finalize(Finalization::Abort { checkpoint: None });
    bench.step(Event::ArtifactReady { artifact: ARTIFACT });
    bench.step(Event::ExecutorStarted { executor: TWO, process_id: 8 });
    bench.now = bench.now + Duration::from_secs(29);
    check(bench.step(Event::Tick), expect![""]);
    bench.now = bench.now + Duration::from_secs(1);
    check(
        bench.step(Event::Tick),
        expect![[r#"
        tell leader: abort failed (executor lost: the executor was killed: the program did not reach execute() within 30s, to remove staged output)
        kill executor-2
    "#]],
    );
    bench.exit(TWO, ExitStatus::Signal(9));
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
