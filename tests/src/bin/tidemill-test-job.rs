//! Small jobs with known results and known ways to fail, for the tests of whole clusters.
//!
//! `tidemill-test-job MODE ...`: `sequence COUNT RATE OUTPUT [GATE]` sums the numbers below COUNT by their last digit,
//! RATE a second, the second half only when the file GATE.half is there, the last few when GATE.end is; `collect
//! COUNT`; `panic AT`; `abort ONCE-FILE COUNT RATE OUTPUT` aborts the process the first time; `twice COUNT` runs two
//! jobs, the second on the first one's result; `differs` builds another graph in the executor; `operators COUNT OUTPUT`
//! writes what most operators make of the numbers below COUNT; `moody N` sends numbers that cannot be written when N is
//! odd, or read when it is 2 modulo 4; `groups` runs without end, its source and its sums in one slot sharing group, the
//! maps after them in another one; `leak` allocates without bound; `orders INPUT PACE OUTPUT
//! RELEASE VERSION DISORDER` counts and windows what the files of a folder say, at full speed once the file RELEASE is
//! there; lines may be late by DISORDER milliseconds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use tidemill::{Collector, Environment, KeyedContext, KeyedProcessFunction, StateRegistry, UserError, ValueState};
use tidemill_tests::{every_operator, orders};

/// How many numbers wait for a gate: more than there are sub-tasks.
const HELD_BACK: u64 = 16;
/// How often the gate is looked at.
const GATE_POLL: Duration = Duration::from_millis(10);

fn main() -> Result<()> {
    let env = Environment::from_args()?;
    let arguments = env.args().to_vec();
    let argument = |index: usize| arguments.get(index).map(String::as_str).with_context(|| format!("argument {index}"));
    let number = |index: usize| -> Result<u64> { Ok(argument(index)?.parse()?) };
    match argument(0)? {
        "sequence" => {
            let count = number(1)?;
            let gates = arguments.get(4).map(|gate| ["half", "end"].map(|name| Path::new(gate).with_extension(name)));
            let hold = move |n: u64| {
                let Some([half, end]) = &gates else { return };
                // Each sub-task comes past these numbers, since they take turns.
                if (count / 2..count / 2 + HELD_BACK).contains(&n) {
                    wait_for(half);
                } else if n + HELD_BACK >= count {
                    wait_for(end);
                }
            };
            sequence(&env, count, number(2)?, argument(3)?.into(), hold)
        }
        "collect" => collect(&env, number(1)?),
        "panic" => {
            let at = number(1)?;
            let panic_at = move |n: u64| assert!(n != at, "record {n} is the one");
            sequence(&env, at * 2, 1_000_000, PathBuf::from(argument(2)?), panic_at)
        }
        "abort" => {
            let once = PathBuf::from(argument(1)?);
            let half = number(2)? / 2;
            sequence(&env, number(2)?, number(3)?, argument(4)?.into(), move |n| abort_once(n == half, &once))
        }
        "twice" => twice(&env, number(1)?),
        "differs" => differs(&env),
        "operators" => every_operator::run(&env, number(1)?, argument(2)?.into()),
        "groups" => groups(&env),
        "leak" => leak(&env),
        "large" => large(&env, number(1)?, argument(2)?.into()),
        "orders" => {
            let version = ValueEnum::from_str(argument(5)?, false).map_err(anyhow::Error::msg)?;
            let places = (argument(3)?.into(), argument(4)?.into());
            let times = (argument(2)?.parse()?, Duration::from_millis(number(6)?));
            orders::run(&env, version, Path::new(argument(1)?), times, places)
        }
        "moody" => every_operator::run_moody(&env, number(1)?),
        other => bail!("unknown mode {other:?}"),
    }
}

