//! Windows and triggers in processing time.

use super::*;

fn driver(assigner: Assigner, trigger: Option<AnyTrigger<i64>>) -> Driver {
    Driver::of(assigner.in_processing_time(), trigger, 1000)
}

#[test]
fn the_clock_places_records_and_ends_windows_and_nothing_is_late() {
    for trigger in [None, Some(AnyTrigger::ProcessingTime)] {
        let mut driver = driver(Assigner::tumbling(10, 0).unwrap(), trigger);
        driver.watermark(1_000_000);
        driver.processing_time(13);
        assert_eq!(driver.add(1, i64::MIN), Added::Kept);
        driver.processing_time(17);
        assert_eq!(driver.add(2, 99), Added::Kept);
        driver.watermark(i64::MAX);
        assert_eq!(driver.fired(), []);
        driver.processing_time(19);
        assert_eq!(driver.fired(), [(10, 20, vec![1, 2])]);
        assert!(driver.keys.is_empty() && driver.effects.timers.is_empty());
        assert_eq!(driver.add(3, 0), Added::Kept);
        driver.processing_time(20);
        assert_eq!(driver.fired(), [(10, 20, vec![3])]);
        assert!(driver.keys.is_empty() && driver.effects.timers.is_empty());
    }
}

#[test]
fn sliding_windows_fire_by_the_clock_with_and_without_panes() {
    for trigger in [None, Some(AnyTrigger::ProcessingTime)] {
        let mut driver = driver(Assigner::sliding(10, 5, 0).unwrap(), trigger);
        for time in [1, 7, 12] {
            driver.processing_time(time);
            driver.add(time, 0);
        }
        driver.processing_time(100);
        let expected = [(-5, 5, vec![1]), (0, 10, vec![1, 7]), (5, 15, vec![7, 12]), (10, 20, vec![12])];
        assert_eq!(driver.fired(), expected);
        assert!(driver.keys.is_empty() && driver.effects.timers.is_empty());
    }
}

#[test]
fn sessions_end_when_the_clock_has_passed_their_gap() {
    let mut driver = driver(Assigner::session(10).unwrap(), None);
    for time in [0, 6, 30] {
        driver.processing_time(time);
        driver.add(time, 0);
    }
    assert_eq!(driver.fired(), [(0, 16, vec![0, 6])]);
    driver.processing_time(39);
    assert_eq!(driver.fired(), [(30, 40, vec![30])]);
    assert!(driver.keys.is_empty() && driver.effects.timers.is_empty());
}

#[test]
fn a_continuous_trigger_fires_by_the_clock_and_at_the_end() {
    let mut driver = driver(Assigner::tumbling(10, 0).unwrap(), Some(AnyTrigger::ContinuousProcessingTime(4)));
    driver.processing_time(11);
    driver.add(1, 0);
    for (time, fired) in [(11, 0), (12, 1), (15, 0), (16, 1), (18, 0), (19, 1), (30, 0)] {
        driver.processing_time(time);
        assert_eq!(driver.fired(), vec![(10, 20, vec![1]); fired], "{time}");
    }
    assert!(driver.keys.is_empty() && driver.effects.timers.is_empty());
}

#[test]
fn a_continuous_trigger_by_the_clock_does_not_stop_at_the_end_of_a_window_of_event_time() {
    let trigger = AnyTrigger::ContinuousProcessingTime(9);
    let mut driver = Driver::of(Assigner::tumbling(10, 0).unwrap(), Some(trigger), 0);
    driver.processing_time(5);
    driver.add(1, 3);
    for (time, fired) in [(8, 0), (9, 1), (17, 0), (18, 1)] {
        driver.processing_time(time);
        assert_eq!(driver.fired(), vec![(0, 10, vec![1]); fired], "{time}");
    }
}

#[test]
fn a_timer_of_the_other_clock_means_nothing() {
    let mut driver = Driver::of(Assigner::tumbling(10, 0).unwrap(), None, 0);
    driver.add(1, 3);
    driver.effects.timers.insert((TimeDomain::Processing, 9));
    driver.processing_time(9);
    assert_eq!(driver.fired(), []);
    driver.watermark(9);
    assert_eq!(driver.fired(), [(0, 10, vec![1])]);
}

#[test]
fn a_continuous_trigger_by_the_clock_serves_serves_old_windows_of_event_time() {
    let trigger = AnyTrigger::ContinuousProcessingTime(100);
    let mut driver = Driver::of(Assigner::tumbling(10, 0).unwrap(), Some(trigger), 0);
    driver.processing_time(100_050);
    driver.add(1, 3);
    driver.processing_time(100_300);
    assert_eq!(driver.fired(), vec![(0, 10, vec![1]); 3]);
    driver.watermark(9);
    assert_eq!(driver.fired(), []);
    assert!(driver.keys.is_empty() && driver.effects.timers.is_empty());
}
