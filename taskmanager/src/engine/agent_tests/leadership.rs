//! Which leader is obeyed, and what it is told.

use super::*;

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
