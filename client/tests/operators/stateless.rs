//! Operators that keep nothing: map, flat map, filter, process and its side outputs.

use tidemill::testing::TestEvent::{Active, EndOfInput, Idle, Record, Watermark};
use tidemill::testing::{TestHarness, TestJob, TestStream};
use tidemill::{
    Collector, DataStream, Error, OutputTag, Pipe, ProcessContext, ProcessFunction, RuntimeMode, UserError,
};

use crate::{silent_end, untimed};

#[test]
fn a_map_keeps_order_times_and_control() {
    let mut harness = TestHarness::new(|numbers: TestStream<u64>| numbers.map(|number| number * 2)).unwrap();
    harness.push(1, 10).unwrap();
    harness.watermark(10).unwrap();
    harness.push(2, None).unwrap();
    harness.idle().unwrap();
    harness.active().unwrap();
    harness.push(3, i64::MAX).unwrap();
    harness.end_input().unwrap();
    let before = [Record(2, Some(10)), Watermark(10), Record(4, None), Idle, Active, Record(6, Some(i64::MAX))];
    assert_eq!(harness.events(), [&before[..], &silent_end()].concat());
}

#[test]
fn a_flat_map_emits_none_one_or_many_each_with_its_records_time() {
    let times = |numbers: TestStream<u64>| numbers.flat_map(|number| vec![number; usize::try_from(number).unwrap()]);
    let mut harness = TestHarness::new(times).unwrap();
    for (number, time) in [(0, 5), (1, 6), (3, 7)] {
        harness.push(number, time).unwrap();
    }
    let expected = [(1, 6), (3, 7), (3, 7), (3, 7)].map(|(number, time)| Record(number, Some(time)));
    assert_eq!(harness.events(), expected);
}

#[test]
fn what_one_record_makes_may_be_more_than_every_queue_holds() {
    let many = |counts: TestStream<u64>| counts.flat_map(|count| 0..count).rebalance().map(|number| number);
    let mut harness = TestHarness::new(many).unwrap();
    harness.push(100_000, None).unwrap();
    assert_eq!(harness.records(), (0..100_000).collect::<Vec<_>>());
}

#[test]
fn a_filter_drops_records_but_no_watermark() {
    let mut harness = TestHarness::new(|numbers: TestStream<u64>| numbers.filter(|number| *number > 5)).unwrap();
    harness.push(5, 1).unwrap();
    harness.watermark(1).unwrap();
    harness.push(6, 2).unwrap();
    harness.watermark(2).unwrap();
    assert_eq!(harness.events(), [Watermark(1), Record(6, Some(2)), Watermark(2)]);
}

#[test]
fn nothing_in_is_nothing_out_for_every_operator_in_both_modes() {
    fn check<P: Pipe<Out: PartialEq + std::fmt::Debug>>(pipeline: impl Fn(TestStream<u64>) -> DataStream<P>) {
        for mode in [RuntimeMode::Streaming, RuntimeMode::Batch] {
            let mut harness = TestHarness::with_runtime_mode(mode, &pipeline).unwrap();
            harness.end_input().unwrap();
            assert_eq!(harness.events(), silent_end());
            assert!(matches!(harness.push(1, None), Err(Error::Test(_))), "nothing may follow the end");
        }
    }
    check(|numbers| numbers);
    check(|numbers| numbers.map(|number| number + 1));
    check(|numbers| numbers.flat_map(|number| [number; 2]));
    check(|numbers| numbers.filter(|_| true));
    check(|numbers| numbers.rebalance());
    check(|numbers| numbers.key_by(|number| *number).reduce(|sum, number| *sum += number));
    check(|numbers| numbers.key_by(|number| *number).sum(|number| number));
    check(|numbers| numbers.key_by(|number| *number).min(|number| number));
    check(|numbers| numbers.key_by(|number| *number).max_by(|number| *number));
    check(|numbers| numbers.key_by(|number| *number).count());
    check(|numbers| numbers.key_by(|number| *number).fold(0u64, |sum, number| *sum += number));
    check(|numbers| numbers.process(Aside::default()));
}

