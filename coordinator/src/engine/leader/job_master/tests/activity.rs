//! What people and checkers hear of a job's checkpoints.

use tidemill_model::checkpoint::{AbortReason, CheckpointOutcome, CheckpointReport};
use tidemill_model::id::CheckpointId;
use tidemill_model::time::Instant;

use super::checkpoints::{ALL, SECOND, checkpointed};
use super::{Harness, JobMasterAction, JobMasterEvent};
use crate::engine::fixture::attempt;
use crate::engine::leader::job_master::CheckpointNote;

impl Harness {
    fn activity(&self) -> crate::engine::leader::CheckpointActivity {
        self.master.observe_checkpoints(Instant::from_origin(self.now)).expect("it takes checkpoints")
    }
}

#[test]
fn what_is_under_way_what_failed_and_what_each_part_took_is_told() {
    let mut harness = Harness::run(checkpointed());
    harness.now += SECOND;
    ALL[..3].iter().for_each(|&place| drop(harness.acknowledge(place, 0, 1)));
    let late = attempt(&harness.spec, 1, 1, 0).vertex;
    let pending = &harness.activity().pending;
    assert_eq!(pending.len(), 1);
    assert_eq!(
        (pending[0].id, pending[0].age, pending[0].missing.as_slice()),
        (CheckpointId(1), SECOND, [late].as_slice())
    );
    harness.now += SECOND;
    harness.acknowledge(ALL[3], 0, 1);
    let (newest, parts) = harness.activity().newest.expect("it is complete");
    let took: Vec<_> = parts.iter().map(|part| (part.duration, part.size_bytes)).collect();
    assert_eq!((newest, took), (CheckpointId(1), vec![(SECOND, 8), (SECOND, 8), (SECOND, 8), (SECOND * 2, 8)]));

    harness.tick_after(SECOND);
    let outcome = CheckpointOutcome::Declined("the disk is full".to_owned());
    let report = CheckpointReport { attempt: attempt(&harness.spec, 1, 1, 0), checkpoint: CheckpointId(2), outcome };
    harness.step(JobMasterEvent::CheckpointReported { report });
    let failure = harness.activity().last_failure.expect("one has failed");
    assert_eq!((failure.id, failure.held_up_by, harness.activity().failed), (CheckpointId(2), vec![late], 1));
    assert_eq!(failure.reason, "v1[1] declined: the disk is full");
}

#[test]
fn each_turn_is_noted_before_anybody_else_hears_of_it() {
    let mut harness = Harness::run(checkpointed());
    ALL.iter().for_each(|&place| drop(harness.acknowledge(place, 0, 1)));
    harness.now += SECOND;
    let actions = harness.master.step(Instant::from_origin(harness.now), JobMasterEvent::Tick);
    assert_eq!(actions[0], JobMasterAction::Note(CheckpointNote::Triggered(CheckpointId(2))));
    assert!(matches!(actions[1], JobMasterAction::Send { .. }), "{actions:?}");
    let outcome = CheckpointOutcome::Declined("the disk is full".to_owned());
    let attempt = attempt(&harness.spec, 1, 1, 0);
    let report = CheckpointReport { attempt, checkpoint: CheckpointId(2), outcome };
    let now = Instant::from_origin(harness.now);
    let actions = harness.master.step(now, JobMasterEvent::CheckpointReported { report });
    let reason = AbortReason::Declined { vertex: attempt.vertex, reason: "the disk is full".to_owned() };
    assert_eq!(actions[0], JobMasterAction::Note(CheckpointNote::Aborted(CheckpointId(2), reason)));
    assert!(matches!(actions[1], JobMasterAction::Send { .. }), "{actions:?}");
}
