//! A trigger of the user's own: its timers, its state, its merging.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

/// Fires some event time after each record, if the record is positive; a zero purges at once.
struct After(i64);

impl Trigger<i64> for After {
    fn on_element(&self, value: &i64, time: i64, _: TimeWindow, context: &mut TriggerContext<'_>) -> TriggerResult {
        context.state.count += 1;
        match value {
            0 => return TriggerResult::Purge,
            1.. => context.register(TimeDomain::Event, time + self.0),
            _ => context.delete(TimeDomain::Event, time + self.0),
        }
        TriggerResult::Continue
    }

    fn on_event_time(&self, time: i64, _: TimeWindow, context: &mut TriggerContext<'_>) -> TriggerResult {
        assert!(time <= context.watermark());
        context.register(TimeDomain::Processing, context.processing_time() + 5);
        TriggerResult::Fire
    }

    fn on_processing_time(&self, _: i64, _: TimeWindow, _: &mut TriggerContext<'_>) -> TriggerResult {
        TriggerResult::FireAndPurge
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&self, window: TimeWindow, others: &[CustomState], context: &mut TriggerContext<'_>) {
        context.state.count += others.iter().map(|other| other.count).sum::<u64>();
        let time = window.start + 2 * self.0;
        context.register(TimeDomain::Event, time);
    }
}

fn driver(assigner: Assigner) -> Driver {
    Driver::of(assigner, Some(AnyTrigger::Custom(Arc::new(After(3)))), 0)
}

#[test]
fn it_is_asked_about_its_own_timers_only() {
    let mut driver = driver(Assigner::tumbling(10, 0).unwrap());
    driver.add(1, 1);
    driver.add(2, 11);
    driver.watermark(4);
    assert_eq!(driver.fired(), [(0, 10, vec![1])]);
    driver.processing_time(4);
    assert_eq!(driver.fired(), []);
    driver.processing_time(5);
    assert_eq!(driver.fired(), [(0, 10, vec![1])]);
    driver.processing_time(50);
    assert_eq!(driver.fired(), []);
    driver.watermark(14);
    assert_eq!(driver.fired(), [(10, 20, vec![2])]);
}

#[test]
fn it_takes_timers_back_and_purges() {
    let mut driver = driver(Assigner::tumbling(10, 0).unwrap());
    driver.add(1, 1);
    driver.add(-1, 1);
    driver.watermark(5);
    assert_eq!(driver.fired(), []);
    driver.add(0, 1);
    driver.add(3, 5);
    driver.watermark(8);
    assert_eq!(driver.fired(), [(0, 10, vec![3])]);
    driver.watermark(9);
    assert!(driver.keys.is_empty() && driver.effects.timers.is_empty());
}

#[test]
fn a_timer_that_has_passed_comes_with_the_next_advance() {
    let mut driver = driver(Assigner::tumbling(10, 0).unwrap());
    driver.watermark(7);
    driver.add(1, 1);
    assert_eq!(driver.fired(), []);
    driver.watermark(8);
    assert_eq!(driver.fired(), [(0, 10, vec![1])]);
}

#[test]
fn it_merges_with_its_windows() {
    let mut driver = driver(Assigner::session(10).unwrap());
    driver.add(1, 20);
    driver.add(2, 2);
    driver.add(-1, 11);
    driver.watermark(7);
    assert_eq!(driver.fired(), []);
    driver.watermark(8);
    assert_eq!(driver.fired(), [(2, 30, vec![-1, 1, 2])]);
    driver.watermark(28);
    assert_eq!(driver.fired(), []);
    driver.watermark(29);
    assert!(driver.keys.is_empty() && driver.effects.timers.is_empty());
}

#[test]
fn it_is_told_when_a_window_is_forgotten() {
    struct Told(AtomicI64);
    impl Trigger<i64> for Told {
        fn on_element(&self, _: &i64, _: i64, _: TimeWindow, context: &mut TriggerContext<'_>) -> TriggerResult {
            context.state.bytes.push(7);
            TriggerResult::Continue
        }
        fn clear(&self, window: TimeWindow, context: &mut TriggerContext<'_>) {
            assert_eq!(context.state.bytes, [7, 7]);
            self.0.store(window.end, Ordering::Relaxed);
        }
    }
    let told = Arc::new(Told(AtomicI64::new(0)));
    let trigger = AnyTrigger::Custom(told.clone()).purging();
    let mut driver = Driver::of(Assigner::tumbling(10, 0).unwrap(), Some(trigger), 5);
    driver.add(1, 1);
    driver.add(2, 2);
    driver.watermark(13);
    assert_eq!(told.0.load(Ordering::Relaxed), 0);
    driver.watermark(14);
    assert_eq!(told.0.load(Ordering::Relaxed), 10);
    assert!(driver.keys.is_empty());
}

#[test]
fn a_trigger_that_cannot_merge_is_refused_for_sessions() {
    struct Plain;
    impl Trigger<i64> for Plain {
        fn on_element(&self, _: &i64, _: i64, _: TimeWindow, _: &mut TriggerContext<'_>) -> TriggerResult {
            TriggerResult::Fire
        }
    }
    let windowing =
        |assigner| Windowing::new(assigner, Some(AnyTrigger::Custom(Arc::new(Plain)).purging()), 0, Sharing::Panes);
    assert_eq!(
        windowing(Assigner::dynamic_session()).unwrap_err(),
        Error::TriggerCannotMerge { trigger: "user-defined" }
    );
    let mut driver = Driver::new(windowing(Assigner::global()).unwrap());
    driver.add(1, 0);
    driver.add(2, 0);
    assert_eq!(driver.fired(), [(i64::MIN, i64::MAX, vec![1]), (i64::MIN, i64::MAX, vec![2])]);
    assert!(driver.keys.is_empty());
}

/// Waits for the next ten milliseconds, again and again.
struct Again;

impl Trigger<i64> for Again {
    fn on_element(&self, _: &i64, time: i64, _: TimeWindow, context: &mut TriggerContext<'_>) -> TriggerResult {
        context.register(TimeDomain::Event, time + 10);
        TriggerResult::Continue
    }

    fn on_event_time(&self, time: i64, _: TimeWindow, context: &mut TriggerContext<'_>) -> TriggerResult {
        context.state.count += 1;
        context.register(TimeDomain::Event, time.saturating_add(10));
        if context.state.count == 2 { TriggerResult::Fire } else { TriggerResult::Continue }
    }
}

#[test]
fn at_the_end_of_time_it_is_asked_about_what_it_waited_for_before_and_no_more() {
    let Driver { windowing, mut keys, now, mut effects } =
        Driver::of(Assigner::global(), Some(AnyTrigger::Custom(Arc::new(Again))), 0);
    windowing.add(&mut keys, 1, 0, now, &mut effects);
    windowing.add(&mut keys, 2, 1, now, &mut effects);
    windowing.on_timer(&mut keys, TimeDomain::Event, i64::MAX, now, &mut effects);
    assert_eq!(effects.fired, [(TimeWindow::GLOBAL, vec![1, 2])]);
    assert!(windowing.is_endless() && windowing.has_custom_trigger());
}
