//! The harness's jobs: one that streams while masters die, and one of which every record is counted.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde::{Deserialize, Serialize};
use tidemill::{
    Collector, Environment, KeyedContext, KeyedProcessFunction, SinkFunction, StateRegistry, Subtask, UserError,
    ValueState,
};
use tidemill_jepsen::clock;
use tidemill_jepsen::record::BUCKET;
use tidemill_jepsen::sequence::source::Sequence;
use tidemill_jepsen::sequence::{COUNTS, Counted, NUMBERS, Numbered, key_of};
use tidemill_model::mutant::Mutant;

/// How many keys the streaming job counts.
const KEYS: u64 = 1_000;
/// How much a key's state weighs beside its count, so that checkpoints have files.
const BALLAST_BYTES: usize = 500;
/// Parts are complete with checkpoints, and not before.
const PART: (u64, Duration) = (1 << 30, Duration::from_secs(3600));

/// What to run; the framework's own arguments stand before it.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    job: Job,
    /// A known bug to put back, where the program is built with the feature `mutants`.
    #[arg(long, global = true)]
    mutant: Option<Mutant>,
}

#[derive(Debug, Subcommand)]
enum Job {
    /// Counts numbers by key, without end. The sink of each sub-task appends `BUCKET COUNT` to a file of its own, a line
    /// for each 100 ms of `CLOCK_MONOTONIC` in which records came.
    Stream { rate: u64, folder: PathBuf },
    /// Writes the numbers of a sequence and the running counts of their keys, once each.
    Sequence {
        folder: PathBuf,
        /// How many numbers; none: without end.
        #[arg(long)]
        records: Option<u64>,
        #[arg(long)]
        splits: u64,
        /// Numbers a second from each split.
        #[arg(long)]
        per_second: u64,
    },
}

fn main() -> anyhow::Result<()> {
    let env = Environment::from_args()?;
    let name = std::iter::once("tidemill-jepsen-job".to_owned());
    let arguments = Arguments::try_parse_from(name.chain(env.args().iter().cloned()))?;
    put_back(arguments.mutant)?;
    match arguments.job {
        Job::Stream { rate, folder } => stream(&env, rate, folder),
        Job::Sequence { folder, records, splits, per_second } => {
            sequence(&env, Sequence { records, splits, per_second, folder })
        }
    }
}

#[cfg(feature = "mutants")]
fn put_back(mutant: Option<Mutant>) -> anyhow::Result<()> {
    mutant.into_iter().for_each(tidemill_model::mutant::activate);
    Ok(())
}

#[cfg(not(feature = "mutants"))]
fn put_back(mutant: Option<Mutant>) -> anyhow::Result<()> {
    match mutant {
        None => Ok(()),
        Some(mutant) => anyhow::bail!("put back {mutant}: this program is built without the feature mutants"),
    }
}

fn stream(env: &Environment, rate: u64, folder: PathBuf) -> anyhow::Result<()> {
    env.generate_sequence(0.., Some(rate)).key_by(|number| number % KEYS).count().sink_to(Stamp {
        folder,
        file: None,
        bucket: 0,
        records: 0,
    });
    env.execute("free-running")?;
    Ok(())
}

fn sequence(env: &Environment, source: Sequence) -> anyhow::Result<()> {
    let folder = source.folder.clone();
    let numbers = env.from_source(source).uid("sequence").share();
    let lines = numbers.stream().map(Numbered::line).uid("lines");
    lines.write_as_text(folder.join(NUMBERS)).rolling(PART.0, PART.1).uid("numbers");
    let counts = numbers.stream().key_by(|number| key_of(number.id)).process(Counts::default()).uid("counts");
    counts.write_as_text(folder.join(COUNTS)).rolling(PART.0, PART.1).uid("counts-sink");
    env.execute("sequence")?;
    Ok(())
}

/// How often a key has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Seen {
    count: u64,
    ballast: Vec<u8>,
}

/// Counts the records of each key.
#[derive(Clone, Default)]
struct Counts {
    seen: ValueState<Seen>,
}

impl KeyedProcessFunction<u64, Numbered> for Counts {
    type Out = String;

    fn open(&mut self, states: &mut StateRegistry<'_, u64>) -> Result<(), UserError> {
        self.seen = states.value("seen")?;
        Ok(())
    }

    fn process(
        &mut self,
        number: Numbered,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<String>,
    ) -> Result<(), UserError> {
        let seen = self.seen.get(context).cloned();
        let mut seen = seen.unwrap_or_else(|| Seen { count: 0, ballast: vec![0; BALLAST_BYTES] });
        seen.count += 1;
        out.emit(Counted { key: key_of(number.id), count: seen.count, id: number.id }.line());
        self.seen.set(context, seen);
        Ok(())
    }
}

/// Counts records by the time at which they come out.
struct Stamp {
    folder: PathBuf,
    file: Option<File>,
    bucket: u64,
    records: u64,
}

impl Clone for Stamp {
    /// Each sub-task opens a file of its own.
    fn clone(&self) -> Self {
        Self { folder: self.folder.clone(), file: None, bucket: 0, records: 0 }
    }
}

impl<T> SinkFunction<T> for Stamp {
    fn open(&mut self, subtask: Subtask) -> Result<(), UserError> {
        std::fs::create_dir_all(&self.folder)?;
        let name = format!("{}-{}", subtask.index, std::process::id());
        self.file = Some(OpenOptions::new().create(true).append(true).open(self.folder.join(name))?);
        Ok(())
    }

    fn write(&mut self, _record: T, _time: i64) -> Result<(), UserError> {
        let bucket = clock::now() / BUCKET;
        if bucket != self.bucket {
            // One write for each line: a reader never sees half of one, unless the process dies within it.
            if let Some(file) = self.file.as_mut().filter(|_| self.records > 0) {
                file.write_all(format!("{} {}\n", self.bucket, self.records).as_bytes())?;
            }
            (self.bucket, self.records) = (bucket, 0);
        }
        self.records += 1;
        Ok(())
    }
}
