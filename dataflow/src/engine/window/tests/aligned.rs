//! Tumbling and sliding windows against their oracle, with and without panes, and what they cost.

use super::oracle::{self, Windows};
use super::*;

fn sorted(mut fired: Vec<Fired>) -> Vec<Fired> {
    fired.iter_mut().for_each(|(_, values)| values.sort_unstable());
    fired
}

#[test]
fn random_streams_fire_what_single_windows_would_with_and_without_panes() {
    let shapes = [
        (1, 1, 0),
        (10, 10, 0),
        (10, 10, 3),
        (10, 10, -3),
        (10, 5, 0),
        (12, 3, 2),
        (6, 4, 1),
        (7, 3, -2),
        (9, 6, 5),
        (3, 10, 4),
        (6, 10, 0),
        (50, 1, 0),
    ];
    for seed in 0..120 {
        for (size, slide, offset) in shapes {
            let mut numbers = Numbers(seed * 1_000_003 + u64::try_from(size * 64 + slide).unwrap());
            let base = BASES[usize::try_from(seed).unwrap() % BASES.len()];
            let lateness = [0, 0, 1, 7, 30, i64::MAX][usize::try_from(numbers.between(0, 6)).unwrap()];
            let steps = numbers.stream(base, 30);
            let (fired, refused) = oracle::play(&Windows::Aligned { size, slide, offset }, lateness, &steps);
            let expected = (sorted(fired), refused);
            let assigner = Assigner::sliding(size, slide, offset).unwrap();
            for sharing in [Sharing::Panes, Sharing::Windows] {
                let mut driver = Driver::new(Windowing::new(assigner, None, lateness, sharing).unwrap());
                let found = driver.play(&steps);
                assert_eq!(found, expected, "{seed} {size} {slide} {offset} {lateness} {sharing:?}\n{steps:?}");
                let kept_forever = lateness == i64::MAX || base == BASES[4] && lateness > 0;
                assert!(kept_forever || driver.keys.is_empty() && driver.effects.timers.is_empty(), "{driver:?}");
            }
        }
    }
}

#[test]
fn a_default_trigger_that_is_asked_for_fires_like_the_one_that_is_not() {
    for seed in 0..100 {
        let steps = Numbers(seed).stream(0, 30);
        let assigner = Assigner::tumbling(10, 2).unwrap();
        let fast = Driver::of(assigner, None, 5).play(&steps);
        assert_eq!(Driver::of(assigner, Some(AnyTrigger::EventTime), 5).play(&steps), fast, "{seed}");
    }
}

#[test]
fn a_record_goes_into_one_pane_however_many_windows_it_is_in() {
    let mut driver = Driver::of(Assigner::sliding(10_000, 10, 0).unwrap(), None, 0);
    for time in 0..1000 {
        assert_eq!(driver.add(time, time), Added::Kept);
    }
    assert_eq!((driver.effects.folds, driver.effects.merges, driver.effects.registrations), (1000, 0, 1));
    driver.watermark(9);
    assert_eq!(driver.effects.merges, 0);
    driver.watermark(999);
    assert_eq!(driver.fired().len(), 100);
    assert_eq!(driver.effects.merges, (1..100).sum::<usize>());
    driver.watermark(i64::MAX);
    assert_eq!(driver.fired().last().unwrap(), &(990, 10_990, (990..1000).collect()));
}

#[test]
fn the_contents_of_a_tumbling_window_are_given_away_without_a_copy() {
    let mut driver = Driver::of(Assigner::tumbling(10, 0).unwrap(), None, 0);
    driver.add(1, 3);
    driver.watermark(9);
    assert_eq!((driver.effects.given, driver.effects.merges), (1, 0));
    let mut driver = Driver::of(Assigner::tumbling(10, 0).unwrap(), None, 5);
    driver.add(1, 3);
    driver.watermark(9);
    assert_eq!((driver.effects.given, driver.effects.merges), (0, 0));
}

#[test]
fn a_key_has_one_timer_to_fire_and_one_to_forget() {
    let mut driver = Driver::of(Assigner::sliding(100, 10, 0).unwrap(), None, 50);
    for time in 0..500 {
        driver.add(time, time);
    }
    assert_eq!(driver.effects.timers, BTreeSet::from([(TimeDomain::Event, 9), (TimeDomain::Event, 149)]));
}

