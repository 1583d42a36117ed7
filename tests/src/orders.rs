//! A keyed and windowed job over files whose output does not depend on failures, and what it must come to.
//!
//! Each line is `time key value`. The job writes, for each line, how many the key has had (`count key n`), and for each
//! key and window of a second of event time the sum of the values (`window key start sum`). The times of a file only
//! grow, and those of a later file begin where those of an earlier one end, so that no record is ever late, unless other
//! sub-tasks go on with the files: then no later than there is event time in the files that were begun.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tidemill::{
    Aggregate, Collector, Data, Environment, KeyedContext, KeyedProcessFunction, StateRegistry, UserError, ValueState,
    WatermarkStrategy, Windows,
};

/// How many keys there are: so many that state is kept in files, and not in the metadata of checkpoints.
pub const KEYS: u64 = 500;
/// How many lines of event time make a second.
const LINES_PER_SECOND: u64 = 500;

type Order = (i64, u64, u64);

/// The order of a line's number.
fn order(number: u64) -> Order {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31);
    let time = i64::try_from(number * 1000 / LINES_PER_SECOND).unwrap_or(i64::MAX);
    (time, mixed % KEYS, mixed % 1009)
}

/// Writes `count` lines into several files of a new folder.
///
/// # Errors
///
/// When they cannot be written.
pub fn write_input(folder: &Path, count: u64, files: u64) -> Result<()> {
    std::fs::create_dir(folder).context("make the input's folder")?;
    for file in 0..files {
        let numbers = count * file / files..count * (file + 1) / files;
        let line = |(time, key, value): Order| format!("{time} {key} {value}\n");
        let text: String = numbers.map(order).map(line).collect();
        std::fs::write(folder.join(format!("{file:04}")), text).context("write the input")?;
    }
    Ok(())
}

/// What the job writes for `count` lines, sorted.
#[must_use]
pub fn expected(count: u64) -> Vec<String> {
    let (mut counts, mut sums) = (BTreeMap::new(), BTreeMap::new());
    let mut lines = Vec::new();
    for (time, key, value) in (0..count).map(order) {
        let seen: &mut u64 = counts.entry(key).or_default();
        *seen += 1;
        lines.push(format!("count {key} {seen}"));
        *sums.entry((key, time / 1000 * 1000)).or_insert(0) += value;
    }
    lines.extend(sums.into_iter().map(|((key, start), sum): (_, u64)| format!("window {key} {start} {sum}")));
    lines.sort();
    lines
}

/// Checks that the job wrote what it must for `count` lines.
///
/// # Errors
///
/// It did not: some of what it lacks or has too much.
pub fn check(found: &[String], count: u64) -> Result<()> {
    let expected = expected(count);
    let mut numbers = BTreeMap::<&str, i64>::new();
    expected.iter().for_each(|line| *numbers.entry(line).or_default() -= 1);
    found.iter().for_each(|line| *numbers.entry(line).or_default() += 1);
    numbers.retain(|_, number| *number != 0);
    let some: Vec<_> = numbers.iter().take(20).collect();
    ensure!(
        some.is_empty(),
        "{} lines differ from those of a run without failures, among them {some:?}",
        numbers.len()
    );
    Ok(())
}

/// How the job keeps what it counts: programs change.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Version {
    /// The first program.
    First,
    /// A later one, whose types have grown.
    Grown,
    /// One whose types have nothing to do with those before.
    Other,
}

