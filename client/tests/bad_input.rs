//! User code that panics or fails, and records that cannot travel: the job says who, where and on what.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

use std::fmt;

use serde::{Deserialize, Serialize};
use tidemill::testing::{TestHarness, TestStream};
use tidemill::{Collector, Environment, Error, KeyedContext, KeyedProcessFunction, UserError, WatermarkStrategy};
use tidemill_model::execution::{Failure, FailureKind};

/// The number that no user code here can take.
const BAD: u64 = 4_321;

fn run(mode: &str, parallelism: u32, program: impl Fn(&Environment)) -> Failure {
    let mode = format!("execution.runtime-mode={mode}");
    let env = Environment::with_arguments(["-p", &parallelism.to_string(), "-D", &mode]).unwrap();
    program(&env);
    let Err(Error::JobFailed { failure, .. }) = env.execute("bad input") else { panic!("it must fail") };
    failure
}

fn check(number: &u64) -> u64 {
    assert!(*number != BAD, "out of tea");
    *number
}

/// Shows and writes itself, but for the bad number.
#[derive(Clone, Serialize, Deserialize)]
struct Shy(u64);

impl fmt::Display for Shy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", check(&self.0))
    }
}

impl fmt::Debug for Shy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", check(&self.0))
    }
}

#[derive(Clone)]
struct Echo;

impl KeyedProcessFunction<u64, u64> for Echo {
    type Out = u64;

    fn process(
        &mut self,
        number: u64,
        _context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<u64>,
    ) -> Result<(), UserError> {
        out.emit(number);
        Ok(())
    }
}

#[test]
fn a_panic_in_code_that_only_looks_at_a_record_names_operator_subtask_and_record() {
    type Program = fn(&Environment);
    let cases: [(&str, &str, Program); 8] = [
        ("Filter", "4321", |env| {
            env.generate_sequence(0..10_000, None).filter(|number| check(number) > 5).discard().end()
        }),
        ("Reduce", "4321", |env| {
            env.generate_sequence(0..10_000, None).key_by(check).reduce(|sum, number| *sum += number).discard().end();
        }),
        ("Keyed Process", "4321", |env| {
            env.generate_sequence(0..10_000, None).key_by(check).process(Echo).discard().end();
        }),
        ("Timestamps/Watermarks", "4321", |env| {
            let assigner = |number: &u64| i64::try_from(check(number)).unwrap();
            let numbers = env.generate_sequence(0..10_000, None);
            numbers.assign_timestamps_and_watermarks(WatermarkStrategy::monotonous(assigner)).discard().end();
        }),
        ("Routed", "4321", |env| {
            let numbers = env.generate_sequence(0..10_000, None).map(|number| number).name("Routed");
            let choose = |number: &u64, consumers: usize| usize::try_from(check(number)).unwrap() % consumers;
            numbers.partition_custom(choose).discard().end();
        }),
        ("Passed on", "4321", |env| {
            let choose = |number: &u64, consumers: usize| usize::try_from(check(number)).unwrap() % consumers;
            let numbers = env.generate_sequence(0..10_000, None).map(|number| number).name("Passed on");
            numbers.rebalance().partition_custom(choose).discard().end();
        }),
        ("Sink: text", "Shy(4321)", |env| {
            let path = std::env::temp_dir().join(format!("tidemill-bad-input-{}", std::process::id()));
            env.generate_sequence(0..10_000, None).map(Shy).write_as_text(path).overwrite().name("Sink: text").end();
        }),
        ("Print", "Shy(4321)", |env| {
            env.generate_sequence(BAD..BAD + 1, None).map(Shy).print().name("Print").end();
        }),
    ];
    for (operator, record, program) in cases {
        for (mode, parallelism) in [("streaming", 1), ("streaming", 3), ("batch", 2)] {
            let failure = run(mode, parallelism, program);
            assert_eq!(failure.kind, FailureKind::Panic, "{operator}");
            assert_eq!(failure.operator.as_deref(), Some(operator));
            assert_eq!(failure.message, format!("out of tea; record: {record}"), "{operator}, {mode}");
            let text = failure.to_string();
            assert!(text.contains(&format!("operator {operator:?}")) && text.contains("sub-task "), "{text}");
        }
    }
}