#[test]
fn records_without_time_are_handed_back() {
    for assigner in [Assigner::tumbling(10, 0).unwrap(), Assigner::session(10).unwrap()] {
        let mut driver = Driver::of(assigner, None, 0);
        assert_eq!(driver.add(7, i64::MIN), Added::NoTimestamp(7));
        assert!(driver.keys.is_empty());
    }
    assert_eq!(Driver::of(Assigner::global(), None, 0).add(7, i64::MIN), Added::Kept);
}

#[test]
fn windows_at_the_edges_of_time_fire_and_are_forgotten() {
    let mut driver = Driver::of(Assigner::tumbling(10, 0).unwrap(), None, 0);
    driver.add(1, i64::MIN + 1);
    driver.add(2, i64::MAX);
    driver.add(3, i64::MAX - 1);
    driver.watermark(0);
    assert_eq!(driver.fired(), [(i64::MIN, i64::MIN + 8, vec![1])]);
    driver.watermark(i64::MAX);
    assert_eq!(driver.fired(), [(i64::MAX - 7, i64::MAX, vec![2, 3])]);
    assert!(driver.keys.is_empty());
    assert_eq!(driver.add(4, i64::MAX), Added::Late(4));

    let mut driver = Driver::of(Assigner::sliding(i64::MAX, i64::MAX / 2, 0).unwrap(), None, 0);
    driver.add(1, i64::MAX);
    driver.add(2, i64::MIN + 1);
    driver.watermark(i64::MAX);
    let counts: Vec<_> = driver.fired().into_iter().map(|(_, _, values)| values).collect();
    assert_eq!(counts, [vec![2], vec![2], vec![1], vec![1]]);
}

#[test]
fn state_of_another_kind_of_windows_is_not_touched() {
    let mut tumbling = Driver::of(Assigner::tumbling(10, 0).unwrap(), None, 0);
    tumbling.add(1, 1);
    let session = Windowing::new(Assigner::session(10).unwrap(), None, 0, Sharing::Panes).unwrap();
    let keys = tumbling.keys.clone();
    assert!(!session.fits(&tumbling.keys));
    let (now, mut effects) = (tumbling.now, Effects::default());
    assert_eq!(session.add(&mut tumbling.keys, 2, 2, now, &mut effects), Added::Foreign(2));
    session.on_timer(&mut tumbling.keys, TimeDomain::Event, 100, now, &mut effects);
    assert_eq!(tumbling.keys, keys);
    assert!(effects.timers.is_empty() && effects.fired.is_empty());
}

#[test]
fn the_fast_path_serves_windows_that_need_no_merging_also_when_nothing_may_be_shared() {
    let fast = |size, slide, sharing| {
        let windowing = Windowing::<i64>::new(Assigner::sliding(size, slide, 0).unwrap(), None, 0, sharing).unwrap();
        let mut panes = Driver::of(Assigner::tumbling(10, 0).unwrap(), None, 0);
        panes.add(1, 1);
        windowing.fits(&panes.keys)
    };
    assert!(fast(10, 10, Sharing::Windows) && fast(5, 10, Sharing::Windows) && fast(10, 5, Sharing::Panes));
    assert!(!fast(10, 5, Sharing::Windows));
}

#[test]
fn hooks_of_closures_are_a_host() {
    let windowing = Windowing::new(Assigner::sliding(10, 5, 0).unwrap(), None, 0, Sharing::Panes).unwrap();
    let (mut timers, mut sums, mut keys) = (Effects::default(), Vec::new(), KeyWindows::<i64>::default());
    let mut host = Hooks {
        timers: &mut timers,
        fold: |sum: &mut Option<i64>, value: i64| *sum.get_or_insert_default() += value,
        merge: |sum: &mut i64, other: i64| *sum += other,
        emit: |window: TimeWindow, sum: Contents<'_, i64>| sums.push((window.max_timestamp(), *sum.get())),
    };
    let now = Now { watermark: i64::MIN, processing_time: 0 };
    for (value, time) in [(1, 2), (10, 7), (100, 12)] {
        windowing.add(&mut keys, value, time, now, &mut host);
    }
    for time in [4, 9, 14, 19] {
        windowing.on_timer(&mut keys, TimeDomain::Event, time, now, &mut host);
    }
    assert!(keys.is_empty());
    assert_eq!(sums, [(4, 1), (9, 11), (14, 110), (19, 100)]);
}
