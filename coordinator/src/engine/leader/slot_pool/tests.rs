//! The pool by its grants.

use expect_test::expect;
use tidemill_model::id::{JobId, TaskManagerId};
use tidemill_model::job_graph::{SlotRequirements, SlotSharingGroup};
use tidemill_model::slot::SlotId;
use uuid::Uuid;

use super::{Grant, SlotPlacement, SlotPool, SlotRequestId};

const FIRST: SlotRequestId = SlotRequestId(1);

fn tm(n: u128) -> TaskManagerId {
    TaskManagerId(Uuid::from_u128(n))
}

fn job(n: u128) -> JobId {
    JobId(Uuid::from_u128(n))
}

fn slot(n: u128, index: u32) -> SlotId {
    SlotId { task_manager: tm(n), index }
}

fn slots(count: u32) -> SlotRequirements {
    SlotRequirements([(SlotSharingGroup::default(), count)].into())
}

fn groups(first: u32, second: u32) -> SlotRequirements {
    let group = |name: &str, count| (SlotSharingGroup(name.into()), count);
    SlotRequirements([group("default", first), group("wide", second)].into())
}

#[test]
fn slots_are_spread_over_task_managers() {
    let mut pool = SlotPool::default();
    pool.offer(tm(1), 2);
    pool.offer(tm(2), 2);
    pool.request(job(1), FIRST, slots(3), vec![]);
    assert_eq!(
        pool.grant(),
        vec![Grant { job: job(1), request: FIRST, slots: vec![slot(1, 0), slot(2, 0), slot(1, 1)] }]
    );
    assert_eq!((pool.free_of(tm(1)), pool.free_of(tm(2))), (0, 1));
}

#[test]
fn a_request_that_is_repeated_before_it_is_looked_at_counts_once() {
    let mut pool = SlotPool::default();
    pool.request(job(1), FIRST, slots(1), vec![]);
    pool.request(job(1), SlotRequestId(2), slots(2), vec![]);
    pool.offer(tm(1), 2);
    pool.request(job(1), SlotRequestId(3), slots(1), vec![]);
    assert_eq!(pool.grant(), vec![Grant { job: job(1), request: SlotRequestId(3), slots: vec![slot(1, 0)] }]);
}

#[test]
fn a_request_that_is_withdrawn_is_not_met() {
    let mut pool = SlotPool::default();
    pool.request(job(1), FIRST, slots(2), vec![]);
    pool.request(job(1), SlotRequestId(2), SlotRequirements::default(), vec![]);
    pool.offer(tm(1), 2);
    assert_eq!((pool.grant(), pool.missing()), (vec![], vec![]));
}

#[test]
fn a_slot_that_is_given_back_goes_to_who_waits_for_it() {
    let mut pool = SlotPool::default();
    pool.offer(tm(1), 2);
    pool.request(job(1), FIRST, slots(2), vec![]);
    pool.request(job(2), FIRST, slots(1), vec![]);
    assert_eq!(pool.grant().len(), 1);
    pool.give_back(job(2), &[(slot(1, 1), FIRST)].into());
    assert_eq!(pool.grant(), vec![], "nobody gives back what another one holds");
    pool.give_back(job(1), &[(slot(1, 1), FIRST)].into());
    assert_eq!(pool.grant(), vec![Grant { job: job(2), request: FIRST, slots: vec![slot(1, 1)] }]);
}

#[test]
fn a_slot_that_came_anew_with_its_task_manager_is_not_given_back_by_an_older_request() {
    let mut pool = SlotPool::default();
    pool.offer(tm(1), 1);
    pool.request(job(1), FIRST, slots(1), vec![]);
    pool.grant();
    pool.withdraw(tm(1));
    pool.request(job(1), SlotRequestId(2), slots(1), vec![]);
    pool.offer(tm(1), 1);
    pool.grant();
    pool.give_back(job(1), &[(slot(1, 0), FIRST)].into());
    assert_eq!(pool.free_of(tm(1)), 0);
}

#[test]
fn a_draining_task_manager_gives_no_slots_and_its_jobs_keep_theirs() {
    let mut pool = SlotPool::default();
    pool.offer(tm(1), 2);
    pool.request(job(1), FIRST, slots(1), vec![]);
    assert_eq!(pool.grant().len(), 1);
    pool.set_draining(tm(1), true);
    pool.request(job(2), FIRST, slots(1), vec![]);
    assert_eq!(pool.grant(), vec![]);
    let missing = pool.missing();
    assert!(missing[0].1.starts_with("needs 1 slots; 0 of 0 are free on 0 task managers"), "{}", missing[0].1);
    assert_eq!((pool.free_of(tm(1)), pool.jobs_on(tm(1))), (1, [job(1)].into()));
    pool.set_draining(tm(1), false);
    assert_eq!(pool.grant(), vec![Grant { job: job(2), request: FIRST, slots: vec![slot(1, 1)] }]);
}

#[test]
fn packed_slots_fill_the_fullest_task_manager_first() {
    let mut pool = SlotPool::default();
    pool.set_placement(SlotPlacement::Pack);
    pool.offer(tm(1), 3);
    pool.offer(tm(2), 2);
    pool.request(job(1), FIRST, slots(3), vec![]);
    assert_eq!(
        pool.grant(),
        vec![Grant { job: job(1), request: FIRST, slots: vec![slot(2, 0), slot(2, 1), slot(1, 0)] }]
    );
}

