//! A source of a sequence that can be read again from any place, in splits that move between sub-tasks.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::{Boundedness, Discovery, Reading, Source, SourceOutput, SplitEnumerator, SplitReader, UserError};
use tidemill_model::mutant::{self, Mutant};

use super::note::{Did, Note};
use super::{NOTES, Numbered, RELEASE, id_of};
use crate::clock;

/// How many numbers are emitted at a time.
const NUMBERS_PER_READ: u64 = 256;
/// How long a reader rests that is ahead of its pace.
const REST: Duration = Duration::from_millis(5);

/// The numbers below a limit, in splits.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// How many numbers there are; none: it has no end.
    pub records: Option<u64>,
    /// How many splits they are dealt out to.
    pub splits: u64,
    /// How many numbers a second come out of each split, until the job is released.
    pub per_second: u64,
    /// The job's folder: notes go there, and the release is looked for.
    pub folder: PathBuf,
}

/// A split, and how many of its numbers were read.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct SequenceSplit {
    split: u64,
    offset: u64,
}

impl Source for Sequence {
    type Out = Numbered;
    type Split = SequenceSplit;
    type Enumerator = Splits;
    type Reader = SequenceReader;

    fn boundedness(&self) -> Boundedness {
        if self.records.is_some() { Boundedness::Bounded } else { Boundedness::Unbounded }
    }

    fn open_splits_max(&self) -> usize {
        // All at once, in either form, so that a checkpoint finds many places.
        usize::MAX
    }

    fn enumerator(&self, _readers: u32, restored: Option<u64>) -> Result<Splits, UserError> {
        Ok(Splits { named: restored.unwrap_or(0), splits: self.splits })
    }

    fn reader(&self, split: SequenceSplit) -> Result<SequenceReader, UserError> {
        Note::now(split.split, split.offset, Did::Open).write(&self.folder.join(NOTES))?;
        let end = self.records.map(|records| (records + self.splits - 1 - split.split) / self.splits);
        Ok(SequenceReader {
            source: self.clone(),
            split: split.split,
            offset: split.offset,
            end: end.unwrap_or(u64::MAX),
            began: (clock::now(), split.offset),
            released: false,
        })
    }
}

/// Names the splits, once each.
pub struct Splits {
    named: u64,
    splits: u64,
}

impl SplitEnumerator for Splits {
    type Split = SequenceSplit;
    type State = u64;

    fn state(&self) -> u64 {
        self.named
    }

    fn discover(&mut self) -> Result<Discovery<SequenceSplit>, UserError> {
        if self.named == self.splits {
            return Ok(Discovery::Done);
        }
        let split = SequenceSplit { split: self.named, offset: 0 };
        self.named += 1;
        Ok(Discovery::Splits(vec![split]))
    }
}

/// Reads a split.
pub struct SequenceReader {
    source: Sequence,
    split: u64,
    offset: u64,
    end: u64,
    /// When it began, and where.
    began: (u64, u64),
    released: bool,
}

impl SequenceReader {
    /// Up to where it may have come by now.
    fn due(&mut self) -> u64 {
        self.released = self.released || self.source.folder.join(RELEASE).exists();
        if self.released {
            return self.end;
        }
        let (time, offset) = self.began;
        let passed = u128::from(clock::now().saturating_sub(time)) * u128::from(self.source.per_second);
        self.end.min(offset.saturating_add(u64::try_from(passed / 1_000_000_000).unwrap_or(u64::MAX)))
    }

    fn note(&self, did: Did) -> std::io::Result<()> {
        Note::now(self.split, self.offset, did).write(&self.source.folder.join(NOTES))
    }
}

impl SplitReader for SequenceReader {
    type Out = Numbered;
    type Split = SequenceSplit;

    fn read<O: SourceOutput<Numbered>>(&mut self, out: &mut O) -> Result<Reading, UserError> {
        if self.offset >= self.end {
            self.note(Did::End)?;
            return Ok(Reading::Ended);
        }
        let until = self.due().min(self.offset + NUMBERS_PER_READ);
        if until <= self.offset {
            return Ok(Reading::Wait(REST));
        }
        while self.offset < until && !out.is_interrupted() {
            out.emit(Numbered::new(id_of(self.split, self.offset, self.source.splits)));
            self.offset += 1;
        }
        Ok(Reading::More)
    }

    fn split(&self) -> SequenceSplit {
        if let Err(error) = self.note(Did::Snapshot) {
            // The checker misses it, which is as good as an error here, where there can be none.
            eprintln!("write a note in {}: {error}", self.source.folder.display());
        }
        // The bug that is put back: it names the number behind the next one.
        let skipped = u64::from(mutant::active(Mutant::SourceOffsetOffByOne) && self.offset < self.end);
        SequenceSplit { split: self.split, offset: self.offset + skipped }
    }
}
