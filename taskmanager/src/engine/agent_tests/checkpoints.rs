//! Checkpoints: passed on to those that run, acknowledgements kept until a leader knows of them.

use tidemill_model::checkpoint::{
    CheckpointAction, CheckpointCommand, CheckpointKind, CheckpointOutcome, CheckpointReport, StateHandle,
};
use tidemill_model::id::CheckpointId;

use super::*;

impl Bench {
    fn checkpoint(&mut self, action: CheckpointAction, checkpoint: u64, attempts: &[ExecutionAttemptId]) -> String {
        let (checkpoint, attempts) = (CheckpointId(checkpoint), attempts.to_vec());
        self.directed(Directive::Checkpoint(CheckpointCommand { action, checkpoint, attempts }))
    }

    fn acknowledged(&mut self, executor: ExecutorId, attempt: ExecutionAttemptId, checkpoint: u64) -> String {
        let state = SubtaskState(vec![StateHandle::Inline(vec![7; 3])]);
        let outcome = CheckpointOutcome::Acknowledged(state);
        let report = CheckpointReport { attempt, checkpoint: CheckpointId(checkpoint), outcome };
        self.step(Event::CheckpointReported { executor, report })
    }

    fn unconfirmed(&self) -> Vec<String> {
        self.agent.report().checkpoints.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn a_trigger_goes_to_the_executors_of_what_runs_and_is_declined_for_the_rest() {
    let mut bench = Bench::running();
    bench.change(ONE, 1, 0, finished());
    let attempts = [id(0, 0), id(1, 0), id(0, 9)];
    check(
        bench.checkpoint(CheckpointAction::Trigger(CheckpointKind::Periodic), 3, &attempts),
        expect![[r#"
        tell leader: checkpoint 3 v0[1]#0 declined: the attempt has ended
        tell executor-1: trigger checkpoint 3 v0[0]#0
        tell leader: checkpoint 3 v0[0]#9 declined: no such attempt is here
    "#]],
    );
}

#[test]
fn a_trigger_before_the_executor_is_ready_is_declined() {
    let mut bench = Bench::registered();
    bench.deploy(0, &[0]);
    check(
        bench.checkpoint(CheckpointAction::Trigger(CheckpointKind::Periodic), 3, &[id(0, 0)]),
        expect![[r#"
        tell leader: checkpoint 3 v0[0]#0 declined: its executor is not ready
    "#]],
    );
}

#[test]
fn an_acknowledgement_is_reported_to_each_leader_until_one_has_confirmed_it() {
    let mut bench = Bench::running();
    check(
        bench.acknowledged(ONE, id(0, 0), 3),
        expect![[r#"
        tell leader: checkpoint 3 v0[0]#0 acknowledged, 3 bytes
    "#]],
    );
    bench.acknowledged(ONE, id(1, 0), 3);
    bench.acknowledged(ONE, id(0, 0), 4);
    let all = ["checkpoint 3 v0[0]#0", "checkpoint 4 v0[0]#0", "checkpoint 3 v0[1]#0"];
    let all = all.map(|one| format!("{one} acknowledged, 3 bytes"));
    assert_eq!(bench.unconfirmed(), all);
    bench.reconnect(5);
    bench.checkpoint(CheckpointAction::Trigger(CheckpointKind::Periodic), 5, &[id(0, 0)]);
    assert_eq!(bench.unconfirmed(), all, "a trigger says nothing of earlier checkpoints");
    check(
        bench.checkpoint(CheckpointAction::NotifyComplete, 3, &[id(0, 0), id(1, 0)]),
        expect![[r#"
        tell executor-1: notify checkpoint 3 v0[0]#0 v0[1]#0
    "#]],
    );
    assert_eq!(bench.unconfirmed(), all[1..2]);
    check(
        bench.checkpoint(CheckpointAction::Abort, 5, &[id(0, 0), id(1, 0)]),
        expect![[r#"
        tell executor-1: abort checkpoint 5 v0[0]#0 v0[1]#0
    "#]],
    );
    assert_eq!(bench.unconfirmed(), Vec::<String>::new());
}

#[test]
fn what_is_acknowledged_without_a_leader_is_in_the_next_report() {
    let mut bench = Bench::running();
    bench.step(Event::SessionLost);
    check(bench.acknowledged(ONE, id(0, 0), 3), expect![[""]]);
    assert_eq!(bench.unconfirmed().len(), 1);
}

#[test]
fn an_executor_speaks_for_attempts_of_its_own_number_only() {
    let mut bench = Bench::running();
    check(bench.acknowledged(ONE, id(0, 1), 3), expect![[""]]);
    check(bench.acknowledged(TWO, id(0, 0), 3), expect![[""]]);
    assert_eq!(bench.unconfirmed(), Vec::<String>::new());
}

#[test]
fn an_older_leader_triggers_nothing() {
    let mut bench = Bench::running();
    bench.reconnect(9);
    check(
        bench.checkpoint(CheckpointAction::Trigger(CheckpointKind::Periodic), 3, &[id(0, 0)]),
        expect![[r#"
        refuse: a command of leader epoch 5, epoch 9 has begun
    "#]],
    );
}

#[test]
fn acknowledgements_that_nobody_confirms_do_not_pile_up() {
    let mut bench = Bench::running();
    for checkpoint in 0..100 {
        bench.acknowledged(ONE, id(0, 0), checkpoint);
    }
    let kept = bench.unconfirmed();
    assert_eq!((kept.len(), kept[0].as_str()), (16, "checkpoint 84 v0[0]#0 acknowledged, 3 bytes"));
}
