//! One job with most operators, whose result does not depend on where its sub-tasks run.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tidemill::{
    Collector, DataStream, Environment, KeyedCoProcessFunction, KeyedContext, KeyedProcessFunction, OutputTag, Pipe,
    ProcessContext, ProcessFunction, StateRegistry, Timer, UserError, ValueState, WatermarkStrategy,
};

/// A key, a value that is spread widely, and the record's number.
type Triple = (u64, u64, u64);

fn triple(number: u64) -> Triple {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31);
    (number % 97, mixed % 100_003, number)
}

/// Lines of a result, each of which says what it is.
fn lines<P>(name: &'static str, stream: DataStream<P>) -> DataStream<impl Pipe<Out = String> + use<P>>
where
    P: Pipe<Out: std::fmt::Debug>,
{
    stream.map(move |record| format!("{name} {record:?}"))
}

/// Writes what every operator makes of the numbers below `count`, as lines.
///
/// # Errors
///
/// The job failed.
pub fn run(env: &Environment, count: u64, output: PathBuf) -> Result<()> {
    let numbers = env.generate_sequence(0..count, None).map(triple).share();
    let keyed = || numbers.stream().key_by(|triple| triple.0);
    let aggregates =
        lines("reduce", keyed().reduce(|value, triple| value.1 ^= triple.1).map(|triple| (triple.0, triple.1)))
            .union(lines("sum", keyed().sum(|triple| &mut triple.1).map(|triple| (triple.0, triple.1))))
            .union(lines("min", keyed().min(|triple| &mut triple.1).map(|triple| (triple.0, triple.1))))
            .union(lines("max", keyed().max(|triple| &mut triple.1).map(|triple| (triple.0, triple.1))))
            .union(lines("min by", keyed().min_by(|triple| (triple.1, triple.2))))
            .union(lines("max by", keyed().max_by(|triple| (triple.1, triple.2))))
            .union(lines("count", keyed().count()))
            .union(lines("fold", keyed().fold((0u64, 0u64), |pair, triple| *pair = (pair.0 + 1, pair.1 + triple.2))));

    let partitioned = lines("rebalance", numbers.stream().rebalance().flat_map(|triple| 0..triple.2 % 3))
        .union(lines("rescale", numbers.stream().rescale().filter(|triple| triple.1 % 5 == 0)))
        .union(lines("shuffle", numbers.stream().shuffle().map(|triple| triple.2)))
        .union(lines("global", numbers.stream().global().map(|triple| triple.2)))
        .union(lines("broadcast", numbers.stream().broadcast().key_by(|triple| triple.2).count()))
        .union(lines(
            "custom",
            numbers.stream().partition_custom(|triple, consumers| usize::try_from(triple.0).unwrap_or(0) % consumers),
        ));

    let odd = OutputTag::new("odd");
    let even = numbers.stream().process(OddAside(odd.clone()));
    let odd = even.side_output(&odd);
    let strategy = WatermarkStrategy::monotonous(|triple: &Triple| i64::try_from(triple.2).unwrap_or(0));
    let timed = numbers.stream().assign_timestamps_and_watermarks(strategy);
    let orders = numbers.stream().filter(|triple| triple.2 % 3 == 0).key_by(|triple| triple.0);
    let texts = numbers.stream().map(|triple| (triple.0, format!("{:x}", triple.1)));
    let processed = lines("even", even)
        .union(lines("odd", odd))
        .union(lines("timers", timed.key_by(|triple| triple.0).process(Totals::default())))
        .union(lines("join", orders.connect(texts.key_by(|text| text.0)).process(Join::default())))
        .union(
            numbers
                .stream()
                .connect(numbers.stream())
                .map(|left| format!("left {left:?}"), |right| format!("right {right:?}")),
        );

    aggregates.union(partitioned).union(processed).write_as_text(output);
    env.execute("every operator")?;
    Ok(())
}

/// Sends odd numbers aside, as text.
#[derive(Clone)]
struct OddAside(OutputTag<String>);

impl ProcessFunction<Triple> for OddAside {
    type Out = u64;

    fn process(
        &mut self,
        triple: Triple,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<u64>,
    ) -> Result<(), UserError> {
        if triple.2.is_multiple_of(2) {
            out.emit(triple.2)
        } else {
            context.output(&self.0, format!("{} is odd", triple.2))
        }
        Ok(())
    }
}

/// Tells each key's total when its last record's time has passed.
#[derive(Clone, Default)]
struct Totals {
    total: ValueState<u64>,
    last: ValueState<i64>,
}

impl KeyedProcessFunction<u64, Triple> for Totals {
    type Out = (u64, u64, i64);

    fn open(&mut self, states: &mut StateRegistry<'_, u64>) -> Result<(), UserError> {
        self.total = states.value("total")?;
        self.last = states.value("last")?;
        Ok(())
    }

    fn process(
        &mut self,
        triple: Triple,
        context: &mut KeyedContext<'_, u64>,
        _out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        let time = context.timestamp().ok_or("the record has no time")?;
        let last = *self.last.get_or_insert_with(context, || time);
        context.delete_event_timer(last);
        self.last.set(context, last.max(time));
        context.set_event_timer(last.max(time));
        *self.total.get_or_insert_with(context, || 0) += triple.1;
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        let total = self.total.clear(context).unwrap_or_default();
        out.emit((*context.key(), total, timer.time));
        Ok(())
    }
}

/// Counts both sides of a key, and tells both at the end.
#[derive(Clone, Default)]
struct Join {
    left: ValueState<u64>,
    right: ValueState<usize>,
}

impl Join {
    fn at_the_end(context: &mut KeyedContext<'_, u64>) {
        context.set_event_timer(i64::MAX);
    }
}

impl KeyedCoProcessFunction<u64, Triple, (u64, String)> for Join {
    type Out = (u64, u64, usize);

    fn open(&mut self, states: &mut StateRegistry<'_, u64>) -> Result<(), UserError> {
        self.left = states.value("left")?;
        self.right = states.value("right")?;
        Ok(())
    }

    fn process_left(
        &mut self,
        triple: Triple,
        context: &mut KeyedContext<'_, u64>,
        _out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        *self.left.get_or_insert_with(context, || 0) += triple.2;
        Self::at_the_end(context);
        Ok(())
    }

    fn process_right(
        &mut self,
        text: (u64, String),
        context: &mut KeyedContext<'_, u64>,
        _out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        *self.right.get_or_insert_with(context, || 0) += text.1.len();
        Self::at_the_end(context);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _timer: Timer,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        let (left, right) = (self.left.clear(context), self.right.clear(context));
        out.emit((*context.key(), left.unwrap_or_default(), right.unwrap_or_default()));
        Ok(())
    }
}

/// A number that cannot be written when it is odd, or not be read when it is 2 modulo 4.
#[derive(Debug, Clone)]
struct Moody(u64);

impl Serialize for Moody {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 2 == 1 {
            return Err(serde::ser::Error::custom("odd numbers are not written"));
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        if number % 4 == 2 {
            return Err(serde::de::Error::custom("2 modulo 4 is not read"));
        }
        Ok(Self(number))
    }
}

/// Sends the one number `only` from everywhere to everywhere, in a form that may not be written or read.
///
/// # Errors
///
/// The job failed.
pub fn run_moody(env: &Environment, only: u64) -> Result<()> {
    let numbers = env.generate_sequence(0..1_000, None).map(move |_| Moody(only)).name("Moody");
    numbers.broadcast().map(|number| number.0).name("Reader").discard();
    env.execute("moody")?;
    Ok(())
}
