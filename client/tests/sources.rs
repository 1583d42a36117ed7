//! Sources that users write, in an embedded cluster: splits, turns, errors, and event time split by split.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::{
    Boundedness, Collector, Discovery, Environment, Error, OutputTag, ProcessContext, ProcessFunction, Reading, Source,
    SourceOutput, SplitEnumerator, SplitReader, UserError, WatermarkGenerator, WatermarkStrategy,
};
use tidemill_model::execution::{Failure, FailureKind};

fn environment(parallelism: u32) -> Environment {
    let parallelism = parallelism.to_string();
    Environment::with_arguments(["-p", &parallelism, "-D", "restart-strategy.type=none"]).unwrap()
}

fn failure(result: Result<tidemill::JobExecutionResult, Error>) -> Failure {
    match result {
        Err(Error::JobFailed { failure, .. }) => failure,
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("the job finished"),
    }
}

/// What happens in a split after its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Then {
    End,
    /// Nothing, until the test says that it is over.
    Silence,
    Error,
    Panic,
}

/// A name, the numbers that are left, the step between them, and what follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Numbers {
    name: char,
    next: i64,
    end: i64,
    step: i64,
    then: Then,
}

fn numbers(name: char, end: i64, step: i64, then: Then) -> Numbers {
    Numbers { name, next: step, end, step, then }
}

/// Names splits in rounds, and waits in between; at last it ends, or waits until the test is over.
#[derive(Clone)]
struct Script {
    rounds: Vec<Vec<Numbers>>,
    boundedness: Boundedness,
    fail: bool,
    over: Arc<AtomicBool>,
}

impl Script {
    fn new(boundedness: Boundedness, rounds: Vec<Vec<Numbers>>) -> Self {
        Self { rounds, boundedness, fail: false, over: Arc::default() }
    }
}

impl Source for Script {
    type Out = (char, i64);
    type Split = Numbers;
    type Enumerator = Rounds;
    type Reader = NumbersReader;

    fn boundedness(&self) -> Boundedness {
        self.boundedness
    }

    fn enumerator(&self, readers: u32, _restored: Option<()>) -> Result<Rounds, UserError> {
        assert!(readers > 0);
        let (mut rounds, fail) = (self.rounds.clone(), self.fail);
        rounds.reverse();
        Ok(Rounds { rounds, fail, waited: true, wait_for: self.is_unbounded().then(|| Arc::clone(&self.over)) })
    }

    fn reader(&self, split: Numbers) -> Result<NumbersReader, UserError> {
        if split.step == 0 {
            return Err("a step of nothing".into());
        }
        Ok(NumbersReader { split, over: Arc::clone(&self.over) })
    }
}

impl Script {
    fn is_unbounded(&self) -> bool {
        self.boundedness == Boundedness::Unbounded
    }
}

struct Rounds {
    rounds: Vec<Vec<Numbers>>,
    fail: bool,
    waited: bool,
    wait_for: Option<Arc<AtomicBool>>,
}

impl SplitEnumerator for Rounds {
    type Split = Numbers;
    type State = ();

    fn state(&self) {}

    fn discover(&mut self) -> Result<Discovery<Numbers>, UserError> {
        self.waited = !self.waited;
        if self.waited {
            return Ok(Discovery::Wait(Duration::from_millis(1)));
        }
        match self.rounds.pop() {
            Some(splits) => Ok(Discovery::Splits(splits)),
            None if self.fail => Err("nothing more to be found".into()),
            None if self.wait_for.as_ref().is_some_and(|over| !over.load(Ordering::SeqCst)) => {
                Ok(Discovery::Wait(Duration::from_millis(1)))
            }
            None => Ok(Discovery::Done),
        }
    }
}

struct NumbersReader {
    split: Numbers,
    over: Arc<AtomicBool>,
}

impl SplitReader for NumbersReader {
    type Out = (char, i64);
    type Split = Numbers;

