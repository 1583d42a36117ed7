//! The events of a cluster, read while it writes them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::Result;
use tidemill_model::event::EventRecord;

/// Reads on in each file of a folder.
pub(super) struct EventTail {
    dir: PathBuf,
    positions: BTreeMap<PathBuf, u64>,
}

impl EventTail {
    pub(super) fn of(dir: PathBuf) -> Self {
        Self { dir, positions: BTreeMap::new() }
    }

    /// The records of all complete lines since the last call.
    pub(super) fn read(&mut self) -> Result<Vec<EventRecord>> {
        let mut records = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let position = self.positions.entry(path.clone()).or_default();
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(*position))?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            let complete = text.rfind('\n').map_or(0, |end| end + 1);
            *position += u64::try_from(complete)?;
            for line in text[..complete].lines() {
                records.push(EventRecord::parse(line)?);
            }
        }
        Ok(records)
    }
}

/// The clock of the records.
pub(super) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or_default() * 1_000_000_000 + nanos.unwrap_or_default()
}