/// Lets a program end in any sort of sink.
trait End: Sized {
    fn end(self) {}
}

impl End for tidemill::DataSink {}
impl End for tidemill::FileSink {}

#[test]
fn a_panic_in_code_that_takes_its_record_shows_it_if_it_owns_no_memory() {
    type Program = fn(&Environment);
    let cases: [(&str, Option<&str>, Program); 6] = [
        ("Map", Some("4321"), |env| {
            env.generate_sequence(0..10_000, None).rebalance().map(|number| check(&number)).discard().end();
        }),
        ("Flat Map", Some("(4321, 1)"), |env| {
            let pairs = env.generate_sequence(0..10_000, None).map(|number| (number, 1u8));
            pairs.flat_map(|pair| Some(check(&pair.0))).discard().end();
        }),
        ("Reduce", Some("4321"), |env| {
            let numbers = env.generate_sequence(0..10_000, None).key_by(|number| number % 2);
            numbers.reduce(|sum, number| *sum = sum.wrapping_add(check(&number))).discard().end();
        }),
        ("Fold", Some("4321"), |env| {
            let numbers = env.generate_sequence(0..10_000, None).key_by(|number| number % 2);
            numbers.fold(0u64, |sum, number| *sum = sum.wrapping_add(check(&number))).discard().end();
        }),
        ("Sink: function", Some("4321"), |env| {
            env.generate_sequence(0..10_000, None).for_each(|number| assert!(check(&number) < 10_000)).end();
        }),
        ("Tea", None, |env| {
            let texts = env.generate_sequence(0..10_000, None).map(|number| number.to_string());
            texts.map(|text| check(&text.parse().unwrap())).name("Tea").discard().end();
        }),
    ];
    for (operator, record, program) in cases {
        for (mode, parallelism) in [("streaming", 3), ("batch", 1)] {
            let failure = run(mode, parallelism, program);
            let message = record.map_or("out of tea".to_owned(), |record| format!("out of tea; record: {record}"));
            assert_eq!((failure.operator.as_deref(), &*failure.message), (Some(operator), &*message), "{mode}");
            assert!(failure.vertex.is_some_and(|vertex| vertex.subtask.0 < parallelism));
        }
    }
}

/// Says that it cannot be serialized, when it is the bad number.
#[derive(Debug, Clone, Deserialize)]
struct Unwritable(u64);

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == BAD {
            return Err(serde::ser::Error::custom("the lid is shut"));
        }
        self.0.serialize(serializer)
    }
}

#[test]
fn a_record_that_cannot_be_encoded_names_its_type() {
    let failure = run("batch", 2, |env| {
        let _handle = env.generate_sequence(0..10_000, None).map(Unwritable).collect();
    });
    assert_eq!(failure.kind, FailureKind::InvalidInput);
    assert_eq!(failure.operator.as_deref(), Some("Sink: collect"));
    let text = failure.message;
    assert!(text.contains("Unwritable") && text.contains("the lid is shut"), "{text}");
}

#[test]
fn a_panic_on_a_record_that_cannot_be_shown_is_reported_all_the_same() {
    let bad = |number: &Unwritable| check(&number.0) > 0;
    let mut harness = TestHarness::new(|numbers: TestStream<Unwritable>| numbers.filter(bad)).unwrap();
    harness.push(Unwritable(1), None).unwrap();
    let Err(Error::JobFailed { failure, .. }) = harness.push(Unwritable(BAD), None) else { panic!("it must fail") };
    assert_eq!(failure.operator.as_deref(), Some("Filter"));
    assert!(failure.message.starts_with("out of tea; record: a "), "{}", failure.message);
    assert!(failure.message.ends_with("Unwritable that cannot be shown"), "{}", failure.message);
}

#[test]
fn a_long_record_is_not_told_in_full() {
    let mut harness = TestHarness::new(|words: TestStream<String>| {
        words.filter(|word| {
            assert!(word.len() < 1_000, "too long");
            true
        })
    })
    .unwrap();
    let Err(Error::JobFailed { failure, .. }) = harness.push("x".repeat(1_000_000), None) else {
        panic!("it must fail")
    };
    assert!(failure.message.starts_with("too long; record: \"xxx") && failure.message.ends_with("xxx..."));
    assert!(failure.message.len() < 600, "{}", failure.message.len());
}
