//! Late records one case at a time, and what a restart does to them.

use super::*;

/// Tumbling windows by panes and one by one, and sliding ones in both ways.
fn drivers(size: i64, slide: i64, lateness: i64) -> [Driver; 2] {
    let assigner = Assigner::sliding(size, slide, 0).unwrap();
    [Driver::of(assigner, None, lateness), Driver::of(assigner, Some(AnyTrigger::EventTime), lateness)]
}

#[test]
fn without_lateness_a_record_of_a_window_that_has_ended_is_late() {
    for mut driver in drivers(10, 10, 0) {
        driver.add(1, 3);
        driver.watermark(8);
        assert_eq!(driver.add(2, 4), Added::Kept);
        driver.watermark(9);
        assert_eq!(driver.fired(), [(0, 10, vec![1, 2])]);
        assert_eq!(driver.add(3, 9), Added::Late(3));
        assert_eq!(driver.add(4, 10), Added::Kept);
        assert_eq!(driver.fired(), []);
    }
}

#[test]
fn a_record_within_the_lateness_fires_the_whole_window_again() {
    for mut driver in drivers(10, 10, 5) {
        driver.add(1, 3);
        driver.watermark(9);
        driver.add(2, 4);
        driver.watermark(13);
        driver.add(3, 5);
        assert_eq!(driver.fired(), [(0, 10, vec![1]), (0, 10, vec![1, 2]), (0, 10, vec![1, 2, 3])]);
        driver.watermark(14);
        assert_eq!(driver.add(4, 5), Added::Late(4));
        assert_eq!(driver.fired(), []);
        assert!(driver.keys.is_empty() && driver.effects.timers.is_empty());
    }
}

#[test]
fn the_first_record_of_a_window_fires_it_when_it_is_late_but_allowed() {
    for mut driver in drivers(10, 10, 5) {
        driver.watermark(12);
        assert_eq!(driver.add(1, 3), Added::Kept);
        assert_eq!(driver.fired(), [(0, 10, vec![1])]);
        driver.add(2, 11);
        driver.watermark(14);
        assert_eq!(driver.fired(), []);
        driver.watermark(19);
        assert_eq!(driver.fired(), [(10, 20, vec![2])]);
    }
}

#[test]
fn a_record_counts_in_those_of_its_windows_that_are_not_forgotten() {
    for mut driver in drivers(10, 5, 0) {
        driver.add(1, 6);
        driver.watermark(9);
        assert_eq!(driver.fired(), [(0, 10, vec![1])]);
        assert_eq!(driver.add(2, 7), Added::Kept);
        assert_eq!(driver.fired(), []);
        driver.watermark(14);
        assert_eq!(driver.fired(), [(5, 15, vec![1, 2])]);
        assert_eq!(driver.add(3, 7), Added::Late(3));
    }
}

#[test]
fn a_late_record_fires_each_of_its_windows_that_has_ended() {
    for mut driver in drivers(10, 5, 4) {
        driver.add(1, 6);
        driver.watermark(18);
        assert_eq!(driver.fired(), [(0, 10, vec![1]), (5, 15, vec![1])]);
        assert_eq!(driver.add(2, 7), Added::Late(2));
        assert_eq!(driver.add(3, 12), Added::Kept);
        assert_eq!(driver.fired(), []);
        driver.watermark(19);
        assert_eq!(driver.fired(), [(10, 20, vec![3])]);
        assert_eq!(driver.add(4, 13), Added::Kept);
        assert_eq!(driver.fired(), [(10, 20, vec![3, 4])]);
        driver.watermark(i64::MAX);
        assert_eq!(driver.fired(), []);
        assert!(driver.keys.is_empty());
    }
}

#[test]
fn a_window_of_endless_lateness_is_kept_to_the_end_of_time() {
    for mut driver in drivers(10, 10, i64::MAX) {
        driver.add(1, 3);
        driver.watermark(i64::MAX - 1);
        assert_eq!(driver.add(2, 3), Added::Kept);
        assert_eq!(driver.fired(), [(0, 10, vec![1]), (0, 10, vec![1, 2])]);
        assert!(driver.effects.timers.is_empty());
        driver.watermark(i64::MAX);
        assert_eq!(driver.add(3, 3), Added::Late(3));
    }
}

#[test]
fn a_watermark_that_begins_anew_after_a_restart_brings_no_window_back() {
    for mut driver in drivers(10, 5, 0) {
        driver.add(1, 2);
        driver.add(2, 7);
        driver.watermark(9);
        assert_eq!(driver.fired(), [(-5, 5, vec![1]), (0, 10, vec![1, 2])]);
        driver.now.watermark = i64::MIN;
        assert_eq!(driver.add(3, 4), Added::Late(3));
        assert_eq!(driver.add(4, 8), Added::Kept);
        driver.watermark(9);
        assert_eq!(driver.fired(), []);
        driver.watermark(14);
        assert_eq!(driver.fired(), [(5, 15, vec![2, 4])]);
    }
}

#[test]
fn an_update_after_a_restart_is_emitted_at_once() {
    for mut driver in drivers(10, 10, 20) {
        driver.add(1, 2);
        driver.watermark(9);
        driver.now.watermark = i64::MIN;
        driver.add(2, 3);
        assert_eq!(driver.fired(), [(0, 10, vec![1]), (0, 10, vec![1, 2])]);
        driver.watermark(29);
        assert_eq!(driver.fired(), []);
        assert!(driver.keys.is_empty());
    }
}

#[test]
fn a_late_update_after_a_restart_is_emitted_at_once() {
    for mut driver in drivers(10, 10, 20) {
        driver.watermark(12);
        driver.add(1, 2);
        driver.now.watermark = i64::MIN;
        driver.add(2, 3);
        assert_eq!(driver.fired(), [(0, 10, vec![1]), (0, 10, vec![1, 2])]);
    }
}

#[test]
fn a_negative_lateness_is_refused() {
    let windowing = Windowing::<i64>::new(Assigner::global(), None, -1, Sharing::Panes);
    let message = "set the allowed lateness: -1 is not allowed, it must be zero or more";
    assert_eq!(windowing.unwrap_err().to_string(), message);
}