#[test]
fn a_job_that_asks_for_more_gets_it_where_it_is_already() {
    for placement in [SlotPlacement::Spread, SlotPlacement::Pack] {
        let mut pool = SlotPool::default();
        pool.set_placement(placement);
        pool.adopt(slot(2, 0), job(1));
        pool.adopt(slot(3, 0), job(2));
        (1..=3).for_each(|n| pool.offer(tm(n), 3));
        pool.request(job(1), FIRST, slots(2), vec![]);
        let granted = Grant { job: job(1), request: FIRST, slots: vec![slot(2, 1), slot(2, 2)] };
        assert_eq!(pool.grant(), vec![granted], "{placement:?}");
    }
}

#[test]
fn a_job_waits_for_all_its_slots_and_says_what_is_missing() {
    let mut pool = SlotPool::default();
    pool.offer(tm(1), 1);
    pool.request(job(1), FIRST, slots(2), vec![]);
    pool.request(job(2), FIRST, slots(1), vec![]);
    assert_eq!(pool.grant(), vec![Grant { job: job(2), request: FIRST, slots: vec![slot(1, 0)] }]);
    let missing = pool.missing();
    assert_eq!(missing.len(), 1);
    assert!(missing[0].1.starts_with("needs 2 slots; 0 of 1 are free on 1 task managers"), "{}", missing[0].1);
    pool.offer(tm(2), 2);
    assert_eq!(pool.grant(), vec![Grant { job: job(1), request: FIRST, slots: vec![slot(2, 0), slot(2, 1)] }]);
}

#[test]
fn a_later_request_is_met_at_once_and_earlier_ones_when_slots_become_free() {
    let mut pool = SlotPool::default();
    pool.offer(tm(1), 1);
    pool.request(job(1), FIRST, slots(2), vec![]);
    pool.request(job(2), FIRST, slots(3), vec![]);
    assert_eq!(pool.grant(), vec![]);
    pool.request(job(3), FIRST, slots(1), vec![]);
    assert_eq!(pool.grant(), vec![Grant { job: job(3), request: FIRST, slots: vec![slot(1, 0)] }]);
    assert_eq!(pool.grant(), vec![]);
    pool.offer(tm(2), 1);
    assert_eq!(pool.grant(), vec![]);
    pool.release(job(3));
    assert_eq!(pool.grant(), vec![Grant { job: job(1), request: FIRST, slots: vec![slot(1, 0), slot(2, 0)] }]);
    let waiting: Vec<JobId> = pool.missing().into_iter().map(|(waiting, _)| waiting).collect();
    assert_eq!(waiting, [job(2)]);
}

#[test]
fn slots_of_the_replicated_schedule_stay_taken_until_released() {
    let mut pool = SlotPool::default();
    pool.adopt(slot(1, 0), job(1));
    pool.offer(tm(1), 1);
    pool.request(job(2), FIRST, slots(1), vec![]);
    assert_eq!(pool.grant(), vec![]);
    pool.release(job(1));
    assert_eq!(pool.grant(), vec![Grant { job: job(2), request: FIRST, slots: vec![slot(1, 0)] }]);
}

#[test]
fn a_lost_task_manager_takes_its_slots_along() {
    let mut pool = SlotPool::default();
    pool.offer(tm(1), 1);
    pool.request(job(1), FIRST, slots(1), vec![]);
    pool.grant();
    pool.withdraw(tm(1));
    pool.request(job(1), FIRST, slots(1), vec![]);
    assert_eq!(pool.grant(), vec![]);
}

#[test]
fn a_job_of_several_groups_gets_the_slots_of_all_or_none_and_says_what_each_needs() {
    let mut pool = SlotPool::default();
    pool.offer(tm(1), 2);
    pool.offer(tm(2), 2);
    pool.request(job(1), FIRST, groups(2, 3), vec![]);
    assert_eq!(pool.grant(), vec![]);
    assert_eq!((pool.free_of(tm(1)), pool.free_of(tm(2))), (2, 2));
    expect![[r#"
        needs 5 slots (2 for "default", 3 for "wide"); 4 of 4 are free on 2 task managers: add task managers, wait for other jobs to end, or submit with a lower parallelism or fewer slot sharing groups
    "#]]
    .assert_eq(&(pool.missing()[0].1.clone() + "\n"));
    pool.offer(tm(3), 1);
    let granted = vec![slot(1, 0), slot(2, 0), slot(1, 1), slot(2, 1), slot(3, 0)];
    assert_eq!(pool.grant(), vec![Grant { job: job(1), request: FIRST, slots: granted }]);
    assert_eq!(pool.missing(), vec![]);
}

#[test]
fn a_slot_is_taken_again_where_its_sub_tasks_left_their_state_if_it_is_free() {
    let mut pool = SlotPool::default();
    (1..=3).for_each(|n| pool.offer(tm(n), 2));
    pool.adopt(slot(2, 0), job(2));
    pool.adopt(slot(2, 1), job(2));
    // The third was on a task manager that is full by now, and the fourth nowhere.
    pool.request(job(1), FIRST, slots(4), vec![Some(tm(3)), Some(tm(1)), Some(tm(2)), None]);
    let chosen = vec![slot(3, 0), slot(1, 0), slot(1, 1), slot(3, 1)];
    assert_eq!(pool.grant(), vec![Grant { job: job(1), request: FIRST, slots: chosen }]);
}
