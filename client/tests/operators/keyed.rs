//! Rolling aggregates: one update for each record in streaming mode, one result for each key in batch mode.

use tidemill::testing::{TestEvent, TestHarness, TestStream};
use tidemill::{DataStream, Pipe, RuntimeMode};

use crate::{silent_end, untimed};

type Pair = (u8, i64);

/// What comes out for these records, first as updates, then as results, which are sorted.
fn check<P>(
    pipeline: impl Fn(TestStream<Pair>) -> DataStream<P>,
    records: &[Pair],
    updates: &[P::Out],
    results: &[P::Out],
) where
    P: Pipe<Out: PartialOrd + Clone + std::fmt::Debug>,
{
    let mut harness = TestHarness::new(&pipeline).unwrap();
    for (time, record) in (0..).zip(records) {
        harness.push(*record, time).unwrap();
    }
    let expected: Vec<_> =
        (0..).zip(updates).map(|(time, update)| TestEvent::Record(update.clone(), Some(time))).collect();
    assert_eq!(harness.take_events(), expected, "each record causes an update with its time");
    harness.end_input().unwrap();
    assert_eq!(harness.take_events(), silent_end());

    let mut harness = TestHarness::with_runtime_mode(RuntimeMode::Batch, &pipeline).unwrap();
    for record in records {
        harness.push(*record, 5).unwrap();
    }
    harness.watermark(5).unwrap();
    assert_eq!(harness.take_events(), [TestEvent::Watermark(5)], "results come at the end only");
    harness.end_input().unwrap();
    let mut found = harness.records();
    found.sort_by(|one, other| one.partial_cmp(other).unwrap());
    assert_eq!(found, results);
    let events = harness.events();
    let (found, end) = events.split_at(events.len() - 2);
    assert_eq!(end, silent_end());
    assert!(found.iter().all(|event| matches!(event, TestEvent::Record(_, None))), "results have no event time");
}

const RECORDS: [Pair; 5] = [(1, 5), (2, 7), (1, -3), (1, -3), (2, 7)];

#[test]
fn a_reduce_sees_its_keys_records_in_order() {
    let reduce =
        |records: TestStream<Pair>| records.key_by(|pair| pair.0).reduce(|value, pair| value.1 = value.1 * 10 + pair.1);
    check(reduce, &RECORDS, &[(1, 5), (2, 7), (1, 47), (1, 467), (2, 77)], &[(1, 467), (2, 77)]);
}

#[test]
fn a_sum_adds_up_and_wraps_around_nothing() {
    let sum = |records: TestStream<Pair>| records.key_by(|pair| pair.0).sum(|pair| &mut pair.1);
    check(sum, &RECORDS, &[(1, 5), (2, 7), (1, 2), (1, -1), (2, 14)], &[(1, -1), (2, 14)]);
    check(sum, &[(0, i64::MAX), (0, i64::MIN)], &[(0, i64::MAX), (0, -1)], &[(0, -1)]);
}

#[test]
fn a_fold_begins_anew_for_each_key() {
    let fold = |records: TestStream<Pair>| {
        records.key_by(|pair| pair.0).fold(Vec::new(), |list: &mut Vec<i64>, pair| list.push(pair.1))
    };
    let updates = [(1, vec![5]), (2, vec![7]), (1, vec![5, -3]), (1, vec![5, -3, -3]), (2, vec![7, 7])];
    check(fold, &RECORDS, &updates, &[(1, vec![5, -3, -3]), (2, vec![7, 7])]);
}

#[test]
fn a_count_counts_records_of_each_key() {
    let count = |records: TestStream<Pair>| records.key_by(|pair| pair.0).count();
    check(count, &RECORDS, &[(1, 1), (2, 1), (1, 2), (1, 3), (2, 2)], &[(1, 3), (2, 2)]);
}

#[test]
fn min_and_max_change_their_field_alone_and_at_its_edges() {
    type Tagged = (u8, i64, char);
    let push_all = |harness: &mut TestHarness<Tagged, Tagged>| {
        for record in [(0, 3, 'a'), (0, i64::MAX, 'b'), (0, i64::MIN, 'c'), (0, i64::MIN, 'd')] {
            harness.push(record, None).unwrap();
        }
        harness.take_events()
    };
    let mut harness =
        TestHarness::new(|records: TestStream<Tagged>| records.key_by(|record| record.0).min(|record| &mut record.1));
    let min = untimed([(0, 3, 'a'), (0, 3, 'a'), (0, i64::MIN, 'a'), (0, i64::MIN, 'a')]);
    assert_eq!(push_all(harness.as_mut().unwrap()), min);
    let mut harness =
        TestHarness::new(|records: TestStream<Tagged>| records.key_by(|record| record.0).max(|record| &mut record.1));
    let max = untimed([(0, 3, 'a'), (0, i64::MAX, 'a'), (0, i64::MAX, 'a'), (0, i64::MAX, 'a')]);
    assert_eq!(push_all(harness.as_mut().unwrap()), max);
    let mut harness =
        TestHarness::new(|records: TestStream<Tagged>| records.key_by(|record| record.0).min_by(|record| record.1));
    let min_by = untimed([(0, 3, 'a'), (0, 3, 'a'), (0, i64::MIN, 'c'), (0, i64::MIN, 'c')]);
    assert_eq!(push_all(harness.as_mut().unwrap()), min_by, "of equals the first one stays");
    let mut harness =
        TestHarness::new(|records: TestStream<Tagged>| records.key_by(|record| record.0).max_by(|record| record.1));
    let max_by = untimed([(0, 3, 'a'), (0, i64::MAX, 'b'), (0, i64::MAX, 'b'), (0, i64::MAX, 'b')]);
    assert_eq!(push_all(harness.as_mut().unwrap()), max_by);
}

#[test]
fn a_value_without_an_order_replaces_nothing() {
    let least = |records: TestStream<(u8, f64)>| records.key_by(|record| record.0).min(|record| &mut record.1);
    let mut harness = TestHarness::new(least).unwrap();
    for value in [2.0, f64::NAN, 1.0, f64::NEG_INFINITY] {
        harness.push((0, value), None).unwrap();
    }
    let found: Vec<_> = harness.records().into_iter().map(|record| record.1).collect();
    assert_eq!(found, [2.0, 2.0, 1.0, f64::NEG_INFINITY]);
}

#[test]
fn keys_of_every_shape_keep_apart() {
    let count = |words: TestStream<String>| words.key_by_ref(|word| word).count();
    let mut harness = TestHarness::new(count).unwrap();
    let words = ["", "\0", "a", "aa", "a\0", &"long".repeat(10_000)].map(str::to_owned);
    for word in words.iter().chain(&words) {
        harness.push(word.clone(), None).unwrap();
    }
    let expected: Vec<_> = (1..=2).flat_map(|count| words.clone().map(|word| (word, count))).collect();
    assert_eq!(harness.records(), expected);
}

#[test]
fn a_second_key_by_regroups_what_the_first_one_made() {
    let regroup = |records: TestStream<Pair>| {
        let sums = records.key_by(|pair| pair.0).sum(|pair| &mut pair.1);
        sums.key_by(|pair| pair.1 % 2 == 0).count()
    };
    let mut harness = TestHarness::with_runtime_mode(RuntimeMode::Batch, regroup).unwrap();
    for record in [(1, 1), (2, 2), (3, 4), (1, 1)] {
        harness.push(record, None).unwrap();
    }
    harness.end_input().unwrap();
    assert_eq!(harness.records(), [(true, 3)]);
}
