//! Staged output that is published or dropped.

use super::*;

fn commit(attempt: u32) -> Finalization {
    let attempts = (0..2).map(|subtask| (vertex(subtask), AttemptNumber(attempt))).collect();
    Finalization::Commit { attempts, checkpoint: None }
}

#[test]
fn a_job_is_finalized_by_its_executor_and_the_outcome_is_kept_until_release() {
    let mut bench = Bench::running();
    bench.change(ONE, 0, 0, finished());
    bench.change(ONE, 1, 0, finished());
    let commit = commit(0);
    check(bench.finalize(commit.clone()), expect!["tell executor-1: commit of attempt 0\n"]);
    check(bench.finalize(commit.clone()), expect![""]);
    let done = Event::ExecutorFinalized { executor: ONE, step: FinalizationStep::Commit, failure: None };
    check(bench.step(done), expect!["tell leader: commit of attempt 0 done\n"]);
    check(bench.finalize(commit.clone()), expect!["tell leader: commit of attempt 0 done\n"]);
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
    check(bench.finalize(Finalization::Abort { checkpoint: None }), expect!["fetch artifact abababab\n"]);
    check(
        bench.bring_up(ONE),
        expect![[r#"
            start executor-1 attempt=0 memory=100 limit=1000
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
    check(bench.finalize(Finalization::Abort { checkpoint: None }), expect!["fetch artifact abababab\n"]);
}

#[test]
fn an_executor_that_exited_is_started_again_to_finalize() {
    let mut bench = Bench::running();
    bench.change(ONE, 0, 0, finished());
    bench.change(ONE, 1, 0, finished());
    check(bench.exit(ONE, ExitStatus::Code(0)), expect![""]);
    let commit = commit(0);
    check(bench.finalize(commit.clone()), expect!["fetch artifact abababab\n"]);
    check(
        bench.bring_up(TWO),
        expect![[r#"
            start executor-2 attempt=0 memory=100 limit=1000
            tell leader: executor process 102
            tell executor-2: commit of attempt 0
        "#]],
    );
}

#[test]
fn a_finalization_that_can_never_succeed_is_not_tried_again() {
    let mut bench = Bench::running();
    let commit = commit(0);
    bench.finalize(commit.clone());
    let message = "the output exists".to_owned();
    let failure = Failure { kind: FailureKind::InvalidInput, vertex: None, operator: None, message };
    let step = FinalizationStep::Commit;
    let expected = "tell leader: commit of attempt 0 failed (invalid input: the output exists)\n";
    assert_eq!(bench.step(Event::ExecutorFinalized { executor: ONE, step, failure: Some(failure) }), expected);
    assert_eq!(bench.finalize(commit.clone()), expected);
}

#[test]
fn the_output_of_a_superseded_attempt_is_not_published() {
    let mut bench = Bench::registered();
    bench.deploy(2, &[0]);
    check(
        bench.finalize(commit(1)),
        expect![
            "refuse: publish attempt 1 of sub-task v0[0] of job 00000000000000000000000000000004: superseded by 2\n"
        ],
    );
}

#[test]
fn output_that_was_removed_is_removed_again_when_that_is_wanted_again() {
    let mut bench = Bench::running();
    bench.change(ONE, 0, 0, finished());
    bench.change(ONE, 1, 0, finished());
    let abort = Finalization::Abort { checkpoint: None };
    let done = || Event::ExecutorFinalized { executor: ONE, step: FinalizationStep::Abort, failure: None };
    for _ in 0..2 {
        check(bench.finalize(abort.clone()), expect!["tell executor-1: abort\n"]);
        check(bench.step(done()), expect!["tell leader: abort done\n"]);
    }
    let reported = bench.reconnect(6);
    assert!(reported.contains("finalized=[]"), "more may have been staged since: {reported}");
}
