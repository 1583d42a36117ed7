//! A master that has panicked and begins again, under the same leadership.

use expect_test::expect;
use tidemill_model::slot::SlotId;

use super::{Harness, JobMasterEvent, granted_slots};
use crate::engine::fixture::task_manager;
use crate::engine::leader::SlotRequestId;

#[test]
fn a_master_that_begins_anew_gives_back_slots_that_it_knows_nothing_of_and_asks_by_other_numbers() {
    let mut harness = Harness::new();
    harness.step(JobMasterEvent::Started);
    harness.register(1, vec![]);
    harness.register(2, vec![]);
    let slots = [1, 2].map(|n| (SlotId { task_manager: task_manager(n).id, index: 0 }, SlotRequestId(7))).into();
    harness.check(
        JobMasterEvent::SlotsHeld { slots, last_request: SlotRequestId(7) },
        expect![[r#"
            return tm-1/0 tm-2/0
            request 2 slots
        "#]],
    );
    assert_eq!(harness.request, SlotRequestId(8));
    // What it had asked for before it knew comes all the same.
    harness.check(
        granted_slots(SlotRequestId(1), &[(1, 1), (2, 1)]),
        expect![[r#"
        return tm-1/1 tm-2/1
    "#]],
    );
    harness.grant();
    assert_eq!(harness.status(), "RUNNING");
}
