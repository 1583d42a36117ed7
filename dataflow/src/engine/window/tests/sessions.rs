//! Session windows against their oracle: how they grow, join, fire and end.

use super::oracle::{self, Windows};
use super::*;

fn driver(gap: i64, lateness: i64) -> Driver {
    Driver::of(Assigner::session(gap).unwrap(), None, lateness)
}

#[test]
fn random_streams_make_the_sessions_that_a_search_finds() {
    for seed in 0..600u64 {
        let mut numbers = Numbers(seed ^ 0x5e55);
        let base = BASES[usize::try_from(seed).unwrap() % BASES.len()];
        let lateness = [0, 0, 3, 25, i64::MAX][usize::try_from(numbers.between(0, 5)).unwrap()];
        let gap = Some(numbers.between(1, 12)).filter(|_| seed % 2 == 0);
        let steps = numbers.stream(base, 40);
        let (mut expected, expected_refused) = oracle::play(&Windows::Session { gap }, lateness, &steps);
        expected.iter_mut().for_each(|(_, values)| values.sort_unstable());
        let assigner = gap.map_or(Assigner::dynamic_session(), |gap| Assigner::session(gap).unwrap());
        let mut driver = Driver::of(assigner, None, lateness);
        let found = driver.play(&steps);
        assert_eq!(found, (expected, expected_refused), "{seed} {gap:?} {lateness}\n{steps:?}");
        let kept_forever = lateness == i64::MAX || base == BASES[4] && lateness > 0;
        assert!(kept_forever || driver.keys.is_empty() && driver.effects.timers.is_empty(), "{driver:?}");
    }
}

#[test]
fn a_record_between_two_sessions_joins_them() {
    let mut driver = driver(10, 0);
    for (value, time) in [(1, 0), (2, 18), (3, 9)] {
        assert_eq!(driver.add(value, time), Added::Kept);
    }
    driver.watermark(26);
    assert_eq!(driver.fired(), []);
    driver.watermark(27);
    assert_eq!(driver.fired(), [(0, 28, vec![1, 2, 3])]);
    assert!(driver.keys.is_empty());
}

#[test]
fn sessions_that_meet_are_one_and_those_a_millisecond_apart_are_two() {
    for (time, fired) in [(10, vec![(0, 20, vec![1, 2])]), (11, vec![(0, 10, vec![1]), (11, 21, vec![2])])] {
        let mut driver = driver(10, 0);
        driver.add(1, 0);
        driver.add(2, time);
        driver.watermark(i64::MAX);
        assert_eq!(driver.fired(), fired);
    }
}

#[test]
fn a_session_that_grows_sets_one_timer_at_a_time() {
    let mut driver = driver(100, 0);
    for time in 0..1000 {
        driver.add(time, time);
    }
    assert_eq!(driver.effects.registrations, 1);
    driver.watermark(500);
    assert_eq!(driver.effects.timers, BTreeSet::from([(TimeDomain::Event, 1098)]));
    assert_eq!(driver.fired(), []);
    driver.watermark(1098);
    assert_eq!(driver.fired(), [(0, 1099, (0..1000).collect())]);
    assert_eq!(driver.effects.registrations, 2);
}

#[test]
fn a_late_record_counts_when_the_session_that_it_joins_is_not_late() {
    let mut driver = driver(10, 0);
    driver.add(1, 5);
    driver.add(2, 14);
    driver.watermark(20);
    assert_eq!(driver.add(3, 8), Added::Kept);
    assert_eq!(driver.add(4, -6), Added::Late(4));
    assert_eq!(driver.add(5, -5), Added::Kept);
    driver.watermark(23);
    assert_eq!(driver.fired(), [(-5, 24, vec![1, 2, 3, 5])]);
}

#[test]
fn a_session_that_has_fired_and_is_kept_fires_again_when_it_grows() {
    let mut driver = driver(10, 20);
    driver.add(1, 0);
    driver.watermark(12);
    assert_eq!(driver.fired(), [(0, 10, vec![1])]);
    driver.add(2, 1);
    assert_eq!(driver.fired(), [(0, 11, vec![1, 2])]);
    driver.add(3, 9);
    assert_eq!(driver.fired(), []);
    driver.watermark(18);
    assert_eq!(driver.fired(), [(0, 19, vec![1, 2, 3])]);
    driver.watermark(37);
    assert_eq!(driver.fired(), []);
    assert!(!driver.keys.is_empty());
    driver.watermark(38);
    assert!(driver.keys.is_empty() && driver.effects.timers.is_empty());
}

#[test]
fn gaps_that_are_not_positive_are_handed_back() {
    let mut driver = Driver::of(Assigner::dynamic_session(), None, 0);
    for gap in [0, -1, i64::MIN] {
        assert_eq!(driver.add_with_gap(1, 0, gap), Added::BadGap(1));
    }
    assert_eq!(driver.add_with_gap(1, 0, 1), Added::Kept);
    assert_eq!(driver.add_with_gap(2, 1, i64::MAX), Added::Kept);
    driver.watermark(i64::MAX);
    assert_eq!(driver.fired(), [(0, i64::MAX, vec![1, 2])]);
}

#[test]
fn sessions_at_the_end_of_time_are_not_empty() {
    let mut driver = driver(10, 0);
    driver.add(1, i64::MAX);
    driver.add(2, i64::MAX - 1);
    driver.add(3, i64::MIN + 1);
    driver.watermark(i64::MAX);
    assert_eq!(driver.fired(), [(i64::MIN + 1, i64::MIN + 11, vec![3]), (i64::MAX - 1, i64::MAX, vec![1, 2])]);
}