/// The sums by last digit of the numbers below `count`, as lines `digit sum`; `trap` sees each number first.
fn sequence(
    env: &Environment,
    count: u64,
    rate: u64,
    output: PathBuf,
    trap: impl Fn(u64) + Clone + Send + Sync + 'static,
) -> Result<()> {
    let numbers = env.counter("numbers");
    env.generate_sequence(0..count, Some(rate))
        .map(move |n: u64| {
            trap(n);
            numbers.add(1);
            (n % 10, n)
        })
        .name("Trap")
        .key_by(|pair: &(u64, u64)| pair.0)
        .sum(|pair: &mut (u64, u64)| &mut pair.1)
        .write_as_csv(output, "\n", " ");
    let result = env.execute("sequence")?;
    println!("numbers={}", result.counter("numbers").unwrap_or_default());
    Ok(())
}

fn wait_for(gate: &Path) {
    while !gate.exists() {
        std::thread::sleep(GATE_POLL);
    }
}

fn abort_once(here: bool, once: &Path) {
    if here && std::fs::File::create_new(once).is_ok() {
        std::process::abort();
    }
}

fn collect(env: &Environment, count: u64) -> Result<()> {
    let squares = env.generate_sequence(0..count, None).map(|n: u64| n * n).collect();
    let result = env.execute("collect")?;
    let mut squares = result.collected(&squares)?;
    squares.sort_unstable();
    println!("{squares:?}");
    Ok(())
}

/// An executor of the second job gets past the first `execute` by its recorded result.
fn twice(env: &Environment, count: u64) -> Result<()> {
    let numbers = env.counter("numbers");
    env.generate_sequence(0..count, None).map(move |n: u64| numbers.add(i64::from(n > 0))).discard();
    let first = env.execute("first")?.counter("numbers").unwrap_or_default();
    let next = env.from_collection(vec![first]).map(|n: i64| n + 1).collect();
    let result = env.execute("second")?;
    println!("{:?}", result.collected(&next)?);
    Ok(())
}

fn groups(env: &Environment) -> Result<()> {
    let sums = env.generate_sequence(0.., Some(1_000)).key_by(|n| n % 10).count();
    sums.map(|sum| sum).name("Heavy").slot_sharing_group("heavy").discard();
    env.execute("groups")?;
    Ok(())
}

/// Keeps a mebibyte of each number, for ever.
fn leak(env: &Environment) -> Result<()> {
    env.generate_sequence(0.., Some(1_000))
        .map(|n: u64| std::mem::forget(vec![1u8; 1 << 20].repeat(usize::from(n > 0))))
        .discard();
    env.execute("leak")?;
    Ok(())
}

/// A kilobyte for each key, for ever; each process makes a file of its own in `output` when it first has output.
fn large(env: &Environment, keys: u64, output: PathBuf) -> Result<()> {
    let mut is_first = true;
    let write = move |_: u64| {
        if std::mem::take(&mut is_first) {
            // A measurement without output would not go on.
            let _ = std::fs::File::create_new(output.join(std::process::id().to_string()));
        }
    };
    env.generate_sequence(0.., Some(50_000))
        .uid("numbers")
        .key_by(move |n: &u64| *n % keys)
        .process(Large::default())
        .uid("large")
        .for_each(write)
        .uid("output");
    env.execute("large")?;
    Ok(())
}

#[derive(Clone, Default)]
struct Large {
    kilobyte: ValueState<String>,
}

impl KeyedProcessFunction<u64, u64> for Large {
    type Out = u64;

    fn open(&mut self, states: &mut StateRegistry<'_, u64>) -> Result<(), UserError> {
        self.kilobyte = states.value("kilobyte")?;
        Ok(())
    }

    fn process(
        &mut self,
        n: u64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<u64>,
    ) -> Result<(), UserError> {
        self.kilobyte.set(context, format!("{n:01000}"));
        out.emit(n);
        Ok(())
    }
}

/// The operator's name differs from process to process, and with it the graph.
fn differs(env: &Environment) -> Result<()> {
    let name = format!("Map of process {}", std::process::id());
    env.generate_sequence(0..10, None).map(|n: u64| n).name(&name).discard();
    env.execute("differs")?;
    Ok(())
}