/// A number that grows by one.
trait Count: Data + Default {
    fn next(&mut self) -> u64;
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Seen {
    count: u32,
}

impl Count for Seen {
    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count.into()
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct SeenOrders {
    #[serde(default)]
    since_then: u64,
    #[serde(alias = "count")]
    orders: u64,
}

impl Count for SeenOrders {
    fn next(&mut self) -> u64 {
        self.since_then += 1;
        self.orders += 1;
        self.orders
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Unrelated {
    count: Vec<String>,
}

impl Count for Unrelated {
    fn next(&mut self) -> u64 {
        self.count.push(String::new());
        self.count.len() as u64
    }
}

/// Counts the records of each key.
#[derive(Clone)]
struct Counts<C> {
    seen: ValueState<C>,
}

impl<C: Count> KeyedProcessFunction<u64, Order> for Counts<C> {
    type Out = String;

    fn open(&mut self, states: &mut StateRegistry<'_, u64>) -> Result<(), UserError> {
        self.seen = states.value("seen")?;
        Ok(())
    }

    fn process(
        &mut self,
        (_, key, _): Order,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<String>,
    ) -> Result<(), UserError> {
        let mut seen = self.seen.get(context).cloned().unwrap_or_default();
        out.emit(format!("count {key} {}", seen.next()));
        self.seen.set(context, seen);
        Ok(())
    }
}

/// Adds the values of orders.
#[derive(Clone)]
struct Sum;

impl Aggregate<Order> for Sum {
    type Accumulator = u64;
    type Out = u64;

    fn create(&mut self) -> u64 {
        0
    }

    fn add(&mut self, sum: &mut u64, (_, _, value): Order) {
        *sum += value;
    }

    fn merge(&mut self, sum: &mut u64, from: u64) {
        *sum += from;
    }

    fn result(&mut self, sum: u64) -> u64 {
        sum
    }
}

/// How long a sub-task rests before each line and each result, until the job is released.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Before lines of the first seconds of event time, which one sub-task has to itself.
    pub first: Duration,
    /// Before all others.
    pub others: Duration,
    /// Before each result: what is before them waits in channels.
    pub results: Duration,
}

impl FromStr for Pace {
    type Err = anyhow::Error;

    /// `FIRST,OTHERS,RESULTS` in microseconds; results wait for nothing and others like the first if it is not said.
    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split(',').map(|number| Ok(Duration::from_micros(number.parse()?)));
        let numbers: Vec<Duration> = numbers.collect::<Result<_>>()?;
        let first = *numbers.first().context("a pace")?;
        let others = numbers.get(1).copied().unwrap_or(first);
        Ok(Self { first, others, results: numbers.get(2).copied().unwrap_or_default() })
    }
}

/// How much event time the first lines are: fewer of them than there are in a file.
const FIRST_MS: i64 = 15_000;

/// Runs a version of the job, at that pace until the file `release` is there, on lines that come late by `disorder`.
///
/// # Errors
///
/// The job failed.
pub fn run(
    env: &Environment,
    version: Version,
    input: &Path,
    (pace, disorder): (Pace, Duration),
    places: (PathBuf, PathBuf),
) -> Result<()> {
    match version {
        Version::First => run_counting::<Seen>(env, input, (pace, disorder), places),
        Version::Grown => run_counting::<SeenOrders>(env, input, (pace, disorder), places),
        Version::Other => run_counting::<Unrelated>(env, input, (pace, disorder), places),
    }
}

fn run_counting<C: Count>(
    env: &Environment,
    input: &Path,
    (pace, disorder): (Pace, Duration),
    (output, release): (PathBuf, PathBuf),
) -> Result<()> {
    let (mut lines_released, mut results_released, results_release) = (false, pace.results.is_zero(), release.clone());
    let slow = move |line: String| {
        if !results_released {
            std::thread::sleep(pace.results);
            results_released = results_release.exists();
        }
        line
    };
    let parse = move |line: String| {
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>().unwrap_or(u64::MAX));
        let mut next = || numbers.next().unwrap_or(u64::MAX);
        let order = (i64::try_from(next()).unwrap_or(i64::MAX), next(), next());
        if !lines_released {
            std::thread::sleep(if order.0 < FIRST_MS { pace.first } else { pace.others });
            lines_released = release.exists();
        }
        order
    };
    let orders = env
        .read_text_file(input)
        .uid("lines")
        .map(parse)
        .uid("parse")
        .assign_timestamps_and_watermarks(WatermarkStrategy::bounded_out_of_orderness(disorder, |order: &Order| {
            order.0
        }))
        .uid("times")
        .share();
    let counts =
        orders.stream().key_by(|order| order.1).process(Counts::<C> { seen: ValueState::default() }).uid("counts");
    let windows = orders
        .stream()
        .key_by(|order| order.1)
        .window(Windows::tumbling(Duration::from_secs(1)))
        .aggregate_with(Sum, |key, window, sum| format!("window {key} {} {sum}", window.start))
        .uid("windows");
    let results = counts.union(windows).map(slow).uid("results");
    results.write_as_text(output).rolling(1 << 20, Duration::from_secs(3600)).uid("sink");
    env.execute("orders")?;
    Ok(())
}