    fn read<O: SourceOutput<(char, i64)>>(&mut self, out: &mut O) -> Result<Reading, UserError> {
        if self.split.then == Then::Silence && self.over.load(Ordering::SeqCst) {
            return Ok(Reading::Ended);
        }
        if self.split.next <= self.split.end {
            out.emit_at((self.split.name, self.split.next), self.split.next);
            if self.split.next % 100 == 0 {
                out.output(&OutputTag::new("hundreds"), self.split.next);
            }
            self.split.next += self.split.step;
            return Ok(Reading::More);
        }
        match self.split.then {
            Then::Silence => Ok(Reading::Wait(Duration::from_millis(1))),
            Then::End => Ok(Reading::Ended),
            Then::Error => Err("no more of this".into()),
            Then::Panic => panic!("on purpose"),
        }
    }

    fn split(&self) -> Numbers {
        self.split.clone()
    }
}

#[test]
fn all_splits_are_read_once_whenever_they_are_found() {
    for parallelism in 1..=3 {
        for boundedness in [Boundedness::Bounded, Boundedness::Unbounded] {
            let rounds = |round: i64| (0..7).map(|split| numbers('x', round * 10 + split, 1, Then::End)).collect();
            let script = Script::new(boundedness, (0..10).map(rounds).collect());
            script.over.store(true, Ordering::SeqCst);
            let env = environment(parallelism);
            let records = env.from_source(script);
            let hundreds = records.side_output(&OutputTag::<i64>::new("hundreds")).collect();
            let records = records.collect();
            let result = env.execute("script").unwrap();
            let mut counts = BTreeMap::new();
            for (_, number) in result.collected(&records).unwrap() {
                *counts.entry(number).or_insert(0) += 1;
            }
            let mut expected = BTreeMap::new();
            for end in (0..10i64).flat_map(|round| (0..7).map(move |split| round * 10 + split)) {
                (1..=end).for_each(|number| *expected.entry(number).or_insert(0) += 1);
            }
            assert_eq!(counts, expected);
            assert_eq!(result.collected(&hundreds).unwrap().len(), 0);
        }
    }
}

#[test]
fn a_source_has_side_outputs() {
    let env = environment(2);
    let splits = vec![numbers('x', 250, 1, Then::End), numbers('y', 100, 10, Then::End)];
    let records = env.from_source(Script::new(Boundedness::Bounded, vec![splits]));
    let hundreds = records.side_output(&OutputTag::<i64>::new("hundreds")).collect();
    records.discard();
    let mut hundreds = env.execute("hundreds").unwrap().collected(&hundreds).unwrap();
    hundreds.sort_unstable();
    assert_eq!(hundreds, [100, 100, 200]);
}

#[test]
fn splits_of_a_bounded_source_come_one_after_the_other_and_others_in_turn() {
    let order = |boundedness| {
        let splits = vec![numbers('a', 100_000, 1, Then::End), numbers('b', 100_000, 1, Then::End)];
        let script = Script::new(boundedness, vec![splits]);
        script.over.store(true, Ordering::SeqCst);
        let env = environment(1);
        let records = env.from_source(script).collect();
        let records = env.execute("order").unwrap().collected(&records).unwrap();
        records.into_iter().map(|(name, _)| name).collect::<String>()
    };
    let changes = |order: String| order.as_bytes().windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(changes(order(Boundedness::Bounded)), 1);
    assert!(changes(order(Boundedness::Unbounded)) > 1000, "the second split comes soon after the first");
}

#[test]
fn errors_and_panics_name_the_source_and_the_split() {
    let run = |script: Script| {
        let env = environment(2);
        env.from_source(script).name("Script").map(|record| record).discard();
        let failure = failure(env.execute("errors"));
        assert_eq!(failure.operator.as_deref(), Some("Script"), "{}", failure.message);
        (failure.kind, failure.message)
    };
    let script = |split| Script::new(Boundedness::Bounded, vec![vec![split]]);
    let (kind, message) = run(script(numbers('e', 2, 1, Then::Error)));
    assert_eq!(kind, FailureKind::Io);
    let split = "Numbers { name: 'e', next: 3, end: 2, step: 1, then: Error }";
    assert_eq!(message, format!("read split {split} of \"Script\": no more of this"));
    let (_, message) = run(script(numbers('o', 2, 0, Then::End)));
    assert!(message.starts_with("open split Numbers { name: 'o'"), "{message}");
    assert!(message.ends_with("of \"Script\": a step of nothing"), "{message}");
    let (kind, message) = run(script(numbers('p', 2, 1, Then::Panic)));
    assert_eq!((kind, message.contains("on purpose")), (FailureKind::Panic, true));
    let (_, message) = run(Script { fail: true, ..script(numbers('x', 2, 1, Then::End)) });
    assert_eq!(message, "discover splits of \"Script\": nothing more to be found");
}

