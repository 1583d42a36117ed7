//! The built-in triggers, one behaviour at a time.

use std::sync::Arc;

use super::*;

fn with(assigner: Assigner, trigger: AnyTrigger<i64>, lateness: i64) -> Driver {
    Driver::of(assigner, Some(trigger), lateness)
}

fn values(driver: &mut Driver) -> Vec<Vec<i64>> {
    driver.fired().into_iter().map(|(_, _, values)| values).collect()
}

fn tumbling() -> Assigner {
    Assigner::tumbling(10, 0).unwrap()
}

fn delta(threshold: f64) -> AnyTrigger<i64> {
    AnyTrigger::Delta(threshold, Arc::new(|value| f64::from(i32::try_from(*value).unwrap())))
}

#[test]
fn count_windows_are_chunks_of_the_stream() {
    for seed in 0..50 {
        let mut numbers = Numbers(seed);
        let (count, length) = (numbers.between(1, 9), numbers.between(0, 60));
        let mut driver = Driver::new(Windowing::count(u64::try_from(count).unwrap()).unwrap());
        (0..length).for_each(|value| assert_eq!(driver.add(value, i64::MIN), Added::Kept));
        driver.watermark(i64::MAX);
        let all: Vec<_> = (0..length).collect();
        let expected: Vec<_> = all.chunks_exact(usize::try_from(count).unwrap()).map(<[i64]>::to_vec).collect();
        assert_eq!(values(&mut driver), expected);
        assert_eq!(driver.keys.is_empty(), length % count == 0);
        assert!(driver.effects.timers.is_empty());
    }
}

#[test]
fn sliding_count_windows_look_back_as_far_as_their_evictor_keeps() {
    struct Keeper {
        evictor: AnyEvictor<i64>,
        fired: Vec<Vec<i64>>,
    }
    impl TimerSink for Keeper {
        fn register(&mut self, _: TimeDomain, _: i64) {}
        fn delete(&mut self, _: TimeDomain, _: i64) {}
    }
    impl Host<i64, Vec<Stamped<i64>>> for Keeper {
        fn fold(&mut self, contents: &mut Option<Vec<Stamped<i64>>>, value: i64) {
            contents.get_or_insert_default().push(Stamped { timestamp: value, value });
        }
        fn merge(&mut self, into: &mut Vec<Stamped<i64>>, from: Vec<Stamped<i64>>) {
            into.extend(from);
        }
        fn emit(&mut self, window: TimeWindow, contents: Contents<'_, Vec<Stamped<i64>>>) {
            let fired = &mut self.fired;
            self.evictor.around(window, contents, 0, |_, elements| {
                fired.push(elements.iter().map(|element| element.value).collect());
            });
        }
    }
    for (size, slide) in [(5i64, 2i64), (2, 5), (3, 3), (4, 1)] {
        let windowing = Windowing::count_sliding(slide.unsigned_abs()).unwrap();
        let evictor = AnyEvictor::count(usize::try_from(size).unwrap(), Order::Before).unwrap();
        let (mut keeper, mut keys) = (Keeper { evictor, fired: Vec::new() }, KeyWindows::default());
        let now = Now { watermark: i64::MIN, processing_time: 0 };
        (0..30).for_each(|value| assert_eq!(windowing.add(&mut keys, value, 0, now, &mut keeper), Added::Kept));
        let ends = (1..=30).filter(|end| end % slide == 0);
        let expected: Vec<Vec<_>> = ends.map(|end| ((end - size).max(0)..end).collect()).collect();
        assert_eq!(keeper.fired, expected, "{size} {slide}");
    }
}

#[test]
fn a_count_in_windows_of_time_fires_at_the_count_and_not_at_the_end() {
    let mut driver = with(tumbling(), AnyTrigger::Count(2), 0);
    (0..5).for_each(|value| assert_eq!(driver.add(value, value), Added::Kept));
    assert_eq!(values(&mut driver), [vec![0, 1], vec![0, 1, 2, 3]]);
    driver.watermark(9);
    assert_eq!(values(&mut driver), [[0; 0]; 0]);
    assert!(driver.keys.is_empty() && driver.effects.timers.is_empty());
}

