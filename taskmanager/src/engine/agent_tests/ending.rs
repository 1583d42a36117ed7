//! Executors that end, what they gathered, and what is left of their jobs.

use super::*;

#[test]
fn an_executor_that_dies_fails_its_live_attempts_in_words() {
    let mut bench = Bench::running();
    bench.change(ONE, 0, 0, finished());
    check(
        bench.die(ONE, ExitStatus::Signal(9), "thread main overflowed its stack", 0),
        expect![[r#"
            tell leader: v0[1]#0 FAILED (executor lost: executor process 101 was killed by signal 9 (SIGKILL); the end of its standard error: thread main overflowed its stack)
        "#]],
    );
    assert!(bench.agent.is_idle());
}

#[test]
fn an_executor_that_dies_of_its_memory_limit_says_which_it_is() {
    let mut bench = Bench::running();
    bench.change(ONE, 0, 0, finished());
    check(
        bench.die(ONE, ExitStatus::Signal(6), "memory allocation of 9 bytes failed", 1900),
        expect![[r#"
        tell leader: v0[1]#0 FAILED (executor lost: executor process 101 was killed by signal 6 (SIGABRT): it reached its memory limit of 0 mb (its slots' share of taskmanager.memory.process.size of the task manager); the most that it was seen to use is 0 mb; keyed state that does not fit into memory can be on disk: state.backend.type = rocksdb; the end of its standard error: memory allocation of 9 bytes failed)
    "#]],
    );
    let mut limited = spec();
    limited.settings.executor_memory_bytes = Some(64 << 20);
    let mut bench = Bench::registered();
    bench.agent.settings.slot_process_bytes = Some(1 << 30);
    bench.directed(Directive::Deploy { spec: Box::new(limited), deployment: deployment(0, &[0]) });
    check(
        bench.bring_up(ONE),
        expect![[r#"
        start executor-1 attempt=0 memory=100 limit=67108864
        tell leader: executor process 101
        tell executor-1: deploy v0[0]#0
    "#]],
    );
    check(
        bench.die(ONE, ExitStatus::Signal(9), "", 63 << 20),
        expect![[r#"
        tell leader: v0[0]#0 FAILED (executor lost: executor process 101 was killed by signal 9 (SIGKILL): it reached its memory limit of 64 mb (executor.memory.limit of the job); the most that it was seen to use is 63 mb; keyed state that does not fit into memory can be on disk: state.backend.type = rocksdb)
    "#]],
    );
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
fn collected_records_that_nobody_takes_fail_the_attempt() {
    let mut bench = Bench::running();
    let collected = Collected { collect_index: 0, subtask: SubtaskIndex(1), records: Arc::from(&b"abc"[..]) };
    bench.change_with(ONE, 1, 0, finished(), vec![collected]);
    let failure =
        Failure { kind: FailureKind::InvalidInput, vertex: None, operator: None, message: "too large".to_owned() };
    let refused = Event::CollectedRefused { attempt: id(1, 0), failure };
    check(
        bench.step(refused.clone()),
        expect!["tell leader: v0[1]#0 FAILED (invalid input (vertex v0, sub-task 1): too large)\n"],
    );
    check(bench.step(refused), expect![""]);
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
    check(
        bench.release(),
        expect![[r#"
            kill executor-1
            kill executor-2
        "#]],
    );
    check(bench.exit(TWO, ExitStatus::Signal(9)), expect![""]);
    check(bench.exit(ONE, ExitStatus::Signal(9)), expect!["remove the job's files\n"]);
    assert_eq!(bench.agent.report(), Report::default());
    check(bench.release(), expect!["remove the job's files\n"]);
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
