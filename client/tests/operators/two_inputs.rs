//! Operators of several inputs: what control on them means together.

use tidemill::testing::TestEvent::{self, Active, EndOfInput, Idle, Record, Watermark};
use tidemill::testing::{TestInput, TestJob, TestOutput};
use tidemill::{
    CoProcessFunction, Collector, KeyedCoProcessFunction, KeyedContext, OutputTag, ProcessContext, StateRegistry,
    Timer, UserError, ValueState,
};

use crate::untimed;

/// The name of a job, the job, its two inputs and its output.
type Job = (&'static str, TestJob, TestInput<u64>, TestInput<u64>, TestOutput<u64>);

/// A job of two inputs and one output, in each of the ways to bring them together.
fn jobs() -> [Job; 3] {
    let mut union = TestJob::new().unwrap();
    let ((left, left_stream), (right, right_stream)) = (union.input(), union.input());
    let output = union.output(left_stream.union(right_stream));
    let union = ("union", union, left, right, output);

    let mut connect = TestJob::new().unwrap();
    let ((left, left_stream), (right, right_stream)) = (connect.input(), connect.input());
    let output = connect.output(left_stream.connect(right_stream).map(|left| left, |right| right));
    let connect = ("connect", connect, left, right, output);

    let mut keyed = TestJob::new().unwrap();
    let ((left, left_stream), (right, right_stream)) = (keyed.input::<u64>(), keyed.input::<u64>());
    let connected = left_stream.connect(right_stream).key_by(|left| left % 10, |right| right % 10);
    let output = keyed.output(connected.map(|left| left, |right| right));
    [union, connect, ("keyed connect", keyed, left, right, output)]
}

#[test]
fn the_watermark_is_the_least_of_both_inputs_and_never_goes_back() {
    for (name, mut job, left, right, output) in jobs() {
        job.push(&left, 1, 10).unwrap();
        job.watermark(&left, 10).unwrap();
        job.push(&right, 2, 3).unwrap();
        assert_eq!(output.take_events(), [Record(1, Some(10)), Record(2, Some(3))], "{name}");
        job.watermark(&right, 3).unwrap();
        job.watermark(&right, 3).unwrap();
        assert_eq!(output.take_events(), [Watermark(3)], "{name}: no watermark is repeated");
        job.watermark(&right, 12).unwrap();
        job.watermark(&left, 4).unwrap();
        job.watermark(&left, 11).unwrap();
        assert_eq!(output.take_events(), [Watermark(10), Watermark(11)], "{name}: one that goes back is ignored");
    }
}

#[test]
fn an_idle_input_holds_nobody_back() {
    for (name, mut job, left, right, output) in jobs() {
        job.watermark(&left, 5).unwrap();
        job.idle(&right).unwrap();
        assert_eq!(output.take_events(), [Watermark(5)], "{name}");
        job.watermark(&left, 7).unwrap();
        job.active(&right).unwrap();
        job.push(&right, 1, 1).unwrap();
        job.watermark(&left, 9).unwrap();
        job.watermark(&right, 6).unwrap();
        assert_eq!(output.take_events(), [Watermark(7), Record(1, Some(1))], "{name}: 6 and the late 1 change nothing");
        job.watermark(&right, 8).unwrap();
        assert_eq!(output.take_events(), [Watermark(8)], "{name}");
        job.idle(&left).unwrap();
        job.idle(&right).unwrap();
        assert_eq!(output.take_events(), [Watermark(9), Idle], "{name}: all idle is idle, as late as the latest");
        job.active(&left).unwrap();
        assert_eq!(output.take_events(), [Active], "{name}");
    }
}

#[test]
fn an_input_that_ended_holds_nobody_back_and_the_last_one_ends_all() {
    for (name, mut job, left, right, output) in jobs() {
        job.watermark(&left, 5).unwrap();
        job.end_input(&right).unwrap();
        assert_eq!(output.take_events(), [Watermark(5)], "{name}");
        job.push(&left, 4, 6).unwrap();
        job.watermark(&left, 8).unwrap();
        assert_eq!(output.take_events(), [Record(4, Some(6)), Watermark(8)], "{name}");
        assert!(job.push(&right, 1, None).is_err());
        job.end_input(&left).unwrap();
        assert_eq!(output.take_events(), [Watermark(i64::MAX), EndOfInput], "{name}");
    }
}

#[test]
fn a_union_of_three_has_the_records_of_all_and_one_input_may_come_twice() {
    let mut job = TestJob::new().unwrap();
    let (inputs, streams): (Vec<_>, Vec<_>) = (0..3).map(|_| job.input::<u64>()).unzip();
    let [one, two, three] = streams.try_into().ok().unwrap();
    let union = job.output(one.union(two).union(three));
    for (number, input) in (0..).zip(&inputs) {
        job.push(input, number, None).unwrap();
    }
    assert_eq!(union.take_events(), untimed([0, 1, 2]));
    for (input, expected) in inputs.iter().zip([vec![], vec![], vec![Watermark(4)]]) {
        job.watermark(input, 4).unwrap();
        assert_eq!(union.take_events(), expected);
    }

    let mut job = TestJob::new().unwrap();
    let (numbers, stream) = job.input::<u64>();
    let shared = stream.share();
    let (one, two) = (shared.stream(), shared.stream());
    let both = job.output(one.union(two.map(|number| number + 100)));
    job.push(&numbers, 1, None).unwrap();
    let mut records = both.records();
    records.sort_unstable();
    assert_eq!(records, [1, 101]);
}

/// Emits left numbers until a right one stops it, and tells both sides of the other.
#[derive(Clone)]
struct Switch {
    stopped_by: Option<u64>,
    ignored: OutputTag<u64>,
}

impl CoProcessFunction<u64, u64> for Switch {
    type Out = u64;

    fn process_left(
        &mut self,
        number: u64,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<u64>,
    ) -> Result<(), UserError> {
        match self.stopped_by {
            Some(_) => context.output(&self.ignored, number),
            None => out.emit(number),
        }
        Ok(())
    }

    fn process_right(
        &mut self,
        number: u64,
        _context: &mut ProcessContext<'_>,
        _out: &mut Collector<u64>,
    ) -> Result<(), UserError> {
        self.stopped_by = Some(number);
        Ok(())
    }

    fn finish(&mut self, context: &mut ProcessContext<'_>, out: &mut Collector<u64>) -> Result<(), UserError> {
        assert_eq!(context.watermark(), i64::MAX, "all has come");
        out.emit(self.stopped_by.unwrap_or_default());
        Ok(())
    }
}

#[test]
fn a_co_process_function_shares_its_fields_between_both_sides_and_finishes_after_both() {
    let mut job = TestJob::new().unwrap();
    let ((left, left_stream), (right, right_stream)) = (job.input::<u64>(), job.input::<u64>());
    let ignored = OutputTag::new("ignored");
    let switch = Switch { stopped_by: None, ignored: ignored.clone() };
    let emitted = left_stream.connect(right_stream).process(switch);
    let ignored = job.output(emitted.side_output(&ignored));
    let emitted = job.output(emitted);
    job.push(&left, 1, 10).unwrap();
    job.push(&right, 7, 11).unwrap();
    job.push(&left, 2, 12).unwrap();
    job.end_input(&left).unwrap();
    assert_eq!(emitted.events(), [Record(1, Some(10))]);
    job.end_input(&right).unwrap();
    assert_eq!(emitted.events(), [Record(1, Some(10)), Watermark(i64::MAX), Record(7, None), EndOfInput]);
    assert_eq!(ignored.events(), [Record(2, Some(12)), Watermark(i64::MAX), EndOfInput]);
}

/// Joins a left number with the right text of its key; what waits for the other side longer than 10 ms is told alone.
#[derive(Clone, Default)]
struct Join {
    number: ValueState<u64>,
    text: ValueState<String>,
}

impl Join {
    fn pair(&self, context: &mut KeyedContext<'_, u8>, out: &mut Collector<String>) {
        if let (Some(number), Some(text)) = (self.number.get(context).copied(), self.text.get(context).cloned()) {
            self.number.clear(context);
            self.text.clear(context);
            out.emit(format!("{number} {text}"));
        } else if let Some(time) = context.timestamp() {
            context.set_event_timer(time + 10);
        }
    }
}

impl KeyedCoProcessFunction<u8, (u8, u64), (u8, String)> for Join {
    type Out = String;

    fn open(&mut self, states: &mut StateRegistry<'_, u8>) -> Result<(), UserError> {
        self.number = states.value("number")?;
        self.text = states.value("text")?;
        Ok(())
    }

    fn process_left(
        &mut self,
        record: (u8, u64),
        context: &mut KeyedContext<'_, u8>,
        out: &mut Collector<String>,
    ) -> Result<(), UserError> {
        self.number.set(context, record.1);
        self.pair(context, out);
        Ok(())
    }

    fn process_right(
        &mut self,
        record: (u8, String),
        context: &mut KeyedContext<'_, u8>,
        out: &mut Collector<String>,
    ) -> Result<(), UserError> {
        self.text.set(context, record.1);
        self.pair(context, out);
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        context: &mut KeyedContext<'_, u8>,
        out: &mut Collector<String>,
    ) -> Result<(), UserError> {
        let (number, text) = (self.number.clear(context), self.text.clear(context));
        if number.is_some() || text.is_some() {
            out.emit(format!("{number:?} {text:?} alone at {}", timer.time));
        }
        Ok(())
    }
}

#[test]
fn a_keyed_co_process_function_shares_state_and_timers_between_both_sides() {
    let mut job = TestJob::new().unwrap();
    let ((left, left_stream), (right, right_stream)) = (job.input::<(u8, u64)>(), job.input::<(u8, String)>());
    let joined = left_stream.key_by(|record| record.0).connect(right_stream.key_by(|record| record.0));
    let joined = job.output(joined.process(Join::default()));
    job.push(&left, (1, 10), 0).unwrap();
    job.push(&left, (2, 20), 1).unwrap();
    job.push(&right, (1, "ten".to_owned()), 2).unwrap();
    job.push(&right, (3, "thirty".to_owned()), 3).unwrap();
    assert_eq!(joined.take_events(), [Record("10 ten".to_owned(), Some(2))]);
    job.watermark(&left, 50).unwrap();
    assert_eq!(joined.take_events(), [], "the right side may still bring a twenty");
    job.watermark(&right, 12).unwrap();
    let twenty = Record("Some(20) None alone at 11".to_owned(), Some(11));
    assert_eq!(joined.take_events(), [twenty, Watermark(12)]);
    job.end_input(&right).unwrap();
    let thirty: TestEvent<String> = Record("None Some(\"thirty\") alone at 13".to_owned(), Some(13));
    assert_eq!(joined.take_events(), [thirty, Watermark(50)]);
}