#[test]
fn counts_of_joined_sessions_add_up() {
    let mut driver = with(Assigner::session(10).unwrap(), AnyTrigger::Count(4), 0);
    for (value, time) in [(1, 0), (2, 1), (3, 18)] {
        driver.add(value, time);
    }
    assert_eq!(values(&mut driver), [[0; 0]; 0]);
    driver.add(4, 9);
    assert_eq!(values(&mut driver), [[1, 2, 3, 4]]);
    driver.watermark(i64::MAX);
    assert!(driver.keys.is_empty());
}

#[test]
fn a_purging_trigger_drops_what_it_has_fired() {
    let mut driver = with(tumbling(), AnyTrigger::EventTime.purging(), 20);
    driver.add(1, 3);
    driver.watermark(9);
    assert!(driver.keys.is_empty() && driver.effects.timers.is_empty());
    driver.add(2, 4);
    assert_eq!(values(&mut driver), [[1], [2]]);
    assert!(driver.keys.is_empty() && driver.effects.timers.is_empty());
}

#[test]
fn a_window_that_a_count_empties_takes_its_timer_back() {
    let mut driver = with(tumbling(), AnyTrigger::Count(2).purging(), 0);
    driver.add(1, 3);
    assert_eq!(driver.effects.timers, BTreeSet::from([(TimeDomain::Event, 9)]));
    driver.add(2, 4);
    assert_eq!(values(&mut driver), [[1, 2]]);
    assert!(driver.keys.is_empty() && driver.effects.timers.is_empty());
}

#[test]
fn a_window_sets_its_timer_once_and_gives_its_contents_away_at_the_end() {
    for (lateness, given) in [(0, 1), (5, 0)] {
        let mut driver = with(tumbling(), AnyTrigger::EventTime, lateness);
        (0..10).for_each(|value| assert_eq!(driver.add(value, value), Added::Kept));
        assert_eq!(driver.effects.registrations, 1);
        driver.watermark(9);
        assert_eq!((driver.effects.fired.len(), driver.effects.given), (1, given));
    }
}

#[test]
fn a_purged_session_keeps_its_extent() {
    let mut driver = with(Assigner::session(10).unwrap(), AnyTrigger::Count(2).purging(), 0);
    for (value, time) in [(1, 0), (2, 5), (3, 12), (4, 20)] {
        driver.add(value, time);
    }
    assert_eq!(driver.fired(), [(0, 15, vec![1, 2]), (0, 30, vec![3, 4])]);
    driver.watermark(29);
    assert_eq!(driver.fired(), []);
    assert!(driver.keys.is_empty() && driver.effects.timers.is_empty());
}

#[test]
fn a_continuous_trigger_fires_at_each_interval_and_at_the_end() {
    let mut driver = with(tumbling(), AnyTrigger::ContinuousEventTime(4), 5);
    for (value, time) in [(1, 1), (2, 6), (3, 12)] {
        driver.add(value, time);
    }
    for (watermark, fired) in [(3, 0), (4, 1), (7, 0), (8, 1), (9, 1), (11, 0), (13, 0)] {
        driver.watermark(watermark);
        let expected = vec![vec![1, 2]; fired];
        assert_eq!(values(&mut driver), expected, "{watermark}");
    }
    driver.add(4, 2);
    assert_eq!(values(&mut driver), [[1, 2, 4]]);
    driver.watermark(i64::MAX);
    assert_eq!(values(&mut driver), [[3], [3]]);
    assert!(driver.keys.is_empty() && driver.effects.timers.is_empty());
}