/// A watermark with each record.
#[derive(Clone)]
struct Always;

impl WatermarkGenerator<(char, i64)> for Always {
    fn on_record(&mut self, _record: &(char, i64), time: i64) -> Option<i64> {
        Some(time)
    }

    fn on_interval(&mut self) -> Option<i64> {
        None
    }
}

/// Passes records on with the watermark at their time; the test is over when it has passed a limit.
#[derive(Clone)]
struct Watch {
    limit: i64,
    over: Arc<AtomicBool>,
    highest: Arc<AtomicI64>,
    seen: Arc<Mutex<Vec<(char, i64, i64)>>>,
}

impl ProcessFunction<(char, i64)> for Watch {
    type Out = (char, i64);

    fn process(
        &mut self,
        record: (char, i64),
        context: &mut ProcessContext<'_>,
        out: &mut Collector<(char, i64)>,
    ) -> Result<(), UserError> {
        assert_eq!(context.timestamp(), Some(record.1));
        self.seen.lock().unwrap().push((record.0, record.1, context.watermark()));
        self.highest.fetch_max(context.watermark(), Ordering::SeqCst);
        if context.watermark() >= self.limit {
            self.over.store(true, Ordering::SeqCst);
        }
        out.emit(record);
        Ok(())
    }
}

/// Runs a script in streaming mode and answers each record with the watermark at its time, in one sub-task.
fn watermarks(parallelism: u32, idle: Option<Duration>, limit: i64, splits: Vec<Numbers>) -> Vec<(char, i64, i64)> {
    let script = Script::new(Boundedness::Unbounded, vec![splits]);
    let over = Arc::clone(&script.over);
    let watch = Watch { limit, over, highest: Arc::default(), seen: Arc::default() };
    let seen = Arc::clone(&watch.seen);
    let env = environment(parallelism);
    let strategy = WatermarkStrategy::new(|record: &(char, i64)| record.1, Always);
    let strategy = match idle {
        Some(after) => strategy.with_idleness(after),
        None => strategy,
    };
    env.from_source_with_watermarks(script, strategy).global().process(watch).set_parallelism(1).discard();
    env.execute("watermarks").unwrap();
    seen.lock().unwrap().clone()
}

#[test]
fn the_watermark_is_that_of_the_split_that_lags_behind() {
    let endless = |(name, step)| numbers(name, i64::MAX / 2, step, Then::Silence);
    let splits = [('a', 100), ('b', 1), ('c', 3)].map(endless).to_vec();
    let mut latest = BTreeMap::new();
    let mut highest = i64::MIN;
    for (name, time, watermark) in watermarks(1, None, 900, splits) {
        assert!(watermark == i64::MIN || watermark <= *latest.values().min().unwrap(), "{name} {time} {latest:?}");
        highest = highest.max(watermark);
        latest.insert(name, time);
    }
    assert_eq!(latest.len(), 3);
    assert!(highest >= 900, "{highest}");
}

#[test]
fn an_idle_split_and_a_reader_without_splits_hold_nobody_back() {
    for parallelism in 1..=3 {
        let splits = vec![numbers('a', i64::MAX / 2, 1, Then::Silence), numbers('b', 5, 5, Then::Silence)];
        let seen = watermarks(parallelism, Some(Duration::from_millis(5)), 50, splits);
        assert!(seen.iter().any(|(_, _, watermark)| *watermark >= 50));
    }
}