#[test]
fn a_failure_is_the_error_of_the_call_that_caused_it_and_of_all_later_ones() {
    let explode = |numbers: TestStream<u64>| {
        numbers.rebalance().map(|number| {
            assert_ne!(number, 3, "no threes");
            number
        })
    };
    let mut harness = TestHarness::new(explode).unwrap();
    harness.push(2, None).unwrap();
    for _ in 0..2 {
        let Err(Error::JobFailed { failure, .. }) = harness.push(3, None) else { panic!("it must fail") };
        assert_eq!(failure.operator.as_deref(), Some("Map"));
        assert!(failure.message.contains("no threes"), "{}", failure.message);
    }
    assert!(harness.watermark(1).is_err());
    assert_eq!(harness.events(), untimed([2]));
}

#[test]
fn an_input_of_another_job_is_refused() {
    let (mut one, mut other) = (TestJob::new().unwrap(), TestJob::new().unwrap());
    let (_, stream) = one.input::<u64>();
    let _output = one.output(stream);
    let (foreign, _stream) = other.input::<u64>();
    assert!(one.push(&foreign, 1, None).unwrap_err().to_string().contains("another job"));
}

/// Sends odd numbers aside with what it knows of time, and says at the end how many records came.
#[derive(Clone)]
struct Aside {
    tag: OutputTag<String>,
    count: u64,
}

impl Default for Aside {
    fn default() -> Self {
        Self { tag: OutputTag::new("odd"), count: 0 }
    }
}

impl ProcessFunction<u64> for Aside {
    type Out = u64;

    fn process(
        &mut self,
        number: u64,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<u64>,
    ) -> Result<(), UserError> {
        self.count += 1;
        if number == 13 {
            return Err("thirteen brings bad luck".into());
        }
        if number % 2 == 1 {
            let (time, watermark, clock) = (context.timestamp(), context.watermark(), context.processing_time());
            context.output(&self.tag, format!("{number} at {time:?}, watermark {watermark}, clock {clock}"));
        } else {
            out.emit(number);
            out.emit_at(number, 1_000);
        }
        Ok(())
    }

    fn finish(&mut self, context: &mut ProcessContext<'_>, _out: &mut Collector<u64>) -> Result<(), UserError> {
        if self.count > 0 {
            context.output(&self.tag, format!("{} in all, watermark {}", self.count, context.watermark()));
        }
        Ok(())
    }
}

#[test]
fn a_process_function_sees_time_and_its_side_output_gets_control_too() {
    let function = Aside::default();
    let tag = function.tag.clone();
    let mut harness = TestHarness::new(|numbers: TestStream<u64>| numbers.process(function)).unwrap();
    let odd = harness.side_output(&tag);
    harness.set_processing_time(77).unwrap();
    harness.push(1, None).unwrap();
    harness.watermark(4).unwrap();
    harness.push(2, 5).unwrap();
    harness.push(3, 6).unwrap();
    harness.idle().unwrap();
    harness.end_input().unwrap();
    let main = [Watermark(4), Record(2, Some(5)), Record(2, Some(1_000)), Idle, Watermark(i64::MAX), EndOfInput];
    assert_eq!(harness.events(), main);
    let texts = [
        format!("1 at None, watermark {}, clock 77", i64::MIN),
        "3 at Some(6), watermark 4, clock 77".to_owned(),
        format!("3 in all, watermark {}", i64::MAX),
    ];
    assert_eq!(odd.records(), texts);
    let [one, three, all] = texts;
    let side = [
        Record(one, None),
        Watermark(4),
        Record(three, Some(6)),
        Idle,
        Watermark(i64::MAX),
        Record(all, None),
        EndOfInput,
    ];
    assert_eq!(odd.events(), side);
}

#[test]
fn a_side_output_that_nobody_asked_for_forgets_and_the_error_of_a_function_fails_the_job() {
    let mut harness = TestHarness::new(|numbers: TestStream<u64>| numbers.process(Aside::default())).unwrap();
    harness.push(1, None).unwrap();
    assert_eq!(harness.events(), []);
    let Err(Error::JobFailed { failure, .. }) = harness.push(13, None) else { panic!("it must fail") };
    assert_eq!((failure.operator.as_deref(), &*failure.message), (Some("Process"), "thirteen brings bad luck"));
}