#[test]
fn a_continuous_trigger_fires_before_the_epoch_and_in_the_global_window() {
    let mut driver = with(Assigner::global(), AnyTrigger::ContinuousEventTime(10), 0);
    driver.add(1, -15);
    driver.watermark(-11);
    assert_eq!(values(&mut driver), [[0; 0]; 0]);
    driver.watermark(-10);
    driver.watermark(0);
    assert_eq!(values(&mut driver), [[1], [1]]);
}

#[test]
fn joined_sessions_fire_at_the_earliest_interval_that_one_of_them_planned() {
    let mut driver = with(Assigner::session(30).unwrap(), AnyTrigger::ContinuousEventTime(20), 0);
    driver.add(1, 45);
    driver.add(2, 5);
    driver.add(3, 30);
    driver.watermark(20);
    assert_eq!(driver.fired(), [(5, 75, vec![1, 2, 3])]);
    driver.watermark(74);
    assert_eq!(driver.fired().len(), 3);
    assert!(driver.keys.is_empty());
}

#[test]
fn a_session_that_has_ended_takes_over_the_plan_of_the_one_that_it_joins() {
    let mut driver = with(Assigner::session(10).unwrap(), AnyTrigger::ContinuousEventTime(4), 100);
    driver.add(1, 0);
    driver.watermark(9);
    assert_eq!(driver.fired().len(), 3);
    driver.add(2, 15);
    driver.add(3, 9);
    driver.watermark(15);
    assert_eq!(driver.fired(), []);
    driver.watermark(16);
    assert_eq!(driver.fired(), [(0, 25, vec![1, 2, 3])]);
}

#[test]
fn a_delta_fires_when_a_position_is_farther_than_the_threshold_from_the_last() {
    let mut driver = with(Assigner::global(), delta(10.0).purging(), 0);
    [0, 10, 11, 5, 1, 0, 30].into_iter().for_each(|value| assert_eq!(driver.add(value, 0), Added::Kept));
    assert_eq!(values(&mut driver), [vec![0, 10, 11], vec![0, 1, 5], vec![30]]);
    assert!(!driver.keys.is_empty());
}

#[test]
fn the_global_window_never_fires_by_itself() {
    let mut driver = Driver::of(Assigner::global(), None, 0);
    driver.add(1, 5);
    driver.watermark(i64::MAX);
    driver.processing_time(i64::MAX);
    assert_eq!(driver.fired(), []);
    assert!(driver.effects.registrations == 0 && !driver.keys.is_empty());
    assert_eq!(driver.add(2, 5), Added::Kept);
}

#[test]
fn the_global_window_can_fire_at_the_end_of_time() {
    let mut driver = with(Assigner::global(), AnyTrigger::EventTime, 0);
    driver.add(1, 5);
    driver.add(2, 3);
    driver.watermark(i64::MAX - 1);
    assert_eq!(driver.fired(), []);
    driver.watermark(i64::MAX);
    assert_eq!(driver.fired(), [(i64::MIN, i64::MAX, vec![1, 2])]);
}

#[test]
fn senseless_triggers_are_refused() {
    let refusal =
        |assigner, trigger| Windowing::new(assigner, Some(trigger), 0, Sharing::Panes).unwrap_err().to_string();
    let global = Assigner::global();
    let table = [
        (
            refusal(global, AnyTrigger::Count(0)),
            "set the trigger count of a window: 0 is not allowed, it must be positive",
        ),
        (
            refusal(global, AnyTrigger::ContinuousEventTime(-5).purging()),
            "set the trigger interval of a window: -5 is not allowed, it must be positive",
        ),
        (refusal(global, delta(f64::NAN)), "set the threshold of a delta: NaN is not allowed, it must be a number"),
        (
            refusal(Assigner::session(1).unwrap(), delta(1.0).purging()),
            "use a delta trigger on session windows: it cannot merge, use one that can",
        ),
    ];
    for (found, expected) in table {
        assert_eq!(found, expected);
    }
}
