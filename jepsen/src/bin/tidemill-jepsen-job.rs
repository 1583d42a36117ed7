//! The job that runs while masters die: counts numbers by key, without end, and stamps what comes out.
//!
//! `tidemill-jepsen-job RATE FOLDER`: the sink of each sub-task appends `BUCKET COUNT` to a file of its own in FOLDER, a
//! line for each 100 ms of `CLOCK_MONOTONIC` in which records came.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use tidemill::{Environment, SinkFunction, Subtask, UserError};
use tidemill_jepsen::clock;
use tidemill_jepsen::record::BUCKET;

/// How many keys are counted.
const KEYS: u64 = 1_000;

fn main() -> anyhow::Result<()> {
    let env = Environment::from_args()?;
    let argument = |index: usize| env.args().get(index).cloned().with_context(|| format!("argument {index}"));
    let (rate, folder) = (argument(0)?.parse().context("the rate")?, PathBuf::from(argument(1)?));
    env.generate_sequence(0.., Some(rate)).key_by(|number| number % KEYS).count().sink_to(Stamp {
        folder,
        file: None,
        bucket: 0,
        records: 0,
    });
    env.execute("free-running")?;
    Ok(())
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
