//! Event time: who assigns it, how watermarks and idleness come about, and the edges of `i64`.

use std::time::Duration;

use tidemill::testing::TestEvent::{Active, EndOfInput, Idle, Record, Watermark};
use tidemill::testing::{TestHarness, TestStream};
use tidemill::{Error, WatermarkGenerator, WatermarkStrategy};

fn bounded(bound_ms: u64, idle_ms: Option<u64>) -> TestHarness<i64, i64> {
    let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(bound_ms), |time: &i64| *time);
    TestHarness::new(|times: TestStream<i64>| match idle_ms {
        Some(idle) => times.assign_timestamps_and_watermarks(strategy.with_idleness(Duration::from_millis(idle))),
        None => times.assign_timestamps_and_watermarks(strategy),
    })
    .unwrap()
}

#[test]
fn watermarks_come_every_200_ms_while_there_is_something_new_to_say() {
    let mut harness = bounded(10, None);
    harness.set_processing_time(200).unwrap();
    assert_eq!(harness.take_events(), [], "nothing is known yet");
    harness.push(100, None).unwrap();
    harness.push(90, None).unwrap();
    assert_eq!(harness.take_events(), [Record(100, Some(100)), Record(90, Some(90))]);
    harness.set_processing_time(399).unwrap();
    assert_eq!(harness.take_events(), []);
    harness.set_processing_time(400).unwrap();
    assert_eq!(harness.take_events(), [Watermark(89)]);
    harness.set_processing_time(10_000).unwrap();
    harness.push(50, None).unwrap();
    harness.set_processing_time(20_000).unwrap();
    assert_eq!(harness.take_events(), [Record(50, Some(50))], "a late record takes nothing back");
    harness.push(200, None).unwrap();
    harness.end_input().unwrap();
    assert_eq!(harness.take_events(), [Record(200, Some(200)), Watermark(i64::MAX), EndOfInput]);
}

#[test]
fn what_upstream_says_of_time_is_overruled_but_for_its_end() {
    let mut harness = bounded(0, None);
    harness.push(5, 1_000).unwrap();
    harness.watermark(1_000).unwrap();
    harness.idle().unwrap();
    harness.active().unwrap();
    assert_eq!(harness.take_events(), [Record(5, Some(5))]);
    harness.watermark(i64::MAX).unwrap();
    assert_eq!(harness.take_events(), [Watermark(i64::MAX)]);
}

#[test]
fn silence_for_longer_than_allowed_is_idleness_and_a_record_ends_it() {
    let mut harness = bounded(0, Some(500));
    harness.push(7, None).unwrap();
    harness.set_processing_time(200).unwrap();
    assert_eq!(harness.take_events(), [Record(7, Some(7)), Watermark(6)]);
    harness.set_processing_time(699).unwrap();
    assert_eq!(harness.take_events(), []);
    harness.set_processing_time(900).unwrap();
    harness.set_processing_time(5_000).unwrap();
    assert_eq!(harness.take_events(), [Idle], "it is said once");
    harness.push(8, None).unwrap();
    assert_eq!(harness.take_events(), [Active, Record(8, Some(8))]);
    harness.set_processing_time(5_200).unwrap();
    assert_eq!(harness.take_events(), [Watermark(7)]);
}

#[test]
fn an_input_that_is_silent_from_the_start_becomes_idle_too() {
    let mut harness = bounded(0, Some(500));
    harness.set_processing_time(499).unwrap();
    assert_eq!(harness.events(), []);
    harness.set_processing_time(900).unwrap();
    assert_eq!(harness.events(), [Idle]);
}

#[test]
fn times_at_the_edges_are_kept_and_watermarks_do_not_overflow() {
    for bound in [0, 1, u64::MAX] {
        let mut harness = bounded(bound, None);
        harness.push(i64::MIN + 1, None).unwrap();
        harness.set_processing_time(200).unwrap();
        harness.push(i64::MAX, None).unwrap();
        harness.set_processing_time(400).unwrap();
        harness.end_input().unwrap();
        let records = [Record(i64::MIN + 1, Some(i64::MIN + 1)), Record(i64::MAX, Some(i64::MAX))];
        let mut expected = records.to_vec();
        let watermark = i64::MAX.saturating_sub(i64::try_from(bound).unwrap_or(i64::MAX)).saturating_sub(1);
        expected.extend([Watermark(watermark), Watermark(i64::MAX), EndOfInput]);
        assert_eq!(harness.events(), expected, "bound {bound}");
    }
}

#[test]
fn the_time_that_stands_for_no_time_is_refused() {
    let mut harness = bounded(0, None);
    let Err(Error::JobFailed { failure, .. }) = harness.push(i64::MIN, None) else { panic!("it must fail") };
    assert_eq!(failure.operator.as_deref(), Some("Timestamps/Watermarks"));
    assert!(failure.message.contains("i64::MIN"), "{}", failure.message);
}

/// A watermark with each record: its time.
#[derive(Clone)]
struct Punctuated;

impl WatermarkGenerator<i64> for Punctuated {
    fn on_record(&mut self, _: &i64, time: i64) -> Option<i64> {
        Some(time)
    }

    fn on_interval(&mut self) -> Option<i64> {
        None
    }
}

#[test]
fn a_generators_watermark_follows_its_record_and_never_goes_back() {
    let assign = |times: TestStream<i64>| {
        times.assign_timestamps_and_watermarks(WatermarkStrategy::new(|time: &i64| *time, Punctuated))
    };
    let mut harness = TestHarness::new(assign).unwrap();
    for time in [5, 3, i64::MAX, 9] {
        harness.push(time, None).unwrap();
    }
    harness.end_input().unwrap();
    let expected = [
        Record(5, Some(5)),
        Watermark(5),
        Record(3, Some(3)),
        Record(i64::MAX, Some(i64::MAX)),
        Watermark(i64::MAX),
        Record(9, Some(9)),
        EndOfInput,
    ];
    assert_eq!(harness.events(), expected);
}
